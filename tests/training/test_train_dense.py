"""Detectors and segmenters train, evaluate and write the same run folders as classifiers."""

import csv
import json
import re
import shlex

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from safetensors.torch import load_file

from tests.helpers.dense_data import (
    CATEGORIES,
    DETECT,
    SEGMENT,
    write_coco_squares,
    write_maps,
    write_squares,
    write_voc_squares,
    write_yolo_squares,
)
from transxnet import load
from transxnet.cli import main
from transxnet.data.tiling import Tiling
from transxnet.evaluation.evaluate import evaluate
from transxnet.prediction.predict import predict
from transxnet.runs.run_folder import Run
from transxnet.runs.task_configs import DetectConfig, SegmentConfig
from transxnet.training.checkpoint_files import read_verified
from transxnet.training.init_weights import model_weights
from transxnet.training.make_plan import make_plan
from transxnet.training.train import train
from transxnet.utils.errors import UserError

FILES = {
    "config.yaml", "environment.json", "metrics.csv", "tensorboard", "last.ckpt", "best.ckpt", "model.safetensors",
    "model.json", "results.json", "report.html", "README.md",
}  # fmt: skip


BOX_FIGURES = {"ap", "ap50", "ap75", "ap_small"}


RUNS = {
    "boxes_run": ("detect", {"detections.json"}, BOX_FIGURES, "val_ap"),
    "masks_run": ("detect", {"detections.json"}, BOX_FIGURES | {f"mask_{name}" for name in BOX_FIGURES}, "val_ap"),
    "maps_run": ("segment", {"predictions.csv"}, {"miou", "mean_accuracy", "pixel_accuracy"}, "val_miou"),
}


@pytest.fixture(params=list(RUNS))
def finished(request) -> tuple[Run, str, set[str], set[str], str]:
    return request.getfixturevalue(request.param), *RUNS[request.param]


def test_run_folder_holds_the_documented_files(finished):
    run, task, answers, figures, _ = finished
    assert {path.name for path in run.path.iterdir()} == FILES | answers
    assert yaml.safe_load(run.config_file.read_text())["task"] == task
    assert run.read_config().task == task
    stored = set(json.loads(run.results_file.read_text()))
    assert stored - {"intervals"} == figures | {"images", "select"}


def test_evaluation_reproduces_the_results(finished, tmp_path, quiet):
    run, *_ = finished
    stored = json.loads(run.results_file.read_text())
    out = tmp_path / "figures.json"
    figures = evaluate(run.path, workers=0, out=out, console=quiet).metrics()
    assert figures == {name: stored[name] for name in figures}
    assert set(stored) - {"intervals"} == {*figures, "images", "select"}
    written = json.loads(out.read_text())
    assert {name: written[name] for name in figures} == figures
    assert evaluate(run.path, run.read_config().data, batch_size=1, workers=0, console=quiet).metrics() == figures


def test_results_are_of_the_selected_epoch(finished):
    run, _, _, _, monitor = finished
    values = [row[monitor] for row in run.read_metrics()]
    kept = max(values) if run.read_config().select == "best" else values[-1]
    assert json.loads(run.results_file.read_text())[monitor.removeprefix("val_")] == pytest.approx(kept, abs=1e-6)


def test_losses_are_logged_by_name(boxes_run, masks_run, maps_run):
    names = {
        boxes_run: {"train_classification", "train_bbox_regression"},
        masks_run: {"train_loss_classifier", "train_loss_box_reg", "train_loss_mask", "train_loss_objectness",
                    "train_loss_rpn_box_reg"},
        maps_run: set(),
    }  # fmt: skip
    for run, losses in names.items():
        rows = run.read_metrics()
        own = {name for name in rows[0] if name.startswith("train_")} - {"train_loss"}
        assert own == losses
        for row in rows if losses else ():
            assert row["train_loss"] == pytest.approx(sum(row[name] for name in losses), abs=1e-5)
    assert boxes_run.read_metrics()[1]["train_loss"] < boxes_run.read_metrics()[0]["train_loss"]


@pytest.mark.parametrize("kind", [pytest.param("boxes_run", marks=pytest.mark.long), "maps_run"])
def test_recorded_command_reproduces_the_run(kind, request, tmp_path, capsys):
    run: Run = request.getfixturevalue(kind)
    words = shlex.split(run.read_environment()["command"])
    assert words[:2] == ["transxnet", "train"]
    assert words[3:5] == ["--task", run.read_config().task]
    assert main([*words[1:], "--out", str(tmp_path / "again")]) == 0
    again = Run(tmp_path / "again")
    assert again.weights_file.read_bytes() == run.weights_file.read_bytes()
    assert again.results_file.read_text() == run.results_file.read_text()


def test_task_is_recognized_from_the_data_and_printed(squares, maps, tmp_path, console):
    options = {name: value for name, value in {**DETECT, "epochs": 1}.items() if name not in ("task", "min_size")}
    run = train(squares, out=tmp_path / "boxes", min_size=32, console=console, **options)
    assert run.read_config().task == "detect"
    assert "task detect: annotations.json is a COCO annotation file" in console.file.getvalue()
    assert "6 training images, 3 validation images, 2 classes of objects" in console.file.getvalue()
    run = train(maps, out=tmp_path / "maps", crop=32, console=console, **options)
    assert run.read_config().task == "segment"
    assert "task segment: " in console.file.getvalue()
    assert "3 classes of label maps" in console.file.getvalue()


@pytest.mark.parametrize(
    ("data", "options", "message"),
    [
        (
            "squares",
            dict(img_size=64),
            r"--img-size is for task 'classify' and 'pretrain', got task 'detect'\. Use --min-size",
        ),
        ("squares", dict(task="segment"), "is data for task 'detect', got task 'segment'"),
        ("maps", dict(head="maskrcnn"), "is data for task 'segment', got task 'detect'"),
        ("maps", dict(min_size=64, crop=64), r"--min-size is for task 'detect', got task 'segm"),
        ("maps", dict(task="detect", crop=64), r"--crop is for task 'segment', got task 'detect'\. Use --min-size"),
        (
            "squares",
            dict(task="classify", photometric=True),
            "--photometric is for task 'detect' and 'segment', got task 'classify'. Remove --photometric",
        ),
        ("squares", dict(task="tetect"), "task must be .*got 'tetect'"),
        ("squares", dict(head="fcos"), "head must be 'retinanet' or 'maskrcnn', got 'fcos'"),
        ("squares", dict(min_sise=64), "unknown option 'min_sise'. Did you mean --min-size"),
        ("squares", dict(min_size=64, max_size=40), r"max_size must be at least min_size \(64\), got 40"),
        ("maps", dict(crop=50), "crop must be a multiple of 32 pixels, got 50"),
        ("maps", dict(milestones="8,4"), "milestones must be increasing epoch numbers, such as 8,11, got '8,4'"),
        ("squares", dict(epochs=2, val_every=3), r"val_every must be at most epochs \(2\), got 3"),
        ("squares", dict(batch_size=64), "batch_size 64 is more than the number of training images, 6"),
        ("squares", dict(devices=4, batch_size=1), "4 processes need at least as many validation images, got 3"),
        ("squares", dict(model="test_vit"), "test_vit"),
        ("squares", dict(drop_path_rate=0.1, model="vgg11"), "vgg11"),
    ],
)
def test_bad_option_is_refused_before_anything_is_written(
    data, options, message, request, tmp_path, console, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    common = dict(model="test_resnet", workers=0, device="cpu")
    with pytest.raises(UserError, match=message):
        train(request.getfixturevalue(data), console=console, **{**common, **options})
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("kind", ["boxes", "ADEChallengeData2016", "zero ignored"])
def test_other_data_layouts_train(kind, tmp_path, quiet):
    if kind == "boxes":
        data, options = write_voc_squares(tmp_path / "voc"), {**DETECT, "min_size": 32}
    else:
        data, options = write_maps(tmp_path / kind, zero_is_ignored=True), {**SEGMENT, "crop": 32}
        if kind == "zero ignored":
            options["zero_is_ignored"] = True
    run = train(data, out=tmp_path / "run", console=quiet, **{**options, "epochs": 1})
    assert run.split_file.is_file() == (kind == "boxes")
    names = json.loads(run.model_file.read_text())["class_names"]
    assert sorted(names) == ["blue", "red"] if kind == "boxes" else len(names) == 3
    stored = json.loads(run.results_file.read_text())
    figures = evaluate(run.path, workers=0, console=quiet).metrics()
    assert figures == {name: stored[name] for name in figures}


def test_voc_without_masks_is_refused_for_maskrcnn(tmp_path, quiet):
    with pytest.raises(UserError, match=r"has boxes but no object masks.*--head retinanet"):
        train(write_voc_squares(tmp_path / "voc"), out=tmp_path / "run", head="maskrcnn", console=quiet)


@pytest.mark.long
def test_single_class_trains(tmp_path, quiet):
    data = write_squares(tmp_path / "one", 4, 2, CATEGORIES[:1])
    options = {**DETECT, "min_size": 32, "epochs": 1}
    run = train(data, out=tmp_path / "run", console=quiet, **options)
    assert json.loads(run.model_file.read_text())["class_names"] == ["red"]
    data = write_maps(tmp_path / "ground", 4, 2)
    for path in data.glob("masks/*/*.png"):
        Image.fromarray(np.zeros_like(np.asarray(Image.open(path)))).save(path)
    run = train(data, out=tmp_path / "ground run", console=quiet, **{**SEGMENT, "crop": 32, "epochs": 1})
    assert json.loads(run.results_file.read_text())["miou"] == 1


@pytest.mark.parametrize("skip_empty", [pytest.param(False, marks=pytest.mark.long), True])
def test_images_without_objects_train_or_are_skipped(tmp_path, console, skip_empty):
    data = write_coco_squares(tmp_path / "part", 8)  # every fourth image has no object
    options = {**DETECT, "epochs": 1, "batch_size": 1, "skip_empty": skip_empty, "val_fraction": 0.25}
    run = train(data, out=tmp_path / "run", console=console, **options)
    skipped = re.search(r"(\d) training images without objects are skipped", console.file.getvalue())
    assert bool(skipped) == skip_empty
    with run.split_file.open(newline="") as file:
        parts = [row["part"] for row in csv.DictReader(file)]
    assert len(parts) == 8 - (int(skipped[1]) if skipped else 0)
    assert run.read_metrics()[0]["step"] == parts.count("train") >= 4
    resumed = train(resume=run.path, console=console)
    assert resumed.read_metrics()[0]["step"] == run.read_metrics()[0]["step"]


@pytest.mark.parametrize("kind", [*(pytest.param(kind, marks=pytest.mark.long) for kind in ("boxes", "masks")), "maps"])
def test_tiles_are_trained_and_used_in_every_evaluation(kind, squares, maps, tmp_path, console):
    own = {"boxes": DETECT | {"min_size": 48}, "masks": DETECT | {"head": "maskrcnn", "min_size": 32}, "maps": SEGMENT}
    options = {**own[kind], "epochs": 1, "select": "last", "ema_decay": 0, "tile": 48, "overlap": 0.25}
    run = train(maps if kind == "maps" else squares, out=tmp_path / "run", console=console, **options)
    assert re.search(r"\d\d training tiles of 48 pixels; validation images", console.file.getvalue())
    results, (row,) = json.loads(run.results_file.read_text()), run.read_metrics()
    assert row["step"] > 6  # tiles of 6 images, in batches of two
    assert np.isfinite(row["val_loss"])
    assert row["val_miou" if kind == "maps" else "val_ap"] == results["miou" if kind == "maps" else "ap"]
    metrics = evaluate(run.path, workers=0, console=console).metrics()
    assert metrics == {name: results[name] for name in metrics}
    assert "in tiles of 48 pixels" in console.file.getvalue()
    model, image = load(run.path), Image.effect_noise((90, 70), 90).convert("RGB")
    assert model.backend.tiling == Tiling(48, 0.25)
    default, tiled = model.predict(image), model.predict(image, tile=48, overlap=0.25)
    assert default.to_pandas().equals(tiled.to_pandas())


def test_sizes_follow_the_tiles(squares, maps, quiet):
    for data, config, name in ((squares, DetectConfig, "min_size"), (maps, SegmentConfig, "crop")):
        plan = make_plan(config(str(data), model="test_resnet", device="cpu", tile=48), quiet)
        assert getattr(plan.config, name) == (48 if name == "min_size" else 64)
        assert len(plan.source.train_items) > len(plan.source.train) == 6


@pytest.mark.long
def test_images_of_extreme_sizes_train(tmp_path, quiet):
    data = tmp_path / "odd"
    write_squares(data, 0, 1)
    images, annotations = [], []
    for i, (width, height) in enumerate([(1, 1), (3, 900), (1200, 2), (1500, 1100)], 1):
        Image.effect_noise((width, height), 90).convert("RGB").save(data / "train" / f"{i}.png")
        images.append(dict(id=i, file_name=f"{i}.png", width=width, height=height))
        box = [0, 0, max(1, width // 2), max(1, height // 2)]
        annotations.append(dict(id=i, image_id=i, category_id=4, bbox=box, area=box[2] * box[3], iscrowd=0))
    content = dict(images=images, annotations=annotations, categories=CATEGORIES)
    (data / "train" / "annotations.json").write_text(json.dumps(content))
    run = train(data, out=tmp_path / "run", console=quiet, **{**DETECT, "epochs": 1})
    weights = load_file(run.weights_file)
    assert all(tensor.isfinite().all() for tensor in weights.values())
    for folder in ("images", "masks"):
        (tmp_path / "maps" / folder).mkdir(parents=True)
    for i, entry in enumerate(images * 2):
        size = entry["width"], entry["height"]
        Image.effect_noise(size, 90).convert("RGB").save(tmp_path / "maps" / "images" / f"{i}.png")
        Image.new("L", size, i % 2).save(tmp_path / "maps" / "masks" / f"{i}.png")
    run = train(tmp_path / "maps", out=tmp_path / "maps run", console=quiet, **{**SEGMENT, "epochs": 1})
    assert run.report_file.is_file()


def test_yolo_data_trains_evaluates_and_predicts(tmp_path, quiet):
    data = write_yolo_squares(tmp_path / "data", 4, 2)
    run = train(data, out=tmp_path / "run", console=quiet, **DETECT | dict(epochs=1, min_size=32))
    assert json.loads(run.model_file.read_text())["category_ids"] == [0, 1]
    evaluation = evaluate(run.path, data / "data.yaml", workers=0, device="cpu", console=quiet)
    assert len(evaluation) == run.results["images"] == 2
    assert evaluation.metrics() == {name: run.results[name] for name in evaluation.metrics()}
    out = predict(run.path, data / "valid", out=tmp_path / "out", save_txt=True, workers=0, console=quiet)
    assert [path.name for path in sorted((out.folder / "yolo/labels").iterdir())] == ["100.txt", "101.txt"]


def test_validation_without_objects_saves_the_last_epoch(tmp_path, console):
    write_coco_squares(tmp_path / "data/train", 2)
    write_coco_squares(tmp_path / "data/val", 1, start=3)  # the fourth image is empty
    run = train(tmp_path / "data", out=tmp_path / "run", console=console, **DETECT | dict(min_size=32))
    printed = console.file.getvalue()
    assert "the validation images have no objects: there is no AP, and the last epoch is saved" in printed
    assert "last epoch, since no epoch has a validation AP" in printed
    assert "on 1 validation image: no metric, since no image has an object or label to compare with" in printed
    assert "nan" not in printed
    assert set(json.loads(run.results_file.read_text())) == {"images", "select"}
    last = model_weights(read_verified(run.last_checkpoint)["state_dict"])
    saved = load_file(run.weights_file)
    assert all(torch.equal(saved[name], tensor) for name, tensor in last.items())


def test_detections_have_the_ids_of_the_validation_file(tmp_path, quiet):
    pytest.importorskip("pycocotools")
    write_coco_squares(tmp_path / "data/train", 2)
    write_coco_squares(tmp_path / "data/val", 2, [dict(id=7, name="blue")], start=100)
    run = train(tmp_path / "data", out=tmp_path / "run", console=quiet, **DETECT | dict(min_size=32, epochs=1))
    assert json.loads(run.model_file.read_text())["category_ids"] == [4, 9]
    results = json.loads(run.detections_file.read_text())
    assert {entry["category_id"] for entry in results} <= {7}
    assert {entry["image_id"] for entry in results} <= {101, 102}
