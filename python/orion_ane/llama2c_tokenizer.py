"""Tokenizers of llama2.c: `tokenizer.bin`, `tok*.bin`.

The file: int32 longest piece, then for each id a float32 score, an int32 length, and the piece.
Ids 0, 1, 2 are unknown, BOS and EOS, ids 3 to 258 the 256 bytes; the pieces hold plain spaces.

To encode, run.c puts a space before the text, looks up each code point (or its UTF-8 bytes at
id + 3), and then, as long as any two neighbours join into a piece, joins the pair whose piece has
the best score, the leftmost of equals.
"""

from __future__ import annotations

import heapq
import math
import struct
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from orion_ane import storage
from orion_ane._core import Error

CONTROL = ("<unk>", "<s>", "</s>")
FIRST_BYTE_ID = len(CONTROL)
FIRST_LEARNT_ID = FIRST_BYTE_ID + 256
WORST_SCORE = -1e10  # run.c joins only what scores better

_ENTRY = struct.Struct("<fi")


class Llama2cVocabulary:
    """Pieces with plain spaces and their scores, by id, and run.c's way of using them."""

    kind = "llama2.c"
    bos_id = 1
    eos_id = 2
    adds_bos = True
    drops_first_space = True

    def __init__(self, pieces: Sequence[str], scores: Sequence[float], name: str) -> None:
        self.pieces = list(pieces)
        self.scores = list(scores)
        self.size = len(self.pieces)
        self._ids = {piece: index for index, piece in enumerate(self.pieces)}
        if fault := self._fault():
            raise Error(f"{name}: not a llama2.c tokenizer: {fault}")

    def encode(self, text: str) -> list[int]:
        """Token ids, nothing added at either end."""
        return _Merging(self, self._characters(f" {text}")).run() if text else []

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        """`encode` of each text."""
        return [self.encode(text) for text in texts]

    def token(self, token_id: int) -> str | None:
        """The piece of an id."""
        return self.pieces[token_id] if 0 <= token_id < self.size else None

    def token_id(self, token: str) -> int | None:
        """The id of a piece."""
        return self._ids.get(token)

    def text_bytes(self, token_id: int) -> bytes:
        """What a token adds to the text."""
        byte = token_id - FIRST_BYTE_ID
        return bytes([byte]) if 0 <= byte < 256 else self.pieces[token_id].encode()

    def joined(self, left: str, right: str) -> int | None:
        """The id of the piece that two neighbours join into, if they do."""
        index = self._ids.get(left + right)
        return index if index is not None and self.scores[index] > WORST_SCORE else None

    def _characters(self, text: str) -> list[int]:
        ids = []
        for char in text:
            index = self._ids.get(char)
            ids += [FIRST_BYTE_ID + byte for byte in char.encode()] if index is None else [index]
        return ids

    def _fault(self) -> str | None:
        if self.size < FIRST_LEARNT_ID:
            return f"{self.size} pieces, and {FIRST_LEARNT_ID} come before the first learnt one"
        for index in range(FIRST_BYTE_ID, FIRST_LEARNT_ID):
            wanted = f"<0x{index - FIRST_BYTE_ID:02X}>"
            if self.pieces[index] != wanted:
                return f"id {index} is {self.pieces[index]!r}, not {wanted!r}"
        for piece, times in Counter(self.pieces).items():
            if times > 1:
                return f"{times} ids have the piece {piece!r}"
        return None if " " in self._ids else "no piece is a single space"


class _Merging:
    """One text being joined: a linked list of ids, and a heap of the pairs that could join."""

    def __init__(self, vocabulary: Llama2cVocabulary, ids: list[int]) -> None:
        self._vocabulary = vocabulary
        self._ids: list[int | None] = [*ids]  # None for what has joined its left neighbour
        self._next = [*range(1, len(ids)), -1]
        self._previous = list(range(-1, len(ids) - 1))
        self._heap: list[tuple[float, int, int, int, int]] = []

    def run(self) -> list[int]:
        for left in range(len(self._ids)):
            self._offer(left)
        while self._heap:
            _, left, left_id, right_id, joined = heapq.heappop(self._heap)
            right = self._next[left]
            if right >= 0 and self._ids[left] == left_id and self._ids[right] == right_id:
                self._join(left, right, joined)
        return [index for index in self._ids if index is not None]

    def _offer(self, left: int) -> None:
        right = self._next[left] if left >= 0 else -1
        if right < 0:
            return
        left_id, right_id = self._ids[left], self._ids[right]
        assert left_id is not None
        assert right_id is not None
        pieces, scores = self._vocabulary.pieces, self._vocabulary.scores
        joined = self._vocabulary.joined(pieces[left_id], pieces[right_id])
        if joined is not None:
            heapq.heappush(self._heap, (-scores[joined], left, left_id, right_id, joined))

    def _join(self, left: int, right: int, joined: int) -> None:
        self._ids[left], self._ids[right] = joined, None
        self._next[left] = self._next[right]
        if self._next[left] >= 0:
            self._previous[self._next[left]] = left
        self._offer(left)
        self._offer(self._previous[left])


def is_tokenizer(path: Path) -> bool:
    """Whether the file is a list of pieces that ends where the file ends."""
    try:
        read(path)
    except Error:
        return False
    return True


def read(path: Path) -> Llama2cVocabulary:
    """Reads a file; Error naming it and the id where it goes wrong."""
    data = storage.read_bytes(path)
    pieces: list[str] = []
    scores: list[float] = []
    offset = 4
    while offset < len(data):
        score, piece, offset = _entry(path, data, offset, len(pieces))
        pieces.append(piece)
        scores.append(score)
    return Llama2cVocabulary(pieces, scores, str(path))


def to_bytes(vocabulary: Llama2cVocabulary) -> bytes:
    """The content of a file that `read` reads back."""
    encoded = [piece.encode() for piece in vocabulary.pieces]
    parts = [struct.pack("<i", max(map(len, encoded)))]
    for score, piece in zip(vocabulary.scores, encoded, strict=True):
        parts += [_ENTRY.pack(score, len(piece)), piece]
    return b"".join(parts)


def _entry(path: Path, data: bytes, offset: int, index: int) -> tuple[float, str, int]:
    if offset + _ENTRY.size > len(data):
        raise Error(f"{path}: ends inside the entry of id {index}")
    score, length = _ENTRY.unpack_from(data, offset)
    start = offset + _ENTRY.size
    if not 0 <= length <= len(data) - start:
        raise Error(f"{path}: id {index} has {length} bytes, {len(data) - start} are left")
    if math.isnan(score):
        raise Error(f"{path}: the score of id {index} is NaN")
    try:
        return score, data[start : start + length].decode(), start + length
    except UnicodeDecodeError as error:
        raise Error(f"{path}: the piece of id {index} is not UTF-8") from error
