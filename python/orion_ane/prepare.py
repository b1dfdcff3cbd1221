"""Text to token files, as a stream: memory does not grow with the text."""

from __future__ import annotations

import re
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from orion_ane import _core
from orion_ane._core import Error
from orion_ane.documents import Part
from orion_ane.tokenizer import Tokenizer

BATCH = 1 << 17
"""Characters that are encoded at once."""

_CONTEXT = 256  # characters on either side that a place's tokens may depend on
_TRIES = 64
_LONE_SPACE = re.compile(r"(?<=\S)\s(?=\S)")


@dataclass(frozen=True)
class Summary:
    """What was written to one file."""

    path: str
    documents: int
    tokens: int
    text_bytes: int
    width: int
    vocab: int
    separator: int | None
    seconds: float

    @property
    def bytes_per_token(self) -> float:
        """Of text, in UTF-8."""
        return self.text_bytes / self.tokens


@dataclass(frozen=True)
class Separator:
    """What goes around each document."""

    id: int | None
    before: tuple[int, ...] = ()
    after: tuple[int, ...] = ()


def separator_of(tokenizer: Tokenizer, choice: str | int | None = None) -> Separator:
    """BOS before each document ("bos"), EOS after it ("eos"), an id before it, or "none".

    By default BOS if the tokenizer begins texts with it, else EOS.
    """
    choice = choice if choice is not None else "bos" if tokenizer.adds_bos else "eos"
    if choice == "none":
        return Separator(None)
    if choice == "eos":
        if tokenizer.eos_id is None:
            raise Error("separator 'eos': this tokenizer has no EOS token; give an id, or 'none'")
        return Separator(tokenizer.eos_id, after=(tokenizer.eos_id,))
    if choice == "bos":
        if tokenizer.bos_id is None:
            raise Error("separator 'bos': this tokenizer has no BOS token; give an id, or 'none'")
        return Separator(tokenizer.bos_id, before=(tokenizer.bos_id,))
    if not isinstance(choice, int):
        raise Error(f"separator {choice!r}: 'bos', 'eos', 'none' or a token id is needed")
    return Separator(choice, before=(choice,))


def validation_path(output: Path) -> Path:
    """Where the validation documents of `output` go: data.bin has data-validation.bin beside it."""
    return output.with_name(f"{output.stem}-validation{output.suffix}")


def prepare(
    documents: Iterable[Part],
    output: str | Path,
    tokenizer: Tokenizer,
    *,
    vocab: int | None = None,
    separator: str | int | None = None,
    validation: float = 0.0,
    replace: bool = False,
) -> list[Summary]:
    """Writes the documents' tokens to `output`; with a `validation` share, that share of the
    documents, evenly spread, to `validation_path` instead.

    `vocab` is the model's, by default the tokenizer's: every id is checked against it. Files
    appear whole or not at all.
    """
    if not 0 <= validation < 1:
        raise Error(f"validation is {validation}, a share from 0 to below 1 is needed")
    output = Path(output)
    paths = [output, validation_path(output)] if validation else [output]
    for path in paths:
        if path.exists() and not replace:
            raise Error(f"{path}: already exists (--force replaces it)")
    around = separator_of(tokenizer, separator)
    outputs = [_Output(path, tokenizer, vocab or tokenizer.vocab_size, around) for path in paths]
    try:
        _distribute(documents, outputs, validation)
        return [each.commit() for each in reversed(outputs)][::-1]
    finally:
        for each in outputs:
            each.discard()


def _distribute(documents: Iterable[Part], outputs: Sequence[_Output], validation: float) -> None:
    index = 0
    for text, is_last in documents:
        chosen = int((index + 1) * validation) > int(index * validation)
        outputs[chosen].add(text, is_last)
        index += is_last
    for output in outputs:
        output.flush()
        if output.documents == 0:
            raise Error(
                f"{output.path}: no document of {index} would be in it (validation {validation}); "
                "separate the documents, or leave validation to the dataset"
            )


class _Output:
    """A token file being written: whole documents in batches, long ones piece by piece."""

    def __init__(self, path: Path, tokenizer: Tokenizer, vocab: int, around: Separator) -> None:
        self.path = path
        self.documents = 0
        self._text_bytes = 0
        self._start = time.perf_counter()
        self._vocab = vocab
        self._around = around
        self._tokenizer = tokenizer
        self._writer = _core.TokenWriter(path, vocab, around.id, tokenizer.hash)
        self._batch: list[str] = []
        self._batch_size = 0
        self._long = LongText(tokenizer)
        self._parts: list[str] = []
        self._parts_size = 0

    def add(self, text: str, is_last: bool) -> None:
        self._parts.append(text)
        self._parts_size += len(text)
        if self._parts_size >= BATCH or (is_last and self._long.begun):
            self._add_piece(is_last)
        elif is_last:
            self._batch.append(self._take_parts())
            self._batch_size += len(self._batch[-1])
            if self._batch_size >= BATCH:
                self.flush()

    def flush(self) -> None:
        """Encodes the documents that wait."""
        for ids in self._tokenizer.encode_batch(self._batch, add_bos=False):
            self._write([*self._around.before, *ids, *self._around.after])
            self.documents += 1
        self._text_bytes += sum(len(text.encode()) for text in self._batch)
        self._batch, self._batch_size = [], 0

    def commit(self) -> Summary:
        self._writer.commit(self.documents, self._text_bytes)
        return Summary(
            path=str(self.path),
            documents=self.documents,
            tokens=len(self._writer),
            text_bytes=self._text_bytes,
            width=self._writer.width,
            vocab=self._vocab,
            separator=self._around.id,
            seconds=time.perf_counter() - self._start,
        )

    def discard(self) -> None:
        self._writer.discard()

    def _add_piece(self, is_last: bool) -> None:
        if not self._long.begun:
            self.flush()
            self._write(self._around.before)
        text = self._take_parts()
        self._text_bytes += len(text.encode())
        self._write(self._long.push(text))
        if is_last:
            self._write([*self._long.finish(), *self._around.after])
            self.documents += 1

    def _take_parts(self) -> str:
        text = "".join(self._parts)
        self._parts, self._parts_size = [], 0
        return text

    def _write(self, ids: Sequence[int]) -> None:
        self._writer.write(np.asarray(ids, np.int32))


class LongText:
    """Encodes one text that arrives in pieces, to the ids it would have as a whole.

    It is cut only at a space where the tokens on both sides, in their context, are the same with
    and without the cut. Where there is no such place the text waits for more.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._rest = ""
        self._is_first = True
        self.begun = False
        """Whether a text has begun and not finished."""

    def push(self, text: str) -> list[int]:
        """The ids that are certain."""
        self.begun = True
        self._rest += text
        place = self._last_cut(self._rest)
        if place is None:
            return []
        piece, self._rest = self._rest[:place], self._rest[place:]
        return self._encode(piece)

    def finish(self) -> list[int]:
        """The ids of what is left; the next text may begin."""
        ids = self._encode(self._rest)
        self._rest, self._is_first, self.begun = "", True, False
        return ids

    def _encode(self, text: str) -> list[int]:
        ids = self._tokenizer.encode(text, add_bos=False) if self._is_first else self._after(text)
        if ids is None:
            raise Error(f"the tokenizer encodes {text[:20]!r} differently in another context")
        self._is_first = False
        return ids

    def _after(self, text: str) -> list[int] | None:
        """The ids of `text` as the continuation of another; None if they cannot be told."""
        ids = self._tokenizer.encode(text, add_bos=False)
        if not ids or not self._tokenizer.drops_first_space:
            return ids
        return ids[1:] if self._tokenizer.token_bytes(ids[0]) == b" " else None

    def _last_cut(self, text: str) -> int | None:
        for place in _places(text):
            left, right = text[place - _CONTEXT : place], text[place : place + _CONTEXT]
            after = self._after(right)
            whole = self._tokenizer.encode(left + right, add_bos=False)
            if after is not None and whole == self._tokenizer.encode(left, add_bos=False) + after:
                return place
        return None


def _places(text: str) -> Iterator[int]:
    """Before and after lone spaces and newlines, last ones first, with context on both sides."""
    start = max(_CONTEXT, len(text) - _CONTEXT - (1 << 14))
    found = _LONE_SPACE.finditer(text, start, len(text) - _CONTEXT)
    for match in list(found)[: -_TRIES - 1 : -1]:
        yield from match.span()
