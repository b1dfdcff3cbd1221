"""Training an adapter beside a model that stays as it is."""

from __future__ import annotations

from collections import ChainMap
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.numpy
from numpy.typing import NDArray

from orion_ane import _core, adapter, checkpoint, storage
from orion_ane._core import Error, LoraShape, StepReport
from orion_ane.data import Dataset
from orion_ane.placement import place
from orion_ane.safetensors_file import read_safetensors

OPTIMIZER = "optimizer.safetensors"
RECORD = "trainer.json"
IGNORED = -100  # a target that loses nothing
_REPLACEABLE = adapter.WRITTEN | {OPTIMIZER, RECORD}
_MOMENTS = ("m", "v")


@dataclass(frozen=True)
class AdapterSettings:
    """What the training of an adapter is told."""

    rank: int = 8
    alpha: float = 16.0
    targets: tuple[str, ...] = ()
    """Names such as "q_proj"; none: every linear module but the head."""
    dropout: float = 0.0
    """Of what A reads, as PEFT's lora_dropout. Only 0 is supported."""
    rslora: bool = False
    """Whether the scale is alpha / sqrt(rank) and not alpha / rank."""
    batch: int = 8
    sequence: int = 256
    """At most; a shorter context is taken whole."""
    steps: int = 100
    lr: float = 1e-3
    """The highest learning rate."""
    warmup: int = 0
    """Steps of linear rise to it."""
    schedule: str = "cosine"
    """Its way down after that: "constant", "linear" or "cosine"."""
    floor: float = 0.1
    """What it comes down to, as a share of `lr`."""
    clip: float = 1.0
    """The largest norm of all gradients together; 0: any."""
    weight_decay: float = 0.01
    """AdamW's."""
    validation: float = 0.1
    """The share of windows kept for `evaluate`, from the end of the data."""
    seed: int = 0
    """Of the order of the data, and of A."""


class AdapterTrainer:
    """Trains A and B; gradients and moments are theirs alone, and the model's file is only read."""

    def __init__(
        self,
        model: str | Path,
        data: str | PathLike[str],
        settings: AdapterSettings | None = None,
        *,
        device: str = "auto",
        policy: str | None = None,
    ) -> None:
        self.settings = settings = settings or AdapterSettings()
        if settings.dropout != 0:
            raise Error(f"dropout is {settings.dropout}; only 0 is supported in training")
        found = checkpoint.read(checkpoint.locate(model))
        found.check(_core.model_weights(found.config))
        self.model = str(model)
        self.config = found.config
        targets = settings.targets or tuple(adapter.all_linear(found.config))
        self._adapter_config = adapter.make_config(
            found.config,
            rank=settings.rank,
            alpha=settings.alpha,
            targets=targets,
            dropout=settings.dropout,
            rslora=settings.rslora,
            base=self.model,
        )
        scale = adapter.scale_of(self._adapter_config, settings.rank, settings.alpha)
        self.shape = LoraShape(rank=settings.rank, scale=scale, targets=list(targets))
        sequence = min(settings.sequence, _context(found.config) or settings.sequence)
        self.data = Dataset(
            data,
            settings.batch,
            sequence,
            seed=settings.seed,
            validation=settings.validation,
            vocab=found.config["vocab_size"],
        )
        self._core = _core.Trainer(
            found.config,
            ChainMap(
                _core.initial_lora(found.config, self.shape, settings.seed),
                found.weights,  # type: ignore[arg-type]  # is only read
            ),
            place(device, policy).device,
            _core.TrainOptions(
                batch=settings.batch,
                sequence=sequence,
                weight_decay=settings.weight_decay,
                clip=settings.clip,
                lora=self.shape,
            ),
        )

    @property
    def step_count(self) -> int:
        """Steps taken so far."""
        return self._core.state.step

    @property
    def device(self) -> str:
        """Where the layers run."""
        return self._core.device

    @property
    def num_parameters(self) -> int:
        """Numbers that are trained."""
        return self._core.num_parameters

    @property
    def adapter(self) -> adapter.Adapter:
        """A and B as they are now: views that change as training goes on."""
        return adapter.Adapter(self.shape, self._core.weights, self._adapter_config)

    def step(self) -> StepReport:
        """One step on the next batch."""
        settings = self.settings
        rate = _core.learning_rate(
            self.step_count,
            peak=settings.lr,
            warmup=settings.warmup,
            total=settings.steps,
            shape=settings.schedule,
            floor=settings.floor,
        )
        self._core.accumulate(*next(self.data))
        return self._core.step(rate)

    def evaluate(self) -> float:
        """The mean loss on the data kept for it."""
        if not self.data.validation_windows:
            raise Error("evaluate: no data is kept for it (validation is a share of the windows)")
        total, count = 0.0, 0
        for ids, targets in self.data.validation():
            missing = self.data.batch - len(ids)
            whole = [
                np.pad(each, ((0, missing), (0, 0)), constant_values=value)
                for each, value in ((ids, 0), (targets, IGNORED))
            ]
            total += self._core.evaluate(*whole) * targets.size
            count += targets.size
        return total / count

    def save(self, directory: str | Path, *, replace: bool = False) -> None:
        """Writes what PEFT and `load_adapter` read, and what `resume` needs: all or nothing."""
        names = _REPLACEABLE if replace else None
        moments = (self._core.first_moments, self._core.second_moments)
        with storage.staged_directory(Path(directory), replaceable=names) as stage:
            adapter.fill(stage, self.adapter, self.config)
            arrays = {
                f"{part}.{name}": np.ascontiguousarray(array)
                for part, each in zip(_MOMENTS, moments, strict=True)
                for name, array in each.items()
            }
            safetensors.numpy.save_file(arrays, stage / OPTIMIZER)
            (stage / RECORD).write_bytes(storage.to_json(self._record()))

    def resume(self, directory: str | Path) -> None:
        """Goes on from what `save` wrote; Error saying what differs if this is another run."""
        path = Path(directory)
        record = storage.read_json(path / RECORD)
        for key, value in self._record().items():
            if key not in ("state", "cursor") and record.get(key) != value:
                raise Error(f"{path / RECORD}: {key} was {record.get(key)!r}, and is {value!r}")
        state, cursor = _state_of(path / RECORD, record)
        stored = adapter.read(path, self.config)
        moments = {name: each.array() for name, each in read_safetensors(path / OPTIMIZER).items()}
        parts = (self._core.weights, self._core.first_moments, self._core.second_moments)
        sources: list[dict[str, NDArray[Any]]] = [
            stored.arrays,
            *(_part(moments, m) for m in _MOMENTS),
        ]
        for source, part in zip(sources, parts, strict=True):
            checkpoint.check({n: a.shape for n, a in part.items()}, source, path)
        for source, part in zip(sources, parts, strict=True):
            for name, array in part.items():
                array[...] = source[name]
        self.data.seek(cursor)
        self._core.restore(state)

    def _record(self) -> dict[str, Any]:
        state = self._core.state
        settings = asdict(self.settings)
        del settings["steps"]
        return {
            "format": 1,
            "model": self.config,
            "data": self.data.hash,
            "settings": settings | {"targets": list(self.settings.targets)},
            "state": {name: getattr(state, name) for name in _STATE},
            "cursor": list(self.data.cursor),
        }


def _context(config: dict[str, Any]) -> int | None:
    return config.get("n_positions") or config.get("max_position_embeddings")


_STATE = ("step", "optimizer_steps", "loss_scale", "good_steps")


def _part(moments: dict[str, NDArray[Any]], part: str) -> dict[str, NDArray[Any]]:
    prefix = f"{part}."
    return {name.removeprefix(prefix): a for name, a in moments.items() if name.startswith(prefix)}


def _state_of(path: Path, record: dict[str, Any]) -> tuple[_core.TrainState, tuple[int, int]]:
    state, cursor = record.get("state"), record.get("cursor")
    try:
        epoch, window = _integers(cursor)
        return _core.TrainState(**state), (epoch, window)  # type: ignore[arg-type]
    except (TypeError, ValueError) as error:
        raise Error(f"{path}: no state to go on from: {error}") from error


def _integers(values: Any) -> Sequence[int]:
    if not isinstance(values, list) or not all(type(value) is int for value in values):
        raise ValueError(f"cursor is {values!r}")
    return values
