"""Images with labels or values that are learned in seconds, and options of their trainings."""

import numpy as np

from transxnet.data.datasets.classification_dataset import ClassificationSet
from transxnet.data.datasets.image_collection import ArrayImages
from transxnet.data.samples.builtin_samples import Sample

NAME = "tints"
COUNT = 60
OPTIONS = dict(
    model="test_resnet", img_size=32, batch_size=8, epochs=12, lr=5e-3, workers=0, device="cpu", color_jitter=0.0
)


def tints(targets: str | None = None) -> Sample:
    """Noisy images whose red and green level are the targets.

    Args:
        targets: "multilabel", the default: strong red and strong green, of which a tenth is unknown; or "regression":
            a value from 100 to 150, by the red level.
    """
    dice = np.random.default_rng(0)
    levels = dice.uniform(0, 1, (COUNT, 2))
    pixels = dice.normal(100, 20, (COUNT, 24, 24, 3))
    pixels[..., :2] += 80 * (levels[:, None, None] - 0.5)
    labels = (levels > 0.5).astype(np.float32)
    labels[dice.random(labels.shape) < 0.1] = np.nan
    names = ["red", "green"]
    if targets == "regression":
        labels, names = (100 + 50 * levels[:, 0]).astype(np.float32), ["redness"]
    images = ClassificationSet(
        ArrayImages(pixels.clip(0, 255).astype(np.uint8)), [f"tint{i:02d}" for i in range(COUNT)], names, labels
    )
    return Sample(images, np.zeros(COUNT, int), 0.4, "none", 32)
