"""Classifiers with random weights, images, and predictions in small chunks."""

from pathlib import Path

import pytest

from tests.helpers.class_folders import write_photos
from tests.helpers.prediction_data import IMAGE_COUNT, encoded_image, write_classifier_run, write_images
from transxnet.data.reading import pixels
from transxnet.data.reading.image_decoding import open_image
from transxnet.prediction import work_folder
from transxnet.prediction.predict import predict


@pytest.fixture
def image_folder(tmp_path) -> Path:
    """Images in nested folders, with a text file and a truncated image."""
    root = write_photos(tmp_path / "image_folder", 4)
    whole = (root / "red" / "000.png").read_bytes()
    (root / "blue" / "broken.png").write_bytes(whole[: len(whole) // 2])
    (root / "blue" / "notes.txt").write_text("no image")
    return root


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    return write_classifier_run(tmp_path_factory.mktemp("runs") / "small", "test_resnet")


@pytest.fixture(scope="module")
def other_run(tmp_path_factory) -> Path:
    return write_classifier_run(tmp_path_factory.mktemp("runs") / "other", "test_resnet", seed=1)


@pytest.fixture(scope="module")
def images(tmp_path_factory) -> Path:
    """Images in two nested folders, with a truncated image and a text file."""
    root = write_images(tmp_path_factory.mktemp("data") / "images", IMAGE_COUNT - 2)
    (root / "deeper").mkdir()
    (root / "deeper" / "a.png").write_bytes(encoded_image(100))
    (root / "deeper" / "broken.png").write_bytes(encoded_image(101)[:200])
    (root / "notes.txt").write_text("no image")
    return root


@pytest.fixture(autouse=True)
def _small_chunks(monkeypatch):
    """Use chunks of six images, so that few images make several chunks."""
    monkeypatch.setattr(work_folder, "CHUNK_SIZE", 6)


@pytest.fixture
def opened(monkeypatch) -> list:
    """Record the images opened in this process."""
    paths = []

    def note(source):
        paths.append(source)
        return open_image(source)

    monkeypatch.setattr(pixels, "open_image", note)
    return paths


@pytest.fixture
def table(run, images, tmp_path, quiet):
    """Return a function that predicts the images into a Parquet file in small batches."""

    def make(out: str = "results.parquet", inputs=images, model=run, **options) -> Path:
        options = {"batch_size": 3, "workers": 0, "console": quiet, **options}
        return Path(predict(model, inputs, out=tmp_path / out, **options))

    return make
