import pytest

from tests.helpers.annotated import write_image
from transxnet.data.reading.file_search import find_file, is_image, list_images, named_folders, walk_images


def test_files_are_found_by_path_or_by_name(tmp_path):
    write_image(tmp_path / "a/1.png")
    write_image(tmp_path / "2.png")
    assert find_file(tmp_path, "a/1.png") == find_file(tmp_path, "a\\1.png") == (tmp_path / "a/1.png", False)
    assert find_file(tmp_path, "somewhere/else/2.png") == (tmp_path / "2.png", True)
    assert find_file(tmp_path, "C:\\data\\a\\1.png") == (tmp_path / "a/1.png", True)
    for name in ("1.png", "a", "", "a\0b", "/", "http://[x/1.png", "?d="):
        assert find_file(tmp_path, name).path is None


@pytest.mark.parametrize(
    "name",
    [
        "https://host/bucket/a%20b/1.png?token=x",
        "s3://bucket/a b/1.png",
        "file:///home/x/a%20b/1.png",
        "/data/local-files/?d=photos%2Fa%20b%2F1.png",
        "a%20b/1.png",
    ],
)
def test_urls_are_found_by_their_path(name, tmp_path):
    write_image(tmp_path / "a b/1.png")
    assert find_file(tmp_path, name).path == tmp_path / "a b/1.png"


def test_file_of_the_exact_name_precedes_the_decoded_one(tmp_path):
    write_image(tmp_path / "a%20b.png")
    write_image(tmp_path / "a b.png")
    assert find_file(tmp_path, "a%20b.png") == (tmp_path / "a%20b.png", False)


def test_subfolders_are_named_in_lower_case(tmp_path):
    fill(tmp_path, "Images/a", "b")
    assert named_folders(tmp_path) == {"images": tmp_path / "Images"}
    assert named_folders(tmp_path / "b") == named_folders(tmp_path / "c") == {}


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


@pytest.mark.parametrize(
    ("stored", "named"), [("caf\u00e9.png", "cafe\u0301.png"), ("cafe\u0301.png", "a/caf\u00e9.png")]
)
def test_files_are_found_in_another_unicode_form(tmp_path, stored, named):
    (tmp_path / stored).touch()
    assert find_file(tmp_path, named).path == tmp_path / stored


def test_other_files_are_reported(tmp_path):
    for name in ("a.png", "b.heic", ".hidden", "notes.txt"):
        (tmp_path / name).touch()
    others = []
    assert list(walk_images(tmp_path, others.append)) == [str(tmp_path / "a.png")]
    assert others == [str(tmp_path / "b.heic"), str(tmp_path / "notes.txt")]
