"""Writes the README's table of speeds from what the scripts here and `orion bench` measured.

    python bench/readme.py REPORT.json ...   from reports that --json wrote, in this order
    python bench/readme.py                   measures first: decode, prefill and training steps of
                                             GPT-2 124M and Stories110M beside all peers

Between the two markers of README.md stands nothing but this: machine, command, table.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from orion_ane.bench import report
from orion_ane.bench.report import Report

BEGIN = "<!-- speed: python bench/readme.py -->"
END = "<!-- end of speed -->"
REFERENCE = "pytorch fp32"

HERE = Path(__file__).parent
README = HERE.parent / "README.md"
SCRIPTS = ("inference.py", "training.py")
MODELS = ("gpt2-124m", "stories-110m")


def section(reports: Sequence[Report]) -> str:
    """What stands between the markers."""
    return "\n".join(_block(each) for each in reports)


def replaced(text: str, content: str) -> str:
    """The README with that section; ValueError if it has not both markers, once each."""
    if text.count(BEGIN) != 1 or text.count(END) != 1 or text.index(BEGIN) > text.index(END):
        raise ValueError(f"{README}: needs one line {BEGIN} and after it one line {END}")
    before, rest = text.split(BEGIN)
    _, after = rest.split(END)
    return f"{before}{BEGIN}\n{content}{END}{after}"


def _block(each: Report) -> str:
    rows = [row for row in each.rows if row.unit == "tokens/s"]
    reference = REFERENCE if any(row.contender == REFERENCE for row in rows) else None
    return f"```text\n{report.head(each)}\n$ {each.command}\n{report.table(rows, reference)}\n```\n"


def _measure(folder: Path) -> list[Path]:
    files = []
    for script in SCRIPTS:
        file = folder / f"{script}.json"
        command = [sys.executable, f"bench/{script}", "--model", *MODELS, "--json", str(file)]
        subprocess.run(command, cwd=HERE.parent, check=True)
        files.append(file)
    return files


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("reports", nargs="*", type=Path, metavar="REPORT.json")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        files = options.reports or _measure(Path(folder))
        content = section([report.load(file) for file in files])
    README.write_text(replaced(README.read_text(encoding="utf-8"), content), encoding="utf-8")


if __name__ == "__main__":
    main()
