# Written by docs/generate.py from the op table; do not edit.
from collections.abc import Sequence
from typing import Any

import numpy as np

from orion_ane._core import Value

Operand = Value | float | np.ndarray[Any, np.dtype[Any]]

__all__ = [
    "abs",
    "add",
    "broadcast_to",
    "cache_update",
    "cast",
    "clip",
    "concat",
    "conv",
    "cross_entropy",
    "cross_entropy_gradient",
    "equal",
    "erf",
    "exp",
    "gather",
    "gelu",
    "gelu_gradient",
    "greater",
    "greater_equal",
    "identity",
    "layer_norm",
    "layer_norm_gradient",
    "less",
    "less_equal",
    "log",
    "matmul",
    "maximum",
    "minimum",
    "mul",
    "neg",
    "not_equal",
    "pad",
    "pow",
    "real_div",
    "reduce_max",
    "reduce_mean",
    "reduce_sum",
    "relu",
    "reshape",
    "rms_norm",
    "rms_norm_gradient",
    "rope",
    "rsqrt",
    "scaled_dot_product_attention",
    "scaled_dot_product_attention_gradient",
    "scatter",
    "select",
    "sigmoid",
    "silu",
    "silu_gradient",
    "slice_by_index",
    "slice_update",
    "softmax",
    "softmax_gradient",
    "split",
    "sqrt",
    "square",
    "sub",
    "tanh",
    "transpose",
]

def parameters(row: dict[str, Any]) -> list[tuple[str, str, Any]]: ...
def identity(
    x: Operand,
    *,
    name: str = "",
) -> Value:
    """x itself, under another name."""

def cast(
    x: Operand,
    dtype: str,
    *,
    name: str = "",
) -> Value:
    """x in another element type: "fp16", "fp32", "int32" or "bool"."""

def relu(
    x: Operand,
    *,
    name: str = "",
) -> Value:
    """max(x, 0)."""

def tanh(
    x: Operand,
    *,
    name: str = "",
) -> Value:
    """Hyperbolic tangent."""

def sigmoid(
    x: Operand,
    *,
    name: str = "",
) -> Value:
    """1 / (1 + exp(-x))."""

def exp(
    x: Operand,
    *,
    name: str = "",
) -> Value:
    """e to the power x."""

def log(
    x: Operand,
    epsilon: float = 1e-45,
    *,
    name: str = "",
) -> Value:
    """Natural logarithm of x + epsilon."""

def erf(
    x: Operand,
    *,
    name: str = "",
) -> Value:
    """The error function, 2/sqrt(pi) times the integral of exp(-t^2) from 0 to x."""

def sqrt(
    x: Operand,
    *,
    name: str = "",
) -> Value:
    """Square root; NaN below zero."""

def rsqrt(
    x: Operand,
    epsilon: float = 1e-12,
    *,
    name: str = "",
) -> Value:
    """1 / sqrt(x + epsilon)."""

def neg(
    x: Operand,
    *,
    name: str = "",
) -> Value:
    """-x."""

def abs(
    x: Operand,
    *,
    name: str = "",
) -> Value:
    """|x|."""

def square(
    x: Operand,
    *,
    name: str = "",
) -> Value:
    """x * x."""

def clip(
    x: Operand,
    alpha: float,
    beta: float,
    *,
    name: str = "",
) -> Value:
    """x limited to [alpha, beta]. NaN stays NaN."""

def add(
    x: Operand,
    y: Operand,
    *,
    name: str = "",
) -> Value:
    """x + y, broadcasting. int32 wraps."""

def sub(
    x: Operand,
    y: Operand,
    *,
    name: str = "",
) -> Value:
    """x - y, broadcasting. int32 wraps."""

def mul(
    x: Operand,
    y: Operand,
    *,
    name: str = "",
) -> Value:
    """x * y, broadcasting. int32 wraps."""

def real_div(
    x: Operand,
    y: Operand,
    *,
    name: str = "",
) -> Value:
    """x / y, broadcasting, floats only."""

def pow(
    x: Operand,
    y: Operand,
    *,
    name: str = "",
) -> Value:
    """x to the power y, broadcasting. A constant y gets no gradient."""

def maximum(
    x: Operand,
    y: Operand,
    *,
    name: str = "",
) -> Value:
    """The larger of x and y, broadcasting; NaN if either is NaN."""

def minimum(
    x: Operand,
    y: Operand,
    *,
    name: str = "",
) -> Value:
    """The smaller of x and y, broadcasting; NaN if either is NaN."""

def equal(
    x: Operand,
    y: Operand,
    *,
    name: str = "",
) -> Value:
    """x == y as bool, broadcasting."""

def not_equal(
    x: Operand,
    y: Operand,
    *,
    name: str = "",
) -> Value:
    """x != y as bool, broadcasting."""

def less(
    x: Operand,
    y: Operand,
    *,
    name: str = "",
) -> Value:
    """x < y as bool, broadcasting."""

def less_equal(
    x: Operand,
    y: Operand,
    *,
    name: str = "",
) -> Value:
    """x <= y as bool, broadcasting."""

def greater(
    x: Operand,
    y: Operand,
    *,
    name: str = "",
) -> Value:
    """x > y as bool, broadcasting."""

def greater_equal(
    x: Operand,
    y: Operand,
    *,
    name: str = "",
) -> Value:
    """x >= y as bool, broadcasting."""

def select(
    cond: Operand,
    a: Operand,
    b: Operand,
    *,
    name: str = "",
) -> Value:
    """a where cond is true, b elsewhere, broadcasting. A NaN that is not chosen does not matter."""

def reduce_sum(
    x: Operand,
    axes: int | Sequence[int] = ...,
    keep_dims: bool = False,
    *,
    name: str = "",
) -> Value:
    """Sum over axes; over all of them if none are given."""

def reduce_mean(
    x: Operand,
    axes: int | Sequence[int] = ...,
    keep_dims: bool = False,
    *,
    name: str = "",
) -> Value:
    """Mean over axes; over all of them if none are given."""

def reduce_max(
    x: Operand,
    axes: int | Sequence[int] = ...,
    keep_dims: bool = False,
    *,
    name: str = "",
) -> Value:
    """Largest element over axes; over all of them if none are given. NaN if any is NaN."""

def softmax(
    x: Operand,
    axis: int = -1,
    *,
    name: str = "",
) -> Value:
    """exp(x) / sum(exp(x)) along an axis, computed as exp(x - max(x))."""

def softmax_gradient(
    y: Operand,
    dy: Operand,
    axis: int = -1,
    *,
    name: str = "",
) -> Value:
    """What comes back through softmax, y being its result: y * (dy - sum(y * dy)) along the axis."""

def matmul(
    x: Operand,
    y: Operand,
    transpose_x: bool = False,
    transpose_y: bool = False,
    *,
    name: str = "",
) -> Value:
    """Matrix product x @ y over the last two axes; leading axes broadcast."""

def conv(
    x: Operand,
    weight: Operand,
    bias: Operand | None = None,
    strides: int | Sequence[int] = ...,
    pad_type: str = "valid",
    pad: int | Sequence[int] = ...,
    dilations: int | Sequence[int] = ...,
    groups: int = 1,
    *,
    name: str = "",
) -> Value:
    """Convolution over one to three spatial axes."""

def reshape(
    x: Operand,
    shape: int | Sequence[int],
    *,
    name: str = "",
) -> Value:
    """The elements of x in row-major order under another shape."""

def transpose(
    x: Operand,
    perm: int | Sequence[int],
    *,
    name: str = "",
) -> Value:
    """x with its axes in the order perm: axis i of the result is axis perm[i] of x."""

def broadcast_to(
    x: Operand,
    shape: int | Sequence[int],
    *,
    name: str = "",
) -> Value:
    """x repeated along its axes of size 1, and along new leading axes, to a shape."""

def concat(
    values: Sequence[Operand],
    axis: int,
    interleave: bool = False,
    *,
    name: str = "",
) -> Value:
    """Tensors joined along an axis."""

def pad(
    x: Operand,
    pad: int | Sequence[int],
    mode: str = "constant",
    constant_val: float = 0.0,
    *,
    name: str = "",
) -> Value:
    """x with constant_val around it."""

def slice_by_index(
    x: Operand,
    begin: int | Sequence[int],
    end: int | Sequence[int],
    stride: int | Sequence[int] = ...,
    begin_mask: Sequence[bool] = ...,
    end_mask: Sequence[bool] = ...,
    squeeze_mask: Sequence[bool] = ...,
    *,
    name: str = "",
) -> Value:
    """x[begin:end:stride] on every axis, as in NumPy."""

def gather(
    x: Operand,
    indices: Operand,
    axis: int = 0,
    batch_dims: int = 0,
    validate_indices: bool = False,
    *,
    name: str = "",
) -> Value:
    """Elements of x picked along an axis by indices."""

def scatter(
    data: Operand,
    indices: Operand,
    updates: Operand,
    axis: int = 0,
    mode: str = "add",
    validate_indices: bool = False,
    *,
    name: str = "",
) -> Value:
    """data with updates combined into it at places along an axis."""

def slice_update(
    x: Operand,
    update: Operand,
    begin: Operand,
    end: Operand,
    stride: int | Sequence[int] = ...,
    begin_mask: Sequence[bool] = ...,
    end_mask: Sequence[bool] = ...,
    squeeze_mask: Sequence[bool] = ...,
    *,
    name: str = "",
) -> Value:
    """x with the slice x[begin:end:stride] replaced by update."""

def silu(
    x: Operand,
    *,
    name: str = "",
) -> Value:
    """x * sigmoid(x), also called swish."""

def gelu(
    x: Operand,
    mode: str = "EXACT",
    *,
    name: str = "",
) -> Value:
    """x times the probability that a normal variable is below x."""

def silu_gradient(
    x: Operand,
    dy: Operand,
    *,
    name: str = "",
) -> Value:
    """What comes back through silu: dy times its derivative at x."""

def gelu_gradient(
    x: Operand,
    dy: Operand,
    mode: str = "EXACT",
    *,
    name: str = "",
) -> Value:
    """What comes back through gelu of that mode: dy times its derivative at x."""

def layer_norm(
    x: Operand,
    axes: int | Sequence[int],
    gamma: Operand | None = None,
    beta: Operand | None = None,
    epsilon: float = 1e-05,
    *,
    name: str = "",
) -> Value:
    """(x - mean(x)) / sqrt(var(x) + epsilon) * gamma + beta over axes (all if none are given)."""

def rms_norm(
    x: Operand,
    axes: int | Sequence[int],
    gamma: Operand | None = None,
    epsilon: float = 1e-05,
    *,
    name: str = "",
) -> Value:
    """x / sqrt(mean(x^2) + epsilon) * gamma over axes (all if none are given)."""

def layer_norm_gradient(
    x: Operand,
    dy: Operand,
    axes: int | Sequence[int],
    gamma: Operand | None = None,
    epsilon: float = 1e-05,
    *,
    name: str = "",
) -> Value:
    """What comes back through layer_norm: dy by its derivative at x."""

def rms_norm_gradient(
    x: Operand,
    dy: Operand,
    axes: int | Sequence[int],
    gamma: Operand | None = None,
    epsilon: float = 1e-05,
    *,
    name: str = "",
) -> Value:
    """What comes back through rms_norm: dy by its derivative at x."""

def rope(
    x: Operand,
    cos: Operand,
    sin: Operand,
    interleaved: bool = False,
    *,
    name: str = "",
) -> Value:
    """Rotary position embedding: each pair (x1, x2) of the last axis becomes (x1 cos - x2 sin, x2 cos + x1 sin)."""

def scaled_dot_product_attention(
    query: Operand,
    key: Operand,
    value: Operand,
    attn_mask: Operand | None = None,
    position: Operand | None = None,
    causal: bool = False,
    scale: float = 0.0,
    *,
    name: str = "",
) -> Value:
    """softmax(query key^T * scale + mask) value for each head."""

def scaled_dot_product_attention_gradient(
    query: Operand,
    key: Operand,
    value: Operand,
    dy: Operand,
    of: str,
    causal: bool = False,
    scale: float = 0.0,
    *,
    name: str = "",
) -> Value:
    """What comes back through scaled_dot_product_attention to its query, key or value."""

def cache_update(
    cache: Operand,
    update: Operand,
    position: Operand,
    *,
    name: str = "",
) -> Value:
    """A key/value cache with new rows written into it."""

def cross_entropy(
    logits: Operand,
    labels: Operand,
    ignore_index: int = -100,
    *,
    name: str = "",
) -> Value:
    """log(sum(exp(logits))) - logits[label] for each row."""

def cross_entropy_gradient(
    logits: Operand,
    labels: Operand,
    dy: Operand,
    ignore_index: int = -100,
    *,
    name: str = "",
) -> Value:
    """What comes back through cross_entropy: (softmax(logits) - one_hot(labels)) * dy for each row."""

def split(
    x: Value,
    num_splits: int | None = None,
    axis: int = 0,
    split_sizes: Sequence[int] | None = None,
) -> list[Value]:
    """x cut along axis, as slices."""
