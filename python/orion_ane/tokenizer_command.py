"""`orion tokenizer`: train one, encode, decode."""

from __future__ import annotations

import argparse

from orion_ane import checkpoint, tokenizer, tokenizer_training
from orion_ane.arguments import add_actions
from orion_ane.prepare_command import add_reading_arguments, read_with_progress, reading_of
from orion_ane.text import require_unicode


def add_tokenizer_arguments(parser: argparse.ArgumentParser) -> None:
    """The actions of `orion tokenizer`, and their options."""
    add_actions(parser, _ACTIONS)


def use_tokenizer(options: argparse.Namespace) -> None:
    """Runs `orion tokenizer`."""
    options.action(options)


def _add_train_arguments(parser: argparse.ArgumentParser) -> None:
    add_reading_arguments(parser)
    add = parser.add_argument
    add("--vocab", type=int, required=True, metavar="N", help="how many tokens to learn, at most")
    add("--type", choices=tokenizer_training.TYPES, default="bpe", help="default: bpe")
    add("-o", "--output", required=True, metavar="DIR", help="the directory to write")
    add("--force", action="store_true", help="replace a tokenizer that exists")


def _train(options: argparse.Namespace) -> None:
    parts = read_with_progress(options.text, reading_of(options))
    made = tokenizer_training.train(
        (part.text for part in parts),
        options.output,
        vocab=options.vocab,
        type=options.type,
        replace=options.force,
    )
    fewer = "" if made.vocab_size == options.vocab else f" ({options.vocab} were asked for)"
    print(f"{options.output}: {made.vocab_size} tokens{fewer}, {made.kind}")


def _add_encode_arguments(parser: argparse.ArgumentParser) -> None:
    _add_tokenizer(parser)
    parser.add_argument("text", metavar="TEXT")


def _encode(options: argparse.Namespace) -> None:
    words = tokenizer.load(checkpoint.locate(options.tokenizer))
    print(*words.encode(require_unicode(options.text, "TEXT")))


def _add_decode_arguments(parser: argparse.ArgumentParser) -> None:
    _add_tokenizer(parser)
    parser.add_argument("ids", metavar="ID", type=int, nargs="+")


def _decode(options: argparse.Namespace) -> None:
    words = tokenizer.load(checkpoint.locate(options.tokenizer))
    print(words.decode(options.ids))


def _add_tokenizer(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--tokenizer",
        default="stories260K",
        metavar="PATH",
        help="a tokenizer, a model, or stories260K (default)",
    )


_ACTIONS = (
    ("train", "learn a tokenizer from text", _add_train_arguments, _train),
    ("encode", "print the token ids of a text", _add_encode_arguments, _encode),
    ("decode", "print the text of token ids", _add_decode_arguments, _decode),
)
