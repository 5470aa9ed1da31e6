"""The work folder of a long prediction: its images are in numbered chunks, so that it can be resumed.

The folder holds ``images.jsonl``, one line for each image in order; ``manifest.json``, the settings of the prediction
and where each chunk starts in that list; ``pieces/``, a Parquet file for each finished chunk; ``results/``, the part
files that are merged at the end. A file is renamed to its final name when complete, so a chunk is finished if its file
exists.
"""

import json
import os
import shutil
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import MISSING, asdict, dataclass, fields
from itertools import cycle, islice
from pathlib import Path
from typing import Any, BinaryIO

from transxnet.data.reading.image_decoding import EXTENSIONS
from transxnet.data.reading.image_search import ACCEPTED, find_locations
from transxnet.utils.errors import UserError
from transxnet.utils.files import is_partial_file, write_atomic
from transxnet.utils.locks import LOCK_FILE, lock_folder
from transxnet.utils.text_files import read_json

FORMAT = 1
"""Version of the folder's layout."""

_MANIFEST, _IMAGES, _CHUNKS, _PARTS = _OWN = ("manifest.json", "images.jsonl", "pieces", "results")

CHUNK_SIZE = 2048
"""Images per chunk, rounded up to whole batches: the most that is lost when a process ends."""


@dataclass(frozen=True)
class PredictionSettings:
    """All settings that the results depend on.

    Attributes:
        model: name of the model, to show to the user.
        weights: fingerprint of the classifier.
        inputs: inputs as given by the user.
        root: folder that relative inputs refer to.
        top_k: number of classes per image.
        batch_size: images per batch.
        embed: data type of the features, or None to omit them.
        rows_per_file: rows per part file, or None for a single file.
        version: version of the package.
        tta: test-time augmentation.
    """

    model: str
    weights: str
    inputs: list[str]
    root: str
    top_k: int
    batch_size: int
    embed: str | None
    rows_per_file: int | None
    version: str
    tta: bool = False

    def chunk_sizes(self) -> list[int]:
        """Return the number of images in each chunk of a part file; the same for every part file."""
        size = -(-CHUNK_SIZE // self.batch_size) * self.batch_size
        if self.rows_per_file is None:
            return [size]
        return [min(size, self.rows_per_file - start) for start in range(0, self.rows_per_file, size)]


@dataclass(frozen=True)
class WorkFolder:
    """The chunks of a prediction on disk.

    Attributes:
        path: path of the folder.
        settings: settings of the prediction.
        chunks: for each chunk, the byte offset of its first line in the list of images, and its number of images.
    """

    path: Path
    settings: PredictionSettings
    chunks: list[tuple[int, int]]

    @property
    def num_images(self) -> int:
        """Number of images in all chunks."""
        return sum(rows for _, rows in self.chunks)

    def num_finished(self) -> int:
        """Number of images in the finished chunks."""
        return self.num_images - sum(self.chunks[chunk][1] for chunk in self.pending())

    def pending(self) -> list[int]:
        """Return the unfinished chunks, in order."""
        finished = set(os.listdir(self.path / _CHUNKS))
        return [chunk for chunk in range(len(self.chunks)) if self.chunk_file(chunk).name not in finished]

    def chunk_file(self, chunk: int) -> Path:
        """Return the Parquet file of a chunk, which exists once the chunk is finished."""
        return self.path / _CHUNKS / f"{chunk:08d}.parquet"

    def part_file(self, part: int) -> Path:
        """Return the Parquet file of a part, before it is published."""
        return self.path / _PARTS / f"part-{part:05d}.parquet"

    def chunks_of_parts(self) -> list[list[int]]:
        """Return the chunks of each part file."""
        chunks, step = list(range(len(self.chunks))), len(self.settings.chunk_sizes())
        if self.settings.rows_per_file is None:
            return [chunks]
        return [chunks[start : start + step] for start in range(0, len(chunks), step)]

    def batches(self, chunk: int) -> Iterator[list[bytes]]:
        """Iterate over the batches of a chunk, as lines for :meth:`ImageLocation.from_line`."""
        offset, rows = self.chunks[chunk]
        with (self.path / _IMAGES).open("rb") as file:
            file.seek(offset)
            lines = islice(file, rows)
            while batch := list(islice(lines, self.settings.batch_size)):
                yield batch

    def clear(self) -> None:
        """Delete the content; :func:`lock_work_folder` then removes the folder."""
        _clear(self.path)


def open_work_folder(
    path: Path,
    settings: PredictionSettings,
    overwrite: bool,
    progress: Callable[[int], Any],
    extensions: Collection[str] = EXTENSIONS,
) -> WorkFolder:
    """Start a prediction in a folder, or resume the one that was started there.

    Args:
        path: path of the folder, locked with :func:`lock_work_folder`.
        settings: settings of the prediction.
        overwrite: start from the beginning.
        progress: called with the number of images found so far.
        extensions: extensions of the images in folders, in lower case.

    Raises:
        UserError: the prediction was started with other settings, or the inputs contain no images.
    """
    manifest = path / _MANIFEST
    if overwrite:
        manifest.unlink(missing_ok=True)
    if manifest.exists():
        return _resume(path, settings)
    _clear(path)
    for name in (_CHUNKS, _PARTS):
        (path / name).mkdir()
    with (path / _IMAGES).open("wb") as file:
        chunks = _list_images(file, settings, progress, extensions)
        os.fsync(file.fileno())
    write_atomic(manifest, json.dumps({"format": FORMAT, "job": asdict(settings), "pieces": chunks}))
    return WorkFolder(path, settings, chunks)


@contextmanager
def lock_work_folder(path: Path) -> Iterator[None]:
    """Create a folder and lock it against other processes; it is removed at the end if no prediction was started.

    Raises:
        UserError: the folder cannot be created, contains other files, or is in use by another process.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"cannot create folder {path}: {error.strerror}. Choose another --out.") from error
    foreign = sorted(entry.name for entry in path.iterdir() if entry.name != LOCK_FILE and not _is_own(entry.name))
    if foreign:
        raise UserError(
            f"the folder for unfinished predictions, {path}, contains other files: {', '.join(foreign[:5])}. Move them "
            "away, or choose another --out."
        )
    try:
        with lock_folder(path, "Wait for it to finish, or choose another --out."):
            try:
                yield
            finally:
                if path.exists() and not (path / _MANIFEST).exists():
                    _clear(path)
    finally:
        with suppress(OSError):  # not empty: the prediction can be resumed
            path.rmdir()


def _is_own(name: str) -> bool:
    return name in _OWN or is_partial_file(name, _OWN)


def _clear(path: Path) -> None:
    """Remove our files except the lock. The manifest goes first: without it nothing is resumed."""
    (path / _MANIFEST).unlink(missing_ok=True)
    for entry in [entry for entry in path.iterdir() if _is_own(entry.name)]:
        if entry.is_dir():
            shutil.rmtree(entry)
        else:
            entry.unlink()


def _list_images(
    file: BinaryIO, settings: PredictionSettings, progress: Callable[[int], Any], extensions: Collection[str]
) -> list[tuple[int, int]]:
    """Write the list of images and return the chunks."""
    sources, chunks, found = find_locations(settings.inputs, extensions=extensions), [], 0
    for size in cycle(settings.chunk_sizes()):
        offset, rows = file.tell(), 0
        for source in islice(sources, size):
            file.write(source.to_line())
            rows += 1
        if not rows:
            break
        chunks.append((offset, rows))
        found += rows
        progress(found)
    if not chunks:
        hint = " Pass WebDataset shards one by one or as FOLDER/*.tar." if _hold_shards(settings.inputs) else ""
        raise UserError(f"no images found in {', '.join(settings.inputs)}. {ACCEPTED}{hint}")
    return chunks


def _hold_shards(inputs: Sequence[str]) -> bool:
    return any(name.endswith(".tar") for folder in inputs if os.path.isdir(folder) for name in os.listdir(folder))


def _resume(path: Path, settings: PredictionSettings) -> WorkFolder:
    """Resume the prediction in a folder if its settings are the same."""
    try:
        content = read_json(path / _MANIFEST)
        before = content["job"] if content["format"] == FORMAT else {}
        added = {field.name: field.default for field in fields(settings) if field.default is not MISSING}
        chunks = [(offset, rows) for offset, rows in content["pieces"]]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"{path} contains no prediction of transxnet. Use --overwrite to start again, or move it away."
        ) from error
    for name in (field.name for field in fields(settings) if field.name != "model"):
        was, now = before.get(name, added.get(name)), getattr(settings, name)
        if was != now:
            what = f"{name} {was!r}, now {now!r}"
            if name == "weights":
                what = f"weights, class names or preprocessing other than those of {settings.model}"
            raise UserError(
                f"{path} contains a prediction that was started with {what}. Resume it with the same options, use "
                "--overwrite to start again, or choose another --out."
            )
    return WorkFolder(path, settings, chunks)
