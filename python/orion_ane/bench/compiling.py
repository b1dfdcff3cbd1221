"""From a model's layers to the files that the engine compiles, phase by phase.

Every segment of every layer: attention and feed-forward for a prompt, projection and output for
decoding. Phases: the graph is built, optimised, made legal, written as MIL text; weights are
brought into the forms that the program holds; text and weight file are written, durably. Beside
that every weight of the file is patched, and the same bytes are copied, both durably too.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from orion_ane import _core, ane, mil
from orion_ane import weights as weight_files
from orion_ane.bench.report import Row
from orion_ane.bench.timing import seconds_of

T = TypeVar("T")
Array = NDArray[Any]

SUITE = "compile"
PHASES = ("build", "optimize", "legalize", "emit", "weights", "write", "patch", "copy")
AFTER = ("patch", "copy")
"""What no part of making the files is."""
KINDS = {"attention": 128, "feed_forward": 128, "projection": 16, "output": 16}
"""Segments of a layer, and their tokens."""
PROFILE = "strict"


class Clock:
    """Seconds by phase."""

    def __init__(self) -> None:
        self.seconds = dict.fromkeys(PHASES, 0.0)

    def run(self, phase: str, work: Callable[[], T]) -> T:
        """What the work gives; its time counts for the phase."""
        results: list[T] = []
        self.seconds[phase] += seconds_of(lambda: results.append(work()))
        return results[0]


def measure(
    model: str, config: dict[str, Any], weights: Mapping[str, Array], rounds: int
) -> list[Row]:
    """Seconds of each phase for all segments, what making the files takes, and GB/s of writing."""
    layers = config.get("num_hidden_layers") or config["n_layer"]
    given = {name: np.asarray(value, np.float16) for name, value in weights.items()}
    clocks = [Clock() for _ in range(rounds)]
    size = 0
    for clock in clocks:
        size = sum(
            _segment(clock, config, kind, layer, given) for layer in range(layers) for kind in KINDS
        )
    task = f"{model}: {layers * len(KINDS)} segments, {size / 1e6:.0f} MB"
    rows = [
        Row(SUITE, f"{task}, {phase}", "orion", "s", [clock.seconds[phase] for clock in clocks])
        for phase in PHASES
    ]
    made = [phase for phase in PHASES if phase not in AFTER]
    whole = [sum(clock.seconds[phase] for phase in made) for clock in clocks]
    rows.append(Row(SUITE, f"{task}, build to write", "orion", "s", whole))
    for phase in ("write", *AFTER):
        speeds = [size / 1e9 / clock.seconds[phase] for clock in clocks]
        rows.append(Row(SUITE, f"{task}, {phase}", "orion", "GB/s", speeds))
    return rows


def programs(model: str, config: dict[str, Any], weights: Mapping[str, Array], rounds: int) -> Row:
    """Seconds to compile the CPU's program of one token, its weights packed."""
    graph = _core.model_graph(config, tokens=1, cache=16, last=True)
    given = {name: np.asarray(value, np.float32) for name, value in weights.items()}
    seconds = [seconds_of(lambda: _core.compile(graph, given, "cpu")) for _ in range(rounds)]
    return Row(SUITE, f"{model}: compile decoding", "orion cpu", "s", seconds)


def _segment(
    clock: Clock, config: dict[str, Any], kind: str, layer: int, given: Mapping[str, Array]
) -> int:
    """Bytes of the weight file."""
    graph = clock.run(
        "build", lambda: _core.segment_graph(config, kind, layer=layer, tokens=KINDS[kind])
    )
    clock.run("optimize", graph.optimize)
    before = clock.seconds["legalize"]
    legal = clock.run("legalize", lambda: ane.legalize(graph, PROFILE))
    clock.run("emit", lambda: mil.emit(legal))
    wanted = {name: value for name, value in given.items() if f".{layer}." in name}
    legal, values = clock.run("weights", lambda: ane.legal_program(graph, wanted, PROFILE))
    clock.seconds["weights"] -= clock.seconds["legalize"] - before  # it makes the graph legal again
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        clock.run("write", lambda: mil.write_program(legal, values, place))
        file = place / "weights" / "weight.bin"
        changes = {key: np.copy(value) for key, value in weight_files.read(file).items()}
        clock.run("patch", lambda: weight_files.patch_all(file, changes))
        clock.run("copy", lambda: _copy(file, place / "copy.bin"))
        return file.stat().st_size


def _copy(source: Path, target: Path) -> None:
    with source.open("rb") as from_file, target.open("wb") as to_file:
        shutil.copyfileobj(from_file, to_file, 1 << 24)
        to_file.flush()
        os.fsync(to_file.fileno())
