"""What is generated from the op table is committed as generated."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def test_generated_files_are_current() -> None:
    pytest.importorskip("pybind11_stubgen", reason="pip install '.[dev]' for the generators")
    tool = Path(sys.executable).parent / "clang-format"
    if shutil.which("clang-format") is None and not tool.exists():
        pytest.skip("clang-format is missing: pip install '.[dev]'")
    done = subprocess.run(
        [sys.executable, "docs/generate.py", "--check"], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
