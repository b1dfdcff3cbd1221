"""The loss of a model on data."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterable, Iterator

import numpy as np

from orion_ane._core import Error
from orion_ane.data import Batch, Dataset, Ids
from orion_ane.model import Model
from orion_ane.training.metrics import Evaluation
from orion_ane.training.parallel import World

IGNORED = -100
"""A target that does not count."""


def mean_loss(
    batches: Iterable[Batch],
    loss_sum: Callable[[Ids, Ids], float],
    world: World,
    *,
    most: int = 0,
    step: int = 0,
) -> Evaluation:
    """The mean over the targets of all batches, or `most` for each process, which share them."""
    start = time.perf_counter()
    total, tokens = 0.0, 0
    chosen = itertools.islice(batches, most * world.ranks) if most else batches
    for ids, targets in itertools.islice(chosen, world.rank, None, world.ranks):
        total += loss_sum(ids, targets)
        tokens += targets.size
    total, counted = world.sum([total, tokens])
    if counted == 0:
        raise Error("evaluate: there is no batch to evaluate")
    return Evaluation(step, total / counted, int(counted), time.perf_counter() - start)


def filled(batch: int, ids: Ids, targets: Ids) -> Batch:
    """A batch of `batch` rows; those that are missing have no target that counts."""
    missing = ((0, batch - len(ids)), (0, 0))
    return Batch(np.pad(ids, missing), np.pad(targets, missing, constant_values=IGNORED))


def evaluate(model: Model, dataset: Dataset, batches: int = 0) -> Evaluation:
    """The mean loss of a loaded model, on its device, over a dataset, or its first `batches`."""

    def loss_sum(ids: Ids, targets: Ids) -> float:
        rows = zip(ids, targets, strict=True)
        return sum(_row_loss(model, row, target) for row, target in rows)

    return mean_loss(_all_windows(dataset), loss_sum, World(), most=batches)


def _all_windows(dataset: Dataset) -> Iterator[Batch]:
    yield from dataset.epoch()
    yield from dataset.validation()


def _row_loss(model: Model, ids: Ids, targets: Ids) -> float:
    logits = model.logits(ids)
    shifted = logits - logits.max(axis=1, keepdims=True)
    normalizers = np.log(np.exp(shifted).sum(axis=1, dtype=np.float64))
    return float((normalizers - shifted[np.arange(len(targets)), targets]).sum())
