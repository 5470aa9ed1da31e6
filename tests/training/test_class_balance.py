"""Rare classes: weights in the loss and in the sampling."""

import json

import numpy as np
import pytest
import torch
from torch import nn
from torchvision.transforms import Compose, Normalize, ToTensor

from transxnet.data.datasets.classification_dataset import ClassificationSet
from transxnet.data.datasets.image_collection import ArrayImages
from transxnet.data.formats.timm_readers import Stream
from transxnet.data.loading.data_modules import ClassificationData
from transxnet.metrics.targets import CLASSES
from transxnet.runs.task_configs import ClassifyConfig
from transxnet.training.class_balance import check_balance, class_weights, draw_probabilities
from transxnet.training.classifier import Classifier
from transxnet.training.objectives import create_objective
from transxnet.utils.errors import UserError


def labeled(labels: list[int], weights: list[float] | None = None) -> ClassificationSet:
    images = ArrayImages(np.zeros((len(labels), 8, 8), np.uint8))
    own = None if weights is None else np.array(weights)
    return ClassificationSet(images, [str(i) for i in range(len(labels))], ["cat", "dog", "fox"], np.array(labels), own)


STREAM = Stream("tfds/x", "train", 100, ["cat", "dog"])


def overlapping() -> ClassificationSet:
    """380 images of a common class and 20 of a rare one, whose gray levels overlap."""
    noise, labels = np.random.default_rng(0), np.repeat([0, 1], [380, 20])
    pixels = (noise.normal(100, 20, 400) + 40 * labels).clip(0, 255).astype(np.uint8)
    images = ArrayImages(np.broadcast_to(pixels[:, None, None], (400, 4, 4)))
    return ClassificationSet(images, [str(i) for i in range(400)], ["common", "rare"], labels)


def recall_of_rare_class(**options) -> float:
    """Train a linear classifier on the mean of the pixels; returns its recall of the rare class."""
    config, images = ClassifyConfig("x", smoothing=0.0, **options), overlapping()
    draws = None if config.sampler is None else draw_probabilities(config.sampler, images)
    factors = None if config.class_weights is None else class_weights(config.class_weights, images)
    model = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.LazyLinear(2))
    transform = Compose([ToTensor(), Normalize([0.4] * 3, [0.1] * 3)])
    data = ClassificationData(images, images, transform, transform, 40, 0, 0, draws)
    classifier = Classifier(
        model, 2, config, create_objective(CLASSES, 2, config.replace(loss="cross_entropy"), factors)
    )
    optimizer, loader = torch.optim.Adam(model.parameters(), 0.1), data.train_dataloader()
    for epoch in range(10):
        loader.sampler.set_epoch(epoch)
        for batch in loader:
            optimizer.zero_grad()
            classifier.losses(batch)["loss"].backward()
            optimizer.step()
    pixels = torch.stack([data.val_dataset()[i][0] for i in range(380, 400)])
    return (model(pixels).argmax(1) == 1).float().mean().item()


@pytest.mark.long
def test_rare_class_is_found():
    plain, sqrt = recall_of_rare_class(), recall_of_rare_class(sampler="sqrt")
    weighted, sampled = recall_of_rare_class(class_weights="balanced"), recall_of_rare_class(sampler="balanced")
    assert plain < 0.5 < sqrt < min(weighted, sampled)
    assert min(weighted, sampled) > 0.75


def test_balanced_weights_are_those_of_scikit_learn():
    train = labeled([0] * 6 + [1] * 2)
    torch.testing.assert_close(class_weights("balanced", train), torch.tensor([8 / 18, 8 / 6, 8 / 3]))


def test_samplers_weigh_classes_by_their_count():
    train = labeled([0] * 16 + [1] * 4)
    for sampler, share in (("balanced", 1 / 2), ("sqrt", 2 / 3)):
        probabilities = draw_probabilities(sampler, train)
        assert probabilities.sum() == pytest.approx(1)
        assert probabilities[:16].sum() == pytest.approx(share)


@pytest.mark.parametrize("name", ["w.csv", "w.json"])
def test_weights_are_read_by_class_name(tmp_path, name):
    weights = {"fox": 3, "cat": 1, "dog": 0.5}
    rows = ["class,weight", *(f"{key},{value}" for key, value in weights.items())]
    (tmp_path / name).write_text(json.dumps(weights) if name == "w.json" else "\n".join(rows))
    assert class_weights(str(tmp_path / name), labeled([0])).tolist() == [1, 0.5, 3]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("w.json", '{"cat": 1, "dog": 1}', "class 'fox' has no weight. Classes of the data: cat, dog, fox"),
        ("w.json", '{"cat": 1, "dog": 1, "fox": 1, "cow": 1}', "the data has no class 'cow'"),
        ("w.json", '{"cat": 1, "dog": 1, "fox": -1}', "numbers of at least 0, and one above 0, got .*-1.0"),
        ("w.json", "[1, 2]", "cannot read the class weights .*Accepted: a JSON object or a CSV"),
        ("w.csv", "class,weight\ncat,much", "could not convert string to float: 'much'"),
        ("w.csv", "name,weight\ncat,1", "column 'class' is missing. Columns found: name, weight"),
        ("w.csv", None, "cannot read"),
    ],
)
def test_damaged_weights_are_refused(tmp_path, name, content, message):
    if content is not None:
        (tmp_path / name).write_text(content)
    with pytest.raises(UserError, match=message):
        class_weights(str(tmp_path / name), labeled([0]))


def test_classes_of_a_stream_cannot_be_balanced():
    for options in (dict(sampler="sqrt"), dict(class_weights="balanced")):
        with pytest.raises(UserError, match=r"needs the labels of all training images.* --class-weights FILE"):
            check_balance(ClassifyConfig("tfds/x", **options), STREAM)
    check_balance(ClassifyConfig("tfds/x", class_weights="weights.csv"), STREAM)


def test_mixup_is_refused_for_weighted_images():
    train = labeled([0, 1], [1.0, 0.5])
    with pytest.raises(UserError, match=r"Use --mixup 0 and --cutmix 0, or --weighted-loss false"):
        check_balance(ClassifyConfig("x", mixup=0.2), train)
    check_balance(ClassifyConfig("x", mixup=0.2, weighted_loss=False), train)
