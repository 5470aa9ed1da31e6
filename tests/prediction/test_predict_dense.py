import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from safetensors.torch import load_file, save_file

from tests.helpers.dense_data import squares as draw
from transxnet import load
from transxnet.cli import main
from transxnet.data.reading.masks import decode_mask
from transxnet.prediction.file_predictions import predict_files
from transxnet.prediction.loaded_model import open_model
from transxnet.prediction.predict import predict
from transxnet.runs.load import load_model
from transxnet.runs.run_folder import Run
from transxnet.utils.errors import UserError


@pytest.fixture
def image_folder(tmp_path) -> Path:
    """Images of several sizes, two of the same name, with a text file and a truncated image."""
    root = tmp_path / "images"
    for folder in ("a", "b"):
        (root / folder).mkdir(parents=True)
        for number in range(2):
            Image.fromarray(draw(number + (folder == "b"), 2)[0]).save(root / folder / f"{number}.png")
    Image.effect_noise((150, 40), 90).convert("RGB").save(root / "b" / "thin.jpg")
    whole = (root / "a" / "0.png").read_bytes()
    (root / "a" / "broken.png").write_bytes(whole[: len(whole) // 2])
    (root / "a" / "notes.txt").write_text("no image")
    return root


def readable(root: Path) -> list[Path]:
    return [path for path in sorted(root.rglob("*.*")) if path.name not in ("broken.png", "notes.txt")]


@pytest.mark.parametrize("workers", [0, 2])
def test_pycocotools_reads_the_same_boxes_from_detections_json(finding_run, image_folder, tmp_path, console, workers):
    coco = pytest.importorskip("pycocotools.coco")
    out = predict(finding_run.path, image_folder, out=tmp_path / "out", workers=workers, console=console).folder
    assert sorted(path.name for path in out.iterdir()) == ["detections.json", "drawn", "images.json"]
    truth = coco.COCO(str(out / "images.json"))
    results = truth.loadRes(str(out / "detections.json"))
    assert [entry["name"] for entry in truth.loadCats([4, 9])] == ["red", "blue"]
    entries = truth.loadImgs(sorted(truth.imgs))
    assert [entry["file_name"] for entry in entries] == sorted(str(path) for path in [
        *readable(image_folder), image_folder / "a" / "broken.png"
    ])  # fmt: skip
    for entry, answer in zip(entries, predict_files(open_model(finding_run.path), [image_folder]), strict=True):
        assert entry["file_name"] == answer.path
        if Path(answer.path).name == "broken.png":
            assert "error" in entry
            assert "width" not in entry
            continue
        with Image.open(answer.path) as image:
            assert (entry["width"], entry["height"]) == image.size
        found = [results.anns[i] for i in results.getAnnIds(entry["id"])]
        assert len(found) == len(answer.result.detections.scores) > 10
        corners = answer.result.detections.boxes.copy()
        corners[:, 2:] -= corners[:, :2]
        np.testing.assert_allclose([result["bbox"] for result in found], corners, atol=0.0051)
        assert [result["category_id"] for result in found] == [(4, 9)[i - 1] for i in answer.result.detections.labels]
        np.testing.assert_allclose([result["score"] for result in found], answer.result.detections.scores, atol=1e-6)
    assert "5 images predicted, 1 failed (see column error)" in console.file.getvalue()


def test_results_are_evaluated_against_the_annotation_file(finding_run, squares, tmp_path, quiet):
    coco = pytest.importorskip("pycocotools.coco")
    out = predict(finding_run.path, squares / "val", out=tmp_path / "out", workers=0, console=quiet)
    truth = coco.COCO(str(squares / "val" / "annotations.json"))
    results = truth.loadRes(str(out.folder / "detections.json"))
    assert results.getImgIds() == truth.getImgIds() == [101, 102, 103]
    assert {entry["category_id"] for entry in results.anns.values()} == {4, 9}
    for each in out:
        assert set(each.result.labels) == {"red", "blue"}


def test_yolo_files_have_relative_boxes_and_scores(finding_run, image_folder, tmp_path, quiet):
    out = predict(finding_run.path, image_folder, out=tmp_path / "out", save_txt=True, workers=0, console=quiet)
    folder = out.folder / "yolo"
    assert folder in out.files
    assert (folder / "classes.txt").read_text() == "red\nblue\n"
    names = ["0.txt", "000004-0.txt", "000005-1.txt", "1.txt", "thin.txt"]
    assert sorted(path.name for path in (folder / "labels").iterdir()) == names
    (answer,) = predict_files(open_model(finding_run.path), [image_folder / "b/thin.jpg"])
    rows = np.loadtxt(folder / "labels/thin.txt")
    assert rows[:, 0].tolist() == (answer.result.detections.labels - 1).tolist()
    corners = np.hstack([rows[:, 1:3] - rows[:, 3:5] / 2, rows[:, 1:3] + rows[:, 3:5] / 2]) * [150, 40, 150, 40]
    np.testing.assert_allclose(corners, answer.result.boxes, atol=2e-4)
    np.testing.assert_allclose(rows[:, 5], answer.result.scores, atol=1e-6)


def test_yolo_files_are_for_detectors(maps_run, image_folder, tmp_path, quiet):
    with pytest.raises(UserError, match="Remove --save-txt"):
        predict(maps_run.path, image_folder, out=tmp_path / "out", save_txt=True, workers=0, console=quiet)


def test_masks_have_the_size_of_the_image(masks_run, image_folder, tmp_path, quiet):
    coco = pytest.importorskip("pycocotools.coco")
    file = image_folder / "b" / "thin.jpg"
    out = predict(masks_run.path, file, out=tmp_path / "out", workers=0, console=quiet).folder
    truth = coco.COCO(str(out / "images.json"))
    results = truth.loadRes(str(out / "detections.json"))
    (answer,) = predict_files(open_model(masks_run.path), [file])
    assert len(results.anns) == len(answer.result.detections.scores) > 0
    for result, lengths in zip(results.anns.values(), answer.result.detections.masks, strict=True):
        mask = truth.annToMask(result)
        assert mask.shape == (40, 150)
        assert np.array_equal(mask, decode_mask(lengths, 40, 150))


def test_label_maps_have_the_image_size_and_class_values(maps_run, image_folder, tmp_path, console):
    out = predict(maps_run.path, image_folder, out=tmp_path / "out", workers=0, console=console).folder
    assert sorted(path.name for path in out.iterdir()) == ["classes.txt", "drawn", "maps", "predictions.csv"]
    names = (out / "classes.txt").read_text().splitlines()
    assert names == load_model(maps_run.path).class_names
    with (out / "predictions.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    answers = list(predict_files(open_model(maps_run.path), [image_folder]))
    assert [row["path"] for row in rows] == [answer.path for answer in answers]
    for row, answer in zip(rows, answers, strict=True):
        if Path(row["path"]).name == "broken.png":
            assert row["error"]
            assert row["map"] == row["commonest"] == ""
            continue
        with Image.open(out / row["map"]) as image, Image.open(row["path"]) as original:
            assert image.mode == "P"
            assert image.size == original.size
            values = np.asarray(image)
        assert np.array_equal(values, answer.result.label_map)
        counts = np.bincount(values.ravel(), minlength=3)
        assert row["commonest"] == names[counts.argmax()]
        assert float(row["share"]) == pytest.approx(counts.max() / counts.sum(), abs=5e-5)
    assert len({row["map"] for row in rows if row["map"]}) == 5
    assert "5 images predicted, 1 failed" in console.file.getvalue()


@pytest.mark.parametrize("kind", ["finding_run", "masks_run", "maps_run"])
def test_images_of_the_same_name_are_all_drawn(kind, request, image_folder, tmp_path, quiet):
    run = request.getfixturevalue(kind)
    inputs = [image_folder / "a" / "0.png", image_folder / "b" / "0.png", image_folder / "b" / "thin.jpg"]
    out = predict(run.path, inputs, out=tmp_path / "out", workers=0, console=quiet).folder
    drawn = sorted((out / "drawn").iterdir())
    assert [path.name for path in drawn] == ["000001-0.jpg", "000002-0.jpg", "000003-thin.jpg"]
    for path, source in zip(drawn, inputs, strict=True):
        with Image.open(path) as image, Image.open(source) as original:
            assert image.width >= original.width
            assert image.height >= original.height
    if kind == "finding_run":
        plain = np.asarray(Image.open(inputs[2]), float)
        assert np.abs(np.asarray(Image.open(drawn[2]), float)[:40, :150] - plain).max() > 100


@pytest.mark.parametrize("kind", ["finding_run", "maps_run"])
def test_existing_results_are_overwritten_only_on_request(kind, request, image_folder, tmp_path, quiet):
    run = request.getfixturevalue(kind)
    options = dict(out=tmp_path / "out", workers=0, console=quiet)
    out = predict(run.path, image_folder / "b", **options).folder
    before = {path: path.read_bytes() for path in out.rglob("*.*")}
    assert sum(path.parent.name == "drawn" for path in before) == 3
    with pytest.raises(UserError, match=r"already contains .* Choose another --out, or use --overwrite"):
        predict(run.path, image_folder / "a" / "0.png", **options)
    assert {path: path.read_bytes() for path in out.rglob("*.*")} == before
    (out / "mine.txt").write_text("mine")
    predict(run.path, image_folder / "a" / "1.png", overwrite=True, **options)
    assert [path.name for path in (out / "drawn").iterdir()] == ["000001-1.jpg"]
    assert (out / "mine.txt").is_file()


@pytest.mark.parametrize("kind", ["finding_run", "maps_run"])
def test_no_readable_image_is_an_error_and_leaves_no_file(kind, request, tmp_path, quiet):
    (tmp_path / "bad.png").write_bytes(b"no image")
    with pytest.raises(
        UserError, match=r"none of the 1 images could be predicted. Error of the last: .*bad.png: not an image"
    ):
        predict(request.getfixturevalue(kind).path, tmp_path / "bad.png", out=tmp_path / "out", console=quiet)
    assert not (tmp_path / "out").exists()


def test_no_detections_are_an_empty_list(boxes_run, image_folder, tmp_path, quiet):
    blind = Run(shutil.copytree(boxes_run.path, tmp_path / "blind"))
    tensors = load_file(blind.weights_file)
    tensors["head.classification_head.cls_logits.bias"].fill_(-100)  # classifies every anchor as background
    save_file(tensors, blind.weights_file)
    out = predict(blind.path, image_folder / "b", out=tmp_path / "out", workers=0, console=quiet).folder
    assert json.loads((out / "detections.json").read_text()) == []
    assert len(json.loads((out / "images.json").read_text())["images"]) == 3
    assert len(list((out / "drawn").iterdir())) == 3


def test_file_names_with_special_characters_are_kept(finding_run, maps_run, image_folder, tmp_path, quiet):
    name = 'quo"te, ümläut\n日本.png'
    shutil.copy(image_folder / "a" / "0.png", tmp_path / name)
    out = predict(finding_run.path, tmp_path / name, out=tmp_path / "boxes", workers=0, console=quiet).folder
    content = json.loads((out / "images.json").read_text(encoding="utf-8"))
    assert content["images"][0]["file_name"] == str(tmp_path / name)
    out = predict(maps_run.path, tmp_path / name, out=tmp_path / "labels", workers=0, console=quiet).folder
    with (out / "predictions.csv").open(newline="", encoding="utf-8") as file:
        (row,) = csv.DictReader(file)
    assert row["path"] == str(tmp_path / name)
    assert (out / row["map"]).is_file()


def test_min_score_drops_detections_from_results_and_drawings(finding_run, image_folder, tmp_path, quiet):
    def scores(out: Path) -> list[float]:
        return [result["score"] for result in json.loads((out / "detections.json").read_text())]

    every = scores(predict(finding_run.path, image_folder, out=tmp_path / "all", workers=0, console=quiet).folder)
    ordered = np.unique(every)
    gap = int(np.diff(ordered).argmax())
    limit = float(ordered[gap : gap + 2].mean())  # not one of the scores, which are rounded in the file
    options = {"workers": 0, "console": quiet}
    out = predict(finding_run.path, image_folder, out=tmp_path / "out", min_score=limit, **options).folder
    assert sorted(scores(out)) == sorted(score for score in every if score >= limit)
    assert 0 < len(scores(out)) < len(every)
    none = predict(finding_run.path, image_folder, out=tmp_path / "none", min_score=1.0, **options).folder
    assert scores(none) == []
    drawn, plain = (sorted((folder / "drawn").iterdir())[0] for folder in (out, none))
    assert Image.open(drawn).size == Image.open(plain).size
    assert np.abs(np.asarray(Image.open(drawn)).astype(int) - np.asarray(Image.open(plain))).max() > 50


def test_small_images_are_enlarged_for_drawing(finding_run, image_folder, tmp_path, quiet):
    image = image_folder / "b" / "thin.jpg"
    out = predict(finding_run.path, image, out=tmp_path / "out", workers=0, console=quiet).folder
    (drawn,) = (out / "drawn").iterdir()
    assert Image.open(drawn).size == (600, 160)


def test_min_score_is_checked(maps_run, image_folder, tmp_path, quiet):
    with pytest.raises(UserError, match="min_score is for detectors"):
        predict(maps_run.path, image_folder, out=tmp_path / "out", min_score=0.5, console=quiet)
    with pytest.raises(UserError, match=r"must be 0 to 1, got 50"):
        predict(maps_run.path, image_folder, out=tmp_path / "out", min_score=50, console=quiet)


@pytest.mark.parametrize("kind", ["finding_run", "maps_run"])
def test_long_names_and_long_images_are_drawn(kind, tmp_path, quiet, request, monkeypatch):
    monkeypatch.setattr("transxnet.prediction.predict_dense.MAX_JPEG_SIDE", 100)
    images = tmp_path / "images"
    images.mkdir()
    Image.new("RGB", (200, 8)).save(images / f"{'長' * 80}.png")
    out = predict(request.getfixturevalue(kind).path, images, out=tmp_path / "out", workers=0, console=quiet).folder
    (drawn,) = (out / "drawn").iterdir()
    assert drawn.name == f"000001-{'長' * 33}.jpg"
    assert max(Image.open(drawn).size) == 100


@pytest.mark.parametrize("kind", ["finding_run", "maps_run"])
def test_error_of_a_drawing_is_one_of_its_image(kind, tmp_path, quiet, request, monkeypatch):
    images = tmp_path / "images"
    images.mkdir()
    for name in "ab":
        Image.new("RGB", (40, 40)).save(images / f"{name}.png")

    def draw_or_fail(plot, path):
        return "cannot be drawn: out of memory" if path.stem.endswith("a") else None

    monkeypatch.setattr("transxnet.prediction.predict_dense._draw", draw_or_fail)
    results = list(predict(request.getfixturevalue(kind).path, images, out=tmp_path / "out", workers=0, console=quiet))
    assert [each.error for each in results] == ["cannot be drawn: out of memory", None]


@pytest.mark.parametrize("kind", ["finding_run", "maps_run"])
def test_tiles_are_an_option_of_the_command(kind, request, tmp_path, capsys):
    run, image = request.getfixturevalue(kind), tmp_path / "large.png"
    Image.effect_noise((150, 90), 90).convert("RGB").save(image)
    options = ["--out", str(tmp_path / "out"), "--workers", "0", "--tile", "64", "--overlap", "0.3"]
    assert main(["predict", str(run.path), str(image), *options]) == 0, capsys.readouterr().err
    expected = load(run.path).predict(image, tile=64, overlap=0.3)
    if kind == "maps_run":
        (file,) = (tmp_path / "out" / "maps").iterdir()
        assert np.array_equal(np.asarray(Image.open(file)), expected.label_map)
    else:
        assert len(json.loads((tmp_path / "out" / "detections.json").read_text())) == len(expected)


def test_options_of_detectors_are_refused_for_parquet(run, images, tmp_path, quiet):
    for options in ({"tile": 64}, {"min_score": 0.5}, {"save_txt": True}):
        (name,) = options
        with pytest.raises(UserError, match=rf"--{name.replace('_', '-')} is not for Parquet output"):
            predict(run, images, out=tmp_path / "out.parquet", console=quiet, **options)
