"""From a GPT-2 124M's layers to the files that the engine compiles, phase by phase.

    python bench/compile.py [--profile strict] [--tokens 128] [--rounds 3] [--json FILE]

Every segment of every layer: attention and feed-forward for a prompt, projection and output for
decoding. Phases: the graph is built, optimised, made legal, written as MIL text; weights are
brought into the forms that the program holds; text and weight file are written, durably. Writing is
compared with copying the same bytes, durably too. Medians over rounds.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from harness import Result, machine, save
from inference import CONFIGS, random_weights
from numpy.typing import NDArray
from orion_ane import _core, ane, mil

T = TypeVar("T")
Array = NDArray[Any]

CONFIG = CONFIGS["gpt2-124m"]
LAYERS = CONFIG["n_layer"]
PHASES = ("build", "optimize", "legalize", "emit", "weights", "write", "copy")


class Clock:
    """Seconds by phase."""

    def __init__(self) -> None:
        self.seconds = dict.fromkeys(PHASES, 0.0)

    def run(self, phase: str, work: Callable[[], T]) -> T:
        start = time.perf_counter()
        result = work()
        self.seconds[phase] += time.perf_counter() - start
        return result


def copy(source: Path, target: Path) -> None:
    with source.open("rb") as from_file, target.open("wb") as to_file:
        shutil.copyfileobj(from_file, to_file, 1 << 24)
        to_file.flush()
        os.fsync(to_file.fileno())


def compile_segment(
    clock: Clock, kind: str, layer: int, tokens: int, profile: str, given: dict[str, Array]
) -> int:
    """Bytes of the weight file."""
    graph = clock.run(
        "build", lambda: _core.segment_graph(CONFIG, kind, layer=layer, tokens=tokens)
    )
    clock.run("optimize", graph.optimize)
    before = clock.seconds["legalize"]
    legal = clock.run("legalize", lambda: ane.legalize(graph, profile))
    clock.run("emit", lambda: mil.emit(legal))
    names = {name for name in given if f"h.{layer}." in name}
    wanted = {name: given[name] for name in names}
    legal, values = clock.run("weights", lambda: ane.legal_program(graph, wanted, profile))
    clock.seconds["weights"] -= clock.seconds["legalize"] - before  # it makes the graph legal again
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        clock.run("write", lambda: mil.write_program(legal, values, place))
        file = place / "weights" / "weight.bin"
        clock.run("copy", lambda: copy(file, place / "copy.bin"))
        return file.stat().st_size


def compile_all(profile: str, tokens: int, given: dict[str, Array]) -> tuple[Clock, int, int]:
    clock = Clock()
    size = segments = 0
    for layer in range(LAYERS):
        for kind in ("attention", "feed_forward", "projection", "output"):
            columns = tokens if kind in ("attention", "feed_forward") else 16
            size += compile_segment(clock, kind, layer, columns, profile, given)
            segments += 1
    return clock, size, segments


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--profile", default="strict")
    parser.add_argument("--tokens", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=Path, metavar="FILE")
    options = parser.parse_args()

    given = {name: value.astype(np.float16) for name, value in random_weights(CONFIG).items()}
    rounds = [compile_all(options.profile, options.tokens, given) for _ in range(options.rounds)]
    size, segments = rounds[0][1:]
    results = [
        Result("compile", phase, [clock.seconds[phase] for clock, _, _ in rounds], segments)
        for phase in PHASES
    ]
    print(
        f"gpt2-124m, {segments} segments, {size / 1e6:.0f} MB of weights, profile "
        f"{options.profile}, on {machine()['cpu']}"
    )
    print(f"{'phase':<10}{'ms':>9}{'ms/segment':>12}{'MB/s':>9}")
    for result in results:
        speed = f"{size / 1e6 / result.median:.0f}" if result.contender in PHASES[4:] else "-"
        row = (result.median * 1e3, result.median * 1e3 / segments)
        print(f"{result.contender:<10}{row[0]:>9.1f}{row[1]:>12.2f}{speed:>9}")
    total = [sum(s for p, s in clock.seconds.items() if p != "copy") for clock, _, _ in rounds]
    print(f"all but the copy: {statistics.median(total):.2f} s")
    if options.json:
        save(options.json, results)


if __name__ == "__main__":
    main()
