"""Time to change adapters, beside loading and compiling the model anew with another one worked in.

    python bench/adapters.py [--device cpu] [--rank 16] [--swaps 1000] [--rounds 3] [--json FILE]

"swap" is `set_adapter` alone, "token" the first token after a prompt, "swap and token" both: what
an engine does at a swap, it does before that token. A reload makes the model with its weights again
and gives its first token.
"""

from __future__ import annotations

import argparse
import shlex
import sys
from pathlib import Path
from typing import Any

from orion_ane import _core
from orion_ane.bench import machine, report
from orion_ane.bench.report import Report, Row
from orion_ane.bench.timing import alternate
from orion_ane.initialization import random_weights
from orion_ane.process_memory import peak_memory

CONFIG: dict[str, Any] = {
    "model_type": "llama",
    "vocab_size": 512,
    "max_position_embeddings": 512,
    "hidden_size": 256,
    "intermediate_size": 688,
    "num_hidden_layers": 4,
    "num_attention_heads": 8,
    "num_key_value_heads": 4,
    "rms_norm_eps": 1e-5,
    "tie_word_embeddings": True,
}
TARGETS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
ADAPTERS = 8
PROMPT = [1, 2, 3, 4]


def make_model(device: str, values: dict[str, Any]) -> _core.TextModel:
    if device == "cpu":
        return _core.LanguageModel(CONFIG, values, "fp16", "cpu")
    return _core.EngineModel(CONFIG, values, device)


def one_token(model: _core.TextModel) -> None:
    _core.Generation(model, [PROMPT], _core.SamplerOptions(), 1, []).step()


class Swapper:
    """A model with adapters, changed at every call."""

    def __init__(self, device: str, values: dict[str, Any], rank: int) -> None:
        self.model = make_model(device, values)
        shape = _core.LoraShape(rank=rank, scale=0.5, targets=TARGETS)
        for i in range(ADAPTERS):
            arrays = _core.initial_lora(CONFIG, shape, i)
            self.model.adapters.add(str(i), shape, arrays)
        self.count = 0

    def swap(self) -> None:
        self.count += 1
        self.model.adapters.activate(str(self.count % ADAPTERS))

    def token(self) -> None:
        one_token(self.model)

    def swap_and_token(self) -> None:
        self.swap()
        self.token()


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--rank", type=int, default=16)
    parser.add_argument("--swaps", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=Path, metavar="FILE")
    options = parser.parse_args()

    values = random_weights(CONFIG)
    swapper = Swapper(options.device, values, options.rank)
    runs = {
        "swap": swapper.swap,
        "token": swapper.token,
        "swap and token": swapper.swap_and_token,
        "reload and token": lambda: one_token(make_model(options.device, values)),
    }
    seconds = alternate(runs, options.rounds, warmup=ADAPTERS)
    compiles = swapper.model.compiles
    before = peak_memory()
    for i in range(options.swaps):
        swapper.swap()
        if i % 50 == 0:
            swapper.token()
    grown = (peak_memory() - before) // 1024
    rows = [Row("adapters", "change", name, "s", seconds[name]) for name in runs]
    settings = {name: value for name, value in vars(options).items() if name != "json"}
    command = shlex.join(["python", *sys.argv])
    found = Report(machine.describe(), settings, command, machine.commit(), {}, rows)
    print(f"{report.head(found)}\n{options.device}, rank {options.rank}")
    print(report.table(rows, "reload and token"))
    print(
        f"{options.swaps} swaps: {swapper.model.compiles - compiles} compiles, "
        f"peak memory grew by {grown} KiB"
    )
    if options.json:
        report.save(found, options.json)


if __name__ == "__main__":
    main()
