"""Building graphs and running programs from Python."""

import inspect
import threading

import numpy as np
import orion_ane as orion
import pytest
from orion_ane import ops


def conv_graph() -> orion.Graph:
    g = orion.Graph("f")
    x = g.input("x", (1, 64, 1, 32), "fp16")
    w = g.weight("w", (128, 64, 1, 1), "fp16")
    g.output("y", ops.relu(ops.conv(x, w)))
    return g


def random(shape: tuple[int, ...], seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def test_compile_run_update() -> None:
    w, x = random((128, 64, 1, 1)), random((1, 64, 1, 32), 1)
    p = orion.compile(conv_graph(), {"w": w}, device="cpu")
    assert p.device == "cpu"
    assert p.inputs == {"x": ("fp16", (1, 64, 1, 32))}
    assert p.outputs == {"y": ("fp16", (1, 128, 1, 32))}
    for weight in (w, -w):
        p.update({"w": weight})
        w16 = weight.astype(np.float16).astype(np.float32)
        x16 = x.astype(np.float16).astype(np.float32)
        expected = np.maximum(w16[:, :, 0, 0] @ x16[0, :, 0], 0)
        y = p(x=x)["y"]
        assert y.dtype == np.float16
        np.testing.assert_allclose(y[0, :, 0].astype(np.float32), expected, atol=2e-2, rtol=1e-3)


def test_results_of_earlier_calls_stay() -> None:
    g = orion.Graph()
    g.output("y", g.input("x", (2,)) * 2.0)
    p = orion.compile(g)
    first = p(x=np.ones(2))["y"]
    p(x=np.zeros(2))
    np.testing.assert_array_equal(first, [2, 2])


def test_views_are_the_programs_memory() -> None:
    g = orion.Graph()
    g.output("y", g.input("x", (3,)) + 1.0)
    p = orion.compile(g)
    x, y = p.input("x"), p.output("y")
    x[:] = [1, 2, 3]
    p.run()
    np.testing.assert_array_equal(y, [2, 3, 4])
    x[0] = 5
    p.run()
    assert y[0] == 6
    assert p.output("y").ctypes.data == y.ctypes.data
    del p
    assert y[0] == 6  # the view keeps the memory


def test_a_state_is_returned_and_the_argument_is_not_written() -> None:
    g = orion.Graph()
    cache = g.input("cache", (1, 1, 4, 2))
    new = ops.cache_update(cache, g.input("row", (1, 1, 1, 2)), g.input("at", (1,), "int32"))
    g.output("cache", new)
    p = orion.compile(g)
    given = np.zeros((1, 1, 4, 2), np.float32)
    out = p(cache=given, row=np.ones((1, 1, 1, 2)), at=np.array([2]))["cache"]
    assert out[0, 0, 2].tolist() == [1, 1]
    assert not given.any()


def test_operators_and_numbers() -> None:
    g = orion.Graph()
    x = g.input("x", (2, 2))
    g.output("y", (1.0 - x) * 2 / (x + 3) ** 2 - -x)
    g.output("z", np.eye(2, dtype=np.float32) @ x)
    a = random((2, 2))
    out = orion.compile(g)(x=a)
    np.testing.assert_allclose(out["y"], (1 - a) * 2 / (a + 3) ** 2 + a, rtol=1e-5)
    np.testing.assert_allclose(out["z"], a, rtol=1e-6)


def test_values_can_be_looked_at() -> None:
    g = orion.Graph("f")
    x = g.input("x", (2, 3), "fp16")
    y = ops.softmax(x, axis=-1, name="weights")
    assert (y.name, y.op, y.shape, y.dtype) == ("weights", "softmax", (2, 3), "fp16")
    assert y.attrs == {"axis": 1}
    assert y.operands == [x]
    assert g.inputs == {"x": x}
    assert repr(y) == "<Value weights: fp16 (2, 3)>"
    assert "softmax(x=%0, axis=1)" in str(g)
    constant = g.constant(np.arange(3, dtype=np.int32))
    np.testing.assert_array_equal(constant.value, [0, 1, 2])
    with pytest.raises(ValueError, match="read-only"):
        constant.value[0] = 1


def test_functions_carry_the_tables_signature_and_doc() -> None:
    assert str(inspect.signature(ops.softmax)) == "(x, axis=-1, *, name='')"
    layer_norm = str(inspect.signature(ops.layer_norm))
    assert layer_norm.startswith("(x, axes, gamma=None, beta=None, epsilon=")
    assert ops.relu.__doc__ == "max(x, 0)."
    assert set(ops.__all__) >= {"conv", "matmul", "rope", "cross_entropy", "split"}


def test_split() -> None:
    g = orion.Graph()
    x = g.input("x", (2, 6))
    for i, part in enumerate(ops.split(x, num_splits=3, axis=-1)):
        g.output(f"y{i}", part)
    for i, part in enumerate(ops.split(x, split_sizes=[5, 1], axis=1)):
        g.output(f"z{i}", part)
    a = random((2, 6))
    out = orion.compile(g)(x=a)
    np.testing.assert_array_equal(out["y1"], a[:, 2:4])
    np.testing.assert_array_equal(out["z1"], a[:, 5:])
    with pytest.raises(orion.Error, match="split: either num_splits or split_sizes"):
        ops.split(x)


def test_gradient_through_a_composite() -> None:
    g = orion.Graph()
    x = g.input("x", (4,))
    (dx,) = g.gradient(ops.reduce_sum(ops.square(x)), [x])
    g.output("dx", dx)
    np.testing.assert_allclose(orion.compile(g)(x=np.arange(4.0))["dx"], [0, 2, 4, 6])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "input 'x' is not given: fp32 \\(2,\\) is needed"),
        ({"x": np.ones(3)}, "input 'x': the array has shape \\(3,\\), \\(2,\\) is needed"),
        ({"x": np.ones(2), "z": np.ones(2)}, "no input 'z': the program has x"),
        ({"x": np.array(["a", "b"])}, "input 'x': the array is <U1, fp32 is needed"),
        ({"x": np.array([1e300, 1])}, "input 'x': values beyond fp32's range"),
        ({"x": np.array([1, 2])}, "input 'x': the array is int64, fp32 is needed"),
    ],
)
def test_wrong_calls(arguments: dict[str, np.ndarray], message: str) -> None:
    g = orion.Graph()
    g.output("y", g.input("x", (2,)) + 1.0)
    p = orion.compile(g)
    with pytest.raises(orion.Error, match=message):
        p(**arguments)


def test_integers_that_do_not_fit_are_refused() -> None:
    g = orion.Graph()
    g.output("y", g.input("x", (1,), "int32") + 1)
    p = orion.compile(g)
    assert p(x=np.array([7], np.int64))["y"] == [8]
    with pytest.raises(orion.Error, match="int64 values beyond int32"):
        p(x=np.array([1 << 40]))


def test_wrong_updates_change_nothing() -> None:
    w = random((128, 64, 1, 1))
    p = orion.compile(conv_graph(), {"w": w})
    before = p.weight("w")
    for change, message in [
        ({"v": w}, "no weight 'v': the program has w"),
        ({"w": w[:1]}, "weight 'w': the array has shape"),
        ({"w": np.full_like(w, 1e6)}, "weight 'w': values beyond fp16's range"),
    ]:
        with pytest.raises(orion.Error, match=message):
            p.update(change)
    np.testing.assert_array_equal(p.weight("w"), before)


def test_errors_are_value_errors() -> None:
    with pytest.raises(ValueError, match="unknown device 'tpu'"):
        orion.compile(conv_graph(), {}, device="tpu")
    assert issubclass(orion.DeviceError, orion.Error)


def test_one_program_serves_threads_in_turn() -> None:
    g = orion.Graph()
    x = g.input("x", (64, 64))
    g.output("y", ops.matmul(x, g.weight("w", (64, 64))))
    w = random((64, 64))
    p = orion.compile(g, {"w": w})
    failures: list[int] = []

    def work(seed: int) -> None:
        a = random((64, 64), seed)
        for _ in range(50):
            if not np.allclose(p(x=a)["y"], a @ w, atol=1e-3):
                failures.append(seed)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert not failures


def test_plan_can_be_read() -> None:
    plan = orion.compile(conv_graph(), {"w": random((128, 64, 1, 1))}).describe()
    assert "conv relu +activation" in plan
    assert "arena" in plan
