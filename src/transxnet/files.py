"""Writing files so that nothing half-written is ever found."""

import os
import re
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

ANY_TEXT: dict[str, Any] = {"encoding": "utf-8", "errors": "backslashreplace"}
"""How text is written that may hold file names, whose bytes need not be text."""


def write_whole(path: Path, content: str | Callable[[Path], None]) -> None:
    """Write a file so that at every moment it is either the old one or the new one, whole.

    Args:
        path: the file.
        content: its text, or a function that writes it to the path that it is given.
    """
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    try:
        if callable(content):
            content(temporary)
        else:
            temporary.write_text(content, encoding="utf-8", errors="surrogateescape")
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def plain_name(text: str) -> str:
    """A name for files that a shell takes as it is: ``"net@scales=(1,3)"`` -> ``"net-scales=1,3"``."""
    return re.sub(r"[^\w.,=-]+", "-", re.sub(r"[()\[\]'\" ]", "", text)).strip("-")


def next_free(root: Path, stem: str) -> Path:
    """The first of ``root/stem-1``, ``root/stem-2`` and so on that does not exist."""
    number = 1
    while (root / f"{stem}-{number}").exists():
        number += 1
    return root / f"{stem}-{number}"
