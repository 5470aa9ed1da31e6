"""The loop over images of explain, with explanations that are numbers."""

import pytest
from matplotlib.figure import Figure
from rich.console import Console

from tests.helpers.sample_images import write_images
from transxnet import UserError
from transxnet.analysis.explain_images import ExplainedImage, explain_images
from transxnet.analysis.explanation_targets import NothingToExplain
from transxnet.data.reading.image_decoding import open_image


@pytest.fixture
def paths(tmp_path):
    first, second, third = write_images(tmp_path / "photos", 3)
    second.write_text("not an image")
    return [str(path) for path in (first, second, third)]


def width_unless_last(path, image):
    if path.endswith("02.png"):
        raise NothingToExplain("no detection")
    return image.width


def test_each_image_has_an_explanation_or_an_error(paths, tmp_path):
    drawn = []

    def draw(found):
        drawn.append(found)
        return Figure()

    results = explain_images(paths, open_image, width_unless_last, draw, tmp_path / "out", Console(quiet=True))
    assert results[0].found == drawn[0] and results[0].figure == "0001-00.png"
    assert "not an image" in results[1].error and results[1].found is None
    assert results[2] == ExplainedImage(paths[2], None, error="no detection")
    assert [file.name for file in (tmp_path / "out").iterdir()] == ["0001-00.png"]


def test_nothing_is_drawn_without_a_folder(paths):
    results = explain_images(paths[:1], open_image, width_unless_last, pytest.fail, None, Console(quiet=True))
    assert results[0].found is not None


def test_no_explained_image_is_an_error(paths):
    with pytest.raises(UserError, match=r"cannot explain any of the 1 images\. Last error: no detection"):
        explain_images(paths[2:], open_image, width_unless_last, pytest.fail, None, Console(quiet=True))
