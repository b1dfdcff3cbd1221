"""Language models in segments on simulated engines, against the same model whole on the CPU."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import orion_ane as orion
import pytest
from engines import HARDWARE, tireless
from numpy.typing import NDArray
from orion_ane import _core, checkpoint

GOLDEN = json.loads(
    (Path(__file__).parents[1] / "golden" / "stories260K_greedy.json").read_text("utf-8")
)
ENGINES = ["cpu", *(f"sim:{profile['name']}" for profile in _core.profiles())]
GPT2: dict[str, Any] = {
    "model_type": "gpt2",
    "vocab_size": 1024,
    "n_positions": 128,
    "n_embd": 128,
    "n_layer": 4,
    "n_head": 4,
}
PAPER_LOGIT_ERROR = 0.073


def random_weights(
    config: dict[str, Any], seed: int = 0, scale: float = 0.05
) -> dict[str, NDArray[np.float32]]:
    """As GPT-2 is initialised, but with every bias and gain off its neutral value."""
    random = np.random.default_rng(seed)
    weights = {}
    for name, shape in _core.model_weights(config).items():
        gain = 1.0 if "ln_" in name and name.endswith("weight") else 0.0
        deep = 24**-0.5 if name.endswith("c_proj.weight") else 1.0  # as it is for 12 layers
        weights[name] = random.normal(gain, scale * deep, shape).astype(np.float32)
    return weights


def greedy(model: _core.TextModel, ids: list[int], count: int) -> list[int]:
    generation = _core.Generation(model, [ids], _core.SamplerOptions(), count, [])
    tokens: list[int] = []
    while not generation.done:
        tokens += [token.choice.id for token in generation.step()]
    return tokens


@pytest.mark.parametrize("use", ["engine", "engine-prefill"])
@pytest.mark.parametrize("engine", ENGINES)
def test_greedy_stories_are_those_of_the_cpu(engine: str, use: str) -> None:
    found = checkpoint.read(checkpoint.locate("stories260K"))
    model = _core.EngineModel(found.config, found.weights, engine, use)
    start = [1, 403, 407, 261, 378]
    whole = orion.load("stories260K")
    assert greedy(model, start, 60) == whole.generate_ids(start, max_tokens=60, ignore_eos=True)
    assert greedy(model, [1], 60) == GOLDEN["ids"][:60]
    assert model.compile_seconds > 0
    assert model.device.startswith(engine)


@pytest.mark.parametrize("use", ["engine", "engine-and-head"])
@pytest.mark.parametrize("engine", ENGINES[1:])
def test_a_gpt2_stays_as_near_to_fp32_as_in_the_paper(engine: str, use: str) -> None:
    weights = random_weights(GPT2)
    whole = _core.LanguageModel(GPT2, weights, "fp32", "cpu")
    model = _core.EngineModel(GPT2, weights, engine, use)
    ids = [5, 900, 33]
    tokens = greedy(model, ids, 64)
    assert tokens == greedy(whole, ids, 64)
    text = ids + tokens
    error = np.abs(model.logits(text) - whole.logits(text)).max()
    assert error <= PAPER_LOGIT_ERROR
    assert (model.logits(text).argmax(-1) == whole.logits(text).argmax(-1)).all()


GPT2_DEEP: dict[str, Any] = {
    "model_type": "gpt2",
    "vocab_size": 512,
    "n_positions": 128,
    "n_embd": 96,
    "n_layer": 12,
    "n_head": 3,
}


# Scale of weights and largest error of logits: initial, wider, and about as wide as trained. The
# seeds' texts have no place where fp32's best two tokens are nearer than fp16 can tell; most texts
# of random models have one.
@pytest.mark.parametrize("seed", [4, 6])
@pytest.mark.parametrize(("scale", "most"), [(0.02, 0.003), (0.05, 0.008), (0.14, 0.03)])
def test_twelve_layers_of_gpt2_choose_the_tokens_of_fp32(
    scale: float, most: float, seed: int
) -> None:
    weights = random_weights(GPT2_DEEP, seed, scale)
    whole = _core.LanguageModel(GPT2_DEEP, weights, "fp32", "cpu")
    text = [7, 301, 44]
    text += greedy(whole, text, 64)
    wanted = whole.logits(text)
    for hardware in HARDWARE:
        got = _core.EngineModel(GPT2_DEEP, weights, f"sim:{tireless(hardware, 'deep')}").logits(
            text
        )
        assert np.abs(got - wanted).max() <= most < PAPER_LOGIT_ERROR, hardware
        assert (got.argmax(-1) == wanted.argmax(-1)).all(), hardware


@pytest.mark.parametrize("engine", ENGINES)
def test_attention_over_many_keys_keeps_small_products(engine: str) -> None:
    """Each probability is 2^-10: times a value of 0.05 it is below the least normal fp16."""
    g = orion.Graph()
    q = g.input("q", (1, 2, 32, 16), "fp16")
    k, v = (g.input(name, (1, 2, 1024, 16), "fp16") for name in "kv")
    g.output("y", orion.ops.scaled_dot_product_attention(q, k, v))
    values = np.full((1, 2, 1024, 16), 0.05, np.float16)
    got = orion.compile(g, device=engine)(
        q=np.zeros((1, 2, 32, 16), np.float16), k=values, v=values
    )
    np.testing.assert_allclose(got["y"].astype(np.float32), 0.05, rtol=4e-3)


def test_what_cannot_run_is_refused_by_name() -> None:
    with pytest.raises(orion.Error, match=r"use 'all': engine, engine-prefill or engine-and-head"):
        _core.EngineModel(GPT2, random_weights(GPT2), "cpu", "all")
    with pytest.raises(orion.Error, match=r"segment 'tail': one of attention, .*, head is needed"):
        _core.segment_graph(GPT2, "tail")


def test_a_segment_is_a_graph_like_any_other() -> None:
    graph = _core.segment_graph(GPT2, "projection", layer=3, tokens=16)
    assert list(graph.outputs) == ["q", "k", "v"]
    legal = _core.legalize(graph, "strict")
    assert _core.violations(legal, "strict") == []
    head = _core.segment_graph(GPT2, "head", first=512, count=256)
    assert head.outputs["logits"].shape == (1, 256, 1, 16)
