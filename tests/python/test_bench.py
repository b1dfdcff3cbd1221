"""`orion bench`: what it measures, what it writes, and its verdicts."""

from __future__ import annotations

import importlib.util
import json
import os
import signal
from dataclasses import astuple, replace
from pathlib import Path
from typing import Any

import numpy as np
import orion_ane
import pytest
from orion_ane import Error, cli
from orion_ane._core import cpu_ceiling
from orion_ane.bench import baseline, inference, kernels, machine, models, report, timing, updates
from orion_ane.bench.remote import Contender, Race, Remote
from orion_ane.bench.report import Ceiling, Report, Row, Work, speed_row
from orion_ane.presets import PRESETS
from samples import GPT2, LLAMA

Capture = pytest.CaptureFixture[str]


def row(value: float = 100.0, unit: str = "tokens/s", **rest: Any) -> Row:
    """A row whose values have no spread."""
    return Row("inference", "decode", "orion fp16", unit, [value], **rest)


def a_report(*rows: Row) -> Report:
    return Report(
        {"cpu": "one", "threads": 2},
        {"quick": True},
        "orion bench inference",
        "abc",
        {1: Ceiling(1e9, 2e9, 4e9, 1e9), 2: Ceiling(2e9, 4e9, 8e9, 1.5e9)},
        list(rows),
    )


# -- the command ----------------------------------------------------------------------------------


def run(*arguments: str) -> int:
    return cli.main(["bench", *arguments])


def rows_of(file: Path) -> dict[tuple[str, str, str], Row]:
    return {(r.task, r.contender, r.unit): r for r in report.load(file).rows}


def test_inference_tells_speed_shares_errors_memory_and_cold_start(
    tmp_path: Path, capsys: Capture
) -> None:
    file = tmp_path / "now.json"
    arguments = ["inference", "--model", "stories260K", "--quick", "--repeat", "1"]
    assert run(*arguments, "--json", str(file)) == 0
    out = capsys.readouterr().out
    assert f"orion {orion_ane.__version__}, " in out
    assert f"threads, kernels for {orion_ane._core.cpu_kernels()}" in out
    assert "GB/s read" in out
    rows = rows_of(file)
    for dtype, most in (("fp16", 0.05), ("fp32", 0.0)):
        name = f"orion {dtype}"
        for task in ("prefill 64", "decode 16"):
            found = rows[f"stories260K: {task}", name, "tokens/s"]
            assert found.error is not None
            assert found.error <= most
            assert found.error_of == "max logit error"
            assert found.share is not None
            assert found.share > 0
        assert rows["stories260K: decode 16", name, "tokens/s"].gbytes is not None
        assert rows["stories260K: peak memory", name, "MiB"].median > 20
        assert rows["stories260K: load", name, "s"].median > 0
        load = rows["stories260K: load", name, "s"]
        assert load.median < rows["stories260K: start to first token", name, "s"].median
        for way in (name, f"{name} packed"):
            assert rows["stories260K: load", way, "s"].median > 0
            assert rows["stories260K: memory of a start", way, "MiB"].median > 20
    found = json.loads(file.read_text())
    assert found["command"] == "orion bench inference --model stories260K --repeat 1 --quick"
    assert set(found["machine"]) == {"cpu", "cpus", "system", "instruction set", "threads"}


def test_training_tells_speed_and_memory(tmp_path: Path) -> None:
    file = tmp_path / "now.json"
    assert (
        run("training", "--model", "stories-1m", "--quick", "--repeat", "1", "--json", str(file))
        == 0
    )
    rows = rows_of(file)
    step = rows["stories-1m: step of 1 x 1 x 32", "orion fp32", "tokens/s"]
    assert step.gflops is not None
    assert step.bound == "fp32"
    assert rows["stories-1m: peak memory of training", "orion fp32", "MiB"].median > 20


def test_the_other_suites(tmp_path: Path) -> None:
    file = tmp_path / "now.json"
    assert run("kernels", "--quick", "--repeat", "1", "--json", str(file)) == 0
    rows = report.load(file).rows
    assert {r.task for r in rows if r.unit == "us"} == {
        "dispatch from C++",
        "dispatch run() from Python",
        "dispatch call with arrays from Python",
    }
    assert all(r.error is not None and r.error < 1e-3 for r in rows if r.unit == "runs/s")

    arguments = ["compile", "--model", "stories260K", "--quick", "--repeat", "1", "--json"]
    assert run(*arguments, str(file)) == 0
    tasks = [r.task for r in report.load(file).rows]
    for phase in ("build", "optimize", "legalize", "emit", "weights", "write", "patch", "copy"):
        assert any(task.endswith(f", {phase}") for task in tasks)

    arguments = ["update", "--device", "sim:paper-m4-macos15", "--quick", "--repeat", "1", "--json"]
    assert run(*arguments, str(file)) == 0
    rows = report.load(file).rows
    names = {"delta", "new_identity", "input", "recompile", "compile"}
    assert {r.contender for r in rows} == names
    assert all(r.error == 0 for r in rows if r.contender != "compile")


def test_a_strategy_without_effect_is_named(capsys: Capture) -> None:
    assert run("update", "--device", "sim:macos26", "--quick", "--repeat", "1") == 0
    assert "sim:macos26: delta is not used: " in capsys.readouterr().out


def test_a_run_beside_its_own_baseline(tmp_path: Path, capsys: Capture) -> None:
    file = tmp_path / "before.json"
    arguments = ["update", "--device", "sim:paper-m4-macos15", "--quick", "--repeat", "1"]
    assert run(*arguments, "--json", str(file)) == 0
    assert run(*arguments, "--baseline", str(file), "--tolerance", "1e9") == 0
    assert "same" in capsys.readouterr().out

    before = json.loads(file.read_text())
    before["rows"][0]["values"] = [1e-9]
    file.write_text(json.dumps(before))
    assert run(*arguments, "--baseline", str(file), "--tolerance", "0.5") == 1
    out, err = capsys.readouterr()
    assert "worse" in out
    assert f"worse than {file}: sim:paper-m4-macos15, 2 weights, delta: worse" in err


def test_a_foreign_baseline_is_refused(tmp_path: Path, capsys: Capture) -> None:
    file = tmp_path / "foreign.json"
    arguments = ["update", "--device", "sim:paper-m4-macos15", "--quick", "--repeat", "1"]
    assert run(*arguments, "--json", str(file)) == 0
    foreign = json.loads(file.read_text())
    foreign["machine"]["cpu"] = "Another"
    foreign["settings"]["quick"] = False
    file.write_text(json.dumps(foreign))
    capsys.readouterr()
    assert run(*arguments, "--baseline", str(file)) == 1
    out, err = capsys.readouterr()
    assert out == ""  # before anything is measured
    assert "--force compares all the same" in err
    assert "machine: cpu is " in err
    assert "and was 'Another'" in err
    assert "settings: quick is True, and was False" in err
    forced = [*arguments, "--baseline", str(file), "--force", "--tolerance", "1e9"]
    assert run(*forced) == 0


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "No such file"),
        ("", "not JSON"),
        ("[]", "expected a JSON object"),
        ("{}", "not a benchmark report (orion bench SUITE --json FILE writes one)"),
        ('{"format": "orion-bench", "version": 9}', "a report of version 9, and 2 is known"),
        ('{"format": "orion-bench", "version": 2}', "a damaged benchmark report: no "),
    ],
)
def test_what_is_no_baseline(
    tmp_path: Path, capsys: Capture, content: str | None, message: str
) -> None:
    file = tmp_path / "before.json"
    if content is not None:
        file.write_text(content)
    assert run("update", "--quick", "--baseline", str(file)) == 1
    err = capsys.readouterr().err
    assert message in err
    assert str(file) in err


def test_an_unknown_model_names_what_there_is(capsys: Capture) -> None:
    assert run("inference", "--model", "gpt-5") == 1
    err = capsys.readouterr().err
    assert "gpt-5: no such file or directory" in err
    assert "gpt2-124m" in err
    assert "their weights are random" in err


@pytest.mark.parametrize("wrong", ["--repeat 0", "--threads x", "--tolerance -1"])
def test_options_out_of_range(capsys: Capture, wrong: str) -> None:
    with pytest.raises(SystemExit) as end:
        run("kernels", *wrong.split())
    assert end.value.code == 2
    assert wrong.split()[0] in capsys.readouterr().err


# -- verdicts -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("before", "now", "verdict"),
    [
        (row(100), row(111), "better"),
        (row(100), row(109), "same"),
        (row(100), row(91), "same"),
        (row(100), row(89), "worse"),
        (row(100, "s"), row(90, "s"), "better"),
        (row(100, "s"), row(112, "s"), "worse"),
        (row(100, "MiB"), row(112, "MiB"), "worse"),
        (row(100, "GB/s"), row(80, "GB/s"), "worse"),
        (replace(row(), values=[90, 100, 110]), row(89), "same"),  # its spread allows it
        (row(), replace(row(), values=[69, 89, 109]), "same"),
        (row(error=0.01), row(error=0.019), "same"),
        (row(error=0.01), row(error=0.021), "less exact"),
        (row(error=0.0), row(error=1e-5), "less exact"),
        (row(error=0.0), row(error=1e-7), "same"),
        (row(error=0.01), row(), "less exact"),
        (row(), row(error=9.0), "same"),
        (None, row(), "new"),
        (row(), None, "gone"),
    ],
)
def test_verdicts(before: Row | None, now: Row | None, verdict: str) -> None:
    old = a_report(*([before] if before else []))
    new = a_report(*([now] if now else []))
    (found,) = baseline.compare(new, old, tolerance=0.1)
    assert found.verdict == verdict
    assert found.is_regression == (verdict in ("worse", "less exact", "gone"))
    assert verdict in baseline.table([found])


def test_a_rate_that_halves_and_a_time_that_doubles_are_equally_worse() -> None:
    for before, now in ((row(100), row(50)), (row(1, "s"), row(2, "s"))):
        (found,) = baseline.compare(a_report(now), a_report(before), tolerance=0.0)
        assert found.change == pytest.approx(-0.5)


def test_what_differs_is_told() -> None:
    now, before = a_report(), a_report()
    assert baseline.differences(now, before) == []
    before.machine["threads"] = 4
    before.settings["models"] = ["a"]
    assert baseline.differences(now, before) == [
        "machine: threads is 2, and was 4",
        "settings: models is None, and was ['a']",
    ]


# -- reports --------------------------------------------------------------------------------------


def test_a_report_is_read_as_it_was_written(tmp_path: Path) -> None:
    written = a_report(row(3.5, gflops=1.0, share=0.5, bound="reading", error=0.1, error_of="e"))
    report.save(written, tmp_path / "r.json")
    assert report.load(tmp_path / "r.json") == written


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        ({"rows": [{"task": "t", "unit": "parsecs"}]}, "t: unit 'parsecs'"),
        ({"rows": [{"task": "t", "unit": "s", "values": []}]}, "t: no values"),
        ({"rows": [{"task": "t", "unit": "s", "values": ["1"]}]}, "a finite number, found '1'"),
        ({"rows": [{"task": "t", "unit": "s", "values": [float("inf")]}]}, "inf"),
        ({"rows": [3]}, "expected an object, found int"),
        ({"rows": 3}, "not iterable"),
        ({"ceilings": {"1": {"flops": 1}}}, "no 'bf16_flops'"),
        ({"ceilings": {"x": {"flops": 1, "read_bytes": 1}}}, "invalid literal"),
        ({"machine": []}, "expected an object, found list"),
        ({"command": None}, "expected a text, found NoneType"),
    ],
)
def test_a_damaged_report(tmp_path: Path, damage: dict[str, Any], message: str) -> None:
    file = tmp_path / "r.json"
    report.save(a_report(row()), file)
    file.write_text(json.dumps(json.loads(file.read_text()) | damage))
    with pytest.raises(Error) as caught:
        report.load(file)
    assert str(file) in str(caught.value)
    assert message in str(caught.value)


def test_shares_are_of_what_limits() -> None:
    ceiling = Ceiling(flops=100.0, bf16_flops=200.0, int8_flops=400.0, read_bytes=10.0)
    names = ("s", "t", "c")
    found = speed_row(names, [2.0], (8.0, "tokens/s"), Work(flops=50.0, read_bytes=16.0), ceiling)
    assert (found.median, found.share, found.bound) == (4.0, 0.8, "reading")
    cached = Work(flops=50.0, read_bytes=16.0, from_memory=False)
    found = speed_row(names, [2.0], (8.0, "tokens/s"), cached, ceiling)
    assert (found.share, found.bound) == (0.25, "fp32")
    for products, share in (("bf16", 0.125), ("int8", 0.0625)):
        found = speed_row(
            names, [2.0], (8.0, "tokens/s"), replace(cached, products=products), ceiling
        )
        assert (found.share, found.bound) == (share, products)
    found = speed_row(names, [2.0], (8.0, "tokens/s"), cached, None)
    assert (found.share, found.bound) == (None, None)


def test_the_table_compares_with_a_reference() -> None:
    mine = replace(row(50.0), contender="mine")
    slow = replace(row(2.0, "s"), contender="mine")
    text = report.table([row(100.0), mine, row(1.0, "s"), slow], "orion fp16")
    assert text.splitlines() == [
        "task    contender   median  unit      spread  ratio",
        "decode  orion fp16   100.0  tokens/s      0%   1.00",
        "decode  mine         50.00  tokens/s      0%   0.50",
        "decode  orion fp16   1.000  s             0%   1.00",
        "decode  mine         2.000  s             0%   0.50",
    ]


def test_spread_and_turns() -> None:
    assert timing.spread([1.0]) == 0
    assert timing.spread([1.0, 2.0, 3.0]) == pytest.approx(0.5)
    assert timing.spread([1, 2, 3, 4, 5]) == pytest.approx(0.5)
    order: list[str] = []
    runs = {name: lambda name=name: order.append(name) for name in "ab"}
    seconds = timing.alternate(runs, rounds=2, warmup=1)
    assert order == ["a", "b", "a", "b", "a", "b"]
    assert {name: len(all_of) for name, all_of in seconds.items()} == {"a": 2, "b": 2}


# -- what is counted ------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["gpt2-124m", "stories-110m"])
def test_costs_count_every_matrix_once(name: str) -> None:
    config = PRESETS[name]
    shapes = orion_ane._core.model_weights(config)
    matrices = sum(int(np.prod(s)) for n, s in shapes.items() if len(s) == 2 and "wpe" not in n)
    cost = models.Cost(config)
    assert cost.body + cost.head == matrices
    assert cost.decode(0, 1) == 2 * matrices + 4 * 12 * 768
    assert cost.decode_bytes(0, 1, 2) == 2 * (matrices + 2 * 12 * 768)


def test_costs_of_heads_that_share_keys_and_of_a_head_of_its_own() -> None:
    cost = models.Cost(LLAMA)
    assert (cost.queries, cost.keys) == (24, 8)
    assert cost.head == 264 * 24
    assert cost.body == 2 * (2 * 24 * 24 + 2 * 8 * 24 + 3 * 20 * 24)
    one = models.Cost(GPT2)
    # Of the only layer: keys and values of two tokens, the rest of the last one.
    assert one.prefill(2) == 2 * (2 * 2 * 36 + 10 * 36 + 11 * 6) + 4 * 6 * 2
    assert one.training(2, 4) == 8 * (6 * (12 * 36 + 11 * 6) + 12 * 6 * 4)


def test_ceilings_are_measured_and_arguments_checked() -> None:
    found = machine.ceilings(quick=True)
    assert set(found) == {1, orion_ane._core.thread_count()}
    assert all(value > 1e7 for c in found.values() for value in astuple(c))
    assert all(value > 1e7 for value in astuple(machine.ceiling_now()))
    ceilings = [Ceiling(3, 10, 1, 2), Ceiling(1, 30, 3, 2), Ceiling(2, 20, 2, 5)]
    assert Ceiling.median(ceilings) == Ceiling(2, 20, 2, 2)
    with pytest.raises(Error, match="0 threads, from 1 to 1024"):
        cpu_ceiling(threads=0, bytes=1 << 20, seconds=0.0)


def test_runs_are_timed_without_python_between_them() -> None:
    program, _ = kernels.tiny_program("cpu")
    assert 0 < program.time_runs(10) < 10
    with pytest.raises(Error, match="0 runs, at least 1"):
        program.time_runs(0)


@pytest.mark.parametrize("case", kernels.cases(quick=True), ids=lambda c: f"{c.task} {c.dtype}")
def test_kernel_cases_are_right(case: kernels.Case) -> None:
    program, values = kernels.prepare(case)
    program.run()
    wanted = case.right({name: v.astype(np.float64) for name, v in values.items()})
    np.testing.assert_allclose(program.output("y"), wanted, rtol=1e-4, atol=1e-4)


# -- processes ------------------------------------------------------------------------------------


class Calculator:
    """Runs in a process of its own."""

    def __init__(self, factor: int) -> None:
        if factor < 0:
            raise ValueError(f"factor {factor}")
        self.factor = factor

    def times(self, number: int) -> int:
        return self.factor * number

    def variable(self, name: str) -> str | None:
        return os.environ.get(name)

    def die(self) -> None:
        os._exit(7)

    def be_killed(self) -> None:
        os.kill(os.getpid(), signal.SIGKILL)


def test_a_contender_lives_in_a_process_of_its_own() -> None:
    with Remote("two", Calculator, (2,), {"ORION_TEST_OF_BENCH": "x"}) as two:
        assert two.call("times", 5) == 10
        assert two.call("variable", "ORION_TEST_OF_BENCH") == "x"
        assert os.environ.get("ORION_TEST_OF_BENCH") is None
        assert 0 <= two.time("times", 1) < 10
        assert two.peak_memory() > 1 << 20
        with pytest.raises(Error, match="two: TypeError: "):
            two.call("times", None)
        assert two.call("times", 1) == 2
        for _ in range(2):  # asked again, it says the same
            with pytest.raises(Error, match="two: its process ended with status 7"):
                two.call("die")
    killed = "killed: its process ended with signal SIGKILL"
    with Remote("killed", Calculator, (3,)) as remote, pytest.raises(Error, match=killed):
        remote.call("be_killed")


def test_contenders_take_turns(capsys: pytest.CaptureFixture[str]) -> None:
    with Race([Contender("two", Calculator, (2,)), Contender("three", Calculator, (3,))]) as race:
        seen = [
            race.each(lambda remote: remote.call("times", turn))  # noqa: B023
            for turn in race.turns(1, "numbers")
        ]
    assert [list(one.items()) for one in seen] == [
        [("two", 0), ("three", 0)],
        [("two", 2), ("three", 3)],
    ]
    assert capsys.readouterr() == ("", "")  # a bar is for terminals


def test_who_may_leave_is_left_out_and_no_other(capsys: pytest.CaptureFixture[str]) -> None:
    ours = Contender("ours", Calculator, (2,))
    guests = [
        Contender("unmade", Calculator, (-1,), may_leave=True),
        Contender("guest", Calculator, (3,), may_leave=True),
    ]
    with Race([*guests, ours]) as race:
        assert [c.name for c in race.contenders] == ["guest", "ours"]

        def run(remote: Remote) -> Any:
            return remote.call("die") if remote.name == "guest" else remote.call("times", 4)

        assert race.each(run) == {"ours": 8}
        assert race.each(lambda remote: remote.call("times", 1)) == {"ours": 2}
        assert race.contenders == [ours]
        with pytest.raises(Error, match="ours: its process ended with status 7"):
            race.each(lambda remote: remote.call("die"))
    told = capsys.readouterr().out.splitlines()
    assert told == [
        "left out: unmade: ValueError: factor -1",
        "left out: guest: its process ended with status 7",
    ]
    wrong = Race([guests[1], Contender("ours", Calculator, (-1,))])
    with pytest.raises(Error, match="ours: ValueError: factor -1"), wrong:
        pass


def test_a_contender_that_cannot_be_made() -> None:
    with pytest.raises(Error, match="bad: ValueError: factor -1"), Remote("bad", Calculator, (-1,)):
        pass


def test_logits_of_another_shape_or_not_finite_are_no_result() -> None:
    right = np.zeros((2, 3), np.float32)
    with pytest.raises(Error, match=r"peer: logits \(2, 2\), and \(2, 3\) are wanted"):
        inference.error_of("peer", right[:, :2], right)
    with pytest.raises(Error, match="peer: logits that are not finite"):
        inference.error_of("peer", right + np.nan, right)


def test_the_default_engine_is_one_that_is_there() -> None:
    assert updates.default_device().startswith(("ane", "sim:"))


# -- the README -----------------------------------------------------------------------------------


def test_the_readme_gets_its_table_between_markers() -> None:
    path = Path(__file__).parents[2] / "bench" / "readme.py"
    spec = importlib.util.spec_from_file_location("bench_readme", path)
    assert spec is not None
    assert spec.loader is not None
    readme = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(readme)

    found = a_report(row(100.0), row(1.0, "MiB"))
    found.machine |= {"cpus": 2, "system": "Linux", "instruction set": "avx2"}
    slow = replace(row(40.0), contender="a f16")
    found.rows += [slow, replace(row(50.0), contender="b bf16"), replace(slow, contender="a f32")]
    content = readme.summary([found])
    (line,) = [line for line in content.splitlines() if line.startswith("decode")]
    assert " ".join(line.split()) == "decode 16 orion fp16 100.0 - b bf16 50.00 - 2.00"
    assert "MiB" not in content
    found.command = "orion bench inference --json 'a b.json' --quick"
    assert "$ orion bench inference --quick\n" in readme.page([found])
    text = f"top\n{readme.BEGIN}\nold\n{readme.END}\nbottom\n"
    assert readme.replaced(text, content) == f"top\n{readme.BEGIN}\n{content}{readme.END}\nbottom\n"
    with pytest.raises(ValueError, match="needs one line"):
        readme.replaced("top\n", content)
    readme.replaced(readme.README.read_text(), content)  # the README has them
