"""Batched inference gives the network's results for each image on its own."""

from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from rich.console import Console
from scipy.special import softmax
from torchvision.transforms.v2.functional import pil_to_tensor

from transxnet.data.datasets.classification_dataset import ClassificationSet
from transxnet.data.datasets.image_collection import ArrayImages
from transxnet.evaluation.dataset_evaluation import run_evaluation
from transxnet.evaluation.inference_backends import TrainedBackend
from transxnet.runs.load import load_model
from transxnet.runs.run_folder import Run
from transxnet.runs.training_data import open_run_data

CPU = torch.device("cpu")


def validation_images(run: Run, console: Console) -> Any:
    return open_run_data(run.read_config(), console, run.stored_split).val


@pytest.fixture(scope="module")
def pixels() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (5, 40, 48, 3), dtype=np.uint8)


def test_classifier_evaluation_matches_single_images(photos_run, pixels):
    trained = load_model(photos_run.path)
    labels = np.array([2, 0, 1, 1, 0])
    images = ClassificationSet(ArrayImages(pixels), list("abcde"), list(trained.class_names), labels).subset(
        np.array([3, 0, 4])
    )
    done: list[int] = []
    evaluation = run_evaluation(TrainedBackend(trained, CPU), images, batch_size=2, workers=0, progress=done.append)
    assert evaluation.names == ["d", "a", "e"]
    assert evaluation.labels.tolist() == [1, 2, 0]
    assert evaluation.weights is None
    assert done == [2, 3]
    transform = trained.preprocessing.transform()
    with torch.inference_mode():
        logits = [trained.model(transform(Image.fromarray(pixels[i]))[None])[0] for i in (3, 0, 4)]
    np.testing.assert_allclose(evaluation.probabilities, softmax(np.stack(logits), axis=1), rtol=0, atol=1e-5)


def test_detector_evaluation_matches_single_images(finding_run, quiet):
    trained = load_model(finding_run.path)
    images = validation_images(finding_run, quiet)
    done: list[int] = []
    evaluation = run_evaluation(TrainedBackend(trained, CPU), images, batch_size=2, workers=0, progress=done.append)
    assert done == [2, 3]
    for i, found in enumerate(evaluation.detections):
        image = pil_to_tensor(images.image(i)).float() / 255
        with torch.inference_mode():
            (expected,) = trained.model([image])
        np.testing.assert_allclose(found.boxes, expected["boxes"], rtol=0, atol=1e-3)
        np.testing.assert_allclose(found.scores, expected["scores"], rtol=0, atol=1e-5)


def test_segmenter_evaluation_counts_every_pixel(maps_run, quiet):
    trained = load_model(maps_run.path)
    images = validation_images(maps_run, quiet)
    done: list[int] = []
    evaluation = run_evaluation(TrainedBackend(trained, CPU), images, batch_size=2, workers=0, progress=done.append)
    assert done == [2, 3]
    labels = [images.labels(i) for i in range(3)]
    predicted = [evaluation.predicted(i) for i in range(3)]
    assert [m.shape for m in predicted] == [m.shape for m in labels]
    counted = [m != 255 for m in labels]
    correct = sum(int((p == m)[c].sum()) for p, m, c in zip(predicted, labels, counted, strict=True))
    assert np.trace(evaluation.confusion) == correct
    assert evaluation.confusion.sum() == sum(int(c.sum()) for c in counted)
