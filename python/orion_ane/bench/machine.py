"""What figures hold for: this machine, this build, and what they can do at most."""

from __future__ import annotations

import os
import platform
import subprocess
from pathlib import Path

from orion_ane import _core
from orion_ane.bench.report import Ceiling

_PACKAGE = Path(__file__).resolve().parents[1]

# A stream several times the caches of any processor, and long enough to see past other programs.
_STREAM_BYTES, _SECONDS = 1 << 29, 1.0
_QUICK_STREAM_BYTES, _QUICK_SECONDS = 1 << 26, 0.05


def describe() -> dict[str, str | int]:
    """Processor, system, instruction set and threads: two runs that differ here do not compare."""
    return {
        "cpu": _processor(),
        "cpus": os.cpu_count() or 1,
        "system": platform.platform(),
        "instruction set": _core.cpu_kernels(),
        "threads": _core.thread_count(),
    }


def commit() -> str | None:
    """Of the source this package is run from; None for one that is installed."""
    command = ["git", "rev-parse", "--show-toplevel", "HEAD"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, cwd=_PACKAGE)
    except OSError:
        return None  # without git
    if done.returncode != 0:
        return None
    root, head = done.stdout.splitlines()
    return head if Path(root, "python", "orion_ane").resolve() == _PACKAGE else None


def ceilings(*, quick: bool) -> dict[int, Ceiling]:
    """Measured on one thread, and on all that this process uses."""
    size, seconds = (_QUICK_STREAM_BYTES, _QUICK_SECONDS) if quick else (_STREAM_BYTES, _SECONDS)
    return {
        threads: _ceiling(threads, size, seconds) for threads in sorted({1, _core.thread_count()})
    }


def ceiling_now() -> Ceiling:
    """Of all threads, measured briefly: on a shared machine it changes within seconds."""
    return _ceiling(_core.thread_count(), _STREAM_BYTES, _QUICK_SECONDS)


def _ceiling(threads: int, size: int, seconds: float) -> Ceiling:
    return Ceiling(**_core.cpu_ceiling(threads=threads, bytes=size, seconds=seconds))


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    if platform.system() == "Darwin":
        named = ["sysctl", "-n", "machdep.cpu.brand_string"]
        return subprocess.run(named, capture_output=True, text=True).stdout.strip()
    return platform.processor() or platform.machine()
