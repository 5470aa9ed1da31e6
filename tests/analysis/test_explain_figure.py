"""The figure of an explanation."""

import numpy as np
import pytest

from tests.helpers.sample_images import noise_image
from transxnet.analysis.explain_figure import draw, overlay
from transxnet.analysis.grad_cam import explain_image

pytest.importorskip("pytorch_grad_cam")


OURS = ["stage1", "stage2", "stage3", "idconv", "osra", "ste", "stage4"]


def test_overlay_blends_image_and_colors_equally():
    gray = np.full((2, 1, 3), 100, np.uint8)
    drawn = overlay(gray, np.array([[0.0], [1.0]]))
    assert drawn[1, 0, 0] > drawn[0, 0, 0]  # the maximum is red
    assert drawn.min() >= 50
    assert drawn.max() <= 178


def test_figure_of_dense_models_has_all_parts(detector, segmenter):
    for trained in (detector, segmenter):
        figure = draw(explain_image(trained, noise_image()), trained.name, untrained=True)
        assert len(figure.axes) == 1 + len(OURS) + 1
