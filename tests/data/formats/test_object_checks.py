import numpy as np
import pytest

from transxnet.data.formats.findings import Findings, Problem
from transxnet.data.formats.object_checks import ObjectCollector, as_flag

SIZES = np.array([[30, 40], [10, 2000], [8, 8]])
"""Heights and widths."""


def collect(*objects: dict, masks: bool = False):
    findings = Findings()
    collector = ObjectCollector(SIZES, findings, masks)
    for number, entry in enumerate(objects, 1):
        given = dict(image=0, box=[4, 5, 10, 8], label=1, place=f"annotation {number}", number=number) | entry
        collector.add(given.pop("image"), given.pop("box"), given.pop("label"), **given)
    made, first = collector.collected("a.json")
    return made, first, findings


def test_objects_are_sorted_by_image_and_keep_their_order():
    made, first, findings = collect(
        dict(image=2, box=[0, 0, 1, 1], label=3),
        dict(image=0, label=2, crowd=True, area=17.5),
        dict(image=2, box=[0, 0, 2.5, 2], label=1),
    )
    assert first.tolist() == [0, 1, 1, 3]
    assert made.boxes.tolist() == [[4, 5, 14, 13], [0, 0, 1, 1], [0, 0, 2.5, 2]]
    assert made.labels.tolist() == [2, 3, 1]
    assert made.crowd.tolist() == [True, False, False]
    assert made.areas.tolist() == [17.5, 1, 5]
    assert made.ids.tolist() == [2, 1, 3]
    assert (made.boxes.dtype, made.labels.dtype, made.areas.dtype) == (np.float32, np.int64, np.float32)
    assert made.segmentations is None
    assert not findings.places
    assert findings.objects == 3


def test_no_objects_give_empty_arrays():
    made, first, findings = collect()
    assert made.boxes.shape == (0, 4)
    assert first.tolist() == [0, 0, 0, 0]
    assert not findings.places


@pytest.mark.parametrize(
    ("box", "kept", "problem"),
    [
        ([0, 0, 40, 30], [0, 0, 40, 30], None),
        ([-0.5, 0, 41, 30.9], [0, 0, 40, 30], None),  # rounded
        ([-5, 2, 10, 10], [0, 2, 5, 12], Problem.BOX_OUTSIDE),
        ([35, 25, 10, 10], [35, 25, 40, 30], Problem.BOX_OUTSIDE),
        ([-100, -100, 1000, 1000], [0, 0, 40, 30], Problem.BOX_OUTSIDE),
        ([3, 3, 0.25, 20], [3, 3, 3.25, 23], None),  # thin
        ([3, 3, 0, 5], None, Problem.BOX_EMPTY),
        ([3, 3, 5, -2], None, Problem.BOX_EMPTY),
        ([50, 3, 5, 5], None, Problem.BOX_EMPTY),  # completely outside
        ([30, 3, 1e-7, 5], None, Problem.BOX_EMPTY),  # empty in single precision
        ([3, 3, 5], None, Problem.BOX_BROKEN),
        ([3, 3, "5", "5.0"], [3, 3, 8, 8], None),  # from CSV or XML
        ([3, 3, 5, "x"], None, Problem.BOX_BROKEN),
        ([3, 3, 5, "nan"], None, Problem.BOX_BROKEN),
        (["1", "2", "3"], None, Problem.BOX_BROKEN),
        ([3, 3, 5, None], None, Problem.BOX_BROKEN),
        ([3, 3, 5, True], None, Problem.BOX_BROKEN),
        ([3, 3, 5, float("nan")], None, Problem.BOX_BROKEN),
        ([3, 3, 5, float("inf")], None, Problem.BOX_BROKEN),
        ([3, 3, 5, 10**400], None, Problem.BOX_BROKEN),
        ({"x": 3}, None, Problem.BOX_BROKEN),
    ],
)
def test_boxes_are_clipped_or_skipped(box, kept, problem):
    made, _, findings = collect(dict(box=[1, 1, 5, 5]), dict(box=box))
    assert made.boxes[1:].tolist() == ([] if kept is None else [kept])
    assert list(findings.places) == ([] if problem is None else [problem])
    if problem is not None:
        assert findings.places[problem][0].startswith(f"annotation 2: {box}")


def test_thin_and_long_boxes_stay():
    made, _, _ = collect(dict(image=1, box=[0, 4, 2000, 0.1]))
    assert made.boxes[0].tolist() == pytest.approx([0, 4, 2000, 4.1])


@pytest.mark.parametrize("area", [None, 0, -3, float("nan"), "x"])
def test_a_missing_area_is_that_of_the_box_or_the_mask(area):
    made, _, _ = collect(dict(area=area))
    assert made.areas.tolist() == [80]
    triangle = [[4, 5, 14, 5, 4, 13]]
    made, _, _ = collect(dict(area=area, segmentation=triangle), masks=True)
    assert 30 < made.areas[0] < 60


def test_area_may_be_text():
    assert collect(dict(area="12"))[0].areas.tolist() == [12]


@pytest.mark.parametrize(
    ("value", "expected"),
    [(None, False), (0, False), ("0", False), (0.0, False), (False, False), ("", False), ("False", False)]
    + [(1, True), ("1", True), (1.0, True), (True, True), (" true ", True)]
    + [(value, None) for value in (2, -1, "no", [], {}, [1], float("nan"), 10**400)],
)
def test_flag_is_zero_or_one(value, expected):
    assert as_flag(value) is expected


def test_masks_are_kept_unchanged():
    polygon, lengths = [[4, 5, 14.25, 5, 4, 13]], {"size": [8, 8], "counts": [10, 3, 51]}
    made, _, findings = collect(
        dict(image=2, box=[1, 2, 1, 3], segmentation=lengths), dict(segmentation=polygon), masks=True
    )
    assert list(made.segmentations) == [polygon, lengths]
    assert not findings.places


@pytest.mark.parametrize("segmentation", [None, [], [[1, 2, 3, 4]], {"size": [30, 41], "counts": [1230]}])
def test_objects_with_a_wrong_mask_are_dropped_if_masks_are_read(segmentation):
    made, _, findings = collect(dict(), dict(segmentation=segmentation))
    assert len(made.boxes) == 2
    assert not findings.places
    made, _, findings = collect(dict(segmentation=[[4, 5, 14, 5, 4, 13]]), dict(segmentation=segmentation), masks=True)
    assert len(made.boxes) == len(made.segmentations) == 1
    assert findings.places[Problem.MASK_BROKEN][0].startswith("annotation 2: ")


@pytest.mark.parametrize("masks", [False, True])
def test_missing_box_is_computed_from_the_mask(masks):
    made, _, findings = collect(dict(box=None, segmentation=[[4, 5, 14, 5, 14, 13, 4, 13]]), masks=masks)
    assert made.boxes.tolist() == [[4, 5, 14, 13]]
    assert findings.places == {Problem.NO_BOX: ["annotation 1"]}


def test_without_box_and_mask_there_is_no_object():
    made, _, findings = collect(dict(box=None), dict(box=None, segmentation={"size": [30, 40], "counts": [1200]}))
    assert len(made.boxes) == 0
    assert findings.places == {
        Problem.MASK_BROKEN: ["annotation 1: the segmentation is missing", "annotation 2: the mask is empty"]
    }


def test_doubtful_ids_are_replaced_by_numbers():
    assert collect(dict(number=0), dict(number=5))[0].ids.tolist() == [0, 5]
    made, _, findings = collect(dict(number=5), dict(number=8), dict(number=5), dict(number=None), dict(number="x"))
    assert made.ids.tolist() == [1, 2, 3, 4, 5]
    assert findings.places == {
        Problem.DUPLICATE_ANNOTATION: ["a.json: id 5, 2 times", "a.json: 2 without an integer id"]
    }


def test_relative_coordinates_are_recognized():
    _, _, findings = collect(dict(box=[0.1, 0.2, 0.5, 0.5]), dict(box=[0, 0, 1, 1]))
    assert findings.places == {Problem.BOXES_RELATIVE: ["a.json: the largest coordinate is 1"]}
    _, _, findings = collect(dict(box=[0.1, 0.2, 0.5, 0.5]), dict(box=[0, 0, 1, 2]))
    assert not findings.places


def test_corners_instead_of_sizes_are_recognized():
    corners = [dict(box=[25, 20, 38, 29])] * 11
    _, _, findings = collect(*corners)
    assert findings.places[Problem.BOXES_ASTRAY] == ["a.json: 11 of 11 extend beyond their image"]
    _, _, findings = collect(*corners, *[dict()] * 11)
    assert Problem.BOXES_ASTRAY not in findings.places
