"""Models to measure by: real ones, and random ones of well-known shapes."""

from __future__ import annotations

import contextlib
import math
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from orion_ane import _core, checkpoint
from orion_ane._core import Error
from orion_ane.families import FAMILIES
from orion_ane.initialization import random_weights
from orion_ane.presets import PRESETS

WIDTHS = {"fp32": 4.0, "fp16": 2.0, "bf16": 2.0, "int8": 1 + 2 / 32, "int4": 0.5 + 2 / 32}
"""Bytes of a weight; a scale in fp16 for every 32 narrow ones."""


@contextlib.contextmanager
def model_at(name: str) -> Iterator[Path]:
    """Where a model is: a bundled one, a path, or random weights in a preset's shapes, written to
    a directory of their own for as long as this lasts.
    """
    if name not in PRESETS:
        yield _located(name)
        return
    with tempfile.TemporaryDirectory(prefix="orion-bench-") as folder:
        config = PRESETS[name]
        checkpoint.write(Path(folder, name), config, random_weights(config))
        yield Path(folder, name)


def require(name: str) -> None:
    """Error unless there is such a model."""
    if name not in PRESETS:
        _located(name)


def _located(name: str) -> Path:
    try:
        return checkpoint.locate(name)
    except Error as error:
        shapes = ", ".join(PRESETS)
        raise Error(
            f"{error}, nor one of the shapes {shapes} (their weights are random)"
        ) from error


def random_ids(config: Mapping[str, Any], count: int, seed: int = 1) -> list[int]:
    """Tokens of the model's vocabulary."""
    return [int(i) for i in np.random.default_rng(seed).integers(0, config["vocab_size"], count)]


class Cost:
    """What a model must compute and read, counted from its shapes. A product's multiply-adds are
    two operations each; everything but products and attention counts for nothing.
    """

    def __init__(self, config: Mapping[str, Any]) -> None:
        family = FAMILIES[config["model_type"]]
        shapes = {n: tuple(s) for n, s in _core.model_weights(dict(config)).items()}
        rows, columns = shapes.get(family.head, shapes[family.embedding])
        positions = {name for name in shapes if name.endswith("wpe.weight")}
        left_out = positions | {family.head, family.embedding}
        matrices = [s for n, s in shapes.items() if len(s) == 2 and n not in left_out]
        self.layers = int(config.get("num_hidden_layers") or config["n_layer"])
        self.body: int = sum(math.prod(shape) for shape in matrices)
        """Numbers in the matrices of all layers."""
        self.head: int = rows * columns
        width, heads = self._attention(config)
        self.width = int(config.get("hidden_size") or config["n_embd"])
        self.queries = width * heads
        """Width of all queries of a layer."""
        self.keys = width * int(config.get("num_key_value_heads") or heads)

    @staticmethod
    def _attention(config: Mapping[str, Any]) -> tuple[int, int]:
        heads = int(config.get("num_attention_heads") or config["n_head"])
        width = int(config.get("hidden_size") or config["n_embd"]) // heads
        return int(config.get("head_dim") or width), heads

    def prefill(self, tokens: int) -> float:
        """Operations up to the logits of a prompt's last token: of the last layer, the other
        tokens' keys and values are all that it needs.
        """
        seen = tokens * (tokens + 1) / 2
        layer = self.body / self.layers
        shared = 2.0 * self.width * self.keys
        products = tokens * (self.body - layer + shared) + layer - shared + self.head
        return 2.0 * products + 4.0 * self.queries * ((self.layers - 1) * seen + tokens)

    def decode(self, before: int, tokens: int) -> float:
        """Operations of tokens one by one, after so many."""
        seen = self._seen(before, tokens)
        return 2.0 * tokens * (self.body + self.head) + 4.0 * self.layers * self.queries * seen

    def decode_bytes(self, before: int, tokens: int, width: float) -> float:
        """Bytes of weights, keys and values read for that, all `width` bytes a number."""
        cache = 2.0 * self.layers * self.keys * self._seen(before, tokens)
        return width * (tokens * (self.body + self.head) + cache)

    def training(self, batch: int, sequence: int) -> float:
        """Operations of a step: six per weight and token; attention's two products over all
        positions, and twice that back.
        """
        tokens = batch * sequence
        attention = 12.0 * self.layers * self.queries * sequence
        return tokens * (6.0 * (self.body + self.head) + attention)

    @staticmethod
    def _seen(before: int, tokens: int) -> float:
        return tokens * before + tokens * (tokens + 1) / 2
