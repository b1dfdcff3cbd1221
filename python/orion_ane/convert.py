"""A model from one form to another: Hugging Face directory, llama2.c checkpoint, packed model."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from orion_ane import (
    checkpoint,
    llama2c,
    llama2c_tokenizer,
    packed,
    storage,
    tokenizer,
    tokenizer_conversion,
)
from orion_ane._core import Error
from orion_ane.checkpoint import Checkpoint
from orion_ane.tokenizer import Tokenizer


def convert(
    source: str | Path,
    target: str | Path,
    *,
    dtype: str | None = None,
    pack: bool = False,
    tokenizer_path: str | Path | None = None,
    replace: bool = False,
) -> None:
    """Writes the model `source` as `target`: a llama2.c checkpoint if it ends in `.bin`, else a
    Hugging Face directory.

    `dtype` is fp32 or fp16, by default as in the source (fp32 for bf16: exact). With `pack`, and
    always with bf16, int8 or int4, the directory is a packed model: its weights are as the CPU's
    programs read them with that dtype, so that loading maps them, and other programs have no use
    for it. The tokenizer comes along, from `tokenizer_path` if given. Either everything is written
    or nothing.
    """
    source, target = checkpoint.locate(source), Path(target)
    model = checkpoint.read(source)
    if pack or dtype in packed.ONLY_PACKED:
        if target.suffix == ".bin":
            raise Error(f"{target}: llama2.c checkpoints are fp32; a packed model is a directory")
        words = tokenizer.load(tokenizer_path) if tokenizer_path else tokenizer.load_if_any(source)
        packed.write(target, model, words, dtype or model.loaded_dtype, replace=replace)
        return
    words = tokenizer.load(tokenizer_path or source)
    if target.suffix == ".bin":
        _to_llama2c(model, words, target, dtype=dtype, replace=replace)
        return
    dtype = dtype or ("fp16" if model.dtype == "fp16" else "fp32")
    checkpoint.write(target, model.config, model.weights, words, dtype=dtype, replace=replace)


def _to_llama2c(
    model: Checkpoint, words: Tokenizer, target: Path, *, dtype: str | None, replace: bool
) -> None:
    """The checkpoint, and its tokenizer beside it as `tok<vocabulary size>.bin`."""
    if dtype not in (None, "fp32"):
        raise Error(f"{target}: llama2.c checkpoints are fp32, and {dtype} was asked for")
    header = llama2c.header_for(model.config)
    content = llama2c_tokenizer.to_bytes(tokenizer_conversion.to_llama2c(words.files))
    if words.vocab_size != header.vocab_size:
        raise Error(
            f"{target}: llama2.c needs a token for each of the model's {header.vocab_size} ids, "
            f"and the tokenizer has {words.vocab_size}"
        )
    beside = target.with_name(f"tok{header.vocab_size}.bin")
    same = beside.is_file() and beside.read_bytes() == content
    with (
        storage.staged_file(target, replace=replace) as model_stage,
        storage.staged_file(beside, replace=replace or same) as words_stage,
    ):
        llama2c.write(model_stage, header, _interleaved(model))
        words_stage.write_bytes(content)


def _interleaved(model: Checkpoint) -> Mapping[str, NDArray[Any]]:
    """The weights as llama2.c orders the rows that RoPE turns."""
    if model.config.get("rope_interleaved", False):
        return model.weights
    return checkpoint.reorder_rotated(model.weights, model.config, llama2c.interleave)
