"""A run beside an earlier one: what became better, what worse."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from orion_ane.bench.report import UNITS, Report, Row, columns, figure

# An error grows with any change of the order of sums; twice as large is another kind of change.
_ERROR_FACTOR = 2.0
_ERROR_FLOOR = 1e-6

WORSE = ("worse", "less exact", "gone")


@dataclass(frozen=True)
class Verdict:
    """Of one row."""

    row: Row
    """As it is now; of a row that is gone, as it was."""
    before: float | None
    change: float
    """Share by which it is better; below 0 it is worse."""
    allowed: float
    """Share by which it may be worse."""
    verdict: str
    """better, same, worse, less exact, new or gone."""

    @property
    def is_regression(self) -> bool:
        """Whether it should not be so."""
        return self.verdict in WORSE


def differences(now: Report, before: Report) -> list[str]:
    """What makes the two no comparison: machine and settings, a sentence each."""
    return [
        *_differing("machine", now.machine, before.machine),
        *_differing("settings", now.settings, before.settings),
    ]


def compare(now: Report, before: Report, tolerance: float) -> list[Verdict]:
    """A verdict on every row of either.

    A row may be worse by `tolerance` and by the spreads of both runs before it counts.
    """
    old = {row.key: row for row in before.rows}
    verdicts = [_judge(row, old.get(row.key), tolerance) for row in now.rows]
    here = {row.key for row in now.rows}
    gone = [row for row in before.rows if row.key not in here]
    return verdicts + [Verdict(row, row.median, 0.0, 0.0, "gone") for row in gone]


def table(verdicts: Sequence[Verdict]) -> str:
    """A line for each verdict."""
    lines = [["task", "contender", "unit", "before", "now", "change", "allowed", "verdict"]]
    for v in verdicts:
        before = "-" if v.before is None else figure(v.before)
        now = "-" if v.verdict == "gone" else figure(v.row.median)
        changes = (f"{v.change:+.1%}", f"-{v.allowed:.1%}")
        lines.append(
            [v.row.task, v.row.contender, v.row.unit, before, now, *changes, v.verdict],
        )
    return columns(lines, left=(0, 1, 2, 7))


def _judge(row: Row, old: Row | None, tolerance: float) -> Verdict:
    if old is None:
        return Verdict(row, None, 0.0, 0.0, "new")
    change = _change(row, old)
    allowed = tolerance + row.spread + old.spread
    if _less_exact(row, old):
        verdict = "less exact"
    elif change < -allowed:
        verdict = "worse"
    else:
        verdict = "better" if change > allowed else "same"
    return Verdict(row, old.median, change, allowed, verdict)


def _change(row: Row, old: Row) -> float:
    """By how much better: a time that doubles and a rate that halves are both worse by half."""
    new, base = (row.median, old.median) if UNITS[row.unit] else (old.median, row.median)
    if new == base:
        return 0.0
    return new / base - 1 if base else float("inf")


def _less_exact(row: Row, old: Row) -> bool:
    if old.error is None:
        return False
    return row.error is None or row.error > _ERROR_FACTOR * old.error + _ERROR_FLOOR


def _differing(what: str, now: Mapping[str, Any], before: Mapping[str, Any]) -> list[str]:
    keys = sorted(now.keys() | before.keys())
    return [
        f"{what}: {key} is {now.get(key)!r}, and was {before.get(key)!r}"
        for key in keys
        if now.get(key) != before.get(key)
    ]
