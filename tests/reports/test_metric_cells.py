from tests.helpers.classifier_report import sample_evaluation
from transxnet.metrics.metric_names import format_interval
from transxnet.reports.metric_cells import format_metrics, metric_tile


def test_metrics_are_in_the_order_of_the_tables_with_intervals():
    evaluation = sample_evaluation()
    rows = format_metrics(evaluation)
    assert [row[0] for row in rows[:4]] == ["accuracy", "majority", "balanced_accuracy", "auroc"]
    assert rows[0][2] == format_interval("accuracy", evaluation.intervals.limits["accuracy"])
    assert rows[1][2] == ""


def test_tile_has_the_interval_as_its_last_note():
    tile = metric_tile(sample_evaluation(), "accuracy", "Accuracy", ["a note"])
    assert tile.notes[0] == "a note" and tile.notes[-1].startswith("95% interval ")
    assert metric_tile(sample_evaluation(), "r2", "R2", []).value == "\u2013"
