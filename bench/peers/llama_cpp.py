"""llama.cpp through llama-cpp-python: f32, f16 and its 8-bit and 4-bit blocks.

The model is written as GGUF without a tokenizer, and driven by llama.cpp's own functions.
"""

from __future__ import annotations

import ctypes
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from orion_ane import _core, checkpoint
from orion_ane.bench.inference import Logits
from orion_ane.bench.remote import Contender

from peers import Peer

Array = NDArray[Any]

KINDS = {"f32": 4.0, "f16": 2.0, "q8_0": 34 / 32, "q4_0": 18 / 32}
"""Types of matrices, and bytes of a weight."""

GPT2 = {
    "attn.c_attn": "attn_qkv",
    "attn.c_proj": "attn_output",
    "mlp.c_fc": "ffn_up",
    "mlp.c_proj": "ffn_down",
    "ln_1": "attn_norm",
    "ln_2": "ffn_norm",
}
LLAMA = {
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
}
OUTSIDE = {
    "transformer.wte": "token_embd",
    "transformer.wpe": "position_embd",
    "transformer.ln_f": "output_norm",
    "model.embed_tokens": "token_embd",
    "model.norm": "output_norm",
    "lm_head": "output",
}


def tensors(config: Mapping[str, Any], weights: Mapping[str, Array]) -> Iterator[tuple[str, Array]]:
    """GGUF's names, matrices (outputs, inputs), queries and keys in the order its RoPE wants."""
    inside = GPT2 if config["model_type"] == "gpt2" else LLAMA
    for name in weights:
        value = np.asarray(weights[name], np.float32)
        stem, _, kind = name.rpartition(".")
        if stem in OUTSIDE:
            yield f"{OUTSIDE[stem]}.{kind}", value
            continue
        _, _, layer, module = stem.split(".", 3)
        if inside is GPT2 and value.ndim == 2:
            value = np.ascontiguousarray(value.T)
        if inside[module] in ("attn_q", "attn_k"):
            value = neighbouring(value, heads_of(config, inside[module]))
        yield f"blk.{layer}.{inside[module]}.{kind}", value


def heads_of(config: Mapping[str, Any], name: str) -> int:
    heads = config["num_attention_heads"]
    return int(heads if name == "attn_q" else config.get("num_key_value_heads") or heads)


def neighbouring(value: Array, heads: int) -> Array:
    """Rows (heads, 2, D / 2) as (heads, D / 2, 2): pairs that turn together are neighbours."""
    parts = value.reshape(heads, 2, -1, value.shape[1])
    return np.ascontiguousarray(parts.swapaxes(1, 2).reshape(value.shape))


def write(path: str, file: Path, kind: str) -> None:
    """The model of a directory as GGUF."""
    import gguf

    found = checkpoint.read(Path(path))
    config = found.config
    writer = gguf.GGUFWriter(file, config["model_type"])
    add_settings(writer, config)
    types = {
        "f32": gguf.GGMLQuantizationType.F32,
        "f16": gguf.GGMLQuantizationType.F16,
        "q8_0": gguf.GGMLQuantizationType.Q8_0,
        "q4_0": gguf.GGMLQuantizationType.Q4_0,
    }
    for name, value in tensors(config, found.weights):
        chosen = types[kind] if value.ndim == 2 and "position" not in name else types["f32"]
        if kind.startswith("q") and value.shape[-1] % 32:  # blocks are 32 long
            chosen = types["f16" if value.ndim == 2 else "f32"]
        data = gguf.quants.quantize(value, chosen)
        writer.add_tensor(name, data, raw_dtype=chosen)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def add_settings(writer: Any, config: Mapping[str, Any]) -> None:
    writer.add_tokenizer_model("no_vocab")
    writer.add_vocab_size(config["vocab_size"])
    if config["model_type"] == "gpt2":
        width = config["n_embd"]
        writer.add_context_length(config["n_positions"])
        writer.add_embedding_length(width)
        writer.add_block_count(config["n_layer"])
        writer.add_head_count(config["n_head"])
        writer.add_feed_forward_length(config.get("n_inner") or 4 * width)
        writer.add_layer_norm_eps(config.get("layer_norm_epsilon", 1e-5))
        return
    heads = config["num_attention_heads"]
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_head_count(heads)
    writer.add_head_count_kv(config.get("num_key_value_heads") or heads)
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    writer.add_rope_dimension_count(config["hidden_size"] // heads)


class LlamaCppDecoder:
    def __init__(self, path: str, kind: str) -> None:
        import llama_cpp

        self.lib = lib = llama_cpp.llama_cpp
        self.quiet = lib.llama_log_callback(lambda *_: None)  # kept: the library calls it
        lib.llama_log_set(self.quiet, ctypes.c_void_p())
        lib.llama_backend_init()
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder, "model.gguf")
            write(path, file, kind)
            options = lib.llama_model_default_params()
            options.n_gpu_layers = 0
            self.model = lib.llama_model_load_from_file(str(file).encode(), options)
        if not self.model:
            raise RuntimeError(f"llama.cpp does not load {path} as {kind}")
        self.vocab = lib.llama_vocab_n_tokens(lib.llama_model_get_vocab(self.model))
        settings = lib.llama_context_default_params()
        settings.n_ctx = settings.n_batch = settings.n_ubatch = lib.llama_model_n_ctx_train(
            self.model
        )
        settings.n_threads = settings.n_threads_batch = _core.thread_count()
        self.context = lib.llama_init_from_model(self.model, settings)
        if not self.context:
            raise RuntimeError(f"llama.cpp makes no context for {path}")

    def logits(self, ids: list[int]) -> Logits:
        self._forget()
        self._read(ids, 0, every=True)
        rows = [self._row(i) for i in range(len(ids))]
        return np.stack(rows)

    def prefill(self, ids: list[int]) -> None:
        self._forget()
        self._read(ids, 0)
        self._row(-1)

    def decode(self, ids: list[int], count: int) -> float:
        self.prefill(ids)
        start = time.perf_counter()
        for i in range(count):
            self._read([int(self._row(-1).argmax())], len(ids) + i)
        self._row(-1)
        return time.perf_counter() - start

    def _forget(self) -> None:
        self.lib.llama_memory_clear(self.lib.llama_get_memory(self.context), True)

    def _read(self, ids: list[int], position: int, *, every: bool = False) -> None:
        batch = self.lib.llama_batch_init(len(ids), 0, 1)
        try:
            batch.n_tokens = len(ids)
            for i, token in enumerate(ids):
                batch.token[i], batch.pos[i] = token, position + i
                batch.n_seq_id[i], batch.seq_id[i][0] = 1, 0
                batch.logits[i] = every or i == len(ids) - 1
            status = self.lib.llama_decode(self.context, batch)
        finally:
            self.lib.llama_batch_free(batch)
        if status != 0:
            raise RuntimeError(f"llama_decode gives {status}")

    def _row(self, index: int) -> Logits:
        pointer = self.lib.llama_get_logits_ith(self.context, index)
        return np.array(np.ctypeslib.as_array(pointer, (self.vocab,)), np.float32)


def decoders(path: str) -> list[Contender]:
    return [
        Contender(
            f"llama.cpp {kind}",
            LlamaCppDecoder,
            (path, kind),
            weight_bytes=width,
            products="int8" if kind.startswith("q") else "fp32",
        )
        for kind, width in KINDS.items()
    ]


PEER = Peer(
    "llama.cpp",
    ("llama_cpp", "gguf"),
    "pip install llama-cpp-python gguf",
    decoders,
)
