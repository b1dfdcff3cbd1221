"""Checkpoints of a training run: one directory each, whole or absent, checked before they are used.

OUT/step-00000100/
    model.safetensors config.json tokenizer.json ...   the model, as Hugging Face has it, or
    adapter_model.safetensors adapter_config.json      the adapter, as PEFT has it
    optimizer.safetensors                              m.<name> and v.<name>, AdamW's moments
    trainer.json                                       everything else, and a SHA-256 per file
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import re
import shutil
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from orion_ane import adapter, checkpoint, storage
from orion_ane._core import Error
from orion_ane.safetensors_file import read_safetensors

OPTIMIZER = "optimizer.safetensors"
RECORD = "trainer.json"
FORMAT = 1
# The parts of the optimizer's file: AdamW's first and second moments.
MOMENTS = ("m", "v")

_NAME = re.compile(r"step-(\d{8,18})")
_LEFTOVER = re.compile(r"\.(step-\d+|metrics\.jsonl|loss\.png)\.[0-9a-f]{12}\.partial")
_REPLACEABLE = checkpoint.WRITTEN | adapter.WRITTEN | {OPTIMIZER, RECORD}

Record = dict[str, Any]
Arrays = Mapping[str, NDArray[Any]]


class DamagedCheckpointWarning(UserWarning):
    """A checkpoint was passed over since its files are not what was written."""


@dataclass(frozen=True)
class Content:
    """What goes into a checkpoint."""

    fill: Callable[[Path], None]
    """Writes what was trained into a directory."""
    moments: tuple[Arrays, Arrays]
    record: Record


def directory_of(out: Path, step: int) -> Path:
    """Where the checkpoint of a step is."""
    return out / f"step-{step:08d}"


def write(directory: Path, content: Content) -> None:
    """Writes a checkpoint, on the disk when this returns; Error if it cannot be."""
    try:
        directory.parent.mkdir(parents=True, exist_ok=True)
        with storage.staged_directory(directory, replaceable=_REPLACEABLE) as stage:
            content.fill(stage)
            checkpoint.save_tensors(stage / OPTIMIZER, _joined(content.moments))
            files = {entry.name: _fingerprint(entry) for entry in sorted(stage.iterdir())}
            record = content.record | {"format": FORMAT, "files": files}
            record["sha256"] = _digest(record)
            (stage / RECORD).write_bytes(storage.to_json(record))
    except OSError as error:
        raise Error(f"{directory}: not written: {error}") from error


def newest(out: Path) -> Path | None:
    """The newest checkpoint that is whole, None if there is none at all.

    A damaged one is passed over with a DamagedCheckpointWarning; Error if all are damaged.
    """
    found = steps(out)
    for step in reversed(found):
        directory = directory_of(out, step)
        try:
            verify(directory)
        except Error as error:
            warnings.warn(f"damaged, not used: {error}", DamagedCheckpointWarning, stacklevel=2)
            continue
        return directory
    if found:
        raise Error(f"{out}: all {len(found)} checkpoints are damaged")
    return None


def verify(directory: Path) -> Record:
    """What trainer.json says; Error naming the file that is missing or not what was written."""
    path = directory / RECORD
    record = storage.read_json(path)
    if record.get("format") != FORMAT:
        raise Error(f"{path}: format {record.get('format')!r}, this version reads {FORMAT}")
    files = record.get("files")
    if record.pop("sha256", None) != _digest(record) or not isinstance(files, dict):
        raise Error(f"{path}: its checksum is not that of its content")
    for name, expected in files.items():
        if Path(name).name != name or not (directory / name).is_file():
            raise Error(f"{directory / name}: missing")
        if _fingerprint(directory / name) != expected:
            raise Error(f"{directory / name}: its checksum is not the one in {RECORD}")
    return record


def read_moments(directory: Path, shapes: Mapping[str, tuple[int, ...]]) -> tuple[Arrays, Arrays]:
    """AdamW's moments by name; Error unless they are exactly those of the model."""
    path = directory / OPTIMIZER
    stored = read_safetensors(path)
    expected = {f"{part}.{name}": shape for part in MOMENTS for name, shape in shapes.items()}
    checkpoint.check(expected, {name: each.raw for name, each in stored.items()}, path)
    for name, each in stored.items():
        each.require_finite(f"{path}: tensor '{name}'")
    first, second = (
        {name: stored[f"{part}.{name}"].array() for name in shapes} for part in MOMENTS
    )
    return first, second


def steps(out: Path) -> list[int]:
    """The steps of which there are checkpoints, ascending."""
    if not out.is_dir():
        return []
    found = [_NAME.fullmatch(entry.name) for entry in out.iterdir() if entry.is_dir()]
    return sorted(int(match[1]) for match in found if match)


def prune(out: Path, keep_last: int) -> None:
    """Removes all but the newest; what is half removed has no checkpoint's name."""
    for step in steps(out)[:-keep_last] if keep_last else []:
        retired = out / f".{directory_of(out, step).name}.{os.urandom(6).hex()}.partial"
        directory_of(out, step).rename(retired)
        shutil.rmtree(retired)


def require_fresh(out: Path) -> None:
    """Error if a new run must not write to a directory."""
    if out.exists() and not out.is_dir():
        raise Error(f"{out}: is a file, and a directory was to be written")
    others = (
        [entry.name for entry in out.iterdir() if not _LEFTOVER.fullmatch(entry.name)]
        if (out.is_dir())
        else []
    )
    if others:
        raise Error(
            f"{out}: not empty, it holds '{min(others)}' (--resume goes on from its newest "
            "checkpoint; or choose another directory)"
        )


@contextlib.contextmanager
def claimed(out: Path) -> Iterator[None]:
    """Keeps other runs out of a directory, and removes what a killed one left behind."""
    try:
        out.mkdir(parents=True, exist_ok=True)
        handle = os.open(out, os.O_RDONLY)
    except OSError as error:
        raise Error(f"{out}: no directory that can be written to: {error.strerror}") from error
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise Error(f"{out}: another run is training into it") from error
        for entry in out.iterdir():
            if _LEFTOVER.fullmatch(entry.name):
                shutil.rmtree(entry) if entry.is_dir() else entry.unlink()
        yield
    finally:
        os.close(handle)


def _joined(moments: tuple[Arrays, Arrays]) -> dict[str, NDArray[Any]]:
    return {
        f"{part}.{name}": array
        for part, arrays in zip(MOMENTS, moments, strict=True)
        for name, array in arrays.items()
    }


def _fingerprint(path: Path) -> dict[str, Any]:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return {"bytes": path.stat().st_size, "sha256": digest.hexdigest()}


def _digest(record: Record) -> str:
    return hashlib.sha256(storage.to_json(record)).hexdigest()
