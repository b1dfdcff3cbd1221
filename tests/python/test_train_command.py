"""`orion train` and `orion eval`, as they are used."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from orion_ane import cli
from orion_ane.training import checkpoints, metrics
from training_samples import GPT2, ids, token_file

Capture = pytest.CaptureFixture[str]
TRAIN = ["--steps", "3", "--batch", "2", "--seq", "8", "--lr", "1e-2", "--warmup", "1"]


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory to work in, with data.bin and tiny.json."""
    token_file(tmp_path)
    (tmp_path / "tiny.json").write_text(json.dumps(GPT2))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def train(*arguments: str, model: tuple[str, str] = ("--config", "tiny.json")) -> int:
    given = [*model, "--data", "data.bin", "--out", "out", *TRAIN, *arguments]
    return cli.main(["train", *given])


def test_trains_resumes_and_evaluates(place: Path, capsys: Capture) -> None:
    assert train("--save-every", "2", "--validation", "0.1", "--eval-every", "2") == 0
    captured = capsys.readouterr()
    assert captured.out.startswith("out/step-00000003: loss ")
    assert "step 2: saved in out/step-00000002" in captured.err
    assert "step 2: evaluation loss" in captured.err
    assert "from the start to step 3" in captured.err
    assert train("--validation", "0.1", "--resume", "--steps", "5") == 0
    assert "from step 3 to step 5" in capsys.readouterr().err
    lines = metrics.read(place / "out" / metrics.METRICS)
    assert [line["step"] for line in lines if line["event"] == "step"] == [1, 2, 3, 4, 5]
    assert cli.main(["eval", "--model", "out/step-00000005", "--data", "data.bin", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["tokens"] == (2000 - 1) // 32 * 32
    assert report["perplexity"] > 1
    assert (
        cli.main(["eval", "--model", "out/step-00000005", "--data", "data.bin", "--seq", "8"]) == 0
    )
    assert "| cpu fp32" in capsys.readouterr().out


def test_options_reach_the_trainer(place: Path) -> None:
    code = train(
        "--grad-accum", "2", "--schedule", "linear", "--lr-floor", "0.5", "--clip", "0",
        "--decay", "0.2", "--betas", "0.8", "0.9", "--epsilon", "1e-7", "--loss-scale", "8",
        "--keep-last", "1", "--seed", "4", "--device", "cpu", "--policy", "never",
        "--schedule-steps", "9", "--check-every", "7", "--eval-batches", "3",
    )  # fmt: skip
    assert code == 0
    stored = checkpoints.verify(place / "out" / "step-00000003")["settings"]
    expected = {
        "accumulation": 2, "schedule": "linear", "floor": 0.5, "clip": 0, "weight_decay": 0.2,
        "betas": [0.8, 0.9], "epsilon": 1e-7, "loss_scale": 8, "keep_last": 1, "seed": 4,
        "device": "cpu", "policy": "never", "schedule_steps": 9, "check_every": 7,
        "eval_batches": 3, "steps": 3, "batch": 2, "sequence": 8, "lr": 1e-2, "warmup": 1,
    }  # fmt: skip
    assert {name: stored[name] for name in expected} == expected


def test_a_model_is_trained_further_with_its_tokenizer(place: Path, capsys: Capture) -> None:
    token_file(place, ids(vocab=64))
    assert train(model=("--model", "stories260K")) == 0
    assert (place / "out/step-00000003/tokenizer.json").exists()
    assert cli.main(["generate", "--model", "out/step-00000003", "--prompt", "a"]) == 0
    assert "another tokenizer" not in capsys.readouterr().err


def test_a_simulated_engine_by_update_strategy(place: Path, capsys: Capture) -> None:
    config = json.loads((place / "tiny.json").read_text())
    (place / "tiny.json").write_text(json.dumps(config | {"n_layer": 1}))
    arguments = ("--device", "sim:macos26", "--update", "input", "--seq", "16", "--steps", "1")
    assert train(*arguments) == 0
    assert "on sim:macos26,update=input" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--steps", "0"], "expected an integer from 1 on, got '0'"),
        (["--lr", "nan"], "expected a number above 0, got 'nan'"),
        (["--lr", "0"], "expected a number above 0, got '0'"),
        (["--loss-scale", "big"], "--loss-scale"),
        (["--validation", "1.5"], "expected a number from 0 to 1, got '1.5'"),
        (["--schedule", "steep"], "invalid choice: 'steep'"),
        (["--warmup", "9"], "9 warm-up steps are more than the 3 in all"),
        (["--seq", "40"], "a sequence of 40 tokens, from 1 to the model's context of 32"),
        (["--data", "short.bin"], "fewer than one window"),
        (["--data", "beyond.bin"], "has id 64"),
        (["--data", "none.bin"], "none.bin"),
        (["--device", "tpu"], "unknown device 'tpu'"),
        (["--update", "delta"], "device 'cpu,update=delta'"),
        (["--device", "sim:macos26", "--update", "hope"], "unknown update strategy 'hope'"),
        (["--config", "none.json"], "none.json: no such file, nor a configuration by name"),
        (["--config", "short.bin"], "short.bin: not JSON"),
        (["--eval-every", "2"], "no data is kept for it"),
        (["--out", "."], "not empty, it holds 'beyond.bin' (--resume goes on"),
        (["--model", "stories260K"], "not allowed with argument"),
        (["--betas", "0.9", "1"], "a beta of 1"),
        (["--tokenizer", "none"], "none: no such file"),
    ],
)  # fmt: skip
def test_a_mistake_is_one_line_and_exit_code_2(
    place: Path, capsys: Capture, arguments: list[str], message: str
) -> None:
    for name, content in (("short.bin", ids(8)), ("beyond.bin", ids(vocab=65))):
        (place / name).write_bytes(content.astype("<u2").tobytes())
    try:
        code = train(*(["--device", "cpu"] if arguments[0] == "--update" else []), *arguments)
    except SystemExit as exit_:
        code = int(str(exit_.code))
    error = capsys.readouterr().err
    assert code == cli.USAGE_ERROR, error
    assert message in error
    assert error.startswith("orion: error: ")
    assert error.count("\n") == 1
    assert not (place / "out").exists()


@pytest.mark.usefixtures("place")
def test_a_run_that_is_done_or_another_is_not_resumed(capsys: Capture) -> None:
    assert train() == 0
    for arguments, message in (
        (["--resume"], "at step 3, and --steps is 3"),
        (["--resume", "--steps", "9", "--lr", "0.5"], "lr was 0.01 and is 0.5"),
        ([], "not empty"),
    ):
        capsys.readouterr()
        assert train(*arguments) == cli.USAGE_ERROR
        assert message in capsys.readouterr().err


def test_a_damaged_checkpoint_is_a_loud_warning(place: Path, capsys: Capture) -> None:
    assert train("--save-every", "1", "--schedule-steps", "3") == 0
    os.truncate(place / "out/step-00000003/model.safetensors", 99)
    capsys.readouterr()
    assert train("--resume", "--schedule-steps", "3") == 0
    error = capsys.readouterr().err
    assert "orion: warning: damaged, not used: out/step-00000003/model.safetensors" in error
    assert "from step 2 to step 3" in error


@pytest.mark.usefixtures("place")
def test_evaluation_mistakes(capsys: Capture) -> None:
    for arguments, message in (
        (["--model", "none", "--data", "data.bin"], "none: no such file"),
        (["--model", "stories260K", "--data", "none.bin"], "none.bin"),
        (["--model", "stories260K", "--data", "data.bin", "--seq", "9999"], "has 512 positions"),
    ):
        assert cli.main(["eval", *arguments]) == cli.USAGE_ERROR
        assert message in capsys.readouterr().err


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_saves_and_ends(place: Path, number: int, code: int) -> None:
    arguments = ["--config", "tiny.json", "--data", "data.bin", "--out", "out", *TRAIN]
    process = subprocess.Popen(
        [sys.executable, "-m", "orion_ane", "train", *arguments, "--steps", "100000"],
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
    )
    log = place / "out" / metrics.METRICS
    while not log.exists() or log.stat().st_size < 1000:
        assert process.poll() is None
        time.sleep(0.002)
    process.send_signal(number)
    error = process.communicate(timeout=60)[1]
    assert process.returncode == code
    (step,) = checkpoints.steps(place / "out")
    expected = f"{signal.Signals(number).name} after step {step} of 100000; saved in out/"
    assert expected in error
    checkpoints.verify(place / "out" / f"step-{step:08d}")


def test_help_names_every_setting(capsys: Capture) -> None:
    with pytest.raises(SystemExit):
        cli.main(["train", "--help"])
    text = capsys.readouterr().out
    for word in ("--steps N", "--lr LR", "default: 0.0003", "stories-15m", "gpt2-124m", "example:"):
        assert word in text
