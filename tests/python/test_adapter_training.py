"""Adapters trained beside frozen weights, and worked into them."""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import orion_ane as orion
import pytest
import tiny_models
from numpy.typing import NDArray
from orion_ane import _core, adapter, adapter_merging, checkpoint
from orion_ane.adapter_training import AdapterSettings, AdapterTrainer
from orion_ane.cli import main

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

    def arrays(self, of: Callable[[Any], Any]) -> Arrays:
        return {
            name.removeprefix("base_model.model.").replace(".default", ""): of(p).numpy().copy()
            for name, p in self.parameters.items()
        }


def _batches(count: int, vocab: int) -> list[tuple[Any, Any]]:
    rng = np.random.default_rng(5)
    ids = rng.integers(0, vocab, (count, BATCH, SEQUENCE + 1)).astype(np.int32)
    return [(np.ascontiguousarray(b[:, :-1]), np.ascontiguousarray(b[:, 1:])) for b in ids]


def _trainer(base: Path, reference: Reference, case: str, device: str) -> _core.Trainer:
    _, options = CASES[case]
    found = checkpoint.read(base)
    config = {"use_rslora": options.get("use_rslora", False)}
    shape = _core.LoraShape(
        rank=4, scale=adapter.scale_of(config, 4, 6), targets=options["target_modules"]
    )
    weights = {**found.weights, **reference.arrays(lambda p: p.detach())}
    train_options = _core.TrainOptions(batch=BATCH, sequence=SEQUENCE, lora=shape)
    return _core.Trainer(found.config, weights, device, train_options)


@pytest.mark.parametrize("case", CASES)
def test_ten_steps_are_those_of_peft(case: str, tmp_path: Path) -> None:
    tiny_models.make(CASES[case][0], tmp_path)
    reference = Reference(tmp_path, **CASES[case][1])
    trainer = _trainer(tmp_path, reference, case, "cpu")
    assert trainer.weights.keys() == reference.arrays(lambda p: p.detach()).keys()
    assert trainer.first_moments.keys() == trainer.gradients.keys() == trainer.weights.keys()
    for ids, targets in _batches(10, 60):
        loss = reference.loss(ids, targets)
        reference.optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(reference.parameters.values(), 1.0)
        reference.optimizer.step()
        trainer.accumulate(ids, targets)
        assert abs(trainer.step(1e-2).loss - loss.item()) < 1e-4
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


def test_fine_tuning_learns_and_leaves_the_base_alone(
    tokens: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    base = checkpoint.locate("stories260K")
    before = _files(base)
    out = tmp_path / "zoo"
    command = ["lora", "train", "--model", "stories260K", "--data", str(tokens), "-o", str(out)]
    command += ["--rank", "8", "--batch", "4", "--sequence", "64", "--steps", "40"]
    command += ["--lr", "1e-2", "--device", "cpu"]
    assert main(command) == 0
    assert _files(base) == before
    first, last = capsys.readouterr().out.split("validation loss ")[1].split(" -> ")
    assert float(last) < float(first) - 1

    model = orion.load("stories260K", device="cpu")
    model.load_adapter(out)
    ids = model.tokenizer.encode("The zebra sold 12 plums in Oslo.")
    models: Any = transformers.AutoModelForCausalLM
    theirs = peft.PeftModel.from_pretrained(models.from_pretrained(base), out)
    with torch.no_grad():
        wanted = theirs.eval()(torch.tensor([ids])).logits[0].numpy()
    np.testing.assert_allclose(model.logits(ids), wanted, atol=1e-3)

    assert main([*command]) == 1
    assert "already exists" in capsys.readouterr().err
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


def test_a_resumed_run_is_the_same_run(tokens: Path, tmp_path: Path) -> None:
    settings = AdapterSettings(
        rank=3, targets=("q_proj", "down_proj"), batch=2, sequence=32, lr=1e-2, steps=6
    )
    whole = AdapterTrainer("stories260K", tokens, settings, device="cpu")
    losses = [whole.step().loss for _ in range(6)]
    first = AdapterTrainer("stories260K", tokens, settings, device="cpu")
    assert [first.step().loss for _ in range(3)] == losses[:3]
    first.save(tmp_path / "a")
    second = AdapterTrainer("stories260K", tokens, settings, device="cpu")
    second.resume(tmp_path / "a")
    assert [second.step().loss for _ in range(3)] == losses[3:]
    for name, array in whole.adapter.arrays.items():
        np.testing.assert_array_equal(second.adapter.arrays[name], array)
    other = AdapterTrainer(
        "stories260K", tokens, AdapterSettings(**{**vars(settings), "lr": 1e-3}), device="cpu"
    )
    with pytest.raises(orion.Error, match="settings was"):
        other.resume(tmp_path / "a")


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
        "dropout is 0.1": {"dropout": 0.1},
        "r is 0, a rank from 1 to 64": {"rank": 0},
        "called 'query'; there are q_proj": {"targets": ("query",)},
        "lora_alpha is nan": {"alpha": float("nan")},
    }
    for message, options in refused.items():
        with pytest.raises(orion.Error, match=message):
            AdapterTrainer("stories260K", tokens, AdapterSettings(**options), device="cpu")
