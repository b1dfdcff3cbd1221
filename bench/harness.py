"""Timing that compares: contenders take turns, medians and ratios are reported."""

from __future__ import annotations

import json
import platform
import statistics
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Result:
    """Seconds of one contender at one task, over all rounds."""

    task: str
    contender: str
    seconds: list[float]
    units: float
    """Work per run, for example tokens."""
    parity: float | None = None
    """Largest error against what is right, where the contender can tell."""

    @property
    def median(self) -> float:
        return statistics.median(self.seconds)

    @property
    def rate(self) -> float:
        return self.units / self.median

    @property
    def spread(self) -> float:
        """Half the interquartile range, relative to the median."""
        if len(self.seconds) < 4:
            return 0.0
        first, _, third = statistics.quantiles(self.seconds, n=4)
        return (third - first) / 2 / self.median


def alternate(
    runs: dict[str, Callable[[], Any]], rounds: int, warmup: int = 1
) -> dict[str, list[float]]:
    """Seconds of each run, all contenders in turn within every round."""
    for run in runs.values():
        for _ in range(warmup):
            run()
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(rounds):
        for name, run in runs.items():
            start = time.perf_counter()
            run()
            seconds[name].append(time.perf_counter() - start)
    return seconds


def machine() -> dict[str, str]:
    """What the figures hold for."""
    cpu = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        lines = [line for line in info.read_text().splitlines() if line.startswith("model name")]
        names = [line.split(":", 1)[1].strip() for line in lines]
        cpu = f"{names[0]} x{len(names)}" if names else cpu
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"],
        capture_output=True,
        text=True,
        cwd=Path(__file__).parent,
    )
    return {"cpu": cpu, "system": platform.platform(), "commit": commit.stdout.strip() or "unknown"}


def table(
    results: Sequence[Result], unit: str, reference: str, error: str = "max logit error"
) -> str:
    """One line per result; the ratio is to the reference contender at the same task."""
    base = {r.task: r.rate for r in results if r.contender == reference}
    task = max(14, *(len(r.task) + 2 for r in results))
    columns = f"{{:<{task}}}{{:<16}}{{:>10}}{{:>8}}{{:>7}}{{:>{len(error) + 2}}}"
    lines = [columns.format("task", "contender", unit, "spread", "ratio", error)]
    for r in results:
        ratio = f"{r.rate / base[r.task]:.2f}" if r.task in base else "-"
        parity = "-" if r.parity is None else f"{r.parity:.2g}"
        row = (r.task, r.contender, f"{r.rate:.1f}", f"{r.spread:.0%}", ratio, parity)
        lines.append(columns.format(*row))
    return "\n".join(lines)


def save(path: Path, results: Sequence[Result]) -> None:
    """Everything measured, as JSON."""
    rows = [asdict(r) | {"median": r.median, "rate": r.rate} for r in results]
    path.write_text(json.dumps({"machine": machine(), "results": rows}, indent=1) + "\n")
