"""`orion eval`: the loss and perplexity of a model on data."""

from __future__ import annotations

import argparse
import json

import orion_ane
from orion_ane._core import DeviceError, Error
from orion_ane.arguments import UsageError, integer
from orion_ane.data import Dataset
from orion_ane.placement import DTYPES, POLICIES
from orion_ane.training import evaluate


def add_eval_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `orion eval`."""
    add = parser.add_argument
    add("--model", required=True, help="a directory, a .bin, or stories260K")
    add("--data", required=True, metavar="FILE", help="token ids, as `orion prepare` writes them")
    add(
        "--seq",
        type=integer(1),
        metavar="S",
        help="tokens of a window; default: 256 or the context",
    )
    add("--windows", type=integer(0), default=0, metavar="N", help="the first N only; 0: all")
    add("--device", default="auto", help="auto, cpu, ane, or a simulated engine: sim:PROFILE")
    add(
        "--policy",
        choices=POLICIES,
        help="without an engine; default: require one named",
    )
    add("--dtype", choices=DTYPES, help="of the weights; default: as in the model")
    add("--threads", type=integer(1), metavar="N", help="default: one per core")
    add("--json", action="store_true", help="print one JSON object")


def evaluate_model(options: argparse.Namespace) -> None:
    """Runs `orion eval`."""
    try:
        names = ("device", "policy", "dtype", "threads")
        model = orion_ane.load(options.model, **{name: getattr(options, name) for name in names})
        sequence = options.seq or min(256, model.context)
        if sequence > model.context:
            raise Error(f"--seq {sequence}: the model has {model.context} positions")
        vocab = model.config["vocab_size"]
        dataset = Dataset(options.data, 1, sequence, vocab=vocab, shuffle=False)
    except DeviceError:
        raise
    except (Error, OSError) as error:
        raise UsageError(str(error)) from error
    found = evaluate(model, dataset, options.windows)
    report = {
        "loss": found.loss,
        "perplexity": found.perplexity,
        "tokens": found.tokens,
        "seconds": found.seconds,
        "model": options.model,
        "data": options.data,
        "device": model.device,
        "dtype": model.dtype,
    }
    text = (
        f"loss {found.loss:.4f}, perplexity {found.perplexity:.2f} | {found.tokens} tokens, "
        f"{found.tokens / found.seconds:.0f} tokens/s | {model.device} {model.dtype}"
    )
    print(json.dumps(report) if options.json else text)
