"""What a prediction prints: a line for each of the first images, and counts over all."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console

from transxnet.utils.progress import PLAIN
from transxnet.utils.quantities import format_count

FIRST_IMAGES = 5
"""Number of images whose predictions are printed."""

MOST_FREQUENT = 5
"""Number of classes that are counted in the summary."""


@dataclass(frozen=True)
class ImageSummary:
    """The prediction of one image in a line.

    Attributes:
        path: path of the file, or ``SHARD!MEMBER``.
        text: the prediction in words.
        classes: class names to count over all images: the predicted class, or one per detected object.
        error: error if the image could not be read or processed, or None.
    """

    path: str
    text: str = ""
    classes: Sequence[str] = ()
    error: str | None = None


@dataclass
class PredictionSummary:
    """The first predictions and the counts over all images."""

    first: list[ImageSummary] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)
    images: int = 0
    unreadable: int = 0

    def add(self, image: ImageSummary) -> None:
        """Count an image."""
        self.images += 1
        self.unreadable += image.error is not None
        self.counts.update(image.classes)
        if len(self.first) < FIRST_IMAGES:
            self.first.append(image)

    def print(self, console: Console, counted: str) -> None:
        """Print the first predictions and the counts.

        Args:
            console: console to print to.
            counted: what the class names of the images are, such as "predicted classes".
        """
        width = max(len(Path(image.path).name) for image in self.first)
        for image in self.first:
            text = image.text if image.error is None else f"cannot be read: {image.error}"
            style = None if image.error is None else "yellow"
            console.print(f"  {Path(image.path).name:<{width}}  {text}", style=style, **PLAIN)
        if self.images > len(self.first):
            console.print(f"  and {format_count(self.images - len(self.first), 'more image')}", **PLAIN)
        if self.counts and self.images > 1:
            shown = ", ".join(f"{number:,} {name}" for name, number in self.counts.most_common(MOST_FREQUENT))
            rest = len(self.counts) - MOST_FREQUENT
            more = f", and {format_count(rest, 'other class', 'other classes')}" if rest > 0 else ""
            console.print(f"{counted}: {shown}{more}", **PLAIN)
