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

import tqdm

from orion_ane import adapter, adapter_merging, checkpoint
from orion_ane._core import Error
from orion_ane.adapter_training import AdapterSettings, AdapterTrainer
from orion_ane.arguments import add_actions, integer, number
from orion_ane.training.settings import SCHEDULES


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


_DEFAULTS = {field.name: field.default for field in fields(AdapterSettings)}
_POSITIVE = number(0, math.inf, above=True)
_NUMBERS: tuple[tuple[str, Callable[[str], Any], str], ...] = (
    ("rank", integer(1), "rows of A"),
    ("alpha", _POSITIVE, "times 1 / rank: the scale of what the adapter adds"),
    ("batch", integer(1), "windows of a step"),
    ("sequence", integer(1), "tokens of a window, at most"),
    ("steps", integer(1), "in all, those before --resume included"),
    ("lr", _POSITIVE, "the highest learning rate"),
    ("warmup", integer(0), "steps of linear rise to it"),
    ("clip", number(0, math.inf), "the largest norm of all gradients; 0: any"),
    ("weight-decay", number(0, math.inf), "AdamW's"),
    ("validation", number(0, 1), "share of the data kept for evaluation"),
    ("seed", integer(0), "of the data's order and of A"),
)


def _add_train_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--model", required=True, help="a directory, a .bin, or stories260K; it stays as it is")
    add("--data", required=True, metavar="FILE", help="token ids, as `orion prepare` writes them")
    add("-o", "--output", required=True, metavar="DIR", help="the adapter to write")
    add("--targets", metavar="NAMES", help="q_proj,v_proj; default: every linear module")
    add("--rslora", action="store_true", help="scale by alpha / sqrt(rank)")
    for name, type_, help_ in _NUMBERS:
        default = _DEFAULTS[name.replace("-", "_")]
        add(f"--{name}", type=type_, metavar="N", default=default, help=f"{help_} ({default})")
    add("--schedule", choices=SCHEDULES, default="cosine")
    add("--device", default="auto", help="auto, cpu, ane, or a simulated engine: sim:PROFILE")
    add("--resume", action="store_true", help="go on from what --output holds")
    add("--force", action="store_true", help="replace an adapter that exists")


def _train(options: argparse.Namespace) -> None:
    names = {field.name for field in fields(AdapterSettings)} & vars(options).keys()
    chosen: dict[str, Any] = {name: getattr(options, name) for name in names}
    chosen["targets"] = tuple(options.targets.split(",")) if options.targets else ()
    output = Path(options.output)
    if output.exists() and not (options.resume or options.force):
        raise Error(f"{output}: already exists (--resume goes on from it, --force replaces it)")
    trainer = AdapterTrainer(
        options.model, options.data, AdapterSettings(**chosen), device=options.device
    )
    if options.resume:
        trainer.resume(output)
    has_validation = trainer.data.validation_windows > 0
    before = trainer.evaluate() if has_validation else None
    loss = None
    steps = range(trainer.step_count, options.steps)
    with tqdm.tqdm(steps, unit="step", disable=None, leave=False) as bar:
        for _ in bar:
            loss = trainer.step().loss
            bar.set_postfix_str(f"loss {loss:.4f}", refresh=False)
    trainer.save(output, replace=True)
    after = f"; validation loss {before:.4f} -> {trainer.evaluate():.4f}" if before else ""
    trained = f", loss {loss:.4f}" if loss is not None else ""
    print(
        f"{output}: {trainer.num_parameters:,} numbers, step {trainer.step_count} on "
        f"{trainer.device}{trained}{after}"
    )


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
