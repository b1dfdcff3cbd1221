"""Fixtures for tests in more than one file."""

import gc
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from orion_ane import _core


@pytest.fixture(autouse=True, scope="module")
def _fresh_simulators() -> None:
    """What tests in other files compiled and loaded counts against nobody's limits."""
    gc.collect()
    for profile in _core.profiles():
        _core.simulator_restart(profile["name"])


@pytest.fixture(scope="session")
def shared() -> Callable[[str], Path]:
    """Finds test data that is not part of the repository, or skips the test naming it.

    It lies in the directory ORION_SHARED, by default `shared` beside the repository.
    """
    beside = Path(__file__).resolve().parents[3] / "shared"
    root = Path(os.environ.get("ORION_SHARED", beside)) / "data"

    def find(name: str) -> Path:
        if not (root / name).exists():
            pytest.skip(f"needs {root / name}")
        return root / name

    return find
