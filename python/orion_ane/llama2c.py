"""Checkpoints of llama2.c in its original (version 0) format.

Seven int32: dim, hidden_dim, n_layers, n_heads, n_kv_heads, vocab_size (negative if the head is not
tied to the embedding), seq_len. Then fp32 tensors, each stacked over the layers, and two tables
of RoPE cosines and sines which readers recompute. Little-endian throughout. The rows of wq and wk
are in interleaved order: pair i of a head's rotation is rows 2i and 2i+1.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator, Mapping
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from orion_ane._core import Error

BOS_ID = 1
EOS_ID = 2
END_IDS = (BOS_ID, EOS_ID)  # run.c stops at BOS, which separates the texts of the training data
NORM_EPS = 1e-5
ROPE_THETA = 10000.0

_HEADER = struct.Struct("<7i")
_ROPE_TABLES = ("rope.cos", "rope.sin")
_VERSIONED_MAGIC = 0x616B3432  # "ak42": version 1 and later


@dataclass(frozen=True)
class Header:
    """The seven numbers, in the file's order, and whether the head is the embedding."""

    dim: int
    hidden_dim: int
    n_layers: int
    n_heads: int
    n_kv_heads: int
    vocab_size: int
    seq_len: int
    tied: bool

    @property
    def head_dim(self) -> int:
        """Rows of wq per head."""
        return self.dim // self.n_heads

    def fault(self) -> str | None:
        """What makes these numbers impossible, if anything."""
        for name, value in vars(self).items():
            if name != "tied" and value <= 0:
                return f"{name} is {value}"
        if self.dim % self.n_heads:
            return f"dim {self.dim} is not a multiple of n_heads {self.n_heads}"
        if self.n_heads % self.n_kv_heads:
            return f"n_heads {self.n_heads} is not a multiple of n_kv_heads {self.n_kv_heads}"
        if self.head_dim % 2:
            return f"the head size {self.head_dim} is odd"
        return None

    def sections(self) -> list[tuple[str, tuple[int, ...]]]:
        """Hugging Face name and shape of each section; `{}` stands for every layer in turn."""
        d, h = self.dim, self.hidden_dim
        kv = self.n_kv_heads * self.head_dim
        layer = "model.layers.{}."
        head = [] if self.tied else [("lm_head.weight", (self.vocab_size, d))]
        return [
            ("model.embed_tokens.weight", (self.vocab_size, d)),
            (layer + "input_layernorm.weight", (d,)),
            (layer + "self_attn.q_proj.weight", (d, d)),
            (layer + "self_attn.k_proj.weight", (kv, d)),
            (layer + "self_attn.v_proj.weight", (kv, d)),
            (layer + "self_attn.o_proj.weight", (d, d)),
            (layer + "post_attention_layernorm.weight", (d,)),
            (layer + "mlp.gate_proj.weight", (h, d)),
            (layer + "mlp.down_proj.weight", (d, h)),
            (layer + "mlp.up_proj.weight", (h, d)),
            ("model.norm.weight", (d,)),
            *((table, (self.seq_len, self.head_dim // 2)) for table in _ROPE_TABLES),
            *head,
        ]

    def tensors(self) -> Iterator[tuple[str, tuple[int, ...]]]:
        """Name and shape of every tensor in the order of the file."""
        for name, shape in self.sections():
            if "{}" in name:
                yield from ((name.format(i), shape) for i in range(self.n_layers))
            else:
                yield name, shape

    def file_size(self) -> int:
        """Bytes of a file with this header."""
        floats = sum(
            math.prod(shape) * (self.n_layers if "{}" in name else 1)
            for name, shape in self.sections()
        )
        return _HEADER.size + 4 * floats


def is_checkpoint(path: Path) -> bool:
    """Whether the header is possible and promises exactly the bytes the file has."""
    with path.open("rb") as file:
        start = file.read(_HEADER.size)
    if len(start) < _HEADER.size:
        return False
    header = _parse(start)
    return header.fault() is None and header.file_size() == path.stat().st_size


def read(path: Path) -> tuple[dict[str, Any], dict[str, NDArray[np.float32]]]:
    """The configuration in Hugging Face's words, and views of the mapped file by name."""
    header = _read_header(path)
    data = np.memmap(path, dtype="<f4", mode="r", offset=_HEADER.size)
    weights = {}
    start = 0
    for name, shape in header.tensors():
        size = math.prod(shape)
        if name not in _ROPE_TABLES:
            weights[name] = data[start : start + size].reshape(shape)
        start += size
    return _config(header), weights


def header_for(config: Mapping[str, Any]) -> Header:
    """The header of a model with this configuration; Error if run.c would compute another one."""
    if config["model_type"] != "llama":
        raise Error(f"llama2.c cannot hold this model: model_type is {config['model_type']!r}")
    if "max_position_embeddings" not in config:
        raise Error("llama2.c cannot hold this model: config.json has no 'max_position_embeddings'")
    heads = config["num_attention_heads"]
    header = Header(
        dim=config["hidden_size"],
        hidden_dim=config["intermediate_size"],
        n_layers=config["num_hidden_layers"],
        n_heads=heads,
        n_kv_heads=config.get("num_key_value_heads") or heads,
        vocab_size=config["vocab_size"],
        seq_len=config["max_position_embeddings"],
        tied=config.get("tie_word_embeddings", False),
    )
    if fault := header.fault() or _beyond_llama2c(config, header):
        raise Error(f"llama2.c cannot hold this model: {fault}")
    return header


def write(path: Path, header: Header, weights: Mapping[str, NDArray[Any]]) -> None:
    """Writes a model whose `weights` are already in interleaved order (see `interleave`)."""
    tables = _rope_tables(header)
    with path.open("wb") as file:
        file.write(_pack(header))
        for name, shape in header.tensors():
            tensor = tables[name] if name in tables else weights[name]
            if tensor.shape != shape:
                raise Error(f"tensor '{name}' is {tensor.shape}, config.json asks for {shape}")
            file.write(np.ascontiguousarray(tensor, dtype="<f4").tobytes())


def deinterleave(weight: NDArray[Any], heads: int) -> NDArray[Any]:
    """Rows (2i, 2i+1) of each head -> rows (i, i + head_dim/2), Hugging Face's order."""
    rows = weight.shape[0]
    pairs = weight.reshape(heads, rows // heads // 2, 2, -1)
    swapped: NDArray[Any] = pairs.transpose(0, 2, 1, 3).reshape(weight.shape)
    return swapped


def interleave(weight: NDArray[Any], heads: int) -> NDArray[Any]:
    """Inverse of `deinterleave`."""
    rows = weight.shape[0]
    halves = weight.reshape(heads, 2, rows // heads // 2, -1)
    swapped: NDArray[Any] = halves.transpose(0, 2, 1, 3).reshape(weight.shape)
    return swapped


def _parse(start: bytes) -> Header:
    dim, hidden_dim, n_layers, n_heads, n_kv_heads, vocab_size, seq_len = _HEADER.unpack(start)
    return Header(
        dim, hidden_dim, n_layers, n_heads, n_kv_heads, abs(vocab_size), seq_len, vocab_size > 0
    )


def _pack(header: Header) -> bytes:
    *sizes, vocab_size, seq_len, tied = astuple(header)
    return _HEADER.pack(*sizes, vocab_size if tied else -vocab_size, seq_len)


def _read_header(path: Path) -> Header:
    size = path.stat().st_size
    with path.open("rb") as file:
        start = file.read(_HEADER.size)
    if len(start) < _HEADER.size:
        raise Error(f"{path}: {size} bytes is too short for a llama2.c header")
    if struct.unpack_from("<I", start)[0] == _VERSIONED_MAGIC:
        raise Error(
            f"{path}: a llama2.c checkpoint of version {struct.unpack_from('<i', start, 4)[0]}; "
            "only version 0 is read (llama2.c's `export.py --version 0` makes it)"
        )
    header = _parse(start)
    if fault := header.fault():
        raise Error(f"{path}: not a llama2.c checkpoint: {fault}")
    if header.file_size() != size:
        raise Error(
            f"{path}: the header promises {header.file_size()} bytes, the file has {size} "
            "(truncated, or not a llama2.c checkpoint)"
        )
    return header


def _config(header: Header) -> dict[str, Any]:
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "vocab_size": header.vocab_size,
        "hidden_size": header.dim,
        "intermediate_size": header.hidden_dim,
        "num_hidden_layers": header.n_layers,
        "num_attention_heads": header.n_heads,
        "num_key_value_heads": header.n_kv_heads,
        "head_dim": header.head_dim,
        "max_position_embeddings": header.seq_len,
        "hidden_act": "silu",
        "rms_norm_eps": NORM_EPS,
        "rope_theta": ROPE_THETA,
        "rope_interleaved": True,
        "attention_bias": False,
        "mlp_bias": False,
        "tie_word_embeddings": header.tied,
        "bos_token_id": BOS_ID,
        "eos_token_id": EOS_ID,
        "torch_dtype": "float32",
    }


def _beyond_llama2c(config: Mapping[str, Any], header: Header) -> str | None:
    """What run.c assumes and this model does differently, if anything."""
    rope = config.get("rope_parameters") or {}
    fixed = [
        ("hidden_act", config.get("hidden_act", "silu"), "silu"),
        ("rms_norm_eps", config.get("rms_norm_eps", 1e-6), NORM_EPS),
        ("rope_theta", config.get("rope_theta", rope.get("rope_theta", ROPE_THETA)), ROPE_THETA),
        ("rope_scaling", config.get("rope_scaling"), None),
        ("rope_type", rope.get("rope_type", "default"), "default"),
        ("attention_bias", config.get("attention_bias", False), False),
        ("mlp_bias", config.get("mlp_bias", False), False),
        ("head_dim", config.get("head_dim") or header.head_dim, header.head_dim),
    ]
    for key, value, wanted in fixed:
        if value != wanted:
            return f"{key} is {value!r}, and run.c computes with {wanted!r}"
    return None


def _rope_tables(header: Header) -> dict[str, NDArray[np.float32]]:
    """cos and sin of position * theta^(-2i/head_dim), each (seq_len, head_dim/2)."""
    i = np.arange(0, header.head_dim, 2, dtype=np.float32)
    frequencies = np.float32(1.0) / np.float32(ROPE_THETA) ** (i / np.float32(header.head_dim))
    angles = np.outer(np.arange(header.seq_len, dtype=np.float32), frequencies)
    cos, sin = np.cos(angles), np.sin(angles)
    return dict(zip(_ROPE_TABLES, (cos, sin), strict=True))
