"""MIL text, with coremltools (Apple's definition of MIL) and a second reader as judges."""

from __future__ import annotations

import importlib
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mil_reader
import numpy as np
import orion_ane as orion
import pytest
import samples
from op_cases import CASES, Case
from orion_ane import _core

ops = orion.ops

ROWS = {row["name"]: row for row in _core.op_table()}


@dataclass(frozen=True)
class Sample:
    """A graph and values for its inputs and weights."""

    graph: orion.Graph
    values: dict[str, Any]


def sample_of(case: Case) -> Sample:
    graph = orion.Graph("row")
    names = [name for name, _ in ROWS[case.op]["args"]]
    operands: list[orion.Value | None] = []
    values = {}
    for i, (operand, array) in enumerate(zip(case.operands, case.arrays(), strict=True)):
        if operand is None or array is None:
            operands.append(None)
        elif operand.constant:
            operands.append(graph.constant(array))
        else:
            name = f"in_{names[min(i, len(names) - 1)]}_{i}"
            weight = case.op in ("conv", "layer_norm") and i > 0
            make = graph.weight if weight else graph.input
            operands.append(make(name, operand.shape, operand.dtype))
            values[name] = array
    graph.output("y", _core.call(case.op, operands, dict(case.attrs), "result"))
    return Sample(graph, values)


def random_sample(graph: orion.Graph) -> Sample:
    rng = np.random.default_rng(0)
    values = {}
    for name, value in (graph.inputs | graph.weights).items():
        whole = value.dtype == "int32"
        array = rng.integers(0, 5, value.shape) if whole else rng.uniform(-0.5, 0.5, value.shape)
        values[name] = np.asarray(array).astype(mil_reader.DTYPES[value.dtype])
    return Sample(graph, values)


def model_samples() -> dict[str, Sample]:
    """Whole models: a text at once, and a step of two sequences with caches."""
    qwen2 = samples.LLAMA | {"model_type": "qwen2"}
    qwen3 = samples.LLAMA | {"model_type": "qwen3", "tie_word_embeddings": True, "head_dim": 6}
    found: dict[str, Sample] = {}
    for config in (samples.LLAMA, samples.GPT2, qwen2, qwen3):
        for dtype in ("fp16", "fp32"):
            name = f"{config['model_type']} {dtype}"
            text = _core.model_graph(config, dtype=dtype, tokens=7)
            step = _core.model_graph(config, dtype=dtype, batch=2, tokens=2, cache=8, last=True)
            found |= {f"{name} text": random_sample(text), f"{name} step": random_sample(step)}
    return found


SAMPLES = {case.label: sample_of(case) for case in CASES} | model_samples()
every_sample = pytest.mark.parametrize("sample", SAMPLES.values(), ids=SAMPLES.keys())
every_graph = pytest.mark.parametrize(
    "graph", [sample.graph for sample in SAMPLES.values()], ids=SAMPLES.keys()
)


# -- text -----------------------------------------------------------------------------------------


@every_graph
def test_text_comes_back(graph: orion.Graph) -> None:
    text = orion.mil.emit(graph)
    parsed = orion.mil.parse(text)
    parsed.verify()
    assert orion.mil.emit(parsed) == text
    assert orion.mil.emit(orion.mil.lower(graph)) == text
    if not any(n.op == "const" and np.prod(n.shape) > 64 for n in orion.mil.lower(graph).nodes):
        assert orion.mil.diff(orion.mil.lower(graph), parsed) == []


@every_graph
def test_text_keeps_the_interface(graph: orion.Graph) -> None:
    program = mil_reader.read(orion.mil.emit(graph))
    assert program.function == graph.name
    for name, value in graph.inputs.items():
        assert program.inputs.pop(name) == mil_reader.Type(value.dtype, value.shape)
    assert program.inputs == {}
    wanted = [f"{name}_out" if name in graph.inputs else name for name in graph.outputs]
    assert program.outputs == wanted


@every_graph
def test_every_parameter_is_a_variable_of_its_own(graph: orion.Graph) -> None:
    program = mil_reader.read(orion.mil.emit(graph))
    defined = set(program.inputs)
    for statement in program.statements:
        assert statement.name not in defined
        assert statement.name.isidentifier()
        used = [v if isinstance(v, list) else [v] for v in statement.arguments.values()]
        assert defined.issuperset(name for names in used for name in names)
        defined.add(statement.name)
    assert defined.issuperset(program.outputs)


@every_sample
def test_lowered_graph_computes_the_same(sample: Sample) -> None:
    graph, lowered = sample.graph, orion.mil.lower(sample.graph)
    inputs = {name: sample.values[name] for name in graph.inputs}
    wanted = graph.evaluate(inputs, {name: sample.values[name] for name in graph.weights})
    actual = lowered.evaluate(inputs, {name: sample.values[name] for name in lowered.weights})
    tolerance = 5e-3 if "fp16" in {node.dtype for node in graph.nodes} else 1e-5
    for (name, array), result in zip(wanted.items(), actual.values(), strict=True):
        np.testing.assert_allclose(result, array, tolerance, tolerance, err_msg=name)


# -- coremltools ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def coremltools() -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pytest.importorskip("coremltools")
        return importlib.import_module("coremltools.converters.mil.mil")


def rebuilt(ct: Any, program: mil_reader.Program) -> dict[str, Any]:
    """The variables of the program, built statement by statement in coremltools."""
    placeholders = {
        name: ct.Builder.placeholder(type_.shape or (1,), getattr(ct.types, type_.dtype))
        for name, type_ in (program.inputs or {"unused": mil_reader.Type("fp32", (1,))}).items()
    }
    target = importlib.import_module("coremltools").target.iOS18
    with ct.Function(placeholders, opset_version=target) as function:
        variables: dict[str, Any] = dict(function.inputs)
        for name, type_ in program.inputs.items():
            if type_.shape == ():  # coremltools has no inputs of rank 0
                variables[name] = ct.Builder.squeeze(x=variables[name], axes=[0])
        for s in program.statements:
            if s.op == "const":
                variables[s.name] = ct.Builder.const(val=constant_value(s.value), name=s.name)
                continue
            arguments = {
                k: [variables[n] for n in v] if isinstance(v, list) else variables[v]
                for k, v in s.arguments.items()
            }
            variables[s.name] = getattr(ct.Builder, s.op)(**arguments, name=s.name)
    return variables


def constant_value(value: Any) -> Any:
    if isinstance(value, mil_reader.Blob):
        return np.zeros(value.type.shape, mil_reader.DTYPES[value.type.dtype])
    if isinstance(value, str):
        return value
    return value[()] if value.shape == () else value


@pytest.mark.filterwarnings("ignore")
@every_graph
def test_coremltools_infers_the_types_we_write(graph: orion.Graph, coremltools: Any) -> None:
    program = mil_reader.read(orion.mil.emit(graph))
    variables = rebuilt(coremltools, program)
    for statement in program.statements:
        if statement.type.dtype == "string":
            continue
        variable = variables[statement.name]
        shape = tuple(variable.shape)
        if (
            statement.op == "select"
        ):  # there, its inference forgets cond, its documentation does not
            shape = np.broadcast_shapes(shape, variables[str(statement.arguments["cond"])].shape)
        assert shape == statement.type.shape
        assert coremltools.types.builtin_to_string(variable.dtype) == statement.type.dtype


# -- what other tools write -----------------------------------------------------------------------

INLINE = """program(1.3)
{
    func main<ios18>(tensor<fp16, [1, 4, 1, 16]> h, tensor<fp16, [1, 1, 1, 16]> m) {
        tensor<fp16, [4, 4, 1, 1]> W = const()[name = string("W"), val = tensor<fp16, [4, 4, 1, 1]>(
            BLOBFILE(path = string("@model_path/weights/w.bin"), offset = uint64(64)))];
        tensor<fp16, [1, 4, 1, 16]> a = conv(x = h, weight = W,
            strides = tensor<int32, [2]>([1, 1]),
            pad_type = string("valid"), pad = tensor<int32, [4]>([0, 0, 0, 0]),
            dilations = tensor<int32, [2]>([1, 1]), groups = int32(1));
        tensor<fp16, [1, 4, 1, 16]> b = mul(x = a, y = fp16(0x1p-3));
        tensor<fp16, [1, 5, 1, 16]> c = concat(values = (b, m), axis = int32(1),
            interleave = bool(false));
        tensor<fp16, [1, 2, 1, 16]> y = slice_by_size(x = c,
            begin = tensor<int32, [4]>([0, -2, 0, 0]),
            size = tensor<int32, [4]>([1, 2, 1, 16]))[name = string("y")];
    } -> (y);
}"""


def test_inline_literals() -> None:
    graph = orion.mil.parse(INLINE)
    assert list(graph.inputs) == ["h", "m"]
    assert list(graph.weights) == ["W"]
    h, m = np.ones((1, 4, 1, 16), np.float16), np.full((1, 1, 1, 16), 3, np.float16)
    w = np.arange(16, dtype=np.float16).reshape(4, 4, 1, 1)
    y = graph.evaluate({"h": h, "m": m}, {"W": w})["y"]
    assert y[0, 0, 0, 0] == w[3].sum() / 8
    assert y[0, 1, 0, 0] == 3
    assert orion.mil.diff(INLINE, orion.mil.emit(graph)) == []


def test_errors_say_where() -> None:
    with pytest.raises(
        orion.Error, match=r"line 10, column 41: unknown op 'mull' \(nearest: mul\)"
    ):
        orion.mil.parse(INLINE.replace("= mul(", "= mull("))
    with pytest.raises(orion.Error, match="no function 'other', choose one of main"):
        orion.mil.parse(INLINE, "other")


def test_an_op_without_a_form_in_mil_is_named() -> None:
    g = orion.Graph()
    x = g.input("x", (3,))
    data = ops.slice_update(
        x,
        ops.reduce_sum(x),
        g.constant(np.array([1], np.int32)),
        g.constant(np.array([2], np.int32)),
        squeeze_mask=[True],
    )
    g.output("y", data)
    with pytest.raises(orion.Error, match="slice_update: node 'slice_update' has no form in MIL"):
        orion.mil.emit(g)


def test_diff_names_what_differs() -> None:
    a, b = orion.Graph(), orion.Graph()
    for graph, axis in ((a, 0), (b, 1)):
        graph.output("y", ops.softmax(graph.input("x", (2, 3)), axis))
    assert orion.mil.diff(a, b) == ["output y: softmax (softmax) has axis 0 against 1"]
    assert orion.mil.diff(a, orion.mil.emit(a)) == []


# -- a program on disk ----------------------------------------------------------------------------


def test_program_directory(tmp_path: Path) -> None:
    g = orion.Graph()
    table = np.arange(128, dtype=np.float32).reshape(2, 64)
    w, v = g.weight("a.w", (64, 3), "fp16"), g.weight("a.v", (3,), "fp32")
    x = ops.cast(ops.matmul(ops.cast(g.constant(table), "fp16"), w), "fp32")
    g.output("y", ops.add(x, v))
    w_value = np.linspace(-1, 1, 192, dtype=np.float32).reshape(64, 3)
    v_value = np.array([1, 2, 3], np.float32)
    orion.mil.write_program(g, {"a.w": w_value, "a.v": v_value}, tmp_path / "m")
    program = mil_reader.read((tmp_path / "m/model.mil").read_text())
    file = orion.weights.read(tmp_path / "m/weights/weight.bin")
    blobs = {s.label: s.value for s in program.statements if isinstance(s.value, mil_reader.Blob)}
    assert {b.path for b in blobs.values()} == {"@model_path/weights/weight.bin"}
    wanted: dict[str, Any] = {"a.w": w_value.astype(np.float16), "a.v": v_value, "const_0": table}
    assert blobs.keys() == wanted.keys()
    for name, array in wanted.items():
        np.testing.assert_array_equal(file[blobs[name].offset], array)
        assert file[blobs[name].offset].dtype == array.dtype
    entries = [(name, blob.offset) for name, blob in blobs.items()]
    assert [entry[:2] for entry in orion.mil.blob_entries(g)] == entries


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ({}, "weight 'w' is not given: fp16 [(]2,[)] is needed"),
        ({"w": np.zeros(3, np.float16)}, "weight 'w' is fp16 [(]3,[)], fp16 [(]2,[)] is needed"),
        ({"w": np.zeros(2, np.int32)}, "weight 'w' is int32"),
        (
            {"w": np.array([0, 1e6], np.float32)},
            "weight 'w': element 1 is 1e[+]06, beyond fp16's range",
        ),
    ],
)
def test_weights_that_do_not_fit(tmp_path: Path, weights: dict[str, Any], message: str) -> None:
    g = orion.Graph()
    g.output("y", ops.relu(g.weight("w", (2,), "fp16")))
    with pytest.raises(orion.Error, match=message):
        orion.mil.write_program(g, weights, tmp_path)
    assert list(tmp_path.rglob("*.*")) == []
