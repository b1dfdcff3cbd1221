"""Values of command line options, and the error for a command that makes no sense."""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Sequence

from orion_ane._core import Error


class UsageError(Error):
    """The command cannot be what was meant; it ends like one with an option that does not exist."""


Action = tuple[
    str,
    str,
    Callable[[argparse.ArgumentParser], None],
    Callable[[argparse.Namespace], None],
]
"""Name, help, what adds its options, what runs it."""


def add_actions(parser: argparse.ArgumentParser, actions: Sequence[Action]) -> None:
    """The actions of a command that is several; `options.action` is the one chosen."""
    parsers = parser.add_subparsers(metavar="ACTION", required=True)
    for name, help_, add_arguments, run in actions:
        action = parsers.add_parser(name, help=help_, description=f"{help_[0].upper()}{help_[1:]}.")
        add_arguments(action)
        action.set_defaults(action=run)


def integer(least: int) -> Callable[[str], int]:
    """An integer from `least` on."""

    def parse(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            value = least - 1
        if not least <= value < 2**64:
            raise argparse.ArgumentTypeError(f"expected an integer from {least} on, got {text!r}")
        return value

    return parse


def number(least: float, most: float, *, above: bool = False) -> Callable[[str], float]:
    """A number from `least`, or above it, to `most`."""

    def parse(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not (least <= value <= most and math.isfinite(value)) or (above and value == least):
            start = f"above {least:g}" if above else f"from {least:g}"
            end = f" to {most:g}" if most < math.inf else "" if above else " on"
            raise argparse.ArgumentTypeError(f"expected a number {start}{end}, got {text!r}")
        return value

    return parse
