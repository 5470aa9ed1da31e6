"""Parse image sizes given by users."""

import re

from transxnet.utils.errors import UserError, check_at_least


def parse_image_size(size: int | str | tuple[int, int], minimum: int = 1) -> tuple[int, int]:
    """Return height and width from ``224``, ``"224"``, ``"800x1280"`` or ``(800, 1280)``.

    Raises:
        UserError: the format is different, or a side is below the minimum.
    """
    if isinstance(size, str):
        match = re.fullmatch(r"(\d+)(?:x(\d+))?", size.lower())
        if match is None:
            raise UserError(f"size must be a side in pixels or HEIGHTxWIDTH, such as 224 or 800x1280, got {size!r}.")
        size = (int(match[1]), int(match[2] or match[1]))
    height, width = (size, size) if isinstance(size, int) else size
    check_at_least(minimum, height=height, width=width)
    return height, width
