"""Runs small enough to repeat."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from orion_ane import Trainer, _core
from orion_ane.training import checkpoints
from safetensors.numpy import load_file

GPT2: dict[str, Any] = {
    "model_type": "gpt2",
    "vocab_size": 64,
    "n_positions": 32,
    "n_embd": 16,
    "n_layer": 2,
    "n_head": 2,
}
LLAMA: dict[str, Any] = {
    "model_type": "llama",
    "vocab_size": 64,
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 32,
    "rms_norm_eps": 1e-5,
    "tie_word_embeddings": False,
}
USUAL: dict[str, Any] = {"batch": 2, "sequence": 8, "lr": 1e-2, "warmup": 1}


def ids(count: int = 2000, vocab: int = 64) -> NDArray[np.int32]:
    """Something to learn: each id mostly follows from the one before."""
    generator = np.random.default_rng(0)
    steps = generator.choice([1, 1, 1, 5], count)
    return np.asarray(np.cumsum(steps) % vocab, np.int32)


def token_file(directory: Path, content: NDArray[np.int32] | None = None) -> Path:
    """The same as a file."""
    path = directory / "data.bin"
    writer = _core.TokenWriter(path, 64)
    writer.write(ids() if content is None else content)
    writer.commit(1, 0)
    return path


def run(out: Path | None = None, model: Any = GPT2, data: Any = None, **options: Any) -> Trainer:
    """A trainer, unless told otherwise of the same run each time."""
    return Trainer(model, ids() if data is None else data, out=out, **(USUAL | options))


def files_of(out: Path, step: int) -> dict[str, NDArray[Any]]:
    """Every number of a checkpoint."""
    directory = checkpoints.directory_of(out, step)
    return load_file(directory / "model.safetensors") | load_file(directory / checkpoints.OPTIMIZER)


def assert_same(first: dict[str, NDArray[Any]], second: dict[str, NDArray[Any]]) -> None:
    """Bit for bit."""
    assert first.keys() == second.keys()
    for name, array in first.items():
        assert array.tobytes() == second[name].tobytes(), name
