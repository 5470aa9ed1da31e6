import json
import os
import re
import shlex
import threading
from collections import Counter
from pathlib import Path

import pytest
import timm
import torch
import yaml
from lightning.pytorch import Callback
from lightning.pytorch.loggers.logger import DummyLogger
from PIL import Image
from safetensors.torch import load_file

import transxnet
from tests.helpers.class_folders import QUICK, UNSET, write_photos
from transxnet.data.loading.preprocessing import Preprocessing
from transxnet.training.train import train
from transxnet.utils.errors import UserError

FILES = {
    "config.yaml", "environment.json", "split.csv", "metrics.csv", "tensorboard", "last.ckpt", "best.ckpt",
    "model.safetensors", "model.json", "config.json", "results.json", "predictions.csv", "report.html", "README.md",
}  # fmt: skip


def test_run_folder_holds_the_documented_files(digits_run):
    assert {path.name for path in digits_run.path.iterdir()} == FILES
    assert any(path.name.startswith("events") for path in (digits_run.path / "tensorboard").iterdir())


def test_loss_falls_and_accuracy_beats_the_majority(digits_run):
    rows = digits_run.read_metrics()
    assert [row["epoch"] for row in rows] == [1, 2]
    assert rows[1]["train_loss"] < rows[0]["train_loss"]
    results = json.loads(digits_run.results_file.read_text())
    assert results["accuracy"] > 3 * results["majority"]


def test_results_are_of_the_best_epoch(digits_run):
    best = max(digits_run.read_metrics(), key=lambda row: row["val_accuracy"])
    results = json.loads(digits_run.results_file.read_text())
    for name in ("accuracy", "balanced_accuracy", "f1", "top5_accuracy"):
        assert results[name] == best[f"val_{name}"], name


def test_frozen_weights_do_not_move(photos, photos_run, tmp_path, quiet):
    options = {**QUICK, "checkpoint": photos_run.weights_file, "freeze": "backbone", "lr": 0.1, "epochs": 1}
    run = train(photos, out=tmp_path / "run", console=quiet, **options)
    before, after = load_file(photos_run.weights_file), load_file(run.weights_file)
    moved = {name for name in after if not torch.equal(before[name], after[name])}
    classifier = {f"{name}.{kind}" for name in ("head", "fc", "classifier") for kind in ("weight", "bias")}
    assert moved and moved <= classifier


@pytest.mark.parametrize(("given", "positive"), [(None, "red"), ("blue", "blue")])
def test_positive_class_of_two_is_the_given_or_the_less_frequent_one(given, positive, tmp_path, console):
    data = write_photos(write_photos(tmp_path / "photos", 12, names=["red"]), 16, names=["blue"])
    run = train(data, out=tmp_path / "run", console=console, positive=given, **{**QUICK, "epochs": 1})
    assert (run.read_config().positive, run.results["fitted"]["positive"]) == (positive, positive)
    assert ("positive red (the less frequent class)" in " ".join(console.file.getvalue().split())) == (given is None)


class Recorder(DummyLogger):
    """Keep what was logged."""

    def __init__(self):
        super().__init__()
        self.metrics = []

    def log_metrics(self, metrics, step):
        self.metrics.append((step, dict(metrics)))


class CountBatches(Callback):
    batches = 0

    def on_train_batch_end(self, *args):
        self.batches += 1


def test_callbacks_and_loggers_receive_every_step(photos, tmp_path, quiet):
    logger, counter = Recorder(), CountBatches()
    run = train(photos, out=tmp_path / "run", console=quiet, callbacks=[counter], logger=logger, **QUICK)
    steps = round(run.read_metrics()[-1]["step"])
    losses = [metrics["train_loss_step"] for _, metrics in logger.metrics if "train_loss_step" in metrics]
    rates = [metrics for _, metrics in logger.metrics if any(name.startswith("lr-") for name in metrics)]
    assert counter.batches == len(losses) == len(rates) == steps
    assert [m["val_accuracy"] for _, m in logger.metrics if "val_accuracy" in m] == pytest.approx(
        [row["val_accuracy"] for row in run.read_metrics()]
    )
    assert any("CountBatches, Recorder" in note for note in run.read_environment()["choices"])


def test_last_checkpoint_is_of_the_last_epoch(photos, tmp_path, quiet):
    options = {**QUICK, "model": "test_vit", "lr": 0, "min_lr": 0, "warmup_lr": 0}
    run = train(photos, out=tmp_path / "run", console=quiet, **options)
    state = {name: torch.load(run.path / name, weights_only=True)["global_step"] for name in ("best.ckpt", "last.ckpt")}
    assert state == {"best.ckpt": 4, "last.ckpt": 8}  # the learning rate is zero, so the first epoch stays the best


def test_stored_config_is_complete_with_all_choices(digits_run):
    config = digits_run.read_config()
    assert {name for name, value in config.to_dict().items() if value is None} == UNSET
    choices = [sentence.split()[0] for sentence in digits_run.read_environment()["choices"]]
    assert {"img_size", "drop_path_rate", "ema_decay", "warmup_epochs"} <= set(choices)


def test_stored_command_names_data_and_model(digits_run):
    words = shlex.split(digits_run.read_environment()["command"])
    assert words[:3] == ["transxnet", "train", "digits"]
    assert dict(zip(words[3::2], words[4::2], strict=True))["--model"] == "test_resnet"


def test_model_is_rebuilt_from_its_description(digits_run):
    description = json.loads(digits_run.model_file.read_text())
    model = timm.create_model(
        description["architecture"], num_classes=len(description["class_names"]), **description["model_args"]
    )
    model.load_state_dict(load_file(digits_run.weights_file))
    image = Image.effect_noise((20, 20), 80).convert("RGB")
    pixels = Preprocessing.from_dict(description["preprocessing"]).transform()(image)[None]
    state = torch.load(digits_run.best_checkpoint, weights_only=True)["state_dict"]
    kept = timm.create_model(description["architecture"], num_classes=10)
    kept.load_state_dict({k.removeprefix("ema.module."): v for k, v in state.items() if k.startswith("ema.module.")})
    with torch.no_grad():
        assert torch.equal(model.eval()(pixels), kept.eval()(pixels))


def test_transxnet_trains_and_evaluates(photos, tmp_path, console):
    run = train(photos, out=tmp_path / "run", console=console, **{**QUICK, "model": "transxnet_n", "epochs": 1})
    description = json.loads(run.model_file.read_text())
    assert description["model_args"] == {"img_size": 32}
    assert transxnet.evaluate(run.path, console=console).metrics()["accuracy"] == pytest.approx(
        json.loads(run.results_file.read_text())["accuracy"], abs=0
    )


def test_output_has_no_control_codes_or_broken_paths(photos, tmp_path, console):
    out = tmp_path / ("a-very-long-name" * 8)
    train(photos, out=out, console=console, **{**QUICK, "epochs": 1})
    text = console.file.getvalue()
    assert f"run folder {out}\n" in text
    assert f"report      {out}/report.html" in text
    assert not re.search(r"[^\n -~]", text)


def test_path_with_brackets_is_printed_and_stored(tmp_path, console):
    data = write_photos(tmp_path / "pho[bold]tos[/x]", 4)
    run = train(data, out=tmp_path / "[red]run", console=console, **{**QUICK, "batch_size": 2, "epochs": 1})
    assert f"test_resnet on {data}:" in console.file.getvalue()
    assert str(run.report_file) in console.file.getvalue()
    assert run.read_config().data == str(data)


def test_select_last_without_averaging_keeps_plain_weights(photos, tmp_path, console):
    run = train(photos, out=tmp_path / "run", select="last", ema_decay=0, console=console, **QUICK)
    state = torch.load(run.last_checkpoint, weights_only=True)["state_dict"]
    kept = load_file(run.weights_file)
    assert not any(name.startswith("ema.") for name in state)
    assert all(torch.equal(kept[name], state[f"model.{name}"]) for name in kept)


def test_all_optimizer_options_work_together(photos, tmp_path, console):
    options = dict(
        accumulate=2, clip_grad=1.0, layer_decay=0.8, grad_checkpointing=True, mixup=0.2, cutmix=0.5, drop_rate=0.1,
        random_erasing=0.2, auto_augment="rand-m5-n1", cooldown_epochs=1, opt="lamb",
    )  # fmt: skip
    run = train(photos, out=tmp_path / "run", console=console, **QUICK, **options)
    rows = run.read_metrics()
    assert [row["step"] for row in rows] == [2, 4, 6]  # 4 batches of 36 images, two per update
    assert rows[2]["lr"] == pytest.approx(1e-6, abs=1e-12)


def test_gradients_are_clipped_in_mixed_precision(photos, tmp_path, console, monkeypatch):
    norms, clip = [], torch.nn.utils.clip_grad_norm_

    def record(parameters, limit):
        weights = list(parameters)
        norms.append((clip(weights, limit), clip(weights, limit)))

    monkeypatch.setattr(torch.nn.utils, "clip_grad_norm_", record)
    options = {**QUICK, "epochs": 1, "precision": "bf16-mixed", "clip_grad": 0.01, "opt": "adamw"}
    train(photos, out=tmp_path / "run", console=console, **options)
    assert norms and all(before > 0.01 and after <= 0.0101 for before, after in norms)


def test_training_runs_outside_the_main_thread(photos, tmp_path, console):
    result = []
    options = {**QUICK, "epochs": 1, "out": tmp_path / "run", "console": console}
    thread = threading.Thread(target=lambda: result.append(train(photos, **options)))
    thread.start()
    thread.join()
    assert result[0].report_file.is_file()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (dict(model="transxnet_x"), "unknown model 'transxnet_x'. Did you mean 'transxnet_"),
        (dict(opt="adamww"), "no optimizer 'adamww'. Did you mean 'adamw'"),
        (dict(device="abacus"), "device abacus"),
        (dict(precision="31"), "precision 31"),
        (dict(strategy="luck"), "strategy luck"),
        (dict(auto_augment="nonsense-m9"), "unknown auto_augment policy 'nonsense-m9'"),
        (dict(checkpoint="nowhere.pth"), "checkpoint nowhere.pth does not exist"),
        (dict(checkpoint="x", pretrained=True), "cannot be combined"),
        (dict(batch_size=64), "batch_size 64 is more than the number of training images, 36"),
        (dict(model="test_vit", img_size=33), "test_vit does not support images of 33x33: .*divisible by patch size"),
        (dict(model="vgg11", grad_checkpointing=True), "vgg11 does not support gradient checkpointing"),
        (
            dict(model="test_vit", checkpointed_stages=2),
            "test_vit does not support checkpointing single stages. Use --grad-ch",
        ),
        (dict(checkpointed_stages=5), "checkpointed_stages must be an integer from 1 to 4, got 5"),
        (dict(img_size=20000), "1 to 16384 pixels, got .*Choose another --img-size"),
        (dict(crop_pct=0.05), "crop_pct must be .* of at least 0.1, got 0.05. Choose another --crop-pct"),
        (dict(num_clases=3), "unknown option 'num_clases'. Did you mean --num-classes"),
    ],
)
def test_bad_option_is_refused_before_anything_is_written(photos, tmp_path, console, monkeypatch, options, message):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=message):
        train(photos, console=console, **{**QUICK, **options})
    assert list(tmp_path.iterdir()) == []
    assert "TRANSXNET_OUT" not in os.environ


@pytest.mark.parametrize("kind", ["missing", "empty", "one class", "unreadable", "single images"])
def test_bad_data_leaves_no_run_folder(tmp_path, console, kind):
    data = tmp_path / "data"
    if kind != "missing":
        data.mkdir()
    if kind == "one class":
        write_photos(tmp_path / "all", 3, names=["red"]).rename(data / "all")
    if kind == "single images":
        write_photos(data / "x", 1)
        data = data / "x"
    if kind == "unreadable":
        data = write_photos(data / "x", 3)
        for path in data.rglob("*.png"):
            path.write_bytes(b"no image")
    with pytest.raises(UserError):
        train(data, out=tmp_path / "run", console=console, **QUICK)
    assert not (tmp_path / "run").exists()


def test_overwrite_is_only_for_runs_and_on_request(photos, tmp_path, console):
    options = {**QUICK, "epochs": 1, "console": console}
    run = train(photos, out=tmp_path / "run", **options)
    before = run.weights_file.read_bytes()
    with pytest.raises(UserError, match=r"already exists. Resume it with --resume"):
        train(photos, out=run.path, **options)
    (run.path / "notes.txt").write_text("mine")
    with pytest.raises(UserError, match=r"also holds notes.txt, which is not part of a run"):
        train(photos, out=run.path, overwrite=True, **options)
    assert run.weights_file.read_bytes() == before
    (run.path / "notes.txt").unlink()
    train(photos, out=run.path, overwrite=True, seed=1, **options)
    assert run.weights_file.read_bytes() != before

    project = tmp_path / "project"
    project.mkdir()
    (project / "config.yaml").write_text("data: x\n")
    with pytest.raises(UserError, match=r"is not a run folder, so --overwrite does not delete it"):
        train(photos, out=project, overwrite=True, **options)
    assert (project / "config.yaml").read_text() == "data: x\n"


def test_bad_data_does_not_overwrite_a_run(photos_run, tmp_path, console):
    with pytest.raises(UserError, match=r"nowhere' is neither an existing folder nor a sample"):
        train(tmp_path / "nowhere", out=photos_run.path, overwrite=True, console=console, **QUICK)
    assert photos_run.report_file.is_file()


def test_runs_are_numbered_without_out(photos, tmp_path, monkeypatch, console):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs" / "test_resnet-photos-1").mkdir(parents=True)
    run = train(photos, console=console, **{**QUICK, "epochs": 1})
    assert str(run.path) == "runs/test_resnet-photos-2"


def test_stored_config_is_a_recipe(photos, photos_run, tmp_path, console):
    again = train(photos, recipe=photos_run.config_file, out=tmp_path / "again", console=console)
    assert again.weights_file.read_bytes() == photos_run.weights_file.read_bytes()
    assert yaml.safe_load(again.config_file.read_text()) == yaml.safe_load(photos_run.config_file.read_text())


@pytest.mark.long
def test_compiled_model_learns_the_same(photos, photos_run, tmp_path, quiet):
    run = train(photos, out=tmp_path / "run", compile=True, lr=3e-3, console=quiet, **QUICK)
    for row, plain in zip(run.read_metrics(), photos_run.read_metrics(), strict=True):
        assert row["train_loss"] == pytest.approx(plain["train_loss"], abs=1e-3)
    assert all(not name.startswith("_orig_mod") for name in load_file(run.weights_file))


def write_labels(file: Path, photos: Path, separator: str, **columns) -> Path:
    """Write a table of the images in class folders, as spreadsheets do, with these additional columns."""
    rows = [["image_path", "category", *columns]]
    for number, path in enumerate(sorted(photos.rglob("*.png"))):
        more = [str(values(number)) for values in columns.values()]
        rows.append([str(path.relative_to(photos)).replace("/", "\\"), path.parent.name, *more])
    file.write_bytes("\r\n".join(map(separator.join, rows)).encode("utf-8-sig"))
    return file


def test_label_table_trains_evaluates_and_predicts(photos, tmp_path, console, monkeypatch):
    monkeypatch.chdir(photos.parent)
    table = write_labels(tmp_path / "labels.csv", photos, ";", patient=lambda number: number // 3)
    run = train(table, out=tmp_path / "run", image_folder=photos.name, lr=3e-3, console=console, **QUICK)
    assert "  columns: path=image_path, label=category, group=patient\n" in console.file.getvalue()
    assert json.loads(run.results_file.read_text())["accuracy"] > 0.5
    config = run.read_config()
    assert (config.data, config.image_folder) == (str(table), str(photos))
    monkeypatch.chdir(tmp_path)
    validated = transxnet.evaluate(run.path, workers=0, console=console)
    patients = [int(Path(name).stem) // 3 for name in validated.names]  # 15 images in each of three folders
    assert sorted(set(Counter(zip(validated.labels, patients, strict=True)).values())) == [3]
    other = write_labels(tmp_path / "other.tsv", photos, "\t", split=lambda number: ["train", "test"][number % 2])
    evaluation = transxnet.evaluate(run.path, other, image_folder=photos, workers=0, console=console)
    assert len(evaluation) == 22
    (tmp_path / "new.csv").write_text("\n".join(["path", *map(str, photos.rglob("*.png"))]))
    predicted = transxnet.predict(run.path, tmp_path / "new.csv", out=tmp_path / "out", workers=0, console=console)
    assert predicted.images == 45
    assert train(resume=run.path, console=console).path == run.path
