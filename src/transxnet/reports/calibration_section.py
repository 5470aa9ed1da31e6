"""The section of a report about the calibration of probabilities."""

from typing import Any

from transxnet.metrics.classification import ClassificationEvaluation
from transxnet.metrics.multilabel import MultiLabelEvaluation
from transxnet.reports.charts import reliability_chart
from transxnet.reports.formatting import percent
from transxnet.reports.metric_cells import format_metrics


def calibration_section(evaluation: ClassificationEvaluation | MultiLabelEvaluation) -> dict[str, Any]:
    """Draw the reliability diagram, and list ECE and Brier score, before and after temperature scaling."""
    before = evaluation.calibration()
    after = None if evaluation.temperature is None else evaluation.calibration(scaled=True)
    mean, true = (before.share @ values for values in (before.confidence, before.accuracy))
    if isinstance(evaluation, MultiLabelEvaluation):
        title, axes, unit = "True labels by probability", ("probability of the label", "true labels"), "labels"
        summary = f"Mean probability {percent(mean)}, true labels {percent(true)}."
    else:
        title, axes, unit = "Accuracy by confidence", ("confidence", "accuracy"), "images"
        summary = f"Mean confidence {percent(mean)}, accuracy {percent(true)}."
    cells = {name: (value, interval) for name, value, interval in format_metrics(evaluation)}
    kinds = ("", "_scaled") if after else ("",)
    return {
        "chart": reliability_chart(title, "calibration", before, after, axes),
        "title": title,
        "unit": unit,
        "summary": summary,
        "scaled": after is not None,
        "rows": [
            (label, [cells[f"{name}{kind}"] for kind in kinds])
            for label, name in (("Expected calibration error (ECE)", "ece"), ("Brier score", "brier"))
            if name in cells
        ],
    }
