"""Grad-CAM: against its closed form, of all three kinds of models, and from a command to files."""

import csv
import sys

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from tests.helpers.sample_images import write_pictures
from transxnet import TransXNetFeatures, UserError, create_model
from transxnet.analysis import explain as explaining
from transxnet.analysis.explain import class_index, explain, explain_picture, grad_cam
from transxnet.analysis.explain_cases import NothingFound, make_case
from transxnet.analysis.explain_figure import overlay
from transxnet.cli import main
from transxnet.data.labels import imagenet_synsets
from transxnet.data.transforms import Preprocessing
from transxnet.heads import MaskRCNN, RetinaNet, SemanticFPN
from transxnet.runs.load import TrainedClassifier, TrainedDetector, TrainedSegmenter

pytest.importorskip("pytorch_grad_cam")

OURS = ["stage1", "stage2", "stage3", "idconv", "osra", "ste", "stage4"]
SMALL = "transxnet_n@untrained,depths=(1,1,1,1),layer_scale_init_value=1.0"
CPU = torch.device("cpu")


def body(*out_indices: int) -> TransXNetFeatures:
    size = dict(depths=(1, 1, 1, 1), embed_dims=(16, 16, 32, 32), num_heads=(1, 1, 2, 2), img_size=64)
    return TransXNetFeatures(out_indices, **size)


def picture(width: int = 50, height: int = 70) -> Image.Image:
    pixels = np.random.default_rng(0).integers(0, 255, (height, width, 3))
    return Image.fromarray(pixels.astype(np.uint8))


@pytest.fixture
def classifier() -> TrainedClassifier:
    model = create_model("test_resnet", num_classes=3).eval()
    return TrainedClassifier(model, "test_resnet", ["cat", "dog", "owl"], None, Preprocessing.of_model(model, 64))


@pytest.fixture
def detector() -> TrainedDetector:
    model = RetinaNet(body(1, 2, 3), num_classes=2, min_size=64, max_size=96, score_thresh=0.0).eval()
    return TrainedDetector(model, "retinanet", ["cat", "dog"], None)


@pytest.fixture
def segmenter() -> TrainedSegmenter:
    return TrainedSegmenter(SemanticFPN(body(0, 1, 2, 3), 3).eval(), "fpn", ["sky", "sea", "sand"], None, (64, 64))


def test_convolution_pooling_and_a_linear_head_have_the_classs_weights_as_their_map():
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


def test_a_map_of_negative_reasons_is_empty():
    conv, head = nn.Conv2d(3, 2, 1), nn.Linear(2, 2)
    nn.init.constant_(conv.bias, 10.0)
    nn.init.constant_(head.weight, -1.0)
    model = nn.Sequential(conv, nn.AdaptiveAvgPool2d(1), nn.Flatten(), head).eval()
    found = grad_cam(model, model, torch.rand(1, 3, 8, 8), conv, [lambda logits: logits[0]])
    assert not found.any()


def test_a_classifier_is_explained_for_its_answer_or_for_a_chosen_class(classifier):
    found = explain_picture(classifier, picture())
    images = classifier.preprocessing.transform()(picture())[None]
    with torch.no_grad():
        probabilities = classifier.model(images)[0].softmax(0)
    assert found.class_name == classifier.class_names[int(probabilities.argmax())]
    assert found.score == pytest.approx(float(probabilities.max()))
    assert list(found.maps) == ["stage1", "stage2", "stage3", "stage4"]
    assert found.picture.shape == (64, 64, 3)
    for heat in found.maps.values():
        assert heat.shape == (64, 64)
        assert (heat.min(), heat.max()) in [(0.0, pytest.approx(1.0, abs=1e-3)), (0.0, 0.0)]
    other = (found.class_index + 1) % 3
    assert explain_picture(classifier, picture(), other).class_name == classifier.class_names[other]


def test_the_picture_that_the_network_saw_is_shown(classifier):
    case = make_case(classifier, Image.new("RGB", (90, 70), (200, 30, 120)), None, CPU)
    np.testing.assert_allclose(case.picture, np.full((64, 64, 3), (200, 30, 120)), rtol=0, atol=1)


def test_a_detector_is_explained_by_the_scores_of_its_finds(detector):
    found = explain_picture(detector, picture())
    with torch.no_grad():
        (answer,) = detector.model([torch.from_numpy(np.asarray(picture())).permute(2, 0, 1).float() / 255])
    assert list(found.maps) == OURS
    assert all(heat.shape == (70, 50) for heat in found.maps.values())
    assert found.score == pytest.approx(float(answer["scores"].max()))
    assert found.class_index == int(answer["labels"][answer["scores"].argmax()]) - 1
    assert found.found is not None
    assert len(found.found.boxes) == 1  # none is sure, so the best alone
    chosen = explain_picture(detector, picture(), 1 - found.class_index)
    assert chosen.found is not None
    assert chosen.found.labels.tolist() == [2 - found.class_index]


def test_masks_go_with_their_finds():
    model = MaskRCNN(body(0, 1, 2, 3), num_classes=2, min_size=64, max_size=96, score_thresh=0.0).eval()
    found = explain_picture(TrainedDetector(model, "maskrcnn", ["cat", "dog"], None), picture())
    assert found.found is not None
    assert found.found.masks is not None
    assert len(found.found.masks) == 1


def test_the_part_of_a_map_that_was_filled_up_is_cut_off(detector):
    """50x70 is resized to 64x90, of which a map of 64x96 is made: the upper 90/96 of it is the image's."""
    case = make_case(detector, picture(), None, CPU)
    assert case.seen == (90 / 96, 1.0)
    ramp = np.repeat(np.linspace(0, 1, 700, dtype=np.float32)[:, None], 50, axis=1)
    seen = case.within(ramp)
    assert seen.shape == ramp.shape
    np.testing.assert_allclose(seen[:, 0], np.linspace(0, 90 / 96, 700), rtol=0, atol=2e-3)


def test_a_segmenter_is_explained_by_the_pixels_of_a_class(segmenter):
    found = explain_picture(segmenter, picture())
    assert list(found.maps) == OURS
    assert found.labels is not None
    counts = np.bincount(found.labels.ravel(), minlength=3)
    assert found.class_index == counts.argmax()
    assert found.score == pytest.approx(counts.max() / counts.sum())
    assert found.maps["stage4"].shape == found.labels.shape == found.picture.shape[:2]


def test_where_there_is_nothing_of_the_class_nothing_is_explained(detector, segmenter):
    detector.model.score_thresh = 0.999
    with pytest.raises(NothingFound, match="finds nothing"):
        explain_picture(detector, picture())
    with pytest.raises(NothingFound, match="finds no 'dog'"):
        explain_picture(detector, picture(), 1)
    nn.init.constant_(segmenter.model.head.classifier.bias, 0.0)
    with torch.no_grad():
        segmenter.model.head.classifier.bias[2] = -1e4
    with pytest.raises(NothingFound, match="no pixel of it to 'sand'"):
        explain_picture(segmenter, picture(), 2)


def test_classes_are_found_by_name_and_by_word(classifier):
    assert class_index(classifier, "owl") == 2
    with pytest.raises(UserError, match=r"no class 'owls'\. Did you mean 'owl'.* Accepted: cat, dog, owl"):
        class_index(classifier, "owls")
    imagenet = TrainedClassifier(classifier.model, "net", list(imagenet_synsets()), None, classifier.preprocessing)
    assert class_index(imagenet, "tabby") == class_index(imagenet, "n02123045") == 281


def test_without_the_package_it_is_said_what_to_install(classifier, monkeypatch, tmp_path, capsys):
    monkeypatch.setitem(sys.modules, "pytorch_grad_cam", None)  # as if it were not installed
    with pytest.raises(UserError, match=r"pip install 'transxnet\[explain\]'"):
        explain_picture(classifier, picture())
    assert main(["explain", SMALL, str(tmp_path)]) == 2
    assert "transxnet[explain]" in capsys.readouterr().err


def test_a_network_that_cannot_be_explained_is_an_error_and_no_crash(classifier, monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(explaining, "grad_cam", lambda *args: 1 / 0)
    with pytest.raises(UserError, match="Grad-CAM fails on this network: ZeroDivisionError"):
        explain_picture(classifier, picture())
    write_pictures(tmp_path, 1)
    assert main(["explain", "test_resnet@untrained", str(tmp_path)]) == 2
    assert "Grad-CAM fails on this network: ZeroDivisionError" in capsys.readouterr().err


def test_colours_lie_half_over_the_picture():
    grey = np.full((2, 1, 3), 100, np.uint8)
    drawn = overlay(grey, np.array([[0.0], [1.0]]))
    assert drawn[1, 0, 0] > drawn[0, 0, 0]  # the highest is red
    assert drawn.min() >= 50
    assert drawn.max() <= 178


def test_the_command_writes_panels_and_a_table_and_goes_on_after_a_bad_file(tmp_path, capsys):
    first, second = write_pictures(tmp_path / "photos", 2)
    second.write_text("no picture")
    words = ["explain", SMALL, str(tmp_path / "photos"), "--class-name", "tabby", "--out", str(tmp_path / "out")]
    assert main(words) == 0
    assert "tabby" in capsys.readouterr().out
    rows = list(csv.DictReader((tmp_path / "out" / "explanations.csv").open()))
    assert [(row["path"], row["class"], row["picture"]) for row in rows] == [
        (str(first), "tabby", "0001-00.png"),
        (str(second), "", ""),
    ]
    assert "not an image" in rows[1]["error"]
    assert Image.open(tmp_path / "out" / "0001-00.png").width > 800
    assert main(words) == 2
    assert "--overwrite" in capsys.readouterr().err
    assert main([*words[:3], "--class-name", "tabbi", "--out", str(tmp_path / "other")]) == 2
    assert "Did you mean" in capsys.readouterr().err
    assert not (tmp_path / "other").exists()


def test_one_place_alone_and_nothing_written_unless_asked(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_pictures(tmp_path / "photos", 1)
    (found,) = explain("test_resnet@untrained:layer2", "photos", out=None)
    assert list(found.maps) == ["layer2"]
    assert [path.name for path in tmp_path.iterdir()] == ["photos"]
    with pytest.raises(UserError, match=r"no place 'layer9'\. Did you mean 'layer"):
        explain("test_resnet@untrained:layer9", "photos", out=None)


def test_dense_models_are_drawn_with_what_they_found(detector, segmenter):
    from transxnet.analysis.explain_figure import draw

    for trained in (detector, segmenter):
        figure = draw(explain_picture(trained, picture()), trained.name, untrained=True)
        assert len(figure.axes) == 1 + len(OURS) + 1
