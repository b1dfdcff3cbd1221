"""Weights to begin with, drawn as Hugging Face's models draw theirs."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from orion_ane import _core
from orion_ane._core import Error
from orion_ane.families import FAMILIES


def random_weights(config: Mapping[str, Any], seed: int = 0) -> dict[str, NDArray[np.float32]]:
    """fp32 weights for a configuration; the same for the same seed.

    Matrices are normal with `initializer_range` (0.02) as standard deviation, those that end a
    GPT-2 block a factor sqrt(2 layers) narrower; norms are ones, biases zeros.
    """
    shapes = _core.model_weights(dict(config))
    family = FAMILIES[config["model_type"]]
    deviation = _deviation(config)
    narrow = {name for name in shapes if re.fullmatch(family.narrow, name)}
    generator = np.random.default_rng(seed)

    def draw(name: str, shape: tuple[int, ...]) -> NDArray[np.float32]:
        if name.endswith("bias"):
            return np.zeros(shape, np.float32)
        if len(shape) == 1:
            return np.ones(shape, np.float32)
        scale = deviation / math.sqrt(len(narrow)) if name in narrow else deviation
        drawn: NDArray[np.float32] = generator.standard_normal(shape, np.float32)
        drawn *= np.float32(scale)
        return drawn

    return {name: draw(name, tuple(shape)) for name, shape in shapes.items()}


def _deviation(config: Mapping[str, Any]) -> float:
    deviation = config.get("initializer_range", 0.02)
    if not isinstance(deviation, (int, float)) or not 0 < deviation < math.inf:
        raise Error(f"config: initializer_range is {deviation!r}, a positive number is needed")
    return float(deviation)
