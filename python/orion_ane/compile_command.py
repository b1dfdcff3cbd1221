"""`orion compile`: a model as a package of programs for the engine."""

from __future__ import annotations

import argparse
import sys
import time

from orion_ane import package


def add_compile_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `orion compile`."""
    add = parser.add_argument
    add("model", help="a Hugging Face directory, a llama2.c .bin, or stories260K")
    add("-o", "--output", required=True, metavar="DIR", help="the package to write")
    add(
        "--profile",
        default="strict",
        metavar="NAME",
        help="the engine it is for: a profile, or a file of orion probe; default: strict (any)",
    )
    add(
        "--buckets",
        type=_lengths,
        default=(),
        metavar="N,N,...",
        help="lengths of prompts to make programs for; default: up to the model's context",
    )
    add("--force", action="store_true", help="replace a package that exists")


def compile_package(options: argparse.Namespace) -> None:
    """Runs `orion compile`."""
    start = time.perf_counter()
    written = package.compile_model(
        options.model,
        options.output,
        profile=options.profile,
        buckets=options.buckets,
        replace=options.force,
        progress=_show_progress if sys.stderr.isatty() else None,
    )
    size = sum(bytes_ for _, bytes_, _ in written.files)
    print(
        f"{options.output}: {written.programs} programs for {written.profile}, "
        f"{size / 2**20:.1f} MiB, {time.perf_counter() - start:.1f} s"
    )


def _show_progress(done: int, programs: int) -> None:
    end = "\n" if done == programs else ""
    print(f"\r{done} of {programs} programs", end=end, file=sys.stderr, flush=True)


def _lengths(text: str) -> tuple[int, ...]:
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError as error:
        raise argparse.ArgumentTypeError(
            f"expected lengths separated by commas, got {text!r}"
        ) from error
