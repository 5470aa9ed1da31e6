import hashlib
import json
import os
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from transxnet.data.open_data import open_data
from transxnet.data.reading.masks import decode_mask, mask_box
from transxnet.data.samples import scenes as module
from transxnet.data.samples.builtin_samples import DENSE_SAMPLES
from transxnet.data.samples.scenes import CLASSES, LICENSE, scenes
from transxnet.utils.errors import UserError

pytest.importorskip("sklearn")
pytest.importorskip("skimage")
pytest.importorskip("pycocotools")


def hashes(root: Path) -> dict[str, str]:
    files = sorted(path for path in root.rglob("*") if path.is_file())
    return {path.relative_to(root).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    return scenes(tmp_path_factory.mktemp("sample") / "scenes", train=24, val=12)


def test_scenes_are_bitwise_reproducible_from_the_seed(root, tmp_path):
    again = scenes(tmp_path / "again", train=24, val=12)
    assert hashes(again) == hashes(root)
    more = hashes(scenes(tmp_path / "more", train=25, val=1))
    assert more["train2017/000024.jpg"] == hashes(root)["train2017/000024.jpg"]
    other = hashes(scenes(tmp_path / "other", train=2, val=1, seed=1))
    assert other["train2017/000001.jpg"] != hashes(root)["train2017/000001.jpg"]


def test_boxes_masks_and_label_maps_agree(root):
    labels_seen, areas, overlaps = set(), [], 0
    for part, folder in (("train2017", "training"), ("val2017", "validation")):
        content = json.loads((root / f"annotations/instances_{part}.json").read_text())
        assert [category["name"] for category in content["categories"]] == list(CLASSES)
        for entry in content["images"]:
            objects = [a for a in content["annotations"] if a["image_id"] == entry["id"]]
            values = np.asarray(Image.open(root / f"annotations/{folder}/{Path(entry['file_name']).stem}.png"))
            assert values.shape == (entry["height"], entry["width"])
            assert Image.open(root / part / entry["file_name"]).size == (entry["width"], entry["height"])
            painted, times = np.zeros(values.shape, int), np.zeros(values.shape, int)
            for found in objects:
                mask = decode_mask(found["segmentation"], *values.shape)
                left, top, right, bottom = mask_box(mask)
                assert found["bbox"] == [left, top, right - left, bottom - top]
                assert found["area"] == mask.sum()
                painted[mask], times = found["category_id"], times + mask
                overlaps += any(
                    not (a["bbox"][0] >= right or a["bbox"][0] + a["bbox"][2] <= left)
                    for a in objects
                    if a is not found
                )
                areas.append(found["area"])
                labels_seen.add(found["category_id"])
            assert (painted == values).all()
            assert times.max() <= 1
        empty = {entry["id"] for entry in content["images"]} - {a["image_id"] for a in content["annotations"]}
        assert empty == {6, 18} & {entry["id"] for entry in content["images"]}
    assert labels_seen == set(range(1, 11))
    assert overlaps > 20
    sizes = np.array(areas)
    assert min((sizes < 32**2).mean(), (sizes > 96**2).mean()) > 0.05


def test_validation_scenes_have_other_digits_and_backgrounds():
    train, val = module._load_digits()
    assert (len(train.labels), len(val.labels)) == (1438, 359)
    assert set(train.labels) == set(val.labels) == set(range(10))
    shown = [part[0].size for part in module._load_backgrounds()]
    assert shown == [(410, 512), (102, 512)]  # of the astronaut's 512 columns


def test_the_sample_serves_all_dense_tasks(root):
    detection = open_data(str(root), masks=True)
    assert (len(detection.train), len(detection.val), detection.split_made) == (24, 12, False)
    assert detection.class_names == list(CLASSES)
    segmentation = open_data(str(root), "segment")
    assert segmentation.class_names == ["background", *CLASSES]
    assert segmentation.train.own_names == detection.train.own_names
    for i in range(12):
        masks = detection.val.target(i, masks=True)
        painted = np.zeros(detection.val.own_sizes[i], int)
        for mask, label in zip(masks["masks"].numpy(), masks["labels"].tolist(), strict=True):
            painted[mask > 0] = label
        assert (painted == segmentation.val.labels(i)).all()
    assert not detection.findings.places
    assert not segmentation.findings.places


def test_images_of_the_sample_are_stored_once(root):
    if hasattr(os, "link"):
        assert (root / "train2017/000001.jpg").samefile(root / "images/training/000001.jpg")


def test_sample_is_cached_and_shows_its_license(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    small = scenes(train=5, val=2)
    assert small.parent == tmp_path / "transxnet"
    before = hashes(small)
    assert scenes(train=5, val=2) == small
    assert hashes(small) == before
    monkeypatch.setattr("transxnet.data.samples.builtin_samples.scenes", lambda: small)
    source = open_data("scenes")
    assert source.notes[0] == f"License: {LICENSE}"
    assert all(name in LICENSE for name in ("CC0", "public domain", "BY 4.0"))
    assert (source.img_size, source.hflip) == (256, 0.0)
    assert DENSE_SAMPLES["scenes"]().folder == small
    assert (small / "LICENSE.txt").read_text().strip() == LICENSE


def test_interruption_leaves_no_files(tmp_path, monkeypatch):
    def fail(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(module, "_publish", fail)
    with pytest.raises(KeyboardInterrupt):
        scenes(tmp_path / "scenes", train=1, val=1)
    assert list(tmp_path.iterdir()) == []


def test_another_process_may_finish_first(tmp_path, monkeypatch):
    publish, first = module._publish, tmp_path / "scenes"

    def second(temporary, root):
        monkeypatch.setattr(module, "_publish", publish)
        scenes(root, train=1, val=1)
        publish(temporary, root)

    monkeypatch.setattr(module, "_publish", second)
    assert scenes(first, train=1, val=1) == first
    assert list(tmp_path.iterdir()) == [first]


def test_a_folder_that_cannot_be_written_is_an_error(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=r"cannot write the sample scenes to .*XDG_CACHE_HOME=FOLDER"):
        scenes(tmp_path / "file" / "scenes", train=1, val=1)


def test_another_folder_of_that_name_is_an_error(tmp_path):
    with pytest.raises(UserError, match="contains other files"):
        scenes(tmp_path, train=1, val=1)
    with pytest.raises(UserError, match="train must be an integer of at least 1, got 0"):
        scenes(tmp_path / "a", train=0)


@pytest.mark.parametrize("package", ["sklearn", "skimage", "pycocotools"])
def test_a_missing_package_is_named(package, monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(UserError, match=r"pip install 'transxnet\[.*\]'"):
        scenes(tmp_path / "scenes", train=1, val=1)
    assert list(tmp_path.iterdir()) == []
