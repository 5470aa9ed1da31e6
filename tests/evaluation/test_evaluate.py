import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from tests.helpers import fill
from tests.helpers.class_folders import write_photos
from transxnet.data.formats.class_alignment import imagenet_synsets
from transxnet.deploy.export import export
from transxnet.evaluation.evaluate import evaluate
from transxnet.prediction.predict import predict
from transxnet.utils.errors import UserError


@pytest.fixture(scope="module")
def published(tmp_path_factory) -> Path:
    """A file in the published layout of the tiny model, with reproducible random weights."""
    path = tmp_path_factory.mktemp("published") / "transx-t.pth.tar"
    tensors = {name: torch.as_tensor(value).float() for name, value in fill.checkpoint("t", "classifier").items()}
    torch.save({"state_dict_ema": tensors}, path)
    return path


def test_evaluate_reproduces_the_results_of_the_run(digits_run, quiet, tmp_path):
    stored = json.loads(digits_run.results_file.read_text())
    out = tmp_path / "metrics.json"
    metrics = evaluate(digits_run.path, batch_size=32, workers=0, out=out, console=quiet).metrics()
    assert metrics == {name: stored[name] for name in metrics}
    assert set(stored) == {*metrics, "images", "select", "intervals", "fitted", "calibration"}
    written = json.loads(out.read_text())
    assert written["images"] == stored["images"]
    assert {name: written[name] for name in stored if name != "select"} == {
        name: stored[name] for name in stored if name != "select"
    }
    assert written["split"] == "validation" and written["tta"] is False


def test_report_of_other_data_names_what_validation_fitted(photos_run, tmp_path, console):
    other = write_photos(tmp_path / "other", 4, seed=1)
    report = tmp_path / "other.html"
    evaluation = evaluate(photos_run.path, other, workers=0, tta=True, report=report, console=console)
    text = report.read_text()
    assert "Evaluation report" in text and "Measured on 12 images of 3 classes." in text
    assert f"transxnet eval {photos_run.path} {other} --tta" in re.sub(r"</?span>", "", text)
    fitted = json.loads(photos_run.results_file.read_text())["fitted"]
    assert evaluation.choices.temperature == fitted["temperature"]
    assert f"Temperature {fitted['temperature']:.2f} of the scaling: fitted on the validation images." in text
    assert "with horizontal flips" in console.file.getvalue()
    with pytest.raises(UserError, match=r"other.html already exists. Use --overwrite, or choose another --report"):
        evaluate(photos_run.path, other, report=report, console=console)


@pytest.mark.parametrize("batch_size", [1, 7, 500])
def test_batch_size_and_workers_do_not_change_outputs(photos_run, quiet, batch_size):
    one = evaluate(photos_run.path, workers=0, console=quiet)
    other = evaluate(photos_run.path, batch_size=batch_size, workers=2, console=quiet)
    assert one.names == other.names
    np.testing.assert_allclose(one.probabilities, other.probabilities, atol=1e-5)


def test_training_data_is_evaluated_on_its_validation_images(photos_run, photos, quiet, monkeypatch):
    validation_names = evaluate(photos_run.path, workers=0, console=quiet).names
    monkeypatch.chdir(photos.parent)
    for data in (photos, "photos", "./photos/", f"../{photos.parent.name}/photos"):
        assert evaluate(photos_run.path, data, workers=0, console=quiet).names == validation_names
    assert len(validation_names) == 9


@pytest.mark.parametrize(
    "kind", ["photos_run", *(pytest.param(kind, marks=pytest.mark.long) for kind in ("finding_run", "maps_run"))]
)
def test_exported_file_is_evaluated_like_its_run(request, tmp_path, quiet, kind):
    run = request.getfixturevalue(kind)
    file = export(run.path, out=tmp_path / "net.onnx", console=quiet)
    expected, found = (evaluate(model, workers=0, console=quiet) for model in (run.path, file))
    assert len(found) == len(expected)
    assert found.metrics() == pytest.approx(expected.metrics(), abs=1e-3)


def test_tiles_are_an_option_of_the_evaluation(maps_run, console):
    whole, tiled = (evaluate(maps_run.path, workers=0, console=console, **options) for options in ({}, {"tile": 32}))
    assert "in tiles of 32 pixels" in console.file.getvalue()
    assert set(tiled.metrics()) == set(whole.metrics())
    assert tiled.metrics() != whole.metrics()


def test_exported_file_without_its_run_needs_data(photos_run, photos, tmp_path, console):
    run = shutil.copytree(photos_run.path, tmp_path / "run")
    file = export(run, out=tmp_path / "net.onnx", console=console)
    shutil.rmtree(run)
    with pytest.raises(UserError, match=r"name the data to evaluate .*net\.onnx on"):
        evaluate(file, console=console)
    assert len(evaluate(file, photos, workers=0, console=console)) == 45
    with pytest.raises(UserError, match=r"net\.onnx is an exported file and runs on the CPU, got device cuda"):
        evaluate(file, photos, device="cuda", console=console)


@pytest.mark.long
def test_run_with_other_classes_than_its_exported_file_is_an_error(photos_run, tmp_path, quiet):
    run = Path(shutil.copytree(photos_run.path, tmp_path / "run"))
    description = json.loads((run / "model.json").read_text())
    (run / "model.json").write_text(json.dumps({**description, "class_names": ["red", "green", "white"]}))
    file = export(run, out=tmp_path / "net.onnx", console=quiet)
    with pytest.raises(UserError, match=r"net\.onnx and the validation set of .* have different classes"):
        evaluate(file, console=quiet)


def test_another_folder_is_evaluated_completely(photos_run, tmp_path, console):
    other = write_photos(tmp_path / "other", 5, seed=1, names=("red", "blue"))
    evaluation = evaluate(photos_run.path, other, workers=0, console=console)
    assert len(evaluation.labels) == 10
    assert [evaluation.class_names[i] for i in np.unique(evaluation.labels)] == ["blue", "red"]
    assert "on 10 images" in console.file.getvalue()


def test_unknown_classes_are_named_in_the_error(photos_run, tmp_path, quiet):
    other = write_photos(tmp_path / "other", 2)
    (other / "red").rename(other / "read")
    with pytest.raises(UserError, match=r"unknown, 'read'.*Did you mean 'red'"):
        evaluate(photos_run.path, other, console=quiet)


def test_out_is_not_overwritten_by_default(photos_run, tmp_path, quiet):
    out = tmp_path / "metrics.json"
    out.write_text("mine")
    with pytest.raises(UserError, match=r"metrics.json already exists. Use --overwrite"):
        evaluate(photos_run.path, out=out, console=quiet)
    assert out.read_text() == "mine"
    evaluate(photos_run.path, out=out, overwrite=True, workers=0, console=quiet)
    assert json.loads(out.read_text())["images"] == 9
    for bad in (tmp_path, tmp_path / "nowhere" / "metrics.json"):
        with pytest.raises(UserError, match=r"cannot write"):
            evaluate(photos_run.path, out=bad, overwrite=True, console=quiet)


@pytest.mark.parametrize(
    ("name", "damage", "message"),
    [
        ("model.safetensors", lambda b: b[: len(b) // 2], "model.safetensors is truncated or not a checkpoint"),
        ("model.safetensors", lambda b: b"", "model.safetensors is truncated"),
        ("model.safetensors", None, "checkpoint file .*model.safetensors does not exist"),
        ("model.json", lambda b: b[:40], "is damaged or not a transxnet model: JSONDecodeError"),
        ("model.json", lambda b: b"[]", "is damaged or not a transxnet model"),
        ("model.json", lambda b: b.replace(b'"green",', b""), "is damaged or not a transxnet model: RuntimeError"),
        ("model.json", lambda b: b.replace(b'"format": 1', b'"format": 2'), "was written by a newer transxnet"),
        ("model.json", lambda b: b.replace(b"test_resnet", b"test_vit"), "is damaged or not a transxnet model"),
        ("config.yaml", lambda b: b"a: b: c", "config.yaml is damaged or not part of a run"),
        ("config.yaml", lambda b: b"epochs: 3", "config.yaml is damaged or not part of a run"),
    ],
)
def test_damaged_run_raises(photos_run, tmp_path, quiet, name, damage, message):
    run = Path(shutil.copytree(photos_run.path, tmp_path / "run"))
    content = (run / name).read_bytes()
    (run / name).unlink()
    if damage is not None:
        (run / name).write_bytes(damage(content))
    with pytest.raises(UserError, match=message):
        evaluate(run, console=quiet)


@pytest.mark.parametrize("naming", ["wnid", "number"])
def test_published_model_on_imagenet_and_v2_folders(published, tmp_path, quiet, naming):
    classes = [0, 2, 10, 999]
    for index in classes:
        folder = tmp_path / "val" / (imagenet_synsets()[index] if naming == "wnid" else str(index))
        folder.mkdir(parents=True)
        Image.effect_noise((64, 48), 90).convert("RGB").save(folder / "a.png")
    evaluation = evaluate("transxnet_t.in1k", tmp_path / "val", file=published, workers=0, console=quiet)
    assert evaluation.labels.tolist() == classes
    assert evaluation.probabilities.shape == (4, 1000)
    assert "top5_accuracy" in evaluation.metrics()


def test_published_model_predicts_wnids(published, tmp_path, quiet):
    Image.effect_noise((64, 48), 90).convert("RGB").save(tmp_path / "a.png")
    out = predict(
        "transxnet_t", tmp_path / "a.png", file=published, out=tmp_path / "out", workers=0, console=quiet
    ).folder
    top = json.loads((out / "predictions.jsonl").read_text())["top"]
    assert len(top) == 5
    assert all(entry["class"] in imagenet_synsets() for entry in top)


def test_weights_of_other_classes_raise(published, tmp_path, photos, quiet):
    content = torch.load(published, weights_only=True)
    for name in ("classifier.2.weight", "classifier.2.bias"):
        content["state_dict_ema"][name] = content["state_dict_ema"][name][:7]
    torch.save(content, tmp_path / "seven.pth")
    with pytest.raises(UserError, match=r"seven.pth has 7 classes; transxnet_t needs ImageNet's 1,000"):
        evaluate("transxnet_t", photos, file=tmp_path / "seven.pth", console=quiet)


@pytest.mark.parametrize(
    ("model", "options", "message"),
    [
        ("nowhere", {}, "run folder nowhere does not exist. Read as a model name: unknown model 'nowhere'"),
        ("transxnet_tt", {}, "unknown model 'transxnet_tt'. Did you mean 'transxnet_t'"),
        ("transxnet_t.in22k", {}, "transxnet_t has no weights 'in22k'.*in1k"),
        ("transxnet_n", {}, "transxnet_n"),
        ("transxnet_t", {"file": "nowhere.pth"}, "checkpoint file nowhere.pth"),
        ("transxnet_t", {"file": "notes.txt"}, "notes.txt is truncated or not a checkpoint"),
        ("resnet18", {"file": "notes.txt"}, "cannot get the published weights of resnet18"),
        (".", {}, "is not a run folder: config.yaml is missing"),
        ("notes.txt", {}, "notes.txt is a file. Accepted: a run folder"),
    ],
)
def test_model_that_cannot_be_opened_raises(photos, tmp_path, quiet, monkeypatch, model, options, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "notes.txt").write_text("no weights")
    with pytest.raises(UserError, match=message):
        evaluate(model, photos, console=quiet, **options)


def test_published_model_needs_data(published, quiet):
    with pytest.raises(UserError, match=r"name the data to evaluate transxnet_t on"):
        evaluate("transxnet_t", file=published, console=quiet)
