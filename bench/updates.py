"""New weights for programs that are loaded, by every strategy, beside compiling again.

    python bench/updates.py [--device sim:paper-m4-macos15]... [--rounds 5] [--json FILE]

Programs are chains of 1x1 convolutions with 1, 6 and 16 weights of 384 x 384; an update replaces
all of them. Strategies take turns; medians are reported. The error is the largest difference of the
outputs from those of a program compiled of the same weights. A strategy that the self-test refuses
on a device is named, with the reason. Without --device: every built-in profile of the simulator,
and the `ane` device where there is one (ORION_ANE_FRAMEWORK can name a framework).
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import orion_ane as orion
from harness import Result, alternate, machine, save, table
from numpy.typing import NDArray
from orion_ane import _core, ane, ops

Array = NDArray[Any]

CHANNELS = 384
COLUMNS = 64
COUNTS = (1, 6, 16)
REFERENCE = "recompile"


def chain(count: int) -> orion.Graph:
    g = orion.Graph("chain")
    x = g.input("x", (1, CHANNELS, 1, COLUMNS), "fp16")
    for i in range(count):
        w = g.weight(f"layer.{i}.weight", (CHANNELS, CHANNELS, 1, 1), "fp16")
        x = ops.tanh(ops.conv(x, w))
    g.output("y", x)
    return g


def weights(count: int, version: int) -> dict[str, Array]:
    rng = np.random.default_rng(version)
    shape = (CHANNELS, CHANNELS, 1, 1)
    return {
        f"layer.{i}.weight": (rng.standard_normal(shape) * 0.1).astype(np.float16)
        for i in range(count)
    }


def strategies(device: str) -> list[str]:
    """Those that have an effect on the device."""
    verdicts = _core.update_verdicts(device)
    for verdict in verdicts:
        if not verdict["eligible"]:
            print(f"{device}: {verdict['strategy']} is not used: {verdict['reason']}")
    return [v["strategy"] for v in verdicts if v["eligible"]]


def measure(device: str, count: int, names: list[str], rounds: int) -> list[Result]:
    graph = chain(count)
    programs = {
        name: orion.compile(graph, weights(count, 0), device=f"{device},update={name}")
        for name in names
    }
    sets = [weights(count, 1 + i) for i in range(rounds + 1)]

    def updates(name: str) -> Callable[[], None]:
        coming = iter(sets)
        return lambda: programs[name].update(next(coming))

    seconds = alternate({name: updates(name) for name in names}, rounds)
    x = weights(1, 99)["layer.0.weight"][:1, :, :, 0].reshape(1, CHANNELS, 1, 1)
    x = np.repeat(x, COLUMNS, axis=3)
    # Of other weights first: what an identity is known by must not stand in for a compilation.
    fresh = orion.compile(graph, weights(count, 0), device=f"{device},update={REFERENCE}")
    fresh.update(sets[-1])
    right = fresh(x=x)["y"].astype(np.float64)
    task = f"{device}, {count} weights"
    return [
        Result(
            task,
            name,
            seconds[name],
            1.0,
            float(np.abs(programs[name](x=x)["y"].astype(np.float64) - right).max()),
        )
        for name in names
    ]


def available() -> list[str]:
    devices = [f"sim:{row['name']}" for row in ane.profiles()]
    try:
        _core.engine_info("ane")
    except orion.DeviceError as error:
        print(f"ane is left out: {error}")
        return devices
    return [*devices, "ane"]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--device", action="append")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path, metavar="FILE")
    options = parser.parse_args()
    results = []
    for device in options.device or available():
        names = strategies(device)
        for count in COUNTS:
            results += measure(device, count, names, options.rounds)
    print(f"on {machine()['cpu']}")
    print(table(results, "updates/s", REFERENCE, "max difference"))
    if options.json:
        save(options.json, results)


if __name__ == "__main__":
    main()
