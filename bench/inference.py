"""Decode and prefill of GPT-2 124M (or a Stories110M-shaped Llama), beside PyTorch where installed.

    python bench/inference.py [--model gpt2-124m|stories-110m] [--rounds 5] [--json FILE]

Weights are random: speed does not depend on them. Every contender reads the same 512-token prompt
(prefill) and generates 64 tokens after 32 (decode), taking turns; medians are reported. The logit
error is the largest difference from our fp32 logits over the prompt.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from harness import Result, alternate, machine, save, table
from numpy.typing import NDArray
from orion_ane import _core
from orion_ane.initialization import random_weights
from orion_ane.placement import DTYPES
from orion_ane.presets import PRESETS

PREFILL_TOKENS = 512
DECODE_PROMPT = 32
DECODE_TOKENS = 64

MODELS = ("gpt2-124m", "stories-110m")

Array = NDArray[np.float32]


class Orion:
    """Our contender with its weights kept in one way."""

    def __init__(self, config: dict[str, Any], weights: dict[str, Array], dtype: str) -> None:
        self.model = _core.LanguageModel(config, weights, dtype, "cpu")

    def logits(self, ids: list[int]) -> Array:
        return np.asarray(self.model.logits(ids))

    def generate(self, ids: list[int], count: int) -> None:
        generation = _core.Generation(self.model, [ids], _core.SamplerOptions(), count, [])
        while not generation.done:
            generation.step()


class Torch:
    """transformers' model on PyTorch at one width."""

    def __init__(self, config: dict[str, Any], weights: dict[str, Array], dtype: str) -> None:
        import torch
        from transformers import AutoConfig, AutoModelForCausalLM

        torch.set_num_threads(_core.thread_count())
        given = {key: value for key, value in config.items() if key != "model_type"}
        settings = AutoConfig.for_model(config["model_type"], **given)
        self.torch = torch
        self.model = AutoModelForCausalLM.from_config(settings)
        state = {name: torch.from_numpy(value) for name, value in weights.items()}
        missing, unexpected = self.model.load_state_dict(state, strict=False)
        if unexpected or any("lm_head" not in name for name in missing):
            raise RuntimeError(f"weights do not match: {missing} {unexpected}")
        self.model = self.model.to(getattr(torch, dtype)).eval()

    def logits(self, ids: list[int]) -> Array:
        with self.torch.inference_mode():
            out = self.model(self.torch.tensor([ids])).logits[0].float().numpy()
        return np.asarray(out)

    def generate(self, ids: list[int], count: int) -> None:
        with self.torch.inference_mode():
            out = self.model(self.torch.tensor([ids]), use_cache=True, logits_to_keep=1)
            for _ in range(count - 1):
                token = out.logits[:, -1:].argmax(-1)
                out = self.model(token, past_key_values=out.past_key_values, use_cache=True)


def contenders(name: str) -> dict[str, Orion | Torch]:
    config = PRESETS[name]
    weights = random_weights(config)
    found: dict[str, Orion | Torch] = {
        f"orion {dtype}": Orion(config, weights, dtype) for dtype in DTYPES
    }
    if importlib.util.find_spec("torch") and importlib.util.find_spec("transformers"):
        found["pytorch fp32"] = Torch(config, weights, "float32")
        found["pytorch bf16"] = Torch(config, weights, "bfloat16")
    else:
        print("PyTorch or transformers is not installed: no peer to compare with")
    return found


def measure(
    task: str,
    names: list[str],
    run: Callable[[str], Callable[[], object]],
    units: float,
    rounds: int,
    parity: dict[str, float],
) -> list[Result]:
    seconds = alternate({name: run(name) for name in names}, rounds)
    return [Result(task, name, seconds[name], units, parity[name]) for name in names]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", choices=MODELS, default="gpt2-124m")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int)
    parser.add_argument("--json", type=Path, metavar="FILE")
    options = parser.parse_args()
    if options.threads:
        os.environ["ORION_NUM_THREADS"] = str(options.threads)

    models = contenders(options.model)
    names = list(models)
    vocab = PRESETS[options.model]["vocab_size"]
    prompt = [int(i) for i in np.random.default_rng(1).integers(0, vocab, PREFILL_TOKENS)]
    short = prompt[:DECODE_PROMPT]

    reference = models["orion fp32"].logits(prompt)
    parity = {n: float(np.abs(models[n].logits(prompt) - reference).max()) for n in names}
    results = measure(
        f"prefill {PREFILL_TOKENS}",
        names,
        lambda name: lambda: models[name].generate(prompt, 1),
        PREFILL_TOKENS,
        options.rounds,
        parity,
    )
    both = alternate(
        {n: lambda n=n: models[n].generate(short, DECODE_TOKENS + 1) for n in names}, options.rounds
    )
    first = alternate({n: lambda n=n: models[n].generate(short, 1) for n in names}, options.rounds)
    for name in names:
        decode = [b - f for b, f in zip(both[name], first[name], strict=True)]
        task = f"decode {DECODE_TOKENS}"
        results.append(Result(task, name, decode, DECODE_TOKENS, parity[name]))

    described = machine()
    print(f"{options.model} on {described['cpu']}, {_core.thread_count()} threads")
    print(table(results, "tokens/s", "pytorch fp32"))
    if options.json:
        save(options.json, results)


if __name__ == "__main__":
    main()
