"""The page gives the results of predict and explain, with limits on its inputs."""

import logging
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from transxnet.analysis.explain import explain_image
from transxnet.evaluation.inference_backends import TrainedBackend
from transxnet.prediction.image_results import pixel_shares
from transxnet.prediction.loaded_model import LoadedModel, load
from transxnet.reports.drawing import background_class
from transxnet.runs.load import load_model
from transxnet.runs.trained_models import TrainedClassifier, TrainedModel
from transxnet.utils.errors import UserError
from transxnet.web import page_model
from transxnet.web.example_images import find_examples
from transxnet.web.page_model import PageModel, rounded_percent
from transxnet.web.uploads import resize_for_browser

OURS = ["stage1", "stage2", "stage3", "idconv", "osra", "ste", "stage4"]


@pytest.fixture(scope="module")
def classifier(photos_run) -> TrainedModel:
    return load_model(photos_run.path)


@pytest.fixture(scope="module")
def detector(boxes_run) -> TrainedModel:
    return load_model(boxes_run.path)


@pytest.fixture(scope="module")
def mask_detector(masks_run) -> TrainedModel:
    return load_model(masks_run.path)


@pytest.fixture(scope="module")
def segmenter(maps_run) -> TrainedModel:
    return load_model(maps_run.path)


@pytest.fixture
def noise(tmp_path):
    """An image file of 70x50 pixels."""
    pixels = np.random.default_rng(0).integers(0, 255, (50, 70, 3))
    Image.fromarray(pixels.astype(np.uint8)).save(tmp_path / "noise.png")
    return tmp_path / "noise.png"


def predicted(trained: TrainedModel, path: Path) -> Any:
    return LoadedModel(TrainedBackend(trained, torch.device("cpu"))).predict(path)


def test_classes_equal_those_of_predict(classifier, noise):
    expected = predicted(classifier, noise)
    result = PageModel(classifier).predict(Image.open(noise).convert("RGB"))
    assert [(row.name, row.share) for row in result.rows] == [
        (name, pytest.approx(probability, abs=1e-6)) for name, probability in expected.top()
    ]
    assert sum(row.share for row in result.rows) == pytest.approx(1, abs=1e-5)
    assert (result.headline, result.more, result.detections) == (expected.label, 0, None)


def test_only_the_top_classes_are_named_in_words(classifier, noise, monkeypatch):
    names = ["n02119789", "n03709823", "n03710637"]  # kit fox, mailbag, and maillot, a name that ImageNet has twice
    result = PageModel(replace(classifier, class_names=names)).predict(Image.open(noise))
    assert {row.name for row in result.rows} == {"kit fox", "mailbag", "maillot"}
    monkeypatch.setattr(page_model, "TOP_K", 2)
    result = PageModel(classifier).predict(Image.open(noise))
    assert (len(result.rows), result.more) == (2, 1)


@pytest.mark.parametrize("kind", ["detector", "mask_detector"])
def test_detections_equal_those_of_predict_above_the_min_score(kind, noise, request):
    detector = request.getfixturevalue(kind)
    expected = predicted(detector, noise)
    image = Image.open(noise).convert("RGB")
    model = PageModel(detector)
    scores = expected.detections.scores
    assert len(scores) > 2
    threshold = float(scores[2])
    result = model.predict(image, threshold)
    assert result.detections is not None
    np.testing.assert_allclose(result.detections.boxes, expected.detections.boxes, rtol=0, atol=1e-3)
    assert (result.detections.masks is None) == (kind == "detector")
    if result.detections.masks is not None:
        np.testing.assert_array_equal(result.detections.masks, expected.detections.masks)
    assert result.headline == f"{(scores >= threshold).sum()} detections"
    shown = min((scores >= threshold).sum(), page_model.MAX_ROWS)
    assert [row.share for row in result.rows] == pytest.approx(scores[:shown].tolist(), abs=1e-6)
    assert len(result.rows) + result.more == (scores >= threshold).sum()
    again = model.filter(image, result.detections, 1.01)
    assert (again.headline, again.rows, again.more) == ("No detections", [], 0)
    assert again.notes[0].startswith("Best detection below the score threshold: ")
    assert again.detections is result.detections
    enlarged = image.resize((8 * image.width, 8 * image.height))  # to a longer side of at least 512 pixels
    np.testing.assert_array_equal(np.asarray(again.image), np.asarray(resize_for_browser(enlarged)))  # nothing is drawn


def test_label_map_equals_that_of_predict(segmenter, noise):
    expected = predicted(segmenter, noise)
    result = PageModel(segmenter).predict(Image.open(noise).convert("RGB"))
    counts = np.bincount(expected.label_map.ravel(), minlength=3) / expected.label_map.size
    found = {row.name.removesuffix(" (not tinted)"): row.share for row in result.rows}
    assert found == {name: pytest.approx(n) for name, n in zip(segmenter.class_names, counts, strict=True) if n}
    untinted = segmenter.class_names[background_class(expected.label_map, segmenter.class_names)]
    assert [row.name for row in result.rows if not row.color] == [f"{untinted} (not tinted)"]


def test_pixel_shares_are_sorted_and_omit_absent_classes():
    rows = pixel_shares(np.array([[2, 2, 2], [0, 2, 0]], np.uint8))
    assert rows == [(2, pytest.approx(4 / 6)), (0, pytest.approx(2 / 6))]


@pytest.mark.parametrize("kind", ["detector", "segmenter"])
def test_large_images_are_downsized_for_dense_models_with_a_note(kind, request, monkeypatch):
    monkeypatch.setattr(page_model, "MAX_DENSE_PIXELS", 5000)
    result = PageModel(request.getfixturevalue(kind)).predict(Image.new("RGB", (200, 100), "gray"))
    assert result.notes[-1] == "The image was resized from 200x100 to 100x50 pixels for the model."


@pytest.mark.parametrize("layer", ["idconv", "stage4"])
def test_heat_map_equals_that_of_explain(classifier, noise, layer):
    model = PageModel(classifier)
    assert list(model.layers) == OURS
    image = Image.open(noise).convert("RGB")
    heat_map = model.explain(image, layer, 1)
    expected = explain_image(classifier, image, 1, {layer: model.layers[layer]})
    assert (heat_map.class_name, heat_map.layer) == ("green", expected.titles[layer])
    assert heat_map.empty == (not expected.maps[layer].any())
    assert heat_map.image.size == (448, 448)  # 64 pixels, upscaled
    seen = Image.fromarray(expected.image).resize((448, 448), Image.Resampling.BICUBIC)
    assert np.abs(np.asarray(heat_map.image).astype(int) - np.asarray(seen)).max() > 50  # overlaid with colors


@pytest.mark.long
@pytest.mark.parametrize("kind", ["detector", "mask_detector", "segmenter"])
def test_dense_models_are_explained(kind, noise, request):
    model = PageModel(request.getfixturevalue(kind))
    heat_map = model.explain(Image.open(noise).convert("RGB"), "stage4")
    assert heat_map.class_name in model.class_names


def test_failures_of_grad_cam_are_user_errors(classifier, segmenter, noise, caplog):
    image = Image.open(noise).convert("RGB")
    model = PageModel(classifier)
    with pytest.raises(UserError, match=r"no layer 'stage9'. Accepted: stage1"):
        model.explain(image, "stage9")
    constant = deepcopy(segmenter)
    with torch.no_grad():
        constant.model.head.classifier.bias[0] = 1e6
    assert [row.name for row in PageModel(constant).predict(image).rows] == [f"{segmenter.class_names[0]} (not tinted)"]
    with pytest.raises(UserError, match="no pixel is predicted as"):
        PageModel(constant).explain(image, "stage4", 1)
    with pytest.raises(UserError, match=r"Grad-CAM failed on this network: IndexError"), caplog.at_level(logging.ERROR):
        model.explain(image, "stage4", 99)
    assert "Traceback" in caplog.text


def test_model_without_grad_cam_still_predicts(classifier, noise, monkeypatch):
    assert isinstance(classifier, TrainedClassifier)
    monkeypatch.setattr(page_model, "require_grad_cam", lambda: (_ for _ in ()).throw(UserError("install it")))
    model = PageModel(classifier)
    assert (model.layers, model.why_no_layers) == ({}, "install it")
    assert model.predict(Image.open(noise)).rows


@pytest.mark.parametrize(
    ("share", "text"),
    [(0.0, "0%"), (0.009, "<1%"), (0.01, "1%"), (0.934, "93%"), (0.991, ">99%"), (1.0, "100%")],
)
def test_percentages_never_claim_certainty(share, text):
    assert rounded_percent(share) == text


def test_title_and_description_name_data_classes_and_metric(photos_run, boxes_run):
    model = PageModel(load_model(photos_run.path))
    assert model.title.endswith(" on photos")
    assert model.description == "Classifier of 3 classes: blue, green, red."
    assert PageModel(load_model(boxes_run.path)).description == "Detector of 2 classes: red, blue."
    photos_run.results_file.write_text('{"images": 3, "accuracy": 0.6667}')
    try:
        assert model.description.endswith("Accuracy: 66.7% on 3 validation images.")
        photos_run.results_file.write_text("{")
        with pytest.raises(UserError, match=r"results\.json is damaged"):
            _ = model.description
    finally:
        photos_run.results_file.unlink()


def test_labels_and_values_are_shown_as_predicted(labels_run, values_run, noise):
    model = PageModel(load_model(labels_run.path))
    result, expected = model.predict(noise), load(labels_run.path).predict(noise)
    assert result.headline == (", ".join(expected.labels) or "No label")
    assert [(row.name, row.share) for row in result.rows] == expected.top()
    assert model.description.startswith("Multi-label classifier of 2 labels: red, green. Mean AP of the labels: ")
    model = PageModel(load_model(values_run.path))
    result = model.predict(noise)
    assert (result.headline, result.rows) == (f"redness: {load(values_run.path).predict(noise).value:#.4g}", [])
    r2 = f"R2: {values_run.results['r2']:.3f} on 24 validation images."
    assert model.description == f"Regression of redness. {r2}"


def test_examples_show_labels_or_the_value(labels_run, values_run, console):
    examples, _ = find_examples(load_model(labels_run.path), 4, console)
    assert set(examples.captions) <= {"red", "green", "red, green", "no label"}
    examples, _ = find_examples(load_model(values_run.path), 4, console)
    assert all(100 <= float(caption) <= 150 for caption in examples.captions)
