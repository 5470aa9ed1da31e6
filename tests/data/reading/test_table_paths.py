import pytest

from tests.helpers.annotated import write_image
from tests.helpers.label_tables import write_images
from transxnet.data.reading.table_paths import ImageFinder, image_folder, path_text, table_images
from transxnet.utils.errors import UserError


def test_paths_are_found_as_tables_write_them(tmp_path):
    write_image(tmp_path / "a" / "0.png")
    write_image(tmp_path / "1.2.840.JPG")
    finder = ImageFinder(str(tmp_path))
    assert finder.find("a/0.png") == "a/0.png"
    assert finder.find("a\\0.png") == "a/0.png"
    assert finder.find("C:\\old\\1.2.840.JPG") == "1.2.840.JPG"
    assert finder.find("a/0") == "a/0.png"
    assert finder.find("1.2.840") == "1.2.840.JPG"
    assert finder.find(str(tmp_path / "a" / "0.png")) == "a/0.png"
    for path in ("", "2", "2.png", "a", "x" * 5000, "nul\0.png"):
        assert finder.find(path) is None


@pytest.mark.parametrize("name", ["images", "train", "train_images"])
def test_folder_is_the_one_with_most_of_the_images(tmp_path, name):
    paths = write_images(tmp_path / name, 3)
    write_image(tmp_path / paths[0])
    (tmp_path / "images").mkdir(exist_ok=True)
    assert image_folder(tmp_path / "train.csv", paths) == str(tmp_path / name)
    assert image_folder(tmp_path / "train.csv", paths[:1]) == str(tmp_path)


def test_given_folder_must_exist(tmp_path):
    assert image_folder(tmp_path / "t.csv", [], str(tmp_path)) == str(tmp_path)
    with pytest.raises(UserError, match=r"image folder .*none does not exist. Pass another --image-folder."):
        image_folder(tmp_path / "t.csv", [], str(tmp_path / "none"))


def test_images_of_a_table_are_listed(tmp_path):
    write_images(tmp_path / "images", 2)
    (tmp_path / "t.csv").write_text("id,label\n0,a\n1,b\nmissing,b\n")
    names = ["0.png", "1.png", "missing"]
    assert list(table_images(tmp_path / "t.csv")) == [str(tmp_path / "images" / name) for name in names]


def test_list_as_path_is_refused(tmp_path):
    with pytest.raises(UserError, match="contains a list"):
        path_text(tmp_path, ("a", "b"))
