"""A long prediction as numbered pieces in a folder, so that it can stop anywhere and go on.

The folder holds ``images.jsonl``, where the images lie, one a line in their order; ``manifest.json``, what is predicted
and where in that list each piece starts; ``pieces/``, a Parquet file for each piece that is done; ``results/``, what is
made of them in the end. A file gets its name when it is whole, so a piece is there, or it is still to be done.
"""

import json
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, fields
from itertools import cycle, islice
from pathlib import Path
from typing import Any, BinaryIO

from transxnet.data.image_files import ACCEPTED, find_sources
from transxnet.data.shard_files import Source
from transxnet.utils.errors import UserError
from transxnet.utils.files import is_partial_file, write_whole
from transxnet.utils.locks import LOCK_FILE, lock_folder
from transxnet.utils.text_files import read_json

FORMAT = 1
"""Layout of the folder."""

_MANIFEST = "manifest.json"
_OWN = (_MANIFEST, "images.jsonl", "pieces", "results")

PIECE_IMAGES = 2048
"""Images in a piece, rounded up to whole batches: what is lost at most when a process ends."""


@dataclass(frozen=True)
class Job:
    """All that the results depend on.

    Attributes:
        model: its name, for the user.
        weights: the predictor's fingerprint.
        inputs: as they were given.
        root: the folder that relative ones start from.
        top_k: classes of each image.
        batch_size: images at once.
        embed: type of the features, or None for none.
        rows_per_file: rows in a file of results, or None for all in one.
        version: of the package.
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

    def piece_sizes(self) -> list[int]:
        """Images in the pieces of one file of results; the next file's are the same."""
        size = -(-PIECE_IMAGES // self.batch_size) * self.batch_size
        if self.rows_per_file is None:
            return [size]
        return [min(size, self.rows_per_file - start) for start in range(0, self.rows_per_file, size)]


@dataclass(frozen=True)
class Work:
    """A folder of pieces.

    Attributes:
        folder: where.
        job: what is predicted.
        pieces: of each piece, where its first line starts in the list of images, in bytes, and its number of images.
    """

    folder: Path
    job: Job
    pieces: list[tuple[int, int]]

    @property
    def total(self) -> int:
        """Images in all."""
        return sum(rows for _, rows in self.pieces)

    def files(self) -> list[list[int]]:
        """The pieces of each file of results."""
        numbers, step = list(range(len(self.pieces))), len(self.job.piece_sizes())
        if self.job.rows_per_file is None:
            return [numbers]
        return [numbers[start : start + step] for start in range(0, len(numbers), step)]

    def piece_file(self, piece: int) -> Path:
        """Where a piece's results lie when it is done."""
        return self.folder / "pieces" / f"{piece:08d}.parquet"

    def result_file(self, number: int) -> Path:
        """Where a file of results lies until it is published."""
        return self.folder / "results" / f"part-{number:05d}.parquet"

    def done(self) -> int:
        """Images whose pieces are done."""
        return self.total - sum(self.pieces[piece][1] for piece in self.to_do())

    def to_do(self) -> list[int]:
        """The pieces that are not done, in order."""
        done = set(os.listdir(self.folder / "pieces"))
        return [piece for piece in range(len(self.pieces)) if self.piece_file(piece).name not in done]

    def batches(self, piece: int) -> Iterator[list[bytes]]:
        """The lines of a piece's images by batches; :meth:`sources` reads them."""
        offset, rows = self.pieces[piece]
        with (self.folder / "images.jsonl").open("rb") as file:
            file.seek(offset)
            lines = islice(file, rows)
            while batch := list(islice(lines, self.job.batch_size)):
                yield batch

    @staticmethod
    def sources(lines: Sequence[bytes]) -> list[Source]:
        """Where the images of some lines lie."""
        return [Source.of_line(line) for line in lines]

    def discard(self) -> None:
        """Empty the folder, which :func:`held` then removes."""
        _empty(self.folder)


def open_work(folder: Path, job: Job, overwrite: bool, looking: Callable[[int], Any]) -> Work:
    """Start a prediction in a folder that is :func:`held`, or go on with the one that was started there.

    Args:
        folder: of the pieces.
        job: what is predicted.
        overwrite: start over.
        looking: called with the number of images found so far.

    Raises:
        UserError: it was started with other options, or the inputs hold no image.
    """
    manifest = folder / _MANIFEST
    if overwrite:
        manifest.unlink(missing_ok=True)
    if manifest.exists():
        return _go_on(folder, job)
    _empty(folder)
    for name in ("pieces", "results"):
        (folder / name).mkdir()
    with (folder / "images.jsonl").open("wb") as file:
        pieces = _list_images(file, job, looking)
        os.fsync(file.fileno())
    write_whole(manifest, json.dumps({"format": FORMAT, "job": asdict(job), "pieces": pieces}))
    return Work(folder, job, pieces)


@contextmanager
def held(folder: Path) -> Iterator[None]:
    """Make a folder and keep other processes from working in it; one in which nothing was started is removed.

    Raises:
        UserError: the folder cannot be made or holds what is not ours, or another process works in it.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"cannot make the folder {folder}: {error.strerror}. Choose another --out.") from error
    foreign = sorted(entry.name for entry in folder.iterdir() if entry.name != LOCK_FILE and not _is_own(entry.name))
    if foreign:
        raise UserError(
            f"{folder}, where the work would be kept until it is done, holds {', '.join(foreign[:5])}, which no "
            "prediction writes. Move that away, or choose another --out."
        )
    try:
        with lock_folder(folder, "Wait for it, or choose another --out."):
            try:
                yield
            finally:
                if folder.exists() and not (folder / _MANIFEST).exists():
                    _empty(folder)
    finally:
        with suppress(OSError):  # there is something to go on with
            folder.rmdir()


def _is_own(name: str) -> bool:
    return name in _OWN or is_partial_file(name, _OWN)


def _empty(folder: Path) -> None:
    """Remove what is ours but the lock; what says that there is something to go on with is the first to go."""
    (folder / _MANIFEST).unlink(missing_ok=True)
    for entry in [entry for entry in folder.iterdir() if _is_own(entry.name)]:
        if entry.is_dir():
            shutil.rmtree(entry)
        else:
            entry.unlink()


def _list_images(file: BinaryIO, job: Job, looking: Callable[[int], Any]) -> list[tuple[int, int]]:
    sources, pieces, found = find_sources(job.inputs), [], 0
    for size in cycle(job.piece_sizes()):
        offset, rows = file.tell(), 0
        for source in islice(sources, size):
            file.write(source.to_line())
            rows += 1
        if not rows:
            break
        pieces.append((offset, rows))
        found += rows
        looking(found)
    if not pieces:
        hint = " WebDataset shards are given one by one or as FOLDER/*.tar." if _hold_shards(job.inputs) else ""
        raise UserError(f"no image found in {', '.join(job.inputs)}. {ACCEPTED}{hint}")
    return pieces


def _hold_shards(inputs: Sequence[str]) -> bool:
    return any(name.endswith(".tar") for folder in inputs if os.path.isdir(folder) for name in os.listdir(folder))


def _go_on(folder: Path, job: Job) -> Work:
    """The work of a folder, if its job is this one."""
    way_on = "Go on with it by the same options, start over with --overwrite, or choose another --out."
    try:
        content = read_json(folder / _MANIFEST)
        before = content["job"] if content["format"] == FORMAT else {}
        pieces = [(offset, rows) for offset, rows in content["pieces"]]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"{folder} holds no prediction of ours. Start over with --overwrite, or move it away."
        ) from error
    for name in (field.name for field in fields(job) if field.name != "model"):
        was, now = before.get(name), getattr(job, name)
        if was != now:
            what = f"{name} {was!r}, now {now!r}"
            if name == "weights":
                what = f"other weights than those of {job.model}, or other class names or preprocessing"
            raise UserError(f"{folder} holds a prediction that was begun with {what}. {way_on}")
    return Work(folder, job, pieces)
