"""What a training run is told."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from os import PathLike
from typing import Any

from orion_ane import _core
from orion_ane._core import Error, LoraShape
from orion_ane.data import Dataset
from orion_ane.training.metrics import require_tensorboard

SCHEDULES = ("constant", "linear", "cosine")
PRECISIONS = ("fp32", "bf16")


@dataclass(frozen=True)
class Lora:
    """An adapter to train beside a model, in the words of the PEFT library."""

    rank: int = 8
    """Rows of A."""
    alpha: float = 16.0
    """The scale of what the adapter adds, times the rank."""
    targets: Sequence[str] = ()
    """Names of modules such as "q_proj"; none: every linear module but the head."""
    dropout: float = 0.0
    """The share of what A reads that is left out in training."""
    rslora: bool = False
    """Whether the scale is alpha / sqrt(rank) and not alpha / rank."""

    def __post_init__(self) -> None:
        if isinstance(self.targets, str) or not all(isinstance(t, str) for t in self.targets):
            raise Error(f"lora: targets are {self.targets!r}, a list of names is needed")


@dataclass(frozen=True)
class Settings:
    """Options of a `Trainer`."""

    steps: int = 1000
    """To take in all, those before a resume included."""
    batch: int | None = None
    """Windows of a micro-batch, on each process; by default the dataset's, or 8."""
    sequence: int | None = None
    """Tokens of a window; by default the dataset's, or 256, or the context if that is less."""
    accumulation: int = 1
    """Micro-batches of a step."""
    lr: float = 3e-4
    """The highest learning rate."""
    warmup: int = 0
    """Steps of linear rise to it."""
    schedule: str = "cosine"
    """Its way down after that: "constant", "linear" or "cosine"."""
    schedule_steps: int | None = None
    """The step at which it has come down; by default `steps`."""
    floor: float = 0.1
    """What it comes down to, as a share of `lr`."""
    precision: str = "fp32"
    """Of products on the CPU, "fp32" or "bf16"; weights and optimizer are fp32 either way."""
    clip: float = 1.0
    """The largest norm of all gradients together; 0: any."""
    weight_decay: float = 0.01
    """AdamW's, of matrices; norms and biases do not decay."""
    betas: tuple[float, float] = (0.9, 0.999)
    """AdamW's."""
    epsilon: float = 1e-8
    """AdamW's."""
    loss_scale: float | str = "dynamic"
    """A number, or "dynamic": halved when gradients overflow fp16, doubled when they do not."""
    validation: float | str | PathLike[str] = 0.0
    """The share of windows kept for evaluation, from the end of the data; or a file for it."""
    eval_every: int = 0
    """Steps between evaluations; 0: none."""
    eval_batches: int = 0
    """Batches of an evaluation, on each process; 0: all."""
    out: str | PathLike[str] | None = None
    """The directory of checkpoints and metrics; None: nothing is written."""
    save_every: int = 0
    """Steps between checkpoints; 0: only at the end, or when stopped."""
    keep_last: int = 3
    """How many checkpoints to keep; 0: all."""
    tensorboard: bool = False
    """Whether to write the metrics for TensorBoard too, to `out`/tensorboard."""
    device: str = "auto"
    """As `load` takes it; "ENGINE,update=NAME" chooses how new weights get there."""
    policy: str | None = None
    """As `load` takes it: what to do without an engine."""
    check_every: int = 100
    """Steps between proofs that the engine computes with the new weights; 0: none."""
    seed: int = 0
    """Of the order of the data, of weights that are drawn, and of dropout."""
    lora: Lora | None = None
    """An adapter to train instead of the model's own weights."""

    def __post_init__(self) -> None:
        for name in ("steps", "accumulation"):
            self._require(name, least=1)
        for name in (
            "eval_every",
            "eval_batches",
            "save_every",
            "keep_last",
            "check_every",
            "seed",
        ):
            self._require(name, least=0)
        for name in ("batch", "sequence", "schedule_steps"):
            if getattr(self, name) is not None:
                self._require(name, least=1)
        scale = self.loss_scale
        if scale != "dynamic" and (isinstance(scale, str) or not 0 < scale < math.inf):
            raise Error(f"loss_scale is {scale!r}, a positive number or 'dynamic' is needed")
        if not isinstance(self.betas, (tuple, list)) or len(self.betas) != 2:
            raise Error(f"betas are {self.betas!r}, two numbers are needed")
        if self.out is None and (self.save_every or self.tensorboard):
            raise Error("save_every and tensorboard need a directory to write to: out")
        if self.tensorboard:
            require_tensorboard()
        if self.lora is not None and not isinstance(self.lora, Lora):
            raise Error(f"lora is {self.lora!r}, an orion_ane.Lora is needed")
        self.rate(0)

    def _require(self, name: str, least: int) -> None:
        value = getattr(self, name)
        if not isinstance(value, int) or not least <= value < 2**63:
            raise Error(f"{name} is {value!r}, an integer from {least} on is needed")

    def rate(self, step: int) -> float:
        """The learning rate of step 0, 1, ..."""
        return _core.learning_rate(
            step,
            peak=self.lr,
            warmup=self.warmup,
            total=self.schedule_steps or self.steps,
            shape=self.schedule,
            floor=self.floor,
        )

    def core_options(
        self, data: Dataset, shape: LoraShape | None, process: int, processes: int
    ) -> _core.TrainOptions:
        """The same for the core, with the shape of the adapter if there is one."""
        dynamic = self.loss_scale == "dynamic"
        return _core.TrainOptions(
            batch=data.batch,
            sequence=data.sequence,
            beta1=self.betas[0],
            beta2=self.betas[1],
            epsilon=self.epsilon,
            weight_decay=self.weight_decay,
            clip=self.clip,
            loss_scale=0.0 if dynamic else float(self.loss_scale),
            dynamic_loss_scale=dynamic,
            check_every=self.check_every,
            lora=shape,
            dropout=self.lora.dropout if self.lora else 0.0,
            dropout_seed=self.seed,
            process=process,
            processes=processes,
            precision=self.precision,
        )

    def as_json(self) -> dict[str, Any]:
        """What trainer.json keeps."""
        return {
            name: str(value) if isinstance(value, PathLike) else value
            for name, value in asdict(self).items()
        }

    def optimization(self) -> dict[str, Any]:
        """What a resumed run has to agree on for its steps to mean the same."""
        values = self.as_json()
        named = {name: values[name] for name in _OPTIMIZATION}
        return named | {"betas": list(self.betas)}


_OPTIMIZATION = (
    "lr",
    "warmup",
    "schedule",
    "schedule_steps",
    "floor",
    "precision",
    "clip",
    "weight_decay",
    "epsilon",
    "loss_scale",
    "seed",
)


def settings_of(options: dict[str, Any]) -> Settings:
    """Settings from keywords; Error naming one that does not exist."""
    known = [field.name for field in fields(Settings)]
    for name in options:
        if name not in known:
            raise Error(f"Trainer: no option {name!r} (known: {', '.join(known)})")
    return Settings(**options)
