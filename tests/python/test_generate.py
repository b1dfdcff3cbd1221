"""Text from the bundled model: against llama2.c, transformers and NumPy, and how it ends."""

from __future__ import annotations

import _thread
import json
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import orion_ane as orion
import pytest
from numpy.typing import NDArray
from orion_ane import _core, checkpoint, convert
from orion_ane.completion import CompletionText
from orion_ane.model import Model

GOLDEN = json.loads(
    (Path(__file__).parents[1] / "golden" / "stories260K_greedy.json").read_text("utf-8")
)
PROMPTS = ["", "Once upon a time", "The cat", "Zoo! 🦒", "Tom and Lily went to the park. They"]
SAMPLED: list[dict[str, Any]] = [
    {},
    {"temperature": 0.9, "seed": 11},
    {"temperature": 1.5, "top_k": 7, "seed": 3},
    {"temperature": 1.0, "top_p": 0.8, "min_p": 0.05, "seed": 0},
    {"repetition_penalty": 1.3},
]


@pytest.fixture(scope="module")
def model() -> Model:
    return orion.load("stories260K")


# -- against other programs ------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["fp32", "fp16"])
def test_greedy_text_is_that_of_llama2c(dtype: str) -> None:
    completion = orion.load(dtype=dtype).generate_details("", max_tokens=len(GOLDEN["ids"]))
    assert completion.ids == GOLDEN["ids"]
    assert completion.text == GOLDEN["text"]


def test_a_llama2c_file_gives_the_same_text(tmp_path: Path) -> None:
    convert.convert("stories260K", tmp_path / "stories260K.bin")
    completion = orion.load(tmp_path / "stories260K.bin").generate_details("", max_tokens=257)
    assert (completion.ids, completion.text) == (GOLDEN["ids"], GOLDEN["text"])


@pytest.mark.parametrize("prompt", PROMPTS)
def test_greedy_tokens_are_those_of_transformers(prompt: str, model: Model) -> None:
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    reference = transformers.LlamaForCausalLM.from_pretrained(checkpoint.locate("stories260K"))
    ids = model.tokenizer.encode(prompt)
    text = torch.tensor([ids])
    with torch.no_grad():
        wanted = reference.generate(
            text, attention_mask=torch.ones_like(text), do_sample=False, max_new_tokens=80
        )[0, len(ids) :].tolist()
    assert model.generate_ids(ids, max_tokens=80, stop=[1, 2]) == [i for i in wanted if i > 2]


# -- one result, however it is asked for -----------------------------------------------------------


@pytest.mark.parametrize("options", SAMPLED)
def test_stream_batch_and_single_agree(options: dict[str, Any], model: Model) -> None:
    alone = []
    for i, prompt in enumerate(PROMPTS):
        own = {**options, "seed": options["seed"] + i} if "seed" in options else options
        alone.append(model.generate(prompt, max_tokens=40, **own))
        pieces = list(model.stream(prompt, max_tokens=40, **own))
        assert "".join(pieces) == alone[-1]
        assert all(piece.text == piece and type(piece.text) is str for piece in pieces)
        assert [p.id for p in pieces if p.id is not None] == model.generate_details(
            prompt, max_tokens=40, **own
        ).ids
    assert model.generate(PROMPTS, max_tokens=40, **options) == alone


def test_token_ids_are_a_prompt_too(model: Model) -> None:
    ids = model.tokenizer.encode("The cat")
    text = model.generate("The cat", max_tokens=20)
    assert model.generate(ids, max_tokens=20) == text
    assert model.generate(np.array(ids), max_tokens=20) == text
    assert model.generate([ids, ids[:2]], max_tokens=20)[0] == text


def test_the_same_seed_gives_the_same_text(model: Model) -> None:
    def text(**options: Any) -> str:
        return str(model.generate("", max_tokens=60, temperature=1.5, **options))

    assert text(seed=5) == text(seed=5)
    assert len({text(seed=seed) for seed in range(8)}) == 8
    unseeded = model.generate_details("", max_tokens=60, temperature=1.5)
    assert text(seed=unseeded.seed) == unseeded.text
    assert text() != text()


def test_programs_for_many_prompt_lengths_come_and_go(model: Model) -> None:
    ids = model.tokenizer.encode(GOLDEN["text"])
    texts = [model.generate(ids[:length], max_tokens=3) for length in range(1, 14)]
    assert [model.generate(ids[:length], max_tokens=3) for length in range(1, 14)] == texts


def test_threads_share_a_model(model: Model) -> None:
    wanted = [model.generate(prompt, max_tokens=40) for prompt in PROMPTS]
    got: dict[int, str] = {}

    def run(i: int) -> None:
        got[i] = model.generate(PROMPTS[i], max_tokens=40)

    threads = [threading.Thread(target=run, args=(i,)) for i in range(len(PROMPTS))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [got[i] for i in range(len(PROMPTS))] == wanted


# -- where a text ends -----------------------------------------------------------------------------


def test_max_tokens_counts_exactly(model: Model) -> None:
    for count in (0, 1, 2, 17):
        completion = model.generate_details("The cat", max_tokens=count)
        assert len(completion.ids) == count
        assert completion.finish_reason == "length"
        assert model.last_stats.decode_tokens == max(count - 1, 0)


def test_end_of_text_ends_it_and_is_no_part_of_it(model: Model) -> None:
    completion = model.generate_details("", max_tokens=500, temperature=0.7, seed=2)
    assert completion.finish_reason == "stop"
    assert not set(completion.ids) & set(model.tokenizer.eos_ids)
    longer = model.generate_details("", max_tokens=500, temperature=0.7, seed=2, ignore_eos=True)
    assert longer.ids[: len(completion.ids)] == completion.ids
    assert longer.ids[len(completion.ids)] in model.tokenizer.eos_ids
    assert len(longer.ids) == 500


@pytest.mark.parametrize(
    ("stop", "end"),
    [
        ("girl", "girl"),
        ("named Lily", "named Lily"),
        (["park", "girl"], "girl"),
        (["little girl named", "tle g"], "tle g"),
        ("e", "e"),
        (["never seen", "red ball. She want"], "red ball. She want"),
    ],
)
def test_stop_strings_end_the_text_before_them(
    stop: str | list[str], end: str, model: Model
) -> None:
    wanted = GOLDEN["text"][: GOLDEN["text"].index(end)]
    completion = model.generate_details("", stop=stop)
    assert completion.text == wanted
    assert completion.finish_reason == "stop"
    assert "".join(model.stream("", stop=stop)) == wanted
    assert model.generate(["", "The cat"], stop=stop)[0] == wanted


def test_a_stop_string_that_never_comes_costs_nothing(model: Model) -> None:
    text = model.generate("", max_tokens=30)
    assert model.generate("", max_tokens=30, stop=text[-3:] + "!") == text
    assert "".join(model.stream("", max_tokens=30, stop=text[-3:] + "!")) == text


def test_stop_tokens_end_the_text_before_them(model: Model) -> None:
    token = GOLDEN["ids"][9]
    ids = GOLDEN["ids"][: GOLDEN["ids"].index(token)]
    assert model.generate_ids([1], stop=token) == ids
    assert model.generate_details("", stop=[token, "never seen"]).ids == ids
    assert model.generate_details("", stop=0, max_tokens=9).ids == GOLDEN["ids"][:9]


def test_characters_stay_whole_when_tokens_split_them(model: Model) -> None:
    ids = [byte + 3 for byte in "a€🦒".encode()]  # llama2.c's byte tokens begin at 3
    pieces = []
    text = CompletionText(model.tokenizer.stream(), [])
    for token in ids:
        pieces.append(text.push(token))
    assert pieces == ["a", "", "", "€", "", "", "", "🦒"]
    cut = CompletionText(model.tokenizer.stream(), ["\ufffd"])
    assert [cut.push(token) for token in ids[:3]] == ["a", "", ""]
    assert cut.finish() == ""
    assert cut.stopped


def test_the_context_ends_a_text(model: Model) -> None:
    ids = (GOLDEN["ids"] * 2)[:510]
    completion = model.generate_details(ids, max_tokens=50, ignore_eos=True)
    assert completion.finish_reason == "context"
    assert len(completion.ids) == 3  # what positions 509, 510 and 511 predict
    full = model.generate_details((GOLDEN["ids"] * 2)[:512], max_tokens=50, ignore_eos=True)
    assert (len(full.ids), full.finish_reason) == (1, "context")
    logits = model.logits([*ids, *completion.ids[:2]])[509:]
    assert completion.ids == logits.argmax(axis=-1).tolist()


def test_an_interrupt_ends_generation_between_tokens(model: Model) -> None:
    wanted = model.generate("The cat", max_tokens=30)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored in the background
    timer = threading.Timer(0.1, _thread.interrupt_main)
    timer.start()
    try:
        with pytest.raises(KeyboardInterrupt):
            model.generate([""] * 100, max_tokens=500, ignore_eos=True)
        timer.join()
    finally:
        signal.signal(signal.SIGINT, before)
    assert model.generate("The cat", max_tokens=30) == wanted


def test_a_closed_stream_leaves_its_statistics(model: Model) -> None:
    stream = model.stream("Once upon a time")
    for _ in range(4):
        next(stream)
    assert model.last_stats.prompt_tokens == len(model.tokenizer.encode("Once upon a time"))
    assert model.last_stats.decode_tokens == 3
    assert model.last_stats.prompt_seconds > 0
    assert model.last_stats.decode_seconds > 0
    assert model.last_stats.load_seconds > 0


# -- probabilities ---------------------------------------------------------------------------------


def log_softmax(logits: NDArray[Any]) -> NDArray[Any]:
    shifted = logits.astype(np.float64) - logits.max()
    return np.asarray(shifted - np.log(np.exp(shifted).sum()))


def test_logprobs_are_those_of_the_model(model: Model) -> None:
    ids = model.tokenizer.encode("The cat")
    completion = model.generate_details(
        ids, max_tokens=12, logprobs=4, temperature=0.8, top_k=5, repetition_penalty=1.2, seed=1
    )
    rows = model.logits([*ids, *completion.ids[:-1]])[len(ids) - 1 :]
    for row, token, logprob, top in zip(
        rows, completion.ids, completion.logprobs, completion.top_logprobs, strict=True
    ):
        wanted = log_softmax(row)
        assert logprob == pytest.approx(wanted[token], abs=1e-4)
        assert [index for index, _ in top] == np.argsort(-wanted, kind="stable")[:4].tolist()
        assert [value for _, value in top] == pytest.approx(np.sort(-wanted)[:4] * -1, abs=1e-4)


def kept(logits: NDArray[Any], options: dict[str, Any], seen: list[int]) -> NDArray[Any]:
    """Probabilities after the filters, by the obvious way."""
    scores = logits.astype(np.float64).copy()
    for token in set(seen):
        penalty = options.get("repetition_penalty", 1.0)
        scores[token] = scores[token] / penalty if scores[token] > 0 else scores[token] * penalty
    scores /= options["temperature"]
    order = np.argsort(-scores, kind="stable")
    p = np.exp(scores - scores.max())
    if options.get("top_k"):
        p[order[options["top_k"] :]] = 0
    p /= p.sum()
    before = np.cumsum(p[order]) - p[order]
    p[order[before >= options.get("top_p", 1.0)]] = 0
    p[p < options.get("min_p", 0.0) * p.max()] = 0
    return np.asarray(p / p.sum())


FILTERS: list[dict[str, Any]] = [
    {"temperature": 1.0},
    {"temperature": 0.4},
    {"temperature": 2.5, "top_k": 9},
    {"temperature": 1.0, "top_p": 0.7},
    {"temperature": 1.3, "top_p": 0.999},
    {"temperature": 1.0, "min_p": 0.1},
    {"temperature": 1.4, "top_k": 20, "top_p": 0.8, "min_p": 0.15},
    {"temperature": 0.9, "repetition_penalty": 1.7, "top_k": 12},
    {"temperature": 1.0, "repetition_penalty": 0.5, "top_p": 0.9},
]


@pytest.mark.parametrize("options", FILTERS)
def test_tokens_are_drawn_with_the_probabilities_that_filters_leave(
    options: dict[str, Any],
) -> None:
    vocab, draws, seen = 300, 4000, [0, 7, 8, 299]
    logits = np.random.default_rng(3).normal(0, 2, vocab).astype(np.float32)
    wanted = kept(logits, options, seen)
    counts = np.zeros(vocab)
    for seed in range(draws):  # a fresh sampler each: what it draws would count as seen
        sampler = _core.Sampler(_core.SamplerOptions(seed=seed, **options), vocab)
        for token in seen:
            sampler.see(token)
        counts[sampler.choose(logits).id] += 1
    assert not counts[wanted == 0].any()
    expected = wanted[wanted > 0] * draws
    chi_square = ((counts[wanted > 0] - expected) ** 2 / expected).sum()
    freedom = len(expected) - 1
    assert chi_square < freedom + 5 * np.sqrt(2 * freedom) + 5


@pytest.mark.parametrize("options", FILTERS)
def test_filters_agree_with_transformers(options: dict[str, Any]) -> None:
    torch = pytest.importorskip("torch")
    hf = pytest.importorskip("transformers").generation.logits_process
    logits = np.random.default_rng(4).normal(0, 2, 300).astype(np.float32)
    seen = [5, 6, 200]
    scores = torch.tensor(logits)[None]
    processors: list[tuple[Callable[[Any], Any], Any]] = [
        (hf.RepetitionPenaltyLogitsProcessor, options.get("repetition_penalty", 1.0)),
        (hf.TemperatureLogitsWarper, options["temperature"]),
        (hf.TopKLogitsWarper, options.get("top_k") or 300),
        (hf.TopPLogitsWarper, options.get("top_p", 1.0)),
        (hf.MinPLogitsWarper, options.get("min_p", 0.0)),
    ]
    for make, setting in processors:
        scores = make(setting)(torch.tensor([seen]), scores)
    wanted = torch.softmax(scores, dim=-1)[0].numpy()
    np.testing.assert_allclose(kept(logits, options, seen), wanted, rtol=1e-4, atol=1e-7)


def test_greedy_with_a_penalty_is_that_of_transformers() -> None:
    torch = pytest.importorskip("torch")
    hf = pytest.importorskip("transformers").generation.logits_process
    penalty = hf.RepetitionPenaltyLogitsProcessor(1.8)
    sampler = _core.Sampler(_core.SamplerOptions(repetition_penalty=1.8), 40)
    seen = [0, 3, 3, 39]
    for token in seen:
        sampler.see(token)
    rng = np.random.default_rng(8)
    for _ in range(300):
        logits = rng.normal(0, 1, 40).astype(np.float32)
        wanted = int(penalty(torch.tensor([seen]), torch.tensor(logits)[None]).argmax())
        assert sampler.choose(logits).id == wanted
        seen.append(wanted)


# -- bad input -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("prompt", "options", "message"),
    [
        ("x", {"temperature": -0.1}, "temperature is -0.1, a finite number of at least 0"),
        ("x", {"temperature": float("nan")}, "temperature is nan"),
        ("x", {"top_k": -1}, "top_k is -1, at least 0"),
        ("x", {"top_p": 0.0}, "top_p is 0, more than 0"),
        ("x", {"top_p": 1.01}, "top_p is 1.01"),
        ("x", {"min_p": 2.0}, "min_p is 2, from 0 to 1"),
        ("x", {"repetition_penalty": 0.0}, "repetition_penalty is 0, a finite number above 0"),
        ("x", {"seed": -1}, "seed is -1, from 0 to 2"),
        ("x", {"seed": 2**64}, f"seed is {2**64}"),
        ("x", {"max_tokens": -1}, "max_tokens is -1, at least 0"),
        ("x", {"stop": ""}, "stop: an empty string"),
        ("x", {"stop": ["y", ""]}, "stop: an empty string"),
        ("x", {"stop": [512]}, "stop token id 512 is outside the vocabulary of 512"),
        ("\ud800", {}, "U\\+D800"),
        ([], {}, "prompt: an empty list"),
        ([[]], {}, "prompt: no token ids given"),
        ([[1], []], {}, "prompt 1: no token ids given"),
        ([1, 512], {}, "prompt: token id 512 at index 1 is outside the vocabulary of 512"),
        ([1] * 513, {}, "prompt: 513 tokens, the model's context holds 512"),
    ],
)
def test_bad_requests_are_refused(
    prompt: Any, options: dict[str, Any], message: str, model: Model
) -> None:
    with pytest.raises(orion.Error, match=message):
        model.generate(prompt, **options)
    if prompt == "x":
        with pytest.raises(orion.Error, match=message):
            model.stream(prompt, **options)


def test_misspelt_options_are_refused(model: Model) -> None:
    misspelt: dict[str, Any] = {"temprature": 1.0}
    with pytest.raises(TypeError, match="temprature"):
        model.generate("x", **misspelt)


def test_streams_and_ids_have_their_own_limits(model: Model) -> None:
    several: Any = ["a", "b"]
    with pytest.raises(orion.Error, match="stream: one prompt at a time"):
        model.stream(several)
    with pytest.raises(orion.Error, match="generate_ids: stop string 'a'"):
        model.generate_ids([1], stop="a")


def test_an_empty_prompt_needs_a_bos_token(monkeypatch: pytest.MonkeyPatch) -> None:
    model = orion.load()
    monkeypatch.setattr(model.tokenizer, "adds_bos", False)
    assert model.generate("", max_tokens=40) == model.generate([1], max_tokens=40)
    monkeypatch.setattr(model.tokenizer, "bos_id", None)
    with pytest.raises(orion.Error, match="prompt: empty, and this tokenizer has no BOS"):
        model.generate("")


def test_logits_that_overflow_are_never_sampled(model: Model) -> None:
    weights = dict(checkpoint.read(checkpoint.locate("stories260K")).weights)
    weights["model.norm.weight"] = np.full_like(weights["model.norm.weight"], 3e38)
    core = _core.LanguageModel(model.config, weights, "fp32", "cpu")
    generation = _core.Generation(core, [[1, 403]], _core.SamplerOptions(), 5, [])
    with pytest.raises(
        orion.Error, match=r"sequence 0, position 1: the logit of token \d+ is -?(inf|nan)"
    ):
        generation.step()


def test_threads_are_chosen_once_per_process() -> None:
    program = """
import orion_ane as orion
from orion_ane import _core
text = orion.load(threads=1).generate("", max_tokens=5)
assert _core.thread_count() == 1
assert orion.load(threads=1).generate("", max_tokens=5) == text
try:
    orion.load(threads=2)
except orion.Error as error:
    print(error)
"""
    result = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert result.stdout.startswith("threads=2: this process already runs 1;")


def test_a_model_describes_itself(model: Model) -> None:
    assert repr(model) == "<Model llama: 260,032 parameters, fp32 on cpu>"
    assert model.config["model_type"] == "llama"
    assert (model.device, model.dtype, model.context) == ("cpu", "fp32", 512)
    assert "scaled_dot_product_attention" in str(model.graph(tokens=4, cache=8))
