"""The kernels and what it costs to run a program, by pytest-benchmark: `pytest bench`."""

from __future__ import annotations

import pytest
from orion_ane.bench import kernels
from pytest_benchmark.fixture import BenchmarkFixture


def named(case: kernels.Case) -> str:
    return f"{case.task} {case.dtype}"


@pytest.mark.parametrize("case", kernels.cases(quick=False), ids=named)
def test_kernel(benchmark: BenchmarkFixture, case: kernels.Case) -> None:
    program, _ = kernels.prepare(case)
    benchmark.extra_info["flops"] = case.flops
    benchmark(program.run)


def test_dispatch(benchmark: BenchmarkFixture) -> None:
    program, _ = kernels.tiny_program("cpu")
    benchmark(program.run)


def test_dispatch_with_arrays(benchmark: BenchmarkFixture) -> None:
    program, x = kernels.tiny_program("cpu")
    benchmark(lambda: program(x=x))
