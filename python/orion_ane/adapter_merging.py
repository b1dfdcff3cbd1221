"""Adapters worked into the weights they stand beside."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from orion_ane import _core, adapter, checkpoint, tokenizer
from orion_ane._core import Error, LoraShape

_logger = logging.getLogger("orion_ane")


def merge(
    model: str | Path,
    path: str | Path,
    target: str | Path,
    *,
    scale: float = 1.0,
    dtype: str | None = None,
    replace: bool = False,
) -> None:
    """Writes `model` with an adapter worked in as a directory of its own: W + scale B A.

    `dtype` is fp32 or fp16, by default as in the model (fp32 for bf16). The tokenizer comes along.
    """
    if not math.isfinite(scale):
        raise Error(f"scale is {scale}, a number is needed")
    source = checkpoint.locate(model)
    found = checkpoint.read(source)
    found.check(_core.model_weights(found.config))
    words = tokenizer.load_if_any(source)
    chosen = adapter.read(path, found.config)
    if misfit := adapter.misfit(chosen, found):
        _logger.warning("%s: %s", path, misfit)
    weights = merged(found, chosen, scale)
    dtype = dtype or ("fp16" if found.dtype == "fp16" else "fp32")
    checkpoint.write(Path(target), found.config, weights, words, dtype=dtype, replace=replace)


def merged(
    found: checkpoint.Checkpoint, chosen: adapter.Adapter, scale: float = 1.0
) -> Mapping[str, NDArray[Any]]:
    """Every weight of a model, those that the adapter reaches with it worked in."""
    targets = chosen.shape.targets
    shape = LoraShape(rank=chosen.shape.rank, scale=chosen.shape.scale * scale, targets=targets)
    core = _core.Adapter(found.config, shape, chosen.arrays)
    weights: dict[str, NDArray[Any]] = dict(found.weights)
    for module in targets:
        name = f"{module}.weight"
        weights[name] = core.merged(module, weights[name])
    return weights
