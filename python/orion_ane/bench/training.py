"""A step of training: forward, backward, clipping and AdamW."""

from __future__ import annotations

import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from orion_ane import _core, checkpoint
from orion_ane.bench import machine
from orion_ane.bench.models import Cost
from orion_ane.bench.remote import Contender, Race
from orion_ane.bench.report import Ceiling, Row, Work, speed_row
from orion_ane.training.settings import PRECISIONS

SUITE = "training"
ERROR = "loss difference"
REFERENCE = "orion fp32"

LEARNING_RATE = 1e-4
WEIGHT_DECAY = 0.01
CLIP = 1.0

Ids = NDArray[np.int32]
Batch = tuple[Ids, Ids]


@dataclass(frozen=True)
class Lesson:
    """What every contender trains."""

    vocabulary: int
    batch: int = 1
    sequence: int = 256
    accumulate: int = 1

    @property
    def tokens(self) -> int:
        """Of a step."""
        return self.batch * self.sequence * self.accumulate

    def batches(self, step: int) -> list[Batch]:
        """Ids and targets (B, S) of every micro-batch of a step."""
        shape = (self.accumulate, self.batch, self.sequence + 1)
        tokens = np.random.default_rng(step).integers(0, self.vocabulary, shape, dtype=np.int32)
        return [(np.ascontiguousarray(t[:, :-1]), np.ascontiguousarray(t[:, 1:])) for t in tokens]


@dataclass
class Step:
    """One step of a contender."""

    seconds: float
    loss: float
    times: dict[str, float] = field(default_factory=dict)
    """Of its parts, where they are known."""


class Learner(Protocol):
    """A contender."""

    def step(self, batches: list[Batch]) -> Step:
        """Accumulates the batches and takes one step."""


class OrionLearner:
    """Our trainer on a device, its products in one precision."""

    def __init__(self, path: str, device: str, precision: str, lesson: Lesson) -> None:
        found = checkpoint.read(Path(path))
        options = _core.TrainOptions(
            batch=lesson.batch,
            sequence=lesson.sequence,
            weight_decay=WEIGHT_DECAY,
            clip=CLIP,
            precision=precision,
        )
        self.trainer = _core.Trainer(found.config, found.weights, device, options)

    def step(self, batches: list[Batch]) -> Step:
        """Forward, backward and AdamW."""
        start = time.perf_counter()
        for ids, targets in batches:
            self.trainer.accumulate(ids, targets)
        report = self.trainer.step(LEARNING_RATE)
        return Step(time.perf_counter() - start, report.loss, dict(report.times))


def lesson_for(
    config: Mapping[str, Any],
    *,
    quick: bool,
    batch: int = 1,
    sequence: int | None = None,
    accumulate: int = 1,
) -> Lesson:
    """256 tokens at once, or what the model has positions for."""
    context = config.get("max_position_embeddings") or config["n_positions"]
    wanted = sequence or (32 if quick else 256)
    return Lesson(config["vocab_size"], batch, min(wanted, context), accumulate)


def our_contenders(path: Path, device: str, lesson: Lesson) -> list[Contender]:
    """Our trainer on the device, in every precision that it has."""
    on_cpu = device == "cpu"
    return [
        Contender(
            f"orion {precision}" if on_cpu else f"orion {precision} {device}",
            OrionLearner,
            (str(path), device, precision, lesson),
            products=precision,
            on_cpu=on_cpu,
        )
        for precision in (PRECISIONS if on_cpu else PRECISIONS[:1])
    ]


def compete(
    model: str,
    config: Mapping[str, Any],
    contenders: Sequence[Contender],
    lesson: Lesson,
    rounds: int,
    reference: str = REFERENCE,
) -> tuple[list[Row], dict[str, dict[str, float]], Ceiling]:
    """Rows of all contenders, which take turns; milliseconds of the parts of their steps; and the
    ceiling that the rows are shares of, the median of every round's. A loss is compared with that
    of the contender `reference` at the same step, if it takes part. One that fails and may leave
    has no rows.
    """
    ceilings = []
    steps: dict[str, list[Step]] = {c.name: [] for c in contenders}
    with Race(contenders) as race:
        for turn in race.turns(rounds, model):
            ceilings.append(machine.ceiling_now())
            batches = lesson.batches(turn)
            for name, step in race.each(lambda remote: remote.call("step", batches)).items():  # noqa: B023
                steps[name].append(step)
        peaks = race.each(lambda remote: remote.peak_memory() / 2**20)
        stayed = race.contenders
    steps = {c.name: steps[c.name] for c in stayed}
    ceiling = Ceiling.median(ceilings)
    flops = Cost(config).training(lesson.batch, lesson.sequence) * lesson.accumulate
    task = f"{model}: step of {lesson.accumulate} x {lesson.batch} x {lesson.sequence}"
    rows = [
        speed_row(
            (SUITE, task, c.name),
            [step.seconds for step in steps[c.name][1:]],
            (float(lesson.tokens), "tokens/s"),
            Work(flops, products=c.products),
            ceiling if c.on_cpu else None,
            _loss_difference(steps, c.name, reference),
        )
        for c in stayed
    ]
    memory = f"{model}: peak memory of training"
    rows += [Row(SUITE, memory, name, "MiB", [peak]) for name, peak in peaks.items()]
    return rows, {name: parts(taken[1:]) for name, taken in steps.items()}, ceiling


def _loss_difference(
    steps: Mapping[str, list[Step]], name: str, reference: str
) -> tuple[float, str] | None:
    if reference not in steps or name == reference:
        return None
    pairs = zip(steps[name], steps[reference], strict=True)
    return max(abs(a.loss - b.loss) for a, b in pairs), ERROR


def parts(steps: list[Step]) -> dict[str, float]:
    """Milliseconds of the parts of the step in the middle; `other` is what they leave."""
    middle = statistics.median_low([step.seconds for step in steps])
    step = next(s for s in steps if s.seconds == middle)
    told = {name: 1e3 * seconds for name, seconds in step.times.items()}
    return told and told | {"other": 1e3 * step.seconds - sum(told.values())}
