"""Trainer: what it starts from, what it reports, and that it goes on exactly where it was."""

from __future__ import annotations

import json
import math
import os
import resource
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import orion_ane
import pytest
from orion_ane import Error, Trainer, data
from orion_ane.initialization import random_weights
from orion_ane.presets import PRESETS
from orion_ane.training import (
    DamagedCheckpointWarning,
    Evaluation,
    Interrupted,
    Saved,
    Step,
    checkpoints,
    evaluate,
    metrics,
    parallel,
)
from training_samples import GPT2, LLAMA, assert_same, files_of, ids, run, token_file

BUNDLED = "stories260K"

# -- what it starts from --------------------------------------------------------------------------


@pytest.mark.parametrize(
    "config", [GPT2 | {"n_embd": 48, "n_layer": 3}, LLAMA], ids=["gpt2", "llama"]
)
def test_weights_are_drawn_as_transformers_draws_them(config: dict[str, Any]) -> None:
    transformers = pytest.importorskip("transformers")
    theirs = transformers.AutoModelForCausalLM.from_config(
        transformers.AutoConfig.for_model(**config)
    )
    ours = random_weights(config, seed=1)
    for name, parameter in theirs.named_parameters():
        wanted = parameter.detach().numpy()
        mean, deviation = wanted.mean(), wanted.std()
        assert ours[name].shape == wanted.shape
        spread = 5 / math.sqrt(wanted.size)
        assert ours[name].mean() == pytest.approx(mean, abs=0.02 * 2 * spread + 1e-9)
        assert ours[name].std() == pytest.approx(deviation, rel=2 * spread, abs=1e-9)
    again, other = random_weights(config, seed=1), random_weights(config, seed=2)
    assert_same(ours, again)
    assert any((ours[name] != other[name]).any() for name in ours)


@pytest.mark.parametrize("name", PRESETS)
def test_presets_are_configurations(name: str) -> None:
    shapes = orion_ane._core.model_weights(PRESETS[name])
    millions = sum(math.prod(shape) for shape in shapes.values()) / 1e6
    assert millions == pytest.approx(float(name.split("-")[1].removesuffix("m")), rel=0.2)


def test_a_model_given_has_the_new_weights_and_keeps_them() -> None:
    model = orion_ane.load(BUNDLED)
    before = model.logits([1, 2, 3])
    trainer = run(model=model, data=ids(vocab=512), steps=2)
    trainer.train()
    after = model.logits([1, 2, 3])
    assert trainer.model is model
    assert np.abs(after - before).max() > 0.01
    trainer._core.accumulate(*next(trainer.data))
    trainer._core.step(0.1)
    assert np.array_equal(model.logits([1, 2, 3]), after)
    assert np.abs(trainer.model.logits([1, 2, 3]) - after).max() > 0.01
    assert isinstance(model.generate("Once", max_tokens=3), str)


def test_learns_and_generates_what_it_learnt() -> None:
    counting = np.arange(2000, dtype=np.int64) % 64
    trainer = run(data=counting, steps=60, lr=3e-2, batch=8, sequence=16)
    first = trainer._core.evaluate(*next(trainer.data))
    last = trainer.train()
    assert first == pytest.approx(math.log(64), rel=0.02)
    assert last is not None
    assert last.loss < 0.5 * first
    assert trainer.model.generate_ids([16, 17, 18], max_tokens=3) == [19, 20, 21]
    with pytest.raises(Error, match="without a tokenizer"):
        trainer.model.generate("a")


@pytest.mark.parametrize("model", [GPT2, LLAMA], ids=["gpt2", "llama"])
def test_products_in_bf16_learn_alike(model: dict[str, Any]) -> None:
    losses: dict[str, list[float]] = {}
    for precision in ("fp32", "bf16"):
        heard = losses.setdefault(precision, [])
        run(
            model=model,
            steps=12,
            precision=precision,
            on_step=lambda step, heard=heard: heard.append(step.loss),
        ).train()
    assert len(losses["bf16"]) == 12
    assert losses["bf16"] != losses["fp32"]
    assert losses["bf16"] == pytest.approx(losses["fp32"], rel=0.01)


def test_data_may_be_a_path_an_array_or_a_dataset(tmp_path: Path) -> None:
    path = token_file(tmp_path)
    losses = []
    for given in (path, str(path), ids(), data.Dataset(path, batch=2, sequence=8)):
        last = run(data=given, steps=2).train()
        assert last is not None
        losses.append(last.loss)
    assert losses == [losses[0]] * 4


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"steps": 0}, "steps is 0, an integer from 1 on"),
        ({"accumulation": 1.5}, "accumulation is 1.5"),
        ({"lr": -1.0}, "learning rate of -1"),
        ({"lr": math.nan}, "learning rate of nan"),
        ({"schedule": "steep"}, "schedule 'steep': constant, linear or cosine"),
        ({"warmup": 9, "steps": 3}, "9 warm-up steps are more than the 3"),
        ({"floor": 2.0}, "floor of 2"),
        ({"betas": (0.9,)}, "two numbers"),
        ({"betas": (0.9, 1.0)}, "beta of 1"),
        ({"loss_scale": "static"}, "'dynamic' is needed"),
        ({"loss_scale": 0.0}, "a positive number"),
        ({"weight_decay": -1.0}, "weight decay of -1"),
        ({"precision": "fp16"}, "precision 'fp16', fp32 or bf16 is needed"),
        ({"device": "sim:strict", "precision": "bf16"}, "products in bf16: on cpu exact or bf16"),
        ({"sequence": 64}, "1 to the model's context of 32"),
        ({"sequence": 64, "data": ids(60)}, "fewer than one window"),
        ({"data": ids() + 1}, "id 64"),
        ({"data": ids().astype(np.float32)}, "integers is needed"),
        ({"device": "tpu"}, "unknown device 'tpu'"),
        ({"device": "cpu,update=delta"}, "update"),
        ({"device": "sim:strict,update=hope"}, "unknown update strategy 'hope'"),
        ({"eval_every": 1}, "no data is kept"),
        ({"save_every": 1}, "need a directory"),
        ({"model": {"model_type": "rnn"}}, "model_type 'rnn' is unknown"),
        ({"model": GPT2 | {"initializer_range": "wide"}}, "initializer_range is 'wide'"),
        ({"model": "missing"}, "no such file"),
        ({"speed": 3}, "no option 'speed'"),
    ],
)  # fmt: skip
def test_what_makes_no_sense_is_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(Error, match=message):
        run(**options)


def test_data_of_another_tokenizer_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "data.bin"
    writer = orion_ane._core.TokenWriter(path, 512, None, "A" * 64)
    writer.write(ids())
    writer.commit(1, 0)
    with pytest.warns(UserWarning, match="another tokenizer"):
        run(model=BUNDLED, data=path)


# -- what it reports ------------------------------------------------------------------------------


def test_callbacks_hear_everything_and_false_ends_it(tmp_path: Path) -> None:
    heard: list[Any] = []

    def on_save(saved: Saved) -> bool:
        heard.append(saved)
        return saved.step != 4

    trainer = run(
        tmp_path / "out",
        steps=9,
        save_every=2,
        eval_every=3,
        validation=0.1,
        on_step=heard.append,
        on_eval=heard.append,
        on_save=on_save,
    )
    trainer.train()
    kinds = [(type(each), each.step) for each in heard]
    assert kinds == [
        (Step, 1), (Step, 2), (Saved, 2), (Step, 3), (Evaluation, 3), (Step, 4), (Saved, 4),
    ]  # fmt: skip
    assert [line["step"] for line in metrics.read(tmp_path / "out" / metrics.METRICS)] == [
        1, 2, 2, 3, 3, 4, 4,
    ]  # fmt: skip
    last = trainer.train()  # the rest
    assert last is not None
    assert last.step == 9


def test_times_add_up_to_the_wall_time(tmp_path: Path) -> None:
    moments: list[float] = []
    run(
        tmp_path / "out",
        steps=6,
        accumulation=2,
        save_every=2,
        eval_every=2,
        validation=0.2,
        on_step=lambda _: moments.append(time.perf_counter()),
    ).train()
    lines = metrics.read(tmp_path / "out" / metrics.METRICS)
    for line in lines:
        if line["event"] == "step":
            assert sum(line["times"].values()) == pytest.approx(line["seconds"], rel=1e-9)
            assert min(line["times"].values()) >= 0
            assert set(line["times"]) == {
                "data", "device", "host", "gradients", "optimizer", "update", "reduce", "other",
            }  # fmt: skip
            assert line["tokens_per_second"] == line["tokens"] / line["seconds"]
            assert line["tokens"] == 2 * 2 * 8
    assert [line["event"] for line in lines].count("checkpoint") == 3
    assert [line["event"] for line in lines[-3:]] == ["step", "evaluation", "checkpoint"]
    wall = moments[-1] - moments[0]  # from the end of the first step to that of the last
    assert 0.7 * wall < sum(line["seconds"] for line in lines[1:-2]) < 1.02 * wall


def test_evaluation_is_the_models_loss_on_the_same_windows(tmp_path: Path) -> None:
    path = token_file(tmp_path)
    trainer = run(data=ids(), validation=path, steps=3, batch=7)
    trainer.train()
    found = trainer.evaluate()
    dataset = data.Dataset(path, 3, 8, vocab=64, shuffle=False)
    independent = evaluate(trainer.model, dataset)
    assert found.tokens == independent.tokens == (2000 - 1) // 8 * 8
    assert found.loss == pytest.approx(independent.loss, rel=1e-5)
    assert found.perplexity == pytest.approx(math.exp(found.loss))
    assert evaluate(trainer.model, dataset, batches=2).tokens == 2 * 3 * 8


def test_numbers_that_json_has_not_are_null() -> None:
    step = Step(1, 2.0, 1e-3, math.inf, 1024.0, True, 16, 0.5)
    line = metrics.as_json(step)
    assert line["gradient_norm"] is None
    assert line["skipped"] is True
    json.dumps(line, allow_nan=False)


def test_tensorboard_gets_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "out"
    with monkeypatch.context() as absent:
        absent.setitem(sys.modules, "tensorboard", None)
        with pytest.raises(Error, match=r"pip install 'orion-ane\[tensorboard\]'"):
            run(out, steps=1, tensorboard=True)
    pytest.importorskip("tensorboard")
    run(out, steps=2, tensorboard=True).train()
    (events,) = (out / metrics.BOARD).iterdir()
    content = events.read_bytes()
    assert content.count(b"step/loss") >= 2
    assert b"step/tokens_per_second" in content


def test_the_curve_is_a_picture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run(tmp_path / "out", steps=2, validation=0.1, eval_every=1).train()
    with monkeypatch.context() as absent:
        absent.setattr("importlib.util.find_spec", lambda _: None)
        assert metrics.plot(tmp_path / "out") is None
    pytest.importorskip("matplotlib")
    picture = metrics.plot(tmp_path / "out")
    assert picture is not None
    assert picture.read_bytes().startswith(b"\x89PNG")


# -- checkpoints ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "config",
    [GPT2, LLAMA, LLAMA | {"tie_word_embeddings": True}],
    ids=["gpt2", "llama", "llama-tied"],
)
def test_transformers_and_orion_load_a_checkpoint(tmp_path: Path, config: dict[str, Any]) -> None:
    trainer = run(tmp_path / "out", model=config, steps=3)
    trainer.train()
    directory = checkpoints.directory_of(tmp_path / "out", 3)
    ours = trainer.model.logits([1, 2, 3, 4])
    assert np.array_equal(orion_ane.load(directory).logits([1, 2, 3, 4]), ours)
    torch, transformers = pytest.importorskip("torch"), pytest.importorskip("transformers")
    theirs, info = transformers.AutoModelForCausalLM.from_pretrained(
        directory, output_loading_info=True
    )
    assert not any(info["missing_keys"]) and not any(info["unexpected_keys"])  # noqa: PT018
    with torch.no_grad():
        logits = theirs(torch.tensor([[1, 2, 3, 4]])).logits[0].numpy()
    np.testing.assert_allclose(ours, logits, rtol=0, atol=1e-5)


def test_a_checkpoint_brings_the_tokenizer(tmp_path: Path) -> None:
    trainer = run(tmp_path / "out", model=BUNDLED, data=ids(vocab=512), steps=1)
    trainer.train()
    loaded = orion_ane.load(checkpoints.directory_of(tmp_path / "out", 1))
    assert loaded.generate("Once", max_tokens=5) == trainer.model.generate("Once", max_tokens=5)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"accumulation": 2, "schedule": "linear", "model": LLAMA},
        {"device": "sim:strict", "model": LLAMA, "sequence": 16},
    ],
    ids=["cpu", "accumulation", "simulated engine"],
)
def test_ten_steps_and_ten_more_are_twenty(tmp_path: Path, options: dict[str, Any]) -> None:
    half, total = (2, 4) if "device" in options else (10, 20)
    options = options | {"schedule_steps": total}
    run(tmp_path / "whole", steps=total, **options).train()
    run(tmp_path / "parts", steps=half, **options).train()
    second = run(tmp_path / "parts", steps=total, **options)
    assert second.resume() == checkpoints.directory_of(tmp_path / "parts", half)
    second.train()
    assert_same(files_of(tmp_path / "whole", total), files_of(tmp_path / "parts", total))
    records = [
        checkpoints.verify(checkpoints.directory_of(tmp_path / name, total))
        for name in ("whole", "parts")
    ]
    assert records[0]["state"] == records[1]["state"]
    assert records[0]["data"]["cursor"] == records[1]["data"]["cursor"]
    losses = [
        [line["loss"] for line in metrics.read(tmp_path / name / metrics.METRICS) if "loss" in line]
        for name in ("whole", "parts")
    ]
    assert losses[0] == losses[1]


def test_resume_without_a_checkpoint_begins(tmp_path: Path) -> None:
    trainer = run(tmp_path / "out", steps=1)
    assert trainer.resume() is None
    assert trainer.train() is not None
    assert trainer.train() is None  # nothing is left


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"lr": 0.5}, "lr was 0.01 and is 0.5"),
        ({"batch": 4}, r"windows of a step .* was 2 and is 4"),
        ({"sequence": 4}, "sequence was 8 and is 4"),
        ({"clip": 0.0}, "clip was 1.0 and is 0.0"),
        ({"betas": (0.8, 0.9)}, r"betas was \[0.9, 0.999\] and is \[0.8, 0.9\]"),
        ({"seed": 3}, "seed was 0 and is 3"),
        ({"data": ids() ^ 1}, "data was '.*' and is '"),
        ({"model": GPT2 | {"n_layer": 1}}, "config n_layer was 2 and is 1"),
        ({"model": LLAMA}, "config model_type was 'gpt2' and is 'llama'"),
        ({"loss_scale": 2.0}, "loss_scale was 'dynamic' and is 2.0"),
    ],
)  # fmt: skip
def test_another_run_is_not_resumed(tmp_path: Path, changed: dict[str, Any], message: str) -> None:
    run(tmp_path, steps=1).train()
    with pytest.raises(Error, match=message):
        run(tmp_path, **({"steps": 2} | changed)).resume()


def test_micro_batches_may_be_cut_differently(tmp_path: Path) -> None:
    run(tmp_path, steps=1, batch=2).train()
    trainer = run(tmp_path, steps=2, batch=1, accumulation=2)
    assert trainer.resume() is not None
    assert trainer.train() is not None


def _edit_record(directory: Path) -> None:
    path = directory / checkpoints.RECORD
    path.write_text(path.read_text().replace('"seed": 0', '"seed": 7'))


DAMAGE: dict[str, Callable[[Path], Any]] = {
    "model.safetensors: its checksum": lambda d: os.truncate(d / "model.safetensors", 500),
    "optimizer.safetensors: its checksum": lambda d: (d / "optimizer.safetensors").write_bytes(
        (d / "optimizer.safetensors").read_bytes()[:-1] + b"\x01"
    ),
    "config.json: missing": lambda d: (d / "config.json").unlink(),
    "trainer.json: its checksum": _edit_record,
    "trainer.json: not JSON": lambda d: os.truncate(d / "trainer.json", 50),
    "trainer.json: No such file": lambda d: (d / "trainer.json").unlink(),
}


@pytest.mark.parametrize("message", DAMAGE)
def test_a_damaged_checkpoint_is_passed_over(tmp_path: Path, message: str) -> None:
    run(tmp_path, steps=2, save_every=1, schedule_steps=3).train()
    whole = files_of(tmp_path, 2)
    DAMAGE[message](checkpoints.directory_of(tmp_path, 2))
    trainer = run(tmp_path, steps=2, schedule_steps=3)
    with pytest.warns(DamagedCheckpointWarning, match=f"step-00000002/{message}"):
        assert trainer.resume() == checkpoints.directory_of(tmp_path, 1)
    trainer.train()  # writes the damaged one again
    assert_same(whole, files_of(tmp_path, 2))
    for step in (1, 2):
        DAMAGE[message](checkpoints.directory_of(tmp_path, step))
    trainer = run(tmp_path, steps=2, schedule_steps=3)
    with pytest.warns(DamagedCheckpointWarning), pytest.raises(Error, match=r"all 2 .* damaged"):
        trainer.resume()


@pytest.mark.parametrize(
    ("part", "value"),
    [
        ("state", {"step": -1}),
        ("state", {"step": 1, "optimizer_steps": 1, "loss_scale": "1", "good_steps": 0}),
        ("data", {"cursor": [0]}),
        ("data", {"cursor": [0, 10**9]}),
        ("meaning", None),
        ("format", 2),
        ("files", {"../data.bin": {}}),
    ],
)
def test_a_record_with_checksums_may_still_be_wrong(
    tmp_path: Path, part: str, value: object
) -> None:
    run(tmp_path, steps=1).train()
    directory = checkpoints.directory_of(tmp_path, 1)
    record = checkpoints.verify(directory) | {part: value}
    record["sha256"] = checkpoints._digest(record)
    (directory / checkpoints.RECORD).write_text(json.dumps(record))
    trainer = run(steps=1)
    before = {name: array.copy() for name, array in trainer.weights.items()}
    with pytest.raises(Error):
        trainer.resume(directory)
    assert_same(before, trainer.weights)


def test_leftovers_go_and_the_newest_stay(tmp_path: Path) -> None:
    leftover = tmp_path / ".step-00000009.0123456789ab.partial"
    leftover.mkdir()
    (leftover / "model.safetensors").write_bytes(b"x")
    (tmp_path / ".metrics.jsonl.0123456789ab.partial").write_bytes(b"x")
    run(tmp_path, steps=5, save_every=1, keep_last=2).train()
    names = sorted(entry.name for entry in tmp_path.iterdir())
    assert names == ["metrics.jsonl", "step-00000004", "step-00000005"]


def test_a_directory_is_one_runs(tmp_path: Path) -> None:
    with checkpoints.claimed(tmp_path), pytest.raises(Error, match="another run is training"):
        run(tmp_path, steps=1).train()
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(Error, match=r"not empty, it holds 'notes.txt'"):
        run(tmp_path, steps=1).train()
    with pytest.raises(Error, match="is a file"):
        run(tmp_path / "notes.txt", steps=1).train()


def test_a_full_disk_leaves_the_last_checkpoint(tmp_path: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)

    def fill_up(_: Saved) -> None:  # from now on files cannot be longer than this
        resource.setrlimit(resource.RLIMIT_FSIZE, (20000, hard))

    trainer = run(tmp_path, steps=3, save_every=1, schedule_steps=3, on_save=fill_up)
    try:
        with pytest.raises(Error, match=r"step-00000002: not written.*the last .*step-00000001 "):
            trainer.train()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert trainer.step == 2
    assert checkpoints.steps(tmp_path) == [1]
    assert not list(tmp_path.glob(".*.partial"))
    trainer.on_save = None
    trainer.train()  # there is room again
    run(tmp_path / "undisturbed", steps=3).train()
    assert_same(files_of(tmp_path, 3), files_of(tmp_path / "undisturbed", 3))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_after_the_step_with_a_checkpoint(tmp_path: Path, number: int) -> None:
    before = signal.getsignal(number)

    def on_step(step: Step) -> None:
        if step.step == 2:
            os.kill(os.getpid(), number)

    trainer = run(tmp_path, steps=9, on_step=on_step)
    with pytest.raises(Interrupted, match="of 9; saved in") as caught:
        trainer.train()
    assert caught.value.exit_code == 128 + number
    assert checkpoints.steps(tmp_path) == [trainer.step]
    assert trainer.step in (2, 3)
    assert signal.getsignal(number) is before


def test_mpirun_without_mpi4py_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMPI_COMM_WORLD_SIZE", "2")
    monkeypatch.setitem(sys.modules, "mpi4py.MPI", None)
    with pytest.raises(Error, match=r"one of 2 processes .*pip install 'orion-ane\[mpi\]'"):
        parallel.world()


def test_gradients_of_parts_add_up(tmp_path: Path) -> None:
    whole = run(steps=1, batch=4)._core
    parts = [run(steps=1, batch=2)._core for _ in range(2)]
    batch = next(data.Dataset(token_file(tmp_path), batch=4, sequence=8))
    whole.accumulate(*batch)
    for part, rows in zip(parts, (slice(0, 2), slice(2, 4)), strict=True):
        part.accumulate(*(array[rows] for array in batch))
    first, second = parts
    for name, gradient in first.gradients.items():
        gradient += second.gradients[name]
    with pytest.raises(Error, match="a sum over 3 targets, and this process has 16"):
        first.accumulated = (1.0, 3)
    (loss, targets), (more, others) = first.accumulated, second.accumulated
    first.accumulated = (loss + more, targets + others)
    report, expected = first.step(1e-3), whole.step(1e-3)
    assert report.tokens == expected.tokens == 32
    assert report.loss == pytest.approx(expected.loss, rel=1e-6)
    assert report.gradient_norm == pytest.approx(expected.gradient_norm, rel=1e-6)


def test_a_trainer_says_what_it_is() -> None:
    trainer: Trainer = run(steps=1)
    assert trainer.device == "cpu"
    assert trainer.num_parameters == sum(array.size for array in trainer.weights.values())
    with pytest.raises(Error, match="no directory"):
        trainer.save()
