"""Every architecture against transformers, with a cache and without, and bad configurations."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import orion_ane as orion
import pytest
from numpy.typing import NDArray
from orion_ane import _core
from tiny_models import CASES, GPT2, LINEAR_ROPE, LLAMA, LLAMA3_ROPE, make

ONE_OF_EACH = ("gpt2", "llama", "qwen2", "qwen3")
IDS = [3, 66, 0, 17, 17, 29, 5, 41, 8, 60, 2, 33, 12]


@pytest.fixture(scope="module")
def tiny(
    tmp_path_factory: pytest.TempPathFactory,
) -> Callable[[str], tuple[Path, Callable[[list[int]], Any]]]:
    pytest.importorskip("torch")
    pytest.importorskip("transformers")
    made: dict[str, tuple[Path, Callable[[list[int]], Any]]] = {}

    def get(case: str) -> tuple[Path, Callable[[list[int]], Any]]:
        if case not in made:
            directory = tmp_path_factory.mktemp(case)
            made[case] = directory, make(case, directory)
        return made[case]

    return get


def log_softmax(logits: NDArray[Any]) -> NDArray[Any]:
    shifted = logits - logits.max(axis=-1, keepdims=True)
    return np.asarray(shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True)))


def decode(model: orion.Model, prompts: list[list[int]], count: int) -> list[Any]:
    """Greedy ids of each prompt, and log-probabilities (count, V) of every token at each step."""
    vocab = model.config["vocab_size"]
    generation = _core.Generation(
        model._core, prompts, _core.SamplerOptions(logprobs=vocab), count, []
    )
    ids: list[list[int]] = [[] for _ in prompts]
    rows: list[list[NDArray[Any]]] = [[] for _ in prompts]
    while not generation.done:
        for token in generation.step():
            row = np.empty(vocab)
            for index, logprob in token.choice.top:
                row[index] = logprob
            ids[token.sequence].append(token.choice.id)
            rows[token.sequence].append(row)
    return [(i, np.array(r)) for i, r in zip(ids, rows, strict=True)]


@pytest.mark.parametrize("case", CASES)
def test_logits_are_those_of_transformers(case: str, tiny: Any) -> None:
    directory, reference = tiny(case)
    logits = orion.load(directory).logits(IDS)
    assert logits.dtype == np.float32
    np.testing.assert_allclose(logits, reference(IDS), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("case", CASES)
def test_decoding_with_a_cache_equals_reading_the_whole_text(case: str, tiny: Any) -> None:
    directory, reference = tiny(case)
    model = orion.load(directory)
    ((ids, rows),) = decode(model, [IDS[:5]], 12)
    whole = IDS[:5] + ids[:-1]
    np.testing.assert_allclose(rows, log_softmax(model.logits(whole)[4:]), rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(rows, log_softmax(reference(whole)[4:]), rtol=1e-4, atol=2e-4)


@pytest.mark.parametrize("case", ONE_OF_EACH)
def test_a_batch_equals_its_prompts_alone(case: str, tiny: Any) -> None:
    model = orion.load(tiny(case)[0])
    prompts = [IDS[:1], IDS, IDS[3:7], IDS[::-1]]
    for prompt, (ids, rows) in zip(prompts, decode(model, prompts, 9), strict=True):
        ((alone, rows_alone),) = decode(model, [prompt], 9)
        assert ids == alone
        np.testing.assert_allclose(rows, rows_alone, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("case", ONE_OF_EACH)
def test_fp16_stays_near_fp32(case: str, tiny: Any) -> None:
    directory, reference = tiny(case)
    model = orion.load(directory, dtype="fp16")
    wanted = reference(IDS)
    assert model.dtype == "fp16"
    assert np.abs(model.logits(IDS) - wanted).max() < 0.02 * np.abs(wanted).max()
    ((ids, rows),) = decode(model, [IDS[:5]], 6)
    whole = log_softmax(model.logits(IDS[:5] + ids[:-1])[4:])
    np.testing.assert_allclose(rows, whole, atol=0.02 * np.abs(wanted).max())


@pytest.mark.parametrize("scaling", [None, LINEAR_ROPE, LLAMA3_ROPE])
def test_rope_settings_are_found_where_older_files_have_them(
    scaling: dict[str, Any] | None, tiny: Any
) -> None:
    directory, _ = tiny(f"llama-rope-{scaling['rope_type']}" if scaling else "llama")
    logits = orion.load(directory).logits(IDS)
    path = directory / "config.json"
    saved = path.read_text()
    config = json.loads(saved)
    rope = config.pop("rope_parameters")
    config["rope_theta"] = rope.pop("rope_theta")
    rope["type"] = rope.pop("rope_type")
    config["rope_scaling"] = rope if scaling else None
    try:
        path.write_text(json.dumps(config))
        np.testing.assert_array_equal(orion.load(directory).logits(IDS), logits)
    finally:
        path.write_text(saved)


def test_parameters_count_a_tied_head_once(tiny: Any) -> None:
    tied = orion.load(tiny("llama-tied")[0])
    untied = orion.load(tiny("llama")[0])
    assert untied.num_parameters - tied.num_parameters == 71 * 36


@pytest.mark.parametrize("case", CASES)
def test_weights_have_the_names_and_shapes_of_the_checkpoint(case: str, tiny: Any) -> None:
    safetensors = pytest.importorskip("safetensors")
    directory, _ = tiny(case)
    config = json.loads((directory / "config.json").read_text())
    with safetensors.safe_open(directory / "model.safetensors", "np") as file:
        saved = {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118
    assert _core.model_weights(config) == saved


def llama(**changes: Any) -> dict[str, Any]:
    config = {"model_type": "llama", **LLAMA, **changes}
    return {key: value for key, value in config.items() if value is not ...}


def gpt2(**changes: Any) -> dict[str, Any]:
    return {"model_type": "gpt2", **GPT2, **changes}


def qwen2(**changes: Any) -> dict[str, Any]:
    return {"model_type": "qwen2", **LLAMA, **changes}


BAD_CONFIGS = [
    ({}, "no 'model_type'"),
    (
        llama(model_type="mamba"),
        "model_type 'mamba' is not known (known: gpt2, llama, qwen2, qwen3)",
    ),
    (llama(hidden_size=...), "no 'hidden_size', which a llama model needs"),
    (llama(vocab_size=None), "no 'vocab_size'"),
    (llama(hidden_size="36"), 'hidden_size is "36", a whole number from 1'),
    (llama(hidden_size=36.0), "hidden_size is 36, a whole number from 1"),
    (llama(num_hidden_layers=0), "num_hidden_layers is 0, a whole number from 1"),
    (
        llama(num_hidden_layers=10**9),
        "num_hidden_layers is 1000000000, a whole number from 1 to 4096",
    ),
    (llama(vocab_size=2**80), "vocab_size is 1.20893e+24, a whole number"),
    (
        llama(num_key_value_heads=4),
        "num_attention_heads 6 is not a multiple of num_key_value_heads 4",
    ),
    (llama(num_attention_heads=5), "hidden_size 36 is not a multiple of num_attention_heads 5"),
    (llama(head_dim=7), "heads of size 7, an even size"),
    (llama(hidden_act="gelu"), "hidden_act 'gelu' is not supported for llama (supported: silu)"),
    (llama(rms_norm_eps=0), "rms_norm_eps is 0, a finite number above 0"),
    (llama(rms_norm_eps=float("nan")), "rms_norm_eps is nan"),
    (llama(tie_word_embeddings=1), "tie_word_embeddings is 1, true or false"),
    (llama(partial_rotary_factor=0.5), "partial_rotary_factor '0.5' is not supported"),
    (
        llama(rope_parameters={"rope_type": "yarn"}),
        "rope_parameters.rope_type 'yarn' is not supported",
    ),
    (llama(rope_scaling={"type": "dynamic"}), "rope_scaling.type 'dynamic' is not supported"),
    (llama(rope_scaling={"type": "linear"}), "no 'rope_scaling.factor'"),
    (
        llama(rope_parameters={**LLAMA3_ROPE, "high_freq_factor": 1.0}),
        "rope_parameters.high_freq_factor is 1, more than low_freq_factor's 1",
    ),
    (qwen2(use_sliding_window=True), "use_sliding_window 'true' is not supported for qwen2"),
    (
        qwen2(layer_types=["full_attention", "sliding_attention"]),
        "layer_types.1 'sliding_attention' is not supported",
    ),
    (gpt2(n_head=5), "n_embd 36 is not a multiple of n_head 5"),
    (gpt2(activation_function="silu"), "activation_function 'silu' is not supported for gpt2"),
    (gpt2(add_cross_attention=True), "add_cross_attention 'true' is not supported"),
]


@pytest.mark.parametrize(("config", "message"), BAD_CONFIGS)
def test_a_bad_config_is_refused_by_key(config: dict[str, Any], message: str) -> None:
    with pytest.raises(orion.Error) as error:
        _core.model_weights(config)
    assert message in str(error.value)


def test_a_directory_with_a_bad_config_is_named(tiny: Any, tmp_path: Path) -> None:
    directory, _ = tiny("llama")
    config = json.loads((directory / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**config, "hidden_act": "relu"}))
    (tmp_path / "model.safetensors").write_bytes((directory / "model.safetensors").read_bytes())
    with pytest.raises(orion.Error, match=f"{tmp_path}: config: hidden_act 'relu'"):
        orion.load(tmp_path)


def random_weights(config: dict[str, Any], dtype: Any = np.float32) -> dict[str, NDArray[Any]]:
    rng = np.random.default_rng(5)
    return {
        name: (rng.standard_normal(shape) * 0.2).astype(dtype)
        for name, shape in _core.model_weights(config).items()
    }


def test_weights_that_do_not_fit_are_named() -> None:
    config = llama()
    weights = random_weights(config)
    name = "model.layers.1.mlp.up_proj.weight"

    def load(changed: NDArray[Any] | None, dtype: str = "fp32") -> None:
        rest = {key: value for key, value in weights.items() if key != name}
        _core.LanguageModel(
            config, rest if changed is None else {**rest, name: changed}, dtype, "cpu"
        )

    with pytest.raises(orion.Error, match=rf"no weight '{name}', which is \(50, 36\)"):
        load(None)
    with pytest.raises(orion.Error, match=rf"'{name}' is fp32 \(36, 50\), a float of \(50, 36\)"):
        load(weights[name].T)
    with pytest.raises(orion.Error, match=rf"'{name}' is int32 \(50, 36\)"):
        load(weights[name].astype(np.int32))
    huge = weights[name].copy()
    huge[1, 2] = 70000
    with pytest.raises(orion.Error, match=rf"'{name}': element 38 is 70000, .*load .* dtype fp32"):
        load(huge, "fp16")
    load(huge, "fp32")


def test_the_two_rope_conventions_agree_after_reordering() -> None:
    from orion_ane.checkpoint import reorder_rotated
    from orion_ane.llama2c import interleave

    config = llama()
    weights = random_weights(config)
    halves = _core.LanguageModel(config, weights, "fp32", "cpu")
    pairs = _core.LanguageModel(
        {**config, "rope_interleaved": True},
        reorder_rotated(weights, config, interleave),
        "fp32",
        "cpu",
    )
    np.testing.assert_allclose(pairs.logits(IDS), halves.logits(IDS), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("config", [llama(), gpt2()])
def test_graphs_are_whole_for_every_shape(config: dict[str, Any]) -> None:
    graph = _core.model_graph(config, batch=2, tokens=3, cache=7, dtype="fp16", last=True)
    states = [f"{kind}_cache_{layer}" for layer in range(3) for kind in "kv"]
    text = str(graph)
    for name in ["ids", "position", *states]:
        assert f" {name}: " in text
    assert "-> logits = " in text


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ({"tokens": 42}, "42 positions, the model's context has 41"),
        ({"cache": 42}, "42 positions, the model's context has 41"),
        ({"tokens": 5, "cache": 4}, "5 tokens do not fit a cache of 4"),
        ({"batch": 0}, "batch 0"),
        ({"cache": -1}, "cache -1"),
        ({"dtype": "int32"}, "dtype int32, fp16 or fp32 is needed"),
    ],
)
def test_impossible_shapes_are_refused(shape: dict[str, Any], message: str) -> None:
    with pytest.raises(orion.Error, match=message):
        _core.model_graph(llama(), **shape)


@pytest.mark.parametrize(
    ("ids", "message"),
    [
        ([], "logits: no token ids given"),
        ([3] * 42, "logits: 42 tokens, the model's context holds 41"),
        ([3, 71], "logits: token id 71 at index 1 is outside the vocabulary of 71"),
        ([-1], "logits: token id -1 at index 0 is outside"),
        ([2**40], f"logits: token id {2**40} at index 0 is outside"),
        ([1.5], "logits: a sequence of ints"),
        ("text", "logits: a sequence of ints"),
        ([[1, 2]], "logits: a sequence of ints"),
    ],
)
def test_bad_token_ids_are_refused(ids: Any, message: str) -> None:
    config = llama()
    model = _core.LanguageModel(config, random_weights(config), "fp32", "cpu")
    with pytest.raises(orion.Error, match=message):
        model.logits(ids)


# The largest error of a logit, the least share of positions whose best token stays the same, and
# how much the perplexity may grow, on a text of the model's own. (Width 64 is hard on 4 bits.)
ACCURACY = {
    "fp16": (0.2, 0.99, 1.003),
    "bf16": (0.6, 0.98, 1.01),
    "int8": (1.0, 0.96, 1.02),
    "int4": (10.0, 0.75, 1.25),
}


@pytest.mark.parametrize("dtype", ACCURACY)
def test_narrower_weights_stay_close_to_fp32(dtype: str) -> None:
    exact, narrow = orion.load(device="cpu", dtype="fp32"), orion.load(device="cpu", dtype=dtype)
    text = exact.generate("Once upon a time", max_tokens=300, temperature=0.8, seed=3)
    ids = exact.tokenizer.encode("Once upon a time" + text)
    want, got = exact.logits(ids), narrow.logits(ids)

    def perplexity(logits: NDArray[np.float32]) -> float:
        shifted = logits[:-1].astype(np.float64) - logits[:-1].max(axis=1, keepdims=True)
        of_next = shifted[np.arange(len(ids) - 1), ids[1:]]
        return float(np.exp((np.log(np.exp(shifted).sum(axis=1)) - of_next).mean()))

    error, agreement, growth = ACCURACY[dtype]
    assert 0.0 < np.abs(got - want).max() < error
    assert (got.argmax(axis=1) == want.argmax(axis=1)).mean() > agreement
    assert perplexity(got) < growth * perplexity(want)


@pytest.mark.parametrize("dtype", ["bf16", "int8", "int4"])
def test_decoding_with_narrower_weights_is_what_prefill_says(dtype: str) -> None:
    model = orion.load(device="cpu", dtype=dtype)
    assert model.dtype == dtype
    text = model.generate("Once upon a time", max_tokens=40)
    ids = model.tokenizer.encode("Once upon a time" + text)
    best = model.logits(ids).argmax(axis=1)
    prompt = len(model.tokenizer.encode("Once upon a time"))
    assert (best[prompt - 1 : -1] == ids[prompt:]).mean() > 0.9


def test_unknown_devices_and_dtypes_are_refused() -> None:
    with pytest.raises(orion.Error, match="'int2': fp32, fp16, bf16, int8 or int4 is needed"):
        orion.load(dtype="int2")
    with pytest.raises(orion.Error, match="dtype 'int8': the engine computes in fp16"):
        orion.load(device="sim:macos26", dtype="int8")
    config = llama()
    with pytest.raises(orion.Error, match="sim:macos26 keeps no matrices in int4"):
        _core.LanguageModel(config, random_weights(config), "int4", "sim:macos26")
    with pytest.raises(orion.Error, match="gpu"):
        orion.load(device="gpu")
