"""What the figures of all analyses share: their look, and texts of users in any script."""

import math
from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib import style
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.text import Text
from torch import Tensor

from transxnet.reports.fonts import font_for, one_line, truncate
from transxnet.utils.errors import UserError
from transxnet.utils.files import write_whole

INK, MUTED, ALARM = "#1b1f24", "#5c646e", "#c4510a"
DPI = 160


def paper_look() -> AbstractContextManager[None]:
    """The style of a figure in a paper, apart from what the user's own matplotlib settings say."""
    settings = {
        "font.size": 9, "text.color": INK, "axes.labelcolor": INK, "axes.edgecolor": INK, "axes.linewidth": 0.6,
        "xtick.color": INK, "ytick.color": INK, "xtick.major.width": 0.6, "ytick.major.width": 0.6,
    }  # fmt: skip
    return style.context(["default", settings])


def write_text(text: Text, content: str, size: float, width: float = math.inf, **look: Any) -> None:
    """Set a text that may hold a user's words: no formulas, no line breaks but ours, a font that has its characters.

    Args:
        text: of a figure.
        content: what it is to say.
        size: in points.
        width: that lines may have, in inches; the rest of them is left out.
        **look: further properties of the text.
    """
    lines = [one_line(line) for line in content.split("\n")]
    lines = [truncate(line, font_for(line, 100), width * 72 / size * 100) for line in lines]
    text.set(text="\n".join(lines), parse_math=False, **look)
    text.set_fontproperties(FontProperties(fname=str(font_for("".join(lines), 100).path), size=size))


def shut(axes: Axes) -> None:
    """Leave the picture of these axes and take everything around it away."""
    axes.set_xticks([])
    axes.set_yticks([])
    for spine in axes.spines.values():
        spine.set_visible(False)


def mark_untrained(axes: Axes) -> None:
    """Say within the picture that the network's weights are random, so that nobody takes it for a finding."""
    box = {"facecolor": ALARM, "edgecolor": "none", "boxstyle": "round,pad=0.25"}
    axes.text(0.04, 0.95, "untrained", transform=axes.transAxes, va="top", fontsize=8, color="white", bbox=box)


def as_bytes(image: Tensor, mean: Sequence[float] = (0.0,), std: Sequence[float] = (1.0,)) -> np.ndarray:
    """(3, H, W), normalised by a mean and a standard deviation -> (H, W, 3) bytes."""
    shift, scale = (torch.tensor(values).view(-1, 1, 1) for values in (mean, std))
    plain = (image.detach().cpu() * scale + shift).clamp(0, 1)
    return (plain * 255).round().byte().permute(1, 2, 0).numpy()


def write_figure(figure: Figure, path: Path) -> None:
    """Write the figure as PNG, whole or not at all."""
    look: dict[str, Any] = {"dpi": DPI, "facecolor": "white", "bbox_inches": "tight", "pad_inches": 0.08}
    write_whole(path, lambda temporary: figure.savefig(temporary, format="png", **look))


def check_free(folder: Path, names: Sequence[str], overwrite: bool) -> None:
    """Raise UserError where files of these names can't be written, before anything is computed."""
    if folder.exists() and not folder.is_dir():
        raise UserError(f"{folder} is a file; --out names a folder.")
    there = [name for name in names if (folder / name).exists()]
    if there and not overwrite:
        raise UserError(f"{folder / there[0]} exists already. Write over it by --overwrite, or choose another --out.")
