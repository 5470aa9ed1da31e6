"""Mean and standard deviation of channels, against those of all values together."""

import numpy as np
import pytest

from transxnet.data.datasets.image_collection import FileImages, ImageCollection
from transxnet.data.loading import channel_statistics
from transxnet.data.loading.channel_statistics import measure_channels
from transxnet.utils.errors import UserError


@pytest.fixture
def written(tmp_path) -> tuple[ImageCollection, np.ndarray]:
    values = np.random.default_rng(0).normal([3e4, -5, 0], [1e3, 0.1, 0], (9, 8, 7, 3)).astype(np.float32)
    paths = [str(tmp_path / f"{i}.npy") for i in range(9)]
    for path, image in zip(paths, values, strict=True):
        np.save(path, image)
    return ImageCollection(FileImages(paths, 3), paths, ["a"]), values.astype(np.float64)


def test_statistics_are_those_of_all_values(written):
    images, values = written
    mean, std, count = measure_channels(images)
    assert count == 9
    assert mean == pytest.approx(values.mean(axis=(0, 1, 2)))
    assert std[:2] == pytest.approx(values.std(axis=(0, 1, 2))[:2])
    assert std[2] == 1  # of a constant channel
    assert measure_channels(images).describe() == (
        "3 channels, normalized by their mean and standard deviation over 9 training images"
    )


def test_large_set_is_sampled_evenly(written, monkeypatch):
    images, values = written
    monkeypatch.setattr(channel_statistics, "MEASURED", 3)
    mean, _, count = measure_channels(images)
    assert count == 3
    assert mean == pytest.approx(values[[0, 4, 8]].mean(axis=(0, 1, 2)))


def test_unreadable_images_are_skipped(written):
    images, values = written
    for number, path in enumerate(images.storage.paths):
        if number:
            open(path, "w").close()
    mean, _, count = measure_channels(images)
    assert count == 1 and mean == pytest.approx(values[0].mean(axis=(0, 1)))
    open(images.storage.paths[0], "w").close()
    with pytest.raises(UserError, match="none of the 9 training images can be read"):
        measure_channels(images)
