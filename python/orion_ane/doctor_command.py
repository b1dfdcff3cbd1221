"""`orion doctor`: what there is to run on, and what works."""

from __future__ import annotations

import argparse
import json
import platform
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from orion_ane import _core

LABEL_WIDTH = 12


def add_doctor_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's arguments."""
    parser.add_argument(
        "--device",
        help="an engine that must be there: ane, or a simulated one: sim:PROFILE; or cpu. "
        "Default: ane, if there is one",
    )
    parser.add_argument(
        "--no-updates", action="store_true", help="leave the update self-test out (it compiles)"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def doctor(options: argparse.Namespace) -> None:
    """Prints the findings; Error if a device that was asked for cannot be used."""
    findings = examine(options.device or "ane", updates=not options.no_updates)
    print(json.dumps(findings, indent=1) if options.json else as_text(findings))
    if "problem" in findings and options.device:
        raise _core.DeviceError(f"device {options.device}: {findings['problem']}")


def examine(device: str, *, updates: bool = True) -> dict[str, Any]:
    """Everything `orion doctor` shows, as data. Error if there is no device of that name."""
    findings: dict[str, Any] = {
        "orion": _core.__version__,
        "system": platform.platform(),
        "cpu": {"threads": _core.thread_count(), "kernels": _core.cpu_kernels()},
        "cache": _contents(Path(_core.cache_directory())),
        "device": device,
    }
    if device == "cpu":
        return findings
    try:
        findings["engine"] = _core.engine_info(device)
        if updates:
            findings["updates"] = _core.update_verdicts(device)
        findings["usage"] = _core.engine_usage(device)
    except _core.DeviceError as error:
        findings["problem"] = str(error)
    return findings


def _contents(folder: Path) -> dict[str, Any]:
    files = [f.stat().st_size for f in folder.rglob("*") if f.is_file()]
    return {"path": str(folder), "files": len(files), "bytes": sum(files)}


def as_text(findings: dict[str, Any]) -> str:
    """The findings for people, a label before each."""
    return "\n".join(f"{label:{LABEL_WIDTH}}{text}".rstrip() for label, text in _rows(findings))


def _rows(findings: dict[str, Any]) -> Iterator[tuple[str, str]]:
    cpu, cache = findings["cpu"], findings["cache"]
    yield "orion", f"{findings['orion']} on {findings['system']}"
    yield "cpu", f"{cpu['threads']} threads, kernels for {cpu['kernels']}"
    yield "cache", f"{cache['path']}: {cache['files']} files, {cache['bytes']} bytes"
    if findings["device"] == "cpu":
        return
    yield "device", findings["device"]
    if engine := findings.get("engine"):
        yield from _engine_rows(engine)
    if usage := findings.get("usage"):
        yield (
            "budget",
            f"{usage['compiles']} of {usage['compile_budget']} compiles used in this process; "
            f"{usage['most_loaded']} programs may be loaded",
        )
    yield from _update_rows(findings.get("updates", []))
    if "problem" in findings:
        first, *rest = findings["problem"].splitlines()
        yield ("problem", first) if engine else ("framework", f"not usable: {first}")
        yield from (("", line) for line in rest)
        yield "", "models run on the CPU here; device sim:PROFILE simulates an engine"


def _engine_rows(engine: dict[str, Any]) -> Iterator[tuple[str, str]]:
    yield "framework", _framework(engine["framework"])
    if checked := engine["found"] + engine["missing"]:
        yield "checked", f"{_kinds(checked)}: {len(engine['missing']) or 'none'} not as expected"
        yield from (("", missing) for missing in engine["missing"])
    yield "chip", engine["chip"]
    yield "build", engine["os_build"]
    yield "profile", f"{engine['profile']}: the limits that programs are made for"


def _framework(path: str) -> str:
    return "none, the engine is simulated" if path == "simulator" else f"found: {path}"


def _kinds(checked: list[str]) -> str:
    """Of "+[Class selector:]", "-[Class selector:]: what is wrong", and exported names."""
    methods = [name for name in checked if name[0] in "+-"]
    classes = {name[2:].split(" ")[0] for name in methods}
    return (
        f"{len(classes)} classes, {len(methods)} selectors with their encodings, "
        f"{len(checked) - len(methods)} surface keys"
    )


def _update_rows(verdicts: list[dict[str, Any]]) -> Iterator[tuple[str, str]]:
    label = "updates"
    for verdict in verdicts:
        judged = f"works, {verdict['seconds'] * 1000:.2f} ms" if verdict["eligible"] else "no"
        why = f": {verdict['reason']}" if verdict["reason"] else ""
        yield label, f"{verdict['strategy']:{LABEL_WIDTH}}  {judged}{why}"
        label = ""
