"""Simulated hardware for tests that compile more than one process may."""

from __future__ import annotations

from orion_ane import _core

HARDWARE: list[str] = [profile["name"] for profile in _core.profiles()]


def tireless(name: str, use: str) -> str:
    """The profile's hardware for one use alone, with a compiler that never tires of one process."""
    profile = next(dict(p) for p in _core.profiles() if p["name"] == name)
    return _core.add_profile(profile | {"name": f"{use}-{name}", "compile_budget": 10**6})
