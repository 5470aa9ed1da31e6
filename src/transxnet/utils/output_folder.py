"""The folder that a command writes its results to."""

from collections.abc import Collection
from pathlib import Path

from transxnet.utils.errors import UserError
from transxnet.utils.files import next_free_folder


def check_output_folder(folder: Path, names: Collection[str], overwrite: bool) -> None:
    """Raise UserError if files with these names cannot be written, before anything is computed."""
    if folder.exists() and not folder.is_dir():
        raise UserError(f"{folder} is a file, but --out must be a folder. Choose another --out.")
    existing = [name for name in names if (folder / name).exists()]
    if existing and not overwrite:
        raise UserError(f"{folder} already contains {', '.join(existing)}. Choose another --out, or use --overwrite.")


def output_folder(out: str | Path, default: str, names: Collection[str], overwrite: bool) -> Path:
    """Return the folder for the results; the default one gets a number if it has results.

    Args:
        out: the folder that the user chose, or the default.
        default: name of the default folder.
        names: files and folders that hold the results.
        overwrite: replace existing results.

    Raises:
        UserError: these files exist in a folder other than the default.
    """
    if str(out) == default and not overwrite:
        return next_free_folder(Path(out), names)
    check_output_folder(Path(out), names, overwrite)
    return Path(out)
