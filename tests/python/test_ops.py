"""Every row of op_cases.CASES against NumPy, coremltools and PyTorch: values, types, gradients.

The C++ kernels must agree with float64 NumPy, the gradient rules with its central differences, the
expansions with the kernels, the CPU device with all of them.
"""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import orion_ane as orion
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from op_cases import (
    BAD_CASES,
    BAD_RUNS,
    CASES,
    NUMPY_DTYPES,
    BadCase,
    BadRun,
    Case,
    Operand,
    exactly,
    f32,
    indices,
)
from op_reference import REFERENCE, reference
from orion_ane import _core

Array = npt.NDArray[Any]

TABLE = {row["name"]: row for row in _core.op_table()}


def label(case: Case | BadCase | BadRun) -> str:
    return (
        case.label if isinstance(case, Case) else f"{case.op}: {case.message[len(case.op) + 2 :]}"
    )


every_case = pytest.mark.parametrize("case", CASES, ids=label)


def names(op: str, operands: Sequence[Any]) -> list[str]:
    args = [name for name, _ in TABLE[op]["args"]]
    if TABLE[op]["args"][-1][1] == "variadic":
        return [f"{args[0]}{i}" for i in range(len(operands))]
    return args[: len(operands)]


class Built:
    """One op of the table in a graph of its own: its operands are inputs or constants."""

    def __init__(self, case: Case | BadCase | BadRun, arrays: Sequence[Array | None]) -> None:
        self.graph = orion.Graph("row")
        self.inputs: dict[str, Array] = {}
        self.operands: list[orion.Value | None] = []
        for name, operand, array in zip(names(case.op, arrays), case.operands, arrays, strict=True):
            self.operands.append(self._operand(name, operand, array))
        self.result = _core.call(case.op, self.operands, dict(case.attrs), "y")
        self.graph.output("y_out", self.result)

    def _operand(
        self, name: str, operand: Operand | None, array: Array | None
    ) -> orion.Value | None:
        if operand is None or array is None:
            return None
        if operand.constant:
            return self.graph.constant(array)
        self.inputs[name] = array
        return self.graph.input(name, operand.shape, operand.dtype)


def build(case: Case) -> Built:
    return Built(case, case.arrays())


def exact(case: Case, arrays: Sequence[Array | None]) -> Array:
    """The reference on operands widened to float64."""
    wide = [a.astype(np.float64) if a is not None and a.dtype.kind == "f" else a for a in arrays]
    return reference(case.op, wide, dict(case.attrs))


def tolerance(case: Case, built: Built) -> float:
    """fp16 results are rounded once, or at every step where an op is expanded."""
    return 1e-3 if case.half or built.result.dtype == "fp16" else case.tolerance


def assert_close(actual: Array, wanted: Array, relative: float) -> None:
    """Element by element, relative to the larger of the element and 1; NaN and inf must agree."""
    assert actual.shape == wanted.shape
    if actual.dtype.kind != "f":
        np.testing.assert_array_equal(actual, wanted)
        return
    np.testing.assert_allclose(
        actual.astype(np.float64), wanted.astype(np.float64), rtol=relative, atol=relative
    )


def as_result(built: Built, wanted: Array) -> Array:
    """A float64 reference in the range of the result: what fp16 cannot hold is infinite."""
    with np.errstate(over="ignore"):
        return wanted.astype(NUMPY_DTYPES[built.result.dtype])


# -- the table ------------------------------------------------------------------------------------


@pytest.mark.parametrize("op", sorted(TABLE))
def test_every_op_has_rows(op: str) -> None:
    assert Counter(case.op for case in CASES)[op] >= 4
    assert op in REFERENCE
    assert any(bad.op == op for bad in BAD_CASES)


def test_labels_are_unique() -> None:
    repeated = [name for name, count in Counter(map(label, CASES)).items() if count > 1]
    assert repeated == []


# -- values ---------------------------------------------------------------------------------------


@every_case
def test_kernel(case: Case) -> None:
    built = build(case)
    wanted = as_result(built, exact(case, case.arrays()))
    actual = built.graph.evaluate(built.inputs)["y_out"]
    assert actual.dtype == NUMPY_DTYPES[built.result.dtype]
    assert built.result.shape == wanted.shape
    assert_close(actual, wanted, tolerance(case, built))


@every_case
def test_cpu_device(case: Case) -> None:
    built = build(case)
    wanted = built.graph.evaluate(built.inputs)["y_out"]
    program = orion.compile(built.graph, {}, device="cpu")
    assert_close(program(**built.inputs)["y_out"], wanted, 4 * tolerance(case, built))


@pytest.mark.parametrize("case", [c for c in CASES if TABLE[c.op]["has_expand"]], ids=label)
def test_expansion(case: Case) -> None:
    built = build(case)
    simpler = built.graph.expand([case.op])
    simpler.verify()
    assert case.op not in {node.op for node in simpler.nodes}
    wanted = built.graph.evaluate(built.inputs)["y_out"]
    actual = simpler.evaluate(built.inputs)["y_out"]
    assert_close(actual, wanted, 4 * tolerance(case, built))


@pytest.mark.parametrize("case", BAD_RUNS, ids=label)
def test_bad_values(case: BadRun) -> None:
    rng = np.random.default_rng(0)
    built = Built(case, [None if o is None else o.array(rng) for o in case.operands])
    with pytest.raises(orion.Error) as error:
        built.graph.evaluate(built.inputs)
    assert str(error.value).startswith(case.message)


@pytest.mark.parametrize("case", BAD_RUNS, ids=label)
def test_bad_values_on_cpu_device(case: BadRun) -> None:
    rng = np.random.default_rng(0)
    built = Built(case, [None if o is None else o.array(rng) for o in case.operands])
    program = orion.compile(built.graph, {}, device="cpu")
    with pytest.raises(orion.Error, match=f"^{case.op}: "):
        program(**built.inputs)


bounds = st.integers(-9, 9)
axes = st.tuples(st.integers(1, 5), bounds, bounds, bounds.filter(bool), *[st.booleans()] * 3)


@given(st.lists(axes, min_size=1, max_size=4))
@settings(max_examples=200, deadline=None, derandomize=True, database=None)
def test_slices_are_those_of_numpy(axes: list[tuple[int, ...]]) -> None:
    shape, begin, end, stride, begin_mask, end_mask, squeeze_mask = map(
        list, zip(*axes, strict=True)
    )
    x = np.arange(np.prod(shape), dtype=np.int32).reshape(shape)
    attrs = {"begin": begin, "end": end, "stride": stride}
    attrs |= {"begin_mask": begin_mask, "end_mask": end_mask, "squeeze_mask": squeeze_mask}
    graph = orion.Graph("row")
    try:
        wanted = reference("slice_by_index", [x], attrs)
    except IndexError:
        wanted = np.zeros(0)
    value = graph.input("x", tuple(shape), "int32")
    if wanted.size == 0:
        with pytest.raises(orion.Error, match=r"is empty|is outside axis"):
            _core.call("slice_by_index", [value], attrs, "")
        return
    graph.output("y", _core.call("slice_by_index", [value], attrs, ""))
    np.testing.assert_array_equal(graph.evaluate({"x": x})["y"], wanted)


# -- types ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", BAD_CASES, ids=label)
def test_bad_types(case: BadCase) -> None:
    rng = np.random.default_rng(0)
    with pytest.raises(orion.Error) as error:
        Built(case, [None if o is None else o.array(rng) for o in case.operands])
    assert str(error.value).startswith(case.message)


@every_case
def test_attributes_are_canonical(case: Case) -> None:
    """Building a node again from its own attributes changes nothing."""
    built = build(case)
    built.graph.verify()
    again = _core.call(case.op, built.operands, built.result.attrs, "again")
    assert again.attrs == built.result.attrs
    assert (again.dtype, again.shape) == (built.result.dtype, built.result.shape)


# -- coremltools ----------------------------------------------------------------------------------

OURS_ALONE = {"neg", "broadcast_to", "rms_norm", "rope", "cache_update", "cross_entropy"}
OURS_ALONE |= {op for op in TABLE if op.endswith("_gradient")}
OUR_ATTRIBUTES = {"scaled_dot_product_attention": {"causal", "scale"}}


@pytest.fixture(scope="module")
def coremltools() -> Any:
    """Apple's own definition of MIL, with type and value inference."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pytest.importorskip("coremltools")


def mil_attribute(value: Any, case: Case) -> Any:
    if isinstance(value, float):
        return np.float16(value) if case.half else np.float32(value)
    if isinstance(value, list):
        flags = any(isinstance(v, bool) for v in value)
        return np.array(value, np.bool_ if flags else np.int32)
    return value


def mil_arguments(case: Case, attrs: dict[str, Any], operands: Sequence[Any]) -> dict[str, Any]:
    args = [name for name, _ in TABLE[case.op]["args"]]
    variadic = TABLE[case.op]["args"][-1][1] == "variadic"
    given = {args[0]: list(operands)} if variadic else dict(zip(args, operands, strict=True))
    ours = OUR_ATTRIBUTES.get(case.op, set())
    named = {k: mil_attribute(v, case) for k, v in attrs.items() if k not in ours}
    return {k: v for k, v in (given | named).items() if v is not None}


def mil_result(ct: Any, case: Case, arrays: Sequence[Array | None], attrs: dict[str, Any]) -> Any:
    """The variable that coremltools infers for the op on constants."""
    mil = ct.converters.mil.mil
    unused = {"unused": mil.Builder.placeholder(shape=(1,))}
    with mil.Function(unused, opset_version=ct.target.iOS18):
        operands = [None if a is None else mil.Builder.const(val=a) for a in arrays]
        return getattr(mil.Builder, case.op)(**mil_arguments(case, attrs, operands))


def dtype_name(ct: Any, dtype: Any) -> str:
    return str(ct.converters.mil.mil.types.builtin_to_string(dtype))


@pytest.mark.parametrize("op", sorted(TABLE))
def test_which_ops_mil_has(op: str, coremltools: Any) -> None:
    assert hasattr(coremltools.converters.mil.mil.Builder, op) == (op not in OURS_ALONE)


COMPARED = [case for case in CASES if not case.mil and case.op not in OURS_ALONE]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("case", COMPARED, ids=label)
def test_coremltools(case: Case, coremltools: Any) -> None:
    """Our canonical attributes mean the same there: inferred type and, where it has one, value."""
    built = build(case)
    result = mil_result(coremltools, case, case.arrays(), built.result.attrs)
    assert tuple(result.shape) == built.result.shape
    assert (
        coremltools.converters.mil.mil.types.builtin_to_string(result.dtype) == built.result.dtype
    )
    if result.val is None:
        assert case.op in {"conv", "scatter", "silu"}
        return
    actual = built.graph.evaluate(built.inputs)["y_out"]
    assert_close(actual, np.asarray(result.val), 4 * tolerance(case, built))


# -- gradients ------------------------------------------------------------------------------------


def differentiable(case: Case) -> bool:
    row = TABLE[case.op]
    floats = [o for o in case.operands if o is not None and o.dtype == "fp32" and not o.constant]
    if case.kink or case.half or not floats or not (row["has_gradient"] or row["has_expand"]):
        return False
    return bool(build(case).result.dtype == "fp32")


SMOOTH = [case for case in CASES if differentiable(case)]


def float_inputs(built: Built) -> list[str]:
    return [name for name, array in built.inputs.items() if array.dtype == np.float32]


def gradient_graph(built: Built, weights: Array, graph: orion.Graph) -> orion.Graph:
    """Adds outputs d_NAME: the gradient of sum(weights * y) by each float input."""
    weighted = orion.ops.mul(graph.outputs["y_out"], graph.constant(weights))
    wrt = [graph.inputs[name] for name in float_inputs(built)]
    gradients = graph.gradient(orion.ops.reduce_sum(weighted), wrt)
    for name, dx in zip(float_inputs(built), gradients, strict=True):
        graph.output(f"d_{name}", dx)
    return graph


def central_differences(
    case: Case, arrays: Sequence[Array | None], which: int, weights: Array
) -> Array:
    """d sum(weights * y) / d operand, element by element, in float64."""
    step = 1e-5
    wide = [a.astype(np.float64) if a is not None and a.dtype == np.float32 else a for a in arrays]
    x = wide[which]
    assert x is not None
    slope = np.zeros(x.shape)
    for at in np.ndindex(x.shape):
        ends = []
        for sign in (1, -1):
            moved = [None if a is None else a.copy() for a in wide]
            target = moved[which]
            assert target is not None
            target[at] += sign * step
            ends.append(np.sum(weights * reference(case.op, moved, dict(case.attrs))))
        slope[at] = (ends[0] - ends[1]) / (2 * step)
    return slope


def assert_gradients(case: Case, built: Built, graph: orion.Graph, weights: Array) -> None:
    results = gradient_graph(built, weights, graph).evaluate(built.inputs)
    by_name = names(case.op, case.operands)
    for name in float_inputs(built):
        wanted = central_differences(case, case.arrays(), by_name.index(name), weights)
        scale = max(float(np.linalg.norm(wanted)), 1e-3)
        assert np.linalg.norm(results[f"d_{name}"] - wanted) <= 20 * case.tolerance * scale, name


def loss_weights(built: Built) -> Array:
    random = np.random.default_rng(1).uniform(0.5, 1.5, built.result.shape)
    return np.asarray(random, np.float32)


@pytest.mark.parametrize("case", SMOOTH, ids=label)
def test_gradient(case: Case) -> None:
    built = build(case)
    given = TABLE[case.op]["has_gradient"]
    graph = built.graph if given else built.graph.expand([case.op])
    assert_gradients(case, built, graph, loss_weights(built))


# The expansion of cache_update writes slices whose bounds are known at run time only.
EXPANDED = [c for c in SMOOTH if TABLE[c.op]["has_expand"] and c.op != "cache_update"]


@pytest.mark.parametrize("case", EXPANDED, ids=label)
def test_gradient_of_expansion(case: Case) -> None:
    built = build(case)
    assert_gradients(case, built, built.graph.expand([case.op]), loss_weights(built))


@pytest.mark.parametrize("case", SMOOTH, ids=label)
def test_gradient_on_cpu_device(case: Case) -> None:
    built = build(case)
    expanded = built.graph.expand([case.op]) if not TABLE[case.op]["has_gradient"] else built.graph
    graph = gradient_graph(built, loss_weights(built), expanded)
    wanted = graph.evaluate(built.inputs)
    actual = orion.compile(graph, {}, device="cpu")(**built.inputs)
    for name, array in wanted.items():
        assert_close(actual[name], array, 20 * case.tolerance)


# Flags have no slope, and a row of `cast` none that float64 could show.
WITHOUT_SLOPE = {"equal", "not_equal", "greater", "greater_equal", "less", "less_equal", "cast"}


def test_every_op_that_has_a_gradient_has_rows_for_it() -> None:
    checked = {case.op for case in SMOOTH}
    wanted = {op for op, row in TABLE.items() if row["has_gradient"] or row["has_expand"]}
    assert wanted - checked == WITHOUT_SLOPE
    both = {op for op, row in TABLE.items() if row["has_gradient"] and row["has_expand"]}
    assert both - {case.op for case in EXPANDED} == {"cache_update"}


def test_gradient_of_cast_is_rounded_as_its_result_is() -> None:
    graph = orion.Graph("row")
    x = graph.input("x", (3,), "fp32")
    scale = graph.constant(np.array([1.0, 1 / 3, 2.0**-20], np.float16))
    y = orion.ops.reduce_sum(orion.ops.mul(orion.ops.cast(x, dtype="fp16"), scale))
    graph.output("d_x", graph.gradient(y, [x])[0])
    actual = graph.evaluate({"x": np.ones(3, np.float32)})["d_x"]
    assert actual.dtype == np.float32
    np.testing.assert_array_equal(actual, np.array([1.0, 1 / 3, 2.0**-20], np.float16))


REFUSED = [
    (
        Case("scatter", [f32(3), indices([0]), f32(1)], {"mode": "mul"}),
        "scatter: mode 'mul' is not differentiable; add, sub and update are",
    ),
    (
        Case("slice_update", [f32(3), f32(1), indices([0]), indices([1])]),
        "slice_update: y is not differentiable, its begin and end are not constant",
    ),
]


@pytest.mark.parametrize(("case", "message"), REFUSED, ids=lambda v: getattr(v, "label", ""))
def test_refused_gradient(case: Case, message: str) -> None:
    built = build(case)
    with pytest.raises(orion.Error) as error:
        gradient_graph(built, loss_weights(built), built.graph)
    assert str(error.value) == message


# -- PyTorch --------------------------------------------------------------------------------------

TIED = exactly("fp32", [[1.0, 3.0, 3.0], [0.0, 0.0, 0.0]])
QKV = [f32(2, 4, 5, 8), f32(2, 4, 5, 8), f32(2, 4, 5, 6)]

# A row and the same in PyTorch; ties and corners, where conventions differ, are the point.
TORCH_ROWS: list[tuple[Case, Callable[..., Any]]] = [
    (Case("relu", [exactly("fp32", [-1.0, 0.0, 2.0])]), lambda t, x: t.relu(x)),
    (Case("abs", [exactly("fp32", [-1.0, 0.0, 2.0])]), lambda t, x: t.abs(x)),
    (
        Case("maximum", [TIED, exactly("fp32", [1.0, 2.0, 3.0])]),
        lambda t, x, y: t.maximum(x, y),
    ),
    (
        Case("minimum", [TIED, exactly("fp32", [1.0, 2.0, 3.0])]),
        lambda t, x, y: t.minimum(x, y),
    ),
    (Case("reduce_max", [TIED], {"axes": [1]}), lambda t, x: t.amax(x, 1)),
    (Case("softmax", [f32(3, 7, low=-9, high=9)], {"axis": 0}), lambda t, x: t.softmax(x, 0)),
    (Case("matmul", [f32(3, 1, 4, 5), f32(2, 5, 6)]), lambda t, x, y: t.matmul(x, y)),
    (
        Case(
            "conv",
            [f32(2, 4, 9, 8), f32(6, 2, 3, 2), f32(6)],
            {"strides": [2, 1], "pad_type": "custom", "pad": [1, 1, 2, 2], "groups": 2},
        ),
        lambda t, x, w, b: t.conv2d(x, w, b, stride=(2, 1), padding=(1, 2), groups=2),
    ),
    (Case("silu", [f32(50, low=-30, high=30)]), lambda t, x: t.nn.functional.silu(x)),
    (Case("gelu", [f32(50, low=-12, high=12)]), lambda t, x: t.nn.functional.gelu(x)),
    (
        Case("gelu", [f32(50, low=-12, high=12)], {"mode": "TANH_APPROXIMATION"}),
        lambda t, x: t.nn.functional.gelu(x, approximate="tanh"),
    ),
    (
        Case("layer_norm", [f32(3, 4, 5), f32(4, 5), f32(4, 5)], {"axes": [1, 2]}),
        lambda t, x, g, b: t.layer_norm(x, (4, 5), g, b),
    ),
    (
        Case("rms_norm", [f32(3, 4, 5), f32(5)], {"axes": [-1]}),
        lambda t, x, g: t.nn.functional.rms_norm(x, (5,), g, 1e-5),
    ),
    (
        Case("scaled_dot_product_attention", [*QKV, None, None], {"causal": True}),
        lambda t, q, k, v: t.nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True),
    ),
    (
        Case("cross_entropy", [f32(4, 9), indices([8, -100, 0, 3])]),
        lambda t, x, y: t.nn.functional.cross_entropy(x, y.long(), reduction="none"),
    ),
]


@pytest.fixture(scope="module")
def torch() -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pytest.importorskip("torch")


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("case", "function"), TORCH_ROWS, ids=lambda v: getattr(v, "label", ""))
def test_torch(case: Case, function: Callable[..., Any], torch: Any) -> None:
    built = build(case)
    weights = loss_weights(built)
    graph = built.graph if TABLE[case.op]["has_gradient"] else built.graph.expand([case.op])
    actual = gradient_graph(built, weights, graph).evaluate(built.inputs)
    tensors = {name: torch.tensor(array) for name, array in built.inputs.items()}
    for name in float_inputs(built):
        tensors[name].requires_grad_()
    result = function(torch, *tensors.values())
    (result * torch.tensor(weights)).sum().backward()
    assert_close(actual["y_out"], result.detach().numpy(), 1e-4)
    for name in float_inputs(built):
        assert_close(actual[f"d_{name}"], tensors[name].grad.numpy(), 1e-4)
