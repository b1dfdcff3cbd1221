"""What every script here does: options, machine, table, JSON."""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from orion_ane.bench import machine, report
from orion_ane.bench.remote import Contender
from orion_ane.bench.report import Report, Row
from orion_ane.model import use_threads


class Script:
    def __init__(
        self, doc: str | None, models: list[str], numbers: Mapping[str, int | None] | None = None
    ) -> None:
        parser = argparse.ArgumentParser(
            description=doc, formatter_class=argparse.RawDescriptionHelpFormatter
        )
        parser.add_argument("--model", nargs="+", default=models, metavar="NAME")
        parser.add_argument("--only", nargs="+", metavar="NAME", help="contenders that begin so")
        parser.add_argument("--rounds", type=int, default=5)
        parser.add_argument("--threads", type=int)
        parser.add_argument("--quick", action="store_true", help="small shapes, to try it out")
        parser.add_argument("--json", type=Path, metavar="FILE")
        for name, value in (numbers or {}).items():
            parser.add_argument(f"--{name}", type=int, default=value)
        self.options = parser.parse_args()
        if self.options.threads:
            use_threads(self.options.threads)
        settings = {k: v for k, v in vars(self.options).items() if k != "json"}
        self.report = Report(
            machine.describe(),
            settings,
            shlex.join(["python", *sys.argv]),
            machine.commit(),
            machine.ceilings(quick=self.options.quick),
        )
        print(report.head(self.report), flush=True)

    def chosen(self, contenders: Sequence[Contender]) -> list[Contender]:
        only = self.options.only
        kept = [c for c in contenders if only is None or c.name.startswith(tuple(only))]
        if not kept:
            raise SystemExit(f"none of {', '.join(c.name for c in contenders)} is chosen")
        return kept

    def add(self, rows: Sequence[Row], reference: str) -> None:
        """Prints rows beside those of a contender."""
        self.report.rows += rows
        names = {row.contender for row in rows}
        print(f"\n{report.table(rows, reference if reference in names else None)}", flush=True)

    def finish(self) -> None:
        if self.options.json:
            report.save(self.report, self.options.json)
