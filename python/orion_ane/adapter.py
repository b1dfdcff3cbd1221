"""Low-rank adapters (LoRA) on disk, as the PEFT library reads and writes them.

A directory holds `adapter_config.json` and `adapter_model.safetensors`, with two tensors for every
module that is adapted: A (r, in) and B (out, r) in y = W x + scale B (A x).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
from numpy.typing import NDArray

from orion_ane import _core, llama2c, storage
from orion_ane._core import Error, LoraShape
from orion_ane.checkpoint import Checkpoint, reorder_rotated, save_tensors
from orion_ane.families import FAMILIES
from orion_ane.packed import PackedModel
from orion_ane.safetensors_file import read_safetensors

CONFIG = "adapter_config.json"
TENSORS = "adapter_model.safetensors"
WRITTEN = frozenset({CONFIG, TENSORS, "README.md"})
MAX_RANK = 64

# Where the tensors' file says what they were trained beside.
_BASE = "base_sha256"
_PREFIX = "base_model.model."
_SUFFIXES = (".lora_A.weight", ".lora_B.weight")
_WEIGHT = ".weight"
Arrays = dict[str, NDArray[Any]]

# What changes the formula, or the base model itself, and is off as given here.
_OFF: Mapping[str, tuple[Any, ...]] = {
    "bias": ("none",),
    "use_dora": (False,),
    "use_qalora": (False,),
    "lora_bias": (False,),
    "modules_to_save": (None, []),
    "trainable_token_indices": (None, [], {}),
    "target_parameters": (None, []),
    "layer_replication": (None, []),
    "alora_invocation_tokens": (None, []),
    "megatron_config": (None,),
    "use_bdlora": (None, False),
    "velora_config": (None,),
    "monteclora_config": (None,),
    "kasa_config": (None,),
    "arrow_config": (None,),
    "init_lora_weights": (True, False, "gaussian", "orthogonal", "eva"),
}


@dataclass(frozen=True)
class Adapter:
    """An adapter of one model, its tensors in that model's names and order of rows."""

    shape: LoraShape
    """Its rank, its scale, and every module by its whole name."""
    arrays: Arrays
    """"<module>.lora_A.weight" (r, in) and "<module>.lora_B.weight" (out, r), fp32."""
    config: dict[str, Any] = field(default_factory=dict)
    """The content of adapter_config.json."""
    base: str = ""
    """The fingerprint of the weights that it was trained beside; empty if it is not known."""


def read(path: str | Path, model: Mapping[str, Any]) -> Adapter:
    """Reads an adapter for the model of a config.json; Error naming the file for anything wrong."""
    path = Path(path)
    config = read_config(path)
    if not (path / TENSORS).is_file():
        raise Error(f"{path}: no {TENSORS} (an adapter as .bin may run code when read)")
    base = config.get("base_model_name_or_path")
    hint = f" (was it made for this model? Its base is {base!r})" if base else ""
    try:
        arrays = _read_arrays(path / TENSORS, model)
        adapter = _uniform(config, arrays)
        _check_targets(config, adapter.shape.targets, model)
        adapter = replace(for_model(adapter, model), base=_base_of(path / TENSORS))
        _core.Adapter(dict(model), adapter.shape, adapter.arrays)  # checks every shape
    except Error as error:
        known = str(error).removeprefix(f"{path / TENSORS}: ")
        raise Error(f"{path}: {known}{hint}") from error
    return adapter


def read_config(path: Path) -> dict[str, Any]:
    """The adapter_config.json of a directory; Error for what is no LoRA or not supported."""
    file = path / CONFIG
    if not file.is_file():
        raise Error(
            f"{path}: no {CONFIG}; an adapter is a directory that PEFT's save_pretrained made"
        )
    config = storage.read_json(file)
    if config.get("peft_type") != "LORA":
        raise Error(f"{file}: peft_type is {config.get('peft_type')!r}, 'LORA' is needed")
    if config.get("task_type") not in (None, "CAUSAL_LM"):
        raise Error(f"{file}: task_type is {config['task_type']!r}, 'CAUSAL_LM' is needed")
    for key, off in _OFF.items():
        value = config.get(key, off[0])
        if not any(
            value is allowed or (value == allowed and type(value) is type(allowed))
            for allowed in off
        ):
            raise Error(f"{file}: {key} is {value!r}, which is not supported; {off[0]!r} is")
    _check_numbers(file, config)
    return config


def write(
    directory: str | Path, adapter: Adapter, model: Mapping[str, Any], *, replace: bool = False
) -> None:
    """Writes a directory that `read` and PEFT load: all of it, or nothing."""
    names = WRITTEN if replace else None
    with storage.staged_directory(Path(directory), replaceable=names) as stage:
        fill(stage, adapter, model)


def fill(stage: Path, adapter: Adapter, model: Mapping[str, Any]) -> None:
    """Writes an adapter's files into a directory."""
    adapter = _in_model_order(adapter, model, llama2c.deinterleave)
    arrays = {
        _PREFIX + name: np.ascontiguousarray(array, np.float32)
        for name, array in adapter.arrays.items()
    }
    facts = {_BASE: adapter.base} if adapter.base else {}
    save_tensors(stage / TENSORS, arrays, **facts)
    (stage / CONFIG).write_bytes(storage.to_json(adapter.config))


def for_model(adapter: Adapter, model: Mapping[str, Any]) -> Adapter:
    """An adapter with its rows in Hugging Face's order as the model of a config.json has them."""
    return _in_model_order(adapter, model, llama2c.interleave)


def misfit(adapter: Adapter, base: Checkpoint | PackedModel) -> str:
    """A sentence if an adapter says that it was trained beside other weights; else empty."""
    if adapter.base in ("", base.fingerprint):
        return ""
    return (
        f"it was trained beside other weights than those in {base.source} (SHA-256 "
        f"{adapter.base[:12]}..., here {base.fingerprint[:12]}...): another model of the same "
        "shape, or the same in another precision"
    )


def make_config(
    model: Mapping[str, Any],
    *,
    rank: int,
    alpha: float,
    targets: Sequence[str],
    dropout: float = 0.0,
    rslora: bool = False,
    base: str | None = None,
) -> dict[str, Any]:
    """The adapter_config.json of a new adapter; Error for numbers out of their range."""
    config: dict[str, Any] = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": base,
        "inference_mode": True,
        "r": rank,
        "lora_alpha": alpha,
        "lora_dropout": dropout,
        "target_modules": sorted(set(targets)),
        "bias": "none",
        "fan_in_fan_out": model["model_type"] == "gpt2",
        "init_lora_weights": True,
        "use_rslora": rslora,
        "rank_pattern": {},
        "alpha_pattern": {},
        "modules_to_save": None,
    }
    _check_numbers(Path("adapter"), config)
    return config


def scale_of(config: Mapping[str, Any], rank: int, alpha: float) -> float:
    """What B (A x) is multiplied with: alpha / r, or alpha / sqrt(r) if rank-stabilised."""
    return alpha / (math.sqrt(rank) if config.get("use_rslora", False) else rank)


def all_linear(model: Mapping[str, Any]) -> list[str]:
    """Names for every linear module of a model but the head: "q_proj", "c_attn" and so on."""
    names: list[str] = []
    for weight, shape in _core.model_weights(dict(model)).items():
        module = weight.removesuffix(_WEIGHT)
        last = module.rpartition(".")[2]
        if (
            len(shape) == 2
            and any(part.isdigit() for part in module.split("."))
            and last not in names
        ):
            names.append(last)
    return names


def modules_of(model: Mapping[str, Any], targets: Sequence[str]) -> dict[str, tuple[int, int]]:
    """{module: (in, out)} for every module of a model that names in `targets` mean."""
    return _core.lora_modules(dict(model), LoraShape(rank=1, scale=1.0, targets=list(targets)))


def _check_numbers(file: Path, config: Mapping[str, Any]) -> None:
    _check_rank(f"{file}: r", config.get("r"))
    _check_alpha(f"{file}: lora_alpha", config.get("lora_alpha"))
    dropout = config.get("lora_dropout", 0.0)
    if not _is_number(dropout) or not 0 <= dropout < 1:
        raise Error(f"{file}: lora_dropout is {dropout!r}, from 0 to below 1 is needed")
    if not isinstance(config.get("use_rslora", False), bool):
        raise Error(f"{file}: use_rslora is {config['use_rslora']!r}, true or false is needed")
    for key, check in (("rank_pattern", _check_rank), ("alpha_pattern", _check_alpha)):
        patterns = config.get(key) or {}
        if not isinstance(patterns, dict):
            raise Error(f"{file}: {key} is {patterns!r}, names and numbers are needed")
        for name, value in patterns.items():
            if not name.removeprefix("^").replace(".", "").replace("_", "").isalnum():
                raise Error(
                    f"{file}: {key} has {name!r}; names of modules are supported, not patterns"
                )
            check(f"{file}: {key} of {name!r}", value)
    targets = config.get("target_modules")
    named = isinstance(targets, list) and all(isinstance(name, str) and name for name in targets)
    if not targets or not (isinstance(targets, str) or named):
        raise Error(f"{file}: target_modules is {targets!r}, names of modules are needed")


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _check_rank(what: str, value: object) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= MAX_RANK:
        raise Error(f"{what} is {value!r}, a rank from 1 to {MAX_RANK} is needed")


def _check_alpha(what: str, value: object) -> None:
    if not _is_number(value):
        raise Error(f"{what} is {value!r}, a number is needed")


def _base_of(file: Path) -> str:
    with safetensors.safe_open(file, framework="numpy") as opened:
        metadata: dict[str, str] = opened.metadata() or {}
    return metadata.get(_BASE, "")


def _read_arrays(file: Path, model: Mapping[str, Any]) -> Arrays:
    family = FAMILIES[model["model_type"]]
    arrays: Arrays = {}
    for name, stored in read_safetensors(file).items():
        suffix = next((suffix for suffix in _SUFFIXES if name.endswith(suffix)), None)
        if suffix is None or not name.startswith(_PREFIX):
            raise Error(f"{file}: tensor '{name}' is neither A nor B of a linear module")
        stored.require_finite(f"{file}: tensor '{name}'")
        module = name.removeprefix(_PREFIX).removesuffix(suffix)
        known = family.canonical(module + _WEIGHT).removesuffix(_WEIGHT) + suffix
        if known in arrays:
            raise Error(f"{file}: holds '{known}' twice, with and without its prefix")
        arrays[known] = np.ascontiguousarray(stored.array(), np.float32)
    if not arrays:
        raise Error(f"{file}: holds no tensors")
    return arrays


def _uniform(config: dict[str, Any], arrays: Arrays) -> Adapter:
    """One rank and scale for all: rows of zeros do nothing, and what differs goes into B."""
    modules = sorted(
        {name.removesuffix(s) for name in arrays for s in _SUFFIXES if name.endswith(s)}
    )
    ranks = {module: _of_pattern(config, "rank_pattern", module, config["r"]) for module in modules}
    widest = max(ranks.values())
    scale = scale_of(config, widest, config["lora_alpha"])
    padded: Arrays = {}
    for module, rank in ranks.items():
        alpha = _of_pattern(config, "alpha_pattern", module, config["lora_alpha"])
        own = scale_of(config, rank, alpha)
        a, b = (
            _matrix(arrays, module + suffix, axis, rank) for axis, suffix in enumerate(_SUFFIXES)
        )
        if scale == 0 and own != 0:
            raise Error(f"alpha_pattern gives {module} a scale of {own:g} where lora_alpha is 0")
        factor = np.float32(1 if own == scale else own / scale)
        padded[module + _SUFFIXES[0]] = np.pad(a, ((0, widest - rank), (0, 0)))
        padded[module + _SUFFIXES[1]] = np.pad(b * factor, ((0, 0), (0, widest - rank)))
    uniform = {**config, "r": widest, "rank_pattern": {}, "alpha_pattern": {}}
    return Adapter(LoraShape(rank=widest, scale=scale, targets=modules), padded, uniform)


def _of_pattern(config: Mapping[str, Any], key: str, module: str, default: Any) -> Any:
    for name, value in (config.get(key) or {}).items():
        if module == name.removeprefix("^") or module.endswith(f".{name}"):
            return value
    return default


def _matrix(arrays: Arrays, name: str, rank_axis: int, rank: int) -> NDArray[Any]:
    if name not in arrays:
        raise Error(f"no tensor '{name}', which belongs to another that is there")
    array = arrays[name]
    if array.ndim != 2 or array.shape[rank_axis] != rank:
        raise Error(f"tensor '{name}' is {array.shape}, and {CONFIG} says rank {rank}")
    return array


def _check_targets(
    config: Mapping[str, Any], modules: Sequence[str], model: Mapping[str, Any]
) -> None:
    """Whether the tensors are those of the modules that a list of names means."""
    targets = config["target_modules"]
    if isinstance(targets, str):
        return  # a pattern, or "all-linear": the tensors tell
    canonical = FAMILIES[model["model_type"]].canonical
    found = set(modules)
    for module in modules:
        if not any(
            module == t or module.endswith(f".{t}") or module == canonical(t) for t in targets
        ):
            raise Error(f"tensors for '{module}', which target_modules {targets} does not name")
    if config.get("layers_to_transform") is None and not config.get("exclude_modules"):
        known = modules_of(model, targets)
        if missing := [module for module in known if module not in found]:
            raise Error(f"no tensors for '{missing[0]}', which target_modules {targets} names")


def _in_model_order(
    adapter: Adapter,
    model: Mapping[str, Any],
    reorder: Callable[[NDArray[Any], int], NDArray[Any]],
) -> Adapter:
    """B with its rows as a llama2.c model orders those that RoPE turns, or back."""
    if not model.get("rope_interleaved", False):
        return adapter
    outs = {name: array for name, array in adapter.arrays.items() if name.endswith(_SUFFIXES[1])}
    arrays = {**adapter.arrays, **reorder_rotated(outs, model, reorder)}
    return replace(adapter, arrays=arrays)
