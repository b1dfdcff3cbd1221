"""Small models and tokenizers, made on the spot, and text to try them on."""

import json
import random
import re
import struct
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.numpy
from numpy.typing import NDArray

Arrays = dict[str, NDArray[Any]]

LLAMA = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "vocab_size": 264,
    "hidden_size": 24,
    "intermediate_size": 20,
    "num_hidden_layers": 2,
    "num_attention_heads": 6,
    "num_key_value_heads": 2,
    "max_position_embeddings": 16,
    "rms_norm_eps": 1e-5,
    "rope_theta": 10000.0,
    "tie_word_embeddings": False,
}
GPT2 = {
    "architectures": ["GPT2LMHeadModel"],
    "model_type": "gpt2",
    "vocab_size": 11,
    "n_positions": 8,
    "n_embd": 6,
    "n_layer": 1,
    "n_head": 3,
}


def llama_shapes(config: Mapping[str, Any] = LLAMA) -> dict[str, tuple[int, ...]]:
    """Name and shape of every tensor of a Llama model."""
    d, h, v = config["hidden_size"], config["intermediate_size"], config["vocab_size"]
    kv = d // config["num_attention_heads"] * config["num_key_value_heads"]
    shapes: dict[str, tuple[int, ...]] = {"model.embed_tokens.weight": (v, d)}
    for layer in range(config["num_hidden_layers"]):
        prefix = f"model.layers.{layer}."
        shapes |= {
            f"{prefix}input_layernorm.weight": (d,),
            f"{prefix}self_attn.q_proj.weight": (d, d),
            f"{prefix}self_attn.k_proj.weight": (kv, d),
            f"{prefix}self_attn.v_proj.weight": (kv, d),
            f"{prefix}self_attn.o_proj.weight": (d, d),
            f"{prefix}post_attention_layernorm.weight": (d,),
            f"{prefix}mlp.gate_proj.weight": (h, d),
            f"{prefix}mlp.up_proj.weight": (h, d),
            f"{prefix}mlp.down_proj.weight": (d, h),
        }
    shapes["model.norm.weight"] = (d,)
    if not config["tie_word_embeddings"]:
        shapes["lm_head.weight"] = (v, d)
    return shapes


def gpt2_shapes(config: Mapping[str, Any] = GPT2) -> dict[str, tuple[int, ...]]:
    """Name and shape of every tensor of a GPT-2 model."""
    c = config["n_embd"]
    shapes: dict[str, tuple[int, ...]] = {
        "transformer.wte.weight": (config["vocab_size"], c),
        "transformer.wpe.weight": (config["n_positions"], c),
    }
    for layer in range(config["n_layer"]):
        prefix = f"transformer.h.{layer}."
        for norm in ("ln_1", "ln_2"):
            shapes |= {f"{prefix}{norm}.weight": (c,), f"{prefix}{norm}.bias": (c,)}
        for name, rows, columns in (
            ("attn.c_attn", c, 3 * c),
            ("attn.c_proj", c, c),
            ("mlp.c_fc", c, 4 * c),
            ("mlp.c_proj", 4 * c, c),
        ):
            shapes |= {
                f"{prefix}{name}.weight": (rows, columns),
                f"{prefix}{name}.bias": (columns,),
            }
    return shapes | {"transformer.ln_f.weight": (c,), "transformer.ln_f.bias": (c,)}


def random_weights(shapes: Mapping[str, Sequence[int]], dtype: str = "float32") -> Arrays:
    """Normal deviates, the same each time."""
    generator = np.random.default_rng(0)
    return {
        name: generator.standard_normal(tuple(shape)).astype(dtype)
        for name, shape in shapes.items()
    }


def write_model(directory: Path, config: Mapping[str, Any], weights: Mapping[str, Any]) -> Path:
    """A Hugging Face directory without a tokenizer."""
    directory.mkdir(exist_ok=True)
    (directory / "config.json").write_text(json.dumps(config))
    safetensors.numpy.save_file(dict(weights), directory / "model.safetensors")
    return directory


def mapped(path: Path, kind: str = "Rss") -> int:
    """Bytes of a file that this process has mapped, in memory as `kind`: Rss or Private_Dirty."""
    maps = Path("/proc/self/smaps").read_text("utf-8")
    found = re.findall(rf" {re.escape(str(path))}\n(?:[A-Z]\w+: .*\n)*?{kind}: +(\d+) kB", maps)
    return sum(map(int, found)) * 1024


def llama2c_entries(learnt: Sequence[tuple[str, float]]) -> list[tuple[str, float]]:
    """Pieces and scores of a llama2.c tokenizer with these after the 259 fixed ones."""
    fixed = ["<unk>", "\n<s>\n", "\n</s>\n", *(f"<0x{byte:02X}>" for byte in range(256))]
    return [(piece, 0.0) for piece in fixed] + list(learnt)


def write_llama2c_tokenizer(path: Path, entries: Sequence[tuple[str, float]]) -> Path:
    """`tok*.bin` as llama2.c writes it."""
    content = struct.pack("<i", max(len(piece.encode()) for piece, _ in entries))
    for piece, score in entries:
        content += struct.pack("<fi", score, len(piece.encode())) + piece.encode()
    path.write_bytes(content)
    return path


def write_llama2c_model(
    path: Path, *, tied: bool, seed: int = 0, vocab: int = 264
) -> tuple[Path, NDArray[np.float32]]:
    """A small llama2.c checkpoint and the floats in it."""
    dim, hidden, layers, heads, kv_heads, seq = 24, 20, 2, 6, 2, 16
    kv = dim // heads * kv_heads
    per_layer = 2 * dim + 2 * dim * dim + 2 * kv * dim + 3 * hidden * dim
    rope = seq * (dim // heads // 2)
    count = vocab * dim * (1 if tied else 2) + layers * per_layer + dim + 2 * rope
    floats = np.random.default_rng(seed).standard_normal(count).astype("<f4")
    sizes = (dim, hidden, layers, heads, kv_heads, vocab if tied else -vocab, seq)
    path.write_bytes(struct.pack("<7i", *sizes) + floats.tobytes())
    return path, floats


def random_texts(count: int, pieces: Sequence[str] = (), longest: int = 12) -> list[str]:
    """Words, runs of spaces, any Unicode, control characters, tokens spelt out: mixed at random."""
    rng = random.Random(0)
    special = ["<s>", "</s>", "<unk>", "<0x41>", "\u2581", "\n<s>\n", "\0", "\ufeff", "\U0001f600"]

    def part() -> str:
        match rng.randrange(6):
            case 0:
                return " " * rng.randint(1, 9)
            case 1:
                code = rng.choice([rng.randrange(0xD800), rng.randrange(0xE000, 0x110000)])
                return chr(code)
            case 2:
                return chr(rng.randrange(32))
            case 3:
                return rng.choice(special)
            case 4 if pieces:
                return rng.choice(pieces)
            case _:
                return "".join(rng.choices("etaoinshr ,.'#lLO", k=rng.randint(1, 6)))

    return ["".join(part() for _ in range(rng.randint(0, longest))) for _ in range(count)]
