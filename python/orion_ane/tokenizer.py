"""Text to token ids and back, whichever of the field's files says how."""

from __future__ import annotations

import hashlib
import operator
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, SupportsIndex

from orion_ane import llama2c, llama2c_tokenizer, storage, tokenizer_conversion
from orion_ane._core import Error
from orion_ane.text import Utf8Assembler, require_unicode
from orion_ane.vocabulary import SentencePieceVocabulary, TokenizersVocabulary, Vocabulary

# What a model directory may hold for its tokenizer; a copy of the model takes these along.
FILES = (
    "tokenizer.json",
    "tokenizer.model",
    "tokenizer.bin",
    "vocab.json",
    "merges.txt",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "generation_config.json",
    "chat_template.jinja",
)

# In the order in which `load` looks for them.
_VOCABULARY_FILES = (
    ("tokenizer.json",),
    ("vocab.json", "merges.txt"),
    ("tokenizer.model",),
    ("tokenizer.bin",),
)

END_OF_TEXT = "<|endoftext|>"  # as GPT-2 and those after it call it


class Tokenizer:
    """Encodes and decodes text; made by `load`."""

    def __init__(
        self,
        vocabulary: Vocabulary,
        *,
        bos_id: int | None,
        eos_id: int | None,
        eos_ids: Sequence[int],
        adds_bos: bool,
        files: Mapping[str, bytes],
    ) -> None:
        self._vocabulary = vocabulary
        self.bos_id = bos_id
        """The token that begins a text, or None."""
        self.eos_id = eos_id
        """The token named EOS, which ends a document in training data, or None."""
        self.eos_ids = tuple(eos_ids)
        """The tokens that end a text."""
        self.adds_bos = adds_bos
        """Whether `encode` begins with BOS unless told otherwise."""
        self.files = dict(files)
        """Names and contents of the files that make this tokenizer in a model directory."""

    @property
    def vocab_size(self) -> int:
        """Number of tokens, added ones included. A model's vocabulary may be padded beyond it."""
        return self._vocabulary.size

    @property
    def kind(self) -> str:
        """The package and algorithm behind this tokenizer."""
        return self._vocabulary.kind

    def encode(self, text: str, add_bos: bool | None = None) -> list[int]:
        """Token ids of `text`; BOS first if `add_bos`, by default as the model was trained."""
        beginning = self._beginning(add_bos)
        return beginning + self._vocabulary.encode(require_unicode(text, "text"))

    def encode_batch(self, texts: Sequence[str], add_bos: bool | None = None) -> list[list[int]]:
        """`encode` of each text, on all cores where the package behind this tokenizer can."""
        beginning = self._beginning(add_bos)
        valid = [require_unicode(text, f"text {index}") for index, text in enumerate(texts)]
        return [beginning + ids for ids in self._vocabulary.encode_batch(valid)]

    def decode(self, ids: Iterable[SupportsIndex]) -> str:
        """The text of whole `ids`; control tokens such as BOS have none.

        Bytes that are not UTF-8 become U+FFFD. `decode(encode(text)) == text` where the tokenizer
        itself does not normalise text.
        """
        stream = self.stream()
        return "".join(map(stream.push, ids)) + stream.finish()

    def stream(self, after: Sequence[SupportsIndex] = ()) -> TextStream:
        """Decodes one token at a time, continuing the text of the tokens `after`."""
        return TextStream(self, after)

    def token(self, token_id: SupportsIndex) -> str:
        """The token as the vocabulary spells it; Error if there is none."""
        index = operator.index(token_id)
        token = self._vocabulary.token(index) if 0 <= index < 2**31 else None
        if token is None:
            raise Error(
                f"token id {index} is not in the tokenizer's vocabulary of {self.vocab_size} "
                "(is this the model's own tokenizer?)"
            )
        return token

    def token_id(self, token: str) -> int | None:
        """The id of a token spelt as the vocabulary spells it, None if there is none."""
        return self._vocabulary.token_id(token)

    def token_bytes(self, token_id: SupportsIndex) -> bytes:
        """What the token adds to the text in UTF-8, perhaps part of a character."""
        index = operator.index(token_id)
        self.token(index)
        if index == self.bos_id or index in self.eos_ids:
            return b""
        return self._vocabulary.text_bytes(index)

    @property
    def drops_first_space(self) -> bool:
        """Whether the first space of a text belongs to the encoding and not to the text."""
        return self._vocabulary.drops_first_space

    @property
    def hash(self) -> str:
        """SHA-256 of the files that give each id its meaning, as upper-case digits."""
        for names in _VOCABULARY_FILES:
            if all(name in self.files for name in names):
                content = b"".join(self.files[name] for name in names)
                return hashlib.sha256(content).hexdigest().upper()
        raise Error(f"this tokenizer has none of the files that hold a vocabulary: {[*self.files]}")

    def _beginning(self, add_bos: bool | None) -> list[int]:
        if not (self.adds_bos if add_bos is None else add_bos):
            return []
        if self.bos_id is None:
            raise Error("encode: add_bos=True, but this tokenizer has no BOS token")
        return [self.bos_id]


class TextStream:
    """Text of tokens that arrive one by one; only whole characters leave it."""

    def __init__(self, tokenizer: Tokenizer, after: Sequence[SupportsIndex]) -> None:
        self._tokenizer = tokenizer
        self._assembler = Utf8Assembler()
        self._at_start = True
        for token_id in after:
            self.push(token_id)

    def push(self, token_id: SupportsIndex) -> str:
        """The text that the token completes, perhaps none."""
        data = self._tokenizer.token_bytes(token_id)
        visible = data
        if self._at_start and self._tokenizer.drops_first_space:
            visible = data.removeprefix(b" ")
        if data:
            self._at_start = False
        elif operator.index(token_id) == self._tokenizer.bos_id:
            self._at_start = True
        return self._assembler.push(visible)

    def finish(self) -> str:
        """U+FFFD if the last character never became whole, else nothing."""
        return self._assembler.finish()


def load(path: str | Path) -> Tokenizer:
    """The tokenizer of a model directory, of a llama2.c checkpoint, or in a file of its own.

    Directories: `tokenizer.json`, else GPT-2's `vocab.json` and `merges.txt`, else
    `tokenizer.model`, else llama2.c's `tokenizer.bin` or `tok*.bin`. Settings come from
    `tokenizer_config.json`, `generation_config.json` and `config.json` beside it.
    """
    path = Path(path)
    if path.is_dir():
        return _load_directory(path)
    if not path.is_file():
        raise Error(f"{path}: no such file or directory")
    if path.suffix == ".json":
        return _load_gpt2(path.parent) if path.name == "vocab.json" else _load_json(path)
    if path.suffix == ".model":
        return _load_sentencepiece(path)
    if path.suffix == ".bin":
        is_model = llama2c.is_checkpoint(path)
        return _load_llama2c(_beside_checkpoint(path) if is_model else path)
    raise Error(f"{path}: not a tokenizer (known: tokenizer.json, vocab.json, *.model, *.bin)")


def load_if_any(path: str | Path) -> Tokenizer | None:
    """As `load`, and None for a directory that holds no tokenizer at all."""
    path = Path(path)
    names = [name for names in _VOCABULARY_FILES for name in names]
    if path.is_dir() and not any((path / name).is_file() for name in names):
        return _load_directory(path) if _llama2c_in(path) else None
    return load(path)


def _load_directory(directory: Path) -> Tokenizer:
    if (directory / "tokenizer.json").is_file():
        return _load_json(directory / "tokenizer.json")
    if (directory / "vocab.json").is_file():
        return _load_gpt2(directory)
    if (directory / "tokenizer.model").is_file():
        return _load_sentencepiece(directory / "tokenizer.model")
    found = _llama2c_in(directory)
    if len(found) == 1:
        return _load_llama2c(found[0])
    raise Error(
        f"{directory}: no tokenizer (looked for tokenizer.json, vocab.json with merges.txt, "
        f"tokenizer.model, and one tokenizer.bin or tok*.bin; found {len(found)} of the last)"
    )


def _llama2c_in(directory: Path) -> list[Path]:
    return sorted([*directory.glob("tokenizer.bin"), *directory.glob("tok[0-9]*.bin")])


def _load_json(path: Path) -> Tokenizer:
    content = storage.read_bytes(path)
    tokenizer = _assemble(_parse_tokenizer(content, str(path)), path.parent)
    tokenizer.files["tokenizer.json"] = content
    return tokenizer


def _load_gpt2(directory: Path) -> Tokenizer:
    import tokenizers  # as late as possible: megabytes that training has no use for

    vocab, merges = directory / "vocab.json", directory / "merges.txt"
    if not merges.is_file():
        raise Error(f"{merges}: missing; vocab.json needs it")
    model_type = _optional_json(directory / "config.json").get("model_type", "gpt2")
    if model_type != "gpt2":
        raise Error(
            f"{directory}: vocab.json with merges.txt is read as GPT-2's; a {model_type!r} model "
            "splits words differently and needs its tokenizer.json"
        )
    try:
        model = tokenizers.models.BPE.from_file(str(vocab), str(merges))
    except Exception as error:
        raise Error(f"{vocab} with {merges.name}: {error}") from error
    tokenizer = tokenizers.Tokenizer(model)
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = tokenizers.decoders.ByteLevel()
    if tokenizer.token_to_id(END_OF_TEXT) is not None:
        tokenizer.add_special_tokens([END_OF_TEXT])
    return _assemble(TokenizersVocabulary(tokenizer, str(vocab), end=END_OF_TEXT), directory)


def _load_sentencepiece(path: Path) -> Tokenizer:
    vocabulary = SentencePieceVocabulary(storage.read_bytes(path), str(path))
    tokenizer = _assemble(vocabulary, path.parent)
    tokenizer.files["tokenizer.model"] = storage.read_bytes(path)
    return tokenizer


def _load_llama2c(path: Path) -> Tokenizer:
    vocabulary = llama2c_tokenizer.read(path)
    return Tokenizer(
        vocabulary,
        bos_id=vocabulary.bos_id,
        eos_id=vocabulary.eos_id,
        eos_ids=llama2c.END_IDS,
        adds_bos=vocabulary.adds_bos,
        files=_llama2c_files(path, vocabulary),
    )


def _llama2c_files(path: Path, vocabulary: llama2c_tokenizer.Llama2cVocabulary) -> dict[str, bytes]:
    """`tokenizer.json` for everybody where it can say the same, else the file as it is."""
    ends = {"bos_token_id": vocabulary.bos_id, "eos_token_id": list(llama2c.END_IDS)}
    generation = {"generation_config.json": storage.to_json(ends)}
    try:
        content = tokenizer_conversion.to_tokenizer_json(vocabulary)
    except Error:
        return generation | {"tokenizer.bin": storage.read_bytes(path)}
    unknown, bos, eos = llama2c_tokenizer.CONTROL
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "add_bos_token": True,
        "bos_token": bos,
        "eos_token": eos,
        "unk_token": unknown,
        "clean_up_tokenization_spaces": False,
    }
    return generation | {
        "tokenizer.json": storage.to_json(content),
        "tokenizer_config.json": storage.to_json(config),
    }


def _beside_checkpoint(path: Path) -> Path:
    """The tokenizer in a llama2.c checkpoint's directory: by vocabulary size, else the only one."""
    vocab_size = llama2c.read(path)[0]["vocab_size"]
    exact = path.parent / f"tok{vocab_size}.bin"
    general = path.parent / "tokenizer.bin"
    for candidate in (exact, general):
        if candidate.is_file():
            return candidate
    raise Error(f"{path}: no tokenizer beside it (looked for {exact.name} and {general.name})")


def _parse_tokenizer(content: bytes, name: str) -> TokenizersVocabulary:
    import tokenizers

    try:
        parsed = tokenizers.Tokenizer.from_str(content.decode())
    except Exception as error:
        raise Error(f"{name}: not a tokenizer.json: {error}") from error
    return TokenizersVocabulary(parsed, name)


def _assemble(vocabulary: Vocabulary, directory: Path) -> Tokenizer:
    """Adds what the files in `directory` say about the ends of a text."""
    settings = _Settings(directory)
    return Tokenizer(
        vocabulary,
        bos_id=settings.bos_id(vocabulary),
        eos_id=settings.eos_id(vocabulary),
        eos_ids=settings.eos_ids(vocabulary),
        adds_bos=settings.adds_bos(vocabulary),
        files={
            name: storage.read_bytes(directory / name)
            for name in FILES
            if (directory / name).is_file()
        },
    )


class _Settings:
    """The three files that name special tokens, in the order transformers believes them."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._tokenizer = _optional_json(directory / "tokenizer_config.json")
        self._generation = _optional_json(directory / "generation_config.json")
        self._model = _optional_json(directory / "config.json")

    def bos_id(self, vocabulary: Vocabulary) -> int | None:
        return self._single("bos", vocabulary, vocabulary.bos_id)

    def eos_id(self, vocabulary: Vocabulary) -> int | None:
        return self._single("eos", vocabulary, vocabulary.eos_id)

    def eos_ids(self, vocabulary: Vocabulary) -> list[int]:
        return (
            self._numbered("eos_token_id")
            or self._named("eos_token", vocabulary)
            or _present(vocabulary.eos_id)
        )

    def adds_bos(self, vocabulary: Vocabulary) -> bool:
        wanted = self._tokenizer.get("add_bos_token")
        return vocabulary.adds_bos if wanted is None else bool(wanted)

    def _single(self, name: str, vocabulary: Vocabulary, own: int | None) -> int | None:
        ids = (
            self._named(f"{name}_token", vocabulary)
            or _present(own)
            or self._numbered(f"{name}_token_id")
        )
        return ids[0] if ids else None

    def _named(self, key: str, vocabulary: Vocabulary) -> list[int]:
        token = self._tokenizer.get(key)
        if isinstance(token, dict):
            token = token.get("content")
        if token is None:
            return []
        index = vocabulary.token_id(token) if isinstance(token, str) else None
        if index is None:
            path = self._directory / "tokenizer_config.json"
            raise Error(f"{path}: {key} {token!r} is not in the tokenizer's vocabulary")
        return [index]

    def _numbered(self, key: str) -> list[int]:
        for name, settings in (
            ("generation_config.json", self._generation),
            ("config.json", self._model),
        ):
            value = settings.get(key)
            if value is None:
                continue
            ids = value if isinstance(value, list) else [value]
            if not all(type(index) is int for index in ids):
                raise Error(f"{self._directory / name}: {key} is {value!r}, not token ids")
            return ids
        return []


def _present(index: int | None) -> list[int]:
    return [] if index is None else [index]


def _optional_json(path: Path) -> dict[str, Any]:
    return storage.read_json(path) if path.is_file() else {}
