"""What each op means, in NumPy, for whatever precision the operands have.

Written from the ops' definitions and independent of the C++ kernels. Tests call these with float64
operands, so that central differences are exact to many digits.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
Reference = Callable[..., Array]

_erf = np.vectorize(math.erf, otypes=[float])

_CAST = {"fp16": np.float16, "fp32": np.float32, "int32": np.int32, "bool": np.bool_}


def _cast(x: Array, dtype: str) -> Array:
    if dtype == "int32" and x.dtype.kind == "f":
        return np.trunc(x).astype(np.int32)
    # A float64 operand stands for an exact one: a change of width is then no change.
    if x.dtype == np.float64 and dtype in ("fp16", "fp32"):
        return x
    return x.astype(_CAST[dtype])


def _axes(axes: Sequence[int]) -> tuple[int, ...] | None:
    return tuple(axes) if axes else None


def softmax(x: Array, axis: int = -1) -> Array:
    e = np.exp(x - x.max(axis=axis, keepdims=True))
    return np.asarray(e / e.sum(axis=axis, keepdims=True))


def _sigmoid(x: Array) -> Array:
    return np.asarray(1 / (1 + np.exp(-x)))


def _gelu(x: Array, mode: str = "EXACT") -> Array:
    if mode == "EXACT":
        return np.asarray(0.5 * x * (1 + _erf(x / math.sqrt(2))))
    if mode == "TANH_APPROXIMATION":
        return np.asarray(0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))))
    return x * _sigmoid(1.702 * x)


def _matmul(x: Array, y: Array, transpose_x: bool = False, transpose_y: bool = False) -> Array:
    x = np.swapaxes(x, -1, -2) if transpose_x else x
    y = np.swapaxes(y, -1, -2) if transpose_y else y
    return np.asarray(x @ y)


def _same_pad(size: int, reach: int, stride: int, lower: bool) -> tuple[int, int]:
    total = max(0, (math.ceil(size / stride) - 1) * stride + reach - size)
    small, large = total // 2, total - total // 2
    return (large, small) if lower else (small, large)


def _conv(
    x: Array,
    weight: Array,
    bias: Array | None,
    strides: Sequence[int] = (),
    pad_type: str = "valid",
    pad: Sequence[int] = (),
    dilations: Sequence[int] = (),
    groups: int = 1,
) -> Array:
    kernel = weight.shape[2:]
    strides = strides or [1] * len(kernel)
    dilations = dilations or [1] * len(kernel)
    reach = [(k - 1) * d + 1 for k, d in zip(kernel, dilations, strict=True)]
    pads = [(0, 0)] * len(kernel)
    if pad_type == "custom":
        pads = [(pad[2 * i], pad[2 * i + 1]) for i in range(len(kernel))]
    elif pad_type.startswith("same"):
        sizes = zip(x.shape[2:], reach, strides, strict=True)
        pads = [_same_pad(*size, pad_type == "same_lower") for size in sizes]
    x = np.pad(x, [(0, 0), (0, 0), *pads])
    out = [(n - r) // s + 1 for n, r, s in zip(x.shape[2:], reach, strides, strict=True)]
    y = np.zeros((x.shape[0], weight.shape[0], *out), np.result_type(x, weight))
    inputs = np.split(x, groups, axis=1)
    filters = np.split(weight, groups, axis=0)
    for position in itertools.product(*[range(size) for size in out]):
        steps = zip(position, strides, reach, dilations, strict=True)
        seen: tuple[Any, ...] = (..., *[slice(p * s, p * s + r, d) for p, s, r, d in steps])
        parts = [
            np.tensordot(a[seen], w, (range(1, x.ndim),) * 2)
            for a, w in zip(inputs, filters, strict=True)
        ]
        at: tuple[Any, ...] = (..., *position)
        y[at] = np.concatenate(parts, axis=1)
    return y if bias is None else y + bias.reshape(-1, *[1] * len(kernel))


def _reshape(x: Array, shape: Sequence[int]) -> Array:
    behind = [1] * len(shape) + list(x.shape)
    sizes = behind[len(behind) - len(shape) :]
    return x.reshape([old if new == 0 else new for new, old in zip(shape, sizes, strict=True)])


def _concat(values: Sequence[Array], axis: int, interleave: bool = False) -> Array:
    if not interleave:
        return np.concatenate(values, axis)
    axis %= values[0].ndim
    shape = list(values[0].shape)
    shape[axis] *= len(values)
    return np.stack(values, axis + 1).reshape(shape)


def _pad(x: Array, pad: Sequence[int], constant_val: float = 0.0) -> Array:
    pairs = [(0, 0)] * (x.ndim - len(pad) // 2) + list(zip(pad[::2], pad[1::2], strict=True))
    return np.pad(x, pairs, constant_values=constant_val)


def _window(
    rank: int,
    begin: Sequence[int],
    end: Sequence[int],
    stride: Sequence[int] = (),
    begin_mask: Sequence[bool] = (),
    end_mask: Sequence[bool] = (),
    squeeze_mask: Sequence[bool] = (),
) -> tuple[slice | int, ...]:
    none = [False] * rank
    return tuple(
        (0 if bm else int(b))
        if squeezed
        else slice(None if bm else int(b), None if em else int(e), s)
        for b, e, s, bm, em, squeezed in zip(
            begin,
            end,
            stride or [1] * rank,
            begin_mask or none,
            end_mask or none,
            squeeze_mask or none,
            strict=True,
        )
    )


def _slice_by_index(x: Array, begin: Sequence[int], end: Sequence[int], **masks: Any) -> Array:
    return np.array(x[_window(x.ndim, begin, end, **masks)])


def _slice_update(x: Array, update: Array, begin: Array, end: Array, **masks: Any) -> Array:
    result = np.array(x)
    result[_window(x.ndim, begin.tolist(), end.tolist(), **masks)] = update
    return result


def _gather(
    x: Array, indices: Array, axis: int = 0, batch_dims: int = 0, validate_indices: bool = False
) -> Array:
    del validate_indices  # says whether to check, not what to compute
    if batch_dims == 0:
        return np.take(x, indices, axis)
    axis %= x.ndim
    rows = [_gather(a, i, axis - 1, batch_dims - 1) for a, i in zip(x, indices, strict=True)]
    return np.stack(rows)


_SCATTER: dict[str, Callable[[Array, Array], Array]] = {
    "add": lambda x, u: x + u,
    "sub": lambda x, u: x - u,
    "mul": lambda x, u: x * u,
    "div": lambda x, u: x / u,
    "max": np.maximum,
    "min": np.minimum,
    "update": lambda _, u: u,
}


def _scatter(
    data: Array, indices: Array, updates: Array, axis: int = 0, mode: str = "add"
) -> Array:
    result = np.moveaxis(np.array(data), axis, 0)
    for index, update in zip(indices, np.moveaxis(updates, axis, 0), strict=True):
        result[index] = _SCATTER[mode](result[index], update)
    return np.moveaxis(result, 0, axis)


def _row_shape(x: Array, axes: tuple[int, ...]) -> list[int]:
    normalised = {axis % x.ndim for axis in axes}
    return [size if axis in normalised else 1 for axis, size in enumerate(x.shape)]


def _rms_norm(x: Array, gamma: Array | None, axes: Sequence[int], epsilon: float = 1e-5) -> Array:
    all_axes = tuple(axes) or tuple(range(x.ndim))
    y: Array = x / np.sqrt(np.mean(x * x, axis=all_axes, keepdims=True) + epsilon)
    return y if gamma is None else y * gamma.reshape(_row_shape(x, all_axes))


def _layer_norm(
    x: Array,
    gamma: Array | None,
    beta: Array | None,
    axes: Sequence[int],
    epsilon: float = 1e-5,
) -> Array:
    all_axes = tuple(axes) or tuple(range(x.ndim))
    y = _rms_norm(x - x.mean(axis=all_axes, keepdims=True), gamma, axes, epsilon)
    return y if beta is None else y + beta.reshape(_row_shape(x, all_axes))


def _rope(x: Array, cos: Array, sin: Array, interleaved: bool = False) -> Array:
    half = x.shape[-1] // 2
    pairs = x.reshape(*x.shape[:-1], half, 2) if interleaved else None
    x1, x2 = (pairs[..., 0], pairs[..., 1]) if pairs is not None else (x[..., :half], x[..., half:])
    turned = [x1 * cos - x2 * sin, x2 * cos + x1 * sin]
    return np.stack(turned, -1).reshape(x.shape) if interleaved else np.concatenate(turned, -1)


def _for_each_query_head(query: Array, shared: Array) -> Array:
    return np.repeat(shared, query.shape[1] // shared.shape[1], 1) if query.ndim == 4 else shared


def _attention(
    query: Array,
    key: Array,
    value: Array,
    attn_mask: Array | None,
    position: Array | None,
    causal: bool = False,
    scale: float = 0.0,
) -> Array:
    key, value = _for_each_query_head(query, key), _for_each_query_head(query, value)
    scores = query @ np.swapaxes(key, -1, -2) * (scale or 1 / math.sqrt(query.shape[-1]))
    t, s = np.arange(query.shape[-2])[:, None], np.arange(key.shape[-2])
    if causal:
        scores = np.where(s <= t, scores, -np.inf)
    if position is not None:
        first = position.reshape(-1, *[1] * (query.ndim - 1))
        scores = np.where(s <= first + t, scores, -np.inf)
    if attn_mask is not None and attn_mask.dtype == np.bool_:
        scores = np.where(attn_mask, scores, -np.inf)
    elif attn_mask is not None:
        scores = scores + attn_mask
    return np.asarray(softmax(scores) @ value)


def _cache_update(cache: Array, update: Array, position: Array) -> Array:
    result = np.array(cache)
    for sequence, rows, first in zip(result, update, position, strict=True):
        sequence[:, first : first + rows.shape[1]] = rows
    return result


def _cross_entropy(logits: Array, labels: Array, ignore_index: int = -100) -> Array:
    ignored = labels == ignore_index
    top = logits.max(axis=-1, keepdims=True)
    log_sum = np.log(np.exp(logits - top).sum(axis=-1)) + top[..., 0]
    picked = np.take_along_axis(logits, np.where(ignored, 0, labels)[..., None], -1)[..., 0]
    return np.where(ignored, 0, log_sum - picked)


# What comes back through an op, by closed form.


def _silu_gradient(x: Array, dy: Array) -> Array:
    s = _sigmoid(x)
    return np.asarray(dy * (s + x * s * (1 - s)))


def _gelu_gradient(x: Array, dy: Array, mode: str = "EXACT") -> Array:
    if mode == "EXACT":
        density = np.exp(-x * x / 2) / math.sqrt(2 * math.pi)
        return np.asarray(dy * (0.5 * (1 + _erf(x / math.sqrt(2))) + x * density))
    if mode == "TANH_APPROXIMATION":
        t = np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))
        du = math.sqrt(2 / math.pi) * (1 + 3 * 0.044715 * x**2)
        return np.asarray(dy * 0.5 * (1 + t + x * (1 - t * t) * du))
    p = _sigmoid(1.702 * x)
    return np.asarray(dy * (p + 1.702 * x * p * (1 - p)))


def _softmax_gradient(y: Array, dy: Array, axis: int = -1) -> Array:
    return np.asarray(y * (dy - (y * dy).sum(axis=axis, keepdims=True)))


def _attention_gradient(
    query: Array,
    key: Array,
    value: Array,
    dy: Array,
    of: str,
    causal: bool = False,
    scale: float = 0.0,
) -> Array:
    keys, values = _for_each_query_head(query, key), _for_each_query_head(query, value)
    scale = scale or 1 / math.sqrt(query.shape[-1])
    scores = query @ np.swapaxes(keys, -1, -2) * scale
    seen = np.arange(key.shape[-2]) <= np.arange(query.shape[-2])[:, None]
    weights = softmax(np.where(seen, scores, -np.inf) if causal else scores)
    dscores = _softmax_gradient(weights, dy @ np.swapaxes(values, -1, -2)) * scale
    if of == "query":
        return np.asarray(dscores @ keys)
    each = (
        np.swapaxes(weights, -1, -2) @ dy if of == "value" else np.swapaxes(dscores, -1, -2) @ query
    )
    if query.ndim == 3:
        return np.asarray(each)
    b, heads, *rest = each.shape
    return np.asarray(each.reshape(b, key.shape[1], heads // key.shape[1], *rest).sum(2))


def _norm_gradient(x: Array, dy: Array, gamma: Array | None, axes: Any, epsilon: float) -> Array:
    """Through x / sqrt(mean(x^2) + epsilon) * gamma, by the Jacobian of one row after the other."""
    g = dy if gamma is None else dy * gamma.reshape(_row_shape(x, tuple(axes)))
    size = np.mean(x * x, axis=tuple(axes), keepdims=True) + epsilon
    along = np.mean(g * x, axis=tuple(axes), keepdims=True)
    return np.asarray(g / np.sqrt(size) - x * along / size**1.5)


def _rms_norm_gradient(
    x: Array, dy: Array, gamma: Array | None, axes: Any, epsilon: float = 1e-5
) -> Array:
    return _norm_gradient(x, dy, gamma, axes, epsilon)


def _layer_norm_gradient(
    x: Array, dy: Array, gamma: Array | None, axes: Any, epsilon: float = 1e-5
) -> Array:
    centred = x - x.mean(axis=tuple(axes), keepdims=True)
    dx = _norm_gradient(centred, dy, gamma, axes, epsilon)
    return np.asarray(dx - dx.mean(axis=tuple(axes), keepdims=True))


def _cross_entropy_gradient(
    logits: Array, labels: Array, dy: Array, ignore_index: int = -100
) -> Array:
    weights = np.exp(logits - logits.max(axis=-1, keepdims=True))
    hot = labels[..., None] == np.arange(logits.shape[-1])
    counts = (labels != ignore_index)[..., None]
    softmax = weights / weights.sum(axis=-1, keepdims=True)
    return np.where(counts, (softmax - hot) * np.asarray(dy)[..., None], 0)


REFERENCE: dict[str, Reference] = {
    "identity": lambda x: x,
    "cast": _cast,
    "relu": lambda x: np.maximum(x, 0),
    "tanh": np.tanh,
    "sigmoid": _sigmoid,
    "exp": np.exp,
    "log": lambda x, epsilon=1e-45: np.log(x + epsilon),
    "erf": _erf,
    "sqrt": np.sqrt,
    "rsqrt": lambda x, epsilon=1e-12: 1 / np.sqrt(x + epsilon),
    "neg": np.negative,
    "abs": np.abs,
    "square": np.square,
    "clip": lambda x, alpha, beta: np.clip(x, alpha, beta),
    "add": np.add,
    "sub": np.subtract,
    "mul": np.multiply,
    "real_div": np.divide,
    "pow": np.power,
    "maximum": np.maximum,
    "minimum": np.minimum,
    "equal": np.equal,
    "not_equal": np.not_equal,
    "less": np.less,
    "less_equal": np.less_equal,
    "greater": np.greater,
    "greater_equal": np.greater_equal,
    "select": np.where,
    "reduce_sum": lambda x, axes=(), keep_dims=False: x.sum(axis=_axes(axes), keepdims=keep_dims),
    "reduce_mean": lambda x, axes=(), keep_dims=False: x.mean(axis=_axes(axes), keepdims=keep_dims),
    "reduce_max": lambda x, axes=(), keep_dims=False: x.max(axis=_axes(axes), keepdims=keep_dims),
    "softmax": softmax,
    "matmul": _matmul,
    "conv": _conv,
    "reshape": _reshape,
    "transpose": lambda x, perm: np.transpose(x, perm),
    "broadcast_to": lambda x, shape: np.broadcast_to(x, shape),
    "concat": lambda *values, **attrs: _concat(values, **attrs),
    "pad": _pad,
    "slice_by_index": _slice_by_index,
    "gather": _gather,
    "scatter": _scatter,
    "slice_update": _slice_update,
    "layer_norm": _layer_norm,
    "rms_norm": _rms_norm,
    "silu": lambda x: x * _sigmoid(x),
    "gelu": _gelu,
    "rope": _rope,
    "scaled_dot_product_attention": _attention,
    "cache_update": _cache_update,
    "cross_entropy": _cross_entropy,
    "silu_gradient": _silu_gradient,
    "gelu_gradient": _gelu_gradient,
    "softmax_gradient": _softmax_gradient,
    "scaled_dot_product_attention_gradient": _attention_gradient,
    "layer_norm_gradient": _layer_norm_gradient,
    "rms_norm_gradient": _rms_norm_gradient,
    "cross_entropy_gradient": _cross_entropy_gradient,
}


def reference(op: str, operands: Sequence[Array | None], attrs: dict[str, Any]) -> Array:
    """The result of an op on NumPy operands; None stands for an operand that is not given."""
    with np.errstate(all="ignore"):
        return np.asarray(REFERENCE[op](*operands, **attrs))
