"""Low-rank adapters: against PEFT, resident and swapped, and files that are wrong."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import orion_ane as orion
import pytest
import safetensors.numpy
import tiny_models
from numpy.typing import NDArray
from orion_ane import _core, adapter, checkpoint, convert

torch = pytest.importorskip("torch")
peft = pytest.importorskip("peft")
transformers = pytest.importorskip("transformers")

# PEFT asks transformers for an attribute by its old name.
pytestmark = pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing. is deprecated")

IDS = [5, 3, 60, 17, 17, 2, 33]
LLAMA_ALL = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
GPT2_ALL = ["c_attn", "c_proj", "c_fc"]
# A tiny model and what PEFT is asked for.
CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "gpt2-all": ("gpt2", {"r": 4, "lora_alpha": 7, "target_modules": GPT2_ALL}),
    "gpt2-attention": ("gpt2", {"r": 3, "lora_alpha": 16, "target_modules": ["c_attn"]}),
    "llama-all": ("llama", {"r": 8, "lora_alpha": 16, "target_modules": LLAMA_ALL}),
    "llama-qv": ("llama", {"r": 1, "lora_alpha": 2, "target_modules": ["q_proj", "v_proj"]}),
    "llama-r64": ("llama", {"r": 64, "lora_alpha": 3, "target_modules": ["down_proj"]}),
    "llama-rslora": (
        "llama",
        {"r": 16, "lora_alpha": 4, "use_rslora": True, "target_modules": ["k_proj", "o_proj"]},
    ),
    "llama-all-linear": ("llama", {"r": 2, "target_modules": "all-linear"}),
    "llama-regex": ("llama", {"r": 2, "target_modules": r".*\.(0|2)\.mlp\.(up|gate)_proj"}),
    "llama-one-layer": (
        "llama",
        {"r": 2, "target_modules": ["q_proj"], "layers_to_transform": [1]},
    ),
    "llama-head": ("llama", {"r": 2, "target_modules": ["lm_head", "v_proj"]}),
    "llama-patterns": (
        "llama",
        {
            "r": 4,
            "lora_alpha": 8,
            "target_modules": ["q_proj", "v_proj", "up_proj"],
            "rank_pattern": {"v_proj": 9},
            "alpha_pattern": {"layers.1.self_attn.q_proj": 3, "up_proj": 5},
        },
    ),
    "qwen3": ("qwen3", {"r": 5, "target_modules": ["q_proj", "down_proj"]}),
}


def make_base(case: str, directory: Path) -> Path:
    tiny_models.make(case, directory)
    return directory


def make_adapter(base: Path, directory: Path, seed: int = 0, **options: Any) -> Callable[..., Any]:
    """Saves a random adapter; returns PEFT's logits (T, V) as a function of token ids."""
    models: Any = transformers.AutoModelForCausalLM
    model = models.from_pretrained(base, attn_implementation="eager")
    options.setdefault("fan_in_fan_out", model.config.model_type == "gpt2")
    adapted = peft.get_peft_model(model, peft.LoraConfig(task_type="CAUSAL_LM", **options))
    torch.manual_seed(seed)
    with torch.no_grad():
        for name, parameter in adapted.named_parameters():
            if "lora_" in name:
                parameter.normal_(0, 0.15)
    adapted.save_pretrained(directory, save_embedding_layers=False)
    return logits_of(adapted)


def logits_of(adapted: Any) -> Callable[..., Any]:
    adapted.eval()

    def logits(ids: list[int]) -> NDArray[np.float32]:
        with torch.no_grad():
            found: NDArray[np.float32] = adapted(torch.tensor([ids])).logits[0].float().numpy()
            return found

    return logits


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_base("llama", tmp_path_factory.mktemp("llama"))


@pytest.fixture(scope="module")
def several(llama: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Adapters of different ranks and targets."""
    root = tmp_path_factory.mktemp("adapters")
    for i, targets in enumerate((["q_proj"], LLAMA_ALL, ["up_proj", "v_proj"])):
        make_adapter(llama, root / f"a{i}", seed=i, r=2 + 7 * i, target_modules=targets)
    return {f"a{i}": root / f"a{i}" for i in range(3)}


# -- against PEFT ----------------------------------------------------------------------------------


@pytest.mark.parametrize("case", CASES)
def test_logits_are_those_of_peft(case: str, tmp_path: Path) -> None:
    base_case, options = CASES[case]
    base = make_base(base_case, tmp_path / "base")
    wanted = make_adapter(base, tmp_path / "a", **options)(IDS)
    model = orion.load(base, device="cpu")
    plain = model.logits(IDS)
    assert model.load_adapter(tmp_path / "a") == "a"
    got = model.logits(IDS)
    np.testing.assert_allclose(got, wanted, atol=2e-5 * float(np.abs(wanted).max()))
    assert np.abs(got - plain).max() > 0.05
    model.set_adapter(None)
    np.testing.assert_array_equal(model.logits(IDS), plain)


@pytest.mark.parametrize("case", ["gpt2-all", "llama-patterns", "llama-rslora"])
def test_what_is_written_peft_reads(case: str, tmp_path: Path) -> None:
    base_case, options = CASES[case]
    base = make_base(base_case, tmp_path / "base")
    wanted = make_adapter(base, tmp_path / "a", **options)(IDS)
    config = orion.load(base).config
    adapter.write(tmp_path / "b", adapter.read(tmp_path / "a", config), config)
    models: Any = transformers.AutoModelForCausalLM
    model = models.from_pretrained(base, attn_implementation="eager")
    again = logits_of(peft.PeftModel.from_pretrained(model, tmp_path / "b"))(IDS)
    np.testing.assert_allclose(again, wanted, atol=1e-5)


def test_a_llama2c_model_takes_the_same_adapters(tmp_path: Path) -> None:
    wanted = make_adapter(
        checkpoint.locate("stories260K"),
        tmp_path / "a",
        r=3,
        target_modules=["q_proj", "k_proj", "down_proj"],
    )(IDS)
    convert.convert("stories260K", tmp_path / "stories.bin")
    for path in ("stories260K", tmp_path / "stories.bin"):
        model = orion.load(path, device="cpu")
        model.load_adapter(tmp_path / "a")
        np.testing.assert_allclose(model.logits(IDS), wanted, atol=1e-3)
        loaded = adapter.read(tmp_path / "a", model.config)
        adapter.write(tmp_path / "again", loaded, model.config, replace=True)
        written = safetensors.numpy.load_file(tmp_path / "again" / adapter.TENSORS)
        original = safetensors.numpy.load_file(tmp_path / "a" / adapter.TENSORS)
        assert written.keys() == original.keys()
        for name, array in original.items():
            np.testing.assert_array_equal(written[name], array)


# -- resident and swapped --------------------------------------------------------------------------


@pytest.fixture
def loaded(llama: Path, several: dict[str, Path]) -> orion.Model:
    model = orion.load(llama, device="cpu")
    for path in several.values():
        model.load_adapter(path)
    return model


def alone(llama: Path, path: Path | None, ids: list[int] = IDS) -> NDArray[np.float32]:
    model = orion.load(llama, device="cpu")
    if path is not None:
        model.load_adapter(path)
    return model.logits(ids)


def test_several_stay_apart(loaded: orion.Model, llama: Path, several: dict[str, Path]) -> None:
    assert loaded.adapters == ["a0", "a1", "a2"]
    assert loaded.active_adapter == "a2"
    for name in ("a1", "a0", None, "a2", "a0"):
        loaded.set_adapter(name)
        wanted = alone(llama, several[name] if name else None)
        np.testing.assert_allclose(loaded.logits(IDS), wanted, atol=2e-4)


def test_a_scale_multiplies_what_an_adapter_adds(loaded: orion.Model) -> None:
    loaded.set_adapter(None)
    plain = loaded.logits(IDS)
    loaded.set_adapter("a0", scale=0.0)
    np.testing.assert_array_equal(loaded.logits(IDS), plain)
    loaded.set_adapter("a0", scale=2.0)
    doubled = loaded.logits(IDS)
    loaded.set_adapter("a0")
    assert np.abs(doubled - loaded.logits(IDS)).max() > 0.01


def test_prompts_of_a_batch_choose_for_themselves(loaded: orion.Model) -> None:
    uses: list[Any] = ["a0", "a1", None, ("a1", 0.5), "a0", "a0"]
    prompts = [IDS[: 2 + i % 4] for i in range(len(uses))]
    loaded.set_adapter("a2")
    wanted = []
    for prompt, use in zip(prompts, uses, strict=True):
        name, scale = use if isinstance(use, tuple) else (use, 1.0)
        other = _generate(loaded, [prompt], [(name, scale)])
        loaded.set_adapter(name, scale)
        wanted += _generate(loaded, [prompt])
        assert other == wanted[-1:]
    loaded.set_adapter("a2")
    together = _generate(loaded, prompts, [u if isinstance(u, tuple) else (u, 1.0) for u in uses])
    assert together == wanted
    assert len({tuple(ids) for ids in together[:4]}) > 1
    with pytest.raises(orion.Error, match="2 adapters for 1 prompts"):
        loaded.generate_ids(IDS, adapters=["a0", None])
    with pytest.raises(orion.Error, match="no adapter 'b'; loaded: a0, a1, a2"):
        loaded.generate_ids(IDS, adapters=["b"])


def _generate(
    model: orion.Model,
    prompts: list[list[int]],
    uses: list[tuple[str | None, float]] | None = None,
    count: int = 8,
) -> list[list[int]]:
    options = _core.SamplerOptions()
    generation = _core.Generation(model._core, prompts, options, count, [], uses or [])
    ids: list[list[int]] = [[] for _ in prompts]
    while not generation.done:
        for token in generation.step():
            ids[token.sequence].append(token.choice.id)
    return ids


def test_a_stream_changes_between_two_tokens(loaded: orion.Model) -> None:
    """Each token follows from the caches so far and the adapter of that moment."""
    loaded.set_adapter("a1")
    generation = _core.Generation(loaded._core, [IDS], _core.SamplerOptions(logprobs=2), 6, [])
    first = generation.step()[0]
    before = loaded._core.compiles
    chosen = []
    for name in ("a0", "a1", None, "a2"):
        loaded.set_adapter(name)
        chosen.append(generation.step()[0].choice.top)
    assert loaded._core.compiles - before == 1  # the program that reads one token
    same = _core.Generation(loaded._core, [IDS], _core.SamplerOptions(logprobs=2), 6, [])
    loaded.set_adapter("a1")
    assert same.step()[0].choice.id == first.choice.id
    assert [same.step()[0].choice.top for _ in range(4)] != chosen


def test_a_prompt_keeps_an_adapter_that_is_unloaded(loaded: orion.Model) -> None:
    wanted = _generate(loaded, [IDS], [("a1", 1.0)])
    generation = _core.Generation(loaded._core, [IDS], _core.SamplerOptions(), 8, [], [("a1", 1.0)])
    ids = [generation.step()[0].choice.id]
    loaded.unload_adapter("a1")
    while not generation.done:
        ids.append(generation.step()[0].choice.id)
    assert [ids] == wanted


def test_swaps_compile_nothing(loaded: orion.Model) -> None:
    for i in range(5):
        loaded._core.adapters.add(f"b{i}", *_copy(loaded, i))
    loaded.logits(IDS)
    before = loaded._core.compiles
    names = loaded.adapters
    assert len(names) == 8
    for i in range(1000):
        loaded.set_adapter(names[i % 8])
        if i % 50 == 0:
            loaded.logits(IDS)
    assert loaded._core.compiles == before


def _copy(model: orion.Model, seed: int) -> tuple[_core.LoraShape, dict[str, Any]]:
    shape = _core.LoraShape(rank=1 + seed, scale=0.5, targets=["k_proj"])
    return shape, _core.initial_lora(model.config, shape, seed)


def test_room_reserved_is_room_enough(llama: Path, several: dict[str, Path]) -> None:
    model = orion.load(llama, device="cpu")
    model.reserve_adapters(64, LLAMA_ALL)
    model.logits(IDS)
    before = model._core.compiles
    for path in several.values():
        model.load_adapter(path)
        model.logits(IDS)
    assert model._core.compiles == before


def test_unloading(loaded: orion.Model, llama: Path) -> None:
    loaded.unload_adapter("a0")
    assert (loaded.adapters, loaded.active_adapter) == (["a1", "a2"], "a2")
    loaded.unload_adapter("a2")
    assert loaded.active_adapter is None
    np.testing.assert_allclose(loaded.logits(IDS), alone(llama, None), atol=1e-5)
    with pytest.raises(orion.Error, match="no adapter 'a2'; loaded: a1"):
        loaded.unload_adapter("a2")


def test_names(loaded: orion.Model, several: dict[str, Path]) -> None:
    assert loaded.load_adapter(several["a0"]) == "a0-2"
    assert loaded.load_adapter(several["a0"], name="mine") == "mine"
    with pytest.raises(orion.Error, match="adapter 'mine' is loaded already"):
        loaded.load_adapter(several["a1"], name="mine")


# -- on the engine ---------------------------------------------------------------------------------


@pytest.mark.parametrize("device", ["sim:macos26", "sim:strict"])
@pytest.mark.parametrize("case", ["gpt2-all", "llama-all", "llama-head"])
def test_the_engine_has_the_same_logits(case: str, device: str, tmp_path: Path) -> None:
    base_case, options = CASES[case]
    base = make_base(base_case, tmp_path / "base")
    wanted = make_adapter(base, tmp_path / "a", **options)(IDS)
    model = orion.load(base, device=device)
    plain = model.logits(IDS)
    model.load_adapter(tmp_path / "a")
    got = model.logits(IDS)
    assert np.abs(got - wanted).max() < 0.02 * np.abs(wanted - plain).max()
    model.set_adapter(None)
    np.testing.assert_allclose(model.logits(IDS), plain, atol=1e-2)


def test_swaps_on_the_engine_compile_and_load_nothing(
    llama: Path, several: dict[str, Path]
) -> None:
    model = orion.load(llama, device="sim:macos26")
    for path in several.values():
        model.load_adapter(path)
    for i in range(5):
        model._core.adapters.add(f"b{i}", *_copy(model, i))
    uses: list[Any] = ["a0", "a1", None, "a2"]
    wanted = [model.generate_ids(IDS, max_tokens=3, adapters=[use]) for use in uses]
    assert len({tuple(ids) for ids in wanted}) > 1
    before = (model._core.compiles, _core.engine_usage("sim:macos26"))
    for i in range(1000):
        model.set_adapter(model.adapters[i % 8])
        if i % 100 == 0:
            model.generate_ids(IDS, max_tokens=3)
    for use, ids in zip(uses, wanted, strict=True):
        model.set_adapter(use)
        assert model.generate_ids(IDS, max_tokens=3) == ids
    assert (model._core.compiles, _core.engine_usage("sim:macos26")) == before


def test_the_engine_reads_prompts_with_the_adapter_of_each(
    llama: Path, several: dict[str, Path]
) -> None:
    for decode in ("engine", "cpu"):
        model = orion.load(llama, device="sim:macos26", decode=decode)
        for path in several.values():
            model.load_adapter(path)
        uses: list[Any] = ["a0", "a2", None, "a0"]
        alone = [model.generate_ids(IDS, max_tokens=4, adapters=[use]) for use in uses]
        together = _generate(model, [IDS] * 4, [(use, 1.0) for use in uses], 4)
        assert together == alone


# -- what is refused -------------------------------------------------------------------------------

Change = Callable[[dict[str, Any], dict[str, NDArray[Any]]], object]
Q0 = "base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight"


def config(**values: Any) -> Change:
    return lambda config, _: config.update(values)


def _nan(_: dict[str, Any], tensors: dict[str, NDArray[Any]]) -> None:
    tensors[Q0] = tensors[Q0].copy()
    tensors[Q0][1, 4] = np.nan


REFUSED: dict[str, tuple[Change, str]] = {
    "not-lora": (config(peft_type="IA3"), "peft_type is 'IA3'"),
    "task": (config(task_type="SEQ_CLS"), "task_type is 'SEQ_CLS'"),
    "rank-0": (config(r=0), "r is 0, a rank from 1 to 64"),
    "rank-bool": (config(r=True), "r is True"),
    "rank-65": (config(r=65), "r is 65"),
    "other-rank": (config(r=3), r"is \(2, 36\), and adapter_config.json says rank 3"),
    "alpha": (config(lora_alpha="x"), "lora_alpha is 'x'"),
    "alpha-missing": (lambda c, _: c.pop("lora_alpha"), "lora_alpha is None"),
    "dora": (config(use_dora=True), "use_dora is True, which is not supported"),
    "bias": (config(bias="all"), "bias is 'all'"),
    "saved": (config(modules_to_save=["lm_head"]), "modules_to_save is"),
    "pissa": (config(init_lora_weights="pissa"), "init_lora_weights is 'pissa'"),
    "pattern": (config(rank_pattern={".*q_proj": 2}), "names of modules are supported"),
    "no-targets": (config(target_modules=None), "target_modules is None"),
    "unknown-target": (
        config(target_modules=["q_proj", "query"]),
        "no linear module of this llama model is called 'query'; there are q_proj",
    ),
    "tensors-beyond-targets": (config(target_modules=["k_proj"]), "tensors for '.*q_proj'"),
    "targets-beyond-tensors": (
        config(target_modules=["q_proj", "k_proj"]),
        "no tensors for '.*layers.0.self_attn.k_proj'",
    ),
    "nan": (_nan, r"q_proj.lora_A.weight' is nan at \[1, 4\]"),
    "shape": (
        lambda _, t: t.update({Q0: np.zeros((2, 35), np.float32)}),
        r"q_proj.lora_A.weight' is fp32 \(2, 35\), a float of \(2, 36\)",
    ),
    "missing": (
        lambda _, t: t.pop(Q0),
        "no tensor 'model.layers.0.self_attn.q_proj.lora_A.weight'",
    ),
    "integers": (
        lambda _, t: t.update({Q0: np.zeros((2, 36), np.int32)}),
        "is I32; weights may be F32",
    ),
    "stranger": (
        lambda _, t: t.update({"base_model.model.model.norm.weight": np.ones(36, np.float32)}),
        "is neither A nor B",
    ),
    "embedding": (
        lambda _, t: t.update(
            {
                f"base_model.model.model.embed_tokens.lora_{m}.weight": np.ones(s, np.float32)
                for m, s in (("A", (2, 36)), ("B", (71, 2)))
            }
        ),
        "embed_tokens",
    ),
    "empty": (lambda _, t: t.clear(), "holds no tensors"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_wrong_adapter_is_an_error_and_changes_nothing(
    case: str, loaded: orion.Model, several: dict[str, Path], tmp_path: Path
) -> None:
    change, message = REFUSED[case]
    settings = json.loads((several["a0"] / adapter.CONFIG).read_text())
    tensors = safetensors.numpy.load_file(several["a0"] / adapter.TENSORS)
    change(settings, tensors)
    (tmp_path / adapter.CONFIG).write_text(json.dumps(settings))
    safetensors.numpy.save_file(tensors, tmp_path / adapter.TENSORS)
    _refuses(loaded, tmp_path, message)


def _refuses(model: orion.Model, path: Path, message: str) -> None:
    model.set_adapter("a1", 0.5)
    wanted = model.logits(IDS)
    with pytest.raises(orion.Error, match=message) as raised:
        model.load_adapter(path)
    assert str(path) in str(raised.value)
    assert (model.adapters, model.active_adapter) == (["a0", "a1", "a2"], "a1")
    np.testing.assert_array_equal(model.logits(IDS), wanted)


def test_an_adapter_of_another_model(loaded: orion.Model, tmp_path: Path) -> None:
    base = make_base("gpt2", tmp_path / "base")
    make_adapter(base, tmp_path / "a", r=2, target_modules=["c_attn"])
    _refuses(loaded, tmp_path / "a", "'c_attn'.*was it made for this model")
    wide = make_base("llama-head-dim", tmp_path / "wide")
    make_adapter(wide, tmp_path / "b", r=2, target_modules=["q_proj"])
    _refuses(loaded, tmp_path / "b", r"a float of \(36, 2\) is needed.*was it made for this model")


def test_what_is_no_adapter(loaded: orion.Model, several: dict[str, Path], tmp_path: Path) -> None:
    _refuses(loaded, tmp_path, "no adapter_config.json")
    settings = (several["a0"] / adapter.CONFIG).read_bytes()
    (tmp_path / adapter.CONFIG).write_bytes(settings)
    _refuses(loaded, tmp_path, "no adapter_model.safetensors")
    (tmp_path / adapter.TENSORS).write_bytes(b"x" * 100)
    _refuses(loaded, tmp_path, "not a safetensors file")
    (tmp_path / adapter.CONFIG).write_bytes(settings[:-9])
    _refuses(loaded, tmp_path, "not JSON")


def test_fp16_says_what_it_cannot_hold(llama: Path, tmp_path: Path) -> None:
    make_adapter(llama, tmp_path / "a", r=2, lora_alpha=1e6, target_modules=["q_proj"])
    model = orion.load(llama, device="cpu", dtype="fp16")
    with pytest.raises(orion.Error, match="beyond fp16's range"):
        model.load_adapter(tmp_path / "a")
    assert (model.adapters, model.active_adapter) == ([], None)


@pytest.mark.parametrize("scale", [np.inf, np.nan])
def test_a_scale_is_a_number(scale: float, loaded: orion.Model) -> None:
    with pytest.raises(orion.Error, match="a scale of"):
        loaded.set_adapter("a0", scale)
    assert loaded.active_adapter == "a2"
