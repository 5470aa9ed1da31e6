"""Images in reports: thumbnails, and saliency maps next to their images."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from PIL import Image, ImageOps

from transxnet.reports.formatting import data_url
from transxnet.utils.errors import UserError

THUMBNAIL = 192  # px
LARGE = 320  # px, an image next to its saliency map

LoadImage = Callable[[int], Image.Image]
"""Loads validation image i; raises OSError if it cannot be read."""

Explain = Callable[..., Sequence[tuple[str, Image.Image]]]
"""Explains validation image i, optionally for a class, as (caption, image) pairs; raises OSError likewise."""


def thumbnail(load_image: LoadImage | None, index: int) -> str | None:
    """Return the image as a data URL; None if it cannot be read."""
    try:
        return None if load_image is None else data_url(load_image(index), THUMBNAIL)
    except OSError:
        return None


Example = tuple[int, str, str]
"""Index, name and note of an image."""


def explain_groups(groups: Iterable[tuple[str, Sequence[Example], int | None]], explain: Explain) -> dict[str, Any]:
    """Create the cards of explained images, or give the reason if that fails.

    Args:
        groups: title, images, and the class to explain, by default the predicted one.
        explain: explains an image; an OSError skips it, a UserError is the reason.
    """
    try:
        cards = [(title, _cards(examples, explain, class_index)) for title, examples, class_index in groups]
    except UserError as error:
        return {"groups": [], "missing": str(error)}
    shown = [group for group in cards if group[1]]
    return {"groups": shown, "missing": "" if shown else "None of the images can be read."}


def _cards(examples: Sequence[Example], explain: Explain, class_index: int | None) -> list[dict[str, Any]]:
    cards = []
    for index, name, note in examples:
        try:
            found = explain(index) if class_index is None else explain(index, class_index)
        except OSError:
            continue
        panels = [(caption, data_url(ImageOps.contain(image, (LARGE, LARGE)), LARGE)) for caption, image in found]
        cards.append({"panels": panels[:2], "more": panels[2:], "legend": [], "note": note, "name": name})
    return cards
