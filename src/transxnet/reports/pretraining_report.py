"""The report of a pretraining: signs of collapse over the epochs, and a map of the embeddings."""

from typing import Any

import numpy as np

from transxnet.metrics.embeddings import NEIGHBORS, EmbeddingEvaluation
from transxnet.metrics.metric_names import format_metric
from transxnet.reports.charts import Chart, Line, Plot, chart_axes, chart_style, css_color, figure_svg
from transxnet.reports.colors import palette
from transxnet.reports.report_data import TaskPage, Tile

POINTS = 2000
"""Most points of the map; of more images some are drawn at random."""
COLORED = 20
"""Most classes with a color of their own, which are easy to distinguish."""


def task_page(evaluation: EmbeddingEvaluation) -> TaskPage:
    """Create the page of a pretraining."""
    figures = evaluation.metrics()
    rank, std = Line("val_effective_rank", "effective rank", "blue"), Line("val_embedding_std", "deviation", "blue")
    accuracy = Line("val_knn_accuracy", "nearest neighbors", "blue")
    scores = [Plot("Rank of the embeddings", (rank,)), Plot("Deviation of the embeddings", (std,))]
    if evaluation.labeled:
        baseline = ("most frequent class", figures["majority"])
        scores.insert(0, Plot("Accuracy of the nearest neighbors", (accuracy,), baseline, in_percent=True))
    shown = np.sort(np.random.default_rng(0).permutation(len(evaluation))[:POINTS])
    return TaskPage(
        template="pretraining.html.jinja",
        images=len(evaluation),
        tiles=_tiles(evaluation, figures),
        scores=scores,
        sections=[("embeddings", "Embeddings")],
        content=dict(
            classes=evaluation.class_names,
            labeled=evaluation.labeled,
            neighbors=NEIGHBORS,
            shown=len(shown),
            map=_embedding_map(evaluation, shown),
            legend=_legend(evaluation),
        ),
    )


def _tiles(evaluation: EmbeddingEvaluation, figures: dict[str, float]) -> list[Tile]:
    count, features = evaluation.embeddings.shape
    tiles = [
        Tile("Effective rank", format_metric("effective_rank", figures["effective_rank"]),
             [f"at most {min(count - 1, features)}, for {features} features of {count} images; near 1: collapsed"]),
        Tile("Standard deviation", format_metric("embedding_std", figures["embedding_std"]),
             ["1: embeddings in all directions; near 0: collapsed"]),
    ]  # fmt: skip
    if evaluation.labeled:
        accuracy, majority = (format_metric("accuracy", figures[name]) for name in ("knn_accuracy", "majority"))
        tiles.insert(0, Tile("k-NN accuracy", accuracy, [f"{majority} for always predicting the most frequent class"]))
    return tiles


def _colors(evaluation: EmbeddingEvaluation) -> list[str]:
    """Return the color of each class; one color if there are no classes, or too many."""
    count = len(evaluation.class_names)
    if not evaluation.labeled or count > COLORED:
        return [css_color("blue")] * count
    return ["#{:02x}{:02x}{:02x}".format(*color) for color in palette(count)]


def _legend(evaluation: EmbeddingEvaluation) -> list[tuple[str, str]]:
    """Return (class, color) of the map, if it has a color for each class."""
    if not evaluation.labeled or len(evaluation.class_names) > COLORED:
        return []
    return list(zip(evaluation.class_names, _colors(evaluation), strict=True))


def _embedding_map(evaluation: EmbeddingEvaluation, shown: np.ndarray) -> Chart:
    """Draw the two principal components of the embeddings."""
    from sklearn.decomposition import PCA

    unit = evaluation.embeddings / np.maximum(np.linalg.norm(evaluation.embeddings, axis=1, keepdims=True), 1e-12)
    points: Any = PCA(min(2, *unit.shape), svd_solver="full").fit_transform(unit)[shown]
    points = np.pad(points, ((0, 0), (0, 2 - points.shape[1])))
    colors = _colors(evaluation)
    with chart_style():
        figure, axes = chart_axes(height=3.9)
        drawn = [colors[label] for label in evaluation.labels[shown]]
        axes.scatter(points[:, 0], points[:, 1], 14, color=drawn, alpha=0.7, linewidths=0, zorder=3)
        axes.set(xlabel="first principal component", ylabel="second principal component")
        svg = figure_svg(figure, "map", "Map of the embeddings")
    return Chart("Map of the embeddings", svg, ())
