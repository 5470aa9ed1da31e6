"""Runs of classifiers with random weights, and images, for the tests of prediction."""

import io
import os
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import timm
import torch
from PIL import Image
from torch import nn

from transxnet.data.loading.preprocessing import Preprocessing
from transxnet.data.reading.image_decoding import open_image
from transxnet.metrics.targets import ClassTargets
from transxnet.runs.load import save_model
from transxnet.runs.run_folder import Run

CLASSES = ["ant", "bee", "cat"]
SIZE = 32

IMAGE_COUNT = 21
"""Number of images in the folder that most tests use, including the unreadable one."""


def write_classifier_run(root: Path, model: str, seed: int = 0, **options) -> Path:
    """Write a run with a random network of three classes at 32x32 pixels."""
    torch.manual_seed(seed)
    network = timm.create_model(model, num_classes=len(CLASSES), **options).eval()
    preprocessing = dict(img_size=SIZE, crop_pct=1.0, interpolation="bilinear", mean=(0.5,) * 3, std=(0.5,) * 3)
    _tell_apart(network, Preprocessing(**preprocessing))
    description = dict(
        task="classify", architecture=model, model_args=options, class_names=CLASSES, preprocessing=preprocessing
    )
    root.mkdir(parents=True)
    (root / "config.yaml").write_text("data: nowhere\n")
    save_model(Run(root), network.state_dict(), description)
    return root


@torch.no_grad()
def _tell_apart(network: nn.Module, preprocessing: Preprocessing) -> None:
    """Set a last layer that classifies different images differently."""
    transform = preprocessing.transform()
    inputs = torch.stack([transform(open_image(encoded_image(1000 + i))) for i in range(8)])
    features = network.forward_head(network.forward_features(inputs), pre_logits=True)
    classifier = network.get_classifier()
    classifier.weight.normal_().div_(features.std(0) + 1e-6)
    classifier.weight.mul_(1 / (features @ classifier.weight.T).std())
    classifier.bias.copy_(-features.mean(0) @ classifier.weight.T)


def encoded_image(seed: int) -> bytes:
    """A PNG file of noise around a color."""
    noise = np.random.default_rng(seed)
    pixels = noise.integers(0, 256, 3) + noise.normal(0, 30, (20, 20, 3))
    file = io.BytesIO()
    Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(file, "PNG")
    return file.getvalue()


def write_images(root: Path, count: int) -> Path:
    """Write a folder of such images."""
    root.mkdir(parents=True)
    for i in range(count):
        (root / f"{i:03d}.png").write_bytes(encoded_image(i))
    return root


def finished_chunks(out: Path) -> list[str]:
    """List the files of the finished chunks of an unfinished prediction."""
    folder = out.with_name(out.name + ".part") / "pieces"
    return sorted(name for name in os.listdir(folder) if not name.startswith(".")) if folder.is_dir() else []


class DarkOrLight:
    """Stands in for an opened exported classifier with two classes, chosen by the mean of the pixels."""

    name, task, class_names, targets = "model.onnx", "classify", ["dark", "light"], ClassTargets()
    preprocessing = Preprocessing(8, 1.0, "bilinear", (0.5,) * 3, (0.5,) * 3)
    metadata = SimpleNamespace(input="float32", channels=None)
    check_size = staticmethod(lambda height, width: None)

    def __call__(self, images):
        mean = images.mean((1, 2, 3))
        return 100 * torch.stack([-mean, mean], dim=1)
