"""The two packages that turn text into token ids, behind one small interface."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol

from orion_ane._core import Error

if TYPE_CHECKING:
    import tokenizers

SPACE = "\u2581"  # how SentencePiece writes a space


class Vocabulary(Protocol):
    """What a tokenizer needs of its package."""

    @property
    def kind(self) -> str:
        """Name of the package and algorithm, for people."""

    @property
    def size(self) -> int:
        """Number of tokens, added ones included."""

    @property
    def bos_id(self) -> int | None:
        """The token that begins a text, where the file says so."""

    @property
    def eos_id(self) -> int | None:
        """The token that ends a text, where the file says so."""

    @property
    def adds_bos(self) -> bool:
        """Whether the file itself puts BOS before a text."""

    @property
    def drops_first_space(self) -> bool:
        """Whether encoding puts a space before the text, which decoding must drop."""

    def encode(self, text: str) -> list[int]:
        """Token ids, nothing added at either end."""

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        """`encode` of each text, on all cores where the package can."""

    def token(self, token_id: int) -> str | None:
        """The token as the vocabulary spells it, None if there is none."""

    def token_id(self, token: str) -> int | None:
        """Inverse of `token`."""

    def text_bytes(self, token_id: int) -> bytes:
        """What a token adds to the text in UTF-8, maybe half a character; nothing if control."""


class TokenizersVocabulary:
    """A tokenizer of the `tokenizers` package; `end` is the token that separates its texts."""

    def __init__(self, tokenizer: tokenizers.Tokenizer, name: str, end: str | None = None) -> None:
        tokenizer.no_truncation()  # a file may carry settings that cut or fill texts silently
        tokenizer.no_padding()
        self._tokenizer = tokenizer
        self._added = {
            index: (token.content, token.special)
            for index, token in tokenizer.get_added_tokens_decoder().items()
        }
        self._decoder = _PieceDecoder(tokenizer.decoder, name)
        self.drops_first_space = self._decoder.drops_first_space
        self.kind = f"tokenizers {type(tokenizer.model).__name__}"
        self.size = tokenizer.get_vocab_size(with_added_tokens=True)
        first = self._first_of_template()
        self.adds_bos = first is not None
        self.eos_id = self.token_id(end) if end is not None else None
        self.bos_id = self.eos_id if first is None else first

    def encode(self, text: str) -> list[int]:
        """Token ids, nothing added at either end."""
        return list(self._tokenizer.encode(text, add_special_tokens=False).ids)

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        """`encode` of each text, on all cores."""
        encoded = self._tokenizer.encode_batch_fast(list(texts), add_special_tokens=False)
        return [list(each.ids) for each in encoded]

    def token(self, token_id: int) -> str | None:
        """The token as the vocabulary spells it, None if there is none."""
        return self._tokenizer.id_to_token(token_id)

    def token_id(self, token: str) -> int | None:
        """Inverse of `token`."""
        return self._tokenizer.token_to_id(token)

    def text_bytes(self, token_id: int) -> bytes:
        """What a token adds to the text."""
        if token_id in self._added:
            content, special = self._added[token_id]
            return b"" if special else content.encode()
        return self._decoder.decode(self._tokenizer.id_to_token(token_id) or "")

    def _first_of_template(self) -> int | None:
        """The token the file's post-processor puts before a text."""
        plain = self.encode("a")
        processed = list(self._tokenizer.encode("a", add_special_tokens=True).ids)
        return processed[0] if processed[1 : len(plain) + 1] == plain else None


class SentencePieceVocabulary:
    """A SentencePiece model."""

    drops_first_space: bool

    def __init__(self, model: bytes, name: str) -> None:
        import sentencepiece  # megabytes that most models do not need

        if not model:
            raise Error(f"{name}: not a SentencePiece model: the file is empty")
        try:
            self._processor = sentencepiece.SentencePieceProcessor(model_proto=model)
        except (RuntimeError, ValueError) as error:
            raise Error(f"{name}: not a SentencePiece model: {error}") from error
        self.kind = "sentencepiece"
        self.size = self._processor.vocab_size()
        self.bos_id = _or_none(self._processor.bos_id())
        self.eos_id = _or_none(self._processor.eos_id())
        self.adds_bos = self.bos_id is not None
        self.drops_first_space = self._processor.encode("a", out_type=str)[0].startswith(SPACE)

    def encode(self, text: str) -> list[int]:
        """Token ids, nothing added at either end."""
        return list(self._processor.encode(text))

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        """`encode` of each text, on all cores."""
        return [list(ids) for ids in self._processor.encode(list(texts))]

    def token(self, token_id: int) -> str | None:
        """The token as the vocabulary spells it, None if there is none."""
        if not 0 <= token_id < self.size:
            return None
        return str(self._processor.id_to_piece(token_id))

    def token_id(self, token: str) -> int | None:
        """Inverse of `token`."""
        index = self._processor.piece_to_id(token)
        return index if self.token(index) == token else None

    def text_bytes(self, token_id: int) -> bytes:
        """What a token adds to the text."""
        if self._processor.is_control(token_id):
            return b""
        piece = str(self._processor.id_to_piece(token_id))
        if self._processor.is_byte(token_id):
            return _byte_of(piece) or b""
        return piece.replace(SPACE, " ").encode()

    def score(self, token_id: int) -> float:
        """What byte-pair merging ranks the piece by."""
        return float(self._processor.get_score(token_id))


class _PieceDecoder:
    """The decoder of a `tokenizer.json` as a function of one token.

    The package decodes whole lists only; streaming needs to know what each token adds.
    """

    def __init__(self, decoder: Any, name: str) -> None:
        self.drops_first_space = False
        self._byte_level = False
        self._byte_fallback = False
        self._replacements: list[tuple[str, str]] = []
        state = json.loads(decoder.__getstate__()) if decoder is not None else {"type": "none"}
        for step in _flatten(state):
            self._add(step, name)

    def decode(self, token: str) -> bytes:
        if self._byte_level and all(char in _BYTE_OF_CHAR for char in token):
            return bytes(_BYTE_OF_CHAR[char] for char in token)
        if self._byte_fallback and (byte := _byte_of(token)):
            return byte
        for old, new in self._replacements:
            token = token.replace(old, new)
        return token.encode()

    def _add(self, step: dict[str, Any], name: str) -> None:
        match step:
            case {"type": "ByteLevel"}:
                self._byte_level = True
            case {"type": "ByteFallback"}:
                self._byte_fallback = True
            case {"type": "Fuse"}:
                pass  # joins the tokens, which is what a stream of bytes does anyway
            case {"type": "Replace", "pattern": {"String": old}, "content": new}:
                self._replacements.append((old, new))
            case {"type": "Strip", "content": " ", "start": 1, "stop": 0}:
                self.drops_first_space = True
            case {"type": "Metaspace", "replacement": old, "prepend_scheme": scheme}:
                self._replacements.append((old, " "))
                self.drops_first_space = scheme != "never"
            case _:
                raise Error(
                    f"{name}: decoder {json.dumps(step)} is not supported (known: ByteLevel, "
                    "ByteFallback, Fuse, Replace of a string, Strip of one first space, Metaspace)"
                )


def _flatten(state: dict[str, Any]) -> list[dict[str, Any]]:
    if state["type"] != "Sequence":
        return [state]
    return [step for inner in state["decoders"] for step in _flatten(inner)]


def _or_none(index: int) -> int | None:
    return index if index >= 0 else None


def _byte_of(token: str) -> bytes | None:
    """The byte that `<0xNN>` stands for."""
    if len(token) != 6 or not (token.startswith("<0x") and token.endswith(">")):
        return None
    try:
        return bytes.fromhex(token[3:5])
    except ValueError:
        return None


def _byte_alphabet() -> dict[str, int]:
    """GPT-2's printable stand-in for every byte: itself if printable, else one from 256 on."""
    printable = {*range(33, 127), *range(161, 173), *range(174, 256)}
    others = [byte for byte in range(256) if byte not in printable]
    return {chr(byte): byte for byte in printable} | {
        chr(256 + place): byte for place, byte in enumerate(others)
    }


_BYTE_OF_CHAR = _byte_alphabet()
