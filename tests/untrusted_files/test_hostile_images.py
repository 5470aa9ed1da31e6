"""Broken image files: each is read or refused with a reason, in bounded memory and time."""

import os
import shutil
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.helpers.broken_images import BrokenImage, broken_image
from tests.helpers.limited_process import outcome_table, run_limited
from transxnet.data.formats.class_folders import read_class_folders
from transxnet.data.formats.unreadable_images import drop_unreadable
from transxnet.data.reading.file_search import glob_files
from transxnet.data.reading.image_decoding import (
    MAX_BYTES,
    UnreadableImage,
    open_image,
    read_label_map,
    upright_size,
)
from transxnet.data.reading.image_search import find_images
from transxnet.utils.errors import UserError

NO_MEMORY = "refused: not enough memory"
_LARGE = ("huge sides claimed", "a number made large")
"""Kinds for which libtiff may request a full-height strip of maximum width at once, and is refused the memory."""


def outcome_of(folder: Path, case: BrokenImage) -> str:
    """Read a file in all ways in which images and label maps are read."""
    path = folder / case.name
    path.write_bytes(case.content)
    outcome = "read"
    try:
        image = open_image(path)
        assert image.mode == "RGB"
        if image.width * image.height < 1_000_000:
            assert open_image(case.content).tobytes() == image.tobytes()
        del image
    except UnreadableImage as error:
        _says_why(error)
        outcome = NO_MEMORY if "MemoryError" in str(error) else "refused"
    for look in (
        lambda file: upright_size(str(file), full=False),
        lambda file: read_label_map(str(file)),
    ):
        try:
            look(path)
        except UnreadableImage as error:
            _says_why(error)
    path.unlink()
    return outcome


def _says_why(error: UnreadableImage) -> None:
    assert str(error).strip()


@pytest.mark.parametrize("count", [270, pytest.param(11_700, marks=pytest.mark.long)])
def test_every_broken_image_is_read_or_refused(count, tmp_path):
    cases = [broken_image(number) for number in range(count)]
    outcomes = run_limited(cases, lambda case: outcome_of(tmp_path, case))
    print(f"\n{outcome_table([case.kind for case in cases], outcomes)}")
    wrong = {
        f"{case.name} ({case.kind}): {outcome}"
        for case, outcome in zip(cases, outcomes, strict=True)
        if outcome not in ("read", "refused") and not (outcome == NO_MEMORY and case.kind in _LARGE)
    }
    assert not wrong
    assert 0.1 < outcomes.count("read") / count < 0.9  # otherwise the corpus shows nothing


def test_formats_for_other_programs_are_refused(tmp_path):
    """PostScript is a language; Pillow would pass such a file, whatever its extension, to an interpreter."""
    path = tmp_path / "photo.jpg"
    Image.new("RGB", (8, 8)).save(path, "EPS")
    with pytest.raises(UnreadableImage, match="unsupported format"):
        open_image(path)
    for form, ending in (("PCX", "png"), ("TGA", "tif"), ("ICO", "bmp"), ("PDF", "gif")):
        Image.new("RGB", (16, 16)).save(tmp_path / f"photo.{ending}", form)
        with pytest.raises(UnreadableImage, match="unsupported format"):
            open_image(tmp_path / f"photo.{ending}")


def test_far_too_large_file_is_not_read(tmp_path):
    """Pillow's WebP decoder reads the whole file first."""
    path = tmp_path / "large.webp"
    path.write_bytes(b"RIFF\xff\xff\xff\x7fWEBPVP8 ")
    os.truncate(path, MAX_BYTES + 1)  # a sparse file, which takes no space
    with pytest.raises(UnreadableImage, match="more than"):
        open_image(path)


def odd_files(folder: Path) -> list[str]:
    """Files that a folder of images may contain in addition to images."""
    os.mkfifo(folder / "pipe.png")
    (folder / "nothing.png").touch()
    (folder / "gone.png").symlink_to("elsewhere.png")
    (folder / "circle.png").symlink_to("circle.png")
    (folder / "device.png").symlink_to("/dev/zero")
    (folder / "folder.png").mkdir()
    (folder / "a text.png").write_text("no image")
    (folder / "two\nlines.png").write_text("no image")
    Path(os.fsdecode(os.fsencode(folder) + b"/\xff\xfe.png")).write_text("no image")
    with socket.socket(socket.AF_UNIX) as plug:
        plug.bind(str(folder / "s.png"))
    return [name for name in os.listdir(folder) if not name.endswith(".bmp") and name != "folder.png"]


def test_pipes_devices_and_links_do_not_hang_and_are_listed(tmp_path):
    for name in ("cat", "dog"):
        (tmp_path / name).mkdir()
        for number in range(200):
            Image.new("RGB", (4, 4), (number, 0, 0)).save(tmp_path / name / f"{number:03d}.bmp")
    odd = odd_files(tmp_path / "cat")
    (left,), notes = drop_unreadable(read_class_folders(tmp_path))
    assert len(left) == 400
    assert notes[0].startswith(f"{len(odd)} images cannot be read, skipped")
    for name in odd:
        assert f"cat/{name}: " in notes[0]


def test_label_maps_that_are_pipes_do_not_hang(tmp_path):
    os.mkfifo(tmp_path / "pipe.png")
    for path in (tmp_path / "pipe.png", "/dev/zero", tmp_path):
        with pytest.raises(UnreadableImage):
            read_label_map(str(path))


def test_circular_links_end_a_search(tmp_path):
    Image.new("RGB", (4, 4)).save(tmp_path / "a.png")
    for name in ("x", "y", "z"):
        (tmp_path / name).symlink_to(".")
    assert list(find_images([tmp_path])) == [str(tmp_path / "a.png")]
    assert list(find_images([f"{tmp_path}/**/*.png"])) == [str(tmp_path / "a.png")]


@pytest.mark.parametrize(
    "pattern",
    ["*.png", "**/*.png", "**", "a*/**/*.png", "a/**/c/*", "[ab]/**/*.png", "**/d/**/*.png", "*", "none/**/*"],
)
def test_glob_without_links_equals_pythons_glob(tmp_path, monkeypatch, pattern):
    import glob

    for name in (
        "1.png",
        "a/2.png",
        "a/b/c/3.png",
        "a/c/4.png",
        "b/d/5.png",
        "b/.hidden/6.png",
        "b/.7.png",
        "ab/[x]/8.png",
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    monkeypatch.chdir(tmp_path)
    for whole in (pattern, f"{tmp_path}/{pattern}"):
        found = {name for name in glob_files(whole) if os.path.isfile(name)}
        assert found == {name for name in glob.iglob(whole, recursive=True) if os.path.isfile(name)}


def test_very_deep_folder_is_searched(tmp_path):
    deep = tmp_path / "/".join(["d"] * 400)
    deep.mkdir(parents=True)
    Image.new("RGB", (4, 4)).save(deep / "a.png")
    assert list(find_images([tmp_path])) == [str(deep / "a.png")]
    assert list(find_images([f"{tmp_path}/**/*.png"])) == [str(deep / "a.png")]
    shutil.rmtree(tmp_path / "d")


@pytest.mark.parametrize("name", ["x" * 5000, "x\0y", "\ud800"])
def test_impossible_file_names_are_not_found(name):
    from transxnet.data.recognize import recognize
    from transxnet.runs.load import load_model

    uses = {
        "does not exist": lambda: list(find_images([name])),
        "is neither an existing folder nor a sample": lambda: recognize(name),
        "^run folder .* does not exist": lambda: load_model(name),
    }
    for message, use in uses.items():
        with pytest.raises(UserError, match=f"(?s){message}"):
            use()


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that other users can enter, unlike pytest's temporary folders."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


def test_missing_permission_is_reported(open_folder):
    """Run as another user, since root may read everything."""
    tmp_path = open_folder
    for part in ("images/cat", "images/dog", "closed/cat", "json"):
        (tmp_path / part).mkdir(parents=True)
    for name in ("cat/a.png", "dog/b.png"):
        Image.new("RGB", (4, 4)).save(tmp_path / "images" / name)
    (tmp_path / "json/labels.json").write_text("{}")
    for locked in ("images/cat/a.png", "closed/cat", "json/labels.json"):
        (tmp_path / locked).chmod(0)

    def attempt(case: str) -> str:
        from transxnet.data.recognize import recognize

        if os.geteuid() == 0:
            os.setegid(65534)
            os.seteuid(65534)
        try:
            if case == "image":
                open_image(tmp_path / "images/cat/a.png")
            elif case == "class folder":
                read_class_folders(tmp_path / "closed")
            elif case == "search":
                list(find_images([tmp_path / "closed"]))
            else:
                recognize(str(tmp_path / "json"))
        except (UnreadableImage, UserError) as error:
            return "refused" if "ermission" in str(error) else str(error)
        return "read"

    try:
        assert run_limited(["image", "class folder", "json"], attempt) == ["refused"] * 3
    finally:
        (tmp_path / "closed/cat").chmod(0o755)


def test_whole_files_of_the_corpus_read_as_drawn():
    """The corpus is as intended: its valid files are readable, and lossless ones have the original pixels."""
    from tests.helpers.broken_images import whole_files

    noise = np.random.default_rng(0)  # repeats the random draws of the corpus
    color = noise.integers(0, 256, (37, 53, 3), dtype=np.uint8)
    wide = np.round(noise.integers(0, 65536, (37, 53), dtype=np.uint16) / 257)
    real = np.round(noise.random((37, 53), dtype=np.float32).astype(float) * 255)
    palette = np.asarray(Image.fromarray(color).convert("P").convert("RGB"))
    share = np.asarray(Image.fromarray(color).convert("L"))[..., None] / 255
    over_white = color * share + 255 * (1 - share)
    as_drawn = ("png animated", "bmp color", "tif pages", "ppm color", "jp2 boxes")
    packed = ("tif tiff_lzw", "tif tiff_adobe_deflate", "tif packbits")
    expected = {
        **dict.fromkeys((*as_drawn, *packed), color),
        **dict.fromkeys(("png color", "tif plain"), np.rot90(color, -1)),  # rotated by their EXIF orientation
        **dict.fromkeys(("gif still", "bmp palette"), palette),
        **dict.fromkeys(("png wide", "tif wide", "pgm wide"), wide[..., None].repeat(3, 2)),
        **dict.fromkeys(("png clear", "webp clear"), over_white),
        "tif real": real[..., None].repeat(3, 2),
        "pbm text": 255 * (1 - np.array([[0, 1, 0, 1], [1, 0, 1, 0]])[..., None].repeat(3, 2)),
        "ppm text": np.arange(12).reshape(2, 2, 3),
    }
    files = whole_files()
    assert len(files.keys() & expected.keys()) >= 16
    for form, content in files.items():
        image = np.asarray(open_image(content)).astype(float)
        if form in expected:
            assert image.shape == expected[form].shape, form
            assert abs(image - expected[form]).max() <= (1 if "clear" in form else 0), form
        elif form != "bmp runs":
            assert sorted(image.shape) == [3, 37, 53], form
