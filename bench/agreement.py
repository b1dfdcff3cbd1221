"""How near a GPT-2 in segments on simulated engines is to the same model in fp32.

    python bench/agreement.py [--width 768] [--layers 12] [--heads 12] [--vocab 50257] [--seeds 1]
                              [--weights init|wide|peaked] [--profiles strict,...] [--decode]

The fp32 model writes 64 tokens after a random prompt of 3, greedily. Every position of that text is
then asked for its best token. Where the best two of fp32 are nearer to each other than fp16 is to
fp32, no engine can be held to an answer: the smallest margin is printed beside the errors.
"""

from __future__ import annotations

import argparse
from typing import Any

import numpy as np
from numpy.typing import NDArray
from orion_ane import _core

Array = NDArray[np.float32]

PROMPT = 3
STEPS = 64

# Standard deviations of matrices and of the embedding, which is the head too. GPT-2 starts with
# init; an embedding of 0.14, as it is when trained, gives logits with a range of tens.
WEIGHTS = {"init": (0.02, 0.02), "wide": (0.05, 0.05), "peaked": (0.05, 0.14)}


def random_weights(config: dict[str, Any], kind: str, seed: int) -> dict[str, Array]:
    """Gains are 1, biases 0, projections into the residual stream smaller in deep models."""
    random = np.random.default_rng(seed)
    matrices, embedding = WEIGHTS[kind]
    weights = {}
    for name, shape in _core.model_weights(config).items():
        if len(shape) == 1:
            weights[name] = np.full(shape, float("weight" in name), np.float32)
            continue
        std = embedding if "wte" in name else matrices
        if name.endswith("c_proj.weight"):
            std /= (2 * config["n_layer"]) ** 0.5
        weights[name] = random.normal(0.0, std, shape).astype(np.float32)
    return weights


def greedy(model: _core.TextModel, ids: list[int], count: int) -> list[int]:
    generation = _core.Generation(model, [ids], _core.SamplerOptions(), count, [])
    tokens: list[int] = []
    while not generation.done:
        tokens += [token.choice.id for token in generation.step()]
    return tokens


def margins(logits: Array) -> Array:
    """How far the best token is ahead of the second, by position."""
    best = np.partition(logits, -2, axis=-1)[:, -2:]
    return best[:, 1] - best[:, 0]


def compare(options: argparse.Namespace, seed: int) -> None:
    config = {
        "model_type": "gpt2",
        "vocab_size": options.vocab,
        "n_positions": 1024,
        "n_embd": options.width,
        "n_layer": options.layers,
        "n_head": options.heads,
    }
    weights = random_weights(config, options.weights, seed)
    whole = _core.LanguageModel(config, weights, "fp32", "cpu")
    prompt = np.random.default_rng(seed).integers(0, options.vocab, PROMPT).tolist()
    text = prompt + greedy(whole, prompt, STEPS)
    asked = slice(PROMPT - 1, -1)
    wanted = whole.logits(text)
    smallest = margins(wanted[asked]).min()
    print(f"seed {seed}: logits {wanted.min():.2f} to {wanted.max():.2f}, margin {smallest:.6f}")
    for profile in options.profiles.split(","):
        model = _core.EngineModel(config, weights, f"sim:{profile}")
        got = model.logits(text)
        agreed = got[asked].argmax(-1) == wanted[asked].argmax(-1)
        missed = margins(wanted[asked])[~agreed]
        line = (
            f"  {profile}: top-1 {agreed.sum()} of {STEPS}, error {np.abs(got - wanted).max():.5f}"
        )
        line += f", missed margins {missed.tolist()}" if len(missed) else ""
        if options.decode:
            same = greedy(model, prompt, STEPS) == text[PROMPT:]
            line += f", decoded {'the same' if same else 'another'} text"
        print(line, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description="Agreement with fp32 on simulated engines.")
    for name, value in (("width", 768), ("layers", 12), ("heads", 12), ("vocab", 50257)):
        parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--weights", choices=WEIGHTS, default="init")
    parser.add_argument("--profiles", default="paper-m4-macos15,strict")
    parser.add_argument("--decode", action="store_true", help="let each engine write the text too")
    options = parser.parse_args()
    for seed in range(options.seeds):
        compare(options, seed)


if __name__ == "__main__":
    main()
