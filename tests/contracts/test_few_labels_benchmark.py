"""The table of benchmarks/few_labels.py."""

import pytest

pytest.importorskip("sklearn")

from benchmarks.few_labels import interval, write_table


def test_interval_is_that_of_student_over_the_seeds():
    assert interval([0.60, 0.62, 0.64]) == "62.0 ± 5.0"  # 4.303 * 2 / sqrt(3)
    assert interval([0.6]) == "60.0"


def test_difference_is_paired_by_seed(tmp_path):
    tuned, scratch = {"0": 0.70, "1": 0.80, "2": 0.9}, {"0": 0.65, "1": 0.75}
    write_table(tmp_path, {"pretrained": {"0.1": tuned}, "from scratch": {"0.1": scratch}})
    assert (tmp_path / "table.md").read_text().splitlines() == [
        "| | 10% |",
        "|---|---|",
        "| pretrained | 80.0 ± 24.8 (5.0 ± 0.0) |",
        "| from scratch | 70.0 ± 63.5 |",
    ]
