"""The component updates of the page after each event, without a browser."""

import pytest
from PIL import Image

from transxnet.runs.load import load_model

pytest.importorskip("gradio")

from transxnet.web.gradio_page import PREDICTED_CLASS, GradioPage, Selection, color_scale
from transxnet.web.page_model import PageModel


@pytest.fixture
def page(photos_run) -> GradioPage:
    return GradioPage(PageModel(load_model(photos_run.path)), None, "No examples: a reason.", 10**6)


@pytest.fixture
def image(tmp_path):
    Image.new("RGB", (48, 32), (220, 50, 40)).save(tmp_path / "red.png")
    return tmp_path / "red.png"


def test_upload_shows_the_result_and_clears_the_upload(page, image):
    updates = page._on_upload(image, 0.5)
    assert updates[page._upload] is None
    assert updates[page._selection] == Selection(str(image), None)
    assert updates[page._result]["visible"]
    assert not updates[page._message]["visible"]
    assert updates[page._prediction].count("<li>") == 3
    assert updates[page._image].getpixel((5, 5)) == (220, 50, 40)


def test_unreadable_upload_hides_the_result_and_shows_the_reason(page, tmp_path):
    (tmp_path / "words.png").write_text("not an image")
    for path, reason in (
        (tmp_path / "words.png", "cannot use words.png"),
        (tmp_path / "deleted.png", "uploads are deleted after an hour"),
    ):
        updates = page._on_upload(path, 0.5)
        assert updates[page._selection] is None
        assert not updates[page._result]["visible"]
        assert updates[page._message]["visible"]
        assert reason in updates[page._message]["value"]


def test_explain_shows_a_heat_map_or_nothing_without_a_selection(page, image):
    updates = page._explain(None, "stage4", PREDICTED_CLASS)
    assert updates == {page._heat: None, page._heat_text: ""}
    updates = page._explain(Selection(str(image), None), "stage4", 1)
    assert updates[page._heat].size == (448, 448)  # 64 pixels, upscaled
    assert "green" in updates[page._heat_text]
    updates = page._explain(Selection(str(image), None), "stage9", 1)
    assert updates[page._heat] is None
    assert "no layer" in updates[page._heat_text]


def test_min_score_filters_without_running_the_detector_again(boxes_run, image, monkeypatch):
    page = GradioPage(PageModel(load_model(boxes_run.path)), None, "", 10**6)
    selection = page._on_upload(image, 0.05)[page._selection]
    monkeypatch.setattr("transxnet.evaluation.inference_backends.detect", None)
    updates = page._on_min_score(selection, 1.01)
    assert "No detections" in updates[page._prediction]
    assert updates[page._selection] is selection
    assert page._on_min_score(None, 0.5) == {}


def test_color_scale_has_nine_different_colors():
    scale = color_scale()
    assert len(scale) == 9
    assert len(set(scale)) == 9
    assert all(len(color) == 7 and color.startswith("#") for color in scale)
