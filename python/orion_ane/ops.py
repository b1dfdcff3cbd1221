"""Every op of the table as a function: ``ops.softmax(x, axis=-1)``.

The functions are made from the compiled op table when this module is imported; their types are in
``ops.pyi``. Operands are values of a graph; plain numbers and arrays among them become constants.
"""

import inspect
from collections.abc import Callable
from typing import Any

from orion_ane import _core

_EMPTY = inspect.Parameter.empty


def parameters(row: dict[str, Any]) -> list[tuple[str, str, Any]]:
    """(name, kind, default) of an op's parameters, in the order of its Python signature.

    What must be given comes first: operands, then attributes; then what may be left out, likewise.
    The kind is ``value`` or ``values`` for operands and the attribute's kind otherwise.
    """
    operands = [
        (name, "values" if kind == "variadic" else "value", None if kind == "optional" else _EMPTY)
        for name, kind in row["args"]
    ]
    attrs = [
        (name, kind, default if has_default else _EMPTY)
        for name, kind, has_default, default in row["attrs"]
    ]
    both = [operands, attrs]
    required = [p for group in both for p in group if p[2] is _EMPTY]
    optional = [p for group in both for p in group if p[2] is not _EMPTY]
    return required + optional


def _make(row: dict[str, Any]) -> Callable[..., _core.Value]:
    kinds = parameters(row)
    keyword = inspect.Parameter.POSITIONAL_OR_KEYWORD
    signature = inspect.Signature(
        [inspect.Parameter(name, keyword, default=default) for name, _, default in kinds]
        + [inspect.Parameter("name", inspect.Parameter.KEYWORD_ONLY, default="")]
    )
    args = [name for name, _ in row["args"]]
    attrs = [name for name, *_ in row["attrs"]]
    variadic = bool(row["args"]) and row["args"][-1][1] == "variadic"

    def op(*positional: Any, **named: Any) -> _core.Value:
        bound = signature.bind(*positional, **named)
        bound.apply_defaults()
        given = bound.arguments
        operands = list(given[args[0]]) if variadic else [given[arg] for arg in args]
        return _core.call(row["name"], operands, {a: given[a] for a in attrs}, given["name"])

    op.__name__ = op.__qualname__ = row["name"]
    op.__doc__ = row["doc"]
    op.__module__ = __name__
    op.__signature__ = signature  # type: ignore[attr-defined]
    return op


def split(
    x: _core.Value,
    num_splits: int | None = None,
    axis: int = 0,
    split_sizes: list[int] | None = None,
) -> list[_core.Value]:
    """The slices of x along ``axis``: ``num_splits`` equal ones, or ones of ``split_sizes``."""
    return _core.split(x, num_splits, axis, split_sizes)


_functions = {row["name"]: _make(row) for row in _core.op_table()}
globals().update(_functions)
__all__ = sorted([*_functions, "split"])
