"""Trained models on disk: Hugging Face directories (safetensors) and llama2.c's `.bin`.

Whatever a file calls its tensors, they are known here by one set of names, those of Hugging Face's
causal language models: with the `transformer.` or `model.` that some files leave out.
"""

from __future__ import annotations

import functools
import hashlib
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.numpy
from numpy.typing import NDArray

from orion_ane import _core, llama2c, storage
from orion_ane._core import Error
from orion_ane.families import FAMILIES, Family
from orion_ane.process_memory import release_pages
from orion_ane.safetensors_file import Stored, read_safetensors
from orion_ane.tokenizer import FILES as TOKENIZER_FILES
from orion_ane.tokenizer import Tokenizer

WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"
PACKED = "model.packed.safetensors"
"""Weights that only run: see `packed`."""
# Everything `write` may write, and therefore may replace.
WRITTEN = frozenset({"config.json", WEIGHTS, PACKED, *TOKENIZER_FILES})

_BUNDLED = Path(__file__).with_name("models")
_TORCH_NAMES = {"fp32": "float32", "fp16": "float16", "bf16": "bfloat16"}
_NUMPY_TYPES = {"fp32": np.float32, "fp16": np.float16}


class Weights(Mapping[str, NDArray[Any]]):
    """Tensors by name, views of the mapped file where NumPy has the type.

    NumPy has no bf16: such a tensor is widened to fp32, which is exact, each time it is asked for.
    The file's pages with a tensor are given back when the next one is asked for, and again when
    the last that holds the view drops it: what was copied is not in memory twice.
    """

    def __init__(self, stored: Mapping[str, Stored]) -> None:
        self._stored = dict(stored)
        self._read: Stored | None = None

    def __getitem__(self, name: str) -> NDArray[Any]:
        if self._read is not None:
            release_pages(self._read.raw)
        self._read = self._stored[name]
        array = self._read.array()
        if array is not self._read.raw:
            return array
        view = array.view(np.ndarray)
        weakref.finalize(view, release_pages, array).atexit = False
        return view

    def __iter__(self) -> Iterator[str]:
        return iter(self._stored)

    def __len__(self) -> int:
        return len(self._stored)

    def shape(self, name: str) -> tuple[int, ...]:
        """Shape, without reading the tensor."""
        return self._stored[name].shape

    def dtype_of(self, name: str) -> str:
        """Type in the file: fp32, fp16 or bf16."""
        return self._stored[name].dtype


@dataclass(frozen=True)
class Checkpoint:
    """A model as it was found."""

    config: dict[str, Any]
    """The content of `config.json`, or the same made from a llama2.c header."""
    weights: Weights
    """By canonical name, all finite, without what the model computes itself."""
    dtype: str
    """fp32, fp16 or bf16; for a mixture the type that holds all of them."""
    path: Path | None
    """What `read` was given; None for a model that was made in memory."""
    source: Path
    """The file with the weights, or the index of several: what errors name."""

    @property
    def loaded_dtype(self) -> str:
        """What it is loaded as, unless something else is asked for."""
        return "fp32" if self.dtype == "fp32" else "fp16"

    @functools.cached_property
    def fingerprint(self) -> str:
        """SHA-256 of all weights as fp32, whatever file and order of rows they were read from."""
        digest = hashlib.sha256()
        _, weights = in_hugging_face_order(self.config, self.weights)
        for name in sorted(weights):
            array = np.ascontiguousarray(weights[name], "<f4")
            digest.update(f"{name} {array.shape}\n".encode())
            digest.update(array.data)
        return digest.hexdigest()

    def check(self, expected: Mapping[str, Sequence[int]]) -> None:
        """`check` for this model."""
        check(expected, self.weights, self.source, self.config["model_type"])

    def check_complete(self) -> None:
        """Error unless the weights are those that the configuration asks for."""
        try:
            expected = _core.model_weights(self.config)
        except Error as error:
            raise Error(f"{self.path}: {error}") from error
        self.check(expected)


def locate(model: str | Path) -> Path:
    """Where a model is, given the name of a bundled one or a path (`./NAME` if both would do)."""
    bundled = sorted(entry.name for entry in _BUNDLED.iterdir() if entry.is_dir())
    if str(model) in bundled:
        return _BUNDLED / model
    if not Path(model).exists():
        names = ", ".join(bundled)
        raise Error(f"{model}: no such file or directory, nor a bundled model ({names})")
    return Path(model)


def read(path: str | Path) -> Checkpoint:
    """Reads a model; Error naming the file, and the tensor if there is one, for anything wrong."""
    path = Path(path)
    if path.is_dir():
        return _read_directory(path)
    if not path.is_file():
        raise Error(f"{path}: no such file or directory")
    if path.suffix != ".bin":
        raise Error(f"{path}: not a model (give a directory with config.json, or a llama2.c .bin)")
    return _read_llama2c(path)


def read_config(path: str | Path) -> dict[str, Any]:
    """The configuration of a model, without looking at its weights."""
    path = Path(path)
    return _read_config(path / "config.json") if path.is_dir() else llama2c.read(path)[0]


def in_memory(
    config: Mapping[str, Any], weights: Mapping[str, NDArray[Any]], path: Path | None
) -> Checkpoint:
    """fp32 arrays as a model that was found at `path`, where its tokenizer may be."""
    stored = {name: Stored("fp32", array.shape, array) for name, array in weights.items()}
    return Checkpoint(
        dict(config), Weights(stored), "fp32", path, path or Path("the weights in memory")
    )


def check(
    expected: Mapping[str, Sequence[int]],
    weights: Mapping[str, NDArray[Any]],
    path: str | Path,
    model_type: str = "",
) -> None:
    """Error unless `weights` are exactly the tensors that the model, by name and shape, expects."""
    family = FAMILIES.get(model_type)
    label = f"{family.label} " if family else ""
    shape_of = weights.shape if isinstance(weights, Weights) else lambda name: weights[name].shape
    for name, shape in expected.items():
        if name not in weights:
            raise Error(f"{path}: no tensor '{name}' (is this a {label}checkpoint?)")
        if shape_of(name) != tuple(shape):
            raise Error(
                f"{path}: tensor '{name}' is {shape_of(name)}, config.json asks for {tuple(shape)}"
            )
    for name in weights:
        if name not in expected:
            raise Error(
                f"{path}: tensor '{name}' {shape_of(name)} has no place in this {label}model "
                "(does config.json belong to it?)"
            )


def write(
    directory: str | Path,
    config: Mapping[str, Any],
    weights: Mapping[str, NDArray[Any]],
    tokenizer: Tokenizer | None = None,
    *,
    dtype: str = "fp32",
    replace: bool = False,
) -> None:
    """Writes a directory that `read` and transformers load: all of it, or nothing.

    See `fill` for the rest.
    """
    names = WRITTEN if replace else None
    with storage.staged_directory(Path(directory), replaceable=names) as stage:
        fill(stage, config, weights, tokenizer, dtype=dtype)


def fill(
    directory: Path,
    config: Mapping[str, Any],
    weights: Mapping[str, NDArray[Any]],
    tokenizer: Tokenizer | None = None,
    *,
    dtype: str = "fp32",
) -> None:
    """Writes the files of a model into a directory.

    `dtype` is fp32 or fp16; a value that fp16 cannot hold is an Error. RoPE is stored in Hugging
    Face's convention, whatever `config` says it was.
    """
    config, weights = in_hugging_face_order(config, weights)
    config["torch_dtype"] = _TORCH_NAMES[dtype]
    config.pop("dtype", None)
    arrays = {name: _cast(name, array, dtype) for name, array in weights.items()}
    save_tensors(directory / WEIGHTS, arrays)
    fill_around(directory, config, tokenizer)


def fill_around(directory: Path, config: Mapping[str, Any], tokenizer: Tokenizer | None) -> None:
    """Writes what a model's directory has beside weights."""
    (directory / "config.json").write_bytes(storage.to_json(config))
    for name, content in (tokenizer.files if tokenizer else {}).items():
        (directory / name).write_bytes(content)


def save_tensors(path: Path, arrays: Mapping[str, NDArray[Any]], **metadata: str) -> None:
    """Writes a safetensors file; OSError if the disk does not take it."""
    path.touch()
    mode = path.stat().st_mode
    try:
        safetensors.numpy.save_file(dict(arrays), path, metadata={"format": "pt", **metadata})
    except safetensors.SafetensorError as error:
        raise OSError(f"{path}: {error}") from error
    path.chmod(mode)  # the package lets only the owner read its file; let it be like the others


def _read_directory(directory: Path) -> Checkpoint:
    config = _read_config(directory / "config.json")
    source = _weights_file(directory)
    stored = _read_shards(source) if source.name == INDEX else read_safetensors(source)
    family = FAMILIES[config["model_type"]]
    return _checkpoint(config, _canonical(stored, family, source), directory, source)


def _read_llama2c(path: Path) -> Checkpoint:
    config, arrays = llama2c.read(path)
    stored = {name: Stored("fp32", array.shape, array) for name, array in arrays.items()}
    return _checkpoint(config, stored, path, path)


def _checkpoint(
    config: dict[str, Any], stored: dict[str, Stored], path: Path, source: Path
) -> Checkpoint:
    stored = _without_computed(stored, config, source)
    for name, tensor in stored.items():
        tensor.require_finite(f"{source}: tensor '{name}'")
        release_pages(tensor.raw)
    dtypes = {tensor.dtype for tensor in stored.values()}
    dtype = dtypes.pop() if len(dtypes) == 1 else "fp32"
    return Checkpoint(config, Weights(stored), dtype, path, source)


def _read_config(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise Error(f"{path}: missing; a model directory needs it")
    config = storage.read_json(path)
    model_type = config.get("model_type")
    if not isinstance(model_type, str) or model_type not in FAMILIES:
        raise Error(f"{path}: model_type {model_type!r} is unknown (known: {', '.join(FAMILIES)})")
    for key in FAMILIES[model_type].required:
        if key not in config:
            raise Error(f"{path}: no '{key}', which a {FAMILIES[model_type].label} model needs")
    return config


def _weights_file(directory: Path) -> Path:
    for name in (WEIGHTS, INDEX):
        if (directory / name).is_file():
            return directory / name
    if (directory / PACKED).is_file():
        raise Error(
            f"{directory}: is packed for running on the CPU, which rounds and reorders weights; "
            "give the model it was made from"
        )
    pickles = sorted(directory.glob("*.bin")) + sorted(directory.glob("*.pt*"))
    hint = (
        f"; {pickles[0].name} may run code when read: convert it to safetensors" if pickles else ""
    )
    raise Error(f"{directory}: neither {WEIGHTS} nor {INDEX}{hint}")


def _read_shards(index: Path) -> dict[str, Stored]:
    """The union of the shards an index names; Error unless it is what the index says."""
    places = storage.read_json(index).get("weight_map")
    if not isinstance(places, dict):
        raise Error(f"{index}: no 'weight_map'")
    stored: dict[str, Stored] = {}
    for shard in sorted({_shard_name(index, shard) for shard in places.values()}):
        if not (index.parent / shard).is_file():
            raise Error(f"{index}: names the shard '{shard}', which is missing")
        for name, tensor in read_safetensors(index.parent / shard).items():
            if places.get(name) != shard:
                raise Error(f"{index}: does not place tensor '{name}' in '{shard}', where it is")
            stored[name] = tensor
    for name, shard in places.items():
        if name not in stored:
            raise Error(f"{index}: places tensor '{name}' in '{shard}', which does not hold it")
    return stored


def _shard_name(index: Path, shard: object) -> str:
    if not isinstance(shard, str) or Path(shard).name != shard:
        raise Error(f"{index}: shard {shard!r} is not the name of a file beside it")
    return shard


def _canonical(stored: Mapping[str, Stored], family: Family, source: Path) -> dict[str, Stored]:
    renamed: dict[str, Stored] = {}
    for name, tensor in stored.items():
        canonical = family.canonical(name)
        if canonical in renamed:
            raise Error(f"{source}: holds '{canonical}' twice, with and without its prefix")
        renamed[canonical] = tensor
    return renamed


def _without_computed(
    stored: Mapping[str, Stored], config: Mapping[str, Any], source: Path
) -> dict[str, Stored]:
    """Drops tensors the model makes itself: masks, RoPE tables, a head that is the embedding."""
    family = FAMILIES[config["model_type"]]
    kept = {name: tensor for name, tensor in stored.items() if not family.is_computed(name)}
    if family.head not in kept or not config.get("tie_word_embeddings", family.tied_by_default):
        return kept
    head, embedding = kept.pop(family.head), kept.get(family.embedding)
    if embedding is not None and not np.array_equal(head.array(), embedding.array()):
        raise Error(
            f"{source}: '{family.head}' differs from '{family.embedding}', which config.json ties "
            'it to ("tie_word_embeddings": false would use both)'
        )
    return kept


def in_hugging_face_order(
    config: Mapping[str, Any], weights: Mapping[str, NDArray[Any]]
) -> tuple[dict[str, Any], Mapping[str, NDArray[Any]]]:
    """`config` and `weights` with each head's rotated pairs half a head apart."""
    config = dict(config)
    if config.pop("rope_interleaved", False):
        weights = reorder_rotated(weights, config, llama2c.deinterleave)
    return config, weights


def reorder_rotated(
    weights: Mapping[str, NDArray[Any]],
    config: Mapping[str, Any],
    reorder: Callable[[NDArray[Any], int], NDArray[Any]],
) -> dict[str, NDArray[Any]]:
    """`weights` with `reorder` applied to those whose rows RoPE turns, given their head count."""
    heads = config["num_attention_heads"]
    rotated = {
        ".self_attn.q_proj.": heads,
        ".self_attn.k_proj.": config.get("num_key_value_heads") or heads,
    }
    return {
        name: next((reorder(array, n) for part, n in rotated.items() if part in name), array)
        for name, array in weights.items()
    }


def _cast(name: str, array: NDArray[Any], dtype: str) -> NDArray[Any]:
    with np.errstate(over="ignore"):
        cast = np.ascontiguousarray(array, dtype=_NUMPY_TYPES[dtype])
    if not np.isfinite(cast).all():
        largest = np.abs(array).max()
        raise Error(f"tensor '{name}' holds {largest:g}, which {dtype} cannot (choose fp32)")
    return cast
