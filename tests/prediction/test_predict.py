import csv
import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import transxnet
from tests.helpers.class_folders import QUICK, write_photos
from transxnet.data.reading.image_search import find_images
from transxnet.prediction.classes import predict_images
from transxnet.prediction.classifier_backends import load_predictor
from transxnet.prediction.predict import predict
from transxnet.utils.errors import UserError


def rows(folder: Path) -> list[dict[str, str]]:
    with (folder / "predictions.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def lines(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / "predictions.jsonl").read_text(encoding="utf-8").split("\n") if line]


@pytest.fixture
def pictures(tmp_path) -> Path:
    """A folder of pictures, one of them within a folder, with a file that is no image and a truncated one."""
    root = write_photos(tmp_path / "pictures", 4)
    whole = (root / "red" / "000.png").read_bytes()
    (root / "blue" / "broken.png").write_bytes(whole[: len(whole) // 2])
    (root / "blue" / "notes.txt").write_text("no image")
    return root


@pytest.mark.parametrize("workers", [0, 2])
def test_every_image_is_predicted_in_order_and_the_unreadable_are_reported(
    photos_run, pictures, tmp_path, quiet, workers
):
    out = predict(photos_run.path, pictures, out=tmp_path / "out", batch_size=3, workers=workers, console=quiet)
    expected = sorted(str(path) for path in pictures.rglob("*.png"))
    assert [row["path"] for row in rows(out)] == [line["path"] for line in lines(out)] == expected
    bad = [row for row in rows(out) if row["error"]]
    assert [Path(row["path"]).name for row in bad] == ["broken.png"]
    assert bad[0]["class1"] == bad[0]["probability1"] == ""
    assert "top" not in lines(out)[expected.index(bad[0]["path"])]
    assert not [path for path in out.iterdir() if path.name not in ("predictions.csv", "predictions.jsonl")]


def test_predictions_are_those_of_the_evaluation(photos_run, photos, tmp_path, quiet):
    evaluation = transxnet.eval(photos_run.path, console=quiet)
    files = [photos / name for name in evaluation.names]
    out = predict(photos_run.path, files, out=tmp_path / "out", top_k=1, workers=0, console=quiet)
    said = [evaluation.class_names[i] for i in evaluation.predictions]
    assert [row["class1"] for row in rows(out)] == said
    probabilities = [float(row["probability1"]) for row in rows(out)]
    np.testing.assert_allclose(probabilities, evaluation.probabilities.max(axis=1), atol=2e-6)


def test_the_classes_come_in_the_order_of_their_probabilities_which_add_up(photos_run, pictures, tmp_path, quiet):
    out = predict(photos_run.path, pictures / "red", out=tmp_path / "out", top_k=50, workers=0, console=quiet)
    for line in lines(out):
        shares = [entry["probability"] for entry in line["top"]]
        assert sorted(entry["class"] for entry in line["top"]) == ["blue", "green", "red"]  # as many as there are
        assert shares == sorted(shares, reverse=True)
        assert sum(shares) == pytest.approx(1, abs=1e-5)
    assert list(rows(out)[0]) == [
        "path", "class1", "probability1", "class2", "probability2", "class3", "probability3", "error",
    ]  # fmt: skip


def test_files_folders_and_globs_go_together(pictures):
    inputs = [pictures / "red" / "003.png", pictures / "green", str(pictures / "*" / "00[12].png")]
    found = [Path(path).relative_to(pictures).as_posix() for path in find_images(inputs)]
    assert found == [
        "red/003.png", "green/000.png", "green/001.png", "green/002.png", "green/003.png", "blue/001.png",
        "blue/002.png", "green/001.png", "green/002.png", "red/001.png", "red/002.png",
    ]  # fmt: skip


def test_a_file_whose_name_looks_like_a_glob_is_that_file(pictures):
    path = shutil.copy(pictures / "red" / "000.png", pictures / "a[1].png")
    assert list(find_images([path])) == [str(path)]


def test_images_are_read_as_they_are_asked_for(photos_run, pictures, monkeypatch):
    opened = []
    module = "transxnet.data.datasets.unlabeled_dataset.open_image"
    monkeypatch.setattr(module, lambda path: opened.append(path) or Image.new("RGB", (32, 32)))
    answers = predict_images(load_predictor(photos_run.path), [pictures], batch_size=2)
    next(answers)
    assert len(opened) == 2


@pytest.mark.parametrize("name", ["new\nline.png", 'quo"te, comma.png', "ümläut 日本.png", b"not-\xff-text.png"])
def test_any_file_name_comes_back(photos_run, pictures, tmp_path, quiet, name):
    path = os.path.join(os.fsencode(tmp_path), os.fsencode(name))
    shutil.copy(pictures / "red" / "000.png", path)
    out = predict(photos_run.path, os.fsdecode(path), out=tmp_path / "out", workers=0, console=quiet)
    assert os.fsencode(lines(out)[0]["path"]) == path
    if isinstance(name, str):
        assert rows(out)[0]["path"] == os.fsdecode(path)
    else:
        assert rows(out)[0]["path"].endswith("not-\\udcff-text.png")
    assert len(rows(out)) == 1


def test_nothing_is_written_over_unless_asked(photos_run, pictures, tmp_path, quiet):
    options = dict(out=tmp_path / "out", workers=0, console=quiet)
    out = predict(photos_run.path, pictures / "red", **options)
    before = (out / "predictions.csv").read_bytes()
    with pytest.raises(UserError, match=r"predictions.csv exists already. Write over it by --overwrite"):
        predict(photos_run.path, pictures / "blue", **options)
    assert (out / "predictions.csv").read_bytes() == before
    (out / "mine.txt").write_text("mine")
    predict(photos_run.path, pictures / "blue", overwrite=True, **options)
    assert (out / "predictions.csv").read_bytes() != before
    assert (out / "mine.txt").is_file()


def test_where_not_one_image_can_be_read_nothing_is_left(photos_run, tmp_path, quiet):
    (tmp_path / "bad.png").write_bytes(b"no image")
    with pytest.raises(UserError, match=r"none of the 1 images could be read; the last: .*bad.png: not an image"):
        predict(photos_run.path, tmp_path / "bad.png", out=tmp_path / "out", workers=0, console=quiet)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("inputs", "options", "said"),
    [
        ("nowhere.png", {}, "there is no file or folder 'nowhere.png'"),
        ("nowhere/*.png", {}, "nothing matches 'nowhere"),
        ("empty", {}, "no image found in empty"),
        ([], {}, "no image found in"),
        ("pictures", {"top_k": 0}, "top_k must be a whole number of at least 1, got 0"),
        ("pictures", {"batch_size": 0}, "batch_size must be"),
        ("pictures", {"workers": -1}, "workers must be"),
        ("pictures", {"out": "pictures/red/000.png"}, "cannot make the folder"),
        ("pictures", {"file": "weights.pth"}, "is a run folder with weights of its own"),
    ],
)
def test_bad_input_is_said(photos_run, pictures, tmp_path, quiet, monkeypatch, inputs, options, said):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match=said):
        predict(photos_run.path, inputs, **{"workers": 0, "console": quiet, **options})
    assert not (tmp_path / "predictions").exists()


def test_a_run_that_is_not_finished_says_how_to_go_on(photos_run, pictures, tmp_path, quiet):
    run = shutil.copytree(photos_run.path, tmp_path / "run")
    (run / "model.json").unlink()
    with pytest.raises(UserError, match=r"holds no finished model yet. Go on with its training: --resume"):
        predict(run, pictures, out=tmp_path / "out", console=quiet)


def test_a_model_trained_on_two_classes_gives_two(pictures, tmp_path, quiet):
    shutil.rmtree(pictures / "green")
    shutil.rmtree(pictures / "blue")
    write_photos(tmp_path / "rest", 4, names=["green"])
    (tmp_path / "rest" / "green").rename(pictures / "green")
    run = transxnet.train(pictures, out=tmp_path / "run", console=quiet, **{**QUICK, "epochs": 1, "batch_size": 2})
    out = predict(run.path, pictures, out=tmp_path / "out", workers=0, console=quiet)
    assert {len(line["top"]) for line in lines(out)} == {2}
