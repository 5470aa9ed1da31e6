"""Options in a model name, from training to everything that uses the run."""

import csv
import json

import pytest
from safetensors.torch import load_file

import transxnet
from tests.helpers.class_folders import QUICK
from tests.helpers.dense_data import SEGMENT
from transxnet.cli import main
from transxnet.runs.load import load_model
from transxnet.runs.run_folder import Run
from transxnet.training.train import train
from transxnet.utils.errors import UserError

MODEL = (
    "transxnet_n@depths=(1,1,1,1),embed_dims=(16,16,32,32),num_heads=(1,1,2,2),local_conv=dyconv,token_enhancer=none,"
    "ffn_scales=(1,3)"
)


OPTIONS = {**QUICK, "model": MODEL, "epochs": 1}


@pytest.fixture(scope="module")
def run(photos, quiet, tmp_path_factory) -> Run:
    return train(photos, out=tmp_path_factory.mktemp("runs") / "options", console=quiet, **OPTIONS)


def test_options_are_stored_and_rebuild_the_model(run):
    description = json.loads(run.model_file.read_text())
    assert description["architecture"] == "transxnet_n"
    stored = dict(local_conv="dyconv", token_enhancer="none", ffn_scales=[1, 3], img_size=32)
    assert stored.items() <= description["model_args"].items()
    model = load_model(run.path).model
    assert type(model.stages[0].blocks[0].mixer.idconv).__name__ == "DyConv"
    assert f"--model '{MODEL}'" in run.read_environment()["command"]


def test_run_is_evaluated_and_predicts(run, photos, console, tmp_path):
    accuracy = json.loads(run.results_file.read_text())["accuracy"]
    assert transxnet.evaluate(run.path, console=console).metrics()["accuracy"] == pytest.approx(accuracy, abs=0)
    image = photos / "red" / "000.png"
    assert main(["predict", str(run.path), str(image), "--out", str(tmp_path / "predicted")]) == 0
    (file,) = (tmp_path / "predicted").glob("*.csv")
    assert len(list(csv.DictReader(file.open()))) >= 1


@pytest.mark.long
def test_run_is_started_from_and_resumed(run, photos, console, tmp_path):
    tuned = train(photos, out=tmp_path / "tuned", checkpoint=run.path, console=console, **{**OPTIONS, "lr": 1e-6})
    before, after = load_file(run.weights_file), load_file(tuned.weights_file)
    assert before.keys() == after.keys()
    tuned.results_file.unlink()
    train(resume=tuned.path, console=console)
    assert tuned.results_file.is_file()
    with pytest.raises(UserError, match="does not match the model"):
        train(photos, out=tmp_path / "other", checkpoint=run.path, console=console, **{**QUICK, "model": "transxnet_n"})


@pytest.mark.long
def test_segmenter_backbone_takes_options(maps, console, tmp_path):
    options = {**SEGMENT, "model": "transxnet_n@local_conv=dwconv", "epochs": 1}
    run = train(maps, out=tmp_path / "run", console=console, **options)
    assert json.loads(run.model_file.read_text())["architecture"] == "transxnet_n@local_conv=dwconv"
    assert transxnet.evaluate(run.path, console=console).metrics()["miou"] == pytest.approx(
        json.loads(run.results_file.read_text())["miou"], abs=1e-6
    )


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (
            "transxnet_n@drop_path_rate=0.2",
            "drop_path_rate is a training option, not a model option. Use --drop-path-rate",
        ),
        ("transxnet_n@num_classes=4", "num_classes is a training option"),
        ("transxnet_n@local_konv=dyconv", "transxnet_n has no option 'local_konv'. Did you mean 'local_conv'"),
    ],
)
def test_option_that_is_not_part_of_a_name_is_an_error(model, message, photos, console, tmp_path):
    with pytest.raises(UserError, match=message):
        train(photos, out=tmp_path / "run", console=console, **{**QUICK, "model": model})


def test_info_counts_the_variant(capsys):
    assert main(["info", "transxnet_n@local_conv=dwconv"]) == 0
    variant = capsys.readouterr().out
    assert main(["info", "transxnet_n"]) == 0
    assert variant.splitlines()[1] != capsys.readouterr().out.splitlines()[1]
