"""Training a model: steps, evaluations and checkpoints."""

from __future__ import annotations

import contextlib
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from orion_ane import _core
from orion_ane._core import Error
from orion_ane.data import Batch
from orion_ane.model import Model
from orion_ane.placement import Placement, place
from orion_ane.tokenizer import Tokenizer
from orion_ane.training import checkpoints, evaluation, resumption, sources
from orion_ane.training.clock import StepClock
from orion_ane.training.interruption import Interrupted, SignalWatch
from orion_ane.training.metrics import Evaluation, MetricsFile, Saved, Step
from orion_ane.training.parallel import World, world
from orion_ane.training.settings import Settings, settings_of
from orion_ane.training.sources import DataSource, ModelSource
from orion_ane.training.subjects import subject_of


class Trainer:
    """Trains a model; see `Settings` for the options.

        trainer = orion.Trainer("DIR", "data.bin", steps=1000, lr=6e-4, out="run")
        trainer.train()
        print(trainer.model.generate("Once upon a time"))

    `model` is a loaded model, which has the new weights after training; a path, as `load` takes it;
    or a configuration, for which weights are drawn. `data` is a dataset, the path of a token file,
    or an array of token ids. `on_step`, `on_eval` and `on_save` are told what happened; where one
    returns False, training ends. `tokenizer` goes into the checkpoints, by default the model's.
    With `lora=Lora(rank=8)` an adapter is trained beside the model, which stays as it is.
    Under mpirun all processes train together, `batch` windows each.
    """

    def __init__(
        self,
        model: ModelSource,
        data: DataSource,
        *,
        tokenizer: Tokenizer | None = None,
        on_step: Callable[[Step], object] | None = None,
        on_eval: Callable[[Evaluation], object] | None = None,
        on_save: Callable[[Saved], object] | None = None,
        **options: Any,
    ) -> None:
        self.settings: Settings = settings_of(options)
        self.on_step, self.on_eval, self.on_save = on_step, on_eval, on_save
        self.world: World = world()
        start = sources.start_of(model, tokenizer, self.settings.seed)
        self.config: dict[str, Any] = start.config
        """The content of the model's config.json."""
        self.tokenizer = start.tokenizer
        self._subject = subject_of(start, self.settings)
        self.placement: Placement = place(self.settings.device, self.settings.policy)
        self.data = sources.dataset_of(data, self.settings, self.config, self.world)
        """What is trained on; its cursor tells how far."""
        sources.warn_of_other_tokenizer(self.data, self.tokenizer)
        self._validation = sources.validation_of(self.settings, self.data, self.config)
        if self.settings.eval_every and not self._has_validation:
            raise Error("eval_every: no data is kept for it (validation=SHARE, or a file)")
        self._core = _core.Trainer(
            start.config,
            self._subject.first_weights,
            self.placement.device,
            self.settings.core_options(
                self.data, self._subject.shape, self.world.rank, self.world.ranks
            ),
        )
        if self.world.ranks > 1:
            self._begin_together()
        self._model_step = 0 if self._subject.model else -1
        self._own_out: Path | None = None
        self._metrics: MetricsFile | None = None

    @property
    def step(self) -> int:
        """Steps taken so far."""
        return self._core.state.step

    @property
    def device(self) -> str:
        """Where the layers run."""
        return self._core.device

    @property
    def trained(self) -> str:
        """What is trained, for people: "a whole model" or "an adapter"."""
        return self._subject.trained

    @property
    def num_parameters(self) -> int:
        """Numbers that are trained; a head tied to the embedding counts once."""
        return self._core.num_parameters

    @property
    def weights(self) -> dict[str, NDArray[np.float32]]:
        """What is trained, by name as it is now: views that change as training goes on."""
        return self._core.weights

    @property
    def model(self) -> Model:
        """A model with the current weights, or with the adapter loaded and active.

        It is the one that was given, or one on the CPU in fp32.
        """
        if self._model_step != self.step:
            self._refresh_model()
        assert self._subject.model is not None
        return self._subject.model

    def train(self) -> Step | None:
        """Takes the steps that are left; the last one, None if there was none to take.

        SIGINT and SIGTERM end it after the step they come in: with a checkpoint if there is a
        directory for one, then as `Interrupted`.
        """
        if self.step >= self.settings.steps:
            return None
        with self._writing(), SignalWatch() as watch:
            last = self._steps(watch)
        if self._subject.model is not None:
            self._refresh_model()
        if watch.number:
            raise Interrupted(watch.number, self._farewell(watch.number))
        return last

    def evaluate(self) -> Evaluation:
        """The mean loss on the validation data, without training."""
        if not self._has_validation:
            raise Error("evaluate: no data is kept for it (validation=SHARE, or a file)")
        batches = self._validation.epoch() if self._validation else self.data.validation()
        most = self.settings.eval_batches
        return evaluation.mean_loss(batches, self._loss_sum, self.world, most=most, step=self.step)

    def save(self, directory: str | Path | None = None) -> Path:
        """Writes a checkpoint, by default to `out`; its path.

        Error if that fails; training can go on, and the checkpoints before are still there.
        """
        if directory is None and self.settings.out is None:
            raise Error("save: no directory (give one, or the trainer an out)")
        path = Path(directory) if directory else checkpoints.directory_of(self._out, self.step)
        if self.world.is_first:
            checkpoints.write(path, resumption.content_of(self))
        return path

    def resume(self, directory: str | Path | None = None) -> Path | None:
        """Goes on from a checkpoint, or from the newest that is whole in a directory of them.

        By default in `out`. None if there is none: training begins. Error saying what differs if
        this trainer would not do what the run did.
        """
        if directory is None and self.settings.out is None:
            raise Error("resume: no directory (give one, or the trainer an out)")
        found = None
        if self.world.is_first:
            where = Path(directory) if directory else self._out
            is_one = (where / checkpoints.RECORD).exists()
            found = where if is_one else checkpoints.newest(where)
        found = self.world.share(found)
        if found is not None:
            resumption.restore(self, found)
        if self.settings.out is not None and (directory is None or Path(directory) == self._out):
            self._own_out = self._out
        return found

    # -- inside ---------------------------------------------------------------------------------

    def _begin_together(self) -> None:
        """With the first process's weights; what stays as it is must be the same already."""
        if self.world.share(self._subject.base) != self._subject.base:
            raise Error("lora: this process read other weights of the model than the first one")
        self.world.broadcast(self._core.weights.values())
        self._core.restore(self._core.state)

    @property
    def _out(self) -> Path:
        return Path(str(self.settings.out))

    @property
    def _has_validation(self) -> bool:
        return self._validation is not None or self.data.validation_windows > 0

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        """Claims the run's directory, if there is one and this process writes to it."""
        if self.settings.out is None or not self.world.is_first:
            yield
            return
        if self._own_out is None:
            checkpoints.require_fresh(self._out)
        with checkpoints.claimed(self._out):
            self._own_out = self._out
            self._metrics = MetricsFile(self._out, self.step, self.settings.tensorboard)
            try:
                yield
            finally:
                self._metrics.close()
                self._metrics = None

    def _steps(self, watch: SignalWatch) -> Step:
        """Until all are taken, a callback returns False or a signal has come."""
        settings, clock = self.settings, StepClock()
        while True:
            done, signalled = self._step(clock, watch)
            watch.number = watch.number or signalled
            ends = self._tell(done, self.on_step) or done.step >= settings.steps or signalled > 0
            if _is_due(done.step, settings.eval_every) and not signalled:
                ends = self._tell(self.evaluate(), self.on_eval) or ends
                clock.lap()
            ends = self.world.share(ends)
            if settings.out is not None and (ends or _is_due(done.step, settings.save_every)):
                ends = self._checkpoint() or ends
                clock.lap()
            if self.world.share(ends):
                return done

    def _step(self, clock: StepClock, watch: SignalWatch) -> tuple[Step, int]:
        """One step of all processes; what it did, and the signal that one of them got, or 0."""
        rate = self.settings.rate(self.step)
        for _ in range(self.settings.accumulation):
            with clock.part("data"):
                ids, targets = next(self.data)
            self._core.accumulate(ids, targets)
        with clock.part("reduce"):
            signalled = self._reduce(watch)
        report = self._core.step(rate)
        seconds, times = clock.lap(report.times)
        done = Step(
            step=report.step,
            loss=report.loss,
            lr=rate,
            gradient_norm=report.gradient_norm,
            loss_scale=report.loss_scale,
            skipped=report.skipped,
            tokens=report.tokens,
            seconds=seconds,
            times=times,
        )
        return done, signalled

    def _reduce(self, watch: SignalWatch) -> int:
        """Gradients become the sums over the processes, and a signal to one is one to all."""
        if self.world.ranks == 1:
            return watch.number
        self.world.sum_in_place(self._core.gradients.values())
        loss, targets = self._core.accumulated
        ints, terms = watch.number == signal.SIGINT, watch.number == signal.SIGTERM
        loss, total, interrupts, terminations = self.world.sum([loss, targets, ints, terms])
        self._core.accumulated = (loss, int(total))
        if terminations:
            return int(signal.SIGTERM)
        return int(signal.SIGINT) if interrupts else 0

    def _tell(self, event: Any, listener: Callable[[Any], object] | None) -> bool:
        """Writes an event down and tells who listens; whether that ends training."""
        if self._metrics is not None:
            self._metrics.write(event)
        return listener is not None and listener(event) is False

    def _checkpoint(self) -> bool:
        start = time.perf_counter()
        try:
            path = self.save()
            if self.world.is_first:
                checkpoints.prune(self._out, self.settings.keep_last)
        except Error as error:
            raise Error(f"{error}; {self._what_is_left()}") from error
        seconds = time.perf_counter() - start
        return self._tell(Saved(self.step, path, seconds), self.on_save)

    def _what_is_left(self) -> str:
        done = checkpoints.steps(self._out)
        if not done:
            return f"no earlier checkpoint: step {self.step} is lost (make room and begin again)"
        last = checkpoints.directory_of(self._out, done[-1])
        return f"the last checkpoint is {last} (make room, then --resume goes on from it)"

    def _farewell(self, number: int) -> str:
        end = f"{signal.Signals(number).name} after step {self.step} of {self.settings.steps}"
        if self.settings.out is None:
            return f"{end}; nothing was saved, there is no directory for it"
        return f"{end}; saved in {checkpoints.directory_of(self._out, self.step)}"

    def _loss_sum(self, ids: NDArray[np.int32], targets: NDArray[np.int32]) -> float:
        batch: Batch = evaluation.filled(self.data.batch, ids, targets)
        return self._core.evaluate(*batch) * targets.size

    def _refresh_model(self) -> None:
        self._subject.refresh(self.weights)
        self._model_step = self.step


def _is_due(step: int, every: int) -> bool:
    return every > 0 and step % every == 0
