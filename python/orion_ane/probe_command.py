"""`orion probe`: what this machine's engine does where reports differ.

Every probe runs in a process of its own: it may use up the compile budget, or crash.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from orion_ane import _core

Row = dict[str, Any]

# Long enough for 200 compilations.
TIME_LIMIT = 600.0

# Exit status of a probe that cannot be asked: no such device.
REFUSED = 3

# It asks whether an earlier process's program is still known: the first run is that process.
ASKED_TWICE = "P14"


def add_probe_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's arguments."""
    parser.add_argument(
        "--device", default="ane", help="ane (default), or a simulated one: sim:PROFILE"
    )
    parser.add_argument("-o", "--output", metavar="FILE", help="write the measured profile as JSON")
    parser.add_argument(
        "--only", metavar="ID", action="append", help="one probe, for example P3 (may be repeated)"
    )
    parser.add_argument("--json", action="store_true", help="print a JSON line per probe")


def probe(options: argparse.Namespace) -> None:
    """Runs the probes, prints what they find and writes the profile; Error if one cannot run."""
    questions = _questions()
    for unknown in set(options.only or ()) - set(questions):
        raise _core.Error(f"unknown probe '{unknown}': {', '.join(questions)} are known")
    results = []
    for name in options.only or questions:
        results.append(run(options.device, name))
        print(json.dumps(results[-1]) if options.json else as_text(results[-1]), flush=True)
    if options.output is not None:
        write_profile(results, Path(options.output))


def run(device: str, name: str) -> Row:
    """One probe's result; a probe whose process dies has the result `crashed`."""
    if name == ASKED_TWICE:
        _in_own_process(device, name)
    return _in_own_process(device, name)


def write_profile(results: Sequence[Row], path: Path) -> None:
    """Writes the profile that follows from the results, and the results."""
    finished = [row for row in results if row["result"] != "crashed"]
    if not finished:
        raise _core.Error(f"{path}: not written, no probe came to an end")
    name = f"measured-{finished[0]['chip']}-{finished[0]['build']}"
    profile = _core.measured_profile(finished, name)
    text = json.dumps({"profile": profile, "probes": list(results)}, indent=1)
    path.write_text(text + "\n", encoding="utf-8")


def as_text(row: Row) -> str:
    """Question and answer, then a line per detail."""
    details = "".join(f"\n     {line}" for line in row["detail"].split("; ") if line)
    head = f"{row['probe']:<4} {row['question']} {row['result']} ({row['ms']:.0f} ms)"
    return head + details


def _questions() -> dict[str, str]:
    return {probe["id"]: probe["question"] for probe in _core.probes()}


def _in_own_process(device: str, name: str) -> Row:
    command = [sys.executable, "-m", "orion_ane.probe_command", device, name]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=TIME_LIMIT)
    except subprocess.TimeoutExpired:
        return _crashed(name, f"no answer within {TIME_LIMIT:.0f} s")
    lines = done.stdout.splitlines()
    if done.returncode == 0:
        return dict(json.loads(lines[-1]))
    if done.returncode == REFUSED and lines:
        raise _core.Error(json.loads(lines[-1])["error"])
    last = done.stderr.strip().splitlines()[-1:]
    return _crashed(name, " ".join([f"exit status {done.returncode}", *last]))


def _crashed(name: str, why: str) -> Row:
    return {
        "chip": "",
        "build": "",
        "probe": name,
        "question": _questions()[name],
        "result": "crashed",
        "detail": why,
        "ms": 0.0,
        "limits": {},
        "numbers": {},
    }


def _main(device: str, name: str) -> int:
    try:
        print(json.dumps(_core.run_probe(device, name)))
    except _core.Error as error:
        print(json.dumps({"error": str(error)}))
        return REFUSED
    return 0


if __name__ == "__main__":
    sys.exit(_main(*sys.argv[1:]))
