"""A data set that is learned in seconds, and options of a training that takes one second."""

from pathlib import Path

import numpy as np
from PIL import Image

COLOURS = {"blue": (40, 60, 220), "green": (40, 200, 60), "red": (220, 50, 40)}
QUICK = dict(model="test_resnet", img_size=32, batch_size=8, epochs=2, workers=0, device="cpu")


def write_photos(root: Path, count: int, seed: int = 0, names=tuple(COLOURS)) -> Path:
    """Write one folder of noisy images for each color."""
    noise = np.random.default_rng(seed)
    for name in names:
        (root / name).mkdir(parents=True)
        for i in range(count):
            pixels = np.array(COLOURS[name]) + noise.normal(0, 40, (24, 24, 3))
            Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(root / name / f"{i:03d}.png")
    return root


UNSET = {
    "auto_augment", "average", "channels", "checkpoint", "checkpointed_stages", "class_weights", "clip_grad", "exclude",
    "freeze", "freeze_epochs", "group_column", "group_from", "image_folder", "label_column", "layer_decay", "limit",
    "logger", "milestones", "num_classes", "out", "path_column", "patience", "positive", "sampler", "split_column",
    "split_file", "teacher", "weight_column",
}  # fmt: skip
"""Options that remain unset if the user does not give them."""
