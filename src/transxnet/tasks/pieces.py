"""A long prediction as numbered pieces in a folder, so that it can stop anywhere and go on.

The folder holds ``images.jsonl``, where the images lie, one a line in their order; ``manifest.json``, what is predicted
and where in that list each piece starts; and ``pieces/``, a Parquet file for each piece that is done. A file gets its
name when it is whole, so a piece is there, or it is still to be done.
"""

import json
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields
from importlib.util import find_spec
from itertools import cycle, islice
from pathlib import Path
from typing import Any, BinaryIO

from transxnet.data.image_files import ACCEPTED, find_sources
from transxnet.data.shard_files import Source
from transxnet.errors import UserError
from transxnet.files import write_whole

FORMAT = 1
"""Layout of the folder."""

PIECE_IMAGES = 2048
"""Images in a piece, rounded up to whole batches: what is lost at most when a process ends."""


@dataclass(frozen=True)
class Job:
    """All that the results depend on.

    Attributes:
        model: its name, for the user.
        weights: their fingerprint.
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
        return [Source(*json.loads(line)) for line in lines]

    def discard(self) -> None:
        """Remove the folder; what says that there is something to go on with is the first to go."""
        (self.folder / "manifest.json").unlink()
        shutil.rmtree(self.folder)


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
    manifest = folder / "manifest.json"
    if overwrite:
        manifest.unlink(missing_ok=True)
    if manifest.exists():
        return _go_on(folder, job)
    shutil.rmtree(folder / "pieces", ignore_errors=True)
    (folder / "pieces").mkdir()
    with (folder / "images.jsonl").open("wb") as file:
        pieces = _list_images(file, job, looking)
        os.fsync(file.fileno())
    write_whole(manifest, json.dumps({"format": FORMAT, "job": asdict(job), "pieces": pieces}))
    return Work(folder, job, pieces)


@contextmanager
def held(folder: Path) -> Iterator[None]:
    """Make a folder and keep other processes from working in it; one in which nothing was started is removed.

    The lock ends with this process, however that ends, and its children do not have it. Without locks (on Windows, on
    some network file systems) two processes do each other no harm but the time: what they write is the same.

    Raises:
        UserError: the folder cannot be made, or another process works in it.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"cannot make the folder {folder}: {error.strerror}. Choose another --out.") from error
    with (folder / "lock").open("w") as file:
        if find_spec("fcntl") is not None:
            import fcntl

            try:
                fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except (BlockingIOError, PermissionError) as error:
                raise UserError(
                    f"another process is at work in {folder}. Wait for it, or choose another --out."
                ) from error
            except OSError:  # the file system has no locks
                pass
        try:
            yield
        finally:
            if folder.exists() and not (folder / "manifest.json").exists():
                shutil.rmtree(folder)


def _list_images(file: BinaryIO, job: Job, looking: Callable[[int], Any]) -> list[tuple[int, int]]:
    sources, pieces, found = find_sources(job.inputs), [], 0
    for size in cycle(job.piece_sizes()):
        offset, rows = file.tell(), 0
        for source in islice(sources, size):
            file.write(json.dumps(source, separators=(",", ":")).encode() + b"\n")
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
        content = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
        before = content["job"] if content["format"] == FORMAT else {}
        pieces = [(offset, rows) for offset, rows in content["pieces"]]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"{folder} holds no prediction of ours. Start over with --overwrite, or move it away."
        ) from error
    for name in (field.name for field in fields(job) if field.name != "model"):
        was, now = before.get(name), getattr(job, name)
        if was != now:
            what = f"other weights than those of {job.model}" if name == "weights" else f"{name} {was!r}, now {now!r}"
            raise UserError(f"{folder} holds a prediction that was begun with {what}. {way_on}")
    return Work(folder, job, pieces)
