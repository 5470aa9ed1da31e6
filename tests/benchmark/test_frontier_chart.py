"""The chart of throughput against published accuracy."""

import pytest
from PIL import Image

from tests.helpers.benchmark_settings import settings, shown_by
from transxnet.benchmark.benchmark_result import Benchmark, BenchmarkRow
from transxnet.benchmark.frontier_chart import plot_frontier
from transxnet.benchmark.presets import PublishedAccuracy
from transxnet.benchmark.settings import parse_benchmark_model
from transxnet.benchmark.worker import Failure

MEASURED = {"transxnet_n": (1.0, 80.0), "resnet18": (2.0, 79.0), "resnet34": (3.0, 81.0), "resnet50": (None, 90.0)}


@pytest.fixture
def result() -> Benchmark:
    """Three models, of which the second is slower and less accurate than the first, and one that failed."""
    common, rows, accuracies = settings(size=(64, 64)), [], {}
    for name, (milliseconds, top1) in MEASURED.items():
        row = BenchmarkRow(parse_benchmark_model(name, common))
        if milliseconds is None:
            row.failure = Failure("out of memory", "")
        else:
            row.milliseconds = [milliseconds]
        rows.append(row)
        accuracies[name] = PublishedAccuracy(name.title(), top1, 64, "a table", "distilled" * (name == "resnet34"))
    return Benchmark(rows, common, 1, 1.0, "transxnet bench", {}, accuracies=accuracies)


def test_frontier_has_the_networks_that_none_exceeds_in_both(result):
    assert [row.model.name for row in result.frontier()] == ["transxnet_n", "resnet34"]
    shown = shown_by(result)
    assert "80.0*" in shown and "79.0 " in shown and "81.0*" in shown


def test_accuracy_at_another_size_does_not_count(result):
    row = BenchmarkRow(parse_benchmark_model("transxnet_n@size=32", result.settings), milliseconds=[1.0])
    assert result.accuracy(row) is None
    assert result.accuracy(BenchmarkRow(parse_benchmark_model("transxnet_n@dpe=false", result.settings))) is None


def test_chart_is_an_opaque_png_image(result, tmp_path):
    plot_frontier(result, tmp_path / "chart.png")
    with Image.open(tmp_path / "chart.png") as image:
        assert image.format == "PNG"
        assert image.convert("RGBA").getextrema()[3] == (255, 255)
        assert min(image.size) > 500
