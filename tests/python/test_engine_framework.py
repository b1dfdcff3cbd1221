"""The `ane` device as on a Mac, its Objective-C++ included, over the simulated framework.

Needs a build with ORION_ANE=ON, and ORION_SIMULATED_FRAMEWORK naming the library that the C++ tests
build (libSimulatedNeuralEngine.so).
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import orion_ane as orion
import pytest

FRAMEWORK = os.environ.get("ORION_SIMULATED_FRAMEWORK", "")
GOLDEN = Path(__file__).parents[1] / "golden" / "stories260K_greedy.json"
PROFILES = ["paper-m4-macos15", "macos26", "macos27", "strict"]

pytestmark = pytest.mark.skipif(
    not FRAMEWORK, reason="ORION_SIMULATED_FRAMEWORK is not set: build with ORION_ANE=ON"
)

GENERATE = """
import json, sys
import orion_ane as orion
m = orion.load(sys.argv[2], device="ane", decode=sys.argv[1])
print(json.dumps({"ids": m.generate_ids([1], max_tokens=48), "device": m.device}))
"""

UPDATE = """
import json
import numpy as np
import orion_ane as orion
from orion_ane import _core, ops

g = orion.Graph()
x = g.input("x", (1, 384, 1, 64), "fp16")
g.output("y", ops.conv(x, g.weight("w", (384, 384, 1, 1), "fp16")))
old, new = (np.full((384, 384, 1, 1), v, np.float16) for v in (0.01, 0.02))
ones = np.ones((1, 384, 1, 64), np.float16)
p = orion.compile(g, {"w": old}, device="ane")
before = p(x=ones)["y"]
p.update({"w": new})
after = p(x=ones)["y"]
fresh = orion.compile(g, {"w": new}, device="ane")(x=ones)["y"]
print(json.dumps({
    "changed": not np.array_equal(before, after),
    "equal": np.array_equal(after, fresh),
    "delta": _core.update_verdicts("ane")[0]["eligible"],
}))
"""

# The same few programs again and again: each update stages one and unloads another.
CHURN = """
import json, sys
import numpy as np
import orion_ane as orion
from orion_ane import ops

g = orion.Graph()
x = g.input("x", (1, 384, 1, 64), "fp16")
g.output("y", ops.conv(x, g.weight("w", (384, 384, 1, 1), "fp16")))
weights = [np.full((384, 384, 1, 1), v, np.float16) for v in (0.25, 0.5, 1)]
ones = np.ones((1, 384, 1, 64), np.float16)
p = orion.compile(g, {"w": weights[0]}, device=sys.argv[1])
wrong = 0
for i in range(40):
    p.update({"w": weights[i % 3]})
    wrong += int(not np.all(p(x=ones)["y"] == 384 * weights[i % 3][0, 0, 0, 0]))
print(json.dumps({"wrong": wrong}))
"""


def start(script: str, profile: str, cache: Path, *arguments: str) -> subprocess.Popen[str]:
    """A script in a process of its own on one simulated machine."""
    environment = os.environ | {
        "ORION_ANE_FRAMEWORK": FRAMEWORK,
        "ORION_SIM_PROFILE": profile,
        "ORION_CACHE_DIR": str(cache),
    }
    return subprocess.Popen(
        [sys.executable, "-c", script, *arguments],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def answer_of(process: subprocess.Popen[str]) -> dict[str, object]:
    """What the script prints."""
    try:
        out, errors = process.communicate(timeout=120)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
        raise
    assert process.returncode == 0, errors
    answer: dict[str, object] = json.loads(out)
    return answer


def run(script: str, profile: str, cache: Path, *arguments: str) -> dict[str, object]:
    """What a script prints, run in a process of its own on one simulated machine."""
    return answer_of(start(script, profile, cache, *arguments))


@pytest.mark.parametrize("profile", PROFILES)
@pytest.mark.parametrize("decode", ["engine", "cpu"])
def test_greedy_text_is_the_cpus(profile: str, decode: str, tmp_path: Path) -> None:
    expected = json.loads(GOLDEN.read_text("utf-8"))["ids"][:48]
    answer = run(GENERATE, profile, tmp_path, decode, "stories260K")
    assert answer["ids"] == expected
    assert str(answer["device"]).startswith("ane")


def test_greedy_text_of_a_package_is_the_cpus(tmp_path: Path) -> None:
    orion.compile_model("stories260K", tmp_path / "stories", buckets=[32])
    expected = json.loads(GOLDEN.read_text("utf-8"))["ids"][:48]
    answer = run(GENERATE, "macos26", tmp_path / "cache", "engine", str(tmp_path / "stories"))
    assert answer == {"ids": expected, "device": "ane"}


@pytest.mark.parametrize("profile", PROFILES)
def test_updates_are_truthful(profile: str, tmp_path: Path) -> None:
    expected_delta = profile == "paper-m4-macos15"
    for _ in range(2):  # tested, then remembered on disk
        answer = run(UPDATE, profile, tmp_path)
        assert answer == {"changed": True, "equal": True, "delta": expected_delta}
    assert list(tmp_path.glob("updates-*.txt"))


@pytest.mark.parametrize(
    ("profile", "update"),
    [("macos26", "new_identity"), ("macos27", "recompile"), ("paper-m4-macos15", "delta")],
)
def test_processes_that_stage_the_same_programs_at_once_leave_each_other_alone(
    profile: str, update: str, tmp_path: Path
) -> None:
    device = f"ane,update={update}"
    run(UPDATE, profile, tmp_path)  # tests the strategies, for all
    processes = [start(CHURN, profile, tmp_path, device) for _ in range(4)]
    try:
        assert [answer_of(process) for process in processes] == [{"wrong": 0}] * 4
    finally:
        for process in processes:
            process.kill()
            process.communicate()
