"""Runs of small models of all kinds, with random weights."""

import io
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from rich.console import Console

import transxnet
from tests.helpers.classifier_runs import draw, preprocessing, write_run
from tests.helpers.exports import CLASSES, mask_rcnn
from transxnet import TransXNet
from transxnet.heads import create_detector, create_segmenter
from transxnet.runs.run_folder import Run

SMALL = dict(depths=(1, 1, 1, 1), embed_dims=(16, 16, 32, 32), num_heads=(1, 1, 2, 2))


@pytest.fixture
def console() -> Console:
    return Console(file=io.StringIO())


@pytest.fixture(scope="session")
def photos(tmp_path_factory) -> Path:
    """Nine noisy images of three classes, each with its own color."""
    root, dice = tmp_path_factory.mktemp("data"), np.random.default_rng(0)
    for label, name in enumerate(CLASSES):
        (root / name).mkdir()
        for i in range(3):
            pixels = dice.integers(0, 150, (70, 90, 3)) + np.eye(3)[label] * 100
            Image.fromarray(pixels.astype(np.uint8)).save(root / name / f"{i}.png")
    return root


@pytest.fixture(scope="session")
def ours(photos, tmp_path_factory) -> Run:
    """A run of the smallest TransXNet for 64x64 images."""
    model = draw(TransXNet(num_classes=3, img_size=64, **SMALL))
    args = {**SMALL, "img_size": 64}
    described = dict(architecture="transxnet_n", class_names=CLASSES, preprocessing=preprocessing(64), model_args=args)
    return write_run(tmp_path_factory.mktemp("runs") / "ours", model, photos, **described)


@pytest.fixture(scope="session")
def theirs(photos, tmp_path_factory) -> Run:
    """A run of timm's smallest ResNet."""
    model = draw(transxnet.create_model("test_resnet", num_classes=3))
    described = dict(architecture="test_resnet", class_names=CLASSES, preprocessing=preprocessing(64))
    return write_run(tmp_path_factory.mktemp("runs") / "theirs", model, photos, **described)


@pytest.fixture(scope="session")
def detector(photos, tmp_path_factory) -> Run:
    """A RetinaNet that detects objects everywhere."""
    model = create_detector("retinanet", "test_resnet", 3, min_size=64, max_size=128)
    draw(model)
    with torch.no_grad():
        model.head.classification_head.cls_logits.weight.normal_(std=0.3, generator=torch.Generator().manual_seed(0))
    described = dict(
        architecture="test_resnet",
        class_names=CLASSES,
        preprocessing={},
        model_args=dict(head="retinanet", min_size=64, max_size=128),
    )
    return write_run(tmp_path_factory.mktemp("runs") / "boxes", model, photos, task="detect", **described)


@pytest.fixture(scope="session")
def mask_detector(photos, tmp_path_factory) -> Run:
    """A Mask R-CNN that detects objects of all classes everywhere."""
    args = dict(head="maskrcnn", min_size=64, max_size=128)
    described = dict(architecture="test_resnet", class_names=CLASSES, preprocessing={}, model_args=args)
    model = mask_rcnn(min_size=64, max_size=128)
    return write_run(tmp_path_factory.mktemp("runs") / "masks", model, photos, task="detect", **described)


@pytest.fixture(scope="session")
def segmenter(photos, tmp_path_factory) -> Run:
    """A Semantic FPN for images of at most 128x64."""
    described = dict(architecture="test_resnet", class_names=CLASSES, preprocessing={"scale": [128, 64]})
    model = draw(create_segmenter("test_resnet", 3))
    return write_run(tmp_path_factory.mktemp("runs") / "maps", model, photos, task="segment", **described)
