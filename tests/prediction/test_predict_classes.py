import csv
import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest

import transxnet
from tests.helpers.class_folders import QUICK, write_photos
from transxnet.prediction.predict import predict


def rows(folder: Path) -> list[dict[str, str]]:
    with (folder / "predictions.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def lines(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / "predictions.jsonl").read_text(encoding="utf-8").split("\n") if line]


@pytest.mark.parametrize("workers", [0, 2])
def test_images_keep_order_and_unreadable_ones_get_an_error(photos_run, image_folder, tmp_path, quiet, workers):
    out = predict(
        photos_run.path, image_folder, out=tmp_path / "out", batch_size=3, workers=workers, console=quiet
    ).folder
    expected = sorted(str(path) for path in image_folder.rglob("*.png"))
    assert [row["path"] for row in rows(out)] == [line["path"] for line in lines(out)] == expected
    bad = [row for row in rows(out) if row["error"]]
    assert [Path(row["path"]).name for row in bad] == ["broken.png"]
    assert bad[0]["class1"] == bad[0]["probability1"] == ""
    assert "top" not in lines(out)[expected.index(bad[0]["path"])]
    assert not [path for path in out.iterdir() if path.name not in ("predictions.csv", "predictions.jsonl")]


def test_classes_are_sorted_by_probability_and_sum_to_one(photos_run, image_folder, tmp_path, quiet):
    out = predict(
        photos_run.path, image_folder / "red", out=tmp_path / "out", top_k=50, workers=0, console=quiet
    ).folder
    for line in lines(out):
        shares = [entry["probability"] for entry in line["top"]]
        assert sorted(entry["class"] for entry in line["top"]) == ["blue", "green", "red"]  # all existing classes
        assert shares == sorted(shares, reverse=True)
        assert sum(shares) == pytest.approx(1, abs=1e-5)
    assert list(rows(out)[0]) == [
        "path", "class1", "probability1", "class2", "probability2", "class3", "probability3", "error",
    ]  # fmt: skip


@pytest.mark.parametrize("name", ["new\nline.png", 'quo"te, comma.png', "ümläut 日本.png", b"not-\xff-text.png"])
def test_any_file_name_is_preserved(photos_run, image_folder, tmp_path, quiet, name):
    path = os.path.join(os.fsencode(tmp_path), os.fsencode(name))
    shutil.copy(image_folder / "red" / "000.png", path)
    out = predict(photos_run.path, os.fsdecode(path), out=tmp_path / "out", workers=0, console=quiet).folder
    assert os.fsencode(lines(out)[0]["path"]) == path
    if isinstance(name, str):
        assert rows(out)[0]["path"] == os.fsdecode(path)
    else:
        assert rows(out)[0]["path"].endswith("not-\\udcff-text.png")
    assert len(rows(out)) == 1


def test_model_of_two_classes_returns_two(image_folder, tmp_path, quiet):
    shutil.rmtree(image_folder / "green")
    shutil.rmtree(image_folder / "blue")
    write_photos(tmp_path / "rest", 4, names=["green"])
    (tmp_path / "rest" / "green").rename(image_folder / "green")
    run = transxnet.train(image_folder, out=tmp_path / "run", console=quiet, **{**QUICK, "epochs": 1, "batch_size": 2})
    out = predict(run.path, image_folder, out=tmp_path / "out", workers=0, console=quiet).folder
    assert {len(line["top"]) for line in lines(out)} == {2}


def test_predictions_equal_those_of_the_evaluation(photos_run, photos, tmp_path, quiet):
    evaluation = transxnet.evaluate(photos_run.path, console=quiet)
    files = [photos / name for name in evaluation.names]
    out = predict(photos_run.path, files, out=tmp_path / "out", top_k=1, workers=0, console=quiet).folder
    predicted = [evaluation.class_names[i] for i in evaluation.predictions]
    assert [row["class1"] for row in rows(out)] == predicted
    probabilities = [float(row["probability1"]) for row in rows(out)]
    np.testing.assert_allclose(probabilities, evaluation.probabilities.max(axis=1), atol=2e-6)
