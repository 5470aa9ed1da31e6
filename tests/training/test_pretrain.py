"""A pretraining, and the trainings that start from it."""

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

pytest.importorskip("lightly")
pytest.importorskip("sklearn")

import transxnet
from tests.helpers.dense_data import DETECT, SEGMENT
from tests.helpers.stopped_training import stopped_before
from transxnet.runs.run_folder import Run
from transxnet.runs.task_configs import ClassifyConfig, DetectConfig, SegmentConfig
from transxnet.training.make_plan import make_plan
from transxnet.training.pretrain import pretrain
from transxnet.training.train import train
from transxnet.utils.errors import UserError

OPTIONS = dict(model="test_resnet", img_size=32, batch_size=8, epochs=2, workers=0, device="cpu", ema_decay=0.9)


@pytest.fixture(scope="module")
def pretrained(photos, quiet, tmp_path_factory) -> Run:
    """A network pretrained with VICReg."""
    return pretrain(photos, out=tmp_path_factory.mktemp("runs") / "pretrained", console=quiet, **OPTIONS)


def test_run_folder_has_weights_metrics_and_report(pretrained):
    assert {"knn_accuracy", "effective_rank", "embedding_std", "images", "select"} <= pretrained.results.keys()
    history = pretrained.read_metrics()
    assert history[-1]["val_effective_rank"] == pytest.approx(pretrained.results["effective_rank"], rel=1e-3)
    assert "Map of the embeddings" in pretrained.report_file.read_text()
    assert "model.embed(" in pretrained.card_file.read_text()
    assert pretrained.read_environment()["command"].startswith("transxnet pretrain ")


@pytest.mark.parametrize("method", ["vicreg", pytest.param("simsiam", marks=pytest.mark.long)])
def test_resumed_run_equals_the_uninterrupted_one(method, pretrained, photos, tmp_path, quiet):
    options = {**OPTIONS, "method": method}
    whole = pretrained if method == "vicreg" else pretrain(photos, out=tmp_path / "whole", console=quiet, **options)
    with stopped_before(6):
        pretrain(photos, out=tmp_path / "run", console=quiet, **options)
    run = pretrain(resume=tmp_path / "run", console=quiet)
    mine, theirs = load_file(run.weights_file), load_file(whole.weights_file)
    assert [name for name in mine if not torch.equal(mine[name], theirs[name])] == []
    assert run.results_file.read_text() == whole.results_file.read_text()


def test_features_are_those_of_the_saved_network(pretrained, photos):
    model = transxnet.load(pretrained.path, device="cpu")
    features = model.embed([photos / "red" / "000.png", photos / "blue" / "000.png"])
    assert (model.task, features.shape) == ("pretrain", (2, model.module.num_features))
    assert np.isfinite(features).all()
    with pytest.raises(UserError, match=r"predicts nothing\. Use embed\(\)"):
        model.predict(photos / "red" / "000.png")


def test_other_commands_refuse_a_network_without_classes(pretrained, photos):
    with pytest.raises(UserError, match=r"predicts nothing\. Train a classifier, detector or segmenter from it"):
        transxnet.evaluate(pretrained.path, photos)


@pytest.mark.parametrize("kind", ["classify", "detect", "segment"])
def test_every_training_starts_from_its_weights(kind, pretrained, request, quiet):
    data = request.getfixturevalue({"classify": "photos", "detect": "squares", "segment": "maps"}[kind])
    classify = {name: value for name, value in OPTIONS.items() if name != "epochs"}
    make, options = {
        "classify": (ClassifyConfig, classify),
        "detect": (DetectConfig, DETECT),
        "segment": (SegmentConfig, SEGMENT),
    }[kind]
    options = {name: value for name, value in options.items() if name != "task"}
    plan = make_plan(make(str(data), checkpoint=str(pretrained.path), freeze="backbone", **options), quiet)
    own = (plan.model if kind == "classify" else plan.model.backbone.body).state_dict()
    stored = load_file(pretrained.weights_file)
    shared = [name for name in stored if name in own]
    assert len(shared) >= 20 and all(torch.equal(own[name], stored[name]) for name in shared)
    if kind == "classify":
        assert any("the checkpoint has no classes, the data 3" in note for note in plan.notes)


def test_linear_probe_keeps_the_backbone(pretrained, photos, tmp_path, quiet):
    options = {**OPTIONS, "epochs": 1, "checkpoint": str(pretrained.path), "freeze": "backbone"}
    run = train(photos, out=tmp_path / "probe", console=quiet, **options)
    own, stored = load_file(run.weights_file), load_file(pretrained.weights_file)
    assert all(torch.equal(own[name], stored[name]) for name in stored)
