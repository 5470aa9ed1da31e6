"""What the page answers: the same as predict and explain do, and with bounds on what it takes."""

import logging
from copy import deepcopy
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from transxnet.analysis.grad_cam import explain_image
from transxnet.prediction.classes import predict_images
from transxnet.prediction.classifier_backends import classifier_predictor
from transxnet.prediction.dense import find_objects, label_pixels
from transxnet.runs.load import TrainedClassifier, TrainedModel, load_trained
from transxnet.utils.errors import UserError
from transxnet.web import answers
from transxnet.web.answers import Answerer, percent, shares
from transxnet.web.uploads import for_the_browser

OURS = ["stage1", "stage2", "stage3", "idconv", "osra", "ste", "stage4"]


@pytest.fixture(scope="module")
def classifier(photos_run) -> TrainedModel:
    return load_trained(photos_run.path)


@pytest.fixture(scope="module")
def detector(boxes_run) -> TrainedModel:
    return load_trained(boxes_run.path)


@pytest.fixture(scope="module")
def mask_detector(masks_run) -> TrainedModel:
    return load_trained(masks_run.path)


@pytest.fixture(scope="module")
def segmenter(maps_run) -> TrainedModel:
    return load_trained(maps_run.path)


@pytest.fixture
def noise(tmp_path):
    """A picture in a file, 70x50."""
    pixels = np.random.default_rng(0).integers(0, 255, (50, 70, 3))
    Image.fromarray(pixels.astype(np.uint8)).save(tmp_path / "noise.png")
    return tmp_path / "noise.png"


def test_classes_are_those_of_predict(classifier, noise):
    (expected,) = predict_images(classifier_predictor(classifier), [noise])
    answer = Answerer(classifier).answer(Image.open(noise).convert("RGB"))
    assert [row.name for row in answer.rows] == expected.classes
    assert [row.share for row in answer.rows] == pytest.approx(expected.probabilities, abs=1e-6)
    assert sum(row.share for row in answer.rows) == pytest.approx(1, abs=1e-5)
    assert (answer.headline, answer.more, answer.found) == (expected.classes[0], 0, None)


def test_of_many_classes_the_likeliest_are_named_in_words_and_the_rest_counted(classifier, noise, monkeypatch):
    names = ["n02119789", "n03709823", "n03710637"]  # kit fox, mailbag, and maillot, which ImageNet has twice
    answer = Answerer(replace(classifier, class_names=names)).answer(Image.open(noise))
    assert {row.name for row in answer.rows} == {"kit fox", "mailbag", "maillot"}
    monkeypatch.setattr(answers, "TOP_K", 2)
    answer = Answerer(classifier).answer(Image.open(noise))
    assert (len(answer.rows), answer.more) == (2, 1)


@pytest.mark.parametrize("kind", ["detector", "mask_detector"])
def test_objects_are_those_of_predict_and_the_least_score_chooses_among_them(kind, noise, request):
    detector = request.getfixturevalue(kind)
    (expected,) = find_objects(detector, [noise])
    assert expected.found is not None
    picture = Image.open(noise).convert("RGB")
    answerer = Answerer(detector)
    scores = expected.found.scores
    assert len(scores) > 2
    least = float(scores[2])
    answer = answerer.answer(picture, least)
    assert answer.found is not None
    np.testing.assert_allclose(answer.found.boxes, expected.found.boxes, rtol=0, atol=1e-3)
    assert (answer.found.masks is None) == (kind == "detector")
    if answer.found.masks is not None:
        np.testing.assert_array_equal(answer.found.masks, expected.found.masks)
    assert answer.headline == f"{(scores >= least).sum()} objects"
    shown = min((scores >= least).sum(), answers.MOST_ROWS)
    assert [row.share for row in answer.rows] == pytest.approx(scores[:shown].tolist(), abs=1e-6)
    assert len(answer.rows) + answer.more == (scores >= least).sum()
    again = answerer.with_least(picture, answer.found, 1.01)
    assert (again.headline, again.rows, again.more) == ("Nothing found", [], 0)
    assert "falls short" in again.notes[0]
    assert again.found is answer.found
    np.testing.assert_array_equal(np.asarray(again.picture), np.asarray(for_the_browser(picture)))  # nothing is drawn


def test_labelled_pixels_are_those_of_predict(segmenter, noise):
    (expected,) = label_pixels(segmenter, [noise])
    answer = Answerer(segmenter).answer(Image.open(noise).convert("RGB"))
    counts = np.bincount(expected.labels.ravel(), minlength=3) / expected.labels.size
    found = {row.name: row.share for row in answer.rows}
    assert found == {name: pytest.approx(n) for name, n in zip(segmenter.class_names, counts, strict=True) if n}
    assert all(row.colour for row in answer.rows)


def test_shares_are_sorted_and_leave_out_what_does_not_occur():
    rows = shares(np.array([[2, 2, 2], [0, 2, 0]], np.uint8), ["sky", "sea", "sand"])
    assert [(row.name, row.share) for row in rows] == [("sand", pytest.approx(4 / 6)), ("sky", pytest.approx(2 / 6))]


@pytest.mark.parametrize("kind", ["detector", "segmenter"])
def test_large_pictures_are_reduced_for_what_takes_memory_by_the_pixel_and_it_is_said(kind, request, monkeypatch):
    monkeypatch.setattr(answers, "DENSE_PIXELS", 5000)
    answer = Answerer(request.getfixturevalue(kind)).answer(Image.new("RGB", (200, 100), "grey"))
    assert answer.notes[-1] == "The picture has 200x100 pixels and was looked at in 100x50."


@pytest.mark.parametrize("place", ["idconv", "stage4"])
def test_reasons_are_those_of_explain(classifier, noise, place):
    answerer = Answerer(classifier)
    assert list(answerer.places) == OURS
    picture = Image.open(noise).convert("RGB")
    reasons = answerer.explain(picture, place, 1)
    expected = explain_image(classifier, picture, 1, {place: answerer.places[place]})
    assert (reasons.class_name, reasons.place) == ("green", expected.titles[place])
    assert reasons.nothing == (not expected.maps[place].any())
    assert reasons.picture.size == (448, 448)  # 64, enlarged
    seen = Image.fromarray(expected.image).resize((448, 448), Image.Resampling.BICUBIC)
    assert np.abs(np.asarray(reasons.picture).astype(int) - np.asarray(seen)).max() > 50  # there are colours over it


@pytest.mark.parametrize("kind", ["detector", "mask_detector", "segmenter"])
def test_objects_and_labelled_pixels_are_explained_too(kind, noise, request):
    answerer = Answerer(request.getfixturevalue(kind))
    reasons = answerer.explain(Image.open(noise).convert("RGB"), "stage4")
    assert reasons.class_name in answerer.words


def test_what_cannot_be_explained_is_said(classifier, segmenter, noise, caplog):
    picture = Image.open(noise).convert("RGB")
    answerer = Answerer(classifier)
    with pytest.raises(UserError, match=r"no place 'stage9'. Accepted: stage1"):
        answerer.explain(picture, "stage9")
    sure = deepcopy(segmenter)
    with torch.no_grad():
        sure.model.head.classifier.bias[0] = 1e6
    assert [row.name for row in Answerer(sure).answer(picture).rows] == segmenter.class_names[:1]
    with pytest.raises(UserError, match="gives no pixel"):
        Answerer(sure).explain(picture, "stage4", 1)
    with pytest.raises(UserError, match=r"Grad-CAM fails on this network: IndexError"), caplog.at_level(logging.ERROR):
        answerer.explain(picture, "stage4", 99)
    assert "Traceback" in caplog.text


def test_a_model_without_places_or_grad_cam_still_answers(classifier, noise, monkeypatch):
    assert isinstance(classifier, TrainedClassifier)
    monkeypatch.setattr(answers, "require_grad_cam", lambda: (_ for _ in ()).throw(UserError("install it")))
    answerer = Answerer(classifier)
    assert (answerer.places, answerer.why_no_places) == ({}, "install it")
    assert answerer.answer(Image.open(noise)).rows


@pytest.mark.parametrize(
    ("share", "text"),
    [(0.0, "0%"), (0.009, "under 1%"), (0.01, "1%"), (0.934, "93%"), (0.991, "over 99%"), (1.0, "100%")],
)
def test_percentages_never_claim_certainty(share, text):
    assert percent(share) == text
