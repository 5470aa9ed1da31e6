"""Grad-CAM of several networks side by side, as in Fig. 7."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from matplotlib.cm import ScalarMappable
from matplotlib.figure import Figure
from rich.console import Console

from transxnet.analysis.explain_figure import COLORMAP, overlay
from transxnet.analysis.explain_images import explain_images
from transxnet.analysis.figure_style import MUTED, figure_style, hide_axes, mark_untrained, set_text
from transxnet.analysis.grad_cam import Explanation, explain_image, find_class
from transxnet.analysis.network_parts import named_parts
from transxnet.analysis.paper_figures import EXPLAIN_FIGURES, find_figure, load_or_untrained, models_of
from transxnet.analysis.result_files import write_table
from transxnet.data.reading.image_decoding import open_image
from transxnet.data.reading.pixels import Pixels
from transxnet.utils.device import resolve_device
from transxnet.utils.errors import UserError
from transxnet.utils.progress import PLAIN
from transxnet.utils.quantities import format_count

COLUMNS = ("path", "model", "untrained", "class", "score", "image", "error")
SIDE = 1.7  # width of a panel, in inches


@dataclass(frozen=True)
class ComparedExplanation:
    """The explanation of one of the networks.

    Attributes:
        model: name of the network.
        untrained: whether its weights are random.
        explanation: its saliency maps.
    """

    model: str
    untrained: bool
    explanation: Explanation


def compare_explanations(
    preset: str,
    given: Sequence[str | Path],
    paths: Sequence[str],
    class_name: str | None,
    folder: Path | None,
    table: str,
    device: str,
    console: Console,
) -> list[Explanation]:
    """Explain the images with each network of a figure, and draw them below each other.

    Args:
        preset: a key of ``EXPLAIN_FIGURES``.
        given: models that take the place of those of the figure, or follow them.
        paths: the images.
        class_name: the class to explain; by default the top class of each network.
        folder: where to write, or None to write nothing.
        table: file name of the CSV.
        device: device to compute on.
        console: where to print.

    Returns:
        for each readable image an explanation by each network, in order.

    Raises:
        UserError: the preset, a model or the class does not exist, or no image is readable.
    """
    figure, where = find_figure(EXPLAIN_FIGURES, preset), resolve_device(device)
    networks = [load_or_untrained(spec, default, None, console) for spec, default in models_of(figure, given)]
    for network in networks:
        if network.backbone_preprocessing.channels is not None:
            raise UserError(
                f"--preset {preset} explains RGB images, and {network.name} takes other channels. Remove it."
            )
    classes = [None if class_name is None else find_class(network, class_name) for network in networks]
    # The stages only, which all networks have.
    parts = [{k: v for k, v in named_parts(n.backbone).items() if k.startswith("stage")} for n in networks]

    def explain(path: str, image: Pixels) -> list[ComparedExplanation]:
        return [
            ComparedExplanation(n.name, n.untrained, explain_image(n, image, chosen, own, path, where))
            for n, chosen, own in zip(networks, classes, parts, strict=True)
        ]

    found: list[Explanation] = []
    rows: list[tuple[Any, ...]] = []
    results = explain_images(paths, open_image, explain, draw_comparison, folder, console)
    for result in results:
        if result.found is None:
            rows.append((result.path, "", "", "", "", "", result.error))
            console.print(f"  {result.path}: {result.error}", **PLAIN)
        for entry in result.found or ():
            explanation = entry.explanation
            found.append(explanation)
            score = f"{explanation.score:.6f}"
            rows.append((result.path, entry.model, entry.untrained, explanation.class_name, score, result.figure, ""))
            text = f"{entry.model}{', untrained' * entry.untrained}: {explanation.class_name}, {explanation.score_text}"
            console.print(f"  {result.path}: {text}", **PLAIN)
    if folder is not None:
        write_table(folder / table, COLUMNS, rows)
        written = sum(result.found is not None for result in results)
        console.print(f"{format_count(written, 'figure')} written to {folder}", **PLAIN)
    console.print(figure.note, **PLAIN)
    return found


def draw_comparison(compared: Sequence[ComparedExplanation]) -> Figure:
    """Draw one row for each network: the image with the class, and the saliency map of each stage over it."""
    columns = 1 + max(len(entry.explanation.maps) for entry in compared)
    size = (SIDE * columns + 1.1, (SIDE + 0.3) * len(compared) + 0.3)
    with figure_style():
        figure = Figure(figsize=size, layout="constrained")
        grid = figure.subplots(len(compared), columns, squeeze=False)
        for row, entry in zip(grid, compared, strict=True):
            explanation = entry.explanation
            for axes in row:
                hide_axes(axes)
            row[0].imshow(explanation.image)
            title = f"“{explanation.class_name}”, {explanation.score_text}"
            set_text(row[0].set_title("", pad=4), title, 8, width=SIDE)
            set_text(row[0].set_ylabel(""), entry.model, 7.5, width=SIDE + 0.2)
            if entry.untrained:
                mark_untrained(row[0])
            for axes, (part, heat) in zip(row[1:], explanation.maps.items(), strict=False):
                axes.imshow(overlay(explanation.image, heat))
                set_text(axes.set_title("", pad=4), explanation.titles[part], 8, width=SIDE)
            for axes in row[1 + len(explanation.maps) :]:
                axes.remove()
        bar = figure.colorbar(ScalarMappable(cmap=COLORMAP), ax=list(grid.flat), shrink=0.85, aspect=40, pad=0.02)
        bar.set_label("evidence for the class (relative to the maximum of each map)")
        bar.set_ticks([0, 0.5, 1])
        bar.ax.tick_params(length=2)
        set_text(figure.suptitle(""), "Grad-CAM", 9, color=MUTED)
    return figure
