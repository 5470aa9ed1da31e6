"""Data sets by timm reader name, on generated shards and Parquet files."""

import os
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.helpers.shards import NUMBERS, UNNAMED, encode, first_value, stream_of_shards
from transxnet.data.formats import timm_readers
from transxnet.data.formats.timm_readers import is_reader_name, open_reader
from transxnet.data.reading.image_decoding import UnreadableImage
from transxnet.utils.errors import UserError


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        ("hfds/timm/mini-imagenet", True),
        ("wds//shards", True),
        ("TFDS/mnist", True),
        ("hfds", False),
        ("photos/hfds", False),
        ("wdsx/a", False),
        ("", False),
    ],
)
def test_reader_name_is_recognized_by_its_prefix(data, expected):
    assert is_reader_name(data) is expected


@pytest.mark.parametrize("data", ["hfds/a/b", "wds/{folder}", "tfds/a"])
def test_missing_package_error_names_the_install_command(data, tmp_path, monkeypatch):
    prefix = data.partition("/")[0]
    package, install = timm_readers._PACKAGES[prefix]
    monkeypatch.setitem(sys.modules, package, None)  # as if it were not installed
    with pytest.raises(UserError) as raised:
        open_reader(data.format(folder=tmp_path), "train", None)
    assert f"needs the package {package}. Install it with: pip install " in str(raised.value)
    assert install in str(raised.value)
    assert ("transxnet[readers]" in install) == (prefix != "tfds")  # the extra does not bring TensorFlow


def test_stream_shuffle_depends_on_seed_and_epoch(shards):
    """timm shuffles the shards with a seed; samples are shuffled within a buffer, here of size one."""
    images = stream_of_shards(shards(train=[1] * 40), "train", 40)

    def order(first_epoch: int, epochs: int) -> list[list[int]]:
        dataset = images.training_dataset(first_value, 4, 0, seed=5, first_epoch=first_epoch)
        dataset.dataset.reader.sample_shuffle_size = dataset.dataset.reader.sample_initial_size = 1
        return [[int(value) for value, _, _ in dataset] for _ in range(epochs)]

    three = order(0, 3)
    assert all(sorted(epoch) == list(range(40)) for epoch in three)
    assert three[0] != three[1] != three[2] != three[0]
    assert order(1, 2) == three[1:]


def test_an_unknown_split_of_shards_is_an_error(shards):
    with pytest.raises(UserError, match=r"split 'test'.*validation.*--val-split"):
        open_reader(shards(validation=[1]), "test", NUMBERS)


def test_missing_folder_is_an_error(tmp_path):
    with pytest.raises(UserError, match=r"folder .*gone.* does not exist.*Accepted: wds/FOLDER"):
        open_reader(f"wds/{tmp_path}/gone", "train", NUMBERS)


def test_a_folder_without_a_description_is_an_error(tmp_path):
    pytest.importorskip("webdataset")
    with pytest.raises(UserError, match=r"cannot open .*split 'train'"):
        open_reader(f"wds/{tmp_path}", "train", NUMBERS)


def test_missing_shard_is_an_error(shards, tmp_path):
    data = shards(train=[2, 2, 2])
    os.remove(tmp_path / "pets-train-0001.tar")
    with pytest.raises(UserError, match=r"1 of 3 shards of .* are missing, the first is pets-train-0001\.tar"):
        open_reader(data, "train", NUMBERS)


def test_hugging_face_images_equal_those_of_files(parquet):
    wide = encode(Image.fromarray(np.full((4, 4), 128 * 257, dtype=np.uint16)))
    images = open_reader(parquet({"train": [0, 1, 2]}, images=[wide, b"not an image", None]), "train", None)
    assert np.asarray(images.image(0))[0, 0].tolist() == [128] * 3
    with pytest.raises(UnreadableImage, match="not an image"):
        images.image(1)
    with pytest.raises(UnreadableImage, match="has no image at this index"):
        images.image(2)


@UNNAMED
def test_numbers_without_names_need_their_count(parquet):
    data = parquet({"train": [0, 3, 1]}, kind="int64")
    with pytest.raises(UserError, match="--num-classes"):
        open_reader(data, "train", None)
    assert open_reader(data, "train", [*NUMBERS, "3"]).class_names == ["0", "1", "2", "3"]
    with pytest.raises(UserError, match=r"range from 0 to 3\. Accepted for 3 classes: 0 to 2"):
        open_reader(data, "train", NUMBERS)


def test_a_split_without_labels_is_an_error(parquet):
    with pytest.raises(
        UserError, match=r"'test', range from -1 to -1\. Accepted for 3 classes: 0 to 2.*Choose a split with labels"
    ):
        open_reader(parquet({"test": [-1, -1]}), "test", None)


@UNNAMED
def test_labels_that_are_text_are_classes(parquet):
    images = open_reader(parquet({"train": ["dog", "cat", "dog"]}, kind="string"), "train", None)
    assert images.class_names == ["cat", "dog"]
    assert images.own_labels.tolist() == [1, 0, 1]


@UNNAMED
def test_labels_that_are_fractions_are_an_error(parquet):
    with pytest.raises(UserError, match=r"not class indices: \[0\.5, 1\.0\].*Cast the column to datasets.ClassLabel"):
        open_reader(parquet({"train": [0.5, 1.0]}, kind="float32"), "train", NUMBERS[:2])


def test_a_data_set_without_labels_is_an_error(parquet):
    with pytest.raises(
        UserError, match=r"has no column 'label'\. Columns found: 'image', 'kind'\. Rename the label column to 'label'"
    ):
        open_reader(parquet({"train": [0, 1]}, column="kind"), "train", None)


def test_a_data_set_without_images_is_an_error(parquet, tmp_path):
    pq = pytest.importorskip("pyarrow.parquet")
    table = pq.read_table(Path(parquet({"train": [0, 1]})[len("hfds/") :], "train-00000-of-00001.parquet"))
    (tmp_path / "renamed").mkdir()
    table = table.rename_columns(["img", "label"]).replace_schema_metadata()
    pq.write_table(table, tmp_path / "renamed" / "train-00000-of-00001.parquet")
    with pytest.raises(UserError, match=r"no column 'image'\. Columns found: 'img', 'label'. Rename the image"):
        open_reader(f"hfds/{tmp_path}/renamed", "train", ["dog", "cat", "fox"])


def test_missing_split_names_slices(parquet):
    data = parquet({"train": [0, 1, 2, 0]})
    with pytest.raises(UserError, match=r"split 'validation'.*slices, such as train\[:80%\]"):
        open_reader(data, "validation", None)
    assert len(open_reader(data, "train[75%:]", None)) == 1


def test_missing_data_set_is_an_error(parquet, tmp_path):
    with pytest.raises(UserError, match=r"timm's reader cannot open 'hfds/.*nothing'"):
        open_reader(f"hfds/{tmp_path}/nothing", "train", None)


@pytest.mark.skipif(find_spec("tensorflow_datasets") is not None, reason="TensorFlow Datasets is installed")
def test_tensorflow_data_needs_tensorflow():
    match = r"tfds/mnist needs the package tensorflow_datasets\. .*: pip install tensorflow "
    with pytest.raises(UserError, match=match):
        open_reader("tfds/mnist", "train", None)
