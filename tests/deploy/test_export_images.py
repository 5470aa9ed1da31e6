"""The images that verify an exported file, and those that calibrate and evaluate an int8 file."""

import io
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms.v2.functional import normalize, to_dtype

import transxnet
from tests.helpers.classifier_runs import preprocessing, write_run
from tests.helpers.shards import write_shards
from transxnet.data.split import write_split
from transxnet.deploy.export_images import image_batch, labeled_images, normalize_images, real_images
from transxnet.runs.load import load_model
from transxnet.runs.trained_models import TrainedModel
from transxnet.runs.training_data import open_run_data
from transxnet.utils.errors import UserError

CLASSES = ["ant", "bee", "cat"]


def png(value: int) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (8, 8), (value, value, value)).save(file, "PNG")
    return file.getvalue()


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> TrainedModel:
    """A classifier whose run stores its validation images, here the first of each class."""
    root = tmp_path_factory.mktemp("photos")
    names = [f"{name}/{i}.png" for name in CLASSES for i in range(4)]
    for value, name in enumerate(names):
        (root / name).parent.mkdir(exist_ok=True)
        (root / name).write_bytes(png(value))
    model = transxnet.create_model("test_resnet", num_classes=3)
    described = dict(architecture="test_resnet", class_names=CLASSES, preprocessing=preprocessing(32))
    run = write_run(tmp_path_factory.mktemp("runs") / "one", model, root, **described)
    val = [name for name in names if name.endswith("/0.png")]
    write_split(run.split_file, {"train": [name for name in names if name not in val], "val": val})
    return load_model(run.path)


@pytest.fixture
def shards(tmp_path) -> str:
    """Three labeled training images and two validation images, in shards without class names."""
    values = {"train": [[10, 11, 12]], "validation": [[20, 21]]}
    return write_shards(
        tmp_path,
        {
            split: [[(png(value), value % 10) for value in shard] for shard in shards]
            for split, shards in values.items()
        },
    )


def values(images) -> set[int]:
    return {int(np.asarray(image)[0, 0, 0]) for image in images}


def test_validation_images_of_a_run_are_kept_for_any_path(trained, monkeypatch):
    root = Path(trained.run.read_config().data)
    monkeypatch.chdir(root.parent)
    for data in (None, str(root), f"{root}/", root.name, f"./{root.name}", os.path.join(root, "ant", "..")):
        images = labeled_images(trained, data)
        assert images.val.own_names == ["ant/0.png", "bee/0.png", "cat/0.png"], data
        assert not set(images.train.own_names) & set(images.val.own_names)
        assert images.val.own_labels.tolist() == [0, 1, 2]
    assert values(images.validation_images(9)[0]) == {0, 4, 8}
    assert values(real_images(trained, None, 9)[0]) == {0, 4, 8}


@pytest.mark.parametrize("run", ["boxes_run", "maps_run"])
def test_detectors_and_segmenters_are_checked_on_their_validation_images(run, request):
    trained = load_model(request.getfixturevalue(run).path)
    images, where = real_images(trained, None, 9)
    own = open_run_data(trained.run.read_config(), None, trained.run.stored_split).part()
    expected = {own.pixels(i).tobytes() for i in range(len(own))}
    assert {image.tobytes() for image in images} <= expected
    assert len(images) == min(9, len(own)) and where.startswith("the validation set of")


def test_shards_get_the_classes_of_the_model(trained, shards):
    pytest.importorskip("webdataset")
    images = labeled_images(trained, shards)
    assert images.train.class_names == images.val.class_names == CLASSES
    assert images.train.own_labels.tolist() == [0, 1, 2]
    assert values(images.train.image(i) for i in range(3)) == {10, 11, 12}
    assert images.val.own_labels.tolist() == [0, 1]
    assert values(images.validation_images(9)[0]) == values(real_images(trained, shards, 9)[0]) == {20, 21}


def test_other_data_is_split_as_in_training(trained, tmp_path):
    for label, name in enumerate(("cat", "ant")):
        (tmp_path / name).mkdir()
        for i in range(5):
            (tmp_path / name / f"{i}.png").write_bytes(png(10 * label + i))
    images = labeled_images(trained, str(tmp_path))
    assert (len(images.train), len(images.val)) == (8, 2)
    assert sorted(images.val.own_labels.tolist()) == [0, 2]
    (tmp_path / "fox").mkdir()
    (tmp_path / "fox" / "0.png").write_bytes(png(0))
    with pytest.raises(UserError, match=r"do not match the model: .*'fox'"):
        labeled_images(trained, str(tmp_path))


def test_image_batch_has_no_image_twice():
    pixels = np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)
    batch = image_batch([Image.fromarray(pixels)], (20, 30), 5)
    assert (batch.shape, batch.dtype) == ((5, 20, 30, 3), torch.uint8)
    np.testing.assert_array_equal(batch[0], pixels)
    np.testing.assert_array_equal(batch[1], np.roll(pixels[:, ::-1], 7, axis=1))
    assert len({image.numpy().tobytes() for image in batch}) == 5


def test_normalize_images_matches_torchvision():
    images = torch.randint(0, 256, (2, 4, 5, 3), dtype=torch.uint8)
    mean, std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    truth = normalize(to_dtype(images.permute(0, 3, 1, 2), torch.float32, scale=True), mean, std)
    torch.testing.assert_close(normalize_images(images, mean, std), truth, rtol=0, atol=1e-6)
