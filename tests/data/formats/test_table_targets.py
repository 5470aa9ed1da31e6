import numpy as np
import pytest

from transxnet.data.formats.table_targets import TableColumn, read_targets
from transxnet.utils.errors import UserError

nan = np.nan


def column(cells, name="label"):
    made = TableColumn(name)
    for cell in cells:
        made.append(cell)
    return made


def kind(cells, targets=None):
    read = read_targets([column(cells)], targets)
    return read.note.split()[1].strip(","), read.class_names, read.labels.tolist()


def test_column_stores_each_cell_once():
    made = column(["a", "b", "a", ("x",)])
    assert (made.cells, made.codes.tolist()) == (["a", "b", ("x",)], [0, 1, 0, 2])
    with pytest.raises(UserError, match="column 'label' contains a list, 'x'"):
        made.texts()


@pytest.mark.parametrize(
    ("cells", "expected"),
    [
        (["cat", "dog", "cat"], ("classes", ["cat", "dog"], [0, 1, 0])),
        (["10", "9", ""], ("classes", ["9", "10"], [1, 0, -1])),
        (["1.0", "0.0", "1.0"], ("classes", ["0", "1"], [1, 0, 1])),
        (["lynx, bobcat", "wolf, gray"], ("classes", ["lynx, bobcat", "wolf, gray"], [0, 1])),
        (["a|b", "b", ""], ("multilabel", ["a", "b"], [[1, 1], [0, 1], [0, 0]])),
        (["a, b", "b; c", "b, c"], ("multilabel", ["a", "b", "b; c", "c"], [[1, 1, 0, 0], [0, 0, 1, 0], [0, 1, 0, 1]])),
        ([("a", "b"), (), "b"], ("multilabel", ["a", "b"], [[1, 1], [0, 0], [0, 1]])),
        (["0.5", "2", "1e3"], ("regression", ["label"], [0.5, 2, 1000])),
        ([str(n) for n in range(30)], ("regression", ["label"], list(range(30)))),
        ([str(n % 30) for n in range(300)], ("classes", [str(n) for n in range(30)], [n % 30 for n in range(300)])),
    ],
)
def test_targets_are_recognized_from_the_cells(cells, expected):
    assert kind(cells) == expected


@pytest.mark.parametrize(
    ("cells", "targets", "expected"),
    [
        (["1", "2"], "regression", ["label"]),
        (["0.5", "1.5"], "classes", ["0.5", "1.5"]),
        (["a|b", "b"], "classes", ["a|b", "b"]),
        ([("a",), ()], "classes", ["a"]),
        (["a|b", "c"], "multilabel", ["a", "b", "c"]),
        (["a", "b"], "multilabel", ["a", "b"]),
    ],
)
def test_given_targets_override_what_is_recognized(cells, targets, expected):
    assert kind(cells, targets)[:2] == (targets, expected)


def test_note_states_the_reason():
    assert read_targets([column(["a", "b"])]).note == "targets: classes, because column 'label' contains names"
    assert read_targets([column(["1.5", ""])]).note == (
        "targets: regression, because column 'label' contains numbers with decimals; --targets overrides this"
    )
    assert read_targets([column(["1", "2"])]).note.endswith("contains 2 different integers in 2 rows")
    assert read_targets([column(["a|b", "b", ""])]).note.endswith("; 1 row with none of the labels")
    assert read_targets([column(["a"])], "classes").note == "targets: classes, as given"


def test_rows_without_a_label_are_unknown():
    assert read_targets([column(["a", "", "b"])]).known.tolist() == [True, False, True]
    assert read_targets([column(["1.5", ""])]).known.tolist() == [True, False]
    assert read_targets([column(["a|b", "", "b"])]).known.all()


def test_class_columns_are_labels_with_unknown_ones():
    read = read_targets([column(["1", "0", "", ""], "cat"), column(["1.0", "-1", "False", ""], "dog")])
    np.testing.assert_array_equal(read.labels, [[1, 1], [0, nan], [nan, 0], [nan, nan]])
    assert (read.class_names, read.known.tolist()) == (["cat", "dog"], [True, True, True, False])
    assert "multilabel" in read.note


def test_one_class_column_per_image_is_classes():
    columns = [column(["1", "0", ""], "cat"), column(["0", "1", ""], "dog")]
    read = read_targets(columns)
    assert (read.labels.tolist(), read.class_names) == ([0, 1, -1], ["cat", "dog"])
    assert "targets: classes, because each image has 1 in one class column" in read.note
    assert read_targets(columns, "multilabel").labels.shape == (3, 2)


@pytest.mark.parametrize(
    ("cells", "targets", "message"),
    [
        (["a", "1"], "regression", "column 'label' contains 'a', which is not a finite number"),
        (["1e999", "1"], "regression", "'1e999', which is not a finite number"),
        ([("a", "b")], "classes", "contains several labels, 'a', 'b'. Use --targets multilabel"),
        (["a\nb"], None, "control characters or line breaks"),
        (["a\tb|c"], "multilabel", "control characters or line breaks"),
    ],
)
def test_labels_that_do_not_fit_are_refused(cells, targets, message):
    with pytest.raises(UserError, match=message):
        read_targets([column(cells)], targets)


def test_class_columns_that_do_not_fit_are_refused():
    both = [column(["1", "1"], "cat"), column(["0", "1"], "dog")]
    with pytest.raises(UserError, match=r"data row 2 has 2 of 2 classes. Use --targets multilabel"):
        read_targets(both, "classes")
    with pytest.raises(UserError, match="regression has one number per image, got 2 label columns"):
        read_targets(both, "regression")
    with pytest.raises(UserError, match=r"column 'x' contains '2'. Accepted in a column for one class: 0, 1"):
        read_targets([column(["0", "2"], "x"), both[0]])


def test_captions_are_not_labels(monkeypatch):
    monkeypatch.setattr("transxnet.data.formats.table_targets.MOST_ENTRIES", 5)
    with pytest.raises(UserError, match="column 'label' has 3 different labels in 2 rows, too many"):
        read_targets([column(["a, b", "b, c"])])
