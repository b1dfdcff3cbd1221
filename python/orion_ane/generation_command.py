"""`orion generate`: a text continued on stdout, one line of statistics on stderr."""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import logging
import math
import secrets
import sys
from typing import Any

from orion_ane._core import Error
from orion_ane.arguments import integer, number
from orion_ane.lora_command import adapter_and_scale
from orion_ane.placement import DECODES, DTYPES, HEADS, POLICIES
from orion_ane.process_memory import peak_memory
from orion_ane.text import require_unicode


def add_generate_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `orion generate`."""
    add = parser.add_argument
    add(
        "--model",
        default="stories260K",
        help="a directory, a .bin, a package, or stories260K (default)",
    )
    add("--prompt", required=True, metavar="TEXT", help="the text to continue; may be empty")
    add("--max-tokens", type=integer(1), default=256, metavar="N", help="default: 256")
    add(
        "--temperature",
        type=number(0, math.inf),
        default=0.0,
        metavar="T",
        help="0 (default) takes the likeliest token, more is more varied",
    )
    add("--top-k", type=integer(0), default=0, metavar="K", help="among the K likeliest; 0: all")
    add(
        "--top-p",
        type=number(0, 1, above=True),
        default=1.0,
        metavar="P",
        help="among the likeliest that together hold P",
    )
    add(
        "--min-p",
        type=number(0, 1),
        default=0.0,
        metavar="P",
        help="among those at least P times as likely as the likeliest",
    )
    add(
        "--repetition-penalty",
        type=number(0, math.inf, above=True),
        default=1.0,
        metavar="R",
        help="above 1 makes tokens that occurred less likely",
    )
    add("--seed", type=integer(0), metavar="S", help="same seed, same text; default: a new one")
    add("--stop", action="append", default=[], metavar="TEXT", help="end before TEXT; repeatable")
    add("--device", default="auto", help="auto, cpu, ane, or a simulated engine: sim:PROFILE")
    add(
        "--policy",
        choices=POLICIES,
        help="what to do without an engine; default: require one named",
    )
    add("--decode", choices=DECODES, default="engine", help="cpu: only the prompt on the engine")
    add("--head", choices=HEADS, default="host", help="engine: the logits on the engine too")
    add("--dtype", choices=DTYPES, help="of the weights; default: as in the model")
    add("--threads", type=integer(1), metavar="N", help="default: one per core")
    add("--adapter", metavar="DIR[:SCALE]", help="a LoRA adapter beside the model's weights")
    add("--json", action="store_true", help="print one JSON object when done")


def generate(options: argparse.Namespace) -> None:
    """Runs `orion generate`; KeyboardInterrupt goes on after what exists has been shown."""
    import orion_ane

    require_unicode(options.prompt, "--prompt")
    for stop in options.stop:
        require_unicode(stop, "--stop")
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # a terminal that is not UTF-8
    if options.seed is None:
        options.seed = secrets.randbits(31)
    chosen = {
        key: value
        for key in ("device", "dtype", "threads", "policy", "decode", "head")
        if (value := getattr(options, key)) is not None
    }
    logging.getLogger("orion_ane").addHandler(logging.NullHandler())  # we print what it would
    model = orion_ane.load(options.model, **chosen)
    if model.fell_back:
        _note(f"on the CPU, not on the engine: {model.why_not_engine}")
    if options.adapter:
        path, scale = adapter_and_scale(options.adapter)
        model.set_adapter(model.load_adapter(path), scale)
    pieces: list[Any] = []
    interrupt = None
    try:
        _stream(model, options, pieces)
    except KeyboardInterrupt as pressed:  # what exists is shown all the same
        interrupt = pressed
    except Error:
        if not options.json:
            _put("\n")
        raise
    if options.json:
        print(json.dumps(_as_json(model, options, pieces), ensure_ascii=False))
    else:
        _put("\n")
    for note in model.notes:
        _note(note)
    print(_statistics(model, options), file=sys.stderr)
    if interrupt:
        raise interrupt


def _stream(model: Any, options: argparse.Namespace, pieces: list[Any]) -> None:
    """Collects the pieces of the text, and shows them as they come."""
    stream = model.stream(
        options.prompt,
        max_tokens=options.max_tokens,
        temperature=options.temperature,
        top_k=options.top_k,
        top_p=options.top_p,
        min_p=options.min_p,
        repetition_penalty=options.repetition_penalty,
        seed=options.seed,
        stop=options.stop,
    )
    show = _ignore if options.json else _put
    show(options.prompt)
    with contextlib.closing(stream):
        for piece in stream:
            pieces.append(piece)
            show(piece.text)


def _note(text: str) -> None:
    print(f"orion: note: {text}", file=sys.stderr)


def _ignore(_: str) -> None:
    """Shows nothing, for `--json`."""


def _put(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()


def _as_json(model: Any, options: argparse.Namespace, pieces: list[Any]) -> dict[str, Any]:
    stats = model.last_stats
    return {
        "prompt": options.prompt,
        "text": "".join(piece.text for piece in pieces),
        "ids": [piece.id for piece in pieces if piece.id is not None],
        "model": options.model,
        "device": model.device,
        "prompt_device": model.prompt_device,
        "decode_device": model.decode_device,
        "head_device": model.head_device,
        "dtype": model.dtype,
        "seed": options.seed,
        "prompt_tokens": stats.prompt_tokens,
        "prompt_seconds": stats.prompt_seconds,
        "decode_tokens": stats.decode_tokens,
        "decode_seconds": stats.decode_seconds,
        "load_seconds": stats.load_seconds,
        "compile_seconds": model.compile_seconds,
        "first_token_seconds": stats.first_token_seconds,
        "why_not_engine": model.why_not_engine,
        "notes": model.notes,
        "peak_memory_bytes": peak_memory(),
    }


def _statistics(model: Any, options: argparse.Namespace) -> str:
    stats = model.last_stats
    seed = f", seed {options.seed}" if options.temperature > 0 else ""
    why = [f"not on the engine: {model.why_not_engine}"] if model.why_not_engine else []
    at_prompt, at_decode, at_head = (
        "" if why else f" on {device}"
        for device in (model.prompt_device, model.decode_device, model.head_device)
    )
    fields = [
        f"{model.device} {model.dtype}{seed}",
        *why,
        f"compile {model.compile_seconds:.2f} s",
        f"first token {stats.first_token_seconds:.2f} s",
        f"prompt {_rate(stats.prompt_tokens, at_prompt, stats.prompt_seconds)}",
        f"decode {_rate(stats.decode_tokens, at_decode, stats.decode_seconds)}",
        *([] if why else [f"head{at_head}"]),
        f"peak memory {peak_memory() / 2**20:.0f} MiB",
    ]
    return " | ".join(fields)


def _rate(tokens: int, where: str, seconds: float) -> str:
    rate = f", {tokens / seconds:.1f} tokens/s" if seconds > 0 else ""
    return f"{tokens} tokens{where}{rate}"
