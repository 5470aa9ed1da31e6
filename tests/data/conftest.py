"""Images in files, class folders, shards and Parquet files."""

from itertools import count, islice

import numpy as np
import pytest
from PIL import Image

from tests.helpers.shards import solid, write_shards
from transxnet.data.datasets.classification_dataset import ClassificationSet
from transxnet.data.datasets.image_collection import FileImages


@pytest.fixture
def shards(tmp_path):
    """Make a folder of shards with timm's _info.json; image i has constant value i and class i % 3."""
    pytest.importorskip("webdataset")

    def make(**splits: list[int]) -> str:
        values = count()
        images = {
            split: [[(solid(value), value % 3) for value in islice(values, length)] for length in lengths]
            for split, lengths in splits.items()
        }
        return write_shards(tmp_path, images)

    return make


@pytest.fixture
def parquet(tmp_path, monkeypatch):
    """Make a Parquet data set that the datasets library opens offline."""
    datasets = pytest.importorskip("datasets")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    datasets.disable_progress_bars()

    def make(labels: dict[str, list], kind="classes", images=None, column="label", names=("dog", "cat", "fox")) -> str:
        classes = datasets.ClassLabel(names=list(names))
        for split, values in labels.items():
            content = images or [solid(10 * i) for i in range(len(values))]
            table = datasets.Dataset.from_dict(
                {"image": [c and {"bytes": c, "path": None} for c in content], column: values},
                features=datasets.Features(
                    {"image": datasets.Image(), column: classes if kind == "classes" else datasets.Value(kind)}
                ),
            )
            (tmp_path / "pets").mkdir(exist_ok=True)
            table.to_parquet(tmp_path / "pets" / f"{split}-00000-of-00001.parquet")
        return f"hfds/{tmp_path}/pets"

    yield make
    datasets.enable_progress_bars()


@pytest.fixture
def files(tmp_path):
    """A set of ten 8x8 image files; image i has the color (i, i, i)."""
    paths = [tmp_path / f"{i}.png" for i in range(10)]
    for i, path in enumerate(paths):
        Image.new("RGB", (8, 8), (i, i, i)).save(path)
    names = [path.name for path in paths]
    return ClassificationSet(FileImages([str(p) for p in paths]), names, ["even", "odd"], np.arange(10) % 2)


@pytest.fixture
def folder(tmp_path):
    """Make class folders with the given numbers of images; names may contain train/ and val/."""

    def make(**classes: int) -> str:
        for name, number in classes.items():
            directory = tmp_path / "data" / name.replace("__", "/")
            directory.mkdir(parents=True)
            for i in range(number):
                Image.new("L", (4, 4), i).save(directory / f"{i:03d}.png")
        return str(tmp_path / "data")

    return make
