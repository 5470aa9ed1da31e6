"""Planted boxes: each is found in its image, and no other."""

import pytest


@pytest.mark.parametrize(
    ("kind", "name", "detail"),
    [
        ("box_tiny", "1.png", "cat, 2x20 in 80x60"),
        ("box_huge", "2.png", "cat, 80x59 in 80x60"),
        ("box_duplicate", "3.png", "cat, IoU 0.95"),
    ],
)
def test_bad_box_is_found_and_no_other(bad_boxes, kind, name, detail):
    (finding,) = bad_boxes.of(kind)
    assert [bad_boxes.all_images.name(n) for n in finding.images] == [name]
    assert finding.detail == detail
    assert len(finding.boxes) == (2 if kind == "box_duplicate" else 1)


def test_box_outside_its_image_is_reported(bad_boxes):
    (finding,) = bad_boxes.of("box_outside")
    assert "(4.png): [70, 50, 30, 30] in 80x60" in finding.detail
