"""`orion lora`: train an adapter, show one, work one into its model."""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

from orion_ane import adapter, adapter_merging, checkpoint
from orion_ane._core import Error
from orion_ane.arguments import add_actions, integer, number
from orion_ane.train_command import add_run_arguments, default_text, run_training
from orion_ane.training import Lora, Trainer


def add_lora_arguments(parser: argparse.ArgumentParser) -> None:
    """The actions of `orion lora`, and their options."""
    add_actions(parser, _ACTIONS)


def use_lora(options: argparse.Namespace) -> None:
    """Runs `orion lora`."""
    options.action(options)


def adapter_and_scale(text: str) -> tuple[str, float]:
    """DIR or DIR:SCALE."""
    path, colon, scale = text.rpartition(":")
    if colon and not Path(text).exists():
        try:
            return path, float(scale)
        except ValueError:
            raise Error(f"{text}: after the colon a scale is needed, such as {path}:0.5") from None
    return text, 1.0


# Option, field of Lora, type, metavar, help.
_OPTIONS: tuple[tuple[str, str, Callable[[str], Any], str, str], ...] = (
    ("--rank", "rank", integer(1), "R", "rows of A"),
    (
        "--alpha",
        "alpha",
        number(0, math.inf, above=True),
        "X",
        "its scale times the rank",
    ),
    ("--dropout", "dropout", number(0, 1), "P", "share of what A reads that is left out"),
)
_DEFAULTS = {field.name: field.default for field in fields(Lora)}


def _add_train_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--model", required=True, help="a directory, a .bin, or stories260K; it stays as it is")
    for option, name, type_, metavar, help_ in _OPTIONS:
        default = _DEFAULTS[name]
        shown = help_ + default_text(default)
        add(option, dest=name, type=type_, metavar=metavar, default=default, help=shown)
    add("--targets", metavar="NAMES", help="q_proj,v_proj; default: every linear module")
    add("--rslora", action="store_true", help="scale by alpha / sqrt(rank)")
    add_run_arguments(parser)


def _train(options: argparse.Namespace) -> None:
    def make(**chosen: Any) -> Trainer:
        targets = options.targets.split(",") if options.targets else ()
        numbers = {name: getattr(options, name) for _, name, *_ in _OPTIONS}
        lora = Lora(targets=targets, rslora=options.rslora, **numbers)
        return Trainer(options.model, lora=lora, **chosen)

    run_training(options, make)


def _add_info_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("adapter", metavar="DIR")
    parser.add_argument("--model", help="the model it is for; default: the base that it names")
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def _info(options: argparse.Namespace) -> None:
    path = Path(options.adapter)
    config = adapter.read_config(path)
    base = options.model or config.get("base_model_name_or_path")
    if not base:
        raise Error(f"{path}: names no base model; give --model")
    model = checkpoint.read_config(checkpoint.locate(base))
    found = adapter.read(path, model)
    report = {
        "base": str(base),
        "model_type": model["model_type"],
        "rank": found.shape.rank,
        "alpha": config["lora_alpha"],
        "scale": found.shape.scale,
        "rslora": config.get("use_rslora", False),
        "target_modules": config["target_modules"],
        "modules": len(found.shape.targets),
        "parameters": sum(array.size for array in found.arrays.values()),
    }
    if options.json:
        print(json.dumps(report, ensure_ascii=False))
        return
    for key, value in report.items():
        print(f"{key:15} {value}")


def _add_merge_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("adapter", metavar="DIR[:SCALE]")
    add("--model", required=True, help="a directory, a .bin, or stories260K")
    add("-o", "--output", required=True, metavar="DIR", help="the model to write")
    add("--dtype", choices=("fp32", "fp16"), help="default: as in the model")
    add("--force", action="store_true", help="replace a model that exists")


def _merge(options: argparse.Namespace) -> None:
    path, scale = adapter_and_scale(options.adapter)
    adapter_merging.merge(
        options.model,
        path,
        options.output,
        scale=scale,
        dtype=options.dtype,
        replace=options.force,
    )
    print(f"{options.output}: {options.model} with {path} worked in", file=sys.stderr)


_ACTIONS = (
    ("train", "train an adapter beside a model that stays as it is", _add_train_arguments, _train),
    ("info", "show what an adapter is", _add_info_arguments, _info),
    (
        "merge",
        "write a model with an adapter worked into its weights",
        _add_merge_arguments,
        _merge,
    ),
)
