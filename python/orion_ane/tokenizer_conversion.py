"""llama2.c's tokenizers as `tokenizer.json`, and others as llama2.c's: exactly, or an Error."""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping, Sequence
from typing import Any

from orion_ane._core import Error
from orion_ane.llama2c_tokenizer import CONTROL, FIRST_LEARNT_ID, Llama2cVocabulary
from orion_ane.vocabulary import SPACE, SentencePieceVocabulary

_REFUSAL = "llama2.c cannot hold this tokenizer"

Pair = tuple[str, str]


def to_tokenizer_json(vocabulary: Llama2cVocabulary) -> dict[str, Any]:
    """The same tokenizer for the `tokenizers` package; Error if its BPE cannot be the same."""
    pieces = [*CONTROL, *vocabulary.pieces[len(CONTROL) :]]
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [],
        "normalizer": {"type": "Prepend", "prepend": " "},
        "pre_tokenizer": None,
        "post_processor": _bos_template(),
        "decoder": {
            "type": "Sequence",
            "decoders": [
                {"type": "ByteFallback"},
                {"type": "Fuse"},
                {"type": "Strip", "content": " ", "start": 1, "stop": 0},
            ],
        },
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": CONTROL[0],
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": False,
            "byte_fallback": True,
            "ignore_merges": False,
            "vocab": {piece: index for index, piece in enumerate(pieces)},
            "merges": ranked_merges(vocabulary),
        },
    }


def ranked_merges(vocabulary: Llama2cVocabulary) -> list[Pair]:
    """Every pair of pieces that run.c joins, ranked as byte-pair encoding wants them.

    Each pair has a rank of its own there, while run.c takes the leftmost pair among equal scores.
    That is the same unless two pieces score the same, or one piece has two splits that compete for
    a neighbour (x y z with x+y = y+z): Error then.
    """
    splits = {piece: _splits(vocabulary, piece) for piece in vocabulary.pieces}
    scored = zip(vocabulary.scores, vocabulary.pieces, strict=True)
    made = sorted((-score, piece) for score, piece in scored if splits[piece])
    for (rank, piece), (next_rank, other) in itertools.pairwise(made):
        if rank == next_rank:
            raise Error(f"pieces {piece!r} and {other!r} have the same score: no rank says which")
    for _, piece in made:
        _require_no_competition(piece, splits[piece])
    return [pair for _, piece in made for pair in splits[piece]]


def to_llama2c(files: Mapping[str, bytes]) -> Llama2cVocabulary:
    """What the tokenizer with these files is in llama2.c's form; Error if it has none."""
    if "tokenizer.model" in files:
        return _from_sentencepiece(files["tokenizer.model"])
    if "tokenizer.json" in files:
        return _from_tokenizer_json(json.loads(files["tokenizer.json"]))
    raise Error(f"{_REFUSAL}: it has neither tokenizer.model nor tokenizer.json")


def _splits(vocabulary: Llama2cVocabulary, piece: str) -> list[Pair]:
    """The ways a piece is joined from two others."""
    pairs = ((piece[:cut], piece[cut:]) for cut in range(1, len(piece)))
    return [
        (left, right)
        for left, right in pairs
        if vocabulary.token_id(left) is not None
        and vocabulary.token_id(right) is not None
        and vocabulary.joined(left, right) is not None
    ]


def _require_no_competition(piece: str, splits: Sequence[Pair]) -> None:
    right_of = dict(splits)
    for left, middle in splits:
        if middle in right_of and (left, middle) != (middle, right_of[middle]):
            raise Error(f"{left!r} {middle!r} {right_of[middle]!r} makes {piece!r} in two places")


def _from_sentencepiece(model: bytes) -> Llama2cVocabulary:
    source = SentencePieceVocabulary(model, "tokenizer.model")
    scores = [source.score(index) for index in range(source.size)]
    if not all(score.is_integer() for score in scores):
        raise Error(f"{_REFUSAL}: its scores are not ranks, so it is not a BPE model")
    if not source.drops_first_space:
        raise Error(f"{_REFUSAL}: it puts no space before a text")
    pieces = [str(source.token(index)).replace(SPACE, " ") for index in range(source.size)]
    return _with_control(pieces, scores)


def _from_tokenizer_json(content: Mapping[str, Any]) -> Llama2cVocabulary:
    model, split = content["model"], content.get("pre_tokenizer")
    if model.get("type") != "BPE" or not model.get("byte_fallback"):
        raise Error(f"{_REFUSAL}: it is not BPE with byte fallback")
    if split is not None and (split.get("type") != "Metaspace" or split.get("split", True)):
        raise Error(f"{_REFUSAL}: it splits text before merging ({split.get('type')})")
    vocab = {piece.replace(SPACE, " "): index for piece, index in model["vocab"].items()}
    ranked = [_pair(merge) for merge in model["merges"]]
    return _from_bpe(vocab, ranked)


def _pair(merge: str | Sequence[str]) -> Pair:
    """A merge as files write it, 'a b' or ['a', 'b'], with plain spaces."""
    left, right = merge.split(" ") if isinstance(merge, str) else merge
    return left.replace(SPACE, " "), right.replace(SPACE, " ")


def _from_bpe(vocab: Mapping[str, int], ranked: Sequence[Pair]) -> Llama2cVocabulary:
    """Scores that make run.c join as the ranked pairs do.

    SentencePiece numbers what it learns in order, and a score is then minus the number; elsewhere
    what is joined scores 0, -1, -2, ... in order of rank.
    """
    pieces = sorted(vocab, key=vocab.__getitem__)
    if [vocab[piece] for piece in pieces] != list(range(len(pieces))):
        raise Error(f"{_REFUSAL}: its ids have gaps")
    learnt = pieces[FIRST_LEARNT_ID:]
    joined = list(dict.fromkeys(map("".join, ranked)))
    places = dict(zip(joined, itertools.count()))
    if joined == learnt[: len(joined)]:
        places = dict(zip(learnt, itertools.count()))
    scores = [-float(places.get(piece, len(joined))) for piece in learnt]
    vocabulary = _with_control(pieces, [0.0] * FIRST_LEARNT_ID + scores)
    grouped = sorted(ranked, key=lambda pair: places["".join(pair)])
    if grouped != list(ranked) or set(ranked_merges(vocabulary)) != set(ranked):
        raise Error(f"{_REFUSAL}: its merges do not follow from scores")
    return vocabulary


def _with_control(pieces: Sequence[str], scores: Sequence[float]) -> Llama2cVocabulary:
    """BOS and EOS as llama2.c spells them, so that no text contains them."""
    if tuple(pieces[: len(CONTROL)]) != CONTROL:
        raise Error(f"{_REFUSAL}: its first tokens are {list(pieces[:3])}, not {list(CONTROL)}")
    control = [CONTROL[0], *(f"\n{token}\n" for token in CONTROL[1:])]
    return Llama2cVocabulary([*control, *pieces[len(CONTROL) :]], scores, "this tokenizer")


def _bos_template() -> dict[str, Any]:
    bos = {"SpecialToken": {"id": CONTROL[1], "type_id": 0}}
    text = {"Sequence": {"id": "A", "type_id": 0}}
    pair = {"Sequence": {"id": "B", "type_id": 1}}
    return {
        "type": "TemplateProcessing",
        "single": [bos, text],
        "pair": [bos, text, pair],
        "special_tokens": {CONTROL[1]: {"id": CONTROL[1], "ids": [1], "tokens": [CONTROL[1]]}},
    }
