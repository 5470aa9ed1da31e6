"""Built-in samples: real images from Python packages, usable without a download."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from transxnet.data.datasets.classification_dataset import ClassificationSet, TargetKind
from transxnet.data.datasets.image_collection import ArrayImages, FileImages
from transxnet.data.samples.scenes import LICENSE, scenes
from transxnet.utils.optional_packages import require_package


@dataclass(frozen=True)
class Sample:
    """A built-in data set.

    Attributes:
        images: all images.
        strata: (N,) or (N, k) what to stratify the split by.
        val_fraction: fraction of the images to validate on.
        license: license terms that a user must know.
        img_size: suitable size of the images, in pixels.
        hflip: suitable probability of a horizontal flip.
    """

    images: ClassificationSet
    strata: np.ndarray
    val_fraction: float
    license: str
    img_size: int
    hflip: float = 0.5


@dataclass(frozen=True)
class DenseSample:
    """A built-in data set with objects and label maps.

    Attributes:
        folder: its folder, in COCO's and ADE20K's format.
        license: license terms that a user must know.
        img_size: suitable shorter side of the images, in pixels.
        hflip: suitable probability of a horizontal flip.
    """

    folder: Path
    license: str
    img_size: int
    hflip: float


def elpv(targets: TargetKind | None = None) -> Sample:
    """2,624 electroluminescence images of solar cells, functional or defective, 300x300 grayscale.

    A cell is labeled defective if the published defect probability exceeds 0.5. The weight of a label is the
    probability that it is correct: 1 if the experts were sure, 2/3 if not. The published benchmark (Deitsch et al.,
    Solar Energy 185, 2019) tests on a quarter, stratified by cell type and probability.

    Args:
        targets: "classes", the default, as described; "multilabel" for the labels defective and monocrystalline;
            "regression" for the defect probability, which is 0, 1/3, 2/3 or 1.
    """
    require_package("elpv_dataset", "transxnet[samples]", "The sample 'elpv'")
    import elpv_dataset

    folder = Path(elpv_dataset.__file__).parent / "data"
    with (folder / "labels.csv").open() as file:
        rows = [line.split() for line in file if line.strip()]
    names = [row[0] for row in rows]
    probability = np.array([float(row[1]) for row in rows])
    kind = np.array([row[2] for row in rows])
    defective, sure = probability > 0.5, np.maximum(probability, 1 - probability)
    labels: dict[str | None, tuple[list[str], np.ndarray, np.ndarray | None]] = {
        "multilabel": (["defective", "monocrystalline"], np.c_[defective, kind == "mono"].astype(np.float32), sure),
        "regression": (["defect probability"], probability.astype(np.float32), None),
    }
    class_names, own, weights = labels.get(targets, (["functional", "defective"], defective.astype(np.int64), sure))
    images = ClassificationSet(FileImages([str(folder / name) for name in names]), names, class_names, own, weights)
    strata = np.stack([kind, np.round(probability, 2).astype(str)], axis=1)
    license = (
        "ELPV images: Creative Commons BY-NC-SA 4.0, not for commercial use; cite Deitsch et al., Solar Energy "
        "185 (2019) 455-468, and Buerhop-Lutz et al., EU PVSEC 2018."
    )
    return Sample(images, strata, 0.25, license, 112)


def digits(targets: TargetKind | None = None) -> Sample:
    """scikit-learn's 1,797 handwritten digits, 8x8 grayscale, for quick tests.

    Args:
        targets: only "classes" exist.
    """
    require_package("sklearn", "transxnet[samples]", "The sample 'digits'")
    from sklearn.datasets import load_digits

    bunch = load_digits()
    array = (bunch.images * (255 / 16)).round().astype(np.uint8)
    names = [f"digit{i:04d}" for i in range(len(array))]
    images = ClassificationSet(ArrayImages(array), names, [str(n) for n in range(10)], bunch.target.astype(np.int64))
    license = (
        "Handwritten digits: UCI Machine Learning Repository, Creative Commons BY 4.0 (E. Alpaydin, C. Kaynak, 1998)."
    )
    return Sample(images, bunch.target, 0.25, license, 32, hflip=0.0)


def dense_scenes() -> DenseSample:
    """2,550 scenes of handwritten digits on background images; see :func:`~transxnet.data.samples.scenes.scenes`."""
    return DenseSample(scenes(), LICENSE, 256, hflip=0.0)


SAMPLES: dict[str, Callable[..., Sample]] = {"elpv": elpv, "digits": digits}
"""Samples for classification."""

DENSE_SAMPLES: dict[str, Callable[[], DenseSample]] = {"scenes": dense_scenes}
"""Samples for detection and segmentation."""
