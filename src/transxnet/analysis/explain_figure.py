"""The figure of an explanation: the image, and the saliency map of each part over it."""

import math

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.figure import Figure
from PIL import Image

from transxnet.analysis.figure_style import MUTED, figure_style, hide_axes, mark_untrained, set_text
from transxnet.analysis.grad_cam import Explanation
from transxnet.data.datasets.segmentation_dataset import IGNORE
from transxnet.reports.drawing import draw_detections, draw_label_map

COLORMAP = "turbo"
OPACITY = 0.5  # of the saliency map over the image
ONE_ROW = 5  # most panels that fit into one row
SIDE = 2.1  # width of a panel, in inches


def overlay(image: np.ndarray, heat: np.ndarray) -> np.ndarray:
    """Draw a saliency map over an image.

    Args:
        image: (H, W, 3) uint8.
        heat: (H, W) in 0 to 1.

    Returns:
        (H, W, 3) uint8.
    """
    colors = matplotlib.colormaps[COLORMAP](heat)[..., :3] * 255
    return np.round((1 - OPACITY) * image + OPACITY * colors).astype(np.uint8)


def draw(explanation: Explanation, label: str, untrained: bool = False) -> Figure:
    """Draw the figure of an explanation.

    Args:
        explanation: the explanation of an image.
        label: readable name of the model.
        untrained: whether its weights are random, which the figure then states.
    """
    maps = explanation.maps
    columns = len(maps) + 1 if len(maps) < ONE_ROW else math.ceil((len(maps) + 1) / 2)
    rows = math.ceil((len(maps) + 1) / columns)
    height, width = explanation.image.shape[:2]
    with figure_style():
        figure = Figure(figsize=(SIDE * columns + 1, (SIDE * height / width + 0.28) * rows + 0.3), layout="constrained")
        grid = figure.subplots(rows, columns, squeeze=False).ravel()
        for axes in grid[len(maps) + 1 :]:
            axes.remove()
        _panel(grid[0], _title(explanation), _annotated_image(explanation))
        for axes, (name, heat) in zip(grid[1:], maps.items(), strict=False):
            _panel(axes, explanation.titles[name], overlay(explanation.image, heat))
            if not heat.any():
                axes.text(0.5, 0.5, "no evidence", transform=axes.transAxes, color="white", ha="center", va="center")
        if untrained:
            mark_untrained(grid[0])
        bar = figure.colorbar(
            ScalarMappable(cmap=COLORMAP), ax=list(grid[: len(maps) + 1]), shrink=0.85, aspect=28, pad=0.02
        )
        bar.set_label("evidence for the class\n(relative to the maximum of each map)")
        bar.set_ticks([0, 0.5, 1])
        bar.ax.tick_params(length=2)
        set_text(figure.suptitle(""), f"Grad-CAM of {label}", 9, color=MUTED)
    return figure


def _panel(axes: Axes, title: str, pixels: np.ndarray) -> None:
    axes.imshow(pixels)
    hide_axes(axes)
    set_text(axes.set_title("", pad=4), title, 8.5, width=SIDE)


def _title(explanation: Explanation) -> str:
    """The class and its score, formatted for the kind of model."""
    name = f"“{explanation.class_name}”"
    return f"{name}, {explanation.score_text}" + (" of the pixels" if explanation.labels is not None else "")


def _annotated_image(explanation: Explanation) -> np.ndarray:
    """The image with the detections or the pixels of the class."""
    image = Image.fromarray(explanation.image)
    names = [explanation.class_name] * (explanation.class_index + 1)
    if explanation.found is not None:
        return np.asarray(draw_detections(image, explanation.found, names))
    if explanation.labels is not None:
        labels = np.where(explanation.labels == explanation.class_index, explanation.labels, IGNORE)
        return np.asarray(draw_label_map(image, labels, names, legend=False))
    return explanation.image
