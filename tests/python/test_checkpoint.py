import json
import os
import random
import re
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import orion_ane
import pytest
import safetensors
from orion_ane import _core, checkpoint
from orion_ane.families import FAMILIES
from orion_ane.safetensors_file import read_safetensors
from samples import (
    GPT2,
    LLAMA,
    Arrays,
    gpt2_shapes,
    llama_shapes,
    random_weights,
    write_llama2c_model,
    write_model,
)

TIED = LLAMA | {"tie_word_embeddings": True}
NORM = "model.norm.weight"


def same(a: Any, b: Any) -> bool:
    return set(a) == set(b) and all(np.array_equal(a[name], b[name]) for name in a)


def split(directory: Path, weights: Arrays) -> dict[str, str]:
    """Replaces the model's file by two shards and an index; returns the places in the index."""
    places = {name: f"part{place % 2}.safetensors" for place, name in enumerate(sorted(weights))}
    for shard in set(places.values()):
        part = {name: weights[name] for name in weights if places[name] == shard}
        safetensors.numpy.save_file(part, directory / shard)
    (directory / "model.safetensors").unlink()
    write_index(directory, places)
    return places


def write_index(directory: Path, places: object) -> None:
    (directory / "model.safetensors.index.json").write_text(json.dumps({"weight_map": places}))


def write_header(path: Path, header: object, data: bytes = b"") -> None:
    content = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(content)) + content + data)


@pytest.fixture
def llama(tmp_path: Path) -> Path:
    return write_model(tmp_path / "llama", LLAMA, random_weights(llama_shapes()))


# -- what is read ---------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_weights_are_views_of_the_file(tmp_path: Path, dtype: str) -> None:
    weights = random_weights(llama_shapes(), dtype)
    model = checkpoint.read(write_model(tmp_path, LLAMA, weights))
    assert same(model.weights, weights)
    assert model.config == LLAMA
    assert model.dtype == {"float32": "fp32", "float16": "fp16"}[dtype]
    assert not model.weights[NORM].flags.owndata
    assert not model.weights[NORM].flags.writeable
    model.check(llama_shapes())


def test_bf16_is_widened_exactly(tmp_path: Path) -> None:
    weights = random_weights(llama_shapes())
    write_model(tmp_path, LLAMA, weights)
    write_bf16(tmp_path / "model.safetensors", to_bf16(weights))
    model = checkpoint.read(tmp_path)
    assert (model.dtype, model.weights.dtype_of(NORM)) == ("bf16", "bf16")
    for name, array in weights.items():
        assert model.weights[name].dtype == np.float32
        assert np.array_equal(model.weights[name].view("<u4"), array.view("<u4") & 0xFFFF0000)


def to_bf16(weights: Arrays) -> Arrays:
    """The upper halves of fp32."""
    return {name: (array.view("<u4") >> 16).astype("<u2") for name, array in weights.items()}


def write_bf16(path: Path, tensors: Arrays) -> None:
    header, data = {}, b""
    for name, array in tensors.items():
        offsets = [len(data), len(data) + array.nbytes]
        header[name] = {"dtype": "BF16", "shape": list(array.shape), "data_offsets": offsets}
        data += array.tobytes()
    write_header(path, header, data)


def test_mixed_types_are_fp32_together(tmp_path: Path) -> None:
    weights = random_weights(llama_shapes(), "float16")
    weights[NORM] = weights[NORM].astype(np.float32)
    model = checkpoint.read(write_model(tmp_path, LLAMA, weights))
    assert (model.dtype, model.weights.dtype_of(NORM)) == ("fp32", "fp32")
    assert model.weights.dtype_of("lm_head.weight") == "fp16"


def test_shards_are_one_model(llama: Path) -> None:
    whole = dict(checkpoint.read(llama).weights)
    split(llama, whole)
    model = checkpoint.read(llama)
    assert same(model.weights, whole)
    assert model.source == llama / "model.safetensors.index.json"


@pytest.mark.parametrize(
    ("config", "shapes", "prefix"),
    [(GPT2, gpt2_shapes(), "transformer."), (LLAMA, llama_shapes(), "model.")],
    ids=["gpt2", "llama"],
)
def test_names_have_their_prefix_whether_the_file_has_it_or_not(
    tmp_path: Path, config: dict[str, Any], shapes: dict[str, tuple[int, ...]], prefix: str
) -> None:
    weights = random_weights(shapes)
    bare = {name.removeprefix(prefix): array for name, array in weights.items()}
    assert same(checkpoint.read(write_model(tmp_path / "with", config, weights)).weights, weights)
    assert same(checkpoint.read(write_model(tmp_path / "bare", config, bare)).weights, weights)
    both = weights | {f"{prefix}x": np.zeros(1), "x": np.zeros(1)}
    with pytest.raises(orion_ane.Error, match=f"holds '{prefix}x' twice"):
        checkpoint.read(write_model(tmp_path / "both", config, both))


@pytest.mark.parametrize(
    ("config", "shapes", "extras"),
    [
        (
            GPT2,
            gpt2_shapes(),
            {
                "h.0.attn.bias": np.tril(np.ones((1, 1, 8, 8), bool)),
                "transformer.h.0.attn.masked_bias": np.float32(-np.inf),
            },
        ),
        (LLAMA, llama_shapes(), {"model.layers.1.self_attn.rotary_emb.inv_freq": np.ones(2)}),
    ],
    ids=["gpt2", "llama"],
)
def test_what_the_model_computes_is_left_out(
    tmp_path: Path,
    config: dict[str, Any],
    shapes: dict[str, tuple[int, ...]],
    extras: dict[str, Any],
) -> None:
    arrays = {name: np.asarray(array) for name, array in extras.items()}
    model = checkpoint.read(write_model(tmp_path, config, random_weights(shapes) | arrays))
    model.check(shapes)


@pytest.mark.parametrize(
    ("config", "shapes", "embedding"),
    [
        (GPT2, gpt2_shapes(), "transformer.wte.weight"),
        (TIED, llama_shapes(TIED), "model.embed_tokens.weight"),
    ],
    ids=["gpt2", "llama"],
)
def test_a_tied_head_may_be_stored_if_it_is_the_embedding(
    tmp_path: Path, config: dict[str, Any], shapes: dict[str, tuple[int, ...]], embedding: str
) -> None:
    weights = random_weights(shapes)
    weights["lm_head.weight"] = weights[embedding].copy()
    checkpoint.read(write_model(tmp_path, config, weights)).check(shapes)
    weights["lm_head.weight"][0, 0] += 1
    with pytest.raises(orion_ane.Error, match=f"'lm_head.weight' differs from '{embedding}'"):
        checkpoint.read(write_model(tmp_path, config, weights))


@pytest.mark.parametrize("tied", [True, False])
def test_llama2c_checkpoints(tmp_path: Path, tied: bool) -> None:
    path, floats = write_llama2c_model(tmp_path / "m.bin", tied=tied)
    model = checkpoint.read(path)
    model.check(llama_shapes(model.config))
    assert model.config["rope_interleaved"]
    assert model.config["tie_word_embeddings"] == tied
    sizes = {key: model.config[key] for key in LLAMA if key != "tie_word_embeddings"}
    assert sizes == {key: LLAMA[key] for key in sizes}
    first = 264 * 24 + 2 * 24  # after the embedding and both layers' first norm
    wq = floats[first : first + 2 * 24 * 24].reshape(2, 24, 24)
    assert np.array_equal(model.weights["model.layers.1.self_attn.q_proj.weight"], wq[1])
    if not tied:
        head = floats[-264 * 24 :].reshape(264, 24)
        assert np.array_equal(model.weights["lm_head.weight"], head)


def test_every_model_type_of_the_core_has_its_files_described() -> None:
    assert set(FAMILIES) == set(_core.model_types())


@pytest.mark.parametrize(
    ("config", "shapes"),
    [(LLAMA, llama_shapes()), (TIED, llama_shapes(TIED)), (GPT2, gpt2_shapes())],
    ids=["llama", "tied llama", "gpt2"],
)
def test_names_are_those_of_the_core(
    config: dict[str, Any], shapes: dict[str, tuple[int, ...]]
) -> None:
    assert _core.model_weights(config) == shapes


# -- what is refused ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "missing; a model directory needs it"),
        (b"{", "not JSON"),
        (b"\xff\xfe", "not JSON"),
        (b"[" * 100_000, "not JSON"),
        (b"[]", "expected a JSON object, found list"),
        (b"{}", r"model_type None is unknown \(known: gpt2, llama, qwen2, qwen3\)"),
        (b'{"model_type": "bert"}', r"model_type 'bert' is unknown"),
        (b'{"model_type": ["llama"]}', r"model_type \['llama'\] is unknown"),
        (b'{"model_type": "llama"}', "no 'vocab_size', which a Llama model needs"),
    ],
)
def test_config_json(llama: Path, content: bytes | None, message: str) -> None:
    (llama / "config.json").unlink()
    if content is not None:
        (llama / "config.json").write_bytes(content)
    with pytest.raises(orion_ane.Error, match=r"config\.json: " + message):
        checkpoint.read(llama)


def test_every_truncation_of_a_safetensors_file(llama: Path) -> None:
    path = llama / "model.safetensors"
    content = path.read_bytes()
    lengths = [*range(12), 100, 1000, len(content) // 2, len(content) - 1]
    for length in lengths:
        path.write_bytes(content[:length])
        with pytest.raises(orion_ane.Error, match=r"model\.safetensors: not a safetensors file"):
            checkpoint.read(llama)


@pytest.mark.parametrize(
    ("header", "data"),
    [
        ({"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 400]}}, b"\0" * 8),
        ({"a": {"dtype": "F32", "shape": [3], "data_offsets": [0, 8]}}, b"\0" * 8),
        ({"a": {"dtype": "F32", "shape": [2], "data_offsets": [8, 0]}}, b"\0" * 8),
        ({"a": {"dtype": "F32", "shape": [2], "data_offsets": [-8, 0]}}, b"\0" * 8),
        ({"a": {"dtype": "F32", "shape": [2**62, 2**62], "data_offsets": [0, 0]}}, b""),
        ({"a": {"dtype": "F99", "shape": [2], "data_offsets": [0, 8]}}, b"\0" * 8),
        ({"a": {"shape": [2]}}, b"\0" * 8),
        ({"a": 1}, b""),
        ([], b""),
    ],
)
def test_headers_that_lie(llama: Path, header: object, data: bytes) -> None:
    write_header(llama / "model.safetensors", header, data)
    with pytest.raises(orion_ane.Error, match=r"model\.safetensors: "):
        checkpoint.read(llama)


def test_header_longer_than_the_file(llama: Path) -> None:
    (llama / "model.safetensors").write_bytes(struct.pack("<Q", 2**63) + b"{}")
    with pytest.raises(orion_ane.Error, match=r"model\.safetensors: not a safetensors file"):
        checkpoint.read(llama)


@pytest.mark.parametrize("dtype", ["float32", "float16", "bf16"])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_weights_that_are_not_finite_are_placed(tmp_path: Path, dtype: str, value: float) -> None:
    weights = random_weights(llama_shapes())
    weights["lm_head.weight"][260, 7] = value
    if dtype == "bf16":
        write_model(tmp_path, LLAMA, weights)
        write_bf16(tmp_path / "model.safetensors", to_bf16(weights))
    else:
        stored = {name: array.astype(dtype) for name, array in weights.items()}
        write_model(tmp_path, LLAMA, stored)
    message = rf"model\.safetensors: tensor 'lm_head\.weight' is {value} at \[260, 7\]"
    with pytest.raises(orion_ane.Error, match=message):
        checkpoint.read(tmp_path)


@pytest.mark.parametrize(("dtype", "name"), [("int8", "I8"), ("float64", "F64"), ("bool", "BOOL")])
def test_weights_that_are_not_floats(tmp_path: Path, dtype: str, name: str) -> None:
    weights = random_weights(llama_shapes()) | {NORM: np.zeros(24, dtype)}
    with pytest.raises(orion_ane.Error, match=f"tensor '{NORM}' is {name}; weights may be F32"):
        checkpoint.read(write_model(tmp_path, LLAMA, weights))


def test_check_names_what_is_wrong(llama: Path) -> None:
    model, shapes = checkpoint.read(llama), llama_shapes()
    source = re.escape(str(llama / "model.safetensors"))
    with pytest.raises(orion_ane.Error, match=rf"^{source}: no tensor 'x' \(is this a Llama che"):
        model.check(shapes | {"x": (1,)})
    with pytest.raises(orion_ane.Error, match=r"'model.norm.weight' is \(24,\), .* \(25,\)"):
        model.check(shapes | {NORM: (25,)})
    del shapes[NORM]
    with pytest.raises(orion_ane.Error, match=r"'model.norm.weight' \(24,\) has no place in this"):
        model.check(shapes)
    with pytest.raises(orion_ane.Error, match=r"^somewhere: tensor 'a' "):
        checkpoint.check({}, {"a": np.zeros(1)}, "somewhere")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda _: None, "no 'weight_map'"),
        (lambda places: places | {"x": "part9.safetensors"}, "'part9.safetensors', which is miss"),
        (lambda places: places | {"x": "../part0.safetensors"}, "is not the name of a file beside"),
        (lambda places: places | {"x": "part0.safetensors"}, "tensor 'x' .* does not hold it"),
        (
            lambda places: places | {NORM: "part1.safetensors"},
            f"does not place tensor '{NORM}' in 'part0.safetensors', where it is",
        ),
        (lambda places: places | {"x": 3}, "shard 3 is not the name"),
    ],
)
def test_index(llama: Path, change: Callable[[dict[str, str]], object], message: str) -> None:
    places = split(llama, dict(checkpoint.read(llama).weights))
    write_index(llama, change(places))
    with pytest.raises(orion_ane.Error, match=r"model\.safetensors\.index\.json: .*" + message):
        checkpoint.read(llama)


def test_pickles_are_not_read(llama: Path) -> None:
    (llama / "model.safetensors").rename(llama / "pytorch_model.bin")
    with pytest.raises(orion_ane.Error, match=r"pytorch_model\.bin may run code when read"):
        checkpoint.read(llama)


def test_paths_that_are_no_model(tmp_path: Path) -> None:
    with pytest.raises(orion_ane.Error, match="nowhere: no such file or directory"):
        checkpoint.read(tmp_path / "nowhere")
    (tmp_path / "a.txt").touch()
    with pytest.raises(orion_ane.Error, match=r"a\.txt: not a model"):
        checkpoint.read(tmp_path / "a.txt")


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ((24, 20, 2, 6, 2, 264, 17), "the header promises .* bytes, the file has"),
        ((24, 20, 2**31 - 1, 6, 2, 264, 16), "the header promises"),
        ((0, 20, 2, 6, 2, 264, 16), "dim is 0"),
        ((24, 20, -2, 6, 2, 264, 16), "n_layers is -2"),
        ((24, 20, 2, 5, 2, 264, 16), "dim 24 is not a multiple of n_heads 5"),
        ((24, 20, 2, 6, 4, 264, 16), "n_heads 6 is not a multiple of n_kv_heads 4"),
        ((24, 20, 2, 8, 2, 264, 16), "the head size 3 is odd"),
        ((0x616B3432, 1, 0, 0, 0, 0, 0), "a llama2.c checkpoint of version 1"),
    ],
)
def test_llama2c_headers(tmp_path: Path, sizes: tuple[int, ...], message: str) -> None:
    path, floats = write_llama2c_model(tmp_path / "m.bin", tied=True)
    path.write_bytes(struct.pack("<7i", *sizes) + floats.tobytes())
    with pytest.raises(orion_ane.Error, match=r"m\.bin: .*" + message):
        checkpoint.read(path)


def test_llama2c_truncated_or_not_finite(tmp_path: Path) -> None:
    path, floats = write_llama2c_model(tmp_path / "m.bin", tied=True)
    content = path.read_bytes()
    for length in (0, 27, 28, 1000, len(content) - 1):
        path.write_bytes(content[:length])
        with pytest.raises(orion_ane.Error, match=r"m\.bin: .*(too short|promises)"):
            checkpoint.read(path)
    floats[25] = np.nan
    path.write_bytes(content[:28] + floats.tobytes())
    with pytest.raises(orion_ane.Error, match=r"embed_tokens.weight' is nan at \[1, 1\]"):
        checkpoint.read(path)


def mutations(content: bytes, count: int) -> Iterator[bytes]:
    """Copies with a few bytes changed, mostly near the start, some cut or lengthened."""
    rng = random.Random(0)
    for _ in range(count):
        changed = bytearray(content)
        for _ in range(rng.randint(1, 4)):
            end = rng.choice([32, 200, len(changed)])
            changed[rng.randrange(min(end, len(changed)))] = rng.choice(
                [0, 255, rng.randrange(256)]
            )
        if rng.random() < 0.2:
            changed = changed[: rng.randrange(1, len(changed))] + bytes(rng.randrange(3))
        yield bytes(changed)


@pytest.mark.parametrize("kind", ["safetensors", "llama2.c", "index", "config"])
def test_mutated_files_are_read_or_refused(llama: Path, tmp_path: Path, kind: str) -> None:
    path, root = llama / "model.safetensors", llama
    if kind == "llama2.c":
        path = root = write_llama2c_model(tmp_path / "m.bin", tied=True)[0]
    elif kind == "index":
        split(llama, dict(checkpoint.read(llama).weights))
        path = llama / "model.safetensors.index.json"
    elif kind == "config":
        path = llama / "config.json"
    faults = []
    for content in mutations(path.read_bytes(), 300):
        path.write_bytes(content)
        faults.append(fault_of(root))
    named = [fault for fault in faults if fault is not None]
    assert len(named) > 50
    assert all(fault.startswith(str(tmp_path)) for fault in named)


def fault_of(path: Path) -> str | None:
    """What is wrong with a model, if anything; whatever is not an Error passes through."""
    try:
        checkpoint.read(path).check(llama_shapes())
    except orion_ane.Error as error:
        return str(error)
    return None


# -- what is written ------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["fp32", "fp16"])
def test_what_is_written_is_read(tmp_path: Path, dtype: str) -> None:
    weights = random_weights(llama_shapes(), {"fp32": "float32", "fp16": "float16"}[dtype])
    checkpoint.write(tmp_path / "m", LLAMA, weights, dtype=dtype)
    model = checkpoint.read(tmp_path / "m")
    assert same(model.weights, weights)
    assert model.dtype == dtype
    assert model.config == LLAMA | {"torch_dtype": {"fp32": "float32", "fp16": "float16"}[dtype]}
    assert {path.name for path in (tmp_path / "m").iterdir()} == {
        "config.json",
        "model.safetensors",
    }


def test_nothing_is_left_of_a_failed_write(tmp_path: Path) -> None:
    weights = random_weights(llama_shapes())
    weights[NORM][3] = 1e6
    with pytest.raises(orion_ane.Error, match=f"tensor '{NORM}' holds 1e.06, which fp16 cannot"):
        checkpoint.write(tmp_path / "m", LLAMA, weights, dtype="fp16")
    assert not list(tmp_path.iterdir())


def test_a_failing_disk_leaves_the_old_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    weights = random_weights(llama_shapes())
    checkpoint.write(tmp_path / "m", LLAMA, weights)

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    changed = {name: array + 1 for name, array in weights.items()}
    with pytest.raises(OSError, match="No space left"):
        checkpoint.write(tmp_path / "m", LLAMA, changed, replace=True)
    assert same(checkpoint.read(tmp_path / "m").weights, weights)
    assert [path.name for path in tmp_path.iterdir()] == ["m"]


def test_only_models_are_replaced(tmp_path: Path) -> None:
    weights = random_weights(llama_shapes())
    target = tmp_path / "m"
    target.mkdir()
    checkpoint.write(target, LLAMA, weights)
    with pytest.raises(orion_ane.Error, match="m: already exists and is not empty"):
        checkpoint.write(target, LLAMA, weights)
    checkpoint.write(target, LLAMA, weights, replace=True)
    (target / "thesis.tex").touch()
    with pytest.raises(orion_ane.Error, match=r"holds 'thesis\.tex', which is not part of a mod"):
        checkpoint.write(target, LLAMA, weights, replace=True)
    with pytest.raises(orion_ane.Error, match=r"config\.json: is a file, and a directory was"):
        checkpoint.write(target / "config.json", LLAMA, weights, replace=True)
    with pytest.raises(orion_ane.Error, match="does not exist"):
        checkpoint.write(tmp_path / "a" / "b", LLAMA, weights)


def test_unaligned_tensors_are_readable(tmp_path: Path) -> None:
    """The format allows any header length, so data may begin at any address."""
    header = json.dumps({"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}}).encode()
    for padding in range(4):
        content = header + b" " * padding
        path = tmp_path / f"{padding}.safetensors"
        path.write_bytes(struct.pack("<Q", len(content)) + content + struct.pack("<2f", 1.5, -2))
        array = read_safetensors(path)["a"].array()
        assert array.tolist() == [1.5, -2.0]
        assert array.flags.aligned


@pytest.mark.parametrize(
    ("config", "shapes", "model_class"),
    [
        (LLAMA, llama_shapes(), "LlamaForCausalLM"),
        (TIED, llama_shapes(TIED), "LlamaForCausalLM"),
        (GPT2, gpt2_shapes(), "GPT2LMHeadModel"),
    ],
    ids=["llama", "tied llama", "gpt2"],
)
def test_transformers_reads_what_is_written(
    tmp_path: Path, config: dict[str, Any], shapes: dict[str, tuple[int, ...]], model_class: str
) -> None:
    pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    weights = random_weights(shapes)
    checkpoint.write(tmp_path / "m", config, weights)
    loaded, info = getattr(transformers, model_class).from_pretrained(
        tmp_path / "m", output_loading_info=True
    )
    assert not any(info.values())
    theirs = loaded.state_dict()
    for name, array in weights.items():
        assert np.array_equal(theirs[name].numpy(), array), name
