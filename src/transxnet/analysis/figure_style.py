"""The style of all analysis figures: matplotlib settings, labels in any script."""

import math
from contextlib import AbstractContextManager
from typing import Any

from matplotlib import style
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.text import Text

from transxnet.reports.fonts import font_for, one_line, wrap

INK, MUTED, WARNING = "#1b1f24", "#5c646e", "#c4510a"
LINES = 3
"""Most lines that a line of a label is broken into."""


def figure_style() -> AbstractContextManager[None]:
    """Use the style of figures in a paper, whatever the user's own matplotlib settings are."""
    settings = {
        "font.size": 9, "text.color": INK, "axes.labelcolor": INK, "axes.edgecolor": INK, "axes.linewidth": 0.6,
        "xtick.color": INK, "ytick.color": INK, "xtick.major.width": 0.6, "ytick.major.width": 0.6,
    }  # fmt: skip
    return style.context(["default", settings])


def set_text(text: Text, content: str, size: float, width: float = math.inf, **properties: Any) -> None:
    """Set a text that may contain user input: without formulas, in a font that has its characters.

    Args:
        text: the matplotlib text.
        content: the new text; the caller removes line breaks from user input.
        size: font size in points.
        width: largest width of a line in inches; longer lines are broken at separators, at most twice.
        **properties: further properties of the text.
    """
    lines = [one_line(line) for line in content.split("\n")]
    lines = [part for line in lines for part in wrap(line, font_for(line, 100), width * 72 / size * 100, LINES)]
    text.set(text="\n".join(lines), parse_math=False, **properties)
    text.set_fontproperties(FontProperties(fname=str(font_for("".join(lines), 100).path), size=size))


def hide_axes(axes: Axes) -> None:
    """Remove the ticks and the frame of the axes, keeping the image."""
    axes.set_xticks([])
    axes.set_yticks([])
    for spine in axes.spines.values():
        spine.set_visible(False)


def add_note(figure: Figure, text: str, width: float) -> None:
    """Print a note of at most ``width`` inches per line above the figure."""
    set_text(figure.suptitle(""), text, 7.5, width=width, color=WARNING)


def mark_untrained(axes: Axes) -> None:
    """Print "untrained" on the image, so that random weights are not mistaken for a result."""
    box = {"facecolor": WARNING, "edgecolor": "none", "boxstyle": "round,pad=0.25"}
    axes.text(0.04, 0.95, "untrained", transform=axes.transAxes, va="top", fontsize=8, color="white", bbox=box)
