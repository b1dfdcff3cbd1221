"""Reading a prompt, writing text, and the time until a new process has its first token."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from orion_ane import _core, checkpoint, packed
from orion_ane._core import Error
from orion_ane.bench import machine
from orion_ane.bench.models import WIDTHS, Cost, random_ids
from orion_ane.bench.remote import Contender, Race, Remote
from orion_ane.bench.report import Ceiling, Row, Work, speed_row
from orion_ane.placement import DTYPES
from orion_ane.process_memory import peak_memory

SUITE = "inference"
REFERENCE = "orion fp32"
ERROR = "max logit error"

PRODUCTS = {"bf16": "bf16", "int8": "int8", "int4": "int8"}
"""What is multiplied by weights of that dtype, if not fp32."""

Logits = NDArray[np.float32]


class Decoder(Protocol):
    """A contender. Prompts are token ids; tokens are chosen greedily, and none ends the text."""

    def prefill(self, ids: list[int]) -> None:
        """Reads a prompt up to its first new token."""

    def decode(self, ids: list[int], count: int) -> float:
        """Seconds of `count` tokens after the first one that follows a prompt."""

    def logits(self, ids: list[int]) -> Logits:
        """(T, V), fp32."""


class OrionDecoder:
    """A model of ours with its weights kept in one way on one device."""

    def __init__(self, path: str, dtype: str, device: str) -> None:
        self.model: _core.TextModel
        if packed.is_packed(Path(path)):
            self.model = packed.read(Path(path)).load(device)
            return
        found = checkpoint.read(Path(path))
        self.model = (
            _core.LanguageModel(found.config, found.weights, dtype, device)
            if device == "cpu"
            else _core.EngineModel(found.config, found.weights, device)
        )

    def logits(self, ids: list[int]) -> Logits:
        """(T, V)."""
        return np.asarray(self.model.logits(ids))

    def prefill(self, ids: list[int]) -> None:
        """Up to the first token."""
        self._begin(ids, 1).step()

    def decode(self, ids: list[int], count: int) -> float:
        """Seconds of the tokens after the first."""
        generation = self._begin(ids, count + 1)
        generation.step()
        start = time.perf_counter()
        while not generation.done:
            generation.step()
        return time.perf_counter() - start

    def _begin(self, ids: list[int], count: int) -> _core.Generation:
        return _core.Generation(self.model, [ids], _core.SamplerOptions(), count, [])


@dataclass(frozen=True)
class Text:
    """How much is read and written."""

    config: Mapping[str, Any]
    prompt: int
    short_prompt: int
    tokens: int

    @property
    def ids(self) -> list[int]:
        """The prompt."""
        return random_ids(self.config, self.prompt)

    @property
    def short_ids(self) -> list[int]:
        """What is written on from."""
        return self.ids[: self.short_prompt]


def text_for(config: Mapping[str, Any], *, quick: bool) -> Text:
    """A prompt of 512 and 64 tokens after 32, or what the model has positions for."""
    context = config.get("max_position_embeddings") or config["n_positions"]
    wanted = (64, 8, 16) if quick else (512, 32, 64)
    prompt, short = min(wanted[0], context), max(1, min(wanted[1], context // 4))
    return Text(config, prompt, short, min(wanted[2], context - short))


def our_contenders(path: Path, device: str) -> list[Contender]:
    """Every way of keeping weights that the model and the device have."""
    return [
        Contender(
            _name(dtype, device),
            OrionDecoder,
            (str(path), dtype, device),
            weight_bytes=WIDTHS[dtype],
            products=PRODUCTS.get(dtype, "fp32"),
            on_cpu=device == "cpu",
        )
        for dtype in _dtypes(path, device)
    ]


def _dtypes(path: Path, device: str) -> tuple[str, ...]:
    if packed.is_packed(path):
        return (packed.read(path).dtype,)
    return DTYPES if device == "cpu" else ("fp16",)  # engines compute in nothing else


def _name(dtype: str, device: str) -> str:
    return f"orion {dtype}" if device == "cpu" else f"orion {dtype} {device}"


def compete(
    model: str,
    contenders: Sequence[Contender],
    text: Text,
    rounds: int,
    reference: Logits | None,
) -> tuple[list[Row], Ceiling]:
    """Rows of all contenders, which take turns, and the ceiling that they are shares of: the
    median of every round's. One that fails and may leave has no rows.
    """
    ceilings = []
    prefill: dict[str, list[float]] = {c.name: [] for c in contenders}
    decode: dict[str, list[float]] = {c.name: [] for c in contenders}

    def read_and_write(remote: Remote) -> tuple[float, float]:
        remote.call("prefill", text.ids)  # after its rest, for which others had the caches
        reading = remote.time("prefill", text.ids)
        return reading, float(remote.call("decode", text.short_ids, text.tokens))

    with Race(contenders) as race:
        errors = {}
        if reference is not None:
            errors = race.each(
                lambda r: (error_of(r.name, r.call("logits", text.ids), reference), ERROR)
            )
        for turn in race.turns(rounds, model):
            ceilings.append(machine.ceiling_now())
            for name, (reading, writing) in race.each(read_and_write).items():
                if turn > 0:
                    prefill[name].append(reading)
                    decode[name].append(writing)
        peaks = race.each(lambda remote: remote.peak_memory() / 2**20)
        stayed = race.contenders
    ceiling = Ceiling.median(ceilings)
    cost = Cost(text.config)
    tasks = (
        (f"prefill {text.prompt}", prefill, text.prompt, _prefill_work),
        (f"decode {text.tokens}", decode, text.tokens, _decode_work),
    )
    rows = [
        speed_row(
            (SUITE, f"{model}: {task}", c.name),
            seconds[c.name],
            (float(tokens), "tokens/s"),
            work(cost, text, c),
            ceiling if c.on_cpu else None,
            errors.get(c.name),
        )
        for task, seconds, tokens, work in tasks
        for c in stayed
    ]
    memory = f"{model}: peak memory"
    rows += [Row(SUITE, memory, name, "MiB", [peak]) for name, peak in peaks.items()]
    return rows, ceiling


def reference_logits(path: Path, text: Text) -> Logits | None:
    """Those of our fp32 model on the CPU; None for a packed model, which has its own width only."""
    if packed.is_packed(path):
        return None
    with Remote(REFERENCE, OrionDecoder, (str(path), "fp32", "cpu")) as remote:
        return np.asarray(remote.call("logits", text.ids))


def _prefill_work(cost: Cost, text: Text, contender: Contender) -> Work:
    return Work(cost.prefill(text.prompt), products=contender.products)


def _decode_work(cost: Cost, text: Text, contender: Contender) -> Work:
    width = contender.weight_bytes or 0.0
    return Work(
        cost.decode(text.short_prompt, text.tokens),
        cost.decode_bytes(text.short_prompt, text.tokens, width),
        products=contender.products,
    )


def error_of(name: str, logits: Logits, reference: Logits) -> float:
    """The largest difference; Error if the logits are none."""
    if logits.shape != reference.shape:
        raise Error(f"{name}: logits {logits.shape}, and {reference.shape} are wanted")
    error = float(np.abs(logits - reference).max())
    if not np.isfinite(error):
        raise Error(f"{name}: logits that are not finite")
    return error


# -- a new process --------------------------------------------------------------------------------


@dataclass(frozen=True)
class Start:
    """What a new process took."""

    first_token: float
    """Seconds from its start."""
    load: float
    """Seconds of loading the model in it."""
    memory: float
    """MiB it had at most."""


_STARTS: tuple[tuple[str, str, Callable[[Start], float]], ...] = (
    ("start to first token", "s", lambda start: start.first_token),
    ("load", "s", lambda start: start.load),
    ("memory of a start", "MiB", lambda start: start.memory),
)


def cold_starts(model: str, path: Path, device: str, rounds: int) -> list[Row]:
    """New processes up to their first token, in turns: the model in every width and, on the CPU,
    the same packed. The files have been read before.
    """
    with _ways(path, device) as ways:
        found: dict[str, list[Start]] = {name: [] for name in ways}
        for _ in range(rounds):
            for name, (where, dtype) in ways.items():
                found[name].append(_cold_start(where, dtype, device))
    return [
        Row(SUITE, f"{model}: {what}", name, unit, [part(start) for start in starts])
        for what, unit, part in _STARTS
        for name, starts in found.items()
    ]


@contextlib.contextmanager
def _ways(path: Path, device: str) -> Iterator[dict[str, tuple[Path, str]]]:
    """The model and width of each contender."""
    as_it_is = {_name(dtype, device): (path, dtype) for dtype in _dtypes(path, device)}
    if device != "cpu" or packed.is_packed(path):
        yield as_it_is
        return
    with tempfile.TemporaryDirectory(prefix="orion-bench-") as folder:
        found = checkpoint.read(path)
        beside = {}
        for name, (_, dtype) in as_it_is.items():
            packed.write(Path(folder, dtype), found, None, dtype, replace=False)
            beside[f"{name} packed"] = (Path(folder, dtype), dtype)
        yield as_it_is | beside


def _cold_start(path: Path, dtype: str, device: str) -> Start:
    command = [sys.executable, "-m", __name__, str(path), dtype, device]
    start = time.perf_counter()
    done = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert done.stdout is not None
    line = done.stdout.readline()
    first = time.perf_counter() - start
    _, complaint = done.communicate()
    if done.returncode != 0 or not line:
        raise Error(f"a new process with {path}: {complaint.strip() or done.returncode}")
    told = json.loads(line)
    return Start(first, float(told["load"]), float(told["memory"]) / 2**20)


def main(arguments: Sequence[str]) -> None:
    """A new process's first token."""
    path, dtype, device = arguments
    start = time.perf_counter()
    model = OrionDecoder(path, dtype, device)
    load = time.perf_counter() - start
    model.prefill([1, 2, 3, 4])
    print(json.dumps({"load": load, "memory": peak_memory()}), flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
