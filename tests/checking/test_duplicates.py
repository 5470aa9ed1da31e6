"""The search for near duplicates: recall of each kind of copy, precision, and flat and small images."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy.fft import dctn

from tests.helpers.planted_problems import COPIES, write_texture
from transxnet.checking import duplicates, neighbor_index
from transxnet.checking.duplicates import exact_duplicates, linked_groups, near_duplicates
from transxnet.checking.image_scan import SIDE, scan_images
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


def test_many_images_give_the_pairs_of_an_exact_search(tmp_path, monkeypatch):
    paths = [str(write_texture(tmp_path / f"{seed}.png", seed)) for seed in range(40)]
    paths += [str(write_texture(tmp_path / f"{s}-copy.png", s, "cropped")) for s in range(20)]
    scan = scan_of(FileImages(paths))
    exact = near_duplicates(scan, 0.97, lambda done: None)
    assert exact.pairs[np.argsort(exact.pairs[:, 0])].tolist() == [[seed, 40 + seed] for seed in range(20)]
    monkeypatch.setattr(neighbor_index, "CELL", 5)
    assert near_duplicates(scan, 0.97, lambda done: None).pairs.tolist() == exact.pairs.tolist()


def test_frequencies_are_those_of_cropped_and_mirrored_images():
    images = torch.rand(3, SIDE, SIDE, generator=torch.Generator().manual_seed(0))
    low, high = duplicates._frequencies(images)
    for crop, mirrored in ((0, 0), (1, 1), (4, 0), (13, 1), (19, 1)):
        half = F.avg_pool2d(images[:, None], 2)[:, 0]
        view = duplicates._crop(half, duplicates._parameters(crop).expand(3, 4))
        spectra = dctn((view.flip(2) if mirrored else view).numpy(), axes=(1, 2), norm="ortho")[:, :10, :10]
        inside = np.zeros((10, 10), bool)
        inside[:6, :6] = True
        expected = spectra[:, inside][:, 1:], spectra[:, ~inside]
        for values, wanted in zip((low, high), expected, strict=True):
            unit = wanted / np.linalg.norm(wanted, axis=1, keepdims=True)
            cosine = (values[:, mirrored, crop].numpy() * unit).sum(1)
            np.testing.assert_allclose(cosine, 1, atol=1e-5)
