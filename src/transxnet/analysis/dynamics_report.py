"""Report input-dependent kernels and attention: a table, a figure, a CSV and a JSON file."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from PIL import Image
from rich.table import Table
from rich.text import Text

from transxnet.analysis.figure_style import MUTED, figure_style, hide_axes, mark_untrained, set_text
from transxnet.analysis.kernel_variation import Dynamics, MixerDynamics
from transxnet.analysis.result_files import write_results

FILES = ("dynamics.png", "dynamics.csv", "dynamics.json")
TILES = 4  # kernels along a side of a panel
SIDE = 1.75  # width of a panel, in inches
KERNELS, ATTENTION = "RdBu_r", "inferno"
ATTENTION_NOTE = (
    "Attention: weights of the position marked +, mean over the heads. If a map has one color, the attention is "
    "uniform: its highest weight is the reciprocal of the number of keys."
)
UNTRAINED = "Untrained: the position bias starts at zero and the weights near it, so the attention is nearly uniform."
SHARE = 0.65  # opacity of the attention over the image


def table(result: Dynamics) -> Table:
    """The table of kernel and attention variation for a terminal."""
    title = Text.assemble(result.label, (", untrained" * result.untrained, "dim"))
    shown = Table(title=title, title_justify="left", box=None, pad_edge=False, padding=(0, 3, 0, 0))
    shown.add_column("D-Mixer")
    shown.add_column("kernel variation", justify="right")
    shown.add_column("attention variation", justify="right")
    for mixer in result.mixers:
        shown.add_row(Text(mixer.name), f"{mixer.kernel_variation:.1%}", f"{mixer.attention_variation:.1%}")
    return shown


def write(result: Dynamics, folder: Path) -> list[Path]:
    """Write the figure, the CSV and the JSON file, and return their paths."""
    rows: list[dict[str, Any]] = [
        {
            "mixer": mixer.name,
            "kernel_variation": round(mixer.kernel_variation, 6),
            "attention_variation": round(mixer.attention_variation, 6),
        }
        for mixer in result.mixers
    ]
    facts = {"model": result.label, "untrained": result.untrained, "images": result.paths, "mixers": rows}
    return write_results(folder, FILES, draw(result), rows, facts)


def draw(result: Dynamics) -> Figure:
    """Draw kernels above, attention below; a row for each image, a column for each stage's last D-Mixer.

    The kernels are those of the 16 channels that vary most; for two images their difference is also shown. The
    attention is that of the image's middle position, marked by a cross, averaged over the heads.
    """
    stages = {mixer.name.partition(".blocks.")[0]: mixer for mixer in result.mixers}
    count = len(result.images)
    above = count + (count == 2)
    rows = above + count
    with figure_style():
        figure = Figure(figsize=(SIDE * (len(stages) + 1) + 1, (SIDE + 0.12) * rows + 0.9), layout="constrained")
        grid = figure.subplots(rows, len(stages) + 1, squeeze=False)
        for axes in grid.flat:
            hide_axes(axes)
        for row, image in enumerate([*result.images, *[None] * (above - count), *result.images]):
            if image is None:
                grid[row, 0].axis("off")
                grid[row, 0].text(1, 0.5, "difference", transform=grid[row, 0].transAxes, ha="right", va="center")
            else:
                grid[row, 0].imshow(image)
        for column, (stage, mixer) in enumerate(stages.items(), 1):
            number = stage.rpartition(".")[2]
            title = f"stage {int(number) + 1}" if number.isdigit() else stage
            set_text(grid[0, column].set_title(""), title, 8.5, width=SIDE)
            _kernels(list(grid[:above, column]), mixer)
            _attention(list(grid[above:, column]), mixer, result.images)
        if result.untrained:
            mark_untrained(grid[0, 0])
        for cmap, low, which, what in (
            (KERNELS, -1, grid[:above], "kernel weight"),
            (ATTENTION, 0, grid[above:], "attention"),
        ):
            bar = figure.colorbar(
                ScalarMappable(Normalize(low, 1), cmap), ax=list(which.flat), shrink=0.8, aspect=22, pad=0.02
            )
            bar.set_label(f"{what}\n(relative to the column maximum)")
            bar.set_ticks([low, (low + 1) / 2, 1])
        title = f"Generated kernels and attention of {result.label}\n{ATTENTION_NOTE}"
        set_text(
            figure.suptitle(""),
            f"{title}\n{UNTRAINED}" if result.untrained else title,
            8.5,
            width=SIDE * (len(stages) + 1),
            color=MUTED,
        )
    return figure


def _kernels(column: Sequence[Axes], mixer: MixerDynamics) -> None:
    kernels = mixer.kernels
    apart = ((kernels - kernels.mean(axis=0)) ** 2).sum(axis=(0, 2, 3))
    chosen = kernels[:, np.argsort(-apart, kind="stable")[: TILES**2]]
    highest = max(float(np.abs(chosen).max()), 1e-12)
    for axes, tiles in zip(column, chosen, strict=False):
        axes.imshow(_mosaic(tiles / highest), cmap=KERNELS, vmin=-1, vmax=1, interpolation="nearest")
    below = f"maximum {highest:.2g}\nkernel variation {mixer.kernel_variation:.1%}"
    if len(column) > len(chosen):
        difference = (chosen[1] - chosen[0]) / highest
        largest = max(float(np.abs(difference).max()), 1e-12)
        column[-1].imshow(_mosaic(difference / largest), cmap=KERNELS, vmin=-1, vmax=1, interpolation="nearest")
        times = 1 / largest
        below = f"scaled by {times:.{0 if times >= 10 else 1}f}\n{below}"
    set_text(column[-1].set_xlabel(""), below, 7.5, color=MUTED)


def _mosaic(kernels: np.ndarray) -> np.ndarray:
    """Arrange kernels (C, K, K) in rows of four, with gaps of one NaN pixel."""
    size = kernels.shape[-1] + 1
    sheet = np.full((TILES * size - 1, TILES * size - 1), np.nan)
    for i, kernel in enumerate(kernels):
        top, left = i // TILES * size, i % TILES * size
        sheet[top : top + size - 1, left : left + size - 1] = kernel
    return sheet


def _attention(column: Sequence[Axes], mixer: MixerDynamics, images: np.ndarray) -> None:
    height, width = mixer.size
    row, middle = height // 2, width // 2
    maps = mixer.attention[:, :, row * width + middle].mean(axis=1).reshape(-1, *mixer.key_size)
    highest = float(maps.max())
    for axes, image, weights in zip(column, images, maps, strict=True):
        side = image.shape[1], image.shape[0]
        heat = np.asarray(
            Image.fromarray((weights / highest).astype(np.float32)).resize(side, Image.Resampling.NEAREST)
        )
        gray = image.mean(axis=-1, keepdims=True) / 255
        colors = ScalarMappable(Normalize(0, 1), ATTENTION).to_rgba(heat)[..., :3]
        axes.imshow((1 - SHARE) * gray + SHARE * colors)
        center = (middle + 0.5) * side[0] / width, (row + 0.5) * side[1] / height
        axes.plot(*center, "+", color="white", markersize=7)
    lines = [
        f"maximum {highest:.2%}",
        f"uniform {1 / maps[0].size:.2%}",
        f"attention variation {mixer.attention_variation:.1%}",
    ]
    set_text(column[-1].set_xlabel(""), "\n".join(lines), 7.5, color=MUTED)
