"""Images in a folder and tables that label them."""

from collections.abc import Sequence
from pathlib import Path

from tests.helpers.annotated import write_image


def write_images(folder: Path, count: int = 4) -> list[str]:
    """Write small images; returns their names, ``0.png`` and so on."""
    names = [f"{number}.png" for number in range(count)]
    for number, name in enumerate(names):
        write_image(folder / name, value=10 * number % 256)
    return names


def write_table(file: Path, header: str, rows: Sequence[str], encoding: str = "utf-8", newline: str = "\n") -> Path:
    """Write a CSV file and, next to it, the images that the first column names, if they have an extension."""
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes((newline.join([header, *rows]) + newline).encode(encoding))
    return file
