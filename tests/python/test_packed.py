"""Packed models: written, mapped, run as the model they were made from; and what is refused."""

from __future__ import annotations

import json
import random
import re
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import orion_ane as orion
import pytest
import safetensors.numpy
from orion_ane import adapter, checkpoint, cli, convert, inspection, packed
from orion_ane.checkpoint import PACKED
from orion_ane.initialization import random_weights
from orion_ane.placement import DTYPES
from samples import mapped, write_model

Capture = pytest.CaptureFixture[str]

_LLAMA = {
    "vocab_size": 90,
    "hidden_size": 48,
    "intermediate_size": 70,
    "num_hidden_layers": 2,
    "num_attention_heads": 6,
    "num_key_value_heads": 2,
    "max_position_embeddings": 40,
    "rms_norm_eps": 1e-5,
}
_GPT2 = {"vocab_size": 67, "n_positions": 40, "n_embd": 36, "n_layer": 2, "n_head": 3}
CONFIGS = {
    f"{kind}-{'tied' if tied else 'untied'}": {
        "model_type": kind,
        **(_GPT2 if kind == "gpt2" else _LLAMA),
        "tie_word_embeddings": tied,
    }
    for kind in ("gpt2", "llama", "qwen2", "qwen3")
    for tied in (True, False)
}
IDS = [3, 1, 4, 1, 5, 9, 2, 6]


@pytest.fixture(scope="module", params=list(CONFIGS))
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    config = CONFIGS[request.param]
    weights = {n: a * 5 for n, a in random_weights(config, 1).items()}
    return write_model(tmp_path_factory.mktemp(request.param) / "model", config, weights)


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A packed model in int8."""
    target = tmp_path_factory.mktemp("small") / "packed"
    convert.convert("stories260K", target, dtype="int8")
    return target


@pytest.mark.parametrize("dtype", DTYPES)
def test_it_computes_what_its_source_does(model: Path, dtype: str, tmp_path: Path) -> None:
    convert.convert(model, tmp_path / "packed", dtype=dtype, pack=True)
    source, ours = orion.load(model, dtype=dtype), orion.load(tmp_path / "packed")
    assert (ours.dtype, ours.num_parameters) == (dtype, source.num_parameters)
    assert np.array_equal(ours.logits(IDS), source.logits(IDS))
    assert ours.generate_ids(IDS, max_tokens=20) == source.generate_ids(IDS, max_tokens=20)
    assert inspection.inspect(tmp_path / "packed")["parameters"] == source.num_parameters


def test_a_llama2c_checkpoint_keeps_its_order_of_rows(tmp_path: Path) -> None:
    source = tmp_path / "m.bin"
    convert.convert("stories260K", source)
    convert.convert(source, tmp_path / "packed", dtype="int4")
    ours, theirs = orion.load(tmp_path / "packed"), orion.load(source, dtype="int4")
    assert ours.config["rope_interleaved"]
    assert np.array_equal(ours.logits(IDS), theirs.logits(IDS))


def test_the_command(tmp_path: Path, capsys: Capture) -> None:
    target = str(tmp_path / "packed")
    assert cli.main(["convert", "stories260K", target, "--pack"]) == 0
    assert cli.main(["convert", "stories260K", target, "--dtype", "int4"]) == 1
    assert "--force" in capsys.readouterr().err
    assert cli.main(["convert", "stories260K", target, "--dtype", "int4", "--force"]) == 0
    assert cli.main(["inspect", target, "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert (report["kind"], report["dtype"]) == ("packed model", "int4")
    kept = {row["name"]: row["dtype"] for row in report["tensors"]}
    assert kept["model.embed_tokens.weight"] == "int8"  # read by rows too
    assert kept["model.layers.0.mlp.up_proj.weight"] == "int4"
    assert kept["model.norm.weight"] == "fp16"
    texts = []
    for arguments in (["--model", target], ["--model", "stories260K", "--dtype", "int4"]):
        assert cli.main(["generate", *arguments, "--prompt", "Once", "--max-tokens", "20"]) == 0
        texts.append(capsys.readouterr().out)
    assert texts[0] == texts[1]
    # Back to a plain directory in the same place.
    assert cli.main(["convert", "stories260K", target, "--force"]) == 0
    assert not packed.is_packed(Path(target))


@pytest.mark.parametrize("dtype", ["fp16", "fp32"])
def test_without_a_dtype_it_is_what_loading_chooses(dtype: str, tmp_path: Path) -> None:
    convert.convert("stories260K", tmp_path / "plain", dtype=dtype)
    convert.convert(tmp_path / "plain", tmp_path / "packed", pack=True)
    assert orion.load(tmp_path / "packed").dtype == dtype


def write_adapter(directory: Path, base: str) -> Path:
    """Random numbers for the bundled model's q_proj."""
    config = {"peft_type": "LORA", "r": 2, "lora_alpha": 4, "target_modules": ["q_proj"]}
    rng = np.random.default_rng(0)
    arrays = {
        f"base_model.model.model.layers.{layer}.self_attn.q_proj.lora_{part}.weight": array
        for layer in range(5)
        for part, array in (
            ("A", rng.standard_normal((2, 64), np.float32)),
            ("B", rng.standard_normal((64, 2), np.float32)),
        )
    }
    directory.mkdir()
    (directory / adapter.CONFIG).write_text(json.dumps(config))
    checkpoint.save_tensors(directory / adapter.TENSORS, arrays, base_sha256=base)
    return directory


def test_adapters_and_evaluation(small: Path, tmp_path: Path) -> None:
    source, ours = orion.load("stories260K", dtype="int8"), orion.load(small)
    own = write_adapter(tmp_path / "own", source.checkpoint.fingerprint)
    for loaded in (source, ours):
        without = loaded.logits(IDS)
        loaded.load_adapter(own)
        assert not np.array_equal(loaded.logits(IDS), without)
    assert np.array_equal(ours.logits(IDS), source.logits(IDS))
    assert ours.notes == []  # the packed file knows what it was made from
    ours.load_adapter(write_adapter(tmp_path / "strange", "0" * 64))
    assert "trained beside other weights" in ours.notes[0]
    ids = np.random.default_rng(0).integers(3, 500, 200).astype(np.uint16)
    ids.tofile(tmp_path / "ids.bin")
    losses = [
        orion.training.evaluate(
            orion.load(path, dtype="int8"),
            orion.data.Dataset(tmp_path / "ids.bin", 1, 32, vocab=512, shuffle=False),
        ).loss
        for path in (small, "stories260K")
    ]
    assert losses[0] == losses[1]


@pytest.mark.skipif(not Path("/proc/self/smaps").exists(), reason="needs /proc/self/smaps")
def test_loading_reads_no_matrix_and_running_copies_none(tmp_path: Path) -> None:
    config = {**CONFIGS["llama-untied"], "hidden_size": 384, "intermediate_size": 3000}
    source = write_model(tmp_path / "plain", config, random_weights(config))
    convert.convert(source, tmp_path / "packed", dtype="int8")
    file = tmp_path / "packed" / PACKED
    model = orion.load(tmp_path / "packed")
    assert 0 < mapped(file, "Rss") < file.stat().st_size // 4  # what the system brought beside it
    model.logits(IDS)
    assert mapped(file, "Rss") > file.stat().st_size * 0.9
    assert mapped(file, "Private_Dirty") == 0


@pytest.mark.skipif(not Path("/proc/self/smaps").exists(), reason="needs /proc/self/smaps")
@pytest.mark.parametrize("dtype", DTYPES)
def test_a_plain_checkpoint_is_not_held_beside_what_is_packed(dtype: str, tmp_path: Path) -> None:
    config = {**CONFIGS["llama-untied"], "hidden_size": 384, "intermediate_size": 6000}
    found = write_model(tmp_path, config, random_weights(config)) / checkpoint.WEIGHTS
    model = orion.load(tmp_path, dtype=dtype)
    little = found.stat().st_size // 4
    assert mapped(found, "Rss") < little
    model.logits(IDS)
    assert mapped(found, "Rss") < little


@pytest.mark.parametrize("name", ["model.safetensors", "model.safetensors.index.json"])
def test_two_models_in_one_directory(small: Path, name: str, tmp_path: Path) -> None:
    for file in small.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    (tmp_path / name).touch()
    with pytest.raises(orion.Error, match=f"holds both {re.escape(name)} and {re.escape(PACKED)}"):
        orion.load(tmp_path)


DATA = np.zeros(100, np.uint16)
REFUSED: dict[str, tuple[Callable[[Path, Path], Any], str]] = {
    "another width": (lambda p, _: orion.load(p, dtype="int4"), "is packed in int8; leave dtype"),
    "an engine": (
        lambda p, _: orion.load(p, device="sim:macos26"),
        "engines take the model it was made from",
    ),
    "converting it": (lambda p, out: convert.convert(p, out), "give the model it was made from"),
    "packing it": (
        lambda p, out: convert.convert(p, out, dtype="int4"),
        "give the model it was made from",
    ),
    "a package": (lambda p, out: orion.compile_model(p, out), "give the model it was made from"),
    "training it": (
        lambda p, _: orion.Trainer(p, DATA, batch=1, sequence=8),
        "give the model it was made from",
    ),
    "training it, loaded": (
        lambda p, _: orion.Trainer(orion.load(p), DATA, batch=1, sequence=8),
        "give the model it was made from",
    ),
    "a llama2.c file": (
        lambda _, out: convert.convert("stories260K", out.with_suffix(".bin"), dtype="int8"),
        "a packed model is a directory",
    ),
}


@pytest.mark.parametrize("case", list(REFUSED))
def test_what_it_is_not_for_is_refused(case: str, small: Path, tmp_path: Path) -> None:
    act, said = REFUSED[case]
    with pytest.raises(orion.Error, match=re.escape(said)):
        act(small, tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_merging_is_refused(small: Path, tmp_path: Path, capsys: Capture) -> None:
    own = str(write_adapter(tmp_path / "own", ""))
    out = str(tmp_path / "out")
    assert cli.main(["lora", "merge", own, "--model", str(small), "-o", out]) != 0
    assert "give the model it was made from" in capsys.readouterr().err
    assert not Path(out).exists()


def test_a_weight_that_does_not_fit_leaves_nothing(tmp_path: Path) -> None:
    config = CONFIGS["llama-untied"]
    weights = random_weights(config)
    weights["lm_head.weight"][0, 0] = 70000
    source = write_model(tmp_path / "plain", config, weights)
    with pytest.raises(orion.Error, match=r"'lm_head\.weight': element 0 is 70000"):
        convert.convert(source, tmp_path / "packed", dtype="int8")
    assert [path.name for path in tmp_path.iterdir()] == ["plain"]


# -- damaged files --------------------------------------------------------------------------------


@pytest.fixture
def copy(small: Path, tmp_path: Path) -> Path:
    for file in small.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    return tmp_path


def header_length(content: bytes) -> int:
    (length,) = struct.unpack("<Q", content[:8])
    return int(length)


def test_any_safetensors_reader_reads_the_file(small: Path) -> None:
    content = (small / PACKED).read_bytes()
    assert (8 + header_length(content)) % 64 == 0
    arrays = safetensors.numpy.load_file(small / PACKED)
    assert arrays["model.layers.0.mlp.up_proj.weight"].dtype == np.uint8
    source = checkpoint.read(checkpoint.locate("stories260K"))
    assert set(arrays) == set(source.weights)
    norm = source.weights["model.norm.weight"].astype(np.float16)
    assert np.array_equal(arrays["model.norm.weight"], norm)


def test_a_file_cut_off_anywhere_is_refused(copy: Path) -> None:
    content = (copy / PACKED).read_bytes()
    rng = random.Random(0)
    for size in [0, 1, 7, 8, len(content) - 1, *(rng.randrange(len(content)) for _ in range(40))]:
        (copy / PACKED).write_bytes(content[:size])
        with pytest.raises(orion.Error, match=re.escape(str(copy / PACKED))):
            orion.load(copy)


def test_damage_is_refused_or_found_by_looking(copy: Path) -> None:
    content = (copy / PACKED).read_bytes()
    end = 8 + header_length(content)
    original = orion.load(copy).logits(IDS)
    rng = random.Random(1)
    loaded = 0
    for i in range(300):
        # Half of them in what says where things are, one to three bytes each.
        damaged = bytearray(content)
        for _ in range(rng.randint(1, 3)):
            place = rng.randrange(end) if i % 2 else rng.randrange(end, len(content))
            damaged[place] ^= 1 << rng.randrange(8)
        (copy / PACKED).write_bytes(damaged)
        try:
            logits = orion.load(copy).logits(IDS)
        except orion.Error:
            continue
        loaded += 1
        if not np.array_equal(logits, original, equal_nan=True):
            with pytest.raises(orion.Error, match="SHA-256 differs"):
                inspection.inspect(copy)
    assert loaded > 100  # contents are not read when a model is loaded


class Header(NamedTuple):
    """What a file says of itself."""

    places: dict[str, Any]
    facts: dict[str, Any]
    tensors: dict[str, Any]


def edited(copy: Path, change: Callable[[Header], Any]) -> None:
    """Writes the file with another header."""
    content = (copy / PACKED).read_bytes()
    end = 8 + header_length(content)
    header = json.loads(content[8:end])
    facts = header["__metadata__"]
    tensors = json.loads(facts["tensors"])
    change(Header(header, facts, tensors))
    facts["tensors"] = json.dumps(tensors)
    text = json.dumps(header).encode()
    text += b" " * (-(8 + len(text)) % 64)
    (copy / PACKED).write_bytes(struct.pack("<Q", len(text)) + text + content[end:])


UP = "model.layers.0.mlp.up_proj.weight"
NORM = "model.norm.weight"
WRONG: dict[str, tuple[Callable[[Header], Any], str]] = {
    "another shape": (
        lambda f: f.tensors[UP].update(shape=[64, 172]),
        "is fp16 (64, 172), the model asks for fp16 (172, 64)",
    ),
    "a narrower format": (lambda f: f.tensors[UP].update(matrix="int4"), "bytes, 6912 are needed"),
    "a wider format": (lambda f: f.tensors[UP].update(matrix="exact"), "bytes, 24576 are needed"),
    "a shape beyond any file": (
        lambda f: f.tensors[UP].update(shape=[2**40, 2**40]),
        "a whole number from 1 to",
    ),
    "a shape beyond this file": (
        lambda f: f.tensors[UP].update(shape=[2**20, 2**20]),
        "the model asks for",
    ),
    "a negative size": (
        lambda f: f.tensors[UP].update(shape=[-172, 64]),
        "a whole number from 1 to",
    ),
    "a tensor less": (
        lambda f: (f.places.pop(NORM), f.tensors.pop(NORM)),
        "128 bytes after the last tensor",
    ),
    "a tensor that is not described": (lambda f: f.tensors.pop(NORM), "do not say what"),
    "a tensor that is not there": (lambda f: f.places.pop(NORM), f"no '{NORM}'"),
    "overlap": (
        lambda f: f.places[UP].update(data_offsets=f.places[NORM]["data_offsets"]),
        "is needed",
    ),
    "an end before the beginning": (
        lambda f: f.places[UP].update(data_offsets=[12, 5]),
        "a whole number from 13 to",
    ),
    "fp32 among fp16": (lambda f: f.places[NORM].update(dtype="F32"), "F16 is needed"),
    "a list of a dtype": (lambda f: f.places[NORM].update(dtype=[]), "a string is needed"),
    "what nobody knows": (lambda f: f.tensors[UP].update(colour="red"), "is not known"),
    "a newer version": (
        lambda f: f.facts.update(version="2"),
        'version "2", this Orion reads version 1',
    ),
    "a dtype from elsewhere": (lambda f: f.facts.update(dtype="q4_0"), "'q4_0'"),
    "another dtype": (lambda f: f.facts.update(dtype="fp32"), "F32 is needed"),
}


@pytest.mark.parametrize("case", list(WRONG))
def test_what_is_wrong_is_named(case: str, copy: Path) -> None:
    change, said = WRONG[case]
    edited(copy, lambda _: None)
    orion.load(copy)  # edited back and forth it is fine
    edited(copy, change)
    with pytest.raises(orion.Error, match=f"{re.escape(str(copy))}.*{re.escape(said)}"):
        orion.load(copy)
