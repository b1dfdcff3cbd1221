"""What files of each model type look like, beyond the tensors the model is made of."""

from __future__ import annotations

import re
from dataclasses import dataclass


@dataclass(frozen=True)
class Family:
    """How one `model_type` is written on disk."""

    label: str
    """For people."""
    prefix: str
    """What canonical names of the model's body begin with, and some files leave out."""
    computed: str
    """Pattern of canonical names that old files hold and the model computes."""
    embedding: str
    """Canonical name of the token embedding."""
    tied_by_default: bool
    """Whether the head is the embedding when config.json does not say."""
    required: tuple[str, ...]
    """Keys config.json cannot be without."""
    head: str = "lm_head.weight"
    narrow: str = ""
    """Pattern of canonical names of matrices that end a block and begin narrower than others."""

    def canonical(self, name: str) -> str:
        """The name this package knows a file's tensor by."""
        whole = name == self.head or name.startswith(self.prefix)
        return name if whole else self.prefix + name

    def is_computed(self, name: str) -> bool:
        """Whether the model makes this tensor itself."""
        return re.fullmatch(self.computed, name) is not None


_GPT2 = Family(
    label="GPT-2",
    prefix="transformer.",
    computed=r"transformer\.h\.\d+\.attn\.(bias|masked_bias)",
    embedding="transformer.wte.weight",
    tied_by_default=True,
    required=("vocab_size", "n_embd", "n_layer", "n_head"),
    narrow=r"transformer\.h\.\d+\.(attn|mlp)\.c_proj\.weight",
)


def _llama_like(label: str) -> Family:
    return Family(
        label=label,
        prefix="model.",
        computed=r"model\.(layers\.\d+\.self_attn\.)?rotary_emb\.inv_freq",
        embedding="model.embed_tokens.weight",
        tied_by_default=False,
        required=(
            "vocab_size",
            "hidden_size",
            "intermediate_size",
            "num_hidden_layers",
            "num_attention_heads",
        ),
    )


FAMILIES = {
    "gpt2": _GPT2,
    "llama": _llama_like("Llama"),
    "qwen2": _llama_like("Qwen2"),
    "qwen3": _llama_like("Qwen3"),
}
