"""Real images that Python packages carry, so that everything can be tried without a download."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from transxnet.data.datasets.classification_dataset import ClassificationSet
from transxnet.data.datasets.image_collection import ArrayImages, FileImages
from transxnet.data.samples.scenes import LICENCE, scenes
from transxnet.utils.optional_packages import require_package


@dataclass(frozen=True)
class Sample:
    """A built-in data set.

    Attributes:
        images: all of it.
        strata: (N,) or (N, k) what a split must be balanced over.
        val_fraction: share that is held out.
        licence: what a user must know before using the images.
        img_size: size that suits them, in pixels.
        hflip: probability of a left-right flip that suits them.
    """

    images: ClassificationSet
    strata: np.ndarray
    val_fraction: float
    licence: str
    img_size: int
    hflip: float = 0.5


@dataclass(frozen=True)
class DenseSample:
    """A built-in data set with objects and label maps.

    Attributes:
        folder: where it lies, in COCO's format and ADE20K's.
        licence: what a user must know before using the images.
        img_size: shorter side that suits them, in pixels.
        hflip: probability of a left-right flip that suits them.
    """

    folder: Path
    licence: str
    img_size: int
    hflip: float


def elpv() -> Sample:
    """2,624 electroluminescence photographs of solar cells, functional or defective, 300x300 grey.

    A cell counts as defective where the published probability of a defect exceeds 0.5. A label's weight is the
    probability that it is right: 1 where the experts were sure, 2/3 where they were not. The published benchmark
    (Deitsch et al., Solar Energy 185, 2019) holds out a quarter, stratified by cell type and probability.
    """
    require_package("elpv_dataset", "transxnet[samples]", "The sample 'elpv'")
    import elpv_dataset

    folder = Path(elpv_dataset.__file__).parent / "data"
    with (folder / "labels.csv").open() as file:
        rows = [line.split() for line in file if line.strip()]
    names = [row[0] for row in rows]
    probability = np.array([float(row[1]) for row in rows])
    kind = np.array([row[2] for row in rows])
    images = ClassificationSet(
        FileImages([str(folder / name) for name in names]),
        names,
        ["functional", "defective"],
        (probability > 0.5).astype(np.int64),
        weights=np.maximum(probability, 1 - probability),
    )
    strata = np.stack([kind, np.round(probability, 2).astype(str)], axis=1)
    licence = (
        "ELPV photographs: Creative Commons BY-NC-SA 4.0, not for commercial use; cite Deitsch et al., Solar Energy "
        "185 (2019) 455-468, and Buerhop-Lutz et al., EU PVSEC 2018."
    )
    return Sample(images, strata, 0.25, licence, 112)


def digits() -> Sample:
    """1,797 handwritten digits of scikit-learn, 8x8 grey: for quick tests."""
    require_package("sklearn", "transxnet[samples]", "The sample 'digits'")
    from sklearn.datasets import load_digits

    bunch = load_digits()
    array = (bunch.images * (255 / 16)).round().astype(np.uint8)
    names = [f"digit{i:04d}" for i in range(len(array))]
    images = ClassificationSet(ArrayImages(array), names, [str(n) for n in range(10)], bunch.target.astype(np.int64))
    licence = (
        "Handwritten digits: UCI Machine Learning Repository, Creative Commons BY 4.0 (E. Alpaydin, C. Kaynak, 1998)."
    )
    return Sample(images, bunch.target, 0.25, licence, 32, hflip=0.0)


def dense_scenes() -> DenseSample:
    """2,550 scenes of handwritten digits over photographs; see :func:`~transxnet.data.samples.scenes.scenes`."""
    return DenseSample(scenes(), LICENCE, 256, hflip=0.0)


SAMPLES: dict[str, Callable[[], Sample]] = {"elpv": elpv, "digits": digits}
"""For classification."""

DENSE_SAMPLES: dict[str, Callable[[], DenseSample]] = {"scenes": dense_scenes}
"""For detection and segmentation."""
