"""Which device runs a model, and what is said about it."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import orion_ane as orion
import pytest
from orion_ane import _core, cli

GREEDY = json.loads(
    (Path(__file__).parents[1] / "golden" / "stories260K_greedy.json").read_text("utf-8")
)
PROFILES = ["paper-m4-macos15", "macos26", "macos27", "strict"]


@pytest.mark.parametrize("head", ["host", "engine"])
@pytest.mark.parametrize("profile", PROFILES)
def test_greedy_text_is_the_cpus_on_every_profile(profile: str, head: str) -> None:
    m = orion.load("stories260K", device=f"sim:{profile}", head=head)
    assert m.generate_ids([1], max_tokens=64) == GREEDY["ids"][:64]
    assert (m.device, m.dtype, m.why_not_engine) == (f"sim:{profile}", "fp16", "")
    assert m.head_device == (m.device if head == "engine" else "cpu")
    assert m.notes == []


def test_compiling_is_reported_apart() -> None:
    m = orion.load("stories260K", device="sim:macos26")
    m.generate_ids([1, 403], max_tokens=2)
    first = m.last_stats
    assert 0 < first.compile_seconds == pytest.approx(m.compile_seconds)
    assert 0 < first.prompt_seconds < first.first_token_seconds
    m.generate_ids([1, 403], max_tokens=2)
    again = m.last_stats
    assert again.compile_seconds == 0
    assert again.prompt_seconds == again.first_token_seconds


def test_the_cpu_may_decode_what_the_engine_has_read() -> None:
    m = orion.load("stories260K", device="sim:macos26", decode="cpu")
    assert m.generate_ids([1], max_tokens=32) == GREEDY["ids"][:32]
    assert m.device == "sim:macos26 for prompts, cpu"
    assert (m.prompt_device, m.decode_device, m.head_device) == ("sim:macos26", "cpu", "cpu")


def test_what_the_compile_budget_cannot_pay_for_is_read_otherwise_and_said(
    caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    (strict,) = (profile for profile in _core.profiles() if profile["name"] == "strict")
    _core.add_profile(strict | {"name": "two-sets", "compile_budget": 24})
    text = [1, *GREEDY["ids"][:40]]
    m = orion.load("stories260K", device="sim:two-sets")
    assert m.generate_ids(text[:9], max_tokens=8) == GREEDY["ids"][8:16]
    assert m.notes == []
    assert m.generate_ids(text, max_tokens=20) == GREEDY["ids"][40:60]
    (note,) = m.notes
    assert note.startswith("prompts that need 64 columns are read in 32 columns and then 16 at a")
    assert caplog.messages == [f"sim:two-sets: {note}"]
    prompt = " ".join(["Once upon a time"] * 9)
    cli.main(["generate", "--prompt", prompt, "--device", "sim:two-sets", "--max-tokens", "2"])
    said, statistics = capsys.readouterr().err.splitlines()
    assert said.startswith("orion: note: prompts that need 64 columns are read ")
    assert statistics.startswith("sim:two-sets fp16 | compile ")


def test_policies() -> None:
    assert "asked for" in orion.load(device="auto").why_not_engine
    never = orion.load(device="sim:strict", policy="never")
    assert (never.device, never.why_not_engine) == ("cpu", "policy 'never'")
    for arguments, message in [
        ({"device": "cpu", "policy": "require"}, "policy 'require' asks for the engine"),
        ({"policy": "always"}, "policy 'always'"),
        ({"device": "sim:macos26", "dtype": "fp32"}, "the engine computes in fp16"),
        ({"device": "sim:macos99"}, "macos99"),
        ({"decode": "gpu"}, "decode 'gpu'"),
        ({"head": "gpu"}, "head 'gpu'"),
        ({"head": "engine"}, "head 'engine' needs an engine"),
        ({"device": "cpu", "head": "engine"}, "head 'engine' needs an engine"),
        ({"device": "sim", "decode": "cpu", "head": "engine"}, "with decode 'cpu' the CPU"),
        ({"device": "tpu", "policy": "never"}, "unknown device 'tpu'"),
        ({"device": "sim:none", "policy": "never"}, "unknown profile 'none'"),
    ]:
        with pytest.raises(orion.Error, match=message):
            orion.load(**arguments)  # type: ignore[arg-type]


def test_a_missing_engine_is_an_error_unless_the_policy_prefers(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for policy in (None, "require"):
        with pytest.raises(orion.DeviceError, match=r"ane:.*/none': open: .*policy 'prefer'"):
            orion.load(device=f"ane:{tmp_path}/none", policy=policy)
    m = orion.load(device=f"ane:{tmp_path}/none", policy="prefer")
    assert m.device == "cpu"
    assert m.why_not_engine.startswith("open: ")
    assert [(r.name, r.levelno) for r in caplog.records] == [("orion_ane", logging.WARNING)]
    assert m.why_not_engine in caplog.text


def test_statistics_say_where_and_why(capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["generate", "--prompt", "Once", "--max-tokens", "4"]
    assert cli.main([*arguments, "--device", "sim:macos26"]) == 0
    assert capsys.readouterr().err.startswith("sim:macos26 fp16 | compile ")
    assert cli.main([*arguments, "--device", "ane:/nowhere", "--policy", "prefer"]) == 0
    note, statistics = capsys.readouterr().err.splitlines()
    assert note.startswith("orion: note: on the CPU, not on the engine: open: ")
    assert statistics.startswith("cpu fp32 | not on the engine: open: ")
    assert cli.main([*arguments, "--device", "ane:/nowhere"]) == 1


def test_doctor_tells_what_works(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["doctor", "--device", "sim:macos26", "--json"]) == 0
    findings = json.loads(capsys.readouterr().out)
    verdicts = {row["strategy"]: row["eligible"] for row in findings["updates"]}
    assert verdicts == {"delta": False, "new_identity": True, "input": True, "recompile": True}
    assert findings["engine"]["profile"] == "macos26"
    assert findings["usage"]["compile_budget"] == 119
    assert set(findings["cache"]) == {"path", "files", "bytes"}


DOCTOR: list[tuple[str, int, list[str]]] = [
    ("--device sim:strict", 0, ["profile     strict", "budget      ", "updates     delta"]),
    ("--device cpu", 0, ["cpu         ", "cache       "]),
    ("--device ane:/nowhere", 1, ["framework   not usable: open: ", "models run on the CPU here"]),
]


@pytest.mark.parametrize(("arguments", "code", "lines"), DOCTOR)
def test_doctor_for_reading(
    arguments: str, code: int, lines: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["doctor", *arguments.split()]) == code
    out, err = capsys.readouterr()
    for line in lines:
        assert line in out
    assert (f"orion: error: device {arguments.split()[1]}: " in err) == (code != 0)


def test_doctor_finds_no_engine_where_none_was_asked_for(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def absent(device: str) -> Any:
        raise orion.DeviceError(f"open: no {device}\nat all")

    monkeypatch.setattr(_core, "engine_info", absent)
    assert cli.main(["doctor"]) == 0
    assert "framework   not usable: open: no ane\n            at all" in capsys.readouterr().out


def test_doctor_refuses_what_is_no_device(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["doctor", "--device", "tpu"]) == 1
    out, err = capsys.readouterr()
    assert (out, "unknown device 'tpu'" in err) == ("", True)
