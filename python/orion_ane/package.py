"""Packages: models compiled for an engine, that run without the checkpoint they came from."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from os import PathLike
from pathlib import Path

from orion_ane import _core, ane, checkpoint, storage, tokenizer
from orion_ane._core import Error, Package


def compile_model(
    model: str | Path,
    directory: str | PathLike[str],
    *,
    profile: str | PathLike[str] = "strict",
    buckets: Sequence[int] = (),
    replace: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> Package:
    """Writes `model` as a package: programs for the engine, weights, configuration and tokenizer.

    `profile` names the engine whose limits the programs keep (or the file that `orion probe`
    wrote); "strict" is taken by every engine that is known. `buckets` are the lengths of prompts
    that programs are made for, by default up to the model's context. A package that is there is
    replaced only with `replace`, any other directory never. `progress` is told, after each program,
    how many of how many there are. Either everything is written or nothing.
    """
    source = checkpoint.locate(model)
    if _core.is_package(source):
        raise Error(f"{source}: is a package already; compile the model it came from")
    found = checkpoint.read(source)
    found.check_complete()
    words = tokenizer.load_if_any(source)
    _core.write_package(
        Path(directory),
        storage.to_json(found.config),
        found.weights,
        profile=ane.profile_name(profile),
        buckets=list(buckets),
        files=words.files if words else {},
        replace=replace,
        progress=progress,
    )
    return Package(directory)
