"""WebDataset shards: tar files of images, read at the byte offsets of the images."""

import json
import os
import tarfile
from collections.abc import Collection, Iterator
from typing import NamedTuple

from transxnet.data.reading.file_search import is_image
from transxnet.data.reading.image_decoding import EXTENSIONS, MAX_BYTES, UnreadableImage
from transxnet.utils.errors import UserError

_COMPRESSED = (".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".tar.zst")


class ImageLocation(NamedTuple):
    """The location of an image.

    Attributes:
        name: for messages: the file's path, or ``SHARD!MEMBER``.
        file: the path of the file or of the shard.
        offset: first byte of the member within its shard; None for a file.
        size: size of the member in bytes; None for a file.
    """

    name: str
    file: str
    offset: int | None = None
    size: int | None = None

    def to_line(self) -> bytes:
        """Convert to a line of an image list; :meth:`from_line` reads it."""
        return json.dumps(self, separators=(",", ":")).encode() + b"\n"

    @classmethod
    def from_line(cls, line: bytes) -> "ImageLocation":
        """Parse a line written by :meth:`to_line`."""
        return cls(*json.loads(line))

    def read(self, root: str = "") -> str | bytes:
        """Return what ``open_image`` takes: the path of a file below the root, or the bytes of a member.

        Raises:
            UnreadableImage: the shard cannot be read at this offset, or the member is too large.
        """
        path = os.path.join(root, self.file)
        if self.offset is None or self.size is None:
            return path
        if self.size > MAX_BYTES:
            raise UnreadableImage(f"the file has {self.size:,} bytes, more than {MAX_BYTES:,}")
        try:
            with open(path, "rb") as shard:
                shard.seek(self.offset)
                return shard.read(self.size)
        except OSError as error:
            raise UnreadableImage(error.strerror or str(error)) from error


def is_shard(name: str) -> bool:
    """Whether a file has the extension of a WebDataset shard.

    Raises:
        UserError: the shard is compressed.
    """
    if name.lower().endswith(_COMPRESSED):
        raise UserError(f"{name} is compressed, which does not allow random access. Decompress it to a .tar file.")
    return name.lower().endswith(".tar")


def shard_images(path: str, extensions: Collection[str] = EXTENSIONS) -> Iterator[ImageLocation]:
    """Iterate over the images of a shard, by file extension and in order; only headers are read.

    Raises:
        UserError: the shard cannot be read, is truncated, or is damaged.
    """
    for _, member in members(path):
        if is_image(os.path.basename(member.name), extensions):
            yield ImageLocation(f"{path}!{member.name}", path, member.offset_data, member.size)


def members(path: str) -> Iterator[tuple[tarfile.TarFile, tarfile.TarInfo]]:
    """Iterate over the files in a shard, each with the open shard, in order; only headers are read.

    Raises:
        UserError: the shard cannot be read, is truncated, or is damaged.
    """
    try:
        with tarfile.open(path, "r:") as shard:
            while (member := shard.next()) is not None:
                shard.members.clear()  # type: ignore[attr-defined]  # it would keep every header in memory
                if member.isreg():
                    yield shard, member
            end = shard.offset
        _check_end(path, end)
    except (OSError, tarfile.TarError) as error:
        reason = error.strerror or str(error) if isinstance(error, OSError) else str(error)
        raise UserError(
            f"cannot read shard {path} to its end: {reason}. Accepted: uncompressed tar files. Download it again, or "
            "remove it."
        ) from error


def _check_end(path: str, offset: int) -> None:
    """Check the end of a shard: tarfile takes a damaged header for the end, but the real end is a block of zeros."""
    with open(path, "rb") as file:
        file.seek(offset)
        if not file.peek(1):
            raise tarfile.ReadError(f"it is truncated at byte {offset:,}: the end-of-archive marker is missing")
        while block := file.read(1 << 20):
            if block.strip(b"\0"):
                raise tarfile.ReadError(f"invalid header at byte {offset:,}")
