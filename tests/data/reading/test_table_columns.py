import pytest

from transxnet.data.reading.table_columns import Columns, find_columns, find_path_column
from transxnet.data.reading.table_files import open_table
from transxnet.utils.errors import UserError


@pytest.fixture
def table(tmp_path):
    def make(header, *rows):
        path = tmp_path / "labels.csv"
        path.write_text("\n".join([header, *rows]))
        return open_table(path)

    return make


@pytest.mark.parametrize(
    ("header", "columns"),
    [
        ("path,label", Columns("path", ("label",))),
        ("label,path,id,class", Columns("path", ("label",))),
        ("Filename,Class Name", Columns("Filename", ("Class Name",))),
        ("image_id,target,fold", Columns("image_id", ("target",))),
        ("Image Index,Finding Labels,Patient ID", Columns("Image Index", ("Finding Labels",), group="Patient ID")),
        ("file,category,split,site,confidence", Columns("file", ("category",), "split", "site", "confidence")),
        ("id,breed", Columns("id", ("breed",))),
        (",path,breed,split", Columns("path", ("breed",), "split")),
    ],
)
def test_columns_are_recognized_by_common_names(table, header, columns):
    assert find_columns(table(header)) == columns


def test_recognized_columns_are_shown(table):
    assert str(find_columns(table("file,class,patient"))) == "columns: path=file, label=class, group=patient"
    columns = find_columns(table("path,cat,dog", "0.png,1,0"))
    assert str(columns) == "columns: path=path, label=2 columns, one per class"


def test_columns_of_zeros_and_ones_are_classes(table):
    found = find_columns(table("Path,Sex,Age,Edema,Fracture,Empty", "0.png,F,60,1.0,,", "1.png,M,1,-1.0,0.0,"))
    assert found.labels == ("Edema", "Fracture")


def test_given_columns_take_precedence(table):
    made = table("path,label,other,split,cat,dog", "0.png,1,2,train,0,1")
    found = find_columns(made, path="other", label="cat,dog", split="none", group="label")
    assert found == Columns("other", ("cat", "dog"), None, "label")
    assert find_path_column(made) == "path"


@pytest.mark.parametrize(
    ("header", "given", "message"),
    [
        (
            "path,kind,size",
            {},
            r"column 'label' is missing. Columns found: 'path', 'kind', 'size'. Pass --label-column N",
        ),
        (
            "name,label",
            {},
            r"column 'path' is missing. Columns found: 'name', 'label'. Pass --path-column NAME, or rena",
        ),
        (
            "path,label",
            {"label": "lable"},
            r"column 'lable' is missing.* Did you mean 'label'\? Pass another --label-c",
        ),
        ("path,label", {"label": "a,b"}, "column 'a' is missing"),
        ("path,label", {"group": "patient"}, "column 'patient' is missing.*--group-column"),
        ("path,label,label", {}, "2 columns are named 'label'. Rename all but one."),
        ("0.png,cat", {}, r"it has no header, its first line is '0.png', 'cat'. Add a first line .* path,label"),
        ("", {}, "is empty"),
    ],
)
def test_missing_columns_are_named_with_the_next_step(table, header, given, message):
    with pytest.raises(UserError, match=message):
        find_columns(table(header, "0.png,cat,3"), **given)
