"""The search for near duplicates: recall of each kind of copy, precision, and flat and small images."""

import numpy as np
import pytest

from tests.helpers.planted_problems import COPIES, write_texture
from transxnet.checking import duplicates
from transxnet.checking.duplicates import exact_duplicates, linked_groups, near_duplicates
from transxnet.checking.image_scan import scan_images
from transxnet.data.datasets.image_collection import ArrayImages, FileImages, ImageCollection


def scan_of(storage):
    return scan_images([ImageCollection(storage, [str(i) for i in range(len(storage))], ["a"])], lambda done: None)


@pytest.mark.parametrize("copy", COPIES)
def test_copies_are_found_and_other_images_are_not(copy, tmp_path):
    originals = [write_texture(tmp_path / f"{seed}.png", seed) for seed in range(12)]
    suffix = ".jpg" if copy == "recompressed" else ".png"
    copies = [write_texture(tmp_path / f"{s}-copy.png", s, copy).with_suffix(suffix) for s in range(6)]
    near = near_duplicates(scan_of(FileImages([str(path) for path in originals + copies])), 0.97, lambda done: None)
    assert sorted(map(tuple, near.pairs.tolist())) == [(seed, 12 + seed) for seed in range(6)]
    assert (near.similarity <= 1.0001).all()
    assert (np.diff(near.similarity) <= 0).all()


def test_flat_and_small_images_are_compared_exactly_only():
    flat = np.zeros((3, 40, 40), np.uint8) + np.array([10, 10, 11], np.uint8)[:, None, None]
    scan = scan_of(ArrayImages(flat))
    assert [group.tolist() for group in exact_duplicates(scan)] == [[0, 1]]
    small = np.random.default_rng(0).integers(0, 255, (2, 8, 8)).astype(np.uint8)
    small[1] = small[0]
    small[1, 0, 0] ^= 1
    for images in (flat, small):
        assert len(near_duplicates(scan_of(ArrayImages(images)), 0.5, lambda done: None).pairs) == 0


def test_only_the_most_similar_pairs_are_kept(tmp_path, monkeypatch):
    paths = [str(write_texture(tmp_path / f"{seed}.png", seed)) for seed in range(8)]
    paths += [str(write_texture(tmp_path / f"{s}-copy.png", s, "cropped")) for s in range(8)]
    whole = near_duplicates(scan_of(FileImages(paths)), 0.97, lambda done: None)
    assert len(whole.pairs) == 8
    monkeypatch.setattr(duplicates, "MAX_PAIRS", 3)
    monkeypatch.setattr(duplicates, "_CHUNK", 5)
    few = near_duplicates(scan_of(FileImages(paths)), 0.97, lambda done: None)
    assert few.pairs.tolist() == whole.pairs[:3].tolist()
    np.testing.assert_allclose(few.similarity, whole.similarity[:3], atol=1e-5)


def test_linked_groups_join_pairs():
    groups = linked_groups(np.array([[4, 1], [1, 0], [5, 3]]), 6)
    assert [group.tolist() for group in groups] == [[0, 1, 4], [3, 5]]
