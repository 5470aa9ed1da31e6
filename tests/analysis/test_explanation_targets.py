"""The scores that Grad-CAM explains, and the images they belong to."""

from copy import deepcopy
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from tests.helpers.sample_images import noise_image
from transxnet.analysis.explanation_targets import explanation_target
from transxnet.analysis.grad_cam import Explanation
from transxnet.metrics.targets import MultiLabelTargets, RegressionTargets

CPU = torch.device("cpu")


def test_classifier_target_has_the_preprocessed_image(classifier):
    target = explanation_target(classifier, Image.new("RGB", (90, 70), (200, 30, 120)), None, CPU)
    np.testing.assert_allclose(target.image, np.full((64, 64, 3), (200, 30, 120)), rtol=0, atol=1)


def test_padding_is_cropped_from_detector_maps(detector):
    """50x70 is resized to 64x90 and padded to 64x96; the upper 90/96 of the map belongs to the image."""
    target = explanation_target(detector, noise_image(), None, CPU)
    assert target.seen == (90 / 96, 1.0)
    ramp = np.repeat(np.linspace(0, 1, 700, dtype=np.float32)[:, None], 50, axis=1)
    seen = target.within(ramp)
    assert seen.shape == ramp.shape
    np.testing.assert_allclose(seen[:, 0], np.linspace(0, 90 / 96, 700), rtol=0, atol=2e-3)


def test_target_of_labels_is_the_logit_of_one_label(classifier):
    labels = replace(classifier, targets=MultiLabelTargets([0.5] * len(classifier.class_names)))
    image = noise_image()
    target = explanation_target(labels, image, 1, CPU)
    logits = classifier.model(target.images)[0]
    assert target.score == pytest.approx(logits[1].sigmoid().item(), abs=1e-5)
    assert target.score_of(logits) == logits[1]
    assert explanation_target(labels, image, None, CPU).class_index == logits.argmax()


def test_score_of_a_regression_is_the_value(classifier):
    values = replace(classifier, targets=RegressionTargets(100.0, 10.0))
    target = explanation_target(values, noise_image(), 0, CPU)
    logit = classifier.model(target.images)[0, 0]
    assert target.score == pytest.approx(100 + 10 * logit.item(), rel=1e-5)
    explained = Explanation("", target.image, "mass", 0, 123.456, {}, {}, is_value=True)
    assert explained.score_text == "123.5"


def test_background_is_explained_only_if_nothing_else_occurs(segmenter):
    image = noise_image()
    first = explanation_target(segmenter, image, None, CPU).class_index
    names = ["Background" if i == first else name for i, name in enumerate(segmenter.class_names)]
    other = explanation_target(replace(segmenter, class_names=names), image, None, CPU)
    assert other.class_index != first
    assert (other.labels == other.class_index).any()
    constant = deepcopy(segmenter)
    with torch.no_grad():
        constant.model.head.classifier.bias[first] = 1e6
    assert explanation_target(replace(constant, class_names=names), image, None, CPU).class_index == first
