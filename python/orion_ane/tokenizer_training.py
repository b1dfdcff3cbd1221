"""Tokenizers made from text: byte-level, so that they can say every text."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from orion_ane import storage, tokenizer
from orion_ane._core import Error
from orion_ane.tokenizer import END_OF_TEXT, Tokenizer

if TYPE_CHECKING:
    import tokenizers

TYPES = ("bpe", "unigram")
SMALLEST = 257
"""END_OF_TEXT and the 256 bytes."""


def train(
    texts: Iterable[str],
    directory: str | Path,
    *,
    vocab: int,
    type: str = "bpe",  # noqa: A002
    replace: bool = False,
) -> Tokenizer:
    """Learns at most `vocab` tokens and writes a directory that `tokenizer.load` and transformers
    read; fewer if the text has no more to learn.

    Id 0 is `<|endoftext|>`, BOS and EOS in one, as with GPT-2. `type` is one of TYPES.
    """
    if type not in TYPES:
        raise Error(f"type {type!r}: one of {', '.join(TYPES)} is needed")
    if vocab < SMALLEST:
        raise Error(f"vocab is {vocab}, at least {SMALLEST} is needed: every byte is a token")
    replaceable = frozenset(tokenizer.FILES) if replace else None
    with storage.staged_directory(Path(directory), replaceable=replaceable) as stage:
        learnt = _learn(texts, vocab, type)
        (stage / "tokenizer.json").write_text(learnt.to_str(pretty=True), encoding="utf-8")
        (stage / "tokenizer_config.json").write_bytes(storage.to_json(_CONFIG))
    return tokenizer.load(directory)


_CONFIG = {
    "tokenizer_class": "PreTrainedTokenizerFast",
    "add_bos_token": False,
    "bos_token": END_OF_TEXT,
    "eos_token": END_OF_TEXT,
    "clean_up_tokenization_spaces": False,
}


def _learn(texts: Iterable[str], vocab: int, kind: str) -> tokenizers.Tokenizer:
    import tokenizers
    from tokenizers import decoders, models, pre_tokenizers, trainers

    learnt = tokenizers.Tokenizer(models.BPE() if kind == "bpe" else models.Unigram())
    learnt.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    learnt.decoder = decoders.ByteLevel()
    make = trainers.BpeTrainer if kind == "bpe" else trainers.UnigramTrainer
    trainer = make(
        vocab_size=vocab,
        special_tokens=[END_OF_TEXT],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    learnt.train_from_iterator(texts, trainer)
    return learnt
