"""What detection and segmentation share: looking at many photographs, and a data set that goes on without one."""

import logging
import os
from abc import abstractmethod
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Protocol, TypeVar

from PIL import ExifTags, Image
from torch.utils.data import Dataset

from transxnet.data.image_set import seeded
from transxnet.data.images import UnreadableImage, open_image, opened_image, quiet_pillow

_logger = logging.getLogger(__name__)

FULL_UP_TO = 50_000
"""Sets of more photographs get their headers checked only: decoding all would take longer than a user waits."""

T = TypeVar("T")


class Photographs(Protocol):
    """A set of photographs in files."""

    def __len__(self) -> int: ...

    def name(self, index: int) -> str:
        """Name of photograph ``index``."""
        ...

    def picture(self, index: int) -> Image.Image:
        """Photograph ``index`` in RGB; raises UnreadableImage."""
        ...


class PhotographDataset(Dataset):
    """Items made of photographs, for a PyTorch loader.

    Indexed by a position, or by (position, seed) as :class:`~transxnet.data.sampler.EpochSampler` gives them: then the
    randomness follows from the seed alone, whatever worker runs it. A photograph that turned unreadable is replaced by
    the next one that can be read, and named in a log message.
    """

    def __init__(self, photographs: Photographs):
        self._photographs = photographs

    def __len__(self) -> int:
        return len(self._photographs)

    def load(self, position: int) -> Any:
        """All that is read from files for an item; raises UnreadableImage."""
        return self._photographs.picture(position)

    @abstractmethod
    def item(self, loaded: Any, position: int) -> Any:
        """What the loader gets of what was loaded."""

    def __getitem__(self, key: int | tuple[int, int]) -> Any:
        position, seed = key if isinstance(key, tuple) else (key, None)
        loaded, position = self._readable(position)
        if seed is None:
            return self.item(loaded, position)
        with seeded(seed):
            return self.item(loaded, position)

    def _readable(self, position: int) -> tuple[Any, int]:
        for step in range(min(len(self), 100)):
            candidate = (position + step) % len(self)
            try:
                return self.load(candidate), candidate
            except UnreadableImage as error:
                name = self._photographs.name(candidate)
                _logger.warning("%s can't be read and is replaced by the next: %s", name, error)
        raise UnreadableImage(f"{self._photographs.name(position)} and the {step} images after it can't be read")


def upright_size(path: str, full: bool) -> tuple[int, int]:
    """Height and width of a photograph as :func:`~transxnet.data.images.open_image` gives it.

    Args:
        path: the file.
        full: decode all of it, which finds what is damaged; else its header only.

    Raises:
        UnreadableImage: as open_image; as check_header, if not ``full``.
    """
    if full:
        picture = open_image(path)
        return picture.height, picture.width
    with opened_image(path) as image:
        exif = Image.Image.getexif(image)  # a PNG's own method would decode all of it
        turned = exif.get(ExifTags.Base.Orientation, 1) in (5, 6, 7, 8)
        return (image.width, image.height) if turned else (image.height, image.width)


def look_at_each(count: int, look: Callable[[int], T]) -> Iterator[T]:
    """``look(0)`` to ``look(count - 1)``, in order, by several threads: decoding leaves Python to the others."""
    with quiet_pillow(), ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        for start in range(0, count, 1024):  # the pool queues all that it is given
            yield from pool.map(look, range(start, min(start + 1024, count)))


def find_file(folder: Path, name: str) -> Path | None:
    """The file that an annotation names below a folder, or None.

    The name may have folders in front, and backslashes between them; where there is no such file, its last part counts,
    directly in the folder.
    """
    plain = name.replace("\\", "/")
    candidates = (folder / plain, folder / plain.rpartition("/")[2])
    # Unlike Path.is_file, this is no error for a name that is too long for a file.
    return next((candidate for candidate in candidates if os.path.isfile(candidate)), None)
