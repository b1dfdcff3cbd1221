"""The README's code runs, and prints what it says."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

README = (Path(__file__).parents[2] / "README.md").read_text()
BLOCKS = re.findall(r"```(\w+)\n(.*?)```", README, re.DOTALL)


def test_first_command_is_near_the_top() -> None:
    first = next(i for i, line in enumerate(README.splitlines(), 1) if line.startswith("$ "))
    assert first <= 15


def test_python_blocks_run(capsys: pytest.CaptureFixture[str]) -> None:
    namespace: dict[str, object] = {}
    blocks = [code for language, code in BLOCKS if language == "python"]
    assert len(blocks) >= 3
    for code in blocks:
        exec(compile(code, "README.md", "exec"), namespace)
    assert "little girl named Lily" in capsys.readouterr().out


def console_commands() -> list[tuple[str, str]]:
    """(command, output) of the `orion` commands in console blocks."""
    commands = []
    for language, text in BLOCKS:
        if language != "console":
            continue
        line, _, output = text.partition("\n")
        command = line.removeprefix("$ ").split("&&")[-1].strip()
        if command.startswith("orion "):
            commands.append((command, output))
    return commands


@pytest.mark.parametrize(("command", "output"), console_commands())
def test_console_blocks_print_what_they_say(command: str, output: str) -> None:
    script = Path(sys.executable).parent / "orion"
    argv = [str(script), *shlex.split(command)[1:]]
    done = subprocess.run(argv, capture_output=True, text=True, check=True)
    assert done.stdout == output
