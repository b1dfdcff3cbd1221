"""A trainer to and from the content of a checkpoint."""

from __future__ import annotations

import platform
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import safetensors

from orion_ane import _core
from orion_ane._core import Error, TrainState
from orion_ane.training import checkpoints
from orion_ane.training.checkpoints import Arrays, Content, Record

if TYPE_CHECKING:
    from orion_ane.training.trainer import Trainer

# Parts of a config.json that do not say what the model computes.
_IRRELEVANT = (
    "_name_or_path",
    "architectures",
    "dtype",
    "initializer_range",
    "torch_dtype",
    "transformers_version",
    "use_cache",
)


def content_of(trainer: Trainer) -> Content:
    """All that a run needs to go on."""
    core = trainer._core
    state = core.state
    record = {
        "state": {
            "step": state.step,
            "optimizer_steps": state.optimizer_steps,
            "loss_scale": state.loss_scale,
            "good_steps": state.good_steps,
        },
        "meaning": _meaning(trainer),
        "data": {"path": str(trainer.data.tokens.path), "cursor": list(trainer.data.cursor)},
        "config": trainer.config,
        "settings": trainer.settings.as_json(),
        "device": core.device,
        "versions": {
            "orion": _core.__version__,
            "python": platform.python_version(),
            "numpy": np.__version__,
            "safetensors": safetensors.__version__,
        },
    }
    moments = (core.first_moments, core.second_moments)
    return Content(lambda stage: trainer._subject.fill(stage, core.weights), moments, record)


def restore(trainer: Trainer, directory: Path) -> None:
    """Puts a checkpoint into a trainer. The first process reads, the others get it from there.

    Everything is read and checked before anything is changed.
    """
    world, core = trainer.world, trainer._core
    record: Record = {}
    found: tuple[Arrays, Arrays, Arrays] = ({}, {}, {})
    if world.is_first:
        record = checkpoints.verify(directory)
        _require_same(trainer, directory, record)
        found = _read_arrays(trainer, directory)
    state, cursor = _state_of(world.share(record), directory)
    trainer.data.seek(cursor)
    arrays = (core.weights, core.first_moments, core.second_moments)
    for target, source in zip(arrays, found, strict=True):
        for name, array in source.items():
            target[name][...] = array
        world.broadcast(target.values())
    core.restore(state)


def _state_of(record: Record, directory: Path) -> tuple[TrainState, tuple[int, int]]:
    try:
        stored = dict(record["state"])
        epoch, window = record["data"]["cursor"]
        numbers = [*stored.values(), epoch, window]
        if not all(type(number) in (int, float) and number >= 0 for number in numbers):
            raise ValueError(f"it holds {numbers}")
        return TrainState(**stored), (epoch, window)
    except (KeyError, TypeError, ValueError) as error:
        raise Error(f"{directory / checkpoints.RECORD}: no state to go on from: {error}") from error


def _read_arrays(trainer: Trainer, directory: Path) -> tuple[Arrays, Arrays, Arrays]:
    """Weights and moments, as they lie in the files."""
    shapes = {name: array.shape for name, array in trainer.weights.items()}
    weights = trainer._subject.read(directory, shapes)
    return weights, *checkpoints.read_moments(directory, shapes)


def _meaning(trainer: Trainer) -> dict[str, Any]:
    """What must be the same for the steps to come to be those of the same run."""
    rows = trainer.data.batch * trainer.world.ranks * trainer.settings.accumulation
    return {
        "trained": trainer._subject.trained,
        **trainer.settings.optimization(),
        **trainer._subject.meaning(),
        "sequence": trainer.data.sequence,
        "windows of a step (batch x accumulation x processes)": rows,
        "data": trainer.data.hash,
    }


def _require_same(trainer: Trainer, directory: Path, record: Record) -> None:
    stored, before = record.get("config"), record.get("meaning")
    if not isinstance(stored, dict) or not isinstance(before, dict):
        raise Error(f"{directory / checkpoints.RECORD}: no 'config' and 'meaning'")
    then, now = (
        {key: value for key, value in config.items() if key not in _IRRELEVANT}
        for config in (stored, trainer.config)
    )
    subject = trainer._subject.trained
    if before.get("trained") != subject:
        raise Error(
            f"{directory}: this run trained {before.get('trained')}, and {subject} is to be trained"
        )
    differences = [*_differences(then, now, "config "), *_differences(before, _meaning(trainer))]
    if differences:
        raise Error(
            f"{directory}: this run is another one: {'; '.join(differences)} (resume with the same "
            "options, or begin a new run in another directory)"
        )


def _differences(then: dict[str, Any], now: dict[str, Any], label: str = "") -> list[str]:
    return [
        f"{label}{key} was {then.get(key)!r} and is {now.get(key)!r}"
        for key in {**then, **now}
        if then.get(key) != now.get(key)
    ]
