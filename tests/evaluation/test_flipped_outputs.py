"""Test-time augmentation: an image and its horizontal flip give the same outputs, flipped."""

import numpy as np
import pytest
import torch
from PIL import Image

from transxnet.evaluation.flipped_outputs import merge_detections
from transxnet.evaluation.inference_backends import InferenceBackend, TrainedBackend
from transxnet.prediction.loaded_model import LoadedModel
from transxnet.runs.load import load_model
from transxnet.utils.errors import UserError


@pytest.fixture(params=["photos_run", "labels_run", "values_run"])
def classifier(request) -> InferenceBackend:
    return TrainedBackend(load_model(request.getfixturevalue(request.param).path), torch.device("cpu"))


def test_classifier_outputs_are_means_over_both_flips(classifier):
    side = classifier.preprocessing.img_size
    images = torch.rand(2, 3, side, side)
    whole, flipped = (classifier.targets.activate(classifier.classify(each)[0]) for each in (images, images.flip(-1)))
    found, features = classifier.with_tta().predict(images, features=True)
    torch.testing.assert_close(found, (whole + flipped) / 2)
    torch.testing.assert_close(features, classifier.classify(images, features=True)[1])
    torch.testing.assert_close(classifier.predict(images)[0], whole)


@pytest.mark.parametrize("tile", [None, 32])
def test_segmenter_labels_have_the_highest_mean_probability(maps_run, tile):
    backend = TrainedBackend(load_model(maps_run.path), torch.device("cpu"))
    backend = (backend if tile is None else LoadedModel(backend).with_options(tile).backend).with_tta()
    image = torch.randint(0, 256, (3, 48, 64), dtype=torch.uint8)
    np.testing.assert_array_equal(backend.segment(image.flip(-1)), backend.segment(image)[:, ::-1])
    if tile is None:
        logits = [backend.segmenter_logits(image), backend.segmenter_logits(image.flip(-1)).flip(-1)]
        expected = torch.stack(logits).softmax(1).mean(0).argmax(0)
        np.testing.assert_array_equal(backend.segment(image), expected.numpy())


def test_boxes_of_the_flip_are_mirrored_and_merged_by_nms():
    masks = torch.zeros(2, 4, 20, dtype=torch.bool)
    masks[0, :, :5] = masks[1, :, 12:] = True
    whole = {
        "boxes": torch.tensor([[0.0, 0, 5, 4], [12, 0, 20, 4]]),
        "labels": torch.tensor([1, 2]),
        "scores": torch.tensor([0.9, 0.3]),
        "masks": masks,
    }
    flipped = {
        "boxes": torch.tensor([[0.0, 0, 8, 4], [14, 0, 20, 4], [9, 0, 11, 4]]),
        "labels": torch.tensor([2, 1, 1]),
        "scores": torch.tensor([0.5, 0.4, 0.2]),
        "masks": masks.flip(-1)[[1, 0, 0]],
    }
    merged = merge_detections(whole, flipped, 20)
    assert merged["labels"].tolist() == [1, 2, 1]
    assert merged["boxes"].tolist() == [[0, 0, 5, 4], [12, 0, 20, 4], [9, 0, 11, 4]]
    torch.testing.assert_close(merged["scores"], torch.tensor([0.9, 0.5, 0.2]))
    assert torch.equal(merged["masks"], masks[[0, 1, 0]])


def test_detector_finds_the_mirrored_objects_in_the_flip(finding_run):
    backend = TrainedBackend(load_model(finding_run.path), torch.device("cpu")).with_tta()
    image = torch.randint(0, 256, (3, 48, 64), dtype=torch.uint8)
    one, other = backend.detector_output(image), backend.detector_output(image.flip(-1))
    assert 0 < len(one["scores"]) <= 100
    torch.testing.assert_close(one["scores"], other["scores"])
    torch.testing.assert_close(one["boxes"][:5, [2, 0]], 64 - other["boxes"][:5, [0, 2]])


def test_predict_takes_tta(photos_run):
    model = LoadedModel(TrainedBackend(load_model(photos_run.path), torch.device("cpu")))
    image = Image.effect_noise((40, 40), 90).convert("RGB")
    found = model.predict(image, tta=True).probabilities
    prepared = model.transform(image)
    expected = (model.module(torch.stack([prepared, prepared.flip(-1)]))).softmax(1).mean(0)
    np.testing.assert_allclose(found, expected.detach().numpy(), atol=1e-5)
    with pytest.raises(UserError, match="tile is for detectors"):
        model.with_options(tile=32, tta=True)
