"""Shapes of models that can be trained from the start, by name."""

from __future__ import annotations

from typing import Any


def _gpt2(width: int, layers: int, heads: int) -> dict[str, Any]:
    return {
        "architectures": ["GPT2LMHeadModel"],
        "model_type": "gpt2",
        "vocab_size": 50257,
        "n_positions": 1024,
        "n_embd": width,
        "n_layer": layers,
        "n_head": heads,
        "activation_function": "gelu_new",
    }


def _stories(
    width: int, inner: int, layers: int, heads: int, context: int, vocab: int = 32000
) -> dict[str, Any]:
    """The shapes of karpathy/tinyllamas."""
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "vocab_size": vocab,
        "max_position_embeddings": context,
        "hidden_size": width,
        "intermediate_size": inner,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": heads,
        "rms_norm_eps": 1e-5,
        "tie_word_embeddings": True,
    }


PRESETS: dict[str, dict[str, Any]] = {
    "gpt2-124m": _gpt2(768, 12, 12),
    "stories-110m": _stories(768, 2048, 12, 12, 1024),
    "stories-15m": _stories(288, 768, 6, 6, 256),
    "stories-1m": _stories(128, 344, 4, 4, 256, vocab=512),
}
"""config.json of each; a checkpoint that transformers loads needs no more."""
