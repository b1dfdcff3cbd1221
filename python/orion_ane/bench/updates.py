"""New weights for programs that are loaded, by every strategy, beside compiling anew.

Programs are chains of 1x1 convolutions; an update replaces all of their weights. Strategies take
turns. The error is the largest difference of the outputs from those of a program compiled of the
same weights. `compile` is a program that nobody has compiled before.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from orion_ane import _core, ops
from orion_ane._core import DeviceError, Graph
from orion_ane.bench.report import Row
from orion_ane.bench.timing import alternate

Array = NDArray[Any]

SUITE = "update"
REFERENCE = "recompile"
ERROR = "max difference"


@dataclass(frozen=True)
class Chain:
    """How many weights a program has, and how large they are."""

    weights: int
    channels: int = 384
    columns: int = 64

    def graph(self) -> Graph:
        """Convolutions one after the other."""
        g = Graph("chain")
        x = g.input("x", (1, self.channels, 1, self.columns), "fp16")
        for i in range(self.weights):
            w = g.weight(f"layer.{i}.weight", (self.channels, self.channels, 1, 1), "fp16")
            x = ops.tanh(ops.conv(x, w))
        g.output("y", x)
        return g

    def values(self, version: int) -> dict[str, Array]:
        """Weights, different ones for each version."""
        rng = np.random.default_rng(version)
        shape = (self.channels, self.channels, 1, 1)
        return {
            f"layer.{i}.weight": (rng.standard_normal(shape) * 0.1).astype(np.float16)
            for i in range(self.weights)
        }

    def input(self) -> Array:
        """Something to run it with."""
        rng = np.random.default_rng(99)
        return rng.standard_normal((1, self.channels, 1, self.columns)).astype(np.float16)


def chains(*, quick: bool) -> list[Chain]:
    """Of 1, 6 and 16 weights."""
    return [Chain(2, channels=32)] if quick else [Chain(1), Chain(6), Chain(16)]


def default_device() -> str:
    """The engine, or a simulated one where there is none."""
    try:
        _core.engine_info("ane")
    except DeviceError:
        return "sim:paper-m4-macos15"
    return "ane"


def refusals(device: str) -> list[str]:
    """Strategies that the self-test refuses on a device, with its reason."""
    return [
        f"{device}: {row['strategy']} is not used: {row['reason']}"
        for row in verdicts(device)
        if not row["eligible"]
    ]


def verdicts(device: str) -> list[dict[str, Any]]:
    """What the self-test says of every strategy on a device."""
    return _core.update_verdicts(device)


def program(device: str, chain: Chain, strategy: str, version: int = 0) -> _core.Program:
    """A chain compiled for one strategy."""
    return _core.compile(chain.graph(), chain.values(version), f"{device},update={strategy}")


def measure(device: str, chain: Chain, rounds: int) -> list[Row]:
    """A row for every strategy that has an effect on the device, and one for compiling."""
    strategies = [row["strategy"] for row in verdicts(device) if row["eligible"]]
    programs = {name: program(device, chain, name) for name in strategies}
    sets = [chain.values(1 + i) for i in range(rounds + 1)]

    def updates(name: str) -> Callable[[], None]:
        coming = iter(sets)
        return lambda: programs[name].update(next(coming))

    seconds = alternate({name: updates(name) for name in strategies}, rounds)
    # Of other weights first: what an identity is known by must not stand in for a compilation.
    fresh = program(device, chain, REFERENCE)
    fresh.update(sets[-1])
    x = chain.input()
    right = fresh(x=x)["y"].astype(np.float64)

    def error(name: str) -> float:
        return float(np.abs(programs[name](x=x)["y"].astype(np.float64) - right).max())

    task = f"{device}, {chain.weights} weights"
    versions = iter(range(1000, 1000 + rounds))
    fresh_seconds = alternate(
        {"": lambda: program(device, chain, REFERENCE, next(versions))}, rounds, warmup=0
    )
    rows = [
        Row(SUITE, task, name, "s", seconds[name], error=error(name), error_of=ERROR)
        for name in strategies
    ]
    return [*rows, Row(SUITE, task, "compile", "s", fresh_seconds[""])]
