"""`orion doctor`: what there is to run on, and what works."""

from __future__ import annotations

import argparse
import json
import platform
from pathlib import Path
from typing import Any

from orion_ane import _core


def add_doctor_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's arguments."""
    parser.add_argument(
        "--device", default="ane", help="ane (default), or a simulated one: sim:PROFILE"
    )
    parser.add_argument(
        "--no-updates", action="store_true", help="leave the update self-test out (it compiles)"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def doctor(options: argparse.Namespace) -> None:
    """Prints the findings; Error if the device cannot be used."""
    findings = examine(options.device, updates=not options.no_updates)
    print(json.dumps(findings, indent=1) if options.json else as_text(findings))
    if "problem" in findings:
        raise _core.Error(f"device {options.device}: {findings['problem']}")


def examine(device: str, *, updates: bool = True) -> dict[str, Any]:
    """Everything `orion doctor` shows, as data."""
    folder = Path(_core.cache_directory())
    findings: dict[str, Any] = {
        "orion": _core.__version__,
        "system": platform.platform(),
        "cpu threads": _core.thread_count(),
        "cache": {"path": str(folder), "bytes": _size(folder)},
        "device": device,
    }
    try:
        findings["engine"] = _core.engine_info(device)
        if updates:
            findings["updates"] = _core.update_verdicts(device)
        findings["usage"] = _core.engine_usage(device)
    except _core.Error as error:
        findings["problem"] = str(error)
    return findings


def _size(folder: Path) -> int:
    return sum(f.stat().st_size for f in folder.rglob("*") if f.is_file()) if folder.exists() else 0


def as_text(findings: dict[str, Any]) -> str:
    """The findings for people."""
    lines = [
        f"orion {findings['orion']} on {findings['system']}, {findings['cpu threads']} CPU threads",
        f"cache: {findings['cache']['path']}, {findings['cache']['bytes']} bytes",
        f"device {findings['device']}:",
    ]
    if engine := findings.get("engine"):
        lines += [
            f"  framework: {engine['framework']}",
            f"  chip {engine['chip']}, system build {engine['os_build']}",
            f"  {len(engine['found'])} classes and selectors as expected",
            *(f"  not as expected: {missing}" for missing in engine["missing"]),
        ]
    if usage := findings.get("usage"):
        lines.append(
            f"  compiles: {usage['compiles']} of {usage['compile_budget']} in this process"
        )
    for verdict in findings.get("updates", []):
        judged = (
            f"works, {verdict['seconds'] * 1000:.2f} ms" if verdict["eligible"] else "no effect"
        )
        why = f": {verdict['reason']}" if verdict["reason"] else ""
        lines.append(f"  weight update {verdict['strategy']}: {judged}{why}")
    return "\n".join(lines)
