"""Training in fp32 on the CPU against PyTorch: from files, and live where it is installed."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from orion_ane import _core
from training_reference import CONFIGS, IGNORED, Run, golden_path, make

every_model = pytest.mark.parametrize("model_type", CONFIGS)


def error(actual: NDArray[Any], wanted: NDArray[Any]) -> float:
    """The norm of the difference, relative to what is wanted."""
    return float(np.linalg.norm(actual - wanted) / np.linalg.norm(wanted))


def trainer(run: Run, loss_scale: float = 1.0, device: str = "cpu") -> _core.Trainer:
    options = _core.TrainOptions(
        batch=run.ids.shape[2],
        sequence=run.ids.shape[3],
        loss_scale=loss_scale,
        **run.hyper,  # type: ignore[arg-type]
    )
    return _core.Trainer(run.config, run.weights, device, options)


def key_bias(run: Run, name: str) -> slice | None:
    """GPT-2's bias of the keys, among those of queries and values.

    It adds the same to all scores of a query, so that its gradient is 0 in exact arithmetic. Adam
    divides rounding errors by their own size: its path is noise, and without effect on anything
    else.
    """
    width = run.config.get("n_embd", 0)
    return slice(width, 2 * width) if name.endswith("c_attn.bias") else None


def check_gradients(run: Run, t: _core.Trainer, loss_scale: float) -> None:
    counted = int((run.targets[0] != IGNORED).sum())
    factor = run.ids[0, 0].size / (loss_scale * counted)
    assert set(t.gradients) == set(run.gradients)
    for name, wanted in run.gradients.items():
        gradient = np.array(t.gradients[name]) * factor
        assert error(gradient, wanted) < 1e-4, name
        if noise := key_bias(run, name):
            assert np.abs(gradient[noise]).max() < 1e-6 * np.abs(gradient).max()
            assert np.abs(wanted[noise]).max() < 1e-6 * np.abs(wanted).max()


def check_final_weights(run: Run, t: _core.Trainer) -> None:
    for name, wanted in run.final.items():
        before, actual = run.weights[name], np.array(t.weights[name])
        moved, should = actual - before, wanted - before
        if noise := key_bias(run, name):
            # |m^| / sqrt(v^) is below 10 for these betas, whatever the gradients.
            assert np.abs(moved[noise]).max() < 10 * float(run.rates.sum())
            moved, should = (np.delete(a, np.r_[noise]) for a in (moved, should))
        assert error(moved, should) < 1e-3, name
        if not key_bias(run, name):
            assert error(actual, wanted) < 1e-5, name


def check(run: Run, loss_scale: float) -> None:
    t = trainer(run, loss_scale)
    for step, (ids, targets) in enumerate(zip(run.ids, run.targets, strict=True)):
        counts = [int((micro != IGNORED).sum()) for micro in targets]
        means = [t.accumulate(i, wanted) for i, wanted in zip(ids, targets, strict=True)]
        if step == 0:
            assert counts[0] != counts[1]
            check_gradients(run, t, loss_scale)
        report = t.step(float(run.rates[step]))
        assert report.loss == pytest.approx(np.average(means, weights=counts), rel=1e-6)
        assert report.loss == pytest.approx(run.losses[step], rel=1e-4)
        assert report.gradient_norm == pytest.approx(run.norms[step], rel=1e-4)
        assert (report.step, report.tokens, report.skipped) == (step + 1, sum(counts), False)
    check_final_weights(run, t)


@every_model
def test_logits(model_type: str) -> None:
    run = Run.load(golden_path(model_type))
    model = _core.LanguageModel(run.config, run.weights, "fp32", "cpu")
    assert error(model.logits(run.ids[0, 0, 0].tolist()), run.logits) < 1e-5


@every_model
@pytest.mark.parametrize("loss_scale", [1.0, 24.0])
def test_ten_steps_are_those_of_pytorch(model_type: str, loss_scale: float) -> None:
    run = Run.load(golden_path(model_type))
    assert run.norms.min() < run.hyper["clip"] < run.norms.max()
    check(run, loss_scale)


@every_model
def test_ten_steps_beside_pytorch(model_type: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pytest.importorskip("torch")
        pytest.importorskip("transformers")
        kept, live = Run.load(golden_path(model_type)), make(model_type)
        other = make(model_type, seed=1)
    np.testing.assert_array_equal(live.ids, kept.ids)
    np.testing.assert_array_equal(live.targets, kept.targets)
    for name, weight in kept.weights.items():
        np.testing.assert_array_equal(live.weights[name], weight)
        assert error(live.gradients[name], kept.gradients[name]) < 1e-5
    check(other, 1.0)
