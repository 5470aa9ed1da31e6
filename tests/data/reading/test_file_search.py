import pytest

from tests.helpers.annotated import write_image
from transxnet.data.reading.file_search import find_file, is_image, list_images


def test_files_are_found_by_path_or_by_name(tmp_path):
    write_image(tmp_path / "a/1.png")
    write_image(tmp_path / "2.png")
    assert find_file(tmp_path, "a/1.png") == find_file(tmp_path, "a\\1.png") == tmp_path / "a/1.png"
    assert find_file(tmp_path, "somewhere/else/2.png") == tmp_path / "2.png"
    assert find_file(tmp_path, "1.png") is None
    assert find_file(tmp_path, "a") is None
    assert find_file(tmp_path, "") is None
    assert find_file(tmp_path, "a\0b") is None


def fill(root, *names):
    """Make empty files and their folders."""
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()


def test_uppercase_extensions_count_and_other_files_do_not(tmp_path):
    fill(tmp_path, "a.JPG", "b.Png", "c.txt", "d", "e.jpg.txt", "png", "f.TIFF")
    assert [path.name for path in list_images(tmp_path)] == ["a.JPG", "b.Png", "f.TIFF"]


@pytest.mark.parametrize(
    ("name", "expected"), [("a.jpeg", True), ("a.b.WEBP", True), (".a.png", False), (".png", False), ("a.pdf", False)]
)
def test_image_is_recognized_by_its_extension(name, expected):
    assert is_image(name) is expected
