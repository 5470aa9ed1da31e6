"""Find the images that the path column of a table names."""

import os
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path

from transxnet.data.reading.file_search import find_name, is_image
from transxnet.data.reading.image_decoding import EXTENSIONS
from transxnet.data.reading.table_columns import find_path_column
from transxnet.data.reading.table_files import HEAD, Cell, open_table
from transxnet.utils.errors import UserError

_PROBES = 50
"""Number of images that are looked up in each candidate folder."""


class ImageFinder:
    """Finds images by the paths in a table, which may lack the extension, as image ids do.

    Args:
        folder: folder that the paths are relative to.
    """

    def __init__(self, folder: str):
        self.folder = folder
        self._extensions = ["", *sorted(EXTENSIONS), *sorted(extension.upper() for extension in EXTENSIONS)]

    def find(self, path: str) -> str | None:
        """Return the path of an image below the folder, or None if there is no such file."""
        path = path.replace("\\", "/").removeprefix("./")  # so that each image has one name
        if is_image(path):
            return find_name(self.folder, path)
        for extension in self._extensions:
            found = find_name(self.folder, path + extension) if path else None
            if found is not None:
                self._extensions.remove(extension)
                self._extensions.insert(0, extension)  # most likely also that of the next image
                return found
        return None


def image_folder(table: Path, paths: Sequence[str], given: str | None = None) -> str:
    """Return the folder that the paths of a table are relative to.

    By default it is the folder of the table, or if more of the images are there: ``images``, the table's name without
    extension, or this with ``_images``.

    Raises:
        UserError: the given folder does not exist.
    """
    if given is not None:
        if not os.path.isdir(given):
            raise UserError(f"image folder {given} does not exist. Pass another --image-folder.")
        return given
    names = (".", "images", table.stem, f"{table.stem}_images")
    folders = [folder for folder in (os.path.normpath(table.parent / name) for name in names) if os.path.isdir(folder)]
    probes = paths[:: max(1, len(paths) // _PROBES)]
    return max(folders, key=lambda folder: sum(ImageFinder(folder).find(path) is not None for path in probes))


def path_text(table: Path, cell: Cell) -> str:
    """Return a cell of the path column.

    Raises:
        UserError: it is a list.
    """
    if not isinstance(cell, str):
        raise UserError(f"the path column of {table} contains a list, {cell!r:.60}. Pass another --path-column.")
    return cell


def table_images(path: Path) -> Iterator[str]:
    """Iterate over the images that a table names; a path without a file is returned as it is.

    Raises:
        UserError: the table cannot be read, or has no path column.
    """
    table = open_table(path)
    column = find_path_column(table)
    cells = (path_text(path, cells[0]) for _, cells in table.rows([column]) if cells is not None)
    head = list(islice(cells, HEAD))
    finder = ImageFinder(image_folder(path, head))
    for part in (head, cells):
        for name in part:
            yield os.path.join(finder.folder, finder.find(name) or name)
