"""Grad-CAM against its closed form, and on classifiers, detectors and segmenters."""

import sys

import numpy as np
import pytest
import torch
from torch import nn

from tests.helpers.sample_images import noise_image, write_images
from transxnet import UserError
from transxnet.analysis import grad_cam as grad_cam_module
from transxnet.analysis.explanation_targets import NothingToExplain
from transxnet.analysis.grad_cam import explain_image, find_class, grad_cam
from transxnet.cli import main
from transxnet.data.formats.class_alignment import imagenet_synsets
from transxnet.heads import MaskRCNN
from transxnet.runs.trained_models import TrainedClassifier, TrainedDetector

pytest.importorskip("pytorch_grad_cam")


OURS = ["stage1", "stage2", "stage3", "idconv", "osra", "ste", "stage4"]


SMALL = "transxnet_n@untrained,depths=(1,1,1,1),layer_scale_init_value=1.0"


def test_grad_cam_of_conv_pool_linear_matches_closed_form():
    """d score_k / d A_c is w_kc / (H W) everywhere, so the map is relu(sum_c w_kc A_c), scaled."""
    conv, head = nn.Conv2d(3, 6, 3, padding=1), nn.Linear(6, 4)
    model = nn.Sequential(conv, nn.AdaptiveAvgPool2d(1), nn.Flatten(), head).eval()
    images = torch.randn(2, 3, 12, 9)
    found = grad_cam(model, model, images, conv, [lambda logits: logits[1], lambda logits: logits[3]])
    assert found.shape == (2, 12, 9)
    with torch.no_grad():
        features = conv(images)
    for b, k in enumerate((1, 3)):
        expected = torch.einsum("c,chw->hw", head.weight[k], features[b]).clamp(min=0).detach().numpy()
        expected = (expected - expected.min()) / (expected.max() - expected.min())
        np.testing.assert_allclose(found[b], expected, rtol=0, atol=1e-4)
    assert all(parameter.grad is None for parameter in model.parameters())
    assert not conv._forward_hooks


def test_grad_cam_of_negative_evidence_is_zero():
    conv, head = nn.Conv2d(3, 2, 1), nn.Linear(2, 2)
    nn.init.constant_(conv.bias, 10.0)
    nn.init.constant_(head.weight, -1.0)
    model = nn.Sequential(conv, nn.AdaptiveAvgPool2d(1), nn.Flatten(), head).eval()
    found = grad_cam(model, model, torch.rand(1, 3, 8, 8), conv, [lambda logits: logits[0]])
    assert not found.any()


def test_classifier_explains_top_class_or_chosen_class(classifier):
    found = explain_image(classifier, noise_image())
    images = classifier.preprocessing.transform()(noise_image())[None]
    with torch.no_grad():
        probabilities = classifier.model(images)[0].softmax(0)
    assert found.class_name == classifier.class_names[int(probabilities.argmax())]
    assert found.score == pytest.approx(float(probabilities.max()))
    assert list(found.maps) == ["stage1", "stage2", "stage3", "stage4"]
    assert found.image.shape == (64, 64, 3)
    for heat in found.maps.values():
        assert heat.shape == (64, 64)
        assert (heat.min(), heat.max()) in [(0.0, pytest.approx(1.0, abs=1e-3)), (0.0, 0.0)]
    other = (found.class_index + 1) % 3
    assert explain_image(classifier, noise_image(), other).class_name == classifier.class_names[other]


def test_detector_explains_the_scores_of_its_detections(detector):
    found = explain_image(detector, noise_image())
    with torch.no_grad():
        (output,) = detector.model([torch.from_numpy(np.asarray(noise_image())).permute(2, 0, 1).float() / 255])
    assert list(found.maps) == OURS
    assert all(heat.shape == (70, 50) for heat in found.maps.values())
    assert found.score == pytest.approx(float(output["scores"].max()))
    assert found.class_index == int(output["labels"][output["scores"].argmax()]) - 1
    assert found.found is not None
    assert len(found.found.boxes) == 1  # no score reaches the threshold, so only the best one
    chosen = explain_image(detector, noise_image(), 1 - found.class_index)
    assert chosen.found is not None
    assert chosen.found.labels.tolist() == [2 - found.class_index]


@pytest.mark.long
def test_mask_rcnn_explanation_has_masks(body):
    model = MaskRCNN(body(0, 1, 2, 3), num_classes=2, min_size=64, max_size=96, score_thresh=0.0).eval()
    found = explain_image(TrainedDetector(model, "maskrcnn", ["cat", "dog"], None), noise_image())
    assert found.found is not None
    assert found.found.masks is not None
    assert len(found.found.masks) == 1


def test_segmenter_explains_the_pixels_of_a_class(segmenter):
    found = explain_image(segmenter, noise_image())
    assert list(found.maps) == OURS
    assert found.labels is not None
    counts = np.bincount(found.labels.ravel(), minlength=3)
    assert found.class_index == counts.argmax()
    assert found.score == pytest.approx(counts.max() / counts.sum())
    assert found.maps["stage4"].shape == found.labels.shape == found.image.shape[:2]


def test_absent_class_is_not_explained(detector, segmenter):
    detector.model.score_thresh = 0.999
    with pytest.raises(NothingToExplain, match="no detections in this image"):
        explain_image(detector, noise_image())
    with pytest.raises(NothingToExplain, match="no detections of 'dog' in this image"):
        explain_image(detector, noise_image(), 1)
    nn.init.constant_(segmenter.model.head.classifier.bias, 0.0)
    with torch.no_grad():
        segmenter.model.head.classifier.bias[2] = -1e4
    with pytest.raises(NothingToExplain, match="no pixel is predicted as 'sand'"):
        explain_image(segmenter, noise_image(), 2)


def test_find_class_by_name_and_by_words(classifier):
    assert find_class(classifier, "owl") == 2
    with pytest.raises(UserError, match=r"no class 'owls'\. Did you mean 'owl'.* Accepted: cat, dog, owl"):
        find_class(classifier, "owls")
    imagenet = TrainedClassifier(classifier.model, "net", list(imagenet_synsets()), None, classifier.preprocessing)
    assert find_class(imagenet, "tabby") == find_class(imagenet, "n02123045") == 281


def test_missing_package_is_an_error_that_names_the_extra(classifier, monkeypatch, tmp_path, capsys):
    monkeypatch.setitem(sys.modules, "pytorch_grad_cam", None)  # as if it were not installed
    with pytest.raises(UserError, match=r"pip install 'transxnet\[explain\]'"):
        explain_image(classifier, noise_image())
    assert main(["explain", SMALL, str(tmp_path)]) == 2
    assert "transxnet[explain]" in capsys.readouterr().err


def test_failing_network_is_a_user_error(classifier, monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(grad_cam_module, "grad_cam", lambda *args: 1 / 0)
    with pytest.raises(UserError, match="Grad-CAM failed on this network: ZeroDivisionError"):
        explain_image(classifier, noise_image())
    write_images(tmp_path, 1)
    assert main(["explain", "test_resnet@untrained", str(tmp_path)]) == 2
    assert "Grad-CAM failed on this network: ZeroDivisionError" in capsys.readouterr().err
