"""Timing that compares: contenders take turns; medians and spreads are told."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any


def seconds_of(run: Callable[[], object]) -> float:
    """How long one call takes."""
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def alternate(
    runs: Mapping[str, Callable[[], Any]], rounds: int, warmup: int = 1
) -> dict[str, list[float]]:
    """Seconds of each run, all of them in turn within every round."""
    for run in runs.values():
        for _ in range(warmup):
            run()
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(rounds):
        for name, run in runs.items():
            seconds[name].append(seconds_of(run))
    return seconds


def spread(values: Sequence[float]) -> float:
    """Half the distance of the quartiles, as a share of the median; of two or three values half
    their range.
    """
    if len(values) < 2:
        return 0.0
    middle = abs(statistics.median(values))
    if middle == 0:
        return 0.0
    if len(values) < 4:
        return (max(values) - min(values)) / 2 / middle
    first, _, third = statistics.quantiles(values, n=4)
    return (third - first) / 2 / middle
