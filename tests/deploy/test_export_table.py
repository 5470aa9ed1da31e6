"""Every row of the table in docs/guides/export.md: each format and option for each task."""

import pytest

from benchmarks.export_table import ROWS, evaluate, measure

pytest.importorskip("nncf")


CASES = [
    (run, format, options)
    for run in ("digits_run", "boxes_run", "masks_run", "maps_run")
    for format, options in ROWS
    if not (run in ("boxes_run", "masks_run") and format in ("executorch", "ncnn"))  # they refuse detectors
]


@pytest.mark.long
@pytest.mark.parametrize(("run", "format", "options"), CASES, ids=str)
def test_file_works_and_keeps_the_accuracy(run, format, options, request, tmp_path):
    path = request.getfixturevalue(run).path
    row = measure(path, format, options, tmp_path)
    assert row.difference <= row.accepted
    assert row.megabytes > 0 and row.latency > 0
    before = evaluate(path)
    assert row.metrics.keys() == before.keys()
    for name, value in before.items():
        assert row.metrics[name] == pytest.approx(value, abs=0.1 if "int8" in options else 0.02)
