"""What is known of the Neural Engine: its limits, the profiles that combine them, and checks.

    from orion_ane import ane

    ane.verify(graph, "macos26")        # Error naming the limit that the program crosses
    ane.violations(mil_text, "strict")  # all of them

A profile is a hardware and system: a built-in one by name ("paper-m4-macos15", "macos26",
"macos27", "strict"), or the file that `orion probe` wrote.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from os import PathLike
from pathlib import Path
from typing import Any, NamedTuple

from numpy.typing import NDArray

from orion_ane import _core
from orion_ane._core import Error, Graph

__all__ = [
    "Violation",
    "legal_program",
    "legalize",
    "limits",
    "load_profile",
    "profiles",
    "verify",
    "violations",
]

Row = dict[str, Any]
ProfileName = str | PathLike[str]


class Violation(NamedTuple):
    """Where a program crosses a limit."""

    limit: str
    where: str


def limits() -> list[Row]:
    """Every limit: id, family, paper (its number there or None), rule, symptom, action, where,
    evidence, effect, confidence, probe."""
    return _core.limits()


def profiles() -> list[Row]:
    """The built-in profiles: name, doc, limits (ids) and numbers."""
    return _core.profiles()


def load_profile(path: str | PathLike[str]) -> str:
    """Reads a measured profile; from now on devices know it by the name that is returned."""
    try:
        stored = json.loads(Path(path).read_text(encoding="utf-8"))
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise Error(f"{path}: no profile: {error}") from error
    if not isinstance(stored, dict) or not isinstance(stored.get("profile"), dict):
        raise Error(f"{path}: no profile (`orion probe -o FILE` writes one)")
    return _core.add_profile(stored["profile"])


def violations(program: Graph | str, profile: ProfileName) -> list[Violation]:
    """Every limit of the profile that a graph, or a MIL text, can be seen to cross."""
    return [Violation(*row) for row in _core.violations(program, profile_name(profile))]


def verify(program: Graph | str, profile: ProfileName) -> None:
    """Raises `Error` naming the first limit crossed, where, and what to do.

    What only makes a program slow passes.
    """
    _core.verify_ane(program, profile_name(profile))


def legalize(graph: Graph, profile: ProfileName) -> Graph:
    """The same computation within fp16, in ops and shapes that the profile takes."""
    return _core.legalize(graph, profile_name(profile))


def legal_program(
    graph: Graph, weights: Mapping[str, NDArray[Any]], profile: ProfileName
) -> tuple[Graph, dict[str, NDArray[Any]]]:
    """`legalize`, and the weights that the legal graph wants, made of those of `graph`."""
    legal, values = _core.legal_program(graph, dict(weights), profile_name(profile))
    return legal, values


def profile_name(profile: ProfileName) -> str:
    """The name of a profile; one that is given as a file is read first."""
    is_file = not isinstance(profile, str) or profile.endswith(".json")
    return load_profile(profile) if is_file else str(profile)
