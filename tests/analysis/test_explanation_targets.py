"""The scores that Grad-CAM explains, and the images they belong to."""

import numpy as np
import torch
from PIL import Image

from tests.helpers.sample_images import noise_image
from transxnet.analysis.explanation_targets import explanation_target

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
