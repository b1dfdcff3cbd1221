"""Training as PyTorch and transformers do it: ten steps of tiny models, kept in tests/golden.

    python tests/python/training_reference.py      writes tests/golden/training_*.safetensors

A run starts from given weights. Each step has two micro-batches with different numbers of targets,
some of them -100; gradients are those of the mean over all targets of the step.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

GOLDEN = Path(__file__).parents[1] / "golden"
STEPS, MICRO_BATCHES, BATCH, SEQUENCE, VOCAB = 10, 2, 2, 8, 29
IGNORED = -100

LLAMA: dict[str, Any] = {
    "vocab_size": VOCAB,
    "max_position_embeddings": 12,
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
}
CONFIGS: dict[str, dict[str, Any]] = {
    "gpt2": {"vocab_size": VOCAB, "n_positions": 12, "n_embd": 16, "n_layer": 2, "n_head": 2},
    "llama": {**LLAMA, "tie_word_embeddings": False},
    "qwen2": {**LLAMA, "tie_word_embeddings": True},
    "qwen3": {**LLAMA, "head_dim": 6, "tie_word_embeddings": True},
}
HYPER: dict[str, float] = {"beta1": 0.9, "beta2": 0.99, "epsilon": 1e-8, "weight_decay": 0.1}
# Norms of gradients are on both sides during a run.
CLIP = {"gpt2": 1.7, "llama": 2.6, "qwen2": 2.6, "qwen3": 2.7}


@dataclass
class Run:
    """One run: where it starts, what it reads, and what PyTorch makes of it."""

    config: dict[str, Any]
    hyper: dict[str, float]
    ids: NDArray[np.int32]  # (steps, micro-batches, B, S)
    targets: NDArray[np.int32]  # the same; -100 does not count
    rates: NDArray[np.float32]  # of learning, by step
    logits: NDArray[np.float32]  # (S, V) of the first sequence, before the first step
    losses: NDArray[np.float32]
    norms: NDArray[np.float32]  # of all gradients together, before clipping
    weights: dict[str, NDArray[np.float32]]  # before
    gradients: dict[str, NDArray[np.float32]]  # of the first step
    final: dict[str, NDArray[np.float32]]  # weights after the last step

    ARRAYS = ("ids", "targets", "rates", "logits", "losses", "norms")
    GROUPS = ("weights", "gradients", "final")

    def save(self, path: Path) -> None:
        from safetensors.numpy import save_file

        tensors = {name: getattr(self, name) for name in self.ARRAYS}
        for group in self.GROUPS:
            tensors |= {f"{group}/{name}": a for name, a in getattr(self, group).items()}
        notes = {"config": json.dumps(self.config), "hyper": json.dumps(self.hyper)}
        save_file({k: np.ascontiguousarray(v) for k, v in tensors.items()}, path, notes)

    @classmethod
    def load(cls, path: Path) -> Run:
        from safetensors import safe_open

        with safe_open(path, "np") as file:
            notes = file.metadata()
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        groups: dict[str, Any] = {
            group: {k.split("/", 1)[1]: v for k, v in tensors.items() if k.startswith(f"{group}/")}
            for group in cls.GROUPS
        }
        arrays = {name: tensors[name] for name in cls.ARRAYS}
        return cls(json.loads(notes["config"]), json.loads(notes["hyper"]), **arrays, **groups)


def golden_path(model_type: str) -> Path:
    return GOLDEN / f"training_{model_type}.safetensors"


def batches(random: np.random.Generator) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    text = random.integers(0, VOCAB, (STEPS, MICRO_BATCHES, BATCH, SEQUENCE + 1))
    ids, targets = text[..., :-1].astype(np.int32), text[..., 1:].astype(np.int32)
    targets[:, 0, 0, :3] = IGNORED
    targets[random.random(targets.shape) < 0.1] = IGNORED
    return ids, targets


def make(model_type: str, seed: int = 0) -> Run:
    """Trains a model of random weights with PyTorch."""
    import torch
    import transformers

    torch.manual_seed(seed)
    config = transformers.AutoConfig.for_model(model_type, **CONFIGS[model_type])
    for dropout in ("resid_pdrop", "embd_pdrop", "attn_pdrop"):
        setattr(config, dropout, 0.0)
    models: Any = transformers.AutoModelForCausalLM
    model = models.from_config(config, attn_implementation="eager").float()
    model.train()
    parameters: dict[str, Any] = dict(model.named_parameters())
    with torch.no_grad():
        for name, parameter in parameters.items():
            is_norm = "norm" in name or "ln_" in name
            parameter.normal_(float(is_norm and name.endswith("weight")), 0.2)

    def values() -> dict[str, NDArray[np.float32]]:
        return {name: p.detach().numpy().copy() for name, p in parameters.items()}

    def loss_sum(ids: NDArray[np.int32], targets: NDArray[np.int32]) -> Any:
        logits = model(torch.tensor(ids).long()).logits
        wanted = torch.tensor(targets).long().reshape(-1)
        return torch.nn.functional.cross_entropy(
            logits.reshape(-1, VOCAB), wanted, ignore_index=IGNORED, reduction="sum"
        )

    ids, targets = batches(np.random.default_rng(seed))
    rates = np.linspace(2e-3, 5e-4, STEPS).astype(np.float32)
    weights = values()
    with torch.no_grad():
        logits = model(torch.tensor(ids[0, 0, :1]).long()).logits[0].numpy().copy()

    matrices = [p for p in parameters.values() if p.dim() > 1]
    vectors = [p for p in parameters.values() if p.dim() <= 1]
    optimizer = torch.optim.AdamW(
        [
            {"params": matrices, "weight_decay": HYPER["weight_decay"]},
            {"params": vectors, "weight_decay": 0.0},
        ],
        betas=(HYPER["beta1"], HYPER["beta2"]),
        eps=HYPER["epsilon"],
    )
    losses, norms = [], []
    gradients: dict[str, NDArray[np.float32]] = {}
    for step in range(STEPS):
        optimizer.zero_grad()
        count = int((targets[step] != IGNORED).sum())
        total = 0.0
        for micro in range(MICRO_BATCHES):
            loss = loss_sum(ids[step, micro], targets[step, micro]) / count
            loss.backward()
            total += loss.item()
        if step == 0:
            gradients = {name: p.grad.numpy().copy() for name, p in parameters.items()}
        losses.append(total)
        norm = torch.nn.utils.clip_grad_norm_(list(parameters.values()), CLIP[model_type])
        norms.append(norm.item())
        for group in optimizer.param_groups:
            group["lr"] = float(rates[step])
        optimizer.step()
    return Run(
        config={"model_type": model_type, **CONFIGS[model_type]},
        hyper={**HYPER, "clip": CLIP[model_type]},
        ids=ids,
        targets=targets,
        rates=rates,
        logits=logits,
        losses=np.array(losses, np.float32),
        norms=np.array(norms, np.float32),
        weights=weights,
        gradients=gradients,
        final=values(),
    )


if __name__ == "__main__":
    for name in CONFIGS:
        make(name).save(golden_path(name))
