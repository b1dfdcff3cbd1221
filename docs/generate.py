"""Writes what follows from the compiled core.

From the op table include/orion/ops.h, python/orion_ane/ops.pyi and docs/ops.md; from the table of
limits docs/constraints.md; from the extension module its stubs, python/orion_ane/_core.pyi.

    python docs/generate.py           write the files
    python docs/generate.py --check   exit 1, naming them, if any would change
"""

import argparse
import shutil
import subprocess
import sys
import tempfile
from inspect import Parameter
from pathlib import Path
from typing import Any

from orion_ane import _core
from orion_ane.ops import parameters

ROOT = Path(__file__).parent.parent

CPP_TYPES = {
    "value": "Value",
    "values": "const std::vector<Value>&",
    "bool": "bool",
    "int": "std::int64_t",
    "float": "double",
    "str": "const std::string&",
    "bools": "const std::vector<std::int64_t>&",
    "ints": "const std::vector<std::int64_t>&",
}

PYTHON_TYPES = {
    "value": "Operand",
    "values": "Sequence[Operand]",
    "bool": "bool",
    "int": "int",
    "float": "float",
    "str": "str",
    "bools": "Sequence[bool]",
    "ints": "int | Sequence[int]",
}

Row = dict[str, Any]


def cpp_default(kind: str, default: Any) -> str:
    if kind == "value":
        return "{}"
    if kind in ("bools", "ints"):
        return "{" + ", ".join(str(int(item)) for item in default) + "}"
    if kind == "str":
        return f'"{default}"'
    return str(default).lower() if kind == "bool" else repr(default)


def cpp_function(row: Row) -> str:
    given = []
    for name, kind, default in parameters(row):
        suffix = "" if default is Parameter.empty else f" = {cpp_default(kind, default)}"
        given.append(f"{CPP_TYPES[kind]} {name}{suffix}")
    args = [name for name, _ in row["args"]]
    variadic = row["args"][-1][1] == "variadic"
    first = f"{args[0]}.at(0)" if variadic else args[0]
    operands = args[0] if variadic else "{" + ", ".join(args) + "}"
    attrs = ", ".join(f'{{"{name}", {name}}}' for name, *_ in row["attrs"])
    tail = f", {{{attrs}}}" if attrs else ""
    doc = row["doc"].splitlines()[0]
    return (
        f"/// {doc}\ninline Value {row['name']}({', '.join(given)}) {{\n"
        f'  return {first}.owner().add("{row["name"]}", {operands}{tail});\n}}\n'
    )


def cpp_header(table: list[Row]) -> str:
    functions = "\n".join(cpp_function(row) for row in table)
    return f"""\
// Every op of the table as a C++ function. Written by docs/generate.py; do not edit.
//
// Operands are values of one graph. What each op computes in full is in docs/ops.md.
#pragma once

#include "orion/graph.h"

namespace orion::ops {{

{functions}
}}  // namespace orion::ops
"""


def python_default(default: Any) -> str:
    if default is Parameter.empty:
        return ""
    return f" = {default!r}" if not isinstance(default, list) else " = ..."


def python_function(row: Row) -> str:
    given = []
    for name, kind, default in parameters(row):
        annotation = PYTHON_TYPES[kind] + (" | None" if default is None else "")
        given.append(f"    {name}: {annotation}{python_default(default)},\n")
    doc = row["doc"].splitlines()[0]
    head = f"def {row['name']}(\n{''.join(given)}    *,\n"
    return f'{head}    name: str = "",\n) -> Value:\n    """{doc}"""\n'


def python_stub(table: list[Row]) -> str:
    functions = "\n".join(python_function(row) for row in table)
    names = ", ".join(f'"{name}"' for name in sorted([*(row["name"] for row in table), "split"]))
    return f'''\
# Written by docs/generate.py from the op table; do not edit.
from collections.abc import Sequence
from typing import Any

import numpy as np

from orion_ane._core import Value

Operand = Value | float | np.ndarray[Any, np.dtype[Any]]

__all__ = [{names}]

def parameters(row: dict[str, Any]) -> list[tuple[str, str, Any]]: ...

{functions}
def split(
    x: Value,
    num_splits: int | None = None,
    axis: int = 0,
    split_sizes: Sequence[int] | None = None,
) -> list[Value]:
    """x cut along axis, as slices."""
'''


def markdown_section(row: Row) -> str:
    signature = []
    for name, kind, default in parameters(row):
        shown = {"value": "", "values": ""}.get(kind, f": {kind}")
        signature.append(name + shown + ("" if default is Parameter.empty else f" = {default!r}"))
    otherwise = "through its expansion" if row["has_expand"] else "none"
    gradient = "given" if row["has_gradient"] else otherwise
    return f"## {row['name']}({', '.join(signature)})\n\n{row['doc']}\n\nGradient: {gradient}.\n"


def markdown(table: list[Row]) -> str:
    sections = "\n".join(markdown_section(row) for row in table)
    return f"# Ops\n\nWritten by `docs/generate.py` from the op table; do not edit.\n\n{sections}"


CONSTRAINTS_HEAD = """\
# Constraints of the Neural Engine

Written by `docs/generate.py` from the table in `src/ane/limits*.cpp`; do not edit.

Apple documents none of this. Each row is a report: who saw it, where, and how sure one can be of
it. `ane.violations(program, profile)` finds what a program crosses, the simulator fails as the
symptom says, and `orion probe` asks the machine at hand where reports differ.
"""


def profile_table(profiles: list[Row]) -> str:
    names = [row["name"] for row in profiles]
    lines = [f"| | {' | '.join(names)} |", "| --- " * (len(names) + 1) + "|"]
    lines.append(
        f"| limits that hold | {' | '.join(str(len(row['limits'])) for row in profiles)} |"
    )
    for field, doc in _core.profile_fields():
        values = [str(row[field]).lower() for row in profiles]
        lines.append(f"| `{field}`: {doc} | {' | '.join(values)} |")
    docs = "\n".join(f"- **{row['name']}**: {row['doc']}" for row in profiles)
    return f"## Profiles\n\n{docs}\n\n" + "\n".join(lines) + "\n"


def paper_table(rows: list[Row]) -> str:
    numbered = sorted((row["paper"], row["id"]) for row in rows if row["paper"] is not None)
    lines = [f"| {number} | [{name}](#{name}) |" for number, name in numbered]
    return "## The paper's twenty\n\n| number | limit |\n| --- | --- |\n" + "\n".join(lines) + "\n"


def limit_section(row: Row, profiles: list[Row]) -> str:
    holds = [profile["name"] for profile in profiles if row["id"] in profile["limits"]]
    facts = {
        "What happens": f"{row['symptom']} ({row['effect']})",
        "What to do": row["action"],
        "Seen on": row["where"],
        "Evidence": f"{row['evidence']} ({row['confidence']})",
        "Paper": row["paper"],
        "Probe": row["probe"],
        "Profiles": ", ".join(holds) or "none",
    }
    lines = "\n".join(f"- {name}: {fact}" for name, fact in facts.items() if fact)
    return f"### {row['id']}\n\n{row['rule']}\n\n{lines}\n"


def probe_line(probe: Row) -> str:
    reason = f" Not asked: {probe['not_asked']}." if probe["not_asked"] else ""
    return f"- {probe['id']}: {probe['question']}{reason}"


def constraints(rows: list[Row], profiles: list[Row]) -> str:
    parts = [CONSTRAINTS_HEAD, profile_table(profiles), paper_table(rows)]
    for family, doc in _core.limit_families():
        parts.append(f"## {family.capitalize()}\n\n{doc}\n")
        parts += [limit_section(row, profiles) for row in rows if row["family"] == family]
    questions = "\n".join(map(probe_line, _core.probes()))
    parts.append(f"## Probes\n\n{questions}\n")
    return "\n".join(parts)


def core_stub() -> str:
    """The stubs that pybind11-stubgen reads off the extension module."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "pybind11_stubgen", "orion_ane._core", "-o", folder]
        subprocess.run(command, check=True, capture_output=True)
        text = (Path(folder) / "orion_ane" / "_core.pyi").read_text()
    return "# Written by docs/generate.py; do not edit.\n" + text


def formatted(text: str, path: Path) -> str:
    """As this project's formatters would leave it."""
    if path.suffix == ".md":
        return text
    tool = (
        ["clang-format", f"--assume-filename={path}"]
        if path.suffix == ".h"
        else [sys.executable, "-m", "ruff", "format", f"--stdin-filename={path}", "-"]
    )
    if path.suffix == ".h" and shutil.which("clang-format") is None:
        tool[0] = str(Path(sys.executable).parent / "clang-format")
    done = subprocess.run(tool, input=text, text=True, check=True, capture_output=True, cwd=ROOT)
    return done.stdout


def outputs() -> dict[Path, str]:
    table = _core.op_table()
    raw = {
        ROOT / "include" / "orion" / "ops.h": cpp_header(table),
        ROOT / "python" / "orion_ane" / "ops.pyi": python_stub(table),
        ROOT / "docs" / "ops.md": markdown(table),
        ROOT / "docs" / "constraints.md": constraints(_core.limits(), _core.profiles()),
        ROOT / "python" / "orion_ane" / "_core.pyi": core_stub(),
    }
    return {path: formatted(text, path) for path, text in raw.items()}


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--check", action="store_true")
    check = parser.parse_args().check
    texts = outputs()
    stale = [p for p, text in texts.items() if not p.exists() or p.read_text() != text]
    for path in stale:
        print(f"{'stale' if check else 'written'}: {path.relative_to(ROOT)}")
        if not check:
            path.write_text(texts[path])
    return 1 if check and stale else 0


if __name__ == "__main__":
    sys.exit(main())
