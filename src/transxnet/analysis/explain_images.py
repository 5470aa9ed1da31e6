"""Explain images one after the other, and write a figure for each."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

from matplotlib.figure import Figure
from rich.console import Console

from transxnet.analysis.explanation_targets import NothingToExplain
from transxnet.analysis.result_files import write_figure
from transxnet.data.reading.image_decoding import UnreadableImage
from transxnet.data.reading.pixels import Pixels
from transxnet.utils.errors import UserError
from transxnet.utils.progress import progress_bar

Found = TypeVar("Found")


@dataclass(frozen=True)
class ExplainedImage(Generic[Found]):
    """The result for one image.

    Attributes:
        path: path of the image.
        found: its explanation, or None after an error.
        figure: file name of its figure.
        error: why it was not explained.
    """

    path: str
    found: Found | None
    figure: str = ""
    error: str = ""


def explain_images(
    paths: Sequence[str],
    read: Callable[[str], Pixels],
    explain: Callable[[str, Pixels], Found],
    draw: Callable[[Found], Figure],
    folder: Path | None,
    console: Console,
) -> list[ExplainedImage[Found]]:
    """Explain each image and write its figure as PNG.

    Args:
        paths: the images.
        read: decodes an image; raises UnreadableImage.
        explain: returns the explanation of an image, given its path and its content.
        draw: draws an explanation.
        folder: where to write, or None to write nothing.
        console: where to show the progress.

    Raises:
        UserError: no image could be explained.
    """
    results: list[ExplainedImage[Found]] = []
    with progress_bar(console, "explaining", len(paths)) as advance:
        for number, path in enumerate(paths, 1):
            try:
                found = explain(path, read(path))
            except (UnreadableImage, NothingToExplain) as error:
                results.append(ExplainedImage(path, None, error=str(error)))
            else:
                figure = f"{number:04d}-{Path(path).stem[:100]}.png"
                results.append(ExplainedImage(path, found, figure))
                if folder is not None:
                    folder.mkdir(parents=True, exist_ok=True)
                    write_figure(draw(found), folder / figure)
            advance(number)
    if all(result.found is None for result in results):
        raise UserError(f"cannot explain any of the {len(paths)} images. Last error: {results[-1].error}")
    return results
