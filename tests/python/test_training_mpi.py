"""Processes that train together over MPI do what one would do alone."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from orion_ane import cli
from orion_ane.training import checkpoints, metrics
from training_samples import GPT2, assert_same, files_of, token_file

if shutil.which("mpirun") is None:
    pytest.skip("needs mpirun (openmpi-bin)", allow_module_level=True)
if importlib.util.find_spec("mpi4py") is None:
    pytest.skip("needs mpi4py", allow_module_level=True)

# A large epsilon makes AdamW's step proportional to the gradient: else it would turn the rounding
# of gradients that are nearly zero into whole steps.
OPTIONS = ["--steps", "6", "--seq", "8", "--lr", "1e-2", "--epsilon", "1e-2", "--seed", "1"]
EVALUATION = ["--validation", "0.1", "--eval-every", "3", "--eval-batches", "3"]


def arguments_of(directory: Path, out: str, *more: str) -> list[str]:
    files = ["--config", str(directory / "tiny.json"), "--data", str(directory / "data.bin")]
    return ["train", *files, "--out", str(directory / out), *OPTIONS, *EVALUATION, *more]


def together(processes: int, arguments: list[str]) -> subprocess.CompletedProcess[str]:
    launcher = ["mpirun", "-n", str(processes), "--oversubscribe", "--bind-to", "none"]
    return subprocess.run(
        [*launcher, sys.executable, "-m", "orion_ane", *arguments, "--threads", "1"],
        env=os.environ
        | {
            "PYTHONPATH": os.pathsep.join(sys.path),
            "OMPI_ALLOW_RUN_AS_ROOT": "1",
            "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
        },
        capture_output=True,
        text=True,
        timeout=120,
    )


@pytest.fixture
def place(tmp_path: Path) -> Path:
    token_file(tmp_path)
    (tmp_path / "tiny.json").write_text(json.dumps(GPT2))
    return tmp_path


def losses_of(out: Path) -> list[float]:
    return [line["loss"] for line in metrics.read(out / metrics.METRICS) if "loss" in line]


def test_two_with_half_the_batch_are_one_with_all_of_it(place: Path) -> None:
    assert cli.main(arguments_of(place, "one", "--batch", "4")) == 0
    done = together(2, arguments_of(place, "two", "--batch", "2", "--save-every", "3"))
    assert done.returncode == 0, done.stderr
    assert "cpu, 2 processes; from the start to step 6" in done.stderr
    assert done.stderr.count("saved in") == 2  # by the first process alone
    one, two = losses_of(place / "one"), losses_of(place / "two")
    np.testing.assert_allclose(two, one, rtol=1e-6)
    alone, both = files_of(place / "one", 6), files_of(place / "two", 6)
    for name, array in alone.items():
        scale = float(np.abs(array).max())
        np.testing.assert_allclose(both[name], array, rtol=0, atol=1e-6 * scale, err_msg=name)

    shutil.copytree(place / "two", place / "parts")
    shutil.rmtree(checkpoints.directory_of(place / "parts", 6))
    done = together(2, arguments_of(place, "parts", "--batch", "2", "--resume"))
    assert done.returncode == 0, done.stderr
    assert "from step 3 to step 6" in done.stderr
    assert_same(both, files_of(place / "parts", 6))


def test_two_train_an_adapter_as_one_does(place: Path) -> None:
    """With dropout: each process draws the masks of its own windows."""
    assert cli.main(["train", "--config", str(place / "tiny.json"), "--data",
                     str(place / "data.bin"), "--out", str(place / "base"), "--steps", "1",
                     "--seq", "8"]) == 0  # fmt: skip
    base = ["lora", "train", "--model", str(place / "base" / "step-00000001")]
    base += ["--data", str(place / "data.bin"), *OPTIONS, *EVALUATION, "--dropout", "0.3"]
    assert cli.main([*base, "--out", str(place / "one"), "--batch", "4"]) == 0
    done = together(2, [*base, "--out", str(place / "two"), "--batch", "2"])
    assert done.returncode == 0, done.stderr
    one, two = losses_of(place / "one"), losses_of(place / "two")
    np.testing.assert_allclose(two, one, rtol=1e-6)
    whole = [*base, "--out", str(place / "open"), "--batch", "4", "--dropout", "0"]
    assert cli.main(whole) == 0
    assert losses_of(place / "open")[1:] != one[1:]


def test_a_mistake_ends_all_of_them(place: Path) -> None:
    (place / "two").mkdir()
    (place / "two" / "notes.txt").write_text("mine")
    done = together(2, arguments_of(place, "two", "--batch", "2"))
    assert done.returncode == cli.USAGE_ERROR
    assert "process 0:" in done.stderr
    assert "not empty" in done.stderr
