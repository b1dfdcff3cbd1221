"""Files of a model: read with suspicion, written whole or not at all."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from orion_ane._core import Error


def read_bytes(path: Path) -> bytes:
    """The whole file; Error naming it and the reason if it cannot be read."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise Error(f"{path}: {error.strerror}") from error


def read_json(path: Path) -> dict[str, Any]:
    """The JSON object a file holds; Error naming the file if it holds anything else."""
    try:
        value = json.loads(read_bytes(path))
    except (ValueError, RecursionError) as error:
        if isinstance(error, Error):
            raise
        raise Error(f"{path}: not JSON: {error}") from error
    if not isinstance(value, dict):
        raise Error(f"{path}: expected a JSON object, found {type(value).__name__}")
    return value


def to_json(value: object) -> bytes:
    """JSON as this package writes it: indented, in the given order, ending in a newline."""
    return (json.dumps(value, indent=2, ensure_ascii=False) + "\n").encode()


@contextlib.contextmanager
def staged_file(target: Path, *, replace: bool = False) -> Iterator[Path]:
    """A path to write to; becomes `target` if the block succeeds, vanishes if it does not."""
    if target.exists() and not replace:
        raise Error(f"{target}: already exists (--force replaces it)")
    if target.is_dir():
        raise Error(f"{target}: is a directory, and a file was to be written")
    _check_parent(target)
    stage = _stage_of(target)
    try:
        yield stage
        _flush(stage)
        stage.replace(target)
        _flush(target.parent)
    finally:
        stage.unlink(missing_ok=True)


@contextlib.contextmanager
def staged_directory(target: Path, *, replaceable: frozenset[str] | None = None) -> Iterator[Path]:
    """A directory to fill; becomes `target` if the block succeeds, vanishes if it does not.

    A `target` that is there already must be empty, or hold only files named in `replaceable`: what
    this package did not write is never deleted.
    """
    _check_replaceable(target, replaceable)
    _check_parent(target)
    stage = _stage_of(target)
    try:
        stage.mkdir()
        yield stage
        for file in stage.iterdir():
            _flush(file)
        _flush(stage)
        _swap(stage, target)
    finally:
        shutil.rmtree(stage, ignore_errors=True)


def _check_replaceable(target: Path, replaceable: frozenset[str] | None) -> None:
    if not target.exists():
        return
    if not target.is_dir():
        raise Error(f"{target}: is a file, and a directory was to be written")
    names = sorted(entry.name for entry in target.iterdir())
    if names and replaceable is None:
        raise Error(f"{target}: already exists and is not empty (--force replaces it)")
    strangers = [name for name in names if name not in (replaceable or ())]
    if strangers:
        raise Error(
            f"{target}: holds '{strangers[0]}', which is not part of a model: not replaced "
            "(choose another directory or remove that file)"
        )


def _check_parent(target: Path) -> None:
    if not target.absolute().parent.is_dir():
        raise Error(f"{target}: its directory '{target.absolute().parent}' does not exist")


def _stage_of(target: Path) -> Path:
    return target.absolute().parent / f".{target.name}.{secrets.token_hex(6)}.partial"


def _swap(stage: Path, target: Path) -> None:
    retired = _stage_of(target)
    if target.exists():
        target.rename(retired)
    try:
        stage.rename(target)
    except OSError:
        if retired.exists():
            retired.rename(target)
        raise
    _flush(target.absolute().parent)
    shutil.rmtree(retired, ignore_errors=True)


def _flush(path: Path) -> None:
    """Waits until a file or directory is on the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
