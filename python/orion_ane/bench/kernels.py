"""What models are made of, one by one, and what it costs to run a program at all."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from orion_ane import _core, ops
from orion_ane._core import Graph, Value
from orion_ane.bench.report import Ceiling, Row, Work, speed_row
from orion_ane.bench.timing import seconds_of

SUITE = "kernels"
DTYPES = ("fp32", "fp16")
ERROR = "max relative error"

Array = NDArray[Any]

_SAMPLE_SECONDS, _QUICK_SAMPLE_SECONDS = 0.1, 0.005
"""A sample is as many runs as take about so long."""
_MOST_RUNS = 1 << 16


@dataclass(frozen=True)
class Case:
    """A program of one op."""

    task: str
    dtype: str
    inputs: Mapping[str, tuple[int, ...]]
    build: Callable[[dict[str, Value]], Value]
    right: Callable[[dict[str, Array]], Array]
    """The result in fp64."""
    flops: float = 0.0
    weights: tuple[str, ...] = ()
    """Those of the inputs that are constants, of `dtype`."""
    streams: bool = False
    """Whether what it reads is more than caches hold."""


def cases(*, quick: bool) -> list[Case]:
    """In the shapes of GPT-2 124M: 512 tokens, 768 wide; small ones if it must be quick."""
    tokens, width, vocabulary = (32, 64, 512) if quick else (512, 768, 50257)
    side = 64 if quick else 1024
    return [
        *(_linear(tokens, width, 4 * width, dtype) for dtype in DTYPES),
        *(_linear(1, width, vocabulary, dtype) for dtype in DTYPES),
        _square(side),
        _attention(max(1, width // 64), tokens, 64),
        _norm("layer_norm", tokens, width),
        _norm("rms_norm", tokens, width),
        _softmax(tokens, width),
        _elements("gelu", tokens, 4 * width),
    ]


def measure(ceiling: Ceiling, rounds: int, *, quick: bool) -> list[Row]:
    """A row for each case, timed without Python between the runs."""
    sample = _QUICK_SAMPLE_SECONDS if quick else _SAMPLE_SECONDS
    return [_measure(case, ceiling, rounds, sample) for case in cases(quick=quick)]


def _measure(case: Case, ceiling: Ceiling, rounds: int, sample: float) -> Row:
    program, values = prepare(case)
    program.run()
    got = np.array(program.output("y"), np.float64)
    wanted = case.right({name: array.astype(np.float64) for name, array in values.items()})
    error = float(np.abs(got - wanted).max() / np.abs(wanted).max())
    count = _runs_per_sample(program, sample)
    seconds = [program.time_runs(count) / count for _ in range(rounds)]
    read = float(sum(array.nbytes for array in values.values()))
    names = (SUITE, case.task, f"orion {case.dtype}")
    work = Work(case.flops, read, from_memory=case.streams)
    return speed_row(names, seconds, (1.0, "runs/s"), work, ceiling, (error, ERROR))


def prepare(case: Case) -> tuple[_core.Program, dict[str, Array]]:
    """The program of a case on the CPU, with random inputs in its memory, and all it reads."""
    values = _values(case)
    g = Graph("case")
    handed = {
        name: g.weight(name, shape, case.dtype)
        if name in case.weights
        else g.input(name, shape, "fp32")
        for name, shape in case.inputs.items()
    }
    g.output("y", case.build(handed))
    program = _core.compile(g, {name: values[name] for name in case.weights}, "cpu")
    for name in program.inputs:
        program.input(name)[...] = values[name]
    return program, values


def _values(case: Case) -> dict[str, Array]:
    rng = np.random.default_rng(0)
    wide = {name: rng.standard_normal(shape, np.float32) for name, shape in case.inputs.items()}
    narrow = np.float16 if case.dtype == "fp16" else np.float32
    return {name: v.astype(narrow) if name in case.weights else v for name, v in wide.items()}


def _runs_per_sample(program: _core.Program, sample: float) -> int:
    count = 1
    while count < _MOST_RUNS and program.time_runs(count) < sample:
        count *= 2
    return count


def _linear(rows: int, inputs: int, outputs: int, dtype: str) -> Case:
    return Case(
        f"x ({rows}, {inputs}) @ W ({inputs}, {outputs})",
        dtype,
        {"x": (rows, inputs), "w": (outputs, inputs)},
        lambda v: ops.matmul(v["x"], _wide(v["w"]), transpose_y=True),
        lambda v: v["x"] @ v["w"].T,
        2.0 * rows * inputs * outputs,
        ("w",),
        streams=rows == 1,
    )


def _wide(weight: Value) -> Value:
    return weight if weight.dtype == "fp32" else ops.cast(weight, "fp32")


def _square(side: int) -> Case:
    return Case(
        f"A ({side}, {side}) @ B ({side}, {side})",
        "fp32",
        {"a": (side, side), "b": (side, side)},
        lambda v: ops.matmul(v["a"], v["b"]),
        lambda v: v["a"] @ v["b"],
        2.0 * side**3,
    )


def _attention(heads: int, tokens: int, width: int) -> Case:
    shape = (1, heads, tokens, width)

    def right(v: dict[str, Array]) -> Array:
        scores = v["q"] @ v["k"].swapaxes(-1, -2) / np.sqrt(width)
        scores[..., np.triu(np.ones((tokens, tokens), bool), 1)] = -np.inf
        return _softmax_of(scores) @ v["v"]

    return Case(
        f"causal attention {shape}",
        "fp32",
        dict.fromkeys("qkv", shape),
        lambda v: ops.scaled_dot_product_attention(v["q"], v["k"], v["v"], causal=True),
        right,
        4.0 * heads * width * tokens * (tokens + 1) / 2,
    )


def _norm(op: str, rows: int, columns: int) -> Case:
    def right(v: dict[str, Array]) -> Array:
        x = v["x"] - v["x"].mean(-1, keepdims=True) if op == "layer_norm" else v["x"]
        normal: Array = x / np.sqrt((x**2).mean(-1, keepdims=True) + 1e-5) * v["gamma"]
        return normal

    return Case(
        f"{op} ({rows}, {columns})",
        "fp32",
        {"x": (rows, columns), "gamma": (columns,)},
        lambda v: getattr(ops, op)(v["x"], axes=-1, gamma=v["gamma"]),
        right,
        weights=("gamma",),
    )


def _softmax(rows: int, columns: int) -> Case:
    return Case(
        f"softmax ({rows}, {columns})",
        "fp32",
        {"x": (rows, columns)},
        lambda v: ops.softmax(v["x"]),
        lambda v: _softmax_of(v["x"]),
    )


def _softmax_of(x: Array) -> Array:
    powers = np.exp(x - x.max(-1, keepdims=True))
    return np.asarray(powers / powers.sum(-1, keepdims=True))


def _elements(op: str, rows: int, columns: int) -> Case:
    def right(v: dict[str, Array]) -> Array:
        x = v["x"]
        inner = np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)
        return np.asarray(0.5 * x * (1 + np.tanh(inner)))

    return Case(
        f"{op} ({rows}, {columns})",
        "fp32",
        {"x": (rows, columns)},
        lambda v: ops.gelu(v["x"], mode="TANH_APPROXIMATION"),
        right,
    )


# -- dispatch -------------------------------------------------------------------------------------


def dispatch(device: str, rounds: int) -> list[Row]:
    """Microseconds of a program that hardly computes: what it costs to run one on a device."""
    program, x = tiny_program(device)
    ways: dict[str, Callable[[], object]] = {
        "run() from Python": program.run,
        "call with arrays from Python": lambda: program(x=x),
    }
    count = _runs_per_sample(program, _QUICK_SAMPLE_SECONDS)
    found = {"from C++": [program.time_runs(count) for _ in range(rounds)]}
    for way, run in ways.items():
        found[way] = [seconds_of(lambda run=run: _repeat(run, count)) for _ in range(rounds)]  # type: ignore[misc]
    return [
        Row(SUITE, f"dispatch {way}", f"orion {device}", "us", [1e6 * s / count for s in seconds])
        for way, seconds in found.items()
    ]


def tiny_program(device: str) -> tuple[_core.Program, Array]:
    """It, and its input x."""
    shape = (1, 16, 1, 64)
    g = Graph("dispatch")
    g.output("y", ops.relu(g.input("x", shape, "fp16")))
    return _core.compile(g, {}, device), np.zeros(shape, np.float16)


def _repeat(run: Callable[[], object], count: int) -> None:
    for _ in range(count):
        run()
