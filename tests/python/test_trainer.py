"""The trainer's machinery: optimizer, schedule, loss scale, updates, and nothing left behind.

ORION_TRAINING_STEPS=1000 takes as many steps where each brings weights over by files, too.
"""

from __future__ import annotations

import math
import os
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import orion_ane as orion
import pytest
from numpy.typing import NDArray
from orion_ane import _core, checkpoint
from samples import mapped, write_model

Array = NDArray[Any]

CONFIG: dict[str, Any] = {
    "model_type": "llama",
    "vocab_size": 32,
    "max_position_embeddings": 16,
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "tie_word_embeddings": True,
}
TWO_LAYERS = {**CONFIG, "num_hidden_layers": 2}
MACOS26 = "sim:macos26"
PAPER = "sim:paper-m4-macos15"
STEPS = int(os.environ.get("ORION_TRAINING_STEPS", "120"))


@pytest.fixture(autouse=True)
def _fresh_engines() -> None:
    for profile in _core.profiles():
        _core.simulator_restart(profile["name"])
        _core.simulator_freeze_weights(profile["name"], False)


def weights_of(config: dict[str, Any]) -> dict[str, Array]:
    random = np.random.default_rng(0)
    return {
        name: random.normal(float("norm" in name), 0.2, shape).astype(np.float32)
        for name, shape in _core.model_weights(config).items()
    }


def batch(seed: int = 0, sequence: int = 16) -> tuple[Array, Array]:
    text = np.random.default_rng(seed).integers(0, 32, (1, sequence + 1)).astype(np.int32)
    return text[:, :-1].copy(), text[:, 1:].copy()


def trainer(
    device: str = "cpu",
    config: dict[str, Any] = CONFIG,
    weights: Mapping[str, Array] | None = None,
    **options: Any,
) -> _core.Trainer:
    wanted = _core.TrainOptions(batch=1, sequence=16, **options)
    return _core.Trainer(config, weights or weights_of(config), device, wanted)


def train(t: _core.Trainer, steps: int, rate: float = 1e-3) -> list[_core.StepReport]:
    reports = []
    for _ in range(steps):
        t.accumulate(*batch())
        reports.append(t.step(rate))
    return reports


def copies(arrays: dict[str, Array]) -> dict[str, Array]:
    return {name: np.array(array) for name, array in arrays.items()}


# -- optimizer ------------------------------------------------------------------------------------


def test_a_hundred_steps_of_adamw_are_those_of_pytorch() -> None:
    """The same gradients into both, some of them large enough to be clipped."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch = pytest.importorskip("torch")
    t = trainer(clip=30.0, weight_decay=0.1, beta2=0.95)
    parameters = {n: torch.nn.Parameter(torch.tensor(w)) for n, w in copies(t.weights).items()}
    decays = [
        {"params": [p for p in parameters.values() if p.dim() > 1], "weight_decay": 0.1},
        {"params": [p for p in parameters.values() if p.dim() == 1], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(decays, lr=1e-2, betas=(0.9, 0.95))
    random = np.random.default_rng(1)
    clipped = 0
    for step in range(100):
        t.accumulate(*batch())
        size = 0.2 + step % 2
        for name, gradient in t.gradients.items():
            gradient[...] = random.normal(0.0, size, gradient.shape)
            parameters[name].grad = torch.tensor(np.array(gradient))
        norm = torch.nn.utils.clip_grad_norm_(list(parameters.values()), 30.0)
        clipped += int(norm > 30.0)
        optimizer.step()
        assert t.step(1e-2).gradient_norm == pytest.approx(norm.item(), rel=1e-5)
        assert all((np.array(g) == 0.0).all() for g in t.gradients.values())
    assert 0 < clipped < 100
    for name, parameter in parameters.items():
        wanted = parameter.detach().numpy()
        np.testing.assert_allclose(t.weights[name], wanted, rtol=2e-4, atol=2e-5)
        state = optimizer.state[parameter]
        for ours, theirs in [(t.first_moments, "exp_avg"), (t.second_moments, "exp_avg_sq")]:
            np.testing.assert_allclose(ours[name], state[theirs].numpy(), rtol=1e-4, atol=1e-6)


def test_vectors_do_not_decay() -> None:
    t = trainer(weight_decay=0.5, clip=0.0)
    before = copies(t.weights)
    t.accumulate(*batch())
    for gradient in t.gradients.values():
        gradient[...] = 0.0
    t.step(0.1)
    for name, weight in before.items():
        kept = np.float32(1 - 0.1 * 0.5) if weight.ndim > 1 else np.float32(1)
        np.testing.assert_allclose(t.weights[name], weight * kept, rtol=1e-6)


ADAPTERS = {"lora": _core.LoraShape(rank=2, scale=2.0, targets=["q_proj", "down_proj"])}
GPT2 = {
    "model_type": "gpt2",
    "vocab_size": 32,
    "n_positions": 16,
    "n_embd": 16,
    "n_layer": 1,
    "n_head": 2,
}


@pytest.mark.parametrize(
    ("device", "config", "options"),
    [
        ("cpu", CONFIG, {}),
        ("cpu", GPT2, {"precision": "bf16"}),
        ("cpu", {**CONFIG, "tie_word_embeddings": False}, {}),
        ("cpu", CONFIG, ADAPTERS),
        (MACOS26, TWO_LAYERS, {}),
        (MACOS26, CONFIG, ADAPTERS),
    ],
)
def test_gradients_begin_anew_with_every_step(
    device: str, config: dict[str, Any], options: dict[str, Any]
) -> None:
    weights = weights_of(config)
    if lora := options.get("lora"):
        weights |= {n: a + np.float32(0.1) for n, a in _core.initial_lora(config, lora).items()}
    t = trainer(device, config, weights, **options)
    t.accumulate(*batch(1))
    t.accumulate(*batch(2))
    both = copies(t.gradients)
    t.step(0.0)  # moves no weight
    parts = []
    for seed in (1, 2):
        t.accumulate(*batch(seed))
        parts.append(copies(t.gradients))
        t.step(0.0)
    assert not any(gradient.any() for gradient in t.gradients.values())
    for gradient in t.gradients.values():
        gradient[...] = 0.5
    t.accumulate(*batch(1))
    for name, gradient in t.gradients.items():
        assert parts[0][name].any()
        size = np.abs(both[name]).max()
        np.testing.assert_allclose(parts[0][name] + parts[1][name], both[name], atol=1e-6 * size)
        np.testing.assert_allclose(gradient, parts[0][name] + 0.5, atol=1e-6 * (size + 1))


# -- schedule -------------------------------------------------------------------------------------


def cosine(done: float) -> float:
    return 0.1 + 0.9 * 0.5 * (1 + math.cos(math.pi * done))


@pytest.mark.parametrize(
    ("shape", "step", "wanted"),
    [
        *[(shape, 0, 0.25) for shape in ("constant", "linear", "cosine")],
        *[(shape, 2, 0.75) for shape in ("constant", "linear", "cosine")],
        *[(shape, 3, 1.0) for shape in ("constant", "linear", "cosine")],
        *[(shape, 4, 1.0) for shape in ("constant", "linear", "cosine")],
        ("constant", 1000, 1.0),
        ("linear", 9, 0.55),
        ("linear", 14, 0.1),
        ("linear", 99, 0.1),
        ("cosine", 5, cosine(0.1)),
        ("cosine", 9, 0.55),
        ("cosine", 13, cosine(0.9)),
        ("cosine", 14, 0.1),
        ("cosine", 99, 0.1),
    ],
)
def test_learning_rate(shape: str, step: int, wanted: float) -> None:
    rate = _core.learning_rate(step, peak=2e-3, warmup=4, total=14, shape=shape, floor=0.1)
    assert rate == pytest.approx(2e-3 * wanted, rel=1e-12)


def test_cosine_is_that_of_pytorch() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch = pytest.importorskip("torch")
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=3e-4)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=50, eta_min=3e-5)
    for step in range(50):
        ours = _core.learning_rate(step, peak=3e-4, total=50, shape="cosine", floor=0.1)
        assert ours == pytest.approx(schedule.get_last_lr()[0], rel=1e-9)
        optimizer.step()
        schedule.step()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"peak": 0.0}, "schedule: a learning rate of 0, a positive number is needed"),
        ({"peak": math.inf}, "schedule: a learning rate of inf"),
        ({"peak": 1.0, "warmup": 5, "total": 4}, "schedule: 5 warm-up steps are more than the 4"),
        ({"peak": 1.0, "floor": 1.5}, "schedule: a floor of 1.5"),
        ({"peak": 1.0, "total": -1}, "schedule: 0 warm-up steps of -1"),
        ({"peak": 1.0, "shape": "step"}, "schedule 'step': constant, linear or cosine is needed"),
    ],
)
def test_schedules_that_make_no_sense(options: dict[str, Any], message: str) -> None:
    with pytest.raises(orion.Error, match=f"^{message}"):
        _core.learning_rate(0, **options)


# -- loss scale -----------------------------------------------------------------------------------


def test_an_overflow_skips_the_step_and_halves_the_scale() -> None:
    t = trainer(MACOS26, loss_scale=2.0**24, growth_interval=3)
    before = copies(t.weights)
    skipped = 0
    for step in range(40):
        t.accumulate(*batch())
        report = t.step(1e-3)
        assert report.step == step + 1
        if not report.skipped:
            break
        skipped += 1
        assert not math.isfinite(report.gradient_norm)
        assert report.loss_scale == 2.0 ** (25 - skipped)
        assert t.state.loss_scale == report.loss_scale / 2
        assert t.state.optimizer_steps == 0
        for name, weight in before.items():
            np.testing.assert_array_equal(t.weights[name], weight)
            assert not t.first_moments[name].any()
            assert not t.gradients[name].any()
    assert 0 < skipped < 30
    scale = t.state.loss_scale
    losses = [r.loss for r in train(t, 2)]
    assert t.state.optimizer_steps == 3
    assert t.state.loss_scale == 2 * scale  # three good steps in a row
    assert losses[-1] < losses[0]


def test_a_fixed_scale_that_overflows_stops() -> None:
    t = trainer(MACOS26, loss_scale=2.0**24, dynamic_loss_scale=False)
    before = copies(t.weights)
    t.accumulate(*batch())
    with pytest.raises(orion.Error, match=r"gradients of step 1 are not finite, first that of '"):
        t.step(1e-3)
    for name, weight in before.items():
        np.testing.assert_array_equal(t.weights[name], weight)


# -- values that are not finite -------------------------------------------------------------------


@pytest.mark.parametrize("device", ["cpu", MACOS26])
@pytest.mark.parametrize(
    "name", ["model.embed_tokens.weight", "model.layers.1.mlp.up_proj.weight", "model.norm.weight"]
)
def test_a_weight_that_is_not_a_number_stops_training_by_name(device: str, name: str) -> None:
    t = trainer(device, TWO_LAYERS)
    train(t, 1)
    t.weights[name].flat[3] = np.nan
    t.restore(t.state)
    every_token = np.arange(16, dtype=np.int32).reshape(1, 16)
    with pytest.raises(orion.Error, match=f"loss of step 2 is -?nan; .* is weight '{name}'"):
        t.accumulate(every_token, every_token + 16)
    assert np.isnan(t.weights[name].flat[3])


@pytest.mark.parametrize("device", [MACOS26, PAPER])
def test_an_overflow_within_a_layer_is_named(device: str) -> None:
    weights = weights_of(TWO_LAYERS)
    weights["model.layers.1.mlp.up_proj.weight"][...] = 6e4
    t = trainer(device, TWO_LAYERS, weights)
    with pytest.raises(orion.Error, match=r"loss of step 1 is -?(nan|inf)") as error:
        t.accumulate(*batch())
    assert "not finite is layer 1 feed_forward" in str(error.value)


def test_gradients_that_are_not_finite_stop_training_on_the_cpu() -> None:
    t = trainer()
    t.accumulate(*batch())
    t.gradients["model.norm.weight"].flat[0] = np.inf
    message = r"gradients of step 1 are not finite, first that of 'model.norm.weight'"
    with pytest.raises(orion.Error, match=message):
        t.step(1e-3)


# -- what is refused ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"clip": -1.0}, "train: gradients cannot be clipped to -1"),
        ({"beta1": 1.0}, "train: a beta of 1, from 0 to below 1 is needed"),
        ({"epsilon": 0.0}, "train: an epsilon of 0"),
        ({"weight_decay": -0.1}, "train: a weight decay of -0.1 is negative"),
        ({"growth_interval": 0}, "train: a loss scale of 0 that grows every 0 steps"),
    ],
)
def test_options_out_of_range(options: dict[str, Any], message: str) -> None:
    with pytest.raises(orion.Error, match=f"^{message}"):
        trainer(**options)


def test_batches_that_do_not_fit() -> None:
    t = trainer()
    ids, targets = batch()
    with pytest.raises(orion.Error, match="no target of the micro-batch counts"):
        t.accumulate(ids, np.full_like(targets, -100))
    with pytest.raises(orion.Error, match="token id 32 is outside the vocabulary of 32"):
        t.accumulate(np.full_like(ids, 32), targets)
    with pytest.raises(orion.Error, match="token id -100 is outside"):
        t.accumulate(np.full_like(ids, -100), targets)
    with pytest.raises(orion.Error, match="target -1 is outside"):
        t.accumulate(ids, np.full_like(targets, -1))
    with pytest.raises(orion.Error, match="step without a micro-batch"):
        t.step(1e-3)
    t.accumulate(ids, targets)
    with pytest.raises(orion.Error, match="a learning rate of nan makes no sense"):
        t.step(math.nan)


# -- weights that arrive --------------------------------------------------------------------------


def test_the_first_updates_are_proved_and_then_one_in_so_many() -> None:
    t = trainer(MACOS26, TWO_LAYERS, check_every=5)
    train(t, 12, 1e-2)
    assert 3 <= t.checks <= 4
    assert trainer().checks == 0
    unproved = trainer(MACOS26, check_every=0)
    train(unproved, 3)
    assert unproved.checks == 0


def test_a_strategy_without_effect_is_refused() -> None:
    t = trainer(f"{MACOS26},update=delta")
    before = copies(t.weights)
    t.accumulate(*batch())
    with pytest.raises(orion.DeviceError, match="update: delta does not work here"):
        t.step(1e-3)
    assert any((t.weights[name] != weight).any() for name, weight in before.items())


@pytest.mark.parametrize("device", [MACOS26, PAPER])
def test_a_device_that_stops_taking_weights_is_found_out(device: str) -> None:
    t = trainer(device, check_every=2)
    train(t, 6, 1e-2)
    _core.simulator_freeze_weights(device.removeprefix("sim:"))
    with pytest.raises(orion.DeviceError, match="computes with old weights"):
        train(t, 12, 1e-2)
    assert not any(gradient.any() for gradient in t.gradients.values())


@pytest.mark.parametrize("rate", [1e-7, 1e-6, 1e-5, 1e-3, 0.3])
@pytest.mark.parametrize("device", [MACOS26, PAPER])
def test_steps_of_any_size_raise_no_false_alarm(device: str, rate: float) -> None:
    t = trainer(device, check_every=1)
    train(t, 25, rate)
    assert (t.checks > 10) == (rate >= 1e-3)


# -- logits of some tokens at a time --------------------------------------------------------------


@pytest.mark.parametrize("lora", [False, True])
def test_a_large_micro_batch_is_its_windows_one_by_one(*, lora: bool) -> None:
    """129 tokens: logits of 65, then of 64; the cut is within a window, and masks are cut too."""
    config = {**CONFIG, "max_position_embeddings": 43, "tie_word_embeddings": False}
    weights = weights_of(config)
    options: dict[str, Any] = {}
    if lora:
        shape = _core.LoraShape(rank=2, scale=2.0, targets=["lm_head", "q_proj"])
        options = {"lora": shape, "dropout": 0.3, "dropout_seed": 5}
        random = np.random.default_rng(3)
        for name, start in _core.initial_lora(config, shape).items():
            weights[name] = random.normal(0.0, 0.2, start.shape).astype(np.float32)
    text = np.random.default_rng(4).integers(0, 32, (3, 44)).astype(np.int32)
    ids, targets = text[:, :-1].copy(), text[:, 1:].copy()
    targets[1, 10:30] = -100

    def trainer_of(windows: int) -> _core.Trainer:
        wanted = _core.TrainOptions(batch=windows, sequence=43, **options)
        return _core.Trainer(config, weights, "cpu", wanted)

    whole, parts = trainer_of(3), trainer_of(1)
    counts = (targets >= 0).sum(axis=1)
    losses = [parts.accumulate(ids[i : i + 1], targets[i : i + 1]) for i in range(3)]
    wanted = float(np.average(losses, weights=counts))
    assert whole.accumulate(ids, targets) == pytest.approx(wanted, rel=1e-6)
    assert whole.gradients.keys() == parts.gradients.keys()
    for name, gradient in whole.gradients.items():
        scale = np.abs(gradient).max()
        assert scale > 0, name
        np.testing.assert_allclose(3 * gradient, parts.gradients[name], atol=1e-5 * scale)
    evaluated = [parts.evaluate(ids[i : i + 1], targets[i : i + 1]) for i in range(3)]
    wanted = float(np.average(evaluated, weights=counts))
    assert whole.evaluate(ids, targets) == pytest.approx(wanted, rel=1e-6)
    assert whole.step(1e-3).tokens == counts.sum()


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="needs /proc/self/statm")
def test_logits_of_all_tokens_are_never_there_at_once() -> None:
    config = {**CONFIG, "vocab_size": 20_000, "max_position_embeddings": 128}
    options = _core.TrainOptions(batch=8, sequence=128)
    t = _core.Trainer(config, weights_of(config), "cpu", options)
    text = np.random.default_rng(5).integers(0, 20_000, (8, 129)).astype(np.int32)
    before = resident()
    t.accumulate(text[:, :-1].copy(), text[:, 1:].copy())
    t.step(1e-3)
    assert resident() - before < 40_000_000  # all logits: 82 million


# -- nothing left behind --------------------------------------------------------------------------


class Watched(Mapping[str, Array]):
    """Weights, and the most of their file that was in memory when one was asked for."""

    def __init__(self, found: checkpoint.Checkpoint) -> None:
        self.found, self.most = found, 0

    def __getitem__(self, name: str) -> Array:
        self.most = max(self.most, mapped(self.found.source))
        return self.found.weights[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.found.weights)

    def __len__(self) -> int:
        return len(self.found.weights)


@pytest.mark.skipif(not Path("/proc/self/smaps").exists(), reason="needs /proc/self/smaps")
def test_a_checkpoint_is_not_held_beside_its_copy(tmp_path: Path) -> None:
    config = {**CONFIG, "hidden_size": 256, "intermediate_size": 1024, "num_hidden_layers": 16}
    weights = weights_of(config)
    found = checkpoint.read(write_model(tmp_path, config, weights))
    # The system brings more than was asked for, here up to 5 MiB of 63 around a page.
    little = found.source.stat().st_size // 4
    assert np.array_equal(found.weights["model.norm.weight"], weights["model.norm.weight"])
    assert 0 < mapped(found.source) < little
    watched = Watched(found)
    t = trainer("cpu", config, watched)
    assert 0 < watched.most < little
    assert mapped(found.source) < little
    assert all(np.array_equal(t.weights[name], array) for name, array in weights.items())


def resources(profile: str | None) -> dict[str, Any]:
    counters: dict[str, Any] = {"fds": len(os.listdir("/proc/self/fd"))}  # noqa: PTH208
    if profile:
        simulator = _core.simulator_counters(profile)
        for what in ("compiles", "loaded", "models", "surfaces", "directories"):
            counters[what] = simulator[what]
        counters["asked"] = _core.engine_usage(f"sim:{profile}")["compiles"]
    return counters


def resident() -> int:
    pages = int(Path("/proc/self/statm").read_text("utf-8").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def test_activations_grow_with_the_tokens_and_no_faster() -> None:
    """Attention's weights, tokens by tokens, are not kept."""

    def held(sequence: int) -> int:
        options = _core.TrainOptions(batch=2, sequence=sequence)
        return _core.Trainer(TWO_LAYERS, weights_of(TWO_LAYERS), "cpu", options).activation_bytes

    assert held(16) - held(8) == 2 * (held(8) - held(4))


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="needs /proc/self/statm")
@pytest.mark.parametrize(
    ("device", "steps"),
    [("cpu", 1000), (f"{MACOS26},update=input", 1000), (PAPER, 1000), (MACOS26, STEPS)],
)
def test_memory_programs_and_files_stay_as_they_are(device: str, steps: int) -> None:
    profile = device.removeprefix("sim:").split(",")[0] if device != "cpu" else None
    t = trainer(device)
    train(t, 20)
    settled, memory = resources(profile), resident()
    reports = train(t, steps)
    assert resources(profile) == settled
    # A copy of the weights per step would be more than a million bytes.
    assert resident() - memory < 750_000
    assert t.programs == (6 if device == "cpu" else 4)  # which adds gradients, or writes them anew
    assert not any(report.skipped for report in reports)
    assert all(math.isfinite(r.loss) and math.isfinite(r.gradient_norm) for r in reports)
