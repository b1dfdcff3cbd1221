"""What happened during a run: a line of JSON for each step, evaluation and checkpoint."""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import json
import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from orion_ane import storage
from orion_ane._core import Error

METRICS = "metrics.jsonl"
CURVE = "loss.png"
BOARD = "tensorboard"


@dataclass(frozen=True)
class Step:
    """A step of the optimizer."""

    step: int
    loss: float
    """Mean over the target tokens."""
    lr: float
    gradient_norm: float
    """Before clipping."""
    loss_scale: float
    skipped: bool
    """The gradients were not finite and no weight has changed."""
    tokens: int
    """Targets, of all processes."""
    seconds: float
    """Since the end of the step, evaluation or checkpoint before."""
    times: dict[str, float] = field(default_factory=dict)
    """Where they went: data, device, host, gradients, optimizer, update, reduce, other."""

    @property
    def tokens_per_second(self) -> float:
        """Of all processes together."""
        return self.tokens / self.seconds


@dataclass(frozen=True)
class Evaluation:
    """The loss on data that is not trained on."""

    step: int
    loss: float
    """Mean over the target tokens."""
    tokens: int
    seconds: float

    @property
    def perplexity(self) -> float:
        """exp(loss)."""
        return math.exp(self.loss) if self.loss < 700 else math.inf


@dataclass(frozen=True)
class Saved:
    """A checkpoint, on the disk."""

    step: int
    path: Path
    seconds: float


Event = Step | Evaluation | Saved
_KINDS = {Step: "step", Evaluation: "evaluation", Saved: "checkpoint"}


class MetricsFile:
    """The file in a run's directory, and TensorBoard's beside it if wanted."""

    def __init__(self, out: Path, since: int, tensorboard: bool) -> None:
        """Goes on after step `since`: lines of later steps, which are taken again, are removed."""
        path = out / METRICS
        kept = [line for line in read(path) if line["step"] <= since] if path.exists() else []
        with _named(path):
            with storage.staged_file(path, replace=True) as stage:
                stage.write_text("".join(map(_to_line, kept)), encoding="utf-8")
            self._file = path.open("a", encoding="utf-8")
        self._path = path
        self._board = _board(out / BOARD) if tensorboard else None

    def write(self, event: Event) -> None:
        """Adds an event; it is in the file when this returns."""
        line = as_json(event)
        with _named(self._path):
            self._file.write(_to_line(line))
            self._file.flush()
        if self._board is not None:
            for name, value in line.items():
                if name != "step" and isinstance(value, (int, float)):
                    self._board.add_scalar(f"{line['event']}/{name}", value, event.step)
            self._board.flush()

    def close(self) -> None:
        """Nothing can be added any more."""
        self._file.close()
        if self._board is not None:
            self._board.close()


def as_json(event: Event) -> dict[str, Any]:
    """The line of an event; numbers that are not finite, which JSON has not, are null."""
    line: dict[str, Any] = {"event": _KINDS[type(event)]} | asdict(event)
    if isinstance(event, Step):
        line["tokens_per_second"] = event.tokens_per_second
    elif isinstance(event, Evaluation):
        line["perplexity"] = event.perplexity
    else:
        line["path"] = str(event.path)
    return {
        name: None if isinstance(value, float) and not math.isfinite(value) else value
        for name, value in line.items()
    }


def read(path: Path) -> list[dict[str, Any]]:
    """The lines of a metrics file; one that a killed run left unfinished, at the end, is none."""
    text = storage.read_bytes(path).decode(errors="replace")
    lines = []
    for number, line in enumerate(text.split("\n")[:-1], 1):
        try:
            value = json.loads(line)
        except ValueError as error:
            raise Error(f"{path}: line {number} is not JSON: {error}") from error
        if not isinstance(value, dict) or not isinstance(value.get("step"), int):
            raise Error(f"{path}: line {number} has no step")
        lines.append(value)
    return lines


def require_tensorboard() -> None:
    """Error if TensorBoard is not installed."""
    if importlib.util.find_spec("tensorboard") is None:
        raise Error("tensorboard: not installed (pip install 'orion-ane[tensorboard]')")


def plot(out: Path) -> Path | None:
    """Draws the loss over the steps; None where matplotlib is not installed."""
    if importlib.util.find_spec("matplotlib") is None:
        return None
    figure = importlib.import_module("matplotlib.figure").Figure(figsize=(8, 4.5), dpi=120)
    axes = figure.subplots()
    lines = read(out / METRICS)
    for kind, label, style in (("step", "training", "-"), ("evaluation", "evaluation", "o-")):
        found = [line for line in lines if line.get("event") == kind]
        if found:
            losses = [line["loss"] for line in found]
            axes.plot([line["step"] for line in found], losses, style, label=label, markersize=3)
    axes.set_xlabel("step")
    axes.set_ylabel("loss")
    axes.legend()
    axes.grid(visible=True, alpha=0.3)
    with storage.staged_file(out / CURVE, replace=True) as stage:
        figure.savefig(stage, format="png", bbox_inches="tight")
    return out / CURVE


@contextlib.contextmanager
def _named(path: Path) -> Iterator[None]:
    """Makes what the system refuses an Error about a file."""
    try:
        yield
    except OSError as error:
        raise Error(f"{path}: not written: {error.strerror}") from error


def _to_line(value: dict[str, Any]) -> str:
    return json.dumps(value, ensure_ascii=False, allow_nan=False) + "\n"


def _board(directory: Path) -> Any:
    return importlib.import_module("tensorboard.summary").Writer(str(directory))
