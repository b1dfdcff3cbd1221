"""Texts to train on, read as a stream: plain text, JSON lines, Parquet.

A document may be larger than memory, so it arrives in parts.
"""

from __future__ import annotations

import codecs
import contextlib
import itertools
import json
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from orion_ane._core import Error
from orion_ane.text import require_unicode

FORMATS = ("txt", "jsonl", "parquet")
STDIN = "-"

_SUFFIXES = {
    ".txt": "txt",
    ".md": "txt",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".parquet": "parquet",
}
_LONGEST_PIECE = 1 << 20  # bytes of a line read at once
_ROWS = 1024  # of Parquet, read at once


class Part(NamedTuple):
    """Some text of a document, and whether the document ends there."""

    text: str
    is_last: bool


@dataclass(frozen=True)
class Reading:
    """How files are read."""

    format: str | None = None
    """One of FORMATS; None goes by the suffix."""
    field: str = "text"
    """The key or column that holds the text."""
    separator: str | None = None
    """The line between documents of plain text; None: a file is a document."""
    skip_empty: bool = False
    """Whether JSON lines and Parquet rows without text are left out, instead of an Error."""


def total_size(paths: Sequence[str]) -> int | None:
    """Bytes to read, None if a stream does not tell; Error if a file is missing."""
    for path in paths:
        if path != STDIN and not Path(path).exists():
            raise Error(f"{path}: no such file")
    is_known = all(path != STDIN and Path(path).is_file() for path in paths)
    return sum(Path(path).stat().st_size for path in paths) if is_known else None


def read(
    paths: Sequence[str],
    reading: Reading,
    on_read: Callable[[int], object] = lambda _: None,
) -> Iterator[Part]:
    """The documents of all files; `on_read` is told of bytes as they are read.

    Error naming the file and line for text that is not UTF-8, a record without text, a file
    without documents.
    """
    formats = [_format_of(path, reading) for path in paths]
    for path, format_ in zip(paths, formats, strict=True):
        found = False
        for part in _READERS[format_](path, reading, on_read):
            found = True
            yield part
        if not found:
            raise Error(f"{_name(path)}: no text in it")


def _format_of(path: str, reading: Reading) -> str:
    """The format of a file; plain text on stdin."""
    format_ = reading.format or ("txt" if path == STDIN else _SUFFIXES.get(Path(path).suffix))
    if format_ is None:
        known = ", ".join(_SUFFIXES)
        raise Error(f"{path}: the suffix does not tell the format ({known}); say --format")
    if format_ == "parquet" and path == STDIN:
        raise Error("-: Parquet is read from its end, and cannot come from stdin")
    return format_


def _name(path: str) -> str:
    return "stdin" if path == STDIN else path


@contextlib.contextmanager
def _opened(path: str) -> Iterator[BinaryIO]:
    if path == STDIN:
        yield sys.stdin.buffer
        return
    with Path(path).open("rb") as stream:
        yield stream


# -- plain text -----------------------------------------------------------------------------------


def _read_text(path: str, reading: Reading, on_read: Callable[[int], object]) -> Iterator[Part]:
    with _opened(path) as stream:
        pieces = _pieces(stream, _name(path), on_read)
        if reading.separator is None:
            yield from _whole(text for text, _ in pieces)
        else:
            yield from _separated(pieces, reading.separator)


def _pieces(
    stream: BinaryIO, name: str, on_read: Callable[[int], object]
) -> Iterator[tuple[str, bool]]:
    """Lines, long ones in pieces, and whether each begins a line. A byte order mark is no text."""
    decoder = codecs.getincrementaldecoder("utf-8")()
    line, begins = 1, True
    while data := stream.readline(_LONGEST_PIECE):
        on_read(len(data))
        text = _decoded(decoder, data, f"{name}:{line}")
        yield text.removeprefix("\ufeff") if line == 1 and begins else text, begins
        begins = data.endswith(b"\n")
        line += begins
    _decoded(decoder, b"", f"{name}:{line}", final=True)


def _decoded(
    decoder: codecs.IncrementalDecoder, data: bytes, where: str, *, final: bool = False
) -> str:
    try:
        return decoder.decode(data, final)
    except UnicodeDecodeError as error:
        raise Error(_not_utf8(error, where)) from error


def _not_utf8(error: UnicodeDecodeError, where: str) -> str:
    byte = error.object[error.start]
    return f"{where}: not UTF-8: byte 0x{byte:02X} at {error.start} ({error.reason})"


def _whole(texts: Iterable[str]) -> Iterator[Part]:
    found = False
    for text in texts:
        found = found or bool(text)
        yield Part(text, False)
    if found:
        yield Part("", True)


def _separated(pieces: Iterable[tuple[str, bool]], separator: str) -> Iterator[Part]:
    """Documents between lines that are `separator`, without the newlines at both their ends."""
    newlines, started = "", False
    for text, begins in pieces:
        body = text.rstrip("\r\n")
        if begins and body == separator:
            if started:
                yield Part("", True)
            newlines, started = "", False
        elif body:
            yield Part(newlines + body, False)
            newlines, started = text[len(body) :], True
        elif started:
            newlines += text
    if started:
        yield Part("", True)


# -- records --------------------------------------------------------------------------------------


def _read_json_lines(
    path: str, reading: Reading, on_read: Callable[[int], object]
) -> Iterator[Part]:
    with _opened(path) as stream:
        for line, data in enumerate(stream, 1):
            on_read(len(data))
            where = f"{_name(path)}:{line}"
            if data.strip():
                yield from _record(_field(_json(data, where), reading.field, where), reading, where)


def _json(data: bytes, where: str) -> Any:
    try:
        return json.loads(data.decode())
    except UnicodeDecodeError as error:
        raise Error(_not_utf8(error, where)) from error
    except (ValueError, RecursionError) as error:
        raise Error(f"{where}: not JSON: {error}") from error


def _field(value: Any, field: str, where: str) -> Any:
    if not isinstance(value, dict):
        raise Error(f"{where}: a JSON object is needed on each line, not {type(value).__name__}")
    if field not in value:
        raise Error(_no_field("field", field, value, where))
    return value[field]


def _no_field(kind: str, field: str, names: Iterable[str], where: str) -> str:
    there = ", ".join(map(repr, names)) or "none"
    return f"{where}: no {kind} '{field}' (there are: {there}); say --field"


def _record(text: Any, reading: Reading, where: str) -> Iterator[Part]:
    if not isinstance(text, str | None):
        raise Error(f"{where}: '{reading.field}' is {type(text).__name__}, and text is needed")
    if text:
        yield Part(require_unicode(text, where), True)
    elif not reading.skip_empty:
        raise Error(f"{where}: '{reading.field}' is empty (--skip-empty leaves such records out)")


def _read_parquet(path: str, reading: Reading, on_read: Callable[[int], object]) -> Iterator[Part]:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise Error(f"{path}: Parquet needs pyarrow (pip install 'orion-ane[parquet]')") from error
    size = Path(path).stat().st_size
    try:
        with pyarrow.parquet.ParquetFile(path) as file:
            names = file.schema_arrow.names
            if reading.field not in names:
                raise Error(_no_field("column", reading.field, names, path))
            rows = itertools.count(1)
            for batch in file.iter_batches(_ROWS, columns=[reading.field]):
                on_read(size * batch.num_rows // file.metadata.num_rows)
                for text, row in zip(batch.column(0).to_pylist(), rows, strict=False):
                    yield from _record(text, reading, f"{path}: row {row}")
    except (pyarrow.ArrowException, OSError) as error:
        raise Error(f"{path}: not readable as Parquet: {error}") from error


_READERS = {"txt": _read_text, "jsonl": _read_json_lines, "parquet": _read_parquet}
