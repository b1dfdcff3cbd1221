"""What a run starts from, in the forms it may be given: a model and data."""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from orion_ane import _core, checkpoint, tokenizer
from orion_ane._core import Error
from orion_ane.checkpoint import Checkpoint
from orion_ane.data import Dataset
from orion_ane.families import FAMILIES
from orion_ane.initialization import random_weights
from orion_ane.model import Model
from orion_ane.tokenizer import Tokenizer
from orion_ane.training.parallel import World
from orion_ane.training.settings import Settings

Path_: TypeAlias = str | PathLike[str]
ModelSource: TypeAlias = Model | Path_ | Mapping[str, Any]
DataSource: TypeAlias = Dataset | Path_ | NDArray[np.integer[Any]]

_BATCH = 8
_SEQUENCE = 256


@dataclass(frozen=True)
class Start:
    """A model to begin with."""

    config: dict[str, Any]
    weights: Mapping[str, NDArray[Any]]
    tokenizer: Tokenizer | None
    model: Model | None
    """The caller's own, which is to have the new weights."""
    found: Checkpoint | None
    """As it was found, if it was."""
    name: str | None
    """What it was called by who gave it."""

    @property
    def path(self) -> Path | None:
        """Where it was found, if it was."""
        return self.found.path if self.found else None


def start_of(source: ModelSource, words: Tokenizer | None, seed: int) -> Start:
    """The model given as one that is loaded, a path, or a configuration to draw weights for."""
    if isinstance(source, Mapping):
        return _drawn(dict(source), words, seed)
    found = (
        source.checkpoint
        if isinstance(source, Model)
        else checkpoint.read(checkpoint.locate(Path(source)))
    )
    found.check(_core.model_weights(found.config))
    config, weights = checkpoint.in_hugging_face_order(found.config, found.weights)
    model = source if isinstance(source, Model) else None
    if words is None and found.path is not None:
        words = tokenizer.load_if_any(found.path)
    name = found.path if isinstance(source, Model) else source
    return Start(config, weights, words, model, found, str(name) if name else None)


def _drawn(config: dict[str, Any], words: Tokenizer | None, seed: int) -> Start:
    if config.get("model_type") not in FAMILIES:
        known = ", ".join(FAMILIES)
        raise Error(f"config: model_type {config.get('model_type')!r} is unknown (known: {known})")
    weights = random_weights(config, seed)
    if config.get("rope_interleaved"):
        raise Error("config: rope_interleaved, which no model that is trained here has")
    return Start(config, weights, words, None, None, None)


def dataset_of(
    source: DataSource, settings: Settings, config: Mapping[str, Any], world: World
) -> Dataset:
    """The data given as a dataset, a token file or an array of ids."""
    if isinstance(source, Dataset):
        return _checked(source, settings, world)
    if isinstance(source, np.ndarray):
        return _of_array(source, settings, config, world)
    share = settings.validation if isinstance(settings.validation, (int, float)) else 0.0
    return Dataset(
        Path(source),
        settings.batch or _BATCH,
        settings.sequence or _usual_sequence(config),
        seed=settings.seed,
        validation=share,
        vocab=config["vocab_size"],
        rank=world.rank,
        ranks=world.ranks,
    )


def warn_of_other_tokenizer(dataset: Dataset, words: Tokenizer | None) -> None:
    """A UserWarning if the data says that its ids are of another tokenizer than the model's."""
    made_with = (dataset.tokens.facts or {}).get("tokenizer")
    if words is not None and made_with not in (None, words.hash):
        warnings.warn(
            f"{dataset.tokens.path}: made with another tokenizer than the model's; its ids "
            "may mean other texts",
            stacklevel=3,
        )


def validation_of(
    settings: Settings, training: Dataset, config: Mapping[str, Any]
) -> Dataset | None:
    """The file that evaluations read, if it is one of its own."""
    if isinstance(settings.validation, (int, float)):
        return None
    return Dataset(
        Path(settings.validation),
        training.batch,
        training.sequence,
        vocab=config["vocab_size"],
        shuffle=False,
    )


def _usual_sequence(config: Mapping[str, Any]) -> int:
    return min(_SEQUENCE, _core.model_context(dict(config)))


def _checked(dataset: Dataset, settings: Settings, world: World) -> Dataset:
    for name, wanted in (("batch", settings.batch), ("sequence", settings.sequence)):
        if wanted not in (None, has := getattr(dataset, name)):
            raise Error(f"Trainer: {name} is {wanted}, and the dataset's is {has}")
    if (dataset.rank, dataset.ranks) != (world.rank, world.ranks):
        raise Error(
            f"Trainer: the dataset is for rank {dataset.rank} of {dataset.ranks}, and this process "
            f"is {world.rank} of {world.ranks}"
        )
    return dataset


def _of_array(
    ids: NDArray[np.integer[Any]], settings: Settings, config: Mapping[str, Any], world: World
) -> Dataset:
    """A dataset over a file that has no name any more, and is gone with the dataset."""
    if ids.ndim != 1 or ids.dtype.kind not in "iu":
        raise Error(f"data: an array of {ids.dtype} {ids.shape}, one axis of integers is needed")
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "array.bin"
        writer = _core.TokenWriter(path, config["vocab_size"])
        writer.write(ids)
        writer.commit(1, 0)
        return dataset_of(path, settings, config, world)
