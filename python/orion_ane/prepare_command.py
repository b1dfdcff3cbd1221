"""`orion prepare`: text to a file of token ids."""

from __future__ import annotations

import argparse
import dataclasses
import json
from collections.abc import Iterator, Sequence
from pathlib import Path

import tqdm

from orion_ane import checkpoint, documents, tokenizer
from orion_ane.documents import Part, Reading
from orion_ane.prepare import Summary
from orion_ane.prepare import prepare as write_tokens
from orion_ane.tokenizer import Tokenizer


def add_reading_arguments(parser: argparse.ArgumentParser) -> None:
    """The options that say where text comes from, and how it is read."""
    add = parser.add_argument
    add("text", nargs="+", metavar="TEXT", help="files of text; - is stdin")
    add("--format", choices=documents.FORMATS, help="default: by the suffix; txt on stdin")
    add("--field", default="text", metavar="NAME", help="of JSON and Parquet; default: text")
    add(
        "--document-separator",
        metavar="LINE",
        help="the line between documents of a txt file; default: a file is a document",
    )
    add("--skip-empty", action="store_true", help="leave out records without text")


def reading_of(options: argparse.Namespace) -> Reading:
    """How files are read, from those options."""
    return Reading(
        options.format, options.field, options.document_separator, skip_empty=options.skip_empty
    )


def read_with_progress(paths: Sequence[str], reading: Reading) -> Iterator[Part]:
    """The documents of all files, with a bar on stderr if that is a terminal."""
    total = documents.total_size(paths)
    with tqdm.tqdm(total=total, unit="B", unit_scale=True, disable=None, leave=False) as bar:
        yield from documents.read(paths, reading, bar.update)


def add_prepare_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `orion prepare`."""
    add_reading_arguments(parser)
    add = parser.add_argument
    whose = parser.add_mutually_exclusive_group(required=True)
    whose.add_argument("--model", help="whose tokenizer and vocabulary; a path, or stories260K")
    whose.add_argument("--tokenizer", metavar="PATH", help="a tokenizer's directory or file")
    add("-o", "--output", required=True, metavar="FILE", help="the token file to write")
    add(
        "--separator",
        type=_separator,
        metavar="bos|eos|none|ID",
        help="BOS or ID before each document, EOS after it; default: bos if the tokenizer begins "
        "texts with it, else eos",
    )
    add(
        "--validation",
        type=_share,
        default=0.0,
        metavar="SHARE",
        help="of the documents, evenly spread, into FILE's name with -validation",
    )
    add("--force", action="store_true", help="replace files that exist")
    add("--json", action="store_true", help="print one JSON object per file")


def prepare(options: argparse.Namespace) -> None:
    """Runs `orion prepare`."""
    words, vocab = _words(options)
    summaries = write_tokens(
        read_with_progress(options.text, reading_of(options)),
        options.output,
        words,
        vocab=vocab,
        separator=options.separator,
        validation=options.validation,
        replace=options.force,
    )
    for summary in summaries:
        print(_as_json(summary) if options.json else _as_text(summary, words))


def _words(options: argparse.Namespace) -> tuple[Tokenizer, int]:
    """The tokenizer, and the size of the vocabulary that its ids go into."""
    if options.tokenizer is not None:
        words = tokenizer.load(options.tokenizer)
        return words, words.vocab_size
    path: Path = checkpoint.locate(options.model)
    return tokenizer.load(path), int(checkpoint.read_config(path)["vocab_size"])


def _as_json(summary: Summary) -> str:
    report = dataclasses.asdict(summary) | {"bytes_per_token": summary.bytes_per_token}
    return json.dumps(report, ensure_ascii=False)


def _as_text(summary: Summary, words: Tokenizer) -> str:
    separator = summary.separator
    shown = "none" if separator is None else str(separator)
    if separator is not None and separator < words.vocab_size:  # else of the model's alone
        shown += f" {words.token(separator)!r}"
    plural = "" if summary.documents == 1 else "s"
    return (
        f"{summary.path}: {summary.documents} document{plural}, {summary.tokens} tokens, "
        f"uint{8 * summary.width}, vocabulary {summary.vocab}, separator {shown}, "
        f"{summary.bytes_per_token:.2f} bytes/token, {summary.seconds:.1f} s"
    )


def _separator(text: str) -> str | int:
    if text in ("bos", "eos", "none"):
        return text
    if text.isdecimal() and int(text) < 2**31:
        return int(text)
    raise argparse.ArgumentTypeError(f"expected bos, eos, none or a token id, got {text!r}")


def _share(text: str) -> float:
    try:
        share = float(text)
    except ValueError:
        share = 1.0
    if not 0 <= share < 1:
        raise argparse.ArgumentTypeError(f"expected a number from 0 to below 1, got {text!r}")
    return share
