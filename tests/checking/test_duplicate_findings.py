"""Planted duplicates: each is found, in the right place, and nothing else."""

import numpy as np

from tests.helpers.planted_problems import COPIES
from transxnet.checking.all_images import AllImages
from transxnet.checking.duplicate_findings import exact_findings, near_findings
from transxnet.checking.duplicates import NearDuplicates
from transxnet.data.datasets.classification_dataset import ClassificationSet
from transxnet.data.datasets.image_collection import ArrayImages


def names(result, kind):
    images = result.all_images
    return [{f"{images.set_name(n)}/{images.name(n)}" for n in finding.images} for finding in result.of(kind)]


def excluded(result, kind):
    images = result.all_images
    return [f"{images.set_name(n)}/{images.name(n)}" for finding in result.of(kind) for n in finding.exclude]


def test_near_duplicates_are_found_with_full_precision(planted):
    pairs = names(planted, "near_duplicate")
    found = [{name.partition("-")[0].removesuffix(".png") for name in pair} for pair in pairs]
    assert len(found) == len(COPIES)
    assert sorted(map(min, found)) == [f"train/a/{seed:02d}" for seed in (0, 4, 8, 12, 16, 20)]
    assert all(len(originals) == 1 for originals in found)


def test_near_duplicates_of_a_set_have_the_range_of_their_similarities():
    pixels, names = np.zeros((5, 4, 4), np.uint8), [str(i) for i in range(5)]
    images = ClassificationSet(ArrayImages(pixels), names, ["a"], np.zeros(5, np.int64))
    by_pixels = NearDuplicates(np.array([[0, 1], [1, 2]]), np.array([0.981, 0.995]))
    by_features = NearDuplicates(np.array([[3, 4]]), np.array([0.9]))
    found = near_findings(AllImages({"train": images}), by_pixels, by_features)
    assert [(finding.images, finding.detail) for finding in found] == [
        ((0, 1, 2), "3 similar images, similarity 0.981 to 0.995"),
        ((3, 4), "2 similar images, similarity of features 0.900"),
    ]


def test_exact_duplicate_keeps_the_first_image(planted):
    assert names(planted, "exact_duplicate") == [{"train/b/01.png", "train/b/01-same.png"}]
    assert len(excluded(planted, "exact_duplicate")) == 1


def test_exact_leak_excludes_the_training_image(planted):
    assert names(planted, "exact_leak") == [{"train/a/02.png", "val/a/02-leak.png"}]
    assert excluded(planted, "exact_leak") == ["train/a/02.png"]


def test_near_leak_is_to_be_reviewed(planted):
    assert names(planted, "near_leak") == [{"train/b/05.png", "val/b/05-near.png"}]
    assert excluded(planted, "near_leak") == []


def test_different_labels_of_duplicates_are_conflicts(planted):
    assert names(planted, "exact_conflict") == [{"train/a/06.png", "train/b/06-label.png"}]
    assert excluded(planted, "exact_conflict") == []
    assert names(planted, "near_conflict") == []


def test_group_of_many_images_takes_linear_time(monkeypatch):
    """Thousands of files may be the same placeholder."""
    count, asked, set_name = 2000, [], AllImages.set_name
    monkeypatch.setattr(AllImages, "set_name", lambda images, number: asked.append(number) or set_name(images, number))
    pixels, names = np.zeros((count, 4, 4), np.uint8), [str(i) for i in range(count)]
    images = ClassificationSet(ArrayImages(pixels), names, ["a"], np.zeros(count, np.int64))
    (finding,) = exact_findings(AllImages({"train": images}), [np.arange(count)])
    assert finding.exclude == tuple(range(1, count))
    assert [finding.action(number) for number in (0, 1, count - 1)] == ["review", "exclude", "exclude"]
    assert len(asked) <= 4 * count
