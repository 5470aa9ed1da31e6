"""Thumbnails and explained images."""

import pytest
from PIL import Image

from transxnet.reports.image_cards import explain_groups, thumbnail
from transxnet.utils.errors import UserError

IMAGE = Image.new("RGB", (40, 30))
GROUPS = [("first", [(0, "a.png", "correct"), (1, "b.png", "wrong")], 2), ("second", [(1, "b.png", "wrong")], None)]


def unreadable(index: int, class_index: int | None = None):
    raise OSError


def test_thumbnail_of_an_unreadable_image_is_none():
    assert thumbnail(lambda index: IMAGE, 0).startswith("data:image/jpeg")
    assert thumbnail(unreadable, 0) is None and thumbnail(None, 0) is None


def test_unreadable_images_and_empty_groups_are_skipped():
    def explain(index: int, class_index: int | None = None) -> list:
        if index == 1:
            raise OSError
        assert class_index == 2
        return [("image", IMAGE), ("last", IMAGE), ("part", IMAGE)]

    found = explain_groups(GROUPS, explain)
    ((title, (card,)),) = found["groups"]
    assert (title, card["name"], card["note"], found["missing"]) == ("first", "a.png", "correct", "")
    assert [len(card["panels"]), len(card["more"])] == [2, 1]


def refuse(index: int, class_index: int | None = None):
    raise UserError("no maps.")


@pytest.mark.parametrize(("explain", "reason"), [(unreadable, "None of the images can be read."), (refuse, "no maps.")])
def test_reason_replaces_missing_explanations(explain, reason):
    assert explain_groups(GROUPS, explain) == {"groups": [], "missing": reason}
