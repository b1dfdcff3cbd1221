"""Limits, profiles and checks as Python sees them, and `orion probe`."""

import json
import re
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orion_ane as orion
import pytest
from orion_ane import _core, ane, cli, mil, ops, probe_command

ROOT = Path(__file__).parents[2]


def joined() -> orion.Graph:
    graph = orion.Graph()
    x = graph.input("x_in", (1, 64, 1, 32), "fp16")
    graph.output("z", ops.concat([x, x], axis=1))
    return graph


def test_every_limit_is_on_the_page_of_constraints() -> None:
    page = (ROOT / "docs" / "constraints.md").read_text()
    headings = re.findall(r"^### (.+)$", page, re.MULTILINE)
    assert headings == [row["id"] for row in ane.limits()]
    for row in ane.limits():
        assert row["rule"] in page
        assert row["evidence"] in page


def test_the_papers_twenty_are_there_once_each() -> None:
    numbers = [row["paper"] for row in ane.limits() if row["paper"] is not None]
    assert sorted(numbers) == list(range(1, 21))


def test_strict_is_the_union() -> None:
    held = {row["name"]: set(row["limits"]) for row in ane.profiles()}
    strict = held.pop("strict")
    assert strict == set().union(*held.values())


@pytest.mark.parametrize("form", [joined, lambda: mil.emit(joined())], ids=["graph", "text"])
def test_a_violation_names_limit_and_place(form: Callable[[], orion.Graph | str]) -> None:
    (found,) = ane.violations(form(), "paper-m4-macos15")
    assert found.limit == "concat-rejected"
    assert "concat 'z' of fp16 (1, 128, 1, 32)" in found.where
    with pytest.raises(orion.Error, match=r"concat-rejected \(paper-m4-macos15\): concat 'z'"):
        ane.verify(form(), "paper-m4-macos15")
    ane.verify(form(), "macos26")


def test_an_unknown_profile_lists_the_known_ones() -> None:
    with pytest.raises(orion.Error, match="unknown profile 'macos9': paper-m4-macos15, macos26"):
        ane.violations(joined(), "macos9")


def test_legalize_meets_the_profile() -> None:
    graph = orion.Graph()
    x = graph.input("x", (1, 64, 1, 32), "fp16")
    graph.output("z", ops.gelu(ops.rsqrt(x)))
    assert ane.violations(graph, "strict")
    ane.verify(ane.legalize(graph, "strict"), "strict")


# -- measured profiles --------------------------------------------------------------------------


def measured(tmp_path: Path, **changes: object) -> Path:
    profile = {**ane.profiles()[1], "name": f"measured-{tmp_path.name}", **changes}
    path = tmp_path / "profile.json"
    path.write_text(json.dumps({"profile": profile, "probes": []}))
    return path


def test_a_file_serves_as_profile(tmp_path: Path) -> None:
    path = measured(tmp_path, limits=["concat-rejected"])
    assert [found.limit for found in ane.violations(joined(), path)] == ["concat-rejected"]
    assert [found.limit for found in ane.violations(joined(), str(path))] == ["concat-rejected"]
    name = ane.load_profile(path)
    assert [found.limit for found in ane.violations(joined(), name)] == ["concat-rejected"]


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"limits": ["no-such-limit"]}, "unknown limit 'no-such-limit'"),
        ({"minimum_width": "wide"}, "'minimum_width' is 'wide'"),
        ({"name": "macos26", "minimum_width": 1}, "'macos26' exists and differs"),
    ],
)
def test_a_damaged_profile_is_refused(
    tmp_path: Path, changes: dict[str, object], complaint: str
) -> None:
    with pytest.raises(orion.Error, match=complaint):
        ane.load_profile(measured(tmp_path, **changes))


@pytest.mark.parametrize("text", ["{", "[]", '{"profile": 3}', "\N{SNOWMAN}"])
def test_a_file_that_is_no_profile_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "p.json"
    path.write_text(text, encoding="utf-16")
    with pytest.raises(orion.Error, match=r"p\.json: no profile"):
        ane.load_profile(path)
    path.write_text(text, encoding="utf-8")
    with pytest.raises(orion.Error, match=r"p\.json: no profile"):
        ane.load_profile(path)


# -- orion probe --------------------------------------------------------------------------------


def probe(*arguments: str) -> int:
    return cli.main(["probe", *arguments])


def test_probe_writes_a_profile(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "profile.json"
    device = "sim:paper-m4-macos15"
    assert probe("--device", device, "--only", "P1", "--only", "P3", "-o", str(path)) == 0
    shown = capsys.readouterr().out
    assert "P1   Does loading again take changed weight files? yes" in shown
    stored = json.loads(path.read_text())
    assert stored["profile"]["name"] == "measured-paper-m4-macos15-simulated"
    assert stored["profile"]["reload_reads_files"] is True
    assert stored["profile"]["minimum_width"] == 16
    assert [row["probe"] for row in stored["probes"]] == ["P1", "P3"]
    assert ane.load_profile(path) == stored["profile"]["name"]


def test_probe_json_is_a_line_per_probe(capsys: pytest.CaptureFixture[str]) -> None:
    assert probe("--device", "sim:macos26", "--only", "P1", "--json") == 0
    (line,) = capsys.readouterr().out.splitlines()
    row = json.loads(line)
    assert row["result"] == "no"
    assert row["limits"] == {"reload-ignores-files": True}
    assert row["numbers"] == {"reload_reads_files": 0}


def test_a_probe_that_is_not_asked_is_shown_with_its_reason(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert probe("--device", "sim:macos26", "--only", "P16") == 0
    head, reason = capsys.readouterr().out.splitlines()
    assert head.startswith("P16  Does a request with shared events")
    assert "not asked" in head
    assert "a block" in reason
    page = (ROOT / "docs" / "constraints.md").read_text()
    assert "Not asked: a handler is a block" in page


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--only", "P99"], "unknown probe 'P99': P1, P2"),
        (["--device", "cpu", "--only", "P1"], "device 'cpu' has no engine to probe"),
        (["--device", "sim:nothing", "--only", "P1"], "unknown profile 'nothing'"),
    ],
)
def test_probe_says_what_it_cannot_do(
    arguments: list[str], complaint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert probe(*arguments) == 1
    assert complaint in capsys.readouterr().err


def test_a_probe_that_kills_its_process_is_a_result(monkeypatch: pytest.MonkeyPatch) -> None:
    script = "import os, signal; os.kill(os.getpid(), signal.SIGKILL)"
    real = subprocess.run

    def killed(command: list[str], **options: Any) -> subprocess.CompletedProcess[str]:
        return real([command[0], "-c", script], **options)

    monkeypatch.setattr(subprocess, "run", killed)
    row = probe_command.run("sim:macos26", "P1")
    assert row["result"] == "crashed"
    assert "exit status -9" in row["detail"]
    with pytest.raises(_core.Error, match="no probe came to an end"):
        probe_command.write_profile([row], Path("never-written.json"))
