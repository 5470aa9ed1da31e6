"""Speeds relative to the first model."""

from tests.helpers.benchmark_settings import SETTINGS
from transxnet.benchmark.benchmark_result import Benchmark, BenchmarkRow
from transxnet.benchmark.settings import parse_benchmark_model
from transxnet.benchmark.worker import Failure


def benchmark(*rows: BenchmarkRow) -> Benchmark:
    return Benchmark(list(rows), SETTINGS, 2, 1.0, "transxnet bench", {})


def row(*milliseconds: float, failure: Failure | None = None) -> BenchmarkRow:
    return BenchmarkRow(parse_benchmark_model("resnet18", SETTINGS), milliseconds=list(milliseconds), failure=failure)


def test_speed_is_the_ratio_of_times_in_the_same_round():
    first, second = row(10.0, 30.0), row(5.0, 60.0)
    result = benchmark(first, second)
    assert result.speeds(first) == [1, 1]
    assert result.speeds(second) == [2, 0.5]


def test_no_speed_if_either_model_failed():
    good, bad = row(10.0), row(10.0, failure=Failure("out of memory", ""))
    assert benchmark(good, bad).speeds(bad) == []
    assert benchmark(bad, good).speeds(good) == []
