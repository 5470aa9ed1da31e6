"""Which pictures an exported file is checked on, and which an int8 one is calibrated and measured on."""

import io
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import transxnet
from tests.helpers.classifier_runs import preprocessing, write_run
from tests.helpers.shards import write_shards
from transxnet.data.split import write_split
from transxnet.deploy.calibration_images import labelled_pictures, real_pictures
from transxnet.runs.load import TrainedModel, load_model
from transxnet.utils.errors import UserError

CLASSES = ["ant", "bee", "cat"]


def png(value: int) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (8, 8), (value, value, value)).save(file, "PNG")
    return file.getvalue()


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> TrainedModel:
    """A classifier whose run stored which pictures it held out, by chance the first of each class."""
    root = tmp_path_factory.mktemp("photos")
    names = [f"{name}/{i}.png" for name in CLASSES for i in range(4)]
    for value, name in enumerate(names):
        (root / name).parent.mkdir(exist_ok=True)
        (root / name).write_bytes(png(value))
    model = transxnet.create_model("test_resnet", num_classes=3)
    described = dict(architecture="test_resnet", class_names=CLASSES, preprocessing=preprocessing(32))
    run = write_run(tmp_path_factory.mktemp("runs") / "one", model, root, **described)
    held_out = [name for name in names if name.endswith("/0.png")]
    write_split(run.split_file, {"train": [name for name in names if name not in held_out], "val": held_out})
    return load_model(run.path)


@pytest.fixture
def shards(tmp_path) -> str:
    """Three labelled pictures to train on and two held out, in shards, which know no names of classes."""
    values = {"train": [[10, 11, 12]], "validation": [[20, 21]]}
    return write_shards(
        tmp_path,
        {
            split: [[(png(value), value % 10) for value in shard] for shard in shards]
            for split, shards in values.items()
        },
    )


def values(pictures) -> set[int]:
    return {int(np.asarray(picture)[0, 0, 0]) for picture in pictures}


def test_a_run_s_own_data_keeps_its_held_out_part_by_whatever_path_it_is_named(trained, monkeypatch):
    root = Path(trained.run.read_config().data)
    monkeypatch.chdir(root.parent)
    for data in (None, str(root), f"{root}/", root.name, f"./{root.name}", os.path.join(root, "ant", "..")):
        images = labelled_pictures(trained, data)
        assert images.held_out.own_names == ["ant/0.png", "bee/0.png", "cat/0.png"], data
        assert not set(images.train.own_names) & set(images.held_out.own_names)
        assert images.held_out.own_labels.tolist() == [0, 1, 2]
    assert values(images.pictures(9)[0]) == {0, 4, 8}
    assert values(real_pictures(trained, None, 9)[0]) == {0, 4, 8}


def test_shards_are_taken_for_the_model_s_classes(trained, shards):
    pytest.importorskip("webdataset")
    images = labelled_pictures(trained, shards)
    assert images.train.class_names == images.held_out.class_names == CLASSES
    assert images.train.own_labels.tolist() == [0, 1, 2]
    assert values(images.train.picture(i) for i in range(3)) == {10, 11, 12}
    assert images.held_out.own_labels.tolist() == [0, 1]
    assert values(images.pictures(9)[0]) == values(real_pictures(trained, shards, 9)[0]) == {20, 21}


def test_other_data_is_split_as_for_a_training(trained, tmp_path):
    for label, name in enumerate(("cat", "ant")):
        (tmp_path / name).mkdir()
        for i in range(5):
            (tmp_path / name / f"{i}.png").write_bytes(png(10 * label + i))
    images = labelled_pictures(trained, str(tmp_path))
    assert (len(images.train), len(images.held_out)) == (8, 2)
    assert sorted(images.held_out.own_labels.tolist()) == [0, 2]
    (tmp_path / "fox").mkdir()
    (tmp_path / "fox" / "0.png").write_bytes(png(0))
    with pytest.raises(UserError, match=r"do not match those of the model: .*'fox'"):
        labelled_pictures(trained, str(tmp_path))
