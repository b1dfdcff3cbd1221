"""The table behind test_ops.py: every op with operands and attributes that it must handle.

A row is an op, its operands and its attributes. What the result should be is in op_reference.py
and, independently, in coremltools; nothing here is an expected number.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]

NUMPY_DTYPES: dict[str, type[np.generic]] = {
    "fp16": np.float16,
    "fp32": np.float32,
    "int32": np.int32,
    "bool": np.bool_,
}


@dataclass(frozen=True)
class Operand:
    """An operand: random values in [low, high), or exactly `values`."""

    shape: tuple[int, ...]
    dtype: str = "fp32"
    low: float = -2.0
    high: float = 2.0
    values: Any = None
    constant: bool = False

    def array(self, rng: np.random.Generator) -> Array:
        dtype = NUMPY_DTYPES[self.dtype]
        if self.values is not None:
            return np.array(self.values, dtype).reshape(self.shape)
        if self.dtype == "int32":
            return rng.integers(int(self.low), int(self.high), self.shape, dtype=np.int32)
        return np.array(rng.uniform(self.low, self.high, self.shape)).astype(dtype)


def f32(*shape: int, low: float = -2.0, high: float = 2.0) -> Operand:
    return Operand(shape, "fp32", low, high)


def f16(*shape: int, low: float = -2.0, high: float = 2.0) -> Operand:
    return Operand(shape, "fp16", low, high)


def i32(*shape: int, low: int = -9, high: int = 10) -> Operand:
    return Operand(shape, "int32", low, high)


def boolean(*shape: int) -> Operand:
    """Random truth values: the sign of a random number."""
    size = int(np.prod(shape))
    bits = np.random.default_rng(size).uniform(-1.0, 1.0, shape) > 0
    return Operand(shape, "bool", values=bits.tolist())


def exactly(dtype: str, values: Any, *, constant: bool = False) -> Operand:
    return Operand(np.shape(values), dtype, values=values, constant=constant)


def indices(values: Any) -> Operand:
    return exactly("int32", values)


def constant(values: Sequence[int]) -> Operand:
    return exactly("int32", values, constant=True)


@dataclass(frozen=True)
class Case:
    """One row. `mil` says why coremltools cannot be asked, `kink` why there is no derivative."""

    op: str
    operands: Sequence[Operand | None]
    attrs: Mapping[str, Any] = field(default_factory=dict)
    mil: str = ""
    kink: str = ""
    tolerance: float = 1e-5

    @property
    def label(self) -> str:
        shapes = ",".join("-" if o is None else f"{o.dtype}{list(o.shape)}" for o in self.operands)
        attrs = ",".join(f"{k}={v}" for k, v in self.attrs.items())
        return f"{self.op}({shapes}{';' if attrs else ''}{attrs})".replace(" ", "")

    def arrays(self) -> list[Array | None]:
        rng = np.random.default_rng(zlib.crc32(self.label.encode()))
        return [None if o is None else o.array(rng) for o in self.operands]

    @property
    def half(self) -> bool:
        return any(o is not None and o.dtype == "fp16" for o in self.operands)


COND_IGNORED = "its type inference ignores the shape of cond"
REFUSED = "the gradient rule refuses it"
SPECIAL = [0.0, -0.0, 1.0, -1.0, np.inf, -np.inf, np.nan, 65504.0, -30.0]
EXTREME = exactly("fp32", SPECIAL)
FAR = exactly("fp32", [-1e4, -90.0, -12.0, 12.0, 90.0, 1e4])


def unary(op: str, low: float, high: float, **attrs: Any) -> list[Case]:
    return [
        Case(op, [f32(low=low, high=high)], attrs),
        Case(op, [f32(7, low=low, high=high)], attrs),
        Case(op, [f32(2, 3, 1, 2, 3, low=low, high=high)], attrs),
        Case(op, [f16(3, 5, low=low, high=high)], attrs),
    ]


def binary_like(op: str, most: float, **attrs: Any) -> list[Case]:
    """Ops of an operand up to `most` and what comes back through it."""
    shapes: list[tuple[int, ...]] = [(7,), (2, 37), (2, 3, 1, 2, 3)]
    cases = [Case(op, [f32(*s, low=-most, high=most), f32(*s)], attrs) for s in shapes]
    return [*cases, Case(op, [f16(3, 5, low=-most, high=most), f16(3, 5)], attrs)]


def binary(op: str, low: float = -2.0, high: float = 2.0) -> list[Case]:
    def f(*shape: int) -> Operand:
        return f32(*shape, low=low, high=high)

    def h(*shape: int) -> Operand:
        return f16(*shape, low=low, high=high)

    return [
        Case(op, [f(3, 4), f(3, 4)]),
        Case(op, [f(3, 1, 4), f(5, 1)]),
        Case(op, [f(2, 3), f()]),
        Case(op, [f(3), f(1, 2, 1, 2, 3)]),
        Case(op, [h(5, 3), h(5, 1)]),
    ]


def integers(op: str) -> list[Case]:
    return [Case(op, [i32(4, 3), i32(3)]), Case(op, [i32(3, 1), i32(1, 5)])]


def comparison(op: str) -> list[Case]:
    nan = exactly("fp32", [np.nan, 1.0, np.inf, -0.0])
    return [
        Case(op, [i32(3, 4, low=0, high=3), i32(4, low=0, high=3)]),
        Case(op, [f32(2, 1, 3), f32(4, 1)]),
        Case(op, [nan, exactly("fp32", [np.nan, 1.0, 1.0, 0.0])]),
        Case(op, [f16(5), f16()]),
    ]


def reduction(op: str) -> list[Case]:
    return [
        Case(op, [f32(3, 4, 5)]),
        Case(op, [f32(3, 4, 5)], {"axes": [1]}),
        Case(op, [f32(2, 3, 2, 2, 3)], {"axes": [-1, 0, 2], "keep_dims": True}),
        Case(op, [f32(7)], {"axes": [0]}),
        Case(op, [f16(3, 40)], {"axes": [-1], "keep_dims": True}),
        Case(op, [exactly("fp32", [[1.0, np.nan], [np.inf, 2.0]])], {"axes": [1]}, kink="nan"),
    ]


ELEMENTWISE = [
    *unary("identity", -2, 2),
    Case("identity", [i32(4, 2)]),
    Case("identity", [boolean(5)]),
    Case("cast", [f32(3, 4, low=-9, high=9)], {"dtype": "int32"}),
    Case("cast", [f32(3, 4)], {"dtype": "fp16"}),
    Case("cast", [f16(3, 4)], {"dtype": "fp32"}),
    Case("cast", [i32(5)], {"dtype": "fp16"}),
    Case("cast", [i32(2, 3, low=-1, high=2)], {"dtype": "bool"}),
    Case("cast", [boolean(2, 3)], {"dtype": "fp32"}),
    Case(
        "cast",
        [exactly("fp32", [1e30, -1e30, 65519.9, 65520.0, 1e-8])],
        {"dtype": "fp16"},
        kink="range",
    ),
    *unary("relu", -2, 2),
    Case("relu", [EXTREME], kink="infinite", mil="NumPy propagates NaN, coremltools need not"),
    *unary("tanh", -3, 3),
    Case("tanh", [EXTREME], kink="infinite"),
    *unary("sigmoid", -6, 6),
    Case("sigmoid", [EXTREME], kink="infinite"),
    *unary("exp", -3, 3),
    Case("exp", [EXTREME], kink="infinite"),
    *unary("log", 0.1, 5),
    *unary("log", 0.1, 5, epsilon=0.5),
    Case("log", [EXTREME], {"epsilon": 0.0}, kink="infinite"),
    *unary("erf", -3, 3),
    *unary("sqrt", 0.1, 5),
    Case("sqrt", [EXTREME], kink="infinite"),
    *unary("rsqrt", 0.1, 5),
    *unary("rsqrt", 0.1, 5, epsilon=0.25),
    *unary("neg", -2, 2),
    Case("neg", [i32(3, 3)]),
    Case("neg", [exactly("int32", [-(2**31), 2**31 - 1])]),
    *unary("abs", -2, 2),
    Case("abs", [i32(3, 3)]),
    *unary("square", -2, 2),
    Case("square", [i32(3, 3)]),
    *unary("clip", -3, 3, alpha=-1.5, beta=0.75),
    Case("clip", [EXTREME], {"alpha": -1.0, "beta": 1.0}, kink="infinite"),
    *binary("add"),
    *integers("add"),
    Case("add", [exactly("int32", [2**31 - 1]), exactly("int32", [1])], mil="wraps with a warning"),
    *binary("sub"),
    *integers("sub"),
    *binary("mul"),
    *integers("mul"),
    *binary("real_div", 0.5, 3),
    Case("real_div", [EXTREME, exactly("fp32", [0.0])], kink="infinite"),
    *binary("pow", 0.3, 2.5),
    Case("pow", [f32(4, 3), exactly("fp32", 3.0, constant=True)]),
    *binary("maximum"),
    *integers("maximum"),
    Case("maximum", [EXTREME, exactly("fp32", [0.5])], kink="infinite"),
    *binary("minimum"),
    *integers("minimum"),
    Case("minimum", [EXTREME, exactly("fp32", [0.5])], kink="infinite"),
    *comparison("equal"),
    *comparison("not_equal"),
    *comparison("less"),
    *comparison("less_equal"),
    *comparison("greater"),
    *comparison("greater_equal"),
    Case("select", [boolean(3, 4), f32(3, 4), f32(3, 4)]),
    Case("select", [boolean(3, 1), f32(4), f32()], mil=COND_IGNORED),
    Case("select", [boolean(2, 1, 3), i32(2, 3), i32(1)], mil=COND_IGNORED),
    Case("select", [boolean(3), f32(2, 1), f32(3)]),
    Case("select", [boolean(4), f16(4), f16(4)]),
    Case("select", [boolean(5), boolean(5), boolean(1)]),
    Case("select", [exactly("bool", [True, False]), exactly("fp32", [1.0, np.nan]), f32(2)]),
]

REDUCTION = [
    *reduction("reduce_sum"),
    Case("reduce_sum", [i32(3, 4)], {"axes": [0]}),
    *reduction("reduce_mean"),
    *reduction("reduce_max"),
    Case("reduce_max", [i32(3, 4)], {"axes": [-1]}),
    Case("softmax", [f32(3, 4, low=-9, high=9)]),
    Case("softmax", [f32(2, 3, 4)], {"axis": 1}),
    Case("softmax", [f32(5, 2)], {"axis": -2}),
    Case("softmax", [f32(1, 2, 1, 2, 3)], {"axis": 0}),
    Case("softmax", [f16(3, 9)]),
    Case(
        "softmax", [exactly("fp32", [[500.0, 500.0, -np.inf], [-500.0, 0.0, 1.0]])], kink="infinite"
    ),
    Case("softmax", [exactly("fp32", [[-np.inf, -np.inf], [0.0, np.nan]])], kink="nan"),
]

MATMUL = [
    Case("matmul", [f32(3, 4), f32(4, 5)]),
    Case("matmul", [f32(4, 3), f32(4, 5)], {"transpose_x": True}),
    Case("matmul", [f32(3, 4), f32(5, 4)], {"transpose_y": True}),
    Case("matmul", [f32(4, 3), f32(5, 4)], {"transpose_x": True, "transpose_y": True}),
    Case("matmul", [f32(2, 1, 3, 4), f32(5, 4, 2)]),
    Case("matmul", [f32(1, 4), f32(2, 3, 4, 1)]),
    Case("matmul", [f32(2, 2, 1, 3, 2), f32(1, 2, 3, 2)], {"transpose_y": True}),
    Case("matmul", [f32(3, 4, 2), f32(3, 4, 5)], {"transpose_x": True}),
    Case("matmul", [f16(7, 33), f16(33, 5)]),
]


def conv(x: Operand, weight: Operand, bias: Operand | None = None, **attrs: Any) -> Case:
    return Case("conv", [x, weight, bias], attrs)


CONV = [
    conv(f32(1, 3, 7), f32(4, 3, 3)),
    conv(f32(2, 3, 8), f32(4, 3, 3), f32(4), strides=[2], pad_type="custom", pad=[2, 1]),
    conv(f32(1, 4, 9), f32(6, 2, 2), groups=2, dilations=[3], pad_type="same"),
    conv(f32(2, 5, 1, 6), f32(7, 5, 1, 1), f32(7)),
    conv(f32(2, 4, 3, 4), f32(6, 2, 1, 1), groups=2),
    conv(f32(2, 3, 4, 4), f32(2, 3, 1, 1), strides=[2, 3]),
    conv(f32(1, 2, 5, 6), f32(3, 2, 3, 2), f32(3), strides=[2, 1], pad_type="same"),
    conv(f32(1, 2, 5, 6), f32(3, 2, 2, 4), strides=[2, 3], pad_type="same_lower"),
    conv(f32(1, 2, 7, 7), f32(2, 2, 3, 3), dilations=[2, 3], pad_type="custom", pad=[1, 0, 2, 3]),
    conv(f32(2, 4, 5, 5), f32(4, 1, 3, 3), f32(4), groups=4, strides=[2, 2]),
    conv(f32(1, 2, 3, 4, 5), f32(3, 2, 2, 1, 3), f32(3), strides=[1, 2, 2]),
    conv(f32(1, 2, 3, 3, 3), f32(2, 1, 2, 2, 2), groups=2, pad_type="same"),
    conv(f16(1, 8, 1, 6), f16(5, 8, 1, 1), f16(5)),
    conv(f16(1, 2, 4, 5), f16(3, 2, 3, 3), pad_type="same"),
]

SHAPE = [
    Case("reshape", [f32(2, 3, 4)], {"shape": [6, 4]}),
    Case("reshape", [f32(2, 3, 4)], {"shape": [4, -1]}),
    Case("reshape", [f32(2, 3, 4)], {"shape": [-1]}),
    Case("reshape", [f32(2, 50)], {"shape": [1, 0, -1, 0]}),
    Case("reshape", [f32(1, 1)], {"shape": []}),
    Case("reshape", [i32(12)], {"shape": [1, 2, 1, 3, 2]}),
    Case("reshape", [f16(6)], {"shape": [2, 3]}),
    Case("reshape", [boolean(4)], {"shape": [2, 2]}),
    Case("transpose", [f32(2, 3)], {"perm": [1, 0]}),
    Case("transpose", [f32(2, 3, 4)], {"perm": [-1, 0, 1]}),
    Case("transpose", [f32(2, 1, 3, 2, 2)], {"perm": [4, 2, 0, 3, 1]}),
    Case("transpose", [i32(3, 2)], {"perm": [0, 1]}),
    Case("transpose", [f16(5)], {"perm": [0]}),
    Case("transpose", [boolean(2, 3)], {"perm": [1, 0]}),
    Case("broadcast_to", [f32(3, 1)], {"shape": [2, 3, 4]}),
    Case("broadcast_to", [f32()], {"shape": [2, 3]}),
    Case("broadcast_to", [f32(2, 3)], {"shape": [2, 3]}),
    Case("broadcast_to", [i32(1, 2, 1)], {"shape": [3, 2, 2]}),
    Case("broadcast_to", [f16(1, 4)], {"shape": [5, 4]}),
    Case("broadcast_to", [boolean(3, 1)], {"shape": [3, 4]}),
    Case("concat", [f32(2, 3), f32(2, 1), f32(2, 4)], {"axis": 1}),
    Case("concat", [f32(2, 3), f32(1, 3)], {"axis": -2}),
    Case("concat", [f32(4)], {"axis": 0}),
    Case("concat", [f32(2, 1, 2, 1, 3), f32(2, 1, 2, 2, 3)], {"axis": 3}),
    Case("concat", [i32(2), i32(3)], {"axis": 0}),
    Case("concat", [f16(2, 2), f16(2, 2)], {"axis": 0}),
    Case(
        "concat",
        [f32(3, 2), f32(3, 2), f32(3, 2)],
        {"axis": 0, "interleave": True},
        mil="its value inference ignores interleave",
    ),
    Case(
        "concat",
        [i32(2, 3), i32(2, 3)],
        {"axis": -1, "interleave": True},
        mil="its value inference ignores interleave",
    ),
    Case("pad", [f32(2, 3)], {"pad": [1, 2, 0, 3]}),
    Case("pad", [f32(2, 3, 4)], {"pad": [2, 1], "constant_val": -1.5}),
    Case("pad", [f32(1, 2, 1, 2, 3)], {"pad": [1, 0, 0, 0, 0, 1, 2, 0]}),
    Case("pad", [f16(5)], {"pad": [0, 3], "constant_val": 0.1}),
    Case("slice_by_index", [f32(5, 6)], {"begin": [1, 2], "end": [4, 6]}),
    Case("slice_by_index", [f32(5, 6)], {"begin": [-4, 0], "end": [-1, -2], "stride": [2, 3]}),
    Case("slice_by_index", [f32(7)], {"begin": [5], "end": [1], "stride": [-2]}),
    Case(
        "slice_by_index", [f32(6)], {"begin": [4], "end": [0], "stride": [-2], "end_mask": [True]}
    ),
    Case(
        "slice_by_index",
        [f32(4, 5)],
        {
            "begin": [0, 0],
            "end": [0, 0],
            "stride": [-1, 2],
            "begin_mask": [1, 1],
            "end_mask": [1, 1],
        },
    ),
    Case(
        "slice_by_index",
        [f32(3, 4, 5)],
        {"begin": [-1, 1, 2], "end": [0, 3, 0], "squeeze_mask": [True, False, True]},
    ),
    Case("slice_by_index", [f32(2, 3)], {"begin": [1, 2], "end": [2, 3], "squeeze_mask": [1, 1]}),
    Case("slice_by_index", [f32(4, 3)], {"begin": [0, 0], "end": [4, 3]}),
    Case("slice_by_index", [i32(3, 9)], {"begin": [0, 1], "end": [3, 99], "stride": [1, 4]}),
    Case(
        "slice_by_index", [f16(2, 3, 1, 2, 2)], {"begin": [0, 1, 0, 0, 1], "end": [2, 3, 1, 1, 2]}
    ),
]

INDEXING = [
    Case("gather", [f32(5, 3), indices([4, 0, 4])]),
    Case("gather", [f32(5, 3), indices([[1, 2], [-1, -3]])], {"axis": 1}),
    Case("gather", [f32(4), indices(2)]),
    Case("gather", [f32(2, 3, 4), indices(1)], {"axis": -2}),
    Case("gather", [f32(2, 5), indices([[0, 4, 4], [1, -1, 1]])], {"axis": 1, "batch_dims": 1}),
    Case("gather", [f32(2, 3, 4), indices([[0, 3], [2, 2]])], {"axis": 2, "batch_dims": 1}),
    Case("gather", [f32(2, 2, 3, 2), indices([[1, 0], [2, 2]])], {"axis": 2, "batch_dims": 2}),
    Case("gather", [i32(6), indices([[[5]], [[0]]])], {"validate_indices": True}),
    Case("gather", [f16(7, 4), indices([6, 6, 0, 1])]),
    Case("scatter", [f32(5, 3), indices([1, 4, 1]), f32(3, 3)]),
    Case("scatter", [f32(2, 5), indices([-1, 0]), f32(2, 2)], {"axis": -1, "mode": "sub"}),
    Case("scatter", [f32(4), indices([3, 0, 3]), f32(3)], {"mode": "update"}),
    Case(
        "scatter",
        [f32(2, 4, 3), indices([2, 2, 0, 2]), f32(2, 4, 3)],
        {"axis": 1, "mode": "update"},
    ),
    Case("scatter", [f32(4, 2), indices([1, 1]), f32(2, 2)], {"mode": "mul"}, kink=REFUSED),
    Case(
        "scatter", [f32(4), indices([1]), f32(1, low=0.5, high=2.0)], {"mode": "div"}, kink=REFUSED
    ),
    Case("scatter", [f32(4), indices([0, 2, 0]), f32(3)], {"mode": "max"}, kink=REFUSED),
    Case("scatter", [f32(4), indices([0, 2, 0]), f32(3)], {"mode": "min"}, kink=REFUSED),
    Case("scatter", [i32(2, 4), indices([3, 3]), i32(2, 2)], {"axis": 1, "mode": "add"}),
    Case("scatter", [i32(4), indices([3, 1]), i32(2)], {"mode": "max"}),
    Case("scatter", [f16(3, 4), indices([0, 2]), f16(2, 4)]),
    Case("slice_update", [f32(4, 5), f32(2, 3), constant([1, 2]), constant([3, 5])]),
    Case(
        "slice_update",
        [f32(1, 2, 6, 3), f32(1, 2, 1, 3), indices([0, 0, 4, 0]), indices([1, 2, 5, 3])],
        kink=REFUSED,
    ),
    Case("slice_update", [f32(7), f32(2), constant([5]), constant([1])], {"stride": [-2]}),
    Case(
        "slice_update",
        [f32(3, 4), f32(4), constant([1, 0]), constant([0, 0])],
        {"squeeze_mask": [True, False], "begin_mask": [False, True], "end_mask": [False, True]},
    ),
    Case("slice_update", [f32(4), f32(4), constant([0]), constant([4])]),
    Case("slice_update", [i32(5), i32(2), indices([-3]), indices([-1])]),
    Case(
        "slice_update", [f16(3, 3), f16(1, 2), indices([2, 0]), indices([3, 3])], {"stride": [1, 2]}
    ),
]

NORMALIZATION = [
    Case("layer_norm", [f32(3, 5), f32(5), f32(5)], {"axes": [-1]}),
    Case("layer_norm", [f32(2, 3, 4), f32(3, 4), None], {"axes": [1, 2], "epsilon": 0.01}),
    Case(
        "layer_norm",
        [f32(2, 4, 1, 3), f32(4), f32(4)],
        {"axes": [1]},
    ),
    Case("layer_norm", [f32(4, 3), None, None], {"axes": []}),
    Case(
        "layer_norm", [f32(4, 3), None, f32(3)], {"axes": [1]}, mil="beta without gamma crashes it"
    ),
    Case("layer_norm", [f32(3, 6, low=100, high=101), None, None], {"axes": [-1]}, tolerance=1e-4),
    Case("layer_norm", [f16(3, 8), f16(8), f16(8)], {"axes": [-1]}),
    Case(
        "layer_norm",
        [f16(2, 64, low=-900, high=900), f16(64), None],
        {"axes": [-1]},
        mil="x^2 overflows",
    ),
    Case("rms_norm", [f32(3, 5), f32(5)], {"axes": [-1]}),
    Case("rms_norm", [f32(2, 3, 4), f32(2, 4)], {"axes": [0, -1], "epsilon": 0.1}),
    Case("rms_norm", [f32(2, 6, 1, 3), None], {"axes": [1], "epsilon": 0.0}),
    Case(
        "rms_norm",
        [f32(2, 5, low=-1e-3, high=1e-3), None],
        {"axes": [1], "epsilon": 1e-6},
    ),
    Case("rms_norm", [f16(3, 8), f16(8)], {"axes": [-1], "epsilon": 1e-6}),
    Case("rms_norm", [f16(2, 64, low=-30000, high=30000), f16(64)], {"axes": [-1]}),
    Case("rms_norm", [f16(2, 16, low=-1e-3, high=1e-3), None], {"axes": [-1]}),
]

ACTIVATION = [
    *unary("silu", -6, 6),
    Case("silu", [EXTREME], kink="infinite"),
    *unary("gelu", -4, 4),
    *unary("gelu", -4, 4, mode="TANH_APPROXIMATION"),
    *unary("gelu", -4, 4, mode="SIGMOID_APPROXIMATION"),
    Case(
        "gelu",
        [f16(64, low=-60000, high=60000)],
        {"mode": "TANH_APPROXIMATION"},
        mil="x^3 overflows",
    ),
]

ROPE = [
    Case("rope", [f32(3, 4), f32(3, 2), f32(3, 2)]),
    Case("rope", [f32(2, 3, 5, 6), f32(5, 3), f32(5, 3)]),
    Case("rope", [f32(2, 3, 5, 6), f32(5, 3), f32(2, 1, 5, 3)], {"interleaved": True}),
    Case("rope", [f32(1, 2, 1, 3, 2), f32(1), f32(1)], {"interleaved": True}),
    Case("rope", [f16(4, 2, 8), f16(2, 4), f16(2, 4)]),
]


def attention(
    query: Operand,
    key: Operand,
    value: Operand,
    mask: Operand | None = None,
    position: Operand | None = None,
    mil: str = "",
    **attrs: Any,
) -> Case:
    return Case("scaled_dot_product_attention", [query, key, value, mask, position], attrs, mil=mil)


ATTENTION = [
    attention(f32(2, 3, 4, 5), f32(2, 3, 6, 5), f32(2, 3, 6, 2)),
    attention(f32(2, 3, 4), f32(2, 5, 4), f32(2, 5, 4)),
    attention(f32(2, 3, 4), f32(2, 5, 4), f32(2, 5, 4), f32(2, 3, 5)),
    attention(f32(1, 2, 3, 4), f32(1, 2, 5, 4), f32(1, 2, 5, 3), f32(3, 5)),
    attention(f32(2, 2, 3, 4), f32(2, 2, 3, 4), f32(2, 2, 3, 4), f32(2, 1, 1, 3)),
    attention(
        f32(1, 1, 2, 3),
        f32(1, 1, 3, 3),
        f32(1, 1, 3, 2),
        exactly("bool", [[True, False, True], [False, False, True]]),
    ),
    attention(f32(2, 4, 3, 2), f32(2, 2, 5, 2), f32(2, 2, 5, 3), mil="MIL has no shared heads"),
    attention(
        f32(1, 2, 4, 3), f32(1, 2, 4, 3), f32(1, 2, 4, 3), causal=True, mil="MIL has no causal"
    ),
    attention(f32(1, 2, 3), f32(1, 4, 3), f32(1, 4, 3), causal=True, mil="MIL has no causal"),
    attention(
        f32(2, 6, 2, 4),
        f32(2, 2, 7, 4),
        f32(2, 2, 7, 3),
        None,
        indices([3, 0]),
        mil="MIL has no position",
    ),
    attention(
        f32(2, 2, 4),
        f32(2, 5, 4),
        f32(2, 5, 4),
        f32(2, 1, 1),
        indices([1, 2]),
        mil="MIL has no position",
        scale=0.3,
    ),
    attention(
        f32(1, 2, 3, 4), f32(1, 1, 3, 4), f32(1, 1, 3, 4), scale=0.75, mil="MIL has no scale"
    ),
    attention(f16(1, 2, 4, 8), f16(1, 2, 6, 8), f16(1, 2, 6, 8)),
    attention(
        f16(1, 4, 3, 8), f16(1, 2, 3, 8), f16(1, 2, 3, 8), causal=True, mil="MIL has no causal"
    ),
]

CACHE_UPDATE = [
    Case("cache_update", [f32(1, 2, 5, 3), f32(1, 2, 1, 3), indices([4])]),
    Case("cache_update", [f32(2, 1, 4, 2), f32(2, 1, 2, 2), indices([2, 0])]),
    Case("cache_update", [f32(1, 3, 2, 1), f32(1, 3, 2, 1), indices([0])]),
    Case("cache_update", [f16(3, 2, 6, 4), f16(3, 2, 3, 4), indices([1, 0, 3])]),
]

CROSS_ENTROPY = [
    Case("cross_entropy", [f32(4, 5), indices([0, 4, 2, 2])]),
    Case(
        "cross_entropy",
        [f32(2, 3, 7, low=-9, high=9), indices([[0, -100, 6], [1, 1, -100]])],
    ),
    Case("cross_entropy", [f32(3, 4), indices([3, 0, 3])], {"ignore_index": 3}),
    Case("cross_entropy", [f32(6), indices(5)]),
    Case("cross_entropy", [f16(3, 9), indices([8, 0, 1])]),
]


def attention_gradients(
    query: Operand, key: Operand, value: Operand, dy: Operand, **attrs: Any
) -> list[Case]:
    """To each operand."""
    op, operands = "scaled_dot_product_attention_gradient", [query, key, value, dy]
    return [Case(op, operands, {"of": of, **attrs}) for of in ("query", "key", "value")]


GRADIENTS = [
    *attention_gradients(f32(2, 3, 4, 5), f32(2, 3, 6, 5), f32(2, 3, 6, 2), f32(2, 3, 4, 2)),
    *attention_gradients(
        f32(2, 4, 3, 2), f32(2, 2, 5, 2), f32(2, 2, 5, 3), f32(2, 4, 3, 3), scale=0.75
    ),
    *attention_gradients(
        f32(1, 4, 4, 3), f32(1, 2, 4, 3), f32(1, 2, 4, 3), f32(1, 4, 4, 3), causal=True
    ),
    *attention_gradients(f32(2, 5, 3), f32(2, 3, 3), f32(2, 3, 4), f32(2, 5, 4), causal=True),
    *attention_gradients(
        f16(1, 2, 4, 8), f16(1, 2, 4, 8), f16(1, 2, 4, 8), f16(1, 2, 4, 8), causal=True
    ),
    *binary_like("silu_gradient", 6),
    Case("silu_gradient", [FAR, f32(6)], kink="next to nothing"),
    *binary_like("gelu_gradient", 4),
    Case("gelu_gradient", [FAR, f32(6)], kink="next to nothing"),
    *binary_like("gelu_gradient", 4, mode="TANH_APPROXIMATION"),
    Case("gelu_gradient", [FAR, f32(6)], {"mode": "TANH_APPROXIMATION"}, kink="next to nothing"),
    *binary_like("gelu_gradient", 4, mode="SIGMOID_APPROXIMATION"),
    *binary_like("softmax_gradient", 1, axis=-1),
    Case("softmax_gradient", [f32(2, 3, 4), f32(2, 3, 4)], {"axis": 1}),
    Case("layer_norm_gradient", [f32(3, 5), f32(3, 5), f32(5)], {"axes": [-1]}),
    Case("layer_norm_gradient", [f32(2, 3, 37), f32(2, 3, 37), None], {"axes": [2]}),
    Case("layer_norm_gradient", [f32(2, 3, 4), f32(2, 3, 4), f32(2, 4)], {"axes": [0, 2]}),
    Case("layer_norm_gradient", [f16(3, 8), f16(3, 8), f16(8)], {"axes": [1], "epsilon": 0.1}),
    Case("rms_norm_gradient", [f32(3, 5), f32(3, 5), f32(5)], {"axes": [-1]}),
    Case("rms_norm_gradient", [f32(2, 3, 37), f32(2, 3, 37), None], {"axes": [2]}),
    Case("rms_norm_gradient", [f32(2, 3, 4), f32(2, 3, 4), f32(2, 4)], {"axes": [0, 2]}),
    Case("rms_norm_gradient", [f16(3, 8), f16(3, 8), f16(8)], {"axes": [1], "epsilon": 0.1}),
    Case("cross_entropy_gradient", [f32(4, 5), indices([0, 4, 2, 2]), f32(4)]),
    Case(
        "cross_entropy_gradient",
        [f32(2, 3, 37, low=-9, high=9), indices([[0, -100, 36], [1, 1, -100]]), f32(2, 3)],
    ),
    Case("cross_entropy_gradient", [f32(3, 4), indices([3, 0, 3]), f32(3)], {"ignore_index": 3}),
    Case("cross_entropy_gradient", [f32(6), indices(5), f32()]),
    Case("cross_entropy_gradient", [f16(3, 9), indices([8, 0, 1]), f16(3)]),
]

CASES: list[Case] = [
    *ELEMENTWISE,
    *REDUCTION,
    *MATMUL,
    *CONV,
    *SHAPE,
    *INDEXING,
    *NORMALIZATION,
    *ACTIVATION,
    *ROPE,
    *ATTENTION,
    *CACHE_UPDATE,
    *CROSS_ENTROPY,
    *GRADIENTS,
]


@dataclass(frozen=True)
class BadCase:
    """Operands or attributes that the type rule must refuse, and what it says."""

    op: str
    operands: Sequence[Operand | None]
    attrs: Mapping[str, Any]
    message: str


def needs_float(op: str, **attrs: Any) -> BadCase:
    return BadCase(op, [i32(2, 3)], attrs, f"{op}: x is int32 (2, 3), fp16 or fp32 is needed")


def needs_number(op: str, **attrs: Any) -> BadCase:
    return BadCase(op, [boolean(3)], attrs, f"{op}: x is bool (3,), numbers are needed")


def no_broadcast(op: str) -> BadCase:
    message = f"{op}: shapes (2, 3) and (2,) do not broadcast"
    return BadCase(op, [f32(2, 3), f32(2)], {}, message)


def two_dtypes(op: str) -> BadCase:
    return BadCase(op, [f32(3), f16(3)], {}, f"{op}: x is fp32 but y is fp16; cast one of them")


SDPA = "scaled_dot_product_attention"
QKV = [f32(2, 4, 3, 8), f32(2, 2, 5, 8), f32(2, 2, 5, 6)]

BAD_CASES: list[BadCase] = [
    BadCase(
        "cache_update",
        [f32(1, 2, 4, 3), f32(1, 2, 5, 3), i32(1)],
        {},
        "cache_update: update (1, 2, 5, 3) does not fit into cache (1, 2, 4, 3)",
    ),
    BadCase(
        "cache_update",
        [f32(2, 2, 4, 3), f32(2, 2, 1, 3), i32(1)],
        {},
        "cache_update: position is (1,), (2,) is needed",
    ),
    BadCase("identity", [None], {}, "identity: at least one operand must be a graph's value"),
    BadCase("cast", [f32(2)], {"dtype": "fp64"}, "unknown dtype 'fp64'"),
    needs_float("relu"),
    needs_float("tanh"),
    needs_float("sigmoid"),
    needs_float("exp"),
    needs_float("log"),
    needs_float("erf"),
    needs_float("sqrt"),
    needs_float("rsqrt"),
    needs_number("neg"),
    needs_number("abs"),
    needs_number("square"),
    BadCase("clip", [f32(2)], {"alpha": 2.0, "beta": 1.0}, "clip: alpha 2 is above beta 1"),
    no_broadcast("add"),
    two_dtypes("sub"),
    no_broadcast("mul"),
    needs_float("silu"),
    BadCase(
        "gelu", [f32(2)], {"mode": "FAST"}, "gelu: mode 'FAST', one of EXACT, TANH_APPROXIMATION"
    ),
    BadCase(
        "real_div", [i32(2, 3), i32(3)], {}, "real_div: x is int32 (2, 3), fp16 or fp32 is needed"
    ),
    two_dtypes("pow"),
    no_broadcast("maximum"),
    two_dtypes("minimum"),
    no_broadcast("equal"),
    two_dtypes("not_equal"),
    no_broadcast("less"),
    two_dtypes("less_equal"),
    no_broadcast("greater"),
    two_dtypes("greater_equal"),
    BadCase("select", [f32(2), f32(2), f32(2)], {}, "select: cond is fp32 (2,), bool is needed"),
    needs_number("reduce_sum"),
    needs_float("reduce_mean"),
    BadCase(
        "reduce_max",
        [f32(2, 3)],
        {"axes": [2]},
        "reduce_max: axes 2 is not an axis of a tensor of rank 2",
    ),
    BadCase("reduce_sum", [f32(2, 3)], {"axes": [1, -1]}, "reduce_sum: axes names an axis twice"),
    BadCase(
        "softmax", [f32(2)], {"axis": 1}, "softmax: axis 1 is not an axis of a tensor of rank 1"
    ),
    BadCase("matmul", [f32(2, 3), f32(2, 4)], {}, "matmul: inner sizes 3 and 2 differ"),
    BadCase(
        "matmul", [f32(2, 3), f32(3)], {}, "matmul: y is fp32 (3,), at least two axes are needed"
    ),
    BadCase(
        "matmul", [f32(2, 2, 3), f32(3, 3, 2)], {}, "matmul: shapes (2,) and (3,) do not broadcast"
    ),
    BadCase(
        "conv",
        [f32(1, 4, 5), f32(2, 3, 1)],
        {},
        "conv: x has 4 channels in each group, weight (2, 3, 1) wants 3",
    ),
    BadCase(
        "conv",
        [f32(1, 2, 3), f32(2, 2, 4)],
        {},
        "conv: the kernel reaches over 4 elements of axis 2, which has 3",
    ),
    BadCase(
        "conv",
        [f32(1, 2, 3), f32(2, 2, 1)],
        {"pad": [1, 1]},
        "conv: pad is given, which needs pad_type 'custom'",
    ),
    BadCase(
        "conv",
        [f32(1, 2, 3), f32(2, 2, 1)],
        {"strides": [0]},
        "conv: strides has 0, it must be from 1",
    ),
    BadCase(
        "conv",
        [f32(1, 3, 3), f32(2, 1, 1)],
        {"groups": 2},
        "conv: 3 input and 2 output channels do not divide into 2",
    ),
    BadCase(
        "reshape", [f32(2, 3)], {"shape": [4, -1]}, "reshape: (2, 3) has 6 elements, (4, 1) has 4"
    ),
    BadCase("reshape", [f32(2, 3)], {"shape": [-1, -1]}, "reshape: shape has more than one -1"),
    BadCase(
        "reshape", [f32(2, 3)], {"shape": [-2, 3]}, "reshape: shape has a size of -2, at least"
    ),
    BadCase(
        "reshape", [f32(2, 3)], {"shape": [-2, 3]}, "reshape: shape has a size of -2, at least 1"
    ),
    BadCase("transpose", [f32(2, 3)], {"perm": [0, -2]}, "transpose: perm names an axis twice"),
    BadCase(
        "transpose",
        [f32(2, 3)],
        {"perm": [0]},
        "transpose: perm has 1 entries for a tensor of rank 2",
    ),
    BadCase(
        "broadcast_to",
        [f32(2, 3)],
        {"shape": [2, 1]},
        "broadcast_to: (2, 3) does not stretch to (2, 1)",
    ),
    BadCase(
        "concat",
        [f32(2, 3), f32(3, 3)],
        {"axis": 1},
        "concat: value 1 is (3, 3), the first is (2, 3); only the axis",
    ),
    BadCase(
        "pad",
        [f32(2)],
        {"pad": [1, 1], "mode": "reflect"},
        "pad: mode 'reflect', only 'constant' is known",
    ),
    BadCase("pad", [f32(2)], {"pad": [-1, 1]}, "pad: -1 is negative"),
    BadCase(
        "slice_by_index",
        [f32(5)],
        {"begin": [3], "end": [3]},
        "slice_by_index: axis 0 of size 5 from 3 to 3 in steps of 1 is empty",
    ),
    BadCase(
        "slice_by_index",
        [f32(5)],
        {"begin": [0], "end": [3], "stride": [0]},
        "slice_by_index: stride of axis 0 is 0",
    ),
    BadCase(
        "slice_by_index",
        [f32(5)],
        {"begin": [5], "end": [0], "squeeze_mask": [1]},
        "slice_by_index: index 5 is outside axis 0 of size 5",
    ),
    BadCase(
        "slice_update",
        [f32(5), f32(2), constant([3]), constant([9])],
        {"stride": [2]},
        "slice_update: the slice of x (5,) is (1,), update is (2,)",
    ),
    BadCase(
        "slice_update",
        [f32(5), f32(1), f32(1), i32(1)],
        {},
        "slice_update: begin is fp32 (1,), int32 is needed",
    ),
    BadCase(
        "gather",
        [f32(2, 3), i32(3, 2)],
        {"axis": 1, "batch_dims": 1},
        "gather: x (2, 3) and indices (3, 2) differ in their first 1 axes",
    ),
    BadCase("gather", [f32(2), f32(2)], {}, "gather: indices is fp32 (2,), int32 is needed"),
    BadCase(
        "scatter",
        [f32(5, 3), i32(2), f32(2, 2)],
        {},
        "scatter: updates are (2, 2), (2, 3) is needed",
    ),
    BadCase(
        "scatter", [f32(5), i32(2), f32(2)], {"mode": "and"}, "scatter: mode 'and', one of add"
    ),
    BadCase(
        "layer_norm",
        [f32(2, 3), f32(2), None],
        {"axes": [1]},
        "layer_norm: gamma is (2,), the normalised axes of x are (3,)",
    ),
    BadCase(
        "rms_norm",
        [f32(2, 3), None],
        {"axes": [1], "epsilon": -1.0},
        "rms_norm: epsilon -1 is negative",
    ),
    BadCase(
        "rope",
        [f32(4, 3), f32(4, 1), f32(4, 1)],
        {},
        "rope: x is fp32 (4, 3), its last axis must hold pairs",
    ),
    BadCase(
        "rope",
        [f32(4, 6), f32(3, 3), f32(4, 3)],
        {},
        "rope: shapes (3, 3) and (4, 3) do not broadcast",
    ),
    BadCase(
        SDPA,
        [f32(2, 3, 3, 8), *QKV[1:]],
        {},
        f"{SDPA}: 3 query heads do not divide among 2 key heads",
    ),
    BadCase(
        SDPA, [*QKV, f32(4, 5)], {}, f"{SDPA}: shapes (4, 5) and (2, 4, 3, 5) do not broadcast"
    ),
    BadCase(SDPA, [*QKV, None, i32(3)], {}, f"{SDPA}: position is (3,), (2,) is needed"),
    BadCase(
        f"{SDPA}_gradient",
        [*QKV, f32(2, 4, 3, 8)],
        {"of": "key"},
        f"{SDPA}_gradient: dy is (2, 4, 3, 8), attention gives (2, 4, 3, 6)",
    ),
    BadCase(
        f"{SDPA}_gradient",
        [*QKV, f32(2, 4, 3, 6)],
        {"of": "mask"},
        f"{SDPA}_gradient: of 'mask', one of query, key, value is needed",
    ),
    BadCase(
        "cross_entropy",
        [f32(2, 3), i32(3)],
        {},
        "cross_entropy: labels are (3,), logits (2, 3) want (2,)",
    ),
    BadCase(
        "cross_entropy_gradient",
        [f32(2, 3), i32(2), f32(3)],
        {},
        "cross_entropy_gradient: dy is (3,), one number for each of the (2,) rows is needed",
    ),
    *[
        BadCase(
            f"{op}_gradient", [f32(2, 3), f32(2)], attrs, f"{op}_gradient: dy is (2,), x is (2, 3)"
        )
        for op, attrs in [
            ("silu", {}),
            ("gelu", {}),
            ("layer_norm", {"axes": [1]}),
            ("rms_norm", {"axes": [1]}),
        ]
    ],
    BadCase(
        "softmax_gradient", [f32(2, 3), f32(2)], {}, "softmax_gradient: dy is (2,), y is (2, 3)"
    ),
    BadCase(
        "gelu_gradient",
        [f32(2), f32(2)],
        {"mode": "FAST"},
        "gelu_gradient: mode 'FAST', one of EXACT, TANH_APPROXIMATION",
    ),
]


@dataclass(frozen=True)
class BadRun:
    """Operand values that the kernel must refuse when it runs."""

    op: str
    operands: Sequence[Operand | None]
    attrs: Mapping[str, Any]
    message: str


BAD_RUNS: list[BadRun] = [
    BadRun(
        "cache_update",
        [f32(1, 1, 4, 2), f32(1, 1, 2, 2), indices([3])],
        {},
        "cache_update: rows 3 to 5 of a cache of 4",
    ),
    BadRun(
        "cache_update",
        [f32(1, 1, 4, 2), f32(1, 1, 1, 2), indices([-1])],
        {},
        "cache_update: rows -1 to 0 of a cache of 4",
    ),
    BadRun(
        "gather",
        [f32(2, 5), indices([0, 5])],
        {"axis": 1},
        "gather: index 5 (element 1 of indices) is outside axis 1 of size 5",
    ),
    BadRun(
        "gather",
        [f32(3), indices(-4)],
        {},
        "gather: index -4 (element 0 of indices) is outside axis 0 of size 3",
    ),
    BadRun(
        "scatter",
        [f32(3), indices([0, 3]), f32(2)],
        {},
        "scatter: index 3 (element 1 of indices) is outside axis 0 of size 3",
    ),
    BadRun(
        "slice_update",
        [f32(6), f32(2), indices([5]), indices([7])],
        {},
        "slice_update: the slice of x (6,) is (1,), update is (2,)",
    ),
    BadRun(
        "slice_update",
        [f32(6), f32(2), indices([4]), indices([2])],
        {},
        "slice_update: axis 0 of size 6 from 4 to 2 in steps of 1 is empty",
    ),
    BadRun(
        "cross_entropy",
        [f32(2, 3), indices([1, 3])],
        {},
        "cross_entropy: label 3 (element 1 of labels) is none of the 3 classes",
    ),
    BadRun(
        "cross_entropy",
        [f32(2, 3), indices([-1, 0])],
        {},
        "cross_entropy: label -1 (element 0 of labels) is none of the 3 classes",
    ),
    BadRun(
        "cross_entropy_gradient",
        [f32(2, 3), indices([1, 3]), f32(2)],
        {},
        "cross_entropy_gradient: label 3 (element 1 of labels) is none of the 3 classes",
    ),
]
