"""Batched inference gives the network's results for each image on its own."""

from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from rich.console import Console
from scipy.special import softmax
from torch import Tensor, nn
from torchvision.transforms.v2.functional import pil_to_tensor

from transxnet.data.datasets.classification_dataset import ClassificationSet
from transxnet.data.datasets.image_collection import ArrayImages
from transxnet.evaluation.inference import (
    classifier_outputs,
    detect,
    detect_image,
    run_evaluation,
    segment,
    segment_image,
)
from transxnet.runs.load import TrainedDetector, TrainedSegmenter, load_model
from transxnet.runs.run_folder import Run
from transxnet.runs.training_data import open_run_data

CPU = torch.device("cpu")


class ChannelMeans(nn.Module):
    """Logits of three classes: the mean of each channel, in bfloat16."""

    def forward(self, images: Tensor) -> Tensor:
        return images.mean((2, 3)).bfloat16()


class BrightPixels(nn.Module):
    """A detector of one object: the whole image, scored by its highest value."""

    def forward(self, images: list[Tensor]) -> list[dict[str, Tensor]]:
        assert len(images) == 1
        _, height, width = images[0].shape
        box = torch.tensor([[0.0, 0, width, height]])
        return [{"boxes": box, "labels": torch.ones(1, dtype=torch.long), "scores": images[0].max()[None]}]


class TwoHalves(nn.Module):
    """A segmenter at half resolution: class 2 where the red channel is above 0.5, else class 1."""

    def forward(self, images: Tensor) -> Tensor:
        red = images[:, :1, ::2, ::2]
        return torch.cat([torch.full_like(red, -9), 0.5 - red, red - 0.5], dim=1)


def test_classifier_outputs_are_float32_logits():
    images = torch.rand(4, 3, 8, 8) * 5
    result, _ = classifier_outputs(ChannelMeans(), images, CPU)
    assert result.dtype == torch.float32 and not result.requires_grad
    expected = images.mean((2, 3)).bfloat16().float().numpy()
    np.testing.assert_allclose(result, expected, rtol=0, atol=1e-6)


def test_detect_passes_single_images_in_unit_range():
    images = [torch.full((3, 4, 6), 51, dtype=torch.uint8), torch.full((3, 9, 5), 255, dtype=torch.uint8)]
    results = detect(BrightPixels(), images, CPU)
    assert [result["boxes"].tolist() for result in results] == [[[0, 0, 6, 4]], [[0, 0, 5, 9]]]
    assert [float(result["scores"]) for result in results] == pytest.approx([0.2, 1], abs=1e-6)


def test_segment_returns_labels_at_the_requested_size():
    image = torch.zeros(3, 8, 12, dtype=torch.uint8)
    image[0, :, 6:] = 255
    labels = segment(TwoHalves(), image, (16, 24), CPU)
    assert labels.dtype == np.uint8 and labels.shape == (16, 24)
    assert (labels[:, :10] == 1).all() and (labels[:, 14:] == 2).all()


def test_detect_image_returns_the_detections_of_one_image():
    trained = TrainedDetector(BrightPixels(), "bright", ["spot"], None)
    found = detect_image(trained, torch.full((3, 4, 6), 51, dtype=torch.uint8), CPU)
    assert (found.boxes.tolist(), found.labels.tolist()) == ([[0, 0, 6, 4]], [1])
    assert found.scores.tolist() == pytest.approx([0.2], abs=1e-6)


def test_segment_image_returns_labels_at_the_image_size():
    trained = TrainedSegmenter(TwoHalves(), "halves", ["a", "b", "c"], None, (128, 64))
    image = torch.zeros(3, 40, 80, dtype=torch.uint8)
    image[0, :, 40:] = 255
    labels = segment_image(trained, image, CPU)
    assert labels.dtype == np.uint8 and labels.shape == (40, 80)
    assert (labels[:, :36] == 1).all() and (labels[:, 44:] == 2).all()


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
    evaluation = run_evaluation(trained, images, batch_size=2, workers=0, device=CPU, progress=done.append)
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
    evaluation = run_evaluation(trained, images, batch_size=2, workers=0, device=CPU, progress=done.append)
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
    evaluation = run_evaluation(trained, images, batch_size=2, workers=0, device=CPU, progress=done.append)
    assert done == [2, 3]
    labels = [images.labels(i) for i in range(3)]
    predicted = [evaluation.predicted(i) for i in range(3)]
    assert [m.shape for m in predicted] == [m.shape for m in labels]
    counted = [m != 255 for m in labels]
    correct = sum(int((p == m)[c].sum()) for p, m, c in zip(predicted, labels, counted, strict=True))
    assert np.trace(evaluation.confusion) == correct
    assert evaluation.confusion.sum() == sum(int(c.sum()) for c in counted)
