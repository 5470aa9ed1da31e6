"""Parse image sizes given by users."""

import re

from transxnet.utils.errors import UserError


def parse_image_size(size: int | str | tuple[int, int], minimum: int = 1) -> tuple[int, int]:
    """Return height and width from ``224``, ``"224"``, ``"800x1280"`` or ``(800, 1280)``.

    Raises:
        UserError: the format is different, or a side is below the minimum.
    """
    match = re.fullmatch(r"(\d+)(?:x(\d+))?", size.lower()) if isinstance(size, str) else None
    if match is not None:
        size = (int(match[1]), int(match[2] or match[1]))
    height, width = (size, size) if isinstance(size, int) else (0, 0) if isinstance(size, str) else size
    if min(height, width) < minimum:
        raise UserError(
            f"img_size must be a side in pixels or HEIGHTxWIDTH, such as 224 or 800x1280, at least {minimum}, got "
            f"{size!r}."
        )
    return height, width
