"""PyTorch with transformers: eager and compiled, fp32 and bf16."""

from __future__ import annotations

import time
import warnings
from typing import Any

import numpy as np
from orion_ane import _core
from orion_ane.bench.inference import Logits
from orion_ane.bench.remote import Contender
from orion_ane.bench.training import CLIP, LEARNING_RATE, WEIGHT_DECAY, Batch, Lesson, Step

from peers import Peer

# What makes MKL use AVX-512 where it would not by itself. It heeds this on Intel's processors.
MKL_AVX512 = {"MKL_ENABLE_INSTRUCTIONS": "AVX512"}


def load(path: str, **options: Any) -> Any:
    """transformers' model of a directory, fp32."""
    import torch
    import transformers
    from transformers import AutoModelForCausalLM

    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    # Newer versions want `cache`, which older ones do not know.
    warnings.filterwarnings("ignore", "`past_key_values`", FutureWarning)
    torch.set_num_threads(_core.thread_count())
    return AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32, **options)


class TorchDecoder:
    def __init__(self, path: str, dtype: str, compiled: bool) -> None:
        import torch

        self.torch = torch
        self.model = load(path).to(getattr(torch, dtype)).eval()
        self.forward = torch.compile(self.model) if compiled else self.model

    def logits(self, ids: list[int]) -> Logits:
        with self.torch.inference_mode():
            out = self.model(self.torch.tensor([ids])).logits[0].float().numpy()
        return np.asarray(out)

    def prefill(self, ids: list[int]) -> None:
        self._read(ids)

    def decode(self, ids: list[int], count: int) -> float:
        with self.torch.inference_mode():
            out = self._read(ids)
            start = time.perf_counter()
            for _ in range(count):
                token = out.logits[:, -1:].argmax(-1)
                out = self.forward(token, past_key_values=out.past_key_values, use_cache=True)
            return time.perf_counter() - start

    def _read(self, ids: list[int]) -> Any:
        with self.torch.inference_mode():
            return self.forward(self.torch.tensor([ids]), use_cache=True, logits_to_keep=1)


class TorchLearner:
    """AdamW is the fused one; vectors do not decay, as in our trainer."""

    def __init__(self, path: str, autocast: bool, compiled: bool) -> None:
        import torch

        off = {"attn_pdrop": 0.0, "embd_pdrop": 0.0, "resid_pdrop": 0.0}
        self.torch, self.autocast = torch, autocast
        self.model = load(path)
        for name, value in off.items():
            setattr(self.model.config, name, value)
        for module in self.model.modules():
            if isinstance(module, torch.nn.Dropout):
                module.p = 0.0
        self.model.train()
        self.forward = torch.compile(self.model) if compiled else self.model
        groups = [
            {"params": [p for p in self.model.parameters() if p.dim() > 1]},
            {"params": [p for p in self.model.parameters() if p.dim() == 1], "weight_decay": 0.0},
        ]
        self.optimizer = torch.optim.AdamW(
            groups, lr=LEARNING_RATE, weight_decay=WEIGHT_DECAY, fused=True
        )

    def loss_of(self, batch: Batch) -> Any:
        torch = self.torch
        ids, targets = (torch.from_numpy(array).long() for array in batch)
        with torch.autocast("cpu", torch.bfloat16, enabled=self.autocast):
            logits = self.forward(ids, use_cache=False).logits
        return torch.nn.functional.cross_entropy(logits.float().flatten(0, 1), targets.flatten())

    def step(self, batches: list[Batch]) -> Step:
        start = time.perf_counter()
        total = 0.0
        for batch in batches:
            loss = self.loss_of(batch) / len(batches)
            loss.backward()
            total += loss.item()
        self.torch.nn.utils.clip_grad_norm_(self.model.parameters(), CLIP)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        return Step(time.perf_counter() - start, total)


def decoders(path: str) -> list[Contender]:
    return [
        Contender(
            f"pytorch {'compile ' if compiled else ''}{short}",
            TorchDecoder,
            (path, dtype, compiled),
            weight_bytes=width,
            products=short,
        )
        for compiled in (False, True)
        for short, dtype, width in (("fp32", "float32", 4), ("bf16", "bfloat16", 2))
    ]


def learners(path: str, _: Lesson) -> list[Contender]:
    return [
        Contender("pytorch fp32", TorchLearner, (path, False, False)),
        Contender("pytorch mkl-avx512 fp32", TorchLearner, (path, False, False), env=MKL_AVX512),
        Contender("pytorch compile fp32", TorchLearner, (path, False, True)),
        Contender("pytorch bf16", TorchLearner, (path, True, False), products="bf16"),
        Contender("pytorch compile bf16", TorchLearner, (path, True, True), products="bf16"),
    ]


PEER = Peer(
    "PyTorch",
    ("torch", "transformers"),
    "pip install torch transformers",
    decoders,
    learners,
)
