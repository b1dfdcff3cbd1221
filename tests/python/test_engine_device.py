"""Programs on the engine, simulated: every profile, weight updates, and nothing left behind."""

from __future__ import annotations

from typing import Any

import numpy as np
import orion_ane as orion
import pytest
from numpy.typing import NDArray
from orion_ane import _core, ops

Array = NDArray[Any]

PROFILES = ["paper-m4-macos15", "macos26", "macos27", "strict"]
CHANNELS = 384
COLUMNS = 64


@pytest.fixture(autouse=True)
def _fresh_engines() -> None:
    for profile in PROFILES:
        _core.simulator_restart(profile)


def values(shape: tuple[int, ...], seed: int = 0) -> Array:
    return (np.random.default_rng(seed).standard_normal(shape) * 0.1).astype(np.float16)


def layers(count: int) -> tuple[orion.Graph, dict[str, Array]]:
    """A chain of 1x1 convolutions and activations with `count` weights."""
    g = orion.Graph("chain")
    x = g.input("x", (1, CHANNELS, 1, COLUMNS), "fp16")
    weights = {}
    for i in range(count):
        weights[f"layer.{i}.weight"] = values((CHANNELS, CHANNELS, 1, 1), i)
        w = g.weight(f"layer.{i}.weight", (CHANNELS, CHANNELS, 1, 1), "fp16")
        x = ops.tanh(ops.conv(x, w))
    g.output("y", x)
    return g, weights


def x_values() -> Array:
    return values((1, CHANNELS, 1, COLUMNS), 99)


@pytest.mark.parametrize("profile", PROFILES)
def test_results_are_those_of_the_cpu(profile: str) -> None:
    graph, weights = layers(3)
    x = x_values()
    expected = orion.compile(graph, weights, device="cpu")(x=x)["y"]
    program = orion.compile(graph, weights, device=f"sim:{profile}")
    assert program.device == f"sim:{profile}"
    actual = program(x=x)["y"]
    np.testing.assert_allclose(actual.astype("f4"), expected.astype("f4"), atol=5e-3)


@pytest.mark.parametrize("profile", PROFILES)
def test_ports_are_bound_by_name_whatever_their_order(profile: str) -> None:
    g = orion.Graph("names")
    ports = {name: g.input(name, (1, CHANNELS, 1, COLUMNS), "fp16") for name in ("z", "a", "m")}
    g.output("second", ports["z"] - ports["a"])
    g.output("first", ports["m"] * 2.0)
    arrays = {name: values((1, CHANNELS, 1, COLUMNS), i) for i, name in enumerate(ports)}
    out = orion.compile(g, device=f"sim:{profile}")(**arrays)
    np.testing.assert_allclose(out["second"], arrays["z"] - arrays["a"], atol=2e-3)
    np.testing.assert_allclose(out["first"], arrays["m"] * 2, atol=2e-3)


@pytest.mark.parametrize("profile", PROFILES)
def test_self_test_finds_out_whether_delta_works(profile: str) -> None:
    verdicts = {v["strategy"]: v for v in _core.update_verdicts(f"sim:{profile}")}
    assert set(verdicts) == {"delta", "new_identity", "input", "recompile"}
    assert verdicts["delta"]["eligible"] == (profile == "paper-m4-macos15")
    if not verdicts["delta"]["eligible"]:
        assert verdicts["delta"]["reason"] != ""
    assert verdicts["recompile"]["eligible"]
    assert verdicts["new_identity"]["eligible"]


@pytest.mark.parametrize("profile", PROFILES)
@pytest.mark.parametrize("count", [1, 6, 16])
@pytest.mark.parametrize("update", ["auto", "delta", "new_identity", "input", "recompile"])
def test_an_update_equals_a_fresh_compile(profile: str, count: int, update: str) -> None:
    graph, weights = layers(count)
    device = f"sim:{profile},update={update}"
    x = x_values()
    program = orion.compile(graph, weights, device=device)
    before = program(x=x)["y"]
    changed = {name: values(w.shape, 1000 + i) for i, (name, w) in enumerate(weights.items())}
    verdicts = {v["strategy"]: v["eligible"] for v in _core.update_verdicts(device)}
    if not verdicts.get(update, True):
        with pytest.raises(orion.DeviceError, match=f"update: {update} does not work here"):
            program.update(changed)
        np.testing.assert_array_equal(program(x=x)["y"], before)
        return
    program.update(changed)
    after = program(x=x)["y"]
    fresh = orion.compile(graph, changed, device=device)(x=x)["y"]
    np.testing.assert_array_equal(after, fresh)
    assert not np.array_equal(after, before)


@pytest.mark.parametrize("update", ["delta", "new_identity", "input"])
def test_a_hundred_updates_leave_nothing_behind(update: str) -> None:
    profile = "paper-m4-macos15"
    device = f"sim:{profile},update={update}"
    graph, weights = layers(2)
    program = orion.compile(graph, weights, device=device)
    x = x_values()
    program.update({"layer.1.weight": values((CHANNELS, CHANNELS, 1, 1), 100)})
    settled = _core.simulator_counters(profile)
    for i in range(100):
        program.update({"layer.1.weight": values((CHANNELS, CHANNELS, 1, 1), i)})
    now = _core.simulator_counters(profile)
    for what in ("loaded", "models", "surfaces", "directories", "compiles"):
        assert now[what] == settled[what], what
    last = values((CHANNELS, CHANNELS, 1, 1), 99)
    fresh = orion.compile(graph, weights | {"layer.1.weight": last}, device=device)
    np.testing.assert_array_equal(program(x=x)["y"], fresh(x=x)["y"])


def test_equal_programs_are_compiled_once() -> None:
    graph, weights = layers(1)
    before = _core.engine_usage("sim:strict")
    programs = [orion.compile(graph, weights, device="sim:strict") for _ in range(3)]
    after = _core.engine_usage("sim:strict")
    assert after["compiles"] - before["compiles"] == 1
    x = x_values()
    first = programs[0](x=x)["y"]
    del programs[0]
    np.testing.assert_array_equal(programs[0](x=x)["y"], first)


def test_changing_one_program_leaves_its_equal_alone() -> None:
    graph, weights = layers(1)
    device = "sim:paper-m4-macos15,update=delta"
    one, other = (orion.compile(graph, weights, device=device) for _ in range(2))
    x = x_values()
    before = other(x=x)["y"]
    one.update({"layer.0.weight": values((CHANNELS, CHANNELS, 1, 1), 7)})
    np.testing.assert_array_equal(other(x=x)["y"], before)
    assert not np.array_equal(one(x=x)["y"], before)


def test_wrong_device_names_say_what_is_known() -> None:
    graph, weights = layers(1)
    for device, message in [
        ("sim:macos99", "macos99"),
        ("sim:strict,update=magic", "unknown update strategy 'magic'"),
        ("sim:strict,speed=9", "no option 'speed'"),
        ("tpu", "unknown device 'tpu'"),
    ]:
        with pytest.raises(orion.Error, match=message):
            orion.compile(graph, weights, device=device)
