"""`orion bench`: how fast Orion is on this machine, and whether that has become worse."""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from math import inf
from pathlib import Path
from typing import Any

from orion_ane import checkpoint
from orion_ane._core import Error
from orion_ane.arguments import integer, number
from orion_ane.bench import (
    baseline,
    compiling,
    inference,
    kernels,
    machine,
    models,
    report,
    training,
    updates,
)
from orion_ane.bench.report import Report, Row
from orion_ane.model import use_threads
from orion_ane.presets import PRESETS

DEFAULT_MODELS = ("gpt2-124m", "stories-110m")
QUICK_MODELS = ("stories-1m",)
TOLERANCE = 0.05


@dataclass(frozen=True)
class Settings:
    """What is measured, and how; two runs that differ here do not compare."""

    suites: tuple[str, ...]
    models: tuple[str, ...]
    device: str | None
    quick: bool

    def as_dict(self) -> dict[str, Any]:
        """As a report keeps them."""
        return {
            "suites": list(self.suites),
            "models": list(self.models),
            "device": self.device or "default",
            "quick": self.quick,
        }


def add_bench_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `orion bench`."""
    add = parser.add_argument
    add("suite", choices=(*SUITES, "all"), help="what to measure")
    add(
        "--model",
        action="append",
        nargs="+",
        metavar="NAME",
        help="a directory, a .bin, stories260K, or a shape with random weights "
        f"({', '.join(PRESETS)}); default: {' and '.join(DEFAULT_MODELS)}",
    )
    add(
        "--device",
        help="cpu, ane or sim:PROFILE; default: cpu, and for weight updates the engine or a "
        "simulated one",
    )
    add("--threads", type=integer(1), metavar="N", help="default: the number of CPUs")
    add(
        "--repeat",
        type=integer(1),
        metavar="N",
        help="measurements of each figure, after one to warm up; default: 5, quick 3",
    )
    add("--json", type=Path, metavar="FILE", help="write everything measured, as a baseline")
    add(
        "--baseline",
        type=Path,
        metavar="FILE",
        help="compare with what --json wrote; exit status 1 if anything became worse",
    )
    add(
        "--tolerance",
        type=number(0, inf),
        default=TOLERANCE,
        metavar="SHARE",
        help="how much worse a figure may be, besides the spreads of both runs (default: 0.05)",
    )
    add("--force", action="store_true", help="compare with another machine or other settings")
    add("--quick", action="store_true", help="small shapes: whether it works, not how fast it is")


def bench(options: argparse.Namespace) -> None:
    """Measures, prints, writes and compares; Error if something became worse."""
    if options.threads is not None:
        use_threads(options.threads)
    settings = _settings(options)
    command = _command(options)
    empty = Report(machine.describe(), settings.as_dict(), command, machine.commit(), {})
    before = None if options.baseline is None else report.load(options.baseline)
    if before is not None:
        _require_same(empty, before, options)
    empty.ceilings.update(machine.ceilings(quick=settings.quick))
    found = run(settings, empty, options.repeat or (3 if settings.quick else 5))
    if options.json is not None:
        report.save(found, options.json)
    if before is not None:
        _judge(found, before, options)


def run(settings: Settings, found: Report, rounds: int) -> Report:
    """Prints each suite's rows as they come, and adds them to the report."""
    print(report.head(found))
    for suite in settings.suites:
        rows = list(SUITES[suite](settings, found, rounds))
        found.rows += rows
        print(f"\n{suite}\n{report.table(rows)}", flush=True)
    return found


def _settings(options: argparse.Namespace) -> Settings:
    named = [name for names in options.model or () for name in names]
    default = QUICK_MODELS if options.quick else DEFAULT_MODELS
    suites = tuple(SUITES) if options.suite == "all" else (options.suite,)
    chosen = tuple(dict.fromkeys(named)) or default
    for name in chosen:
        models.require(name)
    return Settings(suites, chosen, options.device, options.quick)


def _command(options: argparse.Namespace) -> str:
    """What measures the same again."""
    words = ["orion", "bench", options.suite]
    for names in options.model or ():
        words += ["--model", *names]
    for name in ("device", "threads", "repeat"):
        if (value := getattr(options, name)) is not None:
            words += [f"--{name}", str(value)]
    return shlex.join(words + ["--quick"] * options.quick)


def _require_same(now: Report, before: Report, options: argparse.Namespace) -> None:
    differing = baseline.differences(now, before)
    if differing and not options.force:
        raise Error(
            f"{options.baseline}: measured otherwise, so it is no baseline for this run "
            f"(--force compares all the same): {'; '.join(differing)}"
        )


def _judge(now: Report, before: Report, options: argparse.Namespace) -> None:
    verdicts = baseline.compare(now, before, options.tolerance)
    print(f"\nbeside {options.baseline}\n{baseline.table(verdicts)}")
    worse = [v for v in verdicts if v.is_regression]
    if worse:
        named = "; ".join(f"{v.row.task}, {v.row.contender}: {v.verdict}" for v in worse)
        raise Error(f"{len(worse)} of {len(verdicts)} worse than {options.baseline}: {named}")


# -- suites ---------------------------------------------------------------------------------------


def _inference(settings: Settings, found: Report, rounds: int) -> Iterator[Row]:
    device = settings.device or "cpu"
    for name in settings.models:
        with models.model_at(name) as path:
            text = inference.text_for(checkpoint.read_config(path), quick=settings.quick)
            contenders = inference.our_contenders(path, device)
            reference = inference.reference_logits(path, text)
            rows, found.ceiling = inference.compete(name, contenders, text, rounds, reference)
            yield from rows
            yield from inference.cold_starts(name, path, device, rounds)


def _training(settings: Settings, found: Report, rounds: int) -> Iterator[Row]:
    device = settings.device or "cpu"
    for name in settings.models:
        with models.model_at(name) as path:
            config = checkpoint.read_config(path)
            lesson = training.lesson_for(config, quick=settings.quick)
            contenders = training.our_contenders(path, device, lesson)
            rows, _, found.ceiling = training.compete(name, config, contenders, lesson, rounds)
            yield from rows


def _kernels(settings: Settings, found: Report, rounds: int) -> Iterable[Row]:
    rows = kernels.measure(found.ceiling, rounds, quick=settings.quick)
    return rows + kernels.dispatch(settings.device or "cpu", rounds)


def _compile(settings: Settings, _: Report, rounds: int) -> Iterator[Row]:
    for name in settings.models:
        with models.model_at(name) as path:
            model = checkpoint.read(path)
            yield from compiling.measure(name, model.config, model.weights, rounds)
            yield compiling.programs(name, model.config, model.weights, rounds)


def _update(settings: Settings, _: Report, rounds: int) -> Iterator[Row]:
    device = settings.device or updates.default_device()
    for refusal in updates.refusals(device):
        print(f"\n{refusal}")
    for chain in updates.chains(quick=settings.quick):
        yield from updates.measure(device, chain, rounds)


SUITES = {
    "inference": _inference,
    "training": _training,
    "kernels": _kernels,
    "compile": _compile,
    "update": _update,
}
