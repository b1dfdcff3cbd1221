"""A training step of a Stories110M-shaped Llama or GPT-2 124M, beside PyTorch where installed.

    python bench/training.py [--model stories-110m|gpt2-124m|tiny] [--batch 1] [--sequence 256]
                             [--accumulate 1] [--rounds 5] [--json FILE]

A step is forward, backward, clipping and AdamW (PyTorch's fused one). All contenders start from the
same random weights and read the same random tokens. Each runs in a process of its own, so that
its peak memory can be told; they take turns, and medians are reported. `loss off` is the largest
difference of a step's loss from that of PyTorch in fp32. The share of the ceiling is that of our
own product of large square matrices, measured in the same run.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import multiprocessing
import os
import resource
import statistics
import sys
import time
from dataclasses import asdict, dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from harness import machine
from inference import MODELS
from numpy.typing import NDArray
from orion_ane.initialization import random_weights
from orion_ane.presets import PRESETS

LEARNING_RATE = 1e-4
WEIGHT_DECAY = 0.01
CLIP = 1.0

TINY = PRESETS["stories-110m"] | {
    "vocab_size": 500,
    "hidden_size": 64,
    "intermediate_size": 160,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 4,
}
CONFIGS: dict[str, dict[str, Any]] = {name: PRESETS[name] for name in MODELS} | {"tiny": TINY}

Ids = NDArray[np.int32]


@dataclass(frozen=True)
class Work:
    """What every contender trains."""

    model: str
    batch: int
    sequence: int
    accumulate: int

    @property
    def tokens(self) -> int:
        return self.batch * self.sequence * self.accumulate

    def micro_batches(self, step: int) -> list[tuple[Ids, Ids]]:
        """Ids and targets (B, S) of every micro-batch of a step."""
        rng = np.random.default_rng(step)
        shape = (self.accumulate, self.batch, self.sequence + 1)
        tokens = rng.integers(0, CONFIGS[self.model]["vocab_size"], shape, dtype=np.int32)
        return [(np.ascontiguousarray(t[:, :-1]), np.ascontiguousarray(t[:, 1:])) for t in tokens]

    def flops(self) -> float:
        """Six per weight and token; attention's two products forward, and twice that back."""
        config = CONFIGS[self.model]
        layers = config.get("num_hidden_layers") or config["n_layer"]
        width = config.get("hidden_size") or config["n_embd"]
        inner = config.get("intermediate_size")
        layer = 4 * width**2 + (3 * width * inner if inner else 8 * width**2)
        weights = layers * layer + config["vocab_size"] * width
        return float(self.tokens * (6 * weights + 12 * layers * width * self.sequence))


@dataclass
class Step:
    seconds: float
    loss: float
    times: dict[str, float] = field(default_factory=dict)


class Contender(Protocol):
    def step(self, batches: list[tuple[Ids, Ids]]) -> Step: ...


class Handed(dict[str, Any]):
    """Weights that are gone once they have been taken, so that they are not held twice."""

    def get(self, name: str, default: Any = None) -> Any:
        return self.pop(name, default)


class Orion:
    """Our trainer on the CPU."""

    def __init__(self, work: Work, precision: str) -> None:
        from orion_ane import _core

        config = CONFIGS[work.model]
        options = _core.TrainOptions(
            batch=work.batch,
            sequence=work.sequence,
            weight_decay=WEIGHT_DECAY,
            clip=CLIP,
            precision=precision,
        )
        self.trainer = _core.Trainer(config, Handed(random_weights(config)), "cpu", options)

    def step(self, batches: list[tuple[Ids, Ids]]) -> Step:
        start = time.perf_counter()
        for ids, targets in batches:
            self.trainer.accumulate(ids, targets)
        report = self.trainer.step(LEARNING_RATE)
        return Step(time.perf_counter() - start, report.loss, dict(report.times))


class Torch:
    """transformers' model and torch.optim.AdamW; vectors do not decay, as in our trainer."""

    def __init__(self, work: Work, autocast: bool) -> None:
        import torch
        from orion_ane import _core
        from transformers import AutoConfig, AutoModelForCausalLM

        torch.set_num_threads(_core.thread_count())
        config = CONFIGS[work.model]
        given = {key: value for key, value in config.items() if key != "model_type"}
        given |= {"attn_pdrop": 0.0, "embd_pdrop": 0.0, "resid_pdrop": 0.0}
        model = AutoModelForCausalLM.from_config(
            AutoConfig.for_model(config["model_type"], **given)
        )
        state = {name: torch.from_numpy(w) for name, w in random_weights(config).items()}
        missing, unexpected = model.load_state_dict(state, strict=False)
        if unexpected or any("lm_head" not in name for name in missing):
            raise RuntimeError(f"weights do not match: {missing} {unexpected}")
        del state
        self.torch, self.autocast, self.model = torch, autocast, model.train()
        groups = [
            {"params": [p for p in model.parameters() if p.dim() > 1]},
            {"params": [p for p in model.parameters() if p.dim() == 1], "weight_decay": 0.0},
        ]
        self.optimizer = torch.optim.AdamW(
            groups, lr=LEARNING_RATE, weight_decay=WEIGHT_DECAY, fused=True
        )

    def loss_of(self, ids: Ids, targets: Ids) -> Any:
        torch = self.torch
        with torch.autocast("cpu", torch.bfloat16, enabled=self.autocast):
            logits = self.model(torch.from_numpy(ids).long(), use_cache=False).logits
        flat = torch.from_numpy(targets).long().flatten()
        return torch.nn.functional.cross_entropy(logits.float().flatten(0, 1), flat)

    def step(self, batches: list[tuple[Ids, Ids]]) -> Step:
        start = time.perf_counter()
        total = 0.0
        for ids, targets in batches:
            loss = self.loss_of(ids, targets) / len(batches)
            loss.backward()
            total += loss.item()
        self.torch.nn.utils.clip_grad_norm_(self.model.parameters(), CLIP)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        return Step(time.perf_counter() - start, total)


def make(name: str, work: Work) -> Contender:
    library, precision = name.split()
    return Orion(work, precision) if library == "orion" else Torch(work, precision == "bf16")


def peak_bytes() -> int:
    """Of this process since it began."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def serve(name: str, work: Work, pipe: Connection) -> None:
    """A contender's process: steps on demand, then its peak memory."""
    contender = make(name, work)
    pipe.send("ready")
    while (step := pipe.recv()) is not None:
        pipe.send(contender.step(work.micro_batches(step)))
    pipe.send(peak_bytes())


def square_product(size: int, rounds: int = 5) -> dict[str, float]:
    """GFLOP/s of our own and of NumPy's product of square matrices, best of some."""
    import orion_ane as orion

    graph = orion.Graph("product")
    x, y = (graph.input(name, (size, size), "fp32") for name in ("x", "y"))
    graph.output("z", orion.ops.matmul(x, y))
    program = orion.compile(graph, {}, device="cpu")
    ones = np.ones((size, size), np.float32)
    runs = {"orion": lambda: program(x=ones, y=ones), "numpy": lambda: ones @ ones}
    best = dict.fromkeys(runs, 0.0)
    for _ in range(rounds):
        for name, run in runs.items():
            start = time.perf_counter()
            run()
            best[name] = max(best[name], 2e-9 * size**3 / (time.perf_counter() - start))
    return best


@dataclass
class Result:
    contender: str
    steps: list[Step]
    peak_bytes: int
    loss_off: float | None = None

    @property
    def median(self) -> float:
        return statistics.median(s.seconds for s in self.steps)

    def breakdown(self) -> dict[str, float]:
        """Milliseconds of the parts of the step in the middle; `other` is what they leave."""
        step = sorted(self.steps, key=lambda s: s.seconds)[len(self.steps) // 2]
        parts = {key: 1e3 * seconds for key, seconds in step.times.items()}
        return parts and parts | {"other": 1e3 * step.seconds - sum(parts.values())}


def compare(names: list[str], work: Work, rounds: int, warmup: int) -> list[Result]:
    """Every contender in a process of its own, one step each in turn."""
    context = multiprocessing.get_context("spawn")
    pipes: dict[str, Connection] = {}
    processes = []
    for name in names:
        pipes[name], other = context.Pipe()
        processes.append(context.Process(target=serve, args=(name, work, other), daemon=True))
        processes[-1].start()
        other.close()
        pipes[name].recv()
    steps: dict[str, list[Step]] = {name: [] for name in names}
    for step in range(warmup + rounds):
        for name in names:
            pipes[name].send(step)
            steps[name].append(pipes[name].recv())
    results = []
    for name, process in zip(names, processes, strict=True):
        pipes[name].send(None)
        results.append(Result(name, steps[name][warmup:], pipes[name].recv()))
        process.join()
    losses = {r.contender: [s.loss for s in r.steps] for r in results}
    for result in results:
        if "pytorch fp32" in losses:
            pairs = zip(losses[result.contender], losses["pytorch fp32"], strict=True)
            result.loss_off = max(abs(a - b) for a, b in pairs)
    return results


def table(results: list[Result], work: Work, ceiling: float) -> str:
    base = {r.contender: r for r in results}.get("pytorch fp32")
    columns = "{:<14}{:>9}{:>10}{:>9}{:>9}{:>8}{:>10}{:>8}{:>11}"
    heads = ("contender", "ms", "tokens/s", "GFLOP/s", "ceiling", "ratio", "peak MiB", "ratio")
    lines = [columns.format(*heads, "loss off")]
    for r in results:
        rate = work.flops() / r.median / 1e9
        faster = f"{base.median / r.median:.2f}" if base else "-"
        smaller = f"{r.peak_bytes / base.peak_bytes:.2f}" if base else "-"
        off = "-" if r.loss_off is None else f"{r.loss_off:.2g}"
        row = (f"{1e3 * r.median:.0f}", f"{work.tokens / r.median:.0f}", f"{rate:.0f}")
        memory = (f"{r.peak_bytes / 2**20:.0f}", smaller)
        lines.append(
            columns.format(r.contender, *row, f"{rate / ceiling:.0%}", faster, *memory, off)
        )
    for r in results:
        if parts := r.breakdown():
            told = ", ".join(f"{key} {value:.0f}" for key, value in parts.items())
            lines.append(f"{r.contender}, ms: {told}")
    return "\n".join(lines)


def contenders(bf16: bool) -> list[str]:
    libraries = ["orion", "pytorch"]
    if not (importlib.util.find_spec("torch") and importlib.util.find_spec("transformers")):
        print("PyTorch or transformers is not installed: no peer to compare with")
        libraries = ["orion"]
    precisions = ("fp32", "bf16") if bf16 else ("fp32",)
    return [f"{library} {precision}" for precision in precisions for library in libraries]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", choices=CONFIGS, default="stories-110m")
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--sequence", type=int, default=256)
    parser.add_argument("--accumulate", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--warmup", type=int, default=1)
    parser.add_argument("--threads", type=int)
    parser.add_argument("--no-bf16", action="store_true", help="fp32 alone")
    parser.add_argument("--json", type=Path, metavar="FILE")
    options = parser.parse_args()
    if options.threads:
        os.environ["ORION_NUM_THREADS"] = str(options.threads)

    work = Work(options.model, options.batch, options.sequence, options.accumulate)
    results = compare(contenders(not options.no_bf16), work, options.rounds, options.warmup)
    products = square_product(256 if work.model == "tiny" else 2048)
    described = machine()
    shape = f"{work.batch} x {work.sequence}, {work.accumulate} micro-batches a step"
    print(f"{work.model}, {shape}, on {described['cpu']}")
    print(table(results, work, products["orion"]))
    print(", ".join(f"{name} {rate:.0f} GFLOP/s" for name, rate in products.items()))
    if options.json:
        rows = [asdict(r) | {"median": r.median, "breakdown_ms": r.breakdown()} for r in results]
        record = {"machine": described, "work": asdict(work), "flops": work.flops()}
        record |= {"square_products_gflops": products, "results": rows}
        options.json.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
