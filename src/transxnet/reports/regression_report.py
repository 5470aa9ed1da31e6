"""The report of a regression: predicted by true values, residuals, the largest errors and explanations."""

from typing import Any

import numpy as np
from matplotlib.ticker import MaxNLocator

from transxnet.metrics.metric_names import format_metric
from transxnet.metrics.regression import RegressionEvaluation
from transxnet.reports.charts import (
    Chart,
    Line,
    Plot,
    chart_axes,
    chart_style,
    css_color,
    figure_svg,
    line_style,
)
from transxnet.reports.formatting import data_url
from transxnet.reports.image_cards import THUMBNAIL, Explain, LoadImage, explain_groups, thumbnail
from transxnet.reports.metric_cells import metric_tile
from transxnet.reports.report_data import Report, TaskPage, Tile
from transxnet.utils.quantities import format_value

ERRORS = 12
EXPLAINED = 4
POINTS = 2000
"""Most points of a chart; of more images some are drawn at random."""
FEW = 200
"""Points that hardly overlap; more are transparent."""

_SCORES = (Line("val_r2", "R2", "blue"), Line("val_spearman", "Spearman", "orange", "dashed"))


def task_page(evaluation: RegressionEvaluation, report: Report) -> TaskPage:
    """Create the page of a regression."""
    explanations = None if report.explain is None else _explanations(evaluation, report.explain)
    shown = np.sort(np.random.default_rng(0).permutation(len(evaluation))[:POINTS])
    return TaskPage(
        template="regression.html.jinja",
        images=len(evaluation),
        tiles=_tiles(evaluation),
        scores=[Plot("Scores on validation images", _SCORES)],
        sections=[
            ("predictions", "Predictions"),
            ("errors", "Largest errors"),
            *([("explanations", "Grad-CAM")] if explanations else []),
        ],
        content=dict(
            classes=evaluation.class_names,
            target=evaluation.class_names[0],
            shown=len(shown),
            scatter=[_predicted_by_true(evaluation, shown), _residual_histogram(evaluation)],
            bias=format_value(evaluation.residuals.mean()),
            train_images=[(name, data_url(image, THUMBNAIL)) for name, image in report.train_images],
            errors=_errors(evaluation, report.image),
            explanations=explanations,
        ),
    )


def _tiles(evaluation: RegressionEvaluation) -> list[Tile]:
    metrics, target = evaluation.metrics(), evaluation.class_names[0]
    baseline = f"{format_metric('rmse', metrics['baseline_rmse'])} for always predicting the mean"
    tiles = [
        ("R2", "r2", [f"fraction of the variance of “{target}” that is explained; 0 for always predicting the mean"]),
        ("RMSE", "rmse", [baseline]),
        ("MAE", "mae", ["mean absolute error"]),
        ("Weighted MAE", "weighted_mae", ["images weighted by label confidence"]),
        ("Spearman", "spearman", ["rank correlation"]),
    ]
    return [metric_tile(evaluation, name, label, notes) for label, name, notes in tiles if name in metrics]


def _predicted_by_true(evaluation: RegressionEvaluation, shown: np.ndarray) -> Chart:
    true, predicted = evaluation.labels[shown], evaluation.predictions[shown]
    low, high = min(true.min(), predicted.min()), max(true.max(), predicted.max())
    with chart_style():
        figure, axes = chart_axes(height=3.9)
        axes.plot([low, high], [low, high], **line_style("muted", "dashed", 1))
        axes.scatter(
            true,
            predicted,
            20,
            color=css_color("blue"),
            alpha=0.35 if len(shown) > FEW else 0.8,
            linewidths=0,
            zorder=3,
        )
        axes.set(xlabel="true value", ylabel="predicted value")
        svg = figure_svg(figure, "scatter", "Predicted by true value")
    return Chart("Predicted by true value", svg, (Line("", "perfect prediction", "muted", "dashed"),))


def _residual_histogram(evaluation: RegressionEvaluation) -> Chart:
    with chart_style():
        figure, axes = chart_axes(height=3.9)
        axes.hist(evaluation.residuals, "auto", color=css_color("blue"), edgecolor=css_color("paper"), linewidth=0.5)
        axes.axvline(0, **line_style("muted", "dashed", 1))
        axes.set(xlabel="predicted minus true value", ylabel="images")
        axes.yaxis.set_major_locator(MaxNLocator(5, integer=True))
        svg = figure_svg(figure, "residuals", "Number of images by residual")
    return Chart("Residuals", svg, (Line("", "no error", "muted", "dashed"),))


def _errors(evaluation: RegressionEvaluation, load_image: LoadImage | None) -> list[dict[str, Any]]:
    """Create the cards of the images with the largest errors."""
    return [
        {
            "name": evaluation.names[i],
            "thumbnail": thumbnail(load_image, i),
            "predicted": format_value(evaluation.predictions[i]),
            "true": format_value(evaluation.labels[i]),
        }
        for i in evaluation.largest_errors(ERRORS).tolist()
    ]


def _explanations(evaluation: RegressionEvaluation, explain: Explain) -> dict[str, Any]:
    """Explain the images with the highest predictions, and those with the largest errors."""

    def examples(indices: np.ndarray) -> list[tuple[int, str, str]]:
        notes = [
            f"Predicted {format_value(evaluation.predictions[i])}, true {format_value(evaluation.labels[i])}"
            for i in indices
        ]
        return [(i, evaluation.names[i], note) for i, note in zip(indices.tolist(), notes, strict=True)]

    highest = np.argsort(-evaluation.predictions, kind="stable")[:EXPLAINED]
    wrong = evaluation.largest_errors(EXPLAINED)
    groups = [("Highest predictions", examples(highest), None), ("Largest errors", examples(wrong), None)]
    return explain_groups(groups, explain)
