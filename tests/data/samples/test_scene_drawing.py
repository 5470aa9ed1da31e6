import numpy as np
import pytest
from PIL import Image

from transxnet.data.samples.scene_drawing import MIN_VISIBLE, MOST, SIDES, Digits, draw_scene


@pytest.fixture
def digits() -> Digits:
    """Rings and bars of 8x8 pixels."""
    ring = np.zeros((8, 8))
    ring[1:7, 2:6] = 1
    ring[3:5, 3:5] = 0
    bar = np.zeros((8, 8))
    bar[0:8, 3:5] = 1
    return Digits(np.stack([ring, bar]), np.array([0, 1]))


BACKGROUNDS = [Image.new("RGB", (300, 200), (90, 90, 90)), Image.new("RGB", (150, 400), (240, 240, 240))]


def draw(seed: int, digits: Digits, empty: bool = False):
    return draw_scene(np.random.default_rng(seed), digits, BACKGROUNDS, empty)


def test_a_scene_follows_from_its_seed(digits):
    one, same, other = draw(1, digits), draw(1, digits), draw(2, digits)
    assert one.image.tobytes() == same.image.tobytes()
    assert (one.owner == same.owner).all()
    assert one.labels == same.labels
    assert one.image.tobytes() != other.image.tobytes()


def test_objects_own_the_pixels_that_they_changed(digits):
    """On images of one color, pasted pixels are visible."""
    for seed in range(20):
        scene = draw(seed, digits)
        values = np.asarray(scene.image).astype(int)
        background = values[scene.owner == 0]
        usual = np.median(background, axis=0)
        changed = (abs(values - usual) > 8).any(axis=2)
        assert scene.owner.shape == values.shape[:2]
        assert (changed[scene.owner > 0]).mean() > 0.9
        assert (abs(background - usual).max(axis=1) > 8).mean() < 0.1  # partly covered pixels at the edges


def test_objects_can_be_seen_and_lie_over_each_other(digits):
    hidden = 0
    for seed in range(40):
        scene = draw(seed, digits)
        assert all(SIDES[0] <= side <= SIDES[1] for side in scene.image.size)
        assert len(scene.labels) <= MOST
        counts = np.bincount(scene.owner.ravel(), minlength=len(scene.labels) + 1)[1:]
        assert len(counts) == len(scene.labels)
        assert (counts > 0).all()
        for number in range(1, len(scene.labels) + 1):
            rows, columns = np.nonzero(scene.owner == number)
            inside = scene.owner[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]
            hidden += bool((inside > number).any())
    assert hidden > 10
    assert 0 < MIN_VISIBLE < 1


def test_empty_scene_has_no_objects(digits):
    scene = draw(3, digits, empty=True)
    assert scene.labels == []
    assert not scene.owner.any()
    assert len(np.unique(np.asarray(scene.image).reshape(-1, 3), axis=0)) == 1
