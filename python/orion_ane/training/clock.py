"""Where a step's time goes."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Mapping


class StepClock:
    """Wall time in laps without gaps, each divided into named parts and a rest."""

    def __init__(self) -> None:
        self._start = time.perf_counter()
        self._parts: dict[str, float] = {}

    @contextlib.contextmanager
    def part(self, name: str) -> Iterator[None]:
        """Counts the block's time under a name."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self._parts[name] = self._parts.get(name, 0.0) + time.perf_counter() - start

    def lap(self, others: Mapping[str, float] | None = None) -> tuple[float, dict[str, float]]:
        """Ends a lap and begins the next: its seconds, and its parts, which add up to them.

        `others` are parts that were measured elsewhere, outside the blocks of `part`.
        """
        now = time.perf_counter()
        seconds, parts = now - self._start, self._parts | dict(others or {})
        self._start, self._parts = now, {}
        parts["other"] = seconds - sum(parts.values())
        return seconds, parts
