"""What a benchmark found: rows, what they hold for, as a table and as JSON."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from orion_ane import storage
from orion_ane._core import Error, __version__
from orion_ane.bench import timing

FORMAT = "orion-bench"
VERSION = 2

UNITS = {
    "tokens/s": True,
    "runs/s": True,
    "GFLOP/s": True,
    "GB/s": True,
    "s": False,
    "us": False,
    "MiB": False,
}
"""Every unit, and whether more of it is better."""


@dataclass(frozen=True)
class Ceiling:
    """What this machine does at most, per second."""

    flops: float
    """fp32 multiply-adds, two operations each."""
    bf16_flops: float
    """The same of the instructions that products of bfloat16 use."""
    int8_flops: float
    """The same of dot products of bytes."""
    read_bytes: float
    """Of a stream from memory."""

    def products(self, of: str) -> float:
        """Operations of products of that: fp32, bf16 or int8."""
        return {"fp32": self.flops, "bf16": self.bf16_flops, "int8": self.int8_flops}[of]

    @staticmethod
    def median(found: Sequence[Ceiling]) -> Ceiling:
        """Of each of the figures."""
        middle = {
            part.name: statistics.median(getattr(one, part.name) for one in found)
            for part in fields(Ceiling)
        }
        return Ceiling(**middle)


@dataclass(frozen=True)
class Row:
    """One thing measured, several times."""

    suite: str
    task: str
    contender: str
    unit: str
    values: list[float]
    """One for each repeat, in `unit`."""
    gflops: float | None = None
    """GFLOP/s at the median."""
    gbytes: float | None = None
    """GB/s of memory that must be read, at the median."""
    share: float | None = None
    """Of the ceiling: of multiply-adds or of reading, whichever it is nearer to."""
    bound: str | None = None
    """Which of the two: "reading", or what is multiplied ("fp32", "bf16", "int8")."""
    error: float | None = None
    """What the result is off by."""
    error_of: str | None = None
    """In what: for example "max logit error"."""

    @property
    def key(self) -> tuple[str, str, str, str]:
        """What makes it the same row in two reports."""
        return (self.suite, self.task, self.contender, self.unit)

    @property
    def median(self) -> float:
        """In the middle of the values."""
        return statistics.median(self.values)

    @property
    def spread(self) -> float:
        """Of the values, as a share of the median."""
        return timing.spread(self.values)


@dataclass
class Report:
    """Rows, and what they hold for."""

    machine: dict[str, Any]
    settings: dict[str, Any]
    command: str
    """What measures it again."""
    commit: str | None
    ceilings: dict[int, Ceiling]
    rows: list[Row] = field(default_factory=list)
    version: str = __version__

    @property
    def ceiling(self) -> Ceiling:
        """That of all threads in use."""
        return self.ceilings[max(self.ceilings)]

    @ceiling.setter
    def ceiling(self, found: Ceiling) -> None:
        self.ceilings[max(self.ceilings)] = found


@dataclass(frozen=True)
class Work:
    """What one run of something does."""

    flops: float = 0.0
    read_bytes: float = 0.0
    from_memory: bool = True
    """Whether what is read cannot be in a cache: only then is it a share of the ceiling."""
    products: str = "fp32"
    """What is multiplied: fp32, bf16 or int8."""


def speed_row(
    names: tuple[str, str, str],
    seconds: Sequence[float],
    units: tuple[float, str],
    work: Work,
    ceiling: Ceiling | None,
    error: tuple[float, str] | None = None,
) -> Row:
    """A row of so many `units` per second, with its shares of what `ceiling` allows.

    Without a ceiling the work is not the processor's.
    """
    median = statistics.median(seconds)
    shares = {}
    if ceiling is not None:
        shares = {
            work.products: work.flops / median / ceiling.products(work.products),
            "reading": work.from_memory * work.read_bytes / median / ceiling.read_bytes,
        }
    bound = max(shares, key=lambda name: shares[name]) if any(shares.values()) else None
    amount, unit = units
    return Row(
        *names,
        unit,
        [amount / s for s in seconds],
        gflops=work.flops / median / 1e9 if work.flops else None,
        gbytes=work.read_bytes / median / 1e9 if work.read_bytes else None,
        share=shares[bound] if bound else None,
        bound=bound,
        error=error[0] if error else None,
        error_of=error[1] if error else None,
    )


# -- as text --------------------------------------------------------------------------------------

_HEADS = ("task", "contender", "median", "unit", "spread", "GFLOP/s", "GB/s", "of ceiling", "error")

_TEXTS = ("task", "contender", "unit", "error")


def head(report: Report) -> str:
    """What the figures hold for, a line each."""
    machine = report.machine
    origin = f"commit {report.commit[:12]}" if report.commit else "installed"
    lines = [
        f"orion {report.version}, {origin}",
        f"{machine['cpu']}, {machine['cpus']} CPUs, {machine['system']}",
        f"{machine['threads']} threads, kernels for {machine['instruction set']}",
    ]
    for threads, ceiling in report.ceilings.items():
        lines.append(
            f"ceiling of {threads} thread{'s' if threads > 1 else ''}: "
            f"{ceiling.flops / 1e9:.0f} GFLOP/s multiply-adds in fp32, "
            f"{ceiling.bf16_flops / 1e9:.0f} in bf16, {ceiling.int8_flops / 1e9:.0f} in int8, "
            f"{ceiling.read_bytes / 1e9:.1f} GB/s read"
        )
    return "\n".join(lines)


def table(rows: Sequence[Row], reference: str | None = None) -> str:
    """A line for each row; with `reference`, how many times better than that contender."""
    base = {(r.suite, r.task, r.unit): r.median for r in rows if r.contender == reference}
    heads = (*_HEADS[:-1], *(["ratio"] if reference else []), _HEADS[-1])
    lines = [list(heads)]
    for row in rows:
        cells = [row.task, row.contender, figure(row.median), row.unit, f"{row.spread:.0%}"]
        cells += [_optional(row.gflops, "{:.3g}"), _optional(row.gbytes, "{:.3g}")]
        cells.append("-" if row.share is None else f"{row.share:.0%} {row.bound}")
        if reference:
            cells.append(_optional(ratio(row, base.get((row.suite, row.task, row.unit))), "{:.2f}"))
        cells.append("-" if row.error is None else f"{row.error:.2g} {row.error_of}")
        lines.append(cells)
    kept = [i for i in range(len(heads)) if any(line[i] != "-" for line in lines[1:])]
    left = [place for place, i in enumerate(kept) if heads[i] in _TEXTS]
    return columns([[line[i] for i in kept] for line in lines], left)


def ratio(row: Row, base: float | None) -> float | None:
    """How many times better the row is; below 1 it is worse."""
    if not base or not row.median:
        return None
    return row.median / base if UNITS[row.unit] else base / row.median


def figure(value: float) -> str:
    """A number with four digits that count."""
    if value == 0 or not 1e-4 <= abs(value) < 1e7:
        return f"{value:.3g}"
    return f"{value:.{max(0, 3 - math.floor(math.log10(abs(value))))}f}"


def columns(lines: Sequence[Sequence[str]], left: Sequence[int]) -> str:
    """Cells one below the other; the columns `left` begin, all others end, in one line."""
    widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]

    def cell(i: int, text: str) -> str:
        return text.ljust(widths[i]) if i in left else text.rjust(widths[i])

    return "\n".join(
        "  ".join(cell(i, text) for i, text in enumerate(line)).rstrip() for line in lines
    )


def _optional(value: float | None, form: str) -> str:
    return "-" if value is None else form.format(value)


# -- as JSON --------------------------------------------------------------------------------------


def save(report: Report, path: Path) -> None:
    """Writes everything measured; all of it, or nothing."""
    content = {
        "format": FORMAT,
        "version": VERSION,
        "orion": report.version,
        "commit": report.commit,
        "command": report.command,
        "machine": report.machine,
        "settings": report.settings,
        "ceilings": {str(t): asdict(c) for t, c in report.ceilings.items()},
        "rows": [asdict(row) | {"median": row.median, "spread": row.spread} for row in report.rows],
    }
    with storage.staged_file(path, replace=True) as stage:
        stage.write_bytes(storage.to_json(content))


def load(path: Path) -> Report:
    """Reads what `save` wrote; Error saying what is wrong with anything else."""
    content = storage.read_json(path)
    if content.get("format") != FORMAT:
        raise Error(f"{path}: not a benchmark report (orion bench SUITE --json FILE writes one)")
    if content.get("version") != VERSION:
        raise Error(
            f"{path}: a report of version {content.get('version')!r}, and {VERSION} is known: "
            "measure the baseline again with --json"
        )
    try:
        return Report(
            machine=dict(_mapping(content["machine"])),
            settings=dict(_mapping(content["settings"])),
            command=_text(content["command"]),
            commit=_text_or_none(content["commit"]),
            ceilings={
                int(threads): Ceiling(
                    **{each.name: _number(c[each.name]) for each in fields(Ceiling)}
                )
                for threads, c in _mapping(content["ceilings"]).items()
            },
            rows=[_row(row) for row in content["rows"]],
            version=_text(content["orion"]),
        )
    except (KeyError, TypeError, ValueError) as error:
        what = f"no {error}" if isinstance(error, KeyError) else str(error)
        raise Error(f"{path}: a damaged benchmark report: {what}") from error


def _row(row: Any) -> Row:
    given = _mapping(row)
    task, unit = _text(given["task"]), _text(given["unit"])
    if unit not in UNITS:
        raise ValueError(f"{task}: unit {unit!r}, one of {', '.join(UNITS)} is needed")
    values = [_number(value) for value in given["values"]]
    if not values:
        raise ValueError(f"{task}: no values")
    return Row(
        _text(given["suite"]),
        task,
        _text(given["contender"]),
        unit,
        values,
        gflops=_number_or_none(given["gflops"]),
        gbytes=_number_or_none(given["gbytes"]),
        share=_number_or_none(given["share"]),
        bound=_text_or_none(given["bound"]),
        error=_number_or_none(given["error"]),
        error_of=_text_or_none(given["error_of"]),
    )


def _mapping(value: Any) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise ValueError(f"expected an object, found {type(value).__name__}")
    return value


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError(f"expected a text, found {type(value).__name__}")
    return value


def _number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        raise ValueError(f"expected a finite number, found {value!r}")
    return float(value)


def _text_or_none(value: Any) -> str | None:
    return None if value is None else _text(value)


def _number_or_none(value: Any) -> float | None:
    return None if value is None else _number(value)
