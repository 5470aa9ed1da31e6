"""Reading images for reports; test_evaluate.py checks the whole page."""

import pytest
from PIL import Image

from tests.helpers.class_folders import write_photos
from transxnet.data.open_data import open_evaluation_data
from transxnet.evaluation.evaluation_report import image_reader


def test_images_are_read_again_and_errors_are_os_errors(tmp_path):
    folder = write_photos(tmp_path / "photos", 1, names=("blue", "red"))
    images, _ = open_evaluation_data(str(folder), ["blue", "red"], "classify")
    assert image_reader(images)(0).size == Image.open(next((folder / "blue").iterdir())).size
    next((folder / "red").iterdir()).write_bytes(b"damaged")
    with pytest.raises(OSError, match=r"."):
        image_reader(images)(1)
    with pytest.raises(OSError, match="stream"):
        image_reader(object())(0)
