"""Training data: files of token ids, and batches of them.

    from orion_ane import data

    for ids, targets in data.Dataset("data.bin", batch=8, sequence=256, seed=1):
        ...  # int32 (8, 256) each, without end

`orion prepare` writes such files from text; docs/data.md says what they hold, and what else is
read.
"""

from __future__ import annotations

import operator
import struct
from collections.abc import Iterator
from os import PathLike
from pathlib import Path
from typing import Any, NamedTuple, SupportsIndex, TypeAlias, overload

import numpy as np
from numpy.typing import NDArray

from orion_ane import _core

__all__ = ["Batch", "Cursor", "Dataset", "TokenFile", "is_token_file"]

# Orion's, and llm.c's two.
_MAGICS = (b"ORIONTOK", *(struct.pack("<i", magic) for magic in (20240520, 20240801)))

Ids: TypeAlias = NDArray[np.int32]


class Batch(NamedTuple):
    """int32 (B, S); `targets[b, s]` is the token that follows `ids[b, s]`."""

    ids: Ids
    targets: Ids


class Cursor(NamedTuple):
    """Where the next batch comes from: a place in an epoch's order, the same for all ranks."""

    epoch: int
    window: int


class TokenFile:
    """A file of token ids, mapped: a read-only sequence of ints whose slices are int32 arrays.

    `format` is the width where no header states it: "u16" as llama2.c writes, "u32", or "auto", by
    the name (.bin and .u16, .u32).
    """

    def __init__(self, path: str | PathLike[str], format: str = "auto") -> None:  # noqa: A002
        self._file = _core.TokenFile(Path(path), format)

    def __len__(self) -> int:
        return len(self._file)

    @overload
    def __getitem__(self, index: SupportsIndex) -> int: ...

    @overload
    def __getitem__(self, index: slice) -> Ids: ...

    def __getitem__(self, index: SupportsIndex | slice) -> int | Ids:
        if isinstance(index, slice):
            begin, end, step = index.indices(len(self))
            if step < 0:
                raise _core.Error(f"slice with step {step}: a positive step is needed")
            ids: Ids = self._file.slice(begin, end)[::step]
            return ids
        place = operator.index(index)
        place += len(self) if place < 0 else 0
        if not 0 <= place < len(self):
            raise IndexError(f"token {operator.index(index)} of {len(self)}")
        return int(self._file.slice(place, place + 1)[0])

    @property
    def path(self) -> Path:
        """As it was given."""
        return self._file.path

    @property
    def width(self) -> int:
        """Bytes per token, 2 or 4."""
        return self._file.width

    @property
    def kind(self) -> str:
        """Whose header it has: "orion", "llm.c", or "raw" for none."""
        return self._file.kind

    @property
    def facts(self) -> dict[str, Any] | None:
        """Orion's header: vocab, separator, tokenizer (its SHA-256), documents, text_bytes."""
        facts: dict[str, Any] | None = self._file.facts
        return facts

    @property
    def max_token(self) -> int:
        """The largest id; reads the file through, once."""
        return self._file.max_token

    @property
    def hash(self) -> str:
        """SHA-256 of the tokens' bytes without the header; reads the file through, once."""
        return self._file.hash


def is_token_file(path: str | PathLike[str]) -> bool:
    """Whether the file begins as token files with a header do."""
    with Path(path).open("rb") as file:
        return file.read(8).startswith(_MAGICS)


class Dataset:
    """Batches of windows of `sequence` + 1 tokens, in a new order each epoch, without end.

    `validation` is the share of windows, from the end of the file, that is kept apart. Ids must be
    below `vocab`, by default below what the file says itself. Of `ranks` processes that train
    together with the same options, each gets its own rows of a batch `ranks` times as large.
    """

    def __init__(
        self,
        tokens: TokenFile | str | PathLike[str],
        batch: int = 8,
        sequence: int = 256,
        *,
        seed: int = 0,
        validation: float = 0.0,
        vocab: int | None = None,
        shuffle: bool = True,
        rank: int = 0,
        ranks: int = 1,
    ) -> None:
        if batch < 1:
            raise _core.Error(f"batch is {batch}, at least 1 is needed")
        self.tokens = tokens if isinstance(tokens, TokenFile) else TokenFile(tokens)
        self.batch = batch
        self.sequence = sequence
        self.seed = seed
        self.rank, self.ranks = rank, ranks
        self._core = _core.Dataset(
            self.tokens._file,
            sequence=sequence,
            seed=seed,
            validation=validation,
            vocab=vocab or 0,
            shuffle=shuffle,
            rank=rank,
            ranks=ranks,
        )

    def __iter__(self) -> Iterator[Batch]:
        return self

    def __next__(self) -> Batch:
        return Batch(*self._core.next(self.batch))

    @property
    def windows(self) -> int:
        """Windows of an epoch, for all ranks together."""
        return self._core.windows

    @property
    def cursor(self) -> Cursor:
        """Where the next batch comes from; with `seek` it restores everything."""
        return Cursor(*self._core.cursor)

    def seek(self, cursor: tuple[int, int]) -> None:
        """Goes on from a cursor of a dataset with the same `hash`."""
        self._core.seek(*cursor)

    def epoch(self) -> Iterator[Batch]:
        """From here on, an epoch from its start; the last batch may be smaller."""
        self.seek((self.cursor.epoch, 0))
        for begin in range(0, self.windows, self.batch * self.ranks):
            rows = min(self.batch, self.windows - begin - self.rank * self.batch)
            ids, targets = next(self)
            if rows > 0:
                yield Batch(ids[:rows], targets[:rows])

    @property
    def validation_windows(self) -> int:
        """Windows kept for validation."""
        return self._core.validation_windows

    def validation(self) -> Iterator[Batch]:
        """Each validation window once, in the file's order; the last batch may be smaller."""
        for begin in range(0, self.validation_windows, self.batch):
            batch = min(self.batch, self.validation_windows - begin)
            yield Batch(*self._core.validation(begin, batch))

    @property
    def hash(self) -> str:
        """Identifies what a cursor means: tokens, windows and order."""
        return self._core.hash
