"""Writes the README's table of speeds, and docs/speed.md, from what the scripts here measured.

    python bench/readme.py REPORT.json ...   from reports that --json wrote, in this order
    python bench/readme.py                   measures first: decode, prefill and training steps of
                                             GPT-2 124M and Stories110M beside all peers

Between the two markers of README.md stands nothing but this: the machine, and a line for each task
and width, ours beside the fastest peer. docs/speed.md has every contender, and the commands.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from orion_ane.bench import report
from orion_ane.bench.report import Report, Row

BEGIN = "<!-- speed: python bench/readme.py -->"
END = "<!-- end of speed -->"
REFERENCE = "pytorch fp32"

HERE = Path(__file__).parent
README = HERE.parent / "README.md"
SPEED = HERE.parent / "docs" / "speed.md"
SCRIPTS = ("inference.py", "training.py")
MODELS = ("gpt2-124m", "stories-110m")

WIDTHS = {"fp32": 32, "f32": 32, "fp16": 16, "bf16": 16, "f16": 16}
WIDTHS |= {"int8": 8, "q8_0": 8, "int4": 4, "q4_0": 4}
"""Bits of a weight, by the last word of a contender's name."""

HEADS = ("task", "bits", "ours", "tokens/s", "error", "best peer", "tokens/s", "error", "ratio")

PAGE = """# Speed, measured

Written by `python bench/readme.py`. [Benchmarks](benchmarks.md) says how to read it and to
measure again.

"""


def summary(reports: Sequence[Report]) -> str:
    """What stands between the README's markers."""
    lines: list[Sequence[str]] = [HEADS]
    for each in reports:
        rows = [row for row in each.rows if row.unit == "tokens/s"]
        for task in dict.fromkeys(row.task for row in rows):
            lines += _lines([row for row in rows if row.task == task])
    text = report.columns(lines, left=[0, 2, 5])
    return f"```text\n{report.head(reports[0])}\n\n{text}\n```\n"


def page(reports: Sequence[Report]) -> str:
    """docs/speed.md."""
    return PAGE + "\n".join(_block(each) for each in reports)


def replaced(text: str, content: str) -> str:
    """The README with that section; ValueError if it has not both markers, once each."""
    if text.count(BEGIN) != 1 or text.count(END) != 1 or text.index(BEGIN) > text.index(END):
        raise ValueError(f"{README}: needs one line {BEGIN} and after it one line {END}")
    before, rest = text.split(BEGIN)
    _, after = rest.split(END)
    return f"{before}{BEGIN}\n{content}{END}{after}"


def _lines(rows: Sequence[Row]) -> list[list[str]]:
    """For each width the fastest of ours and of the peers; nothing where one is alone."""
    lines = []
    for bits in (32, 16, 8, 4):
        wide = [row for row in rows if WIDTHS.get(row.contender.split()[-1]) == bits]
        ours = [row for row in wide if row.contender.startswith("orion ")]
        peers = [row for row in wide if row not in ours]
        if ours and peers:
            best, peer = (max(some, key=lambda row: row.median) for some in (ours, peers))
            cells = [best.task, str(bits), *_cells(best), *_cells(peer)]
            lines.append([*cells, f"{report.ratio(best, peer.median):.2f}"])
    return lines


def _cells(row: Row) -> list[str]:
    error = "-" if row.error is None else f"{row.error:.1g}"
    return [row.contender, report.figure(row.median), error]


def _block(each: Report) -> str:
    reference = REFERENCE if any(row.contender == REFERENCE for row in each.rows) else None
    command = re.sub(r" --json ('[^']*'|\S+)", "", each.command)  # where the report went
    return f"```text\n{report.head(each)}\n$ {command}\n{report.table(each.rows, reference)}\n```\n"


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
        reports = [report.load(file) for file in files]
    readme = replaced(README.read_text(encoding="utf-8"), summary(reports))
    README.write_text(readme, encoding="utf-8")
    SPEED.write_text(page(reports), encoding="utf-8")


if __name__ == "__main__":
    main()
