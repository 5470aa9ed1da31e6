import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from transxnet.data.samples.builtin_samples import SAMPLES, digits, elpv
from transxnet.utils.errors import UserError


def test_elpv_is_labeled_by_the_published_probability():
    package = pytest.importorskip("elpv_dataset")
    sample = elpv()
    rows = [line.split() for line in (Path(package.__file__).parent / "data/labels.csv").read_text().splitlines()]
    published = {name: (float(probability), kind) for name, probability, kind in rows}
    assert len(sample.images) == len(published) == 2624
    assert sample.images.class_names == ["functional", "defective"]
    for i in range(2624):
        probability, kind = published[sample.images.name(i)]
        assert sample.images.own_labels[i] == (probability > 0.5)
        assert sample.images.own_weights[i] == max(probability, 1 - probability)
        assert sample.strata[i].tolist() == [kind, str(round(probability, 2))]
    assert sorted(set(sample.images.own_weights.round(3))) == [0.667, 1.0]
    assert Counter(sample.images.own_labels.tolist()) == {0: 1803, 1: 821}
    assert "NC" in sample.license
    assert "Deitsch" in sample.license


def test_elpv_images_are_gray_and_300_pixels_wide():
    pytest.importorskip("elpv_dataset")
    image = np.asarray(elpv().images.image(1000))
    assert image.shape == (300, 300, 3)
    assert (image == image[..., :1]).all()
    assert image.std() > 5


def test_digits_match_scikit_learn():
    datasets = pytest.importorskip("sklearn.datasets")
    truth = datasets.load_digits()
    images = digits().images
    assert len(images) == 1797
    assert images.class_names == list("0123456789")
    assert (images.own_labels == truth.target).all()
    for i in (0, 7, 1796):
        shown = np.asarray(images.image(i))
        assert shown.shape == (8, 8, 3)
        assert abs(shown - truth.images[i][..., None] * 255 / 16).max() <= 0.5
    assert len(set(images.own_names)) == 1797


@pytest.mark.parametrize(("name", "module"), [("elpv", "elpv_dataset"), ("digits", "sklearn")])
def test_a_missing_package_is_named_with_its_extra(name, module, monkeypatch):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(UserError, match=r"needs the package .*pip install 'transxnet\[samples\]'"):
        SAMPLES[name]()
