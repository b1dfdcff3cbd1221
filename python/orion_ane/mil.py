"""MIL text: the program format of Core ML and of the Neural Engine's compiler."""

from __future__ import annotations

from collections.abc import Mapping
from os import PathLike
from typing import Any

from numpy.typing import NDArray

from orion_ane import _core
from orion_ane._core import Graph

__all__ = ["blob_entries", "diff", "emit", "lower", "parse", "write_program"]


def emit(graph: Graph) -> str:
    """The graph as a MIL program, every parameter a named constant, floats exact.

    Ops that MIL lacks are expanded first (see `lower`). `emit(parse(emit(g)))` is `emit(g)`.
    """
    return _core.emit_mil(graph)


def parse(text: str, function: str | None = None) -> Graph:
    """One function of a MIL program: the one named, or `main`, or the only one.

    What the text reads from a weight file becomes a weight of the graph. Raises `Error` with line
    and column if the text is not MIL or uses what graphs do not have.
    """
    return _core.parse_mil(text, function)


def diff(a: Graph | str, b: Graph | str) -> list[str]:
    """How two graphs (or MIL texts) differ, a line each; empty if they compute the same alike.

    Names of inputs, outputs and weights matter, names of inner nodes do not.
    """
    return _core.diff_mil(_graph(a), _graph(b))


def lower(graph: Graph) -> Graph:
    """The graph as `emit` writes it.

    Ops that MIL lacks are expanded, every output is a node of its own, and names are such that MIL
    can have them. An output with an input's name is called `<name>_out`.
    """
    return _core.lower_to_mil(graph)


def blob_entries(graph: Graph) -> list[tuple[str, int, str, tuple[int, ...]]]:
    """(name, offset, dtype, shape) of what the weight file of `emit(graph)` must hold."""
    return _core.blob_entries(graph)


def write_program(
    graph: Graph, weights: Mapping[str, NDArray[Any]], directory: str | PathLike[str]
) -> None:
    """Writes `model.mil` and `weights/weight.bin` into `directory`, which is created if missing."""
    _core.write_program(graph, dict(weights), directory)


def _graph(graph: Graph | str) -> Graph:
    return parse(graph) if isinstance(graph, str) else graph
