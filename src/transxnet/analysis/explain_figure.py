"""An explanation as a figure: the picture, and what speaks for the class at each place, over it."""

import math

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.figure import Figure
from PIL import Image

from transxnet.analysis.explain import Explanation
from transxnet.analysis.figure_files import MUTED, mark_untrained, paper_look, shut, write_text
from transxnet.data.datasets.segmentation_dataset import IGNORE
from transxnet.reports.drawing import draw_detections, draw_label_map

COLOURS = "turbo"
SHARE = 0.5  # of the colours over the picture
ONE_ROW = 5  # panels
SIDE = 2.1  # width of a panel, in inches


def overlay(picture: np.ndarray, heat: np.ndarray) -> np.ndarray:
    """A map's colours over the picture.

    Args:
        picture: (H, W, 3) bytes.
        heat: (H, W) in 0 to 1.

    Returns:
        (H, W, 3) bytes.
    """
    colours = matplotlib.colormaps[COLOURS](heat)[..., :3] * 255
    return np.round((1 - SHARE) * picture + SHARE * colours).astype(np.uint8)


def draw(explanation: Explanation, label: str, untrained: bool = False) -> Figure:
    """The figure.

    Args:
        explanation: of an image.
        label: of the model, for people.
        untrained: whether its weights are random, which the figure then says.
    """
    maps = explanation.maps
    columns = len(maps) + 1 if len(maps) < ONE_ROW else math.ceil((len(maps) + 1) / 2)
    rows = math.ceil((len(maps) + 1) / columns)
    height, width = explanation.picture.shape[:2]
    with paper_look():
        figure = Figure(figsize=(SIDE * columns + 1, (SIDE * height / width + 0.28) * rows + 0.3), layout="constrained")
        grid = figure.subplots(rows, columns, squeeze=False).ravel()
        for axes in grid[len(maps) + 1 :]:
            axes.remove()
        _panel(grid[0], _what(explanation), _picture(explanation))
        for axes, (name, heat) in zip(grid[1:], maps.items(), strict=False):
            _panel(axes, explanation.titles[name], overlay(explanation.picture, heat))
            if not heat.any():
                axes.text(0.5, 0.5, "nothing", transform=axes.transAxes, color="white", ha="center", va="center")
        if untrained:
            mark_untrained(grid[0])
        bar = figure.colorbar(
            ScalarMappable(cmap=COLOURS), ax=list(grid[: len(maps) + 1]), shrink=0.85, aspect=28, pad=0.02
        )
        bar.set_label("speaks for the class\n(of each map's highest)")
        bar.set_ticks([0, 0.5, 1])
        bar.ax.tick_params(length=2)
        write_text(figure.suptitle(""), f"Grad-CAM of {label}", 9, color=MUTED)
    return figure


def _panel(axes: Axes, title: str, pixels: np.ndarray) -> None:
    axes.imshow(pixels)
    shut(axes)
    write_text(axes.set_title("", pad=4), title, 8.5, width=SIDE)


def _what(explanation: Explanation) -> str:
    """The class and its score, of whichever kind it is."""
    name = f"“{explanation.class_name}”"
    score = f"{explanation.score:.0%}" if explanation.score >= 0.005 else "under 1%"
    return f"{name}, {score}" + (" of the pixels" if explanation.labels is not None else "")


def _picture(explanation: Explanation) -> np.ndarray:
    """The picture, with what a detector found or what a segmenter gave to the class."""
    picture = Image.fromarray(explanation.picture)
    names = [explanation.class_name] * (explanation.class_index + 1)
    if explanation.found is not None:
        return np.asarray(draw_detections(picture, explanation.found, names))
    if explanation.labels is not None:
        labels = np.where(explanation.labels == explanation.class_index, explanation.labels, IGNORE)
        return np.asarray(draw_label_map(picture, labels, names, legend=False))
    return explanation.picture
