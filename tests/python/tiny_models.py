"""Tiny random models made and saved by transformers, one for every architecture and option."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

GPT2: dict[str, Any] = {
    "vocab_size": 67,
    "n_positions": 41,
    "n_embd": 36,
    "n_layer": 3,
    "n_head": 3,
}
LLAMA: dict[str, Any] = {
    "vocab_size": 71,
    "max_position_embeddings": 41,
    "hidden_size": 36,
    "intermediate_size": 50,
    "num_hidden_layers": 3,
    "num_attention_heads": 6,
    "num_key_value_heads": 2,
}
LLAMA3_ROPE = {
    "rope_type": "llama3",
    "rope_theta": 500.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 32,
}
LINEAR_ROPE = {"rope_type": "linear", "rope_theta": 700.0, "factor": 3.0}

CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "gpt2": ("gpt2", GPT2),
    "gpt2-untied-wide": ("gpt2", {**GPT2, "n_inner": 50, "tie_word_embeddings": False}),
    "gpt2-relu": ("gpt2", {**GPT2, "activation_function": "relu"}),
    "gpt2-gelu": ("gpt2", {**GPT2, "activation_function": "gelu"}),
    "gpt2-unscaled": ("gpt2", {**GPT2, "scale_attn_weights": False}),
    "gpt2-scaled-by-layer": ("gpt2", {**GPT2, "scale_attn_by_inverse_layer_idx": True}),
    "gpt2-reordered": ("gpt2", {**GPT2, "reorder_and_upcast_attn": True}),
    "llama": ("llama", LLAMA),
    "llama-tied": ("llama", {**LLAMA, "tie_word_embeddings": True}),
    "llama-biases": ("llama", {**LLAMA, "attention_bias": True, "mlp_bias": True}),
    "llama-one-kv-head": ("llama", {**LLAMA, "num_key_value_heads": 1}),
    "llama-no-groups": ("llama", {**LLAMA, "num_key_value_heads": 6}),
    "llama-head-dim": ("llama", {**LLAMA, "head_dim": 14}),
    "llama-rope-llama3": ("llama", {**LLAMA, "rope_parameters": LLAMA3_ROPE}),
    "llama-rope-linear": ("llama", {**LLAMA, "rope_parameters": LINEAR_ROPE}),
    "qwen2": ("qwen2", LLAMA),
    "qwen2-tied": ("qwen2", {**LLAMA, "tie_word_embeddings": True}),
    "qwen3": ("qwen3", {**LLAMA, "head_dim": 10}),
    "qwen3-biases-tied": (
        "qwen3",
        {**LLAMA, "head_dim": 8, "attention_bias": True, "tie_word_embeddings": True},
    ),
}


def make(case: str, directory: Path) -> Callable[[list[int]], Any]:
    """Saves the model of a case; returns transformers' logits (T, V) as a function of token ids."""
    import torch
    import transformers

    model_type, options = CASES[case]
    torch.manual_seed(len(case))
    config = transformers.AutoConfig.for_model(model_type, **options)
    models: Any = transformers.AutoModelForCausalLM
    model = models.from_config(config, attn_implementation="eager")
    model.eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            is_norm = "norm" in name or "ln_" in name
            parameter.normal_(float(is_norm and name.endswith("weight")), 0.2)
    model.save_pretrained(directory)

    def logits(ids: list[int]) -> Any:
        with torch.no_grad():
            return model(torch.tensor([ids])).logits[0].float().numpy()

    return logits
