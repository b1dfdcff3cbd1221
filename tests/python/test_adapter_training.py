"""Adapters trained beside frozen weights, and worked into them."""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import orion_ane as orion
import pytest
import tiny_models
from numpy.typing import NDArray
from orion_ane import _core, adapter, adapter_merging, checkpoint
from orion_ane.cli import main
from orion_ane.training import metrics

torch = pytest.importorskip("torch")
peft = pytest.importorskip("peft")
transformers = pytest.importorskip("transformers")

# PEFT asks transformers for an attribute by its old name.
pytestmark = pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing. is deprecated")

Arrays = dict[str, NDArray[Any]]
CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "gpt2": ("gpt2", {"target_modules": ["c_attn", "c_proj", "c_fc"], "fan_in_fan_out": True}),
    "llama": (
        "llama",
        {"target_modules": ["q_proj", "v_proj", "o_proj", "down_proj"], "use_rslora": True},
    ),
}
BATCH, SEQUENCE = 2, 16


class Reference:
    """PEFT's model on its way through the same steps."""

    def __init__(self, base: Path, **options: Any) -> None:
        models: Any = transformers.AutoModelForCausalLM
        model = models.from_pretrained(base, attn_implementation="eager", dtype=torch.float32)
        settings = peft.LoraConfig(task_type="CAUSAL_LM", r=4, lora_alpha=6, **options)
        self.model = peft.get_peft_model(model, settings)
        torch.manual_seed(3)
        self.parameters = {n: p for n, p in self.model.named_parameters() if p.requires_grad}
        with torch.no_grad():
            for parameter in self.parameters.values():
                parameter.normal_(0, 0.1)
        self.model.eval()
        self.optimizer = torch.optim.AdamW(self.parameters.values(), lr=1e-2, weight_decay=0.01)

    def loss(self, ids: Any, targets: Any) -> Any:
        logits = self.model(torch.tensor(ids, dtype=torch.long)).logits
        wanted = torch.tensor(targets, dtype=torch.long).reshape(-1)
        return torch.nn.functional.cross_entropy(logits.reshape(-1, logits.shape[-1]), wanted)

    def step(self, ids: Any, targets: Any) -> float:
        """The loss before the step."""
        loss = self.loss(ids, targets)
        self.optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.parameters.values(), 1.0)
        self.optimizer.step()
        return float(loss.item())

    def arrays(self, of: Callable[[Any], Any]) -> Arrays:
        return {
            name.removeprefix("base_model.model.").replace(".default", ""): of(p).numpy().copy()
            for name, p in self.parameters.items()
        }


def _batches(count: int, vocab: int) -> list[tuple[Any, Any]]:
    rng = np.random.default_rng(5)
    ids = rng.integers(0, vocab, (count, BATCH, SEQUENCE + 1)).astype(np.int32)
    return [(np.ascontiguousarray(b[:, :-1]), np.ascontiguousarray(b[:, 1:])) for b in ids]


def _trainer(
    base: Path, reference: Reference, case: str, device: str, **more: Any
) -> _core.Trainer:
    _, options = CASES[case]
    found = checkpoint.read(base)
    config = {"use_rslora": options.get("use_rslora", False)}
    shape = _core.LoraShape(
        rank=4, scale=adapter.scale_of(config, 4, 6), targets=options["target_modules"]
    )
    weights = {**found.weights, **reference.arrays(lambda p: p.detach())}
    train_options = _core.TrainOptions(batch=BATCH, sequence=SEQUENCE, lora=shape, **more)
    return _core.Trainer(found.config, weights, device, train_options)


@pytest.mark.parametrize("case", CASES)
def test_ten_steps_are_those_of_peft(case: str, tmp_path: Path) -> None:
    tiny_models.make(CASES[case][0], tmp_path)
    reference = Reference(tmp_path, **CASES[case][1])
    trainer = _trainer(tmp_path, reference, case, "cpu")
    assert trainer.weights.keys() == reference.arrays(lambda p: p.detach()).keys()
    assert trainer.first_moments.keys() == trainer.gradients.keys() == trainer.weights.keys()
    for ids, targets in _batches(10, 60):
        trainer.accumulate(ids, targets)
        assert abs(trainer.step(1e-2).loss - reference.step(ids, targets)) < 1e-4
    for name, array in reference.arrays(lambda p: p.detach()).items():
        np.testing.assert_allclose(trainer.weights[name], array, atol=2e-4)


@pytest.mark.parametrize(("device", "most"), [("cpu", 1e-4), ("sim:macos26", 0.03)])
@pytest.mark.parametrize("case", CASES)
def test_gradients_are_those_of_peft(case: str, device: str, most: float, tmp_path: Path) -> None:
    tiny_models.make(CASES[case][0], tmp_path)
    reference = Reference(tmp_path, **CASES[case][1])
    trainer = _trainer(tmp_path, reference, case, device)
    ((ids, targets),) = _batches(1, 60)
    reference.loss(ids, targets).backward()
    trainer.accumulate(ids, targets)
    unit = trainer.state.loss_scale
    for name, wanted in reference.arrays(lambda p: p.grad).items():
        error = np.abs(trainer.gradients[name] / unit - wanted).max()
        assert error < most * np.abs(wanted).max(), name


def _mixed(z: Any) -> Any:
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


def _mask(seed: int, step: int, module: int, channels: int, share: float) -> NDArray[np.float32]:
    """(BATCH, SEQUENCE, channels), as docs/lora.md says masks are drawn."""
    golden = np.uint64(0x9E3779B97F4A7C15)
    keys = np.full(BATCH, seed, np.uint64)
    for number in (np.uint64(step), np.arange(BATCH, dtype=np.uint64), np.uint64(module)):
        keys = _mixed(keys + number + golden)
    places = np.arange(1, SEQUENCE * channels + 1, dtype=np.uint64) * golden
    drawn = _mixed(keys[:, None] + places) >= np.uint64(share * 2**64)
    mask = drawn.reshape(BATCH, SEQUENCE, channels) * np.float32(1 / (1 - share))
    assert abs(mask.mean() - 1) < 0.15
    return np.asarray(mask, np.float32)


class Masked(torch.nn.Module):  # type: ignore[misc, name-defined]  # torch has no types here
    """Stands for a dropout of PEFT's; its mask is set before each step."""

    def forward(self, x: Any) -> Any:
        return x * torch.tensor(self.mask)


@pytest.mark.parametrize(("device", "most"), [("cpu", 1e-4), ("sim:macos26", 0.01)])
@pytest.mark.parametrize("case", CASES)
def test_steps_with_dropout_are_those_of_peft(
    case: str, device: str, most: float, tmp_path: Path
) -> None:
    tiny_models.make(CASES[case][0], tmp_path)
    reference = Reference(tmp_path, **CASES[case][1])
    trainer = _trainer(tmp_path, reference, case, device, dropout=0.3, dropout_seed=9)
    modules = [name.removesuffix(".lora_A.weight") for name in trainer.weights if "lora_A" in name]
    named = dict(reference.model.named_modules())
    masked = [named["base_model.model." + name] for name in modules]
    for layer in masked:
        layer.lora_dropout["default"] = Masked()
    for step, (ids, targets) in enumerate(_batches(4, 60)):
        for module, layer in enumerate(masked):
            channels = layer.lora_A["default"].weight.shape[1]
            layer.lora_dropout["default"].mask = _mask(9, step, module, channels, 0.3)
        trainer.accumulate(ids, targets)
        assert abs(trainer.step(1e-2).loss - reference.step(ids, targets)) < most


# -- on text ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def tokens(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small text of its own kind, as token ids."""
    root = tmp_path_factory.mktemp("text")
    rng = random.Random(0)
    animals, fruits = ["zebra", "lynx", "gnu", "ibex"], ["fig", "kiwi", "plum", "quince"]
    sentences = [
        f"The {rng.choice(animals)} sold {rng.randint(2, 99)} {rng.choice(fruits)}s in Oslo."
        for _ in range(400)
    ]
    (root / "text.txt").write_text("\n".join(sentences))
    assert (
        main(["prepare", str(root / "text.txt"), "--model", "stories260K", "-o", f"{root}/t.bin"])
        == 0
    )
    return root / "t.bin"


def _files(directory: Path) -> dict[str, str]:
    return {
        p.name: hashlib.sha256(p.read_bytes()).hexdigest()
        for p in directory.iterdir()
        if p.is_file()
    }


def _train_command(tokens: Path, out: Path, *more: str) -> list[str]:
    command = ["lora", "train", "--model", "stories260K", "--data", str(tokens), "--out", str(out)]
    command += ["--rank", "8", "--batch", "4", "--seq", "64", "--lr", "1e-2", "--device", "cpu"]
    return [*command, "--validation", "0.1", *more]


def test_fine_tuning_learns_and_leaves_the_base_alone(
    tokens: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    base = checkpoint.locate("stories260K")
    before = _files(base)
    run, out = tmp_path / "zoo", tmp_path / "zoo" / "step-00000040"
    options = ["--steps", "40", "--eval-every", "20", "--dropout", "0.1"]
    assert main(_train_command(tokens, run, *options)) == 0
    assert _files(base) == before
    captured = capsys.readouterr()
    assert "llama, an adapter of 46,240 parameters on cpu" in captured.err
    assert captured.out.startswith(f"{out}: loss ")
    lines = metrics.read(run / metrics.METRICS)
    first, last = (line["loss"] for line in lines if line["event"] == "evaluation")
    assert last < first < lines[0]["loss"] - 0.5
    assert _files(out).keys() == {
        "adapter_config.json",
        "adapter_model.safetensors",
        "optimizer.safetensors",
        "trainer.json",
    }

    model = orion.load("stories260K", device="cpu")
    model.load_adapter(out)
    assert model.notes == []
    ids = model.tokenizer.encode("The zebra sold 12 plums in Oslo.")
    models: Any = transformers.AutoModelForCausalLM
    theirs = peft.PeftModel.from_pretrained(models.from_pretrained(base), out)
    with torch.no_grad():
        wanted = theirs.eval()(torch.tensor([ids])).logits[0].numpy()
    np.testing.assert_allclose(model.logits(ids), wanted, atol=1e-3)

    assert main(_train_command(tokens, run)) == 2
    assert "not empty" in capsys.readouterr().err
    assert main(["lora", "info", str(out), "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert (report["rank"], report["scale"], report["base"]) == (8, 2.0, "stories260K")
    assert (
        main(["lora", "merge", f"{out}:0.5", "--model", "stories260K", "-o", f"{tmp_path}/m"]) == 0
    )
    model.set_adapter(model.active_adapter, 0.5)
    merged = orion.load(tmp_path / "m", device="cpu")
    np.testing.assert_allclose(merged.logits(ids), model.logits(ids), atol=1e-4)
    capsys.readouterr()
    prompt = ["generate", "--prompt", "The zebra", "--max-tokens", "20", "--device", "cpu"]
    assert main([*prompt, "--adapter", f"{out}:0.5"]) == 0
    assert (
        capsys.readouterr().out == "The zebra" + model.generate("The zebra", max_tokens=20) + "\n"
    )
    assert main([*prompt, "--adapter", f"{out}:x"]) == 1
    assert "a scale is needed" in capsys.readouterr().err


LORA = orion.Lora(rank=3, targets=("q_proj", "down_proj"), dropout=0.2)


def _run(tokens: Path, out: Path | None = None, **options: Any) -> orion.Trainer:
    usual: dict[str, Any] = {
        "model": "stories260K", "lora": LORA, "sequence": 32, "batch": 2, "lr": 1e-2, "steps": 4
    }  # fmt: skip
    return orion.Trainer(data=tokens, out=out, **(usual | options))


def _losses(trainer: orion.Trainer, most: int = 4) -> list[float]:
    """Of the steps left, or up to step `most`."""
    losses: list[float] = []

    def listen(step: orion.training.Step) -> bool:
        losses.append(step.loss)
        return step.step < most

    trainer.on_step = listen
    trainer.train()
    return losses


@pytest.mark.parametrize("device", ["cpu", "sim:macos26"])
def test_a_resumed_run_is_the_same_run(device: str, tokens: Path, tmp_path: Path) -> None:
    whole = _run(tokens, accumulation=2, device=device)
    losses = _losses(whole)
    assert _losses(_run(tokens, tmp_path, accumulation=2, device=device), most=2) == losses[:2]
    second = _run(tokens, tmp_path, accumulation=2, device=device)
    assert second.resume() == tmp_path / "step-00000002"
    assert _losses(second) == losses[2:]
    for name, array in whole.weights.items():
        np.testing.assert_array_equal(second.weights[name], array)


def test_dropout_does_not_depend_on_how_windows_are_shared_out(tokens: Path) -> None:
    shared = _losses(_run(tokens, accumulation=2))
    np.testing.assert_allclose(_losses(_run(tokens, batch=4)), shared, rtol=1e-6)
    open_ = _losses(_run(tokens, batch=4, lora=replace(LORA, dropout=0.0)))
    assert open_[0] == pytest.approx(shared[0], rel=1e-6)  # B is still zeros
    assert max(abs(a - b) for a, b in zip(open_, shared, strict=True)) > 1e-4
    assert _losses(_run(tokens, batch=4, seed=1))[1:] != shared[1:]


def _other_weights(directory: Path) -> Path:
    """stories260K with one number changed."""
    found = checkpoint.read(checkpoint.locate("stories260K"))
    weights = {name: np.array(array) for name, array in found.weights.items()}
    weights["model.norm.weight"][0] += 1e-3
    words = orion.load("stories260K").tokenizer
    checkpoint.write(directory, found.config, weights, words)
    return directory


def test_another_run_is_not_gone_on_with(tokens: Path, tmp_path: Path) -> None:
    _run(tokens, tmp_path / "run", steps=1).train()
    others: dict[str, dict[str, Any]] = {
        "lr was 0.01 and is 0.001": {"lr": 1e-3},
        "lora rank was 3 and is 4": {"lora": replace(LORA, rank=4)},
        "lora dropout was 0.2 and is 0.0": {"lora": replace(LORA, dropout=0.0)},
        "trained an adapter, and a whole model is to be trained": {"lora": None},
        r"SHA-256 of the base's weights was '\w+' and is": {
            "model": _other_weights(tmp_path / "base")
        },
    }
    for message, options in others.items():
        with pytest.raises(orion.Error, match=message):
            _run(tokens, tmp_path / "run", **options).resume()


def test_an_adapter_knows_its_base(
    tokens: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    _run(tokens, tmp_path / "run", steps=1).train()
    path = tmp_path / "run" / "step-00000001"
    for model in ("stories260K", tmp_path / "same"):
        if model != "stories260K":  # as others order its rows
            found = checkpoint.read(checkpoint.locate("stories260K"))
            checkpoint.write(tmp_path / "same", found.config, found.weights)
        same = orion.load(model)
        same.load_adapter(path)
        assert same.notes == []
    base = _other_weights(tmp_path / "base")
    other = orion.load(base)
    other.load_adapter(path)
    (note,) = other.notes
    assert f"{path}: it was trained beside other weights than those in {base}" in note
    assert [record.getMessage() for record in caplog.records] == [note]
    adapter_merging.merge(base, path, tmp_path / "merged")
    assert len(caplog.records) == 2
    again = adapter.read(path, same.config)
    adapter.write(tmp_path / "again", again, same.config)
    assert adapter.read(tmp_path / "again", same.config).base == again.base != ""


def test_a_trained_model_has_the_adapter(tokens: Path) -> None:
    mine = orion.load("stories260K", device="cpu")
    ids = [1, 5, 9]
    before = mine.logits(ids)
    trainer = _run(tokens, model=mine)
    trainer.train()
    assert trainer.model is mine
    assert mine.active_adapter == "trained"
    other = _run(tokens)
    other.train()
    np.testing.assert_allclose(other.model.logits(ids), mine.logits(ids), atol=2e-5)
    assert np.abs(mine.logits(ids) - before).max() > 1e-3
    mine.set_adapter(None)
    np.testing.assert_array_equal(mine.logits(ids), before)


@pytest.mark.parametrize("case", ["gpt2", "llama", "llama-biases"])
def test_a_merged_model_is_the_model_with_its_adapter(case: str, tmp_path: Path) -> None:
    base = tmp_path / "base"
    tiny_models.make(case, base)
    config = checkpoint.read_config(base)
    targets = adapter.all_linear(config)
    shape = _core.LoraShape(rank=3, scale=1.5, targets=targets)
    rng = np.random.default_rng(1)
    arrays = {
        name: rng.normal(0, 0.2, array.shape).astype(np.float32)
        for name, array in _core.initial_lora(config, shape).items()
    }
    settings = adapter.make_config(config, rank=3, alpha=4.5, targets=targets)
    adapter.write(tmp_path / "a", adapter.Adapter(shape, arrays, settings), config)
    model = orion.load(base, device="cpu")
    model.load_adapter(tmp_path / "a")
    adapter_merging.merge(base, tmp_path / "a", tmp_path / "m")
    ids = [3, 1, 4, 1, 5, 9, 2, 6]
    merged = orion.load(tmp_path / "m", device="cpu")
    wanted = model.logits(ids)
    np.testing.assert_allclose(merged.logits(ids), wanted, atol=2e-5 * float(np.abs(wanted).max()))


def test_what_training_refuses(tokens: Path) -> None:
    refused: dict[str, dict[str, Any]] = {
        "lora_dropout is 1, from 0 to below 1": {"dropout": 1},
        "r is 0, a rank from 1 to 64": {"rank": 0},
        "called 'query'; there are q_proj": {"targets": ("query",)},
        "targets are 'q_proj', a list of names": {"targets": "q_proj"},
        "lora_alpha is nan": {"alpha": float("nan")},
    }
    for message, options in refused.items():
        with pytest.raises(orion.Error, match=message):
            _run(tokens, lora=orion.Lora(**options))
    with pytest.raises(orion.Error, match=r"lora is 8, an orion_ane.Lora is needed"):
        _run(tokens, lora=8)
    with pytest.raises(orion.Error, match="an adapter is for weights that exist"):
        _run(tokens, model=checkpoint.read_config(checkpoint.locate("stories260K")))
