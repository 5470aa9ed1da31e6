import csv
import re
import shutil
import sys

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from tests.helpers.class_folders import QUICK, write_photos
from tests.helpers.dense_data import DETECT, SEGMENT, write_coco_squares, write_maps
from transxnet.analysis import grad_cam
from transxnet.analysis.erf import erf
from transxnet.analysis.explain import explain
from transxnet.data.split import write_split
from transxnet.evaluation.evaluate import evaluate
from transxnet.runs.load import load_model
from transxnet.runs.run_folder import Run
from transxnet.training import results
from transxnet.training.init_weights import model_weights
from transxnet.training.results import write_predictions
from transxnet.training.train import train
from transxnet.utils.errors import UserError


def test_report_shows_grad_cam_of_each_explained_image(photos_run):
    pytest.importorskip("pytorch_grad_cam")
    page = photos_run.report_file.read_text(encoding="utf-8")
    section = page[page.index('<section id="explanations">') : page.index('<section id="calibration">')]
    assert "stage 4" in section
    with photos_run.predictions_file.open(newline="") as file:
        explained = len({(row["label"], row["label"] == row["predicted"]) for row in csv.DictReader(file)})
    assert explained >= 3  # one correct or wrong prediction of each class, or both
    assert section.count("data:image/jpeg") == 2 * explained  # the image and the map of the last stage
    assert "Not shown" not in section


def test_report_shows_training_data_and_learning_rate(photos_run):
    page = photos_run.report_file.read_text(encoding="utf-8")
    section = page[page.index('<section id="data">') : page.index('<section id="confusion">')]
    assert section.count("12 <small>(33.3%)") == 3 and section.count("3 <small>(33.3%)") == 3
    assert section.count('alt="training image, ') == 12
    assert section.count('alt="training image, ') == section.count("data:image/jpeg")
    assert re.search(r"highest learning rate \S+, step \d+", page)


def test_report_and_log_name_the_saved_epoch(photos, tmp_path, console):
    run = train(photos, out=tmp_path / "run", lr=3e-3, console=console, **{**QUICK, "ema_decay": 0.0})
    with run.metrics_file.open(newline="") as file:
        rows = [{name: float(value) for name, value in row.items()} for row in csv.DictReader(file)]
    best = max(rows, key=lambda row: row["val_accuracy"])  # the first of equal ones
    saved = f"epoch {best['epoch']:.0f} of {len(rows)}, highest validation accuracy ({best['val_accuracy']:.1%})"
    assert f"weights     {saved}" in console.file.getvalue()
    page = run.report_file.read_text(encoding="utf-8")
    assert f"Saved weights: {saved}. The same images selected the weights" in page
    assert torch.load(run.best_checkpoint, weights_only=True)["epoch"] + 1 == best["epoch"]


def test_run_is_explained_with_its_classes_and_size(photos_run, photos, quiet):
    pytest.importorskip("pytorch_grad_cam")
    (found,) = explain(photos_run.path, photos / "red" / "000.png", class_name="red", out=None, console=quiet)
    assert found.class_name == "red"
    assert found.image.shape == (32, 32, 3)
    (field,) = erf(f"{photos_run.path}:layer3", photos, images=3, out=None, console=quiet)
    assert (field.density.shape, field.part, field.untrained) == ((32, 32), "layer3", False)


@pytest.mark.parametrize("failure", [lambda *a, **k: 1 / 0, None])
def test_grad_cam_failure_is_a_user_error(failure, photos_run, monkeypatch):
    trained = load_model(photos_run.path)
    if failure is None:
        monkeypatch.setitem(sys.modules, "pytorch_grad_cam", None)  # as if it were not installed
    else:
        monkeypatch.setattr(grad_cam, "explanation_target", failure)
    monkeypatch.setattr(results, "image_reader", lambda images, method: lambda i: Image.new("RGB", (24, 24)))
    said = r"transxnet\[explain\]" if failure is None else "Grad-CAM failed on this network: ZeroDivisionError"
    with pytest.raises(UserError, match=said):
        results._gradcam_getter(trained, None)(0)


def test_detections_file_gives_the_metrics_in_pycocotools(finding_run, tmp_path, quiet):
    coco, cocoeval = (pytest.importorskip(f"pycocotools.{name}") for name in ("coco", "cocoeval"))
    evaluation = evaluate(finding_run.path, workers=0, console=quiet)
    run = Run(tmp_path)
    write_predictions(run, evaluation)
    truth = coco.COCO(finding_run.read_config().data + "/val/annotations.json")
    judge = cocoeval.COCOeval(truth, truth.loadRes(str(run.detections_file)), "bbox")
    judge.evaluate()
    judge.accumulate()
    judge.summarize()
    assert judge.stats[1] > 0
    metrics = [evaluation.all_metrics[name] for name in ("ap", "ap50", "ap75", "ap_small")]
    assert metrics == pytest.approx(judge.stats[:4], abs=1e-4)  # boxes are rounded to two decimals


def test_segmenter_s_predictions_name_each_image(maps_run):
    with maps_run.predictions_file.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["name"] for row in rows] == ["100.jpg", "101.jpg", "102.jpg"]
    assert all(0 <= float(row["miou"]) <= 1 for row in rows)


UNVALIDATED = {
    "classify": (lambda root: write_photos(root, 4), QUICK),
    "detect": (lambda root: write_coco_squares(root, 4), DETECT | dict(min_size=32)),
    "segment": (lambda root: write_maps(root, 4, 0), SEGMENT | dict(crop=32)),
}


@pytest.mark.parametrize("task", list(UNVALIDATED))
def test_run_without_validation_states_it_everywhere(task, tmp_path, console, quiet):
    write, options = UNVALIDATED[task]
    data = write(tmp_path / "data")
    run = train(data, out=tmp_path / "run", console=console, **{**options, "epochs": 2, "val_fraction": 0})
    assert run.results == {"images": 0, "select": "last"}
    assert run.read_config().select == "last"
    assert not [path for path in (run.best_checkpoint, run.predictions_file, run.detections_file) if path.exists()]
    assert [name for row in run.read_metrics() for name in row if name.startswith("val")] == []
    printed, report = console.file.getvalue(), run.report_file.read_text()
    assert "no validation set (val_fraction 0): nothing is validated, and the last epoch is saved" in printed
    assert "not validated: all" in printed
    assert "Not validated: all images were used for training." in report
    assert "optimistic" not in report
    last = model_weights(torch.load(run.last_checkpoint, weights_only=True)["state_dict"])
    for key, value in load_file(run.path / "model.safetensors").items():
        assert torch.equal(last[key], value), key
    with pytest.raises(UserError, match=r"the run has no validation set: it was trained on all images of .* as DATA"):
        evaluate(run.path, console=quiet, workers=0, device="cpu")


def test_test_set_is_evaluated_once_and_in_all_results(tmp_path, console):
    for part, count in (("train", 4), ("test", 2)):
        write_photos(tmp_path / "data" / part, count, seed=count)
    run = train(tmp_path / "data", out=tmp_path / "run", console=console, **QUICK)
    assert "9 training images, 3 validation images, 6 test images, 3 classes" in console.file.getvalue()
    assert "on 3 validation images" in console.file.getvalue() and "on 6 test images" in console.file.getvalue()
    test = run.results["test"]
    assert test["images"] == 6
    assert evaluate(run.path, split="test", workers=0, console=console).metrics()["accuracy"] == test["accuracy"]
    page = run.report_file.read_text(encoding="utf-8")
    section = page[page.index('<section id="metrics">') : page.index('<section id="curves">')]
    assert "6 test images" in section and f"{test['accuracy']:.1%}" in section
    assert "test accuracy" in run._repr_html_()
    card = run.card_file.read_text(encoding="utf-8")
    assert "6 test images" in card and "split: test" in card and f"| {test['accuracy']:.1%} |" in card


def test_reports_of_dense_tasks_show_the_test_set(tmp_path, quiet):
    write_maps(tmp_path, 2, 1)
    for kind in ("images", "masks"):
        shutil.copytree(tmp_path / kind / "val", tmp_path / kind / "test")
    run = train(tmp_path, out=tmp_path / "run", console=quiet, **SEGMENT | {"epochs": 1})
    assert run.results["test"] == {name: run.results[name] for name in run.results["test"]}
    assert '<th scope="col" class="number">Test</th>' in run.report_file.read_text(encoding="utf-8")


def test_test_set_of_a_split_file_is_evaluated_and_kept(photos, tmp_path, quiet):
    names = [f"{color}/{i:03d}.png" for color in ("blue", "green", "red") for i in range(15)]
    parts = {"train": names[::3], "val": names[1::3], "test": names[2::3]}
    write_split(tmp_path / "mine.csv", parts)
    options = {**QUICK, "epochs": 1, "split_file": tmp_path / "mine.csv"}
    run = train(photos, out=tmp_path / "run", console=quiet, **options)
    assert run.results["test"]["images"] == 15
    with run.test_predictions_file.open(newline="") as file:
        assert [row["name"] for row in csv.DictReader(file)] == parts["test"]
    assert run.split_file.read_bytes() == (tmp_path / "mine.csv").read_bytes()
    (tmp_path / "mine.csv").unlink()
    assert evaluate(run.path, split="test", workers=0, console=quiet).names == parts["test"]
    before = run.test_predictions_file.read_bytes()
    train(resume=run.path, console=quiet)
    assert run.test_predictions_file.read_bytes() == before
