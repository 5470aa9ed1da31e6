import shutil
from pathlib import Path

import pytest

from transxnet.data.reading.image_search import find_images
from transxnet.prediction.predict import predict
from transxnet.utils.errors import UserError


def test_existing_results_are_overwritten_only_on_request(photos_run, image_folder, tmp_path, quiet):
    options = dict(out=tmp_path / "out", workers=0, console=quiet)
    out = predict(photos_run.path, image_folder / "red", **options).folder
    before = (out / "predictions.csv").read_bytes()
    with pytest.raises(
        UserError, match=r"already contains predictions\.csv, .* Choose another --out, or use --overwrite"
    ):
        predict(photos_run.path, image_folder / "blue", **options)
    assert (out / "predictions.csv").read_bytes() == before
    (out / "mine.txt").write_text("mine")
    predict(photos_run.path, image_folder / "blue", overwrite=True, **options)
    assert (out / "predictions.csv").read_bytes() != before
    assert (out / "mine.txt").is_file()


def test_no_readable_image_is_an_error_and_leaves_no_file(photos_run, tmp_path, quiet):
    (tmp_path / "bad.png").write_bytes(b"no image")
    with pytest.raises(
        UserError, match=r"none of the 1 images could be predicted. Error of the last: .*bad.png: not an image"
    ):
        predict(photos_run.path, tmp_path / "bad.png", out=tmp_path / "out", workers=0, console=quiet)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("inputs", "options", "message"),
    [
        ("nowhere.png", {}, "'nowhere.png' does not exist"),
        ("nowhere/*.png", {}, "no file matches 'nowhere"),
        ("empty", {}, "no images found in empty"),
        ([], {}, "no images found in"),
        ("image_folder", {"top_k": 0}, "top_k must be an integer of at least 1, got 0"),
        ("image_folder", {"batch_size": 0}, "batch_size must be"),
        ("image_folder", {"workers": -1}, "workers must be"),
        ("image_folder", {"device": "gpu"}, "device must be 'auto' or 'cpu' or 'cuda' or 'mps', got 'gpu'"),
        ("image_folder", {"out": "image_folder/red/000.png"}, "is a file, but --out must be a folder"),
        ("image_folder", {"out": "image_folder/red/000.png/out"}, "cannot create folder"),
        ("image_folder", {"file": "weights.pth"}, "is a run folder, which contains its weights"),
    ],
)
def test_bad_input_is_an_error_and_leaves_no_file(
    photos_run, image_folder, tmp_path, quiet, monkeypatch, inputs, options, message
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match=message):
        predict(photos_run.path, inputs, **{"workers": 0, "console": quiet, **options})
    assert not (tmp_path / "predictions").exists()


def test_unfinished_run_is_an_error_that_names_resume(photos_run, image_folder, tmp_path, quiet):
    run = shutil.copytree(photos_run.path, tmp_path / "run")
    (run / "model.json").unlink()
    with pytest.raises(UserError, match=r"is not finished. Resume it with: transxnet train --resume"):
        predict(run, image_folder, out=tmp_path / "out", console=quiet)


def test_files_folders_and_globs_can_be_mixed(image_folder):
    inputs = [image_folder / "red" / "003.png", image_folder / "green", str(image_folder / "*" / "00[12].png")]
    found = [Path(path).relative_to(image_folder).as_posix() for path in find_images(inputs)]
    assert found == [
        "red/003.png", "green/000.png", "green/001.png", "green/002.png", "green/003.png", "blue/001.png",
        "blue/002.png", "green/001.png", "green/002.png", "red/001.png", "red/002.png",
    ]  # fmt: skip


def test_file_with_a_glob_like_name_is_that_file(image_folder):
    path = shutil.copy(image_folder / "red" / "000.png", image_folder / "a[1].png")
    assert list(find_images([path])) == [str(path)]


def test_skipped_files_of_a_folder_are_counted(photos_run, image_folder, tmp_path, console):
    for name in ("a.heic", "b.HEIC", ".hidden", "notes"):
        (image_folder / "red" / name).touch()
    predict(photos_run.path, image_folder / "red", out=tmp_path / "out", workers=0, console=console)
    assert "3 files skipped, no image extension: 2 .heic, 1 notes" in console.file.getvalue()
