"""A second reader of MIL text, for tests: the subset that `emit` writes, by regular expressions.

It shares nothing with the parser of the package, so that both must agree on what a text says.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

DTYPES: dict[str, type[np.generic]] = {
    "fp16": np.float16,
    "fp32": np.float32,
    "int32": np.int32,
    "bool": np.bool_,
}


@dataclass(frozen=True)
class Type:
    dtype: str
    shape: tuple[int, ...]


@dataclass(frozen=True)
class Blob:
    """A tensor in the weight file."""

    type: Type
    path: str
    offset: int


@dataclass(frozen=True)
class Statement:
    name: str
    label: str
    type: Type
    op: str
    arguments: dict[str, str | list[str]]
    value: npt.NDArray[Any] | str | Blob | None


@dataclass(frozen=True)
class Program:
    function: str
    inputs: dict[str, Type]
    statements: list[Statement]
    outputs: list[str]


_TYPE = r"(?:tensor<\w+, \[[\d, ]*\]>|\w+)"
_PROGRAM = re.compile(
    r"program\(1\.3\)\n"
    r"\[buildInfo = dict<string, string>\(\{(?:\{\"[^\"]*\", \"[^\"]*\"\}(?:, )?)+\}\)\]\n"
    r"\{\n    func (\w+)<ios18>\((.*)\) \{\n((?:            .*;\n)*)        \} -> \((.*)\);\n\}\n"
)
_STATEMENT = re.compile(
    rf"            ({_TYPE}) (\w+) = (\w+)\((.*?)\)\[name = string\(\"([^\"]*)\"\)(.*)\];"
)
_BLOB = re.compile(
    rf"({_TYPE})\(BLOBFILE\(path = string\(\"([^\"]*)\"\), offset = uint64\((\d+)\)\)\)"
)


def read(text: str) -> Program:
    match = _PROGRAM.fullmatch(text)
    assert match is not None, text
    name, inputs, body, outputs = match.groups()
    declared = re.findall(rf"({_TYPE}) (\w+)", inputs)
    return Program(
        name,
        {variable: read_type(type_) for type_, variable in declared},
        [_statement(line) for line in body.splitlines()],
        outputs.split(", "),
    )


def read_type(text: str) -> Type:
    match = re.fullmatch(r"tensor<(\w+), \[([\d, ]*)\]>", text)
    if match is None:
        return Type(text, ())
    return Type(match[1], tuple(int(size) for size in match[2].split(", ")))


def _statement(line: str) -> Statement:
    match = _STATEMENT.fullmatch(line)
    assert match is not None, line
    type_, name, op, arguments, label, rest = match.groups()
    value = _value(type_, rest.removeprefix(", val = ")) if rest else None
    return Statement(name, label, read_type(type_), op, _arguments(arguments), value)


def _arguments(text: str) -> dict[str, str | list[str]]:
    found = re.findall(r"(\w+) = (\w+|\([\w, ]+\))", text)
    return {k: v[1:-1].split(", ") if v.startswith("(") else v for k, v in found}


def _value(declared: str, text: str) -> npt.NDArray[Any] | str | Blob:
    blob = _BLOB.fullmatch(text)
    if blob is not None:
        assert blob[1] == declared
        return Blob(read_type(blob[1]), blob[2], int(blob[3]))
    assert text.startswith(f"{declared}("), text
    assert text.endswith(")"), text
    inner = text[len(declared) + 1 : -1]
    if declared == "string":
        return inner.strip('"')
    type_ = read_type(declared)
    elements = [_number(e) for e in re.findall(r"[^\[\], ]+", inner)]
    array = np.array(elements, DTYPES[type_.dtype]).reshape(type_.shape)
    assert inner == _nested(inner, type_.shape), "brackets follow the shape"
    return array


def _number(text: str) -> float | int | bool:
    if text in ("true", "false"):
        return text == "true"
    return float.fromhex(text) if re.search("0x|inf|nan", text) else int(text)


def _nested(text: str, shape: tuple[int, ...]) -> str:
    """The elements of `text` in brackets as `shape` says."""
    level: list[str] = re.findall(r"[^\[\], ]+", text)
    for size in reversed(shape):
        groups = [level[i : i + size] for i in range(0, len(level), size)]
        level = [f"[{', '.join(group)}]" for group in groups]
    return level[0]
