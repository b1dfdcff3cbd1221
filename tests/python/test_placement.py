"""Which device runs a model, and what is said about it."""

from __future__ import annotations

import json
from pathlib import Path

import orion_ane as orion
import pytest
from orion_ane import cli

GREEDY = json.loads(
    (Path(__file__).parents[1] / "golden" / "stories260K_greedy.json").read_text("utf-8")
)
PROFILES = ["paper-m4-macos15", "macos26", "macos27", "strict"]


@pytest.mark.parametrize("profile", PROFILES)
def test_greedy_text_is_the_cpus_on_every_profile(profile: str) -> None:
    m = orion.load("stories260K", device=f"sim:{profile}")
    assert m.generate_ids([1], max_tokens=64) == GREEDY["ids"][:64]
    assert (m.device, m.dtype, m.why_not_engine) == (f"sim:{profile}", "fp16", "")
    assert m.compile_seconds > 0


def test_the_cpu_may_decode_what_the_engine_has_read() -> None:
    m = orion.load("stories260K", device="sim:macos26", decode="cpu")
    assert m.generate_ids([1], max_tokens=32) == GREEDY["ids"][:32]
    assert m.device == "sim:macos26 for prompts, cpu"


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
    ]:
        with pytest.raises(orion.Error, match=message):
            orion.load(**arguments)  # type: ignore[arg-type]


def test_a_missing_engine_is_an_error_unless_the_policy_prefers(tmp_path: Path) -> None:
    with pytest.raises(orion.DeviceError, match="open: "):
        orion.load(device=f"ane:{tmp_path}/none")
    m = orion.load(device=f"ane:{tmp_path}/none", policy="prefer")
    assert m.device == "cpu"
    assert m.why_not_engine.startswith("open: ")


def test_statistics_say_where_and_why(capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["generate", "--prompt", "Once", "--max-tokens", "4"]
    assert cli.main([*arguments, "--device", "sim:macos26"]) == 0
    assert capsys.readouterr().err.startswith("sim:macos26 fp16 | compile ")
    assert cli.main([*arguments, "--device", "ane:/nowhere", "--policy", "prefer"]) == 0
    assert capsys.readouterr().err.startswith("cpu (not on the engine: open: ")
    assert cli.main([*arguments, "--device", "ane:/nowhere"]) == 1


def test_doctor_tells_what_works(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["doctor", "--device", "sim:macos26", "--json"]) == 0
    findings = json.loads(capsys.readouterr().out)
    verdicts = {row["strategy"]: row["eligible"] for row in findings["updates"]}
    assert verdicts == {"delta": False, "new_identity": True, "input": True, "recompile": True}
    assert cli.main(["doctor", "--device", "ane:/nowhere"]) == 1
    assert "device ane:/nowhere: open: " in capsys.readouterr().err
