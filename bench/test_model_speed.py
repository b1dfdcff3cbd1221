"""Models of stories15M's shape, by pytest-benchmark: `pytest bench`."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path

import pytest
from orion_ane import checkpoint
from orion_ane.bench import inference, models, training, updates
from orion_ane.placement import DTYPES
from orion_ane.presets import PRESETS
from pytest_benchmark.fixture import BenchmarkFixture

MODEL = "stories-15m"
ROUNDS = 5


@pytest.fixture(scope="module")
def model() -> Iterator[Path]:
    with models.model_at(MODEL) as path:
        yield path


@pytest.fixture(scope="module", params=DTYPES)
def decoder(model: Path, request: pytest.FixtureRequest) -> inference.OrionDecoder:
    return inference.OrionDecoder(str(model), request.param, "cpu")


def test_prefill(benchmark: BenchmarkFixture, decoder: inference.OrionDecoder) -> None:
    ids = models.random_ids(PRESETS[MODEL], 128)
    benchmark.pedantic(decoder.prefill, (ids,), rounds=ROUNDS, warmup_rounds=1)


def test_prefill_and_64_tokens(
    benchmark: BenchmarkFixture, decoder: inference.OrionDecoder
) -> None:
    ids = models.random_ids(PRESETS[MODEL], 32)
    benchmark.pedantic(decoder.decode, (ids, 64), rounds=ROUNDS, warmup_rounds=1)


def test_load(benchmark: BenchmarkFixture, model: Path) -> None:
    benchmark.pedantic(
        inference.OrionDecoder, (str(model), "fp16", "cpu"), rounds=ROUNDS, warmup_rounds=1
    )


def test_training_step(benchmark: BenchmarkFixture, model: Path) -> None:
    lesson = training.lesson_for(checkpoint.read_config(model), quick=False, sequence=128)
    learner = training.OrionLearner(str(model), "cpu", "fp32", lesson)
    steps = itertools.count()
    benchmark.pedantic(
        lambda: learner.step(lesson.batches(next(steps))), rounds=ROUNDS, warmup_rounds=1
    )


@pytest.mark.parametrize("strategy", ["delta", "new_identity", "input", "recompile"])
def test_weight_update(benchmark: BenchmarkFixture, strategy: str) -> None:
    device = "sim:paper-m4-macos15"
    verdicts = {row["strategy"]: row for row in updates.verdicts(device)}
    assert verdicts[strategy]["eligible"], verdicts[strategy]["reason"]
    chain = updates.Chain(6)
    program = updates.program(device, chain, strategy)
    sets = iter([chain.values(1 + i) for i in range(ROUNDS + 1)])
    benchmark.pedantic(lambda: program.update(next(sets)), rounds=ROUNDS, warmup_rounds=1)
