import json

import numpy as np
import pytest

from tests.helpers.annotated import write_image
from tests.helpers.label_tables import write_images
from transxnet.data.formats.findings import Findings
from transxnet.data.formats.label_table import TableOptions, find_label_table, read_label_table
from transxnet.data.formats.parts import Parts
from transxnet.utils.errors import UserError


@pytest.fixture
def table(tmp_path):
    """Write a table next to 30 images, 0.png to 29.png."""
    write_images(tmp_path, 30)

    def write(header, *rows, name="labels.csv"):
        path = tmp_path / name
        path.write_text("\n".join([header, *rows]) + "\n")
        return path

    return write


def read(path, targets=None, **options):
    findings = Findings()
    parts, notes = read_label_table(path, TableOptions(**options), targets, findings)
    return parts, notes + findings.notes()


def names(images):
    return None if images is None else images.own_names


def test_table_in_a_folder_or_by_name_is_found(table, tmp_path):
    path = table("path,label")
    assert find_label_table(path) == find_label_table(tmp_path) == Parts(path)
    assert find_label_table(tmp_path / "0.png") == Parts()
    table("path,label", name="labels.tsv")
    with pytest.raises(UserError, match=r"contains labels.csv and labels.tsv. Pass one of them"):
        find_label_table(tmp_path)


def test_images_labels_weights_and_groups_are_read(table, tmp_path):
    path = table("path,label,weight,patient", "0.png,dog,0.5,p", "3.png,cat,,", "1.png,dog,1,p", "2.png,cat,0,")
    (images, val, test), notes = read(path)
    assert (val, test) == (None, None)
    assert (images.own_names, images.path(1)) == (["0.png", "3.png", "1.png", "2.png"], str(tmp_path / "3.png"))
    assert (images.class_names, images.own_labels.tolist()) == (["cat", "dog"], [1, 0, 1, 0])
    assert images.own_weights.tolist() == [0.5, 1, 1, 0]
    groups = images.own_groups.tolist()
    assert groups[0] == groups[2]
    assert len(set(groups)) == 3
    assert notes == [
        "columns: path=path, label=label, group=patient, weight=weight",
        f"paths are relative to {tmp_path}",
        "targets: classes, because column 'label' contains names",
    ]


def test_several_labels_and_values_are_read(table):
    images = read(table("path,tags", "0.png,a|b", "1.png,b"))[0].train
    assert (images.targets, images.own_labels.tolist()) == ("multilabel", [[1, 1], [0, 1]])
    images = read(table("path,age", "0.png,1.5", "1.png,2"))[0].train
    assert (images.targets, images.class_names, images.own_labels.dtype) == ("regression", ["age"], np.float32)
    images = read(table("path,age", "0.png,1", "1.png,2"), "regression")[0].train
    assert images.own_labels.tolist() == [1, 2]


def test_json_lines_with_lists_of_labels_are_read(table):
    rows = [{"image": "0.png", "labels": ["a", "b"]}, {"image": "1.png", "labels": []}]
    images = read(table(*map(json.dumps, rows), name="labels.jsonl"))[0].train
    assert images.own_labels.tolist() == [[1, 1], [0, 0]]


def test_split_column_makes_the_sets_with_common_classes(table):
    rows = ["0.png,a,train", "1.png,b,Validation", "2.png,a,test", "3.png,c,training", "4.png,a,val"]
    parts, notes = read(table("path,label,split", *rows))
    assert list(map(names, parts)) == [["0.png", "3.png"], ["1.png", "4.png"], ["2.png"]]
    assert parts.val.class_names == parts.train.class_names == ["a", "b", "c"]
    assert "no training image has class 'b'" in notes
    assert len(read(table("path,label,split", *rows), split_column="none")[0].train) == 5


def test_unknown_split_value_is_refused(table):
    path = table("path,label,split", "0.png,a,train", "1.png,b,fold1", "2.png,b,")
    with pytest.raises(UserError, match=r"'split' of .* contains 'fold1', ''. Accepted: train, .*--split-column none"):
        read(path)


def test_group_in_two_sets_is_refused_by_name(table):
    path = table("path,label,split,patient", "0.png,a,train,x", "1.png,b,val,x", "2.png,b,val,y", "3.png,a,train,")
    message = "1 groups of column 'patient' are in both the train and the val set: 'x'.*--group-column none"
    with pytest.raises(UserError, match=message):
        read(path)
    assert read(path, group_column="none")[0].train.groups is None


def test_faults_of_rows_are_counted_and_named(table):
    rows = [f"{n}.png,{'ab'[n % 2]}" for n in range(28)]
    path = table("path,label", *rows, "gone.png,a", "29.png,", "3.png,b")
    (images, _, _), notes = read(path)
    assert len(images) == 28
    assert notes[3:] == [
        "1 image is missing, skipped: 'gone.png' in line 30",
        "1 row has no label and is skipped: '29.png' in line 31",
        "1 row repeats an image and its label, and the first is used: 3.png",
    ]
    with pytest.raises(UserError, match=r"2 of 3 images cannot be used(.|\n)*differ from the header(.|\n)*line 3"):
        read(table("path,label", "0.png,a", "1.png", "2.png,a,b"))


def test_missing_images_are_refused_with_the_folder(table, tmp_path):
    (tmp_path / "other").mkdir()
    path = table("path,label", "x/a.png,a", "x/b.png,b")
    with pytest.raises(UserError, match=rf"none of the 2 images .* relative to {tmp_path}; the first is 'x/a.png'"):
        read(path)
    with pytest.raises(UserError, match=rf"relative to {tmp_path / 'other'}; .*Pass --image-folder or"):
        read(table("path,label", "0.png,a"), image_folder=str(tmp_path / "other"))


def test_rows_of_one_image_must_agree_or_add_up(table):
    path = table("path,label", "0.png,a", "1.png,b", "./0.png,a", "0.png,b")
    with pytest.raises(UserError, match=r"1 image has several rows with different labels.*multilabel\):\n  0.png"):
        read(path)
    images = read(path, "multilabel")[0].train
    assert images.own_labels.tolist() == [[1, 1], [0, 1]]


def test_images_in_another_folder_are_found(table, tmp_path):
    for number in range(2):
        write_image(tmp_path / "set" / "images" / f"{number}.jpg")
    (tmp_path / "set" / "labels.csv").write_text("image_id,label\n0,a\n1,b\n")
    images = read(tmp_path / "set" / "labels.csv")[0].train
    assert images.path(0) == str(tmp_path / "set" / "images" / "0.jpg")
    images = read(table("path,label", "0,a", "1,b"), image_folder=str(tmp_path / "set" / "images"))[0].train
    assert images.own_names == ["0.jpg", "1.jpg"]


@pytest.mark.parametrize(
    ("rows", "options", "message"),
    [
        ([], {}, "contains no rows"),
        (["0.png,"], {}, "no row of .* has a label in 'label'. Pass another --label-column"),
        (["0.png,", "x.png,a"], {}, "no row of .* has both an image and a label"),
        (["0.png,a"], dict(minimum=2), "contains one class, 'a'; a classifier needs at least 2"),
    ],
)
def test_tables_without_use_are_refused(table, rows, options, message):
    with pytest.raises(UserError, match=message):
        read_label_table(table("path,label", *rows), TableOptions(), None, Findings(), **options)


@pytest.mark.parametrize("weight", ["x", "-1", "nan", "inf"])
def test_weights_must_be_numbers(table, weight):
    with pytest.raises(UserError, match=f"'weight' must contain numbers of at least 0, got '1', '{weight}'"):
        read(table("path,label,weight", "0.png,a,1", f"1.png,a,{weight}"))


def test_all_columns_are_recognized_in_parquet(table, tmp_path):
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow.parquet import write_table

    columns = {"path": ["0.png", "1.png"], "label": [3, 4], "split": ["train", "val"], "group": [1, 2]}
    write_table(pyarrow.table(columns), tmp_path / "labels.parquet")
    parts, _ = read(tmp_path / "labels.parquet")
    assert list(map(names, parts)) == [["0.png"], ["1.png"], None]
    assert parts.train.class_names == ["3", "4"]
