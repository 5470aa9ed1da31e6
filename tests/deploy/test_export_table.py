"""Every row of the table in docs/guides/export.md: each format and option for each task."""

from pathlib import Path

import pytest

from benchmarks.export_table import ROWS, evaluate, measure
from tests.helpers.dense_data import DETECT, write_squares
from transxnet.runs.run_folder import Run
from transxnet.training.train import train

pytest.importorskip("nncf")


LEARN = DETECT | dict(epochs=40, batch_size=4, lr=3e-3, select="last", precision="32-true")
DETECTORS = ("learned_boxes", "learned_masks")
REFUSED = ("learned_masks", "openvino", {"dtype": "bfloat16"})
CASES = [
    (run, format, options)
    for run in ("digits_run", *DETECTORS, "maps_run")
    for format, options in ROWS
    if not (run in DETECTORS and format in ("executorch", "ncnn")) and (run, format, options) != REFUSED
]


@pytest.fixture(scope="module")
def many_squares(tmp_path_factory) -> Path:
    return write_squares(tmp_path_factory.mktemp("data") / "squares", 60, 8)


@pytest.fixture(scope="module")
def learned_boxes(many_squares, quiet, tmp_path_factory) -> Run:
    """A RetinaNet that has learned: with equal scores everywhere, rounding decides which boxes remain."""
    return train(many_squares, out=tmp_path_factory.mktemp("runs") / "boxes", console=quiet, **LEARN)


@pytest.fixture(scope="module")
def learned_masks(many_squares, quiet, tmp_path_factory) -> Run:
    out = tmp_path_factory.mktemp("runs") / "masks"
    options = LEARN | dict(epochs=20, lr=2e-3, head="maskrcnn")
    return train(many_squares, out=out, console=quiet, **options)


@pytest.mark.long
@pytest.mark.parametrize(("run", "format", "options"), CASES, ids=str)
def test_file_works_and_keeps_the_accuracy(run, format, options, request, tmp_path):
    path = request.getfixturevalue(run).path
    row = measure(path, format, options, tmp_path)
    assert row.difference <= row.accepted
    assert row.megabytes > 0 and row.latency > 0
    before = evaluate(path)
    assert all(value > 0.2 for value in before.values())
    assert row.metrics.keys() == before.keys()
    for name, value in before.items():
        assert row.metrics[name] == pytest.approx(value, abs=0.1 if "int8" in options else 0.02)
