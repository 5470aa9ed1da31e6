import functools

import pytest

from tests.helpers.command_line import invoke
from transxnet.benchmark.bench import bench
from transxnet.cli import main


def test_info_shows_the_parts_of_a_detector_and_segmenter(capsys):
    status, out, err = invoke(capsys, "info", "transxnet_t", "--task", "detect", "--head", "retinanet")
    assert (status, err) == (0, "")
    for text in ("transxnet_t, RetinaNet, 80 classes", "22,439,812", "186.7 G", "at 800x1280", "FPN"):
        assert text in out
    status, out, _ = invoke(
        capsys, "info", "transxnet_n", "--task", "segment", "--img-size", "64x96", "--num-classes", "3"
    )
    assert status == 0
    assert "transxnet_n, Semantic FPN, 3 classes" in out
    assert "MACs at 64x96 " in out


def test_info_prints_long_lines_whole(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "40")
    status, out, _ = invoke(capsys, "info", "resnet50.a1_in1k")
    assert status == 0
    (line,) = (line for line in out.splitlines() if "published weights" in line)
    assert "resnet50.a1_in1k, resnet50.a1h_in1k" in line


@pytest.mark.parametrize(("failures", "status"), [([None, "broken"], 0), (["broken", "broken"], 2)])
def test_bench_fails_when_no_model_was_measured(failures, status, capsys, monkeypatch):
    class Row:
        def __init__(self, failure):
            self.failure = failure

    class Result:
        rows = [Row(failure) for failure in failures]  # noqa: RUF012

    measured = functools.wraps(bench)(lambda models, **options: Result)  # with the options of bench
    monkeypatch.setattr("transxnet.benchmark.bench.bench", measured)
    monkeypatch.setattr("transxnet.benchmark.bench_report.show", lambda result: "table")
    assert main(["bench", "resnet18"]) == status
    out, err = capsys.readouterr()
    assert out == "table\n"
    assert err == ("error: no model could be measured.\n" if status else "")
