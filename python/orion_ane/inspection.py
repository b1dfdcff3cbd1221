"""What is in a file: a model, a package, a tokenizer, a MIL program, a weight file."""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from orion_ane import _core, checkpoint, llama2c, llama2c_tokenizer, mil, packed, tokenizer, weights
from orion_ane._core import Error, Package
from orion_ane.data import TokenFile, is_token_file
from orion_ane.safetensors_file import read_safetensors
from orion_ane.weights import WeightFile

Report = dict[str, Any]


def inspect(path: str | Path) -> Report:
    """A description of what `path` (or a bundled model) holds, made of what JSON can say."""
    path = checkpoint.locate(path)
    if path.is_dir():
        return _inspect_directory(path)
    match path.suffix:
        case ".bin":
            return _inspect_bin(path)
        case ".safetensors":
            stored = read_safetensors(path)
            tensors = [_tensor(name, found.dtype, found.shape) for name, found in stored.items()]
            return {"kind": "safetensors", "path": str(path), "tensors": tensors}
        case ".mil":
            return _inspect_mil(path)
        case ".json" | ".model":
            return _inspect_tokenizer(path)
    raise Error(
        f"{path}: unknown kind of file (known: a model directory, .bin, .safetensors, .mil, "
        "tokenizer.json, .model)"
    )


def render(report: Report) -> str:
    """The report for reading: `key: value` lines, tables for lists."""
    return "\n".join(_lines(report))


def _inspect_directory(path: Path) -> Report:
    if _core.is_package(path):
        return _inspect_package(Package(path))
    if packed.is_packed(path):
        return _inspect_packed(path)
    if (path / "config.json").is_file():
        return _inspect_model(path)
    if (path / "model.mil").is_file():
        return _inspect_mil(path / "model.mil")
    return _inspect_tokenizer(path)


def _inspect_bin(path: Path) -> Report:
    if is_token_file(path):
        return _inspect_tokens(path)
    if llama2c.is_checkpoint(path):
        return _inspect_model(path)
    if llama2c_tokenizer.is_tokenizer(path):
        return _inspect_tokenizer(path)
    return _inspect_weights(path)


def _inspect_tokens(path: Path) -> Report:
    found = TokenFile(path)
    return {
        "kind": "token file",
        "path": str(path),
        "format": found.kind,
        "tokens": len(found),
        "bytes per token": found.width,
        "largest id": found.max_token,
        "sha256": found.hash,
        **(found.facts or {}),
    }


def _inspect_model(path: Path) -> Report:
    model = checkpoint.read(path)
    names = list(model.weights)
    return {
        "kind": "model",
        "path": str(path),
        "format": "llama2.c checkpoint" if path.suffix == ".bin" else "Hugging Face directory",
        "model_type": model.config["model_type"],
        "dtype": model.dtype,
        "parameters": sum(math.prod(model.weights.shape(name)) for name in names),
        "config": {key: value for key, value in model.config.items() if key != "model_type"},
        "tensors": [
            _tensor(name, model.weights.dtype_of(name), model.weights.shape(name)) for name in names
        ],
    }


def _inspect_packed(path: Path) -> Report:
    model = packed.read(path)
    model.verify()
    tensors = model.file.tensors
    return {
        "kind": "packed model",
        "path": str(path),
        "model_type": model.config["model_type"],
        "dtype": model.dtype,
        "parameters": sum(math.prod(shape) for _, _, shape, _ in tensors),
        "bytes": sum(size for _, _, _, size in tensors),
        "made from": model.fingerprint,
        "config": {key: value for key, value in model.config.items() if key != "model_type"},
        "tensors": [
            _tensor(name, kept, shape) | {"bytes": size} for name, kept, shape, size in tensors
        ],
    }


def _inspect_package(package: Package) -> Report:
    package.verify()
    config = json.loads(package.read("config.json"))
    return {
        "kind": "package",
        "path": str(package.directory),
        "orion": package.version,
        "model_type": config["model_type"],
        "profile": package.profile,
        "programs": package.programs,
        "prompt columns": package.buckets,
        "parameters": sum(math.prod(shape) for shape in _core.model_weights(config).values()),
        "bytes": sum(size for _, size, _ in package.files),
        "config": {key: value for key, value in config.items() if key != "model_type"},
        "files": [
            {"path": path, "bytes": size, "sha256": digest} for path, size, digest in package.files
        ],
    }


def _inspect_tokenizer(path: Path) -> Report:
    found = tokenizer.load(path)
    bos = None if found.bos_id is None else f"{found.bos_id} {found.token(found.bos_id)!r}"
    return {
        "kind": "tokenizer",
        "path": str(path),
        "package": found.kind,
        "tokens": found.vocab_size,
        "bos": bos,
        "eos": [f"{index} {found.token(index)!r}" for index in found.eos_ids],
        "encoding begins with bos": found.adds_bos,
        "example": {
            text: found.encode(text, add_bos=False) for text in ("Hello world", " naïve", "1 + 1")
        },
    }


def _inspect_mil(path: Path) -> Report:
    try:
        graph = mil.parse(path.read_text(encoding="utf-8"))
    except UnicodeDecodeError as error:
        raise Error(f"{path}: not UTF-8 text: {error}") from error
    except Error as error:
        raise Error(f"{path}: {error}") from error
    sources = ("input", "weight", "const")
    counts = Counter(node.op for node in graph.nodes if node.op not in sources)
    return {
        "kind": "MIL program",
        "path": str(path),
        "function": graph.name,
        "inputs": _ports(graph.inputs),
        "outputs": _ports(graph.outputs),
        "operations": dict(sorted(counts.items(), key=lambda item: (-item[1], item[0]))),
        "weights": _ports(graph.weights),
    }


def _inspect_weights(path: Path) -> Report:
    try:
        found = weights.read(path)
    except Error as error:
        raise Error(f"{path}: no llama2.c file either; as a weight file: {error}") from error
    return {
        "kind": "weight file",
        "path": str(path),
        "chunks": [_chunk(found, key) for key in found],
    }


def _tensor(name: str, dtype: str, shape: Sequence[int]) -> Report:
    return {"name": name, "dtype": dtype, "shape": list(shape)}


def _ports(values: Mapping[str, Any]) -> list[Report]:
    return [_tensor(name, value.dtype, value.shape) for name, value in values.items()]


def _chunk(found: WeightFile, key: str | int) -> Report:
    dtype, shape = found.dtype_of(key), found.shape_of(key)
    return {
        "offset": found.offset_of(key),
        "dtype": dtype,
        "bytes": (math.prod(shape) * _bits(dtype) + 7) // 8,
        "shape": list(shape),
        "name": key if isinstance(key, str) else None,
    }


def _bits(dtype: str) -> int:
    """The first number in a type's name: 16 of bf16, 8 of fp8e4m3fn, 4 of int4."""
    found = re.search(r"\d+", dtype)
    assert found
    return int(found[0])


def _lines(report: Mapping[str, Any], indent: str = "") -> Iterable[str]:
    for key, value in report.items():
        if isinstance(value, dict) and value:
            yield f"{indent}{key}:"
            yield from _lines(value, indent + "  ")
        elif isinstance(value, list) and value and isinstance(value[0], dict):
            yield f"{indent}{key}:"
            yield from _table(value, indent + "  ")
        else:
            yield f"{indent}{key}: {_text(value)}"


def _table(rows: Sequence[Mapping[str, Any]], indent: str) -> Iterable[str]:
    columns = [[key, *(_text(row[key]) for row in rows)] for key in rows[0]]
    widths = [max(map(len, column)) for column in columns]
    for cells in zip(*columns, strict=True):
        padded = (cell.ljust(width) for cell, width in zip(cells, widths, strict=True))
        yield (indent + "  ".join(padded)).rstrip()


def _text(value: Any) -> str:
    match value:
        case None | []:
            return "none"
        case bool():
            return "yes" if value else "no"
        case int():
            return str(value)
        case list():
            return f"({', '.join(map(_text, value))})"
    return str(value)
