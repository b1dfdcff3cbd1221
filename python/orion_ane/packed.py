"""Packed models: directories whose matrices are as the CPU's programs read them.

The file is mapped and read in place: loading packs and copies nothing, and processes share it.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from orion_ane import _core, checkpoint, storage
from orion_ane._core import Error, LanguageModel, PackedFile
from orion_ane.checkpoint import PACKED, Checkpoint
from orion_ane.tokenizer import Tokenizer

ONLY_PACKED = ("bf16", "int8", "int4")
"""Widths that no plain checkpoint is written in."""


@dataclass(frozen=True)
class PackedModel:
    """A model that can run, and nothing else."""

    config: dict[str, Any]
    """The content of `config.json`."""
    file: PackedFile
    path: Path
    """The directory."""

    @property
    def dtype(self) -> str:
        """How weights are kept."""
        return self.file.dtype

    @property
    def source(self) -> Path:
        """The file with the weights: what errors name."""
        return self.path / PACKED

    @functools.cached_property
    def fingerprint(self) -> str:
        """That of the checkpoint it was made from."""
        return self.file.source

    def load(self, device: str) -> LanguageModel:
        """The weights where they are, on a device that reads them."""
        try:
            return self.file.load(self.config, device)
        except Error as error:
            raise Error(f"{self.source}: {error}") from error

    def verify(self) -> None:
        """Reads all of it; Error naming the first tensor that is not what was written."""
        self.load("cpu")
        self.file.verify()


def is_packed(path: Path) -> bool:
    """Whether a path is a directory with packed weights; Error if it has plain ones too."""
    if not (path / PACKED).is_file():
        return False
    for name in (checkpoint.WEIGHTS, checkpoint.INDEX):
        if (path / name).exists():
            raise Error(f"{path}: holds both {name} and {PACKED}; remove one of them")
    return True


def read(directory: Path) -> PackedModel:
    """Error naming the file for anything wrong with its structure. Weights are not read."""
    config = checkpoint.read_config(directory)
    return PackedModel(config, PackedFile(directory / PACKED), directory)


def write(
    directory: Path, found: Checkpoint, words: Tokenizer | None, dtype: str, *, replace: bool
) -> None:
    """Writes a model as `read` takes it, in the width and order in which it would be loaded: all
    of it, or nothing.
    """
    found.check_complete()
    names = checkpoint.WRITTEN if replace else None
    with storage.staged_directory(directory, replaceable=names) as stage:
        _core.write_packed(
            stage / PACKED, found.config, found.weights, dtype, source=found.fingerprint
        )
        checkpoint.fill_around(stage, found.config, words)
