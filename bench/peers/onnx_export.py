"""transformers' model as an ONNX file with keys and values in and out, for more than one peer.

Inputs: ids (1, T), positions (1, T), mask (1, 1, T, S) that is added to the scores, kept (K,): the
positions whose logits are asked for, and key.i, value.i (1, G, S - T, D) of each layer. Outputs:
logits (1, K, V), new_key.i and new_value.i (1, G, S, D).
"""

from __future__ import annotations

import logging
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from orion_ane.bench.inference import Logits

from peers import pytorch

Array = NDArray[Any]
HIDDEN = np.float32(-3e38)


def export(path: str, file: Path) -> None:
    """Writes the model of a directory."""
    import torch
    from transformers import DynamicCache

    model = pytorch.load(path, attn_implementation="eager").eval()
    config = model.config

    class Cached(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, ids: Any, positions: Any, mask: Any, kept: Any, past: Any) -> Any:
            cache = DynamicCache()
            for i, (key, value) in enumerate(past):
                cache.update(key, value, i)
            out = self.model(
                ids,
                position_ids=positions,
                attention_mask=mask,
                past_key_values=cache,
                use_cache=True,
                logits_to_keep=kept,
            )
            new = [(layer.keys, layer.values) for layer in out.past_key_values.layers]
            return out.logits, new

    layers, heads, width = shape_of(config)
    tokens, before = 3, 5
    past = [
        (torch.zeros(1, heads, before, width), torch.zeros(1, heads, before, width))
        for _ in range(layers)
    ]
    arguments = (
        torch.zeros(1, tokens, dtype=torch.long),
        torch.arange(before, before + tokens)[None],
        torch.zeros(1, 1, tokens, before + tokens),
        torch.arange(2),
        past,
    )
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", category=FutureWarning)
    dim = torch.export.Dim.DYNAMIC
    shapes = ({1: dim}, {1: dim}, {2: dim, 3: dim}, {0: dim}, [({2: dim}, {2: dim})] * layers)
    names = [f"{what}.{i}" for i in range(layers) for what in ("key", "value")]
    torch.onnx.export(
        Cached().eval(),
        arguments,
        str(file),
        dynamo=True,
        dynamic_shapes=shapes,
        input_names=["ids", "positions", "mask", "kept", *names],
        output_names=["logits", *(f"new_{name}" for name in names)],
        external_data=True,
        verbose=False,
    )


def shape_of(config: Any) -> tuple[int, int, int]:
    """Layers, key/value heads, and their width."""
    heads = config.num_attention_heads
    width = getattr(config, "head_dim", None) or config.hidden_size // heads
    return config.num_hidden_layers, getattr(config, "num_key_value_heads", heads), width


class CachedDecoder:
    """What is the same for every engine that runs such a file."""

    def __init__(self, path: str, run: Callable[[dict[str, Array]], dict[str, Array]]) -> None:
        from transformers import AutoConfig

        self.run = run
        self.layers, self.heads, self.width = shape_of(AutoConfig.from_pretrained(path))

    def logits(self, ids: list[int]) -> Logits:
        return np.asarray(self._step(ids, range(len(ids)), self._nothing())[0][0], np.float32)

    def prefill(self, ids: list[int]) -> None:
        self._step(ids, [len(ids) - 1], self._nothing())

    def decode(self, ids: list[int], count: int) -> float:
        logits, past = self._step(ids, [len(ids) - 1], self._nothing())
        start = time.perf_counter()
        for _ in range(count):
            logits, past = self._step([int(logits[0, -1].argmax())], [0], past)
        return time.perf_counter() - start

    def _nothing(self) -> dict[str, Array]:
        empty = np.zeros((1, self.heads, 0, self.width), np.float32)
        return {f"{what}.{i}": empty for i in range(self.layers) for what in ("key", "value")}

    def _step(
        self, ids: list[int], kept: Any, past: dict[str, Array]
    ) -> tuple[Array, dict[str, Array]]:
        before, tokens = past["key.0"].shape[2], len(ids)
        mask = np.triu(np.full((tokens, before + tokens), HIDDEN), before + 1)
        given = {
            "ids": np.array([ids], np.int64),
            "positions": np.arange(before, before + tokens, dtype=np.int64)[None],
            "mask": mask[None, None],
            "kept": np.asarray(kept, np.int64),
        }
        out = self.run(given | past)
        return out["logits"], {name: out[f"new_{name}"] for name in past}
