import pytest

from transxnet.data.formats.color_tables import read_color_table
from transxnet.utils.errors import UserError


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("labelmap.txt", "# label:color_rgb:parts:actions\nsky:0,0,0::\n\ntree: 1, 2, 255 :leaf:\n"),
        ("class_dict.csv", "name,r,g,b\nsky,0,0,0\ntree,1,2,255\n"),
        ("colors.csv", "Red;Green;Blue;Class\n0;0;0;sky\n1;2;255;tree\n\n"),
        ("classes.csv", "id,label, r, g, b\n0,sky,0,0,0\n1,tree,1,2,255"),
    ],
)
def test_names_and_colors_are_read(tmp_path, file, content):
    (tmp_path / file).write_text(content)
    table = read_color_table(tmp_path / "nowhere", tmp_path)
    assert table.names == ["sky", "tree"]
    assert table.colors.tolist() == [[0, 0, 0], [1, 2, 255]]
    assert table.file == tmp_path / file


def test_files_without_colors_are_no_table(tmp_path):
    (tmp_path / "classes.csv").write_text("Pixel Value, Class\n0, sky\n")
    (tmp_path / "colors.csv").write_text("")
    assert read_color_table(tmp_path) is None


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("name,r,g,b\nsky,0,0,256", "'0,0,256' is not the color of 'sky'"),
        ("name,r,g,b\nsky,0,0", "invalid literal"),
        ("name,r,g,b\n,0,0,0", "'' is not a class name"),
        ("name,r,g,b\nsky,0,0,0\nsky,1,1,1", "name 'sky' occurs more than once"),
        ("name,r,g,b\nsky,0,0,0\ntree,0,0,0", "color .0, 0, 0. occurs more than once"),
        ("name,r,g,b\n", "it names no classes"),
    ],
)
def test_invalid_tables_are_refused(tmp_path, content, reason):
    (tmp_path / "classes.csv").write_text(content)
    with pytest.raises(UserError, match=rf"class colors from .*classes\.csv: {reason}.*Accepted: lines name:r,g,b"):
        read_color_table(tmp_path)
