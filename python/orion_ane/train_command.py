"""`orion train`: a model trained from the start or further, and what every training command has."""

from __future__ import annotations

import argparse
import contextlib
import math
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any

import tqdm

from orion_ane import storage, tokenizer
from orion_ane._core import DeviceError, Error
from orion_ane.arguments import UsageError, integer, number
from orion_ane.model import use_threads
from orion_ane.placement import POLICIES
from orion_ane.presets import PRESETS
from orion_ane.training import Interrupted, checkpoints, metrics
from orion_ane.training.metrics import Evaluation, Saved, Step
from orion_ane.training.parallel import World, world
from orion_ane.training.settings import PRECISIONS, SCHEDULES, Settings
from orion_ane.training.trainer import Trainer

_LINE_SECONDS = 10.0  # between lines where there is no terminal for a bar
_POSITIVE = number(0, math.inf, above=True)
_NOT_NEGATIVE = number(0, math.inf)
_SHARE = number(0, 1)


def _scale(text: str) -> float | str:
    return text if text == "dynamic" else _POSITIVE(text)


def _validation(text: str) -> float | str:
    """A share, or the name of a file."""
    try:
        float(text)
    except ValueError:
        return text
    return _SHARE(text)


# Option, setting, type, metavar, help.
_OPTIONS: tuple[tuple[str, str, Callable[[str], Any], str, str], ...] = (
    ("--steps", "steps", integer(1), "N", "in all, those before --resume included"),
    ("--batch", "batch", integer(1), "B", "windows of a micro-batch, on each process; default: 8"),
    ("--seq", "sequence", integer(1), "S", "tokens of a window; default: 256 or the context"),
    ("--grad-accum", "accumulation", integer(1), "A", "micro-batches of a step"),
    ("--lr", "lr", _POSITIVE, "LR", "the highest learning rate"),
    ("--warmup", "warmup", integer(0), "N", "steps of linear rise to it"),
    ("--schedule-steps", "schedule_steps", integer(1), "N", "where it is lowest; default: --steps"),
    ("--lr-floor", "floor", _SHARE, "SHARE", "of --lr, what it comes down to"),
    ("--clip", "clip", _NOT_NEGATIVE, "NORM", "the largest norm of all gradients; 0: any"),
    ("--decay", "weight_decay", _NOT_NEGATIVE, "D", "AdamW's weight decay"),
    ("--epsilon", "epsilon", _POSITIVE, "E", "AdamW's epsilon"),
    ("--loss-scale", "loss_scale", _scale, "dynamic|X", "for gradients in fp16"),
    ("--validation", "validation", _validation, "SHARE|FILE", "what evaluations read"),
    ("--eval-every", "eval_every", integer(0), "N", "steps between evaluations; 0: none"),
    ("--eval-batches", "eval_batches", integer(0), "N", "batches of each; 0: all"),
    ("--save-every", "save_every", integer(0), "N", "steps between checkpoints; 0: at the end"),
    ("--keep-last", "keep_last", integer(0), "N", "checkpoints to keep; 0: all"),
    (
        "--check-every",
        "check_every",
        integer(0),
        "N",
        "steps between proofs of updates; 0: none",
    ),
    ("--seed", "seed", integer(0), "S", "of the data's order and of weights that are drawn"),
)
_DEFAULTS = {field.name: field.default for field in fields(Settings)}


def add_train_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `orion train`."""
    add = parser.add_argument
    start = parser.add_mutually_exclusive_group(required=True)
    start.add_argument("--model", help="what to train further: a directory, a .bin, or stories260K")
    start.add_argument(
        "--config",
        metavar="NAME|FILE",
        help=f"what to train from the start: a config.json, or {', '.join(PRESETS)}",
    )
    add("--tokenizer", metavar="PATH", help="for the checkpoints; default: the model's")
    add_run_arguments(parser)


def train(options: argparse.Namespace) -> None:
    """Runs `orion train`."""

    def make(**chosen: Any) -> Trainer:
        words = tokenizer.load(options.tokenizer) if options.tokenizer else None
        return Trainer(options.model or _config(options.config), tokenizer=words, **chosen)

    run_training(options, make)


def add_run_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of a training run, whatever is trained."""
    add = parser.add_argument
    add("--data", required=True, metavar="FILE", help="token ids, as `orion prepare` writes them")
    add("--out", required=True, metavar="DIR", help="for checkpoints and metrics; new or empty")
    add("--resume", action="store_true", help="go on from the newest checkpoint in --out")
    for option, setting, type_, metavar, help_ in _OPTIONS:
        default = _DEFAULTS[setting]
        shown = help_ + default_text(default)
        add(option, dest=setting, type=type_, metavar=metavar, default=default, help=shown)
    add(
        "--precision",
        choices=PRECISIONS,
        default=_DEFAULTS["precision"],
        help="of products on the CPU",
    )
    add("--schedule", choices=SCHEDULES, default=_DEFAULTS["schedule"], help="default: cosine")
    add(
        "--betas",
        nargs=2,
        type=number(0, 1),
        metavar=("B1", "B2"),
        default=_DEFAULTS["betas"],
        help="AdamW's (default: 0.9 0.999)",
    )
    add("--device", default="auto", help="auto, cpu, ane, or a simulated engine: sim:PROFILE")
    add("--update", metavar="NAME", help="how new weights get onto an engine; default: the best")
    add(
        "--policy",
        choices=POLICIES,
        help="without an engine; default: require one named",
    )
    add("--threads", type=integer(1), metavar="N", help="default: one per core")
    add("--tensorboard", action="store_true", help="write the metrics for TensorBoard too")


def default_text(default: object) -> str:
    """What help says after an option's own text."""
    if default is None:
        return ""
    shown = f"{default:g}" if isinstance(default, (int, float)) else default
    return f" (default: {shown})"


def run_training(options: argparse.Namespace, make: Callable[..., Trainer]) -> None:
    """Runs a training command, in each of the processes that mpirun started.

    `make` is given what `add_run_arguments` has of the trainer's options.
    """
    together = World()
    try:
        with _shown_warnings():
            together = world()
            _run(options, make, together)
    except Interrupted as end:
        if together.is_first:
            raise
        sys.exit(end.exit_code)  # the first process says it
    except Exception as error:  # the other processes would wait for this one
        if together.ranks > 1:
            print(f"orion: error: process {together.rank}: {error}", file=sys.stderr, flush=True)
            together.abort(2 if isinstance(error, UsageError) else 1)
        raise


def _run(options: argparse.Namespace, make: Callable[..., Trainer], together: World) -> None:
    try:
        trainer = _trainer(options, make, together)
    except DeviceError:
        raise
    except (Error, OSError) as error:
        raise UsageError(str(error)) from error
    if trainer.step >= options.steps:
        raise UsageError(
            f"{options.out}: at step {trainer.step}, and --steps is {options.steps} (it counts all "
            "steps; a larger number goes on)"
        )
    with _Progress(trainer) as progress:
        last = trainer.train()
        progress.finish(last)


def _trainer(options: argparse.Namespace, make: Callable[..., Trainer], together: World) -> Trainer:
    out = Path(options.out)
    if not options.resume and together.is_first:
        checkpoints.require_fresh(out)
    if options.threads is not None:
        use_threads(options.threads)
    names = {"schedule", "policy", "tensorboard", *(row[1] for row in _OPTIONS)}
    trainer = make(
        data=options.data,
        out=out,
        betas=tuple(options.betas),
        device=options.device + (f",update={options.update}" if options.update else ""),
        **{name: getattr(options, name) for name in names},
    )
    if options.resume:
        trainer.resume()
    return trainer


def _config(name: str) -> dict[str, Any]:
    if name in PRESETS:
        return PRESETS[name]
    path = Path(name)
    if not path.exists():
        raise Error(f"{name}: no such file, nor a configuration by name ({', '.join(PRESETS)})")
    return storage.read_json(path / "config.json" if path.is_dir() else path)


@contextlib.contextmanager
def _shown_warnings() -> Iterator[None]:
    """Warnings as this command's own lines."""

    def show(message: Warning | str, *_: object, **__: object) -> None:
        print(f"orion: warning: {message}", file=sys.stderr, flush=True)

    with warnings.catch_warnings():
        warnings.simplefilter("always", UserWarning)
        warnings.showwarning = show
        yield


class _Progress:
    """What the user sees of a run: a bar on a terminal, else a line now and then."""

    def __init__(self, trainer: Trainer) -> None:
        self._trainer = trainer
        self._begun, self._steps = trainer.step, trainer.settings.steps
        self._shows = trainer.world.is_first
        self._start = self._last_line = time.perf_counter()
        self._tokens = 0
        self._bar = tqdm.tqdm(
            total=self._steps,
            initial=trainer.step,
            unit="step",
            disable=None if self._shows else True,
            dynamic_ncols=True,
        )
        trainer.on_step, trainer.on_eval, trainer.on_save = (
            self._on_step,
            self._on_eval,
            self._on_save,
        )

    def __enter__(self) -> _Progress:
        trainer = self._trainer
        where = trainer.device
        if trainer.placement.fell_back:
            where += f" (not on the engine: {trainer.placement.why_not})"
        begin = f"from step {trainer.step}" if trainer.step else "from the start"
        what = f"{trainer.num_parameters:,} parameters"
        if trainer.settings.lora is not None:
            what = f"{trainer.trained} of {what}"
        processes = f", {trainer.world.ranks} processes" if trainer.world.ranks > 1 else ""
        self._say(
            f"{trainer.config['model_type']}, {what} on {where}"
            f"{processes}; {begin} to step {self._steps}"
        )
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.close()

    def finish(self, last: Step | None) -> None:
        """The summary, and the curve."""
        self._bar.close()
        if last is None or not self._shows:
            return
        seconds = time.perf_counter() - self._start
        out = Path(str(self._trainer.settings.out))
        curve = metrics.plot(out)
        drawn = f"loss curve in {curve}" if curve else "no loss curve: matplotlib is not installed"
        print(
            f"{checkpoints.directory_of(out, last.step)}: loss {last.loss:.4f} after {last.step} "
            f"steps; {self._tokens} tokens in {seconds:.1f} s, {self._tokens / seconds:.0f} "
            f"tokens/s; {drawn}"
        )

    def _on_step(self, step: Step) -> None:
        self._tokens += step.tokens
        skipped = " (skipped)" if step.skipped else ""
        facts = f"loss {step.loss:.4f}{skipped}, {step.tokens_per_second:.0f} tokens/s"
        self._bar.set_postfix_str(f"{facts}, {self._trainer.device}", refresh=False)
        self._bar.update()
        now = time.perf_counter()
        if self._bar.disable and (
            now - self._last_line > _LINE_SECONDS or step.step == self._steps
        ):
            self._last_line = now
            done = step.step - self._begun
            left = (now - self._start) / done * (self._steps - step.step)
            self._say(f"step {step.step}/{self._steps}: {facts}, {left:.0f} s left")

    def _on_eval(self, found: Evaluation) -> None:
        self._say(
            f"step {found.step}: evaluation loss {found.loss:.4f}, "
            f"perplexity {found.perplexity:.2f}"
        )

    def _on_save(self, saved: Saved) -> None:
        self._say(f"step {saved.step}: saved in {saved.path} ({saved.seconds:.2f} s)")

    def _say(self, line: str) -> None:
        if self._shows:
            self._bar.write(line, file=sys.stderr)
            sys.stderr.flush()
