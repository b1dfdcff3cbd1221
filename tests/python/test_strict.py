"""What is emitted for `strict` runs on every hardware: each op of the table, each segment.

The device `sim:HARDWARE,profile=strict` makes programs for strict and runs them on other hardware.
"""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import orion_ane as orion
import pytest
from engines import HARDWARE, tireless
from numpy.typing import NDArray
from op_cases import CASES, Case
from orion_ane import _core
from test_ops import build, label

Array = NDArray[Any]

LIMITS = {row["id"] for row in _core.limits()}
LARGEST_SAFE = 3e4  # beyond, products overflow on engines: what they then give is no question here


STRICT = tireless("strict", "any")
DEVICES = [f"sim:{tireless(name, 'any')},profile={STRICT}" for name in HARDWARE]


def is_ordinary(array: Array) -> bool:
    return array.dtype.kind != "f" or bool((np.abs(array) < LARGEST_SAFE).all())


def halved(array: Array) -> Array:
    """As an engine sees it."""
    return array.astype("f2").astype(array.dtype) if array.dtype.kind == "f" else array


def refusal(graph: orion.Graph) -> str:
    """Why the graph cannot be made legal; empty if it can."""
    try:
        _core.legalize(graph, "strict")
    except orion.Error as error:
        return str(error)
    return ""


def names_its_reason(message: str) -> bool:
    """A limit, or the legaliser with what it needs instead."""
    return re.split("[: ]", message)[0] in LIMITS or message.startswith("legalize: ")


def check_everywhere(
    graph: orion.Graph, inputs: dict[str, Array], weights: dict[str, Array]
) -> None:
    seen = {name: halved(array) for name, array in inputs.items()}
    wanted = orion.compile(graph, weights, device="cpu")(**seen)
    for device in DEVICES:
        got = orion.compile(graph, weights, device=device)(**seen)
        assert got.keys() == wanted.keys()
        for name, value in wanted.items():
            size = max(1.0, float(np.abs(value.astype("f8")).max()))
            np.testing.assert_allclose(
                got[name].astype("f8"),
                value.astype("f8"),
                atol=6e-3 * size,
                err_msg=f"{name} on {device}",
            )


LEGAL = [case for case in CASES if not refusal(build(case).graph)]
REFUSED = [case for case in CASES if case not in LEGAL]


# Their operands or results are no floats, or the engine has nothing like them.
HOST_ALONE = {
    *("equal", "not_equal", "less", "less_equal", "greater", "greater_equal", "select"),
    *("gather", "scatter", "slice_update", "cache_update"),
    *("cross_entropy", "cross_entropy_gradient"),
}


def test_every_other_op_can_be_made_legal() -> None:
    legal = {case.op for case in LEGAL}
    assert {case.op for case in REFUSED} - legal == HOST_ALONE
    assert len(LEGAL) > len(REFUSED)


@pytest.mark.parametrize("case", REFUSED, ids=label)
def test_what_cannot_be_made_legal_is_refused_by_a_limit(case: Case) -> None:
    assert names_its_reason(refusal(build(case).graph))


def is_comparable(case: Case) -> bool:
    """Whether it has no NaN and no number beyond fp16, which each hardware treats its own way."""
    built = build(case)
    wanted = orion.compile(built.graph, device="cpu")(**built.inputs)["y_out"]
    return all(map(is_ordinary, [wanted, *built.inputs.values()]))


@pytest.mark.parametrize("case", [case for case in LEGAL if is_comparable(case)], ids=label)
def test_an_op_made_for_strict_runs_on_every_hardware(case: Case) -> None:
    built = build(case)
    check_everywhere(built.graph, built.inputs, {})


# -- segments -------------------------------------------------------------------------------------

GPT2 = {"model_type": "gpt2", "vocab_size": 64, "n_positions": 96, "n_embd": 48, "n_layer": 2}
GPT2["n_head"] = 3
LLAMA_LIKE = {"vocab_size": 64, "max_position_embeddings": 96, "hidden_size": 48}
LLAMA_LIKE |= {"intermediate_size": 80, "num_hidden_layers": 2}
LLAMA_LIKE |= {"num_attention_heads": 6, "num_key_value_heads": 2}
CONFIGS: dict[str, dict[str, Any]] = {
    "gpt2": GPT2,
    **{kind: {"model_type": kind, **LLAMA_LIKE} for kind in ("llama", "qwen2", "qwen3")},
}


@pytest.mark.parametrize("tokens", [5, 16, 32, 80])
@pytest.mark.parametrize("kind", ["attention", "feed_forward", "projection", "output", "head"])
@pytest.mark.parametrize("model", CONFIGS)
def test_a_segment_made_for_strict_runs_on_every_hardware(
    model: str, kind: str, tokens: int
) -> None:
    config = CONFIGS[model]
    graph = _core.segment_graph(config, kind, layer=int(kind != "head"), tokens=tokens)
    random = np.random.default_rng(tokens)
    weights = {
        name: random.normal("norm" in name or "ln_" in name, 0.2, value.shape).astype(np.float16)
        for name, value in graph.weights.items()
    }
    inputs = {
        name: random.normal(0, 1, value.shape).astype(np.float16)
        for name, value in graph.inputs.items()
    }
    check_everywhere(graph, inputs, weights)
