"""What a run trains: all of a model, or an adapter beside one that stays as it is."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import ChainMap
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from orion_ane import _core, adapter, checkpoint
from orion_ane._core import Error, LoraShape
from orion_ane.model import Model
from orion_ane.training.settings import Lora, Settings
from orion_ane.training.sources import Start

Arrays = Mapping[str, NDArray[Any]]

_ADAPTER_NAME = "trained"


class Subject(ABC):
    """A model as it was found, and of it what is trained: the core's weights by name."""

    trained: str
    """What it is, for people."""
    shape: LoraShape | None = None
    """Of the adapter, if one is trained."""
    base: str = ""
    """The fingerprint of weights that stay as they are."""

    def __init__(self, start: Start) -> None:
        self.start = start
        self.model = start.model

    @property
    def first_weights(self) -> Arrays:
        """What the core begins with."""
        return self.start.weights

    def meaning(self) -> dict[str, Any]:
        """What a resumed run has to agree on, beside the model's configuration."""
        return {}

    @abstractmethod
    def fill(self, stage: Path, weights: Arrays) -> None:
        """Writes the weights with all that others need to read them into a directory."""

    @abstractmethod
    def read(self, directory: Path, shapes: Mapping[str, tuple[int, ...]]) -> Arrays:
        """What `fill` wrote; Error unless it has these names and shapes."""

    @abstractmethod
    def refresh(self, weights: Arrays) -> Model:
        """The model, the caller's own or one on the CPU in fp32, with these weights."""


class WholeModel(Subject):
    """Every weight of a model."""

    trained = "a whole model"

    def fill(self, stage: Path, weights: Arrays) -> None:
        """A model directory as Hugging Face has it."""
        checkpoint.fill(stage, self.start.config, weights, self.start.tokenizer)

    def read(self, directory: Path, shapes: Mapping[str, tuple[int, ...]]) -> Arrays:
        """The weights where they lie in the file."""
        found = checkpoint.read(directory)
        found.check(shapes)
        return found.weights

    def refresh(self, weights: Arrays) -> Model:
        """Copies of the weights in place of what the model had."""
        copies = {name: array.copy() for name, array in weights.items()}
        found = checkpoint.in_memory(self.start.config, copies, self.start.path)
        if self.model is None:
            self.model = Model.on_cpu(found, self.start.tokenizer)
        else:
            self.model.replace(found)
        return self.model


class AdapterBeside(Subject):
    """A and B of an adapter; the model is only read."""

    trained = "an adapter"

    def __init__(self, start: Start, lora: Lora, seed: int) -> None:
        super().__init__(start)
        if start.found is None:
            raise Error("lora: an adapter is for weights that exist: a model, or the path of one")
        targets = tuple(lora.targets) or tuple(adapter.all_linear(start.config))
        self._lora = replace(lora, targets=targets)
        self._config = adapter.make_config(
            start.config,
            rank=lora.rank,
            alpha=lora.alpha,
            targets=targets,
            dropout=lora.dropout,
            rslora=lora.rslora,
            base=start.name,
        )
        scale = adapter.scale_of(self._config, lora.rank, lora.alpha)
        self.shape = LoraShape(rank=lora.rank, scale=scale, targets=list(targets))
        self.base = start.found.fingerprint
        self._seed = seed

    @property
    def first_weights(self) -> Arrays:
        """The model's, and of the adapter A drawn and B zeros."""
        assert self.shape is not None
        drawn = _core.initial_lora(self.start.config, self.shape, self._seed)
        return ChainMap(drawn, self.start.weights)  # type: ignore[arg-type]  # is only read

    def meaning(self) -> dict[str, Any]:
        """The adapter's options, and what it stands beside."""
        lora = asdict(self._lora) | {"targets": sorted(set(self._lora.targets))}
        return {f"lora {name}": value for name, value in lora.items()} | {
            "SHA-256 of the base's weights": self.base
        }

    def fill(self, stage: Path, weights: Arrays) -> None:
        """An adapter's directory as PEFT has it."""
        adapter.fill(stage, self._adapter(weights), self.start.config)

    def read(self, directory: Path, shapes: Mapping[str, tuple[int, ...]]) -> Arrays:
        """A and B in Hugging Face's order."""
        arrays = adapter.read(directory, self.start.config).arrays
        checkpoint.check(shapes, arrays, directory)
        return arrays

    def refresh(self, weights: Arrays) -> Model:
        """The model as it is, with the adapter loaded and active."""
        if self.model is None:
            wide = {name: np.asarray(a, np.float32) for name, a in self.start.weights.items()}
            found = checkpoint.in_memory(self.start.config, wide, self.start.path)
            self.model = Model.on_cpu(found, self.start.tokenizer)
        if _ADAPTER_NAME in self.model.adapters:
            self.model.unload_adapter(_ADAPTER_NAME)
        now = adapter.for_model(self._adapter(weights), self.model.config)
        self.model.add_adapter(now, _ADAPTER_NAME)
        return self.model

    def _adapter(self, weights: Arrays) -> adapter.Adapter:
        assert self.shape is not None
        return adapter.Adapter(self.shape, dict(weights), self._config, self.base)


def subject_of(start: Start, settings: Settings) -> Subject:
    """What the settings say is trained."""
    if settings.lora is None:
        return WholeModel(start)
    return AdapterBeside(start, settings.lora, settings.seed)
