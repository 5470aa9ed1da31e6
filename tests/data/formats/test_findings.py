import pytest

from transxnet.data.formats.findings import Findings, Problem
from transxnet.utils.errors import UserError


def found(*problems: Problem, images: int = 0, objects: int = 0) -> Findings:
    findings = Findings(images=images, objects=objects)
    for number, problem in enumerate(problems):
        findings.add(problem, f"a.json: annotation {number}")
    return findings


def test_every_problem_names_its_consequence():
    assert {problem.treatment for problem in Problem} == {"repaired", "skipped", "refused"}
    assert len({problem.words for problem in Problem}) == len(Problem)


def test_repaired_and_skipped_entries_are_counted_and_reported():
    findings = found(Problem.BOX_OUTSIDE, Problem.BOX_EMPTY, Problem.BOX_OUTSIDE, objects=100)
    findings.refuse()
    assert findings.count(Problem.BOX_OUTSIDE) == 2
    assert findings.count(Problem.MASK_BROKEN) == 0
    assert findings.notes() == [
        "2 boxes extend beyond their image and are clipped: a.json: annotation 0; a.json: annotation 2",
        "1 box is empty, skipped: a.json: annotation 1",
    ]


def test_long_lists_are_cut():
    findings = found(*[Problem.BOX_OUTSIDE] * 13)
    assert findings.notes()[0].endswith("a.json: annotation 9; and 3 more")


def test_all_refused_entries_are_reported_together():
    with pytest.raises(UserError) as raised:
        found(Problem.UNKNOWN_CATEGORY, Problem.DUPLICATE_IMAGE, Problem.BOX_EMPTY, objects=100).refuse()
    assert str(raised.value) == (
        "the annotations contain errors:\n"
        "1 object has an undeclared category:\n  a.json: annotation 0\n"
        "1 image has a duplicate id:\n  a.json: annotation 1\n"
        "Correct them and start again."
    )


@pytest.mark.parametrize(
    ("problems", "what"),
    [([Problem.BOX_EMPTY, Problem.MASK_BROKEN], "objects"), ([Problem.IMAGE_MISSING, Problem.IMAGE_SIZE], "images")],
)
def test_skipping_more_than_a_twentieth_is_an_error(problems, what):
    found(*problems, images=40, objects=40).refuse()
    with pytest.raises(UserError, match=f"2 of 39 {what} cannot be used, more than 5%"):
        found(*problems, images=39, objects=39).refuse()


def test_any_number_of_repairs_is_accepted():
    found(*[Problem.BOX_OUTSIDE] * 50, objects=50).refuse()


@pytest.mark.parametrize(
    ("problem", "text"),
    [
        (Problem.IMAGE_MISSING, "1 image is missing"),
        (Problem.BOX_OUTSIDE, "1 box extends beyond its image and is clipped"),
        (Problem.NO_BOX, "1 object has no box and gets the bounding box of its mask"),
        (Problem.FILE_BROKEN, "1 annotation file cannot be parsed"),
        (Problem.ENTRY_BROKEN, "1 entry lacks required values, or has values of another type"),
        (Problem.BOXES_ASTRAY, "1 file has most boxes outside its image; COCO boxes are [x, y, width, height]"),
        (Problem.DUPLICATE_ANNOTATION, "1 annotation has a duplicate or missing id (all are renumbered)"),
    ],
)
def test_one_problem_is_described_in_the_singular(problem, text):
    assert problem.describe(1) == text
    assert problem.describe(2) == f"2 {problem.words}"
