"""Detectors and segmenters start from the weights of classifiers, of each other's kind, and of published files."""

import logging

import pytest
import torch
from safetensors.torch import load_file

from tests.helpers.class_folders import QUICK, write_photos
from tests.helpers.dense_data import CATEGORIES, DETECT, SEGMENT, write_maps, write_squares
from transxnet.heads import RetinaNet
from transxnet.runs.recipes import make_config
from transxnet.runs.run_folder import Run
from transxnet.training.plan import make_plan
from transxnet.training.train import train
from transxnet.utils.errors import UserError

SAID = "the checkpoint has other classes than the model's 3: all is kept but "


def start(data, checkpoint, quiet, **options) -> dict[str, torch.Tensor]:
    """The first weights of a training."""
    config = make_config(data, checkpoint=str(checkpoint), **options)
    plan = make_plan(config, quiet)
    assert any("a tenth to fine-tune" in sentence for sentence in plan.choices)
    return plan.model.state_dict()


@pytest.fixture(scope="module")
def three(tmp_path_factory):
    """Squares of three classes, one of which never occurs."""
    return write_squares(tmp_path_factory.mktemp("data") / "three", 4, 2, [*CATEGORIES, dict(id=1, name="green")])


@pytest.mark.parametrize("of", ["run", "last_checkpoint", "weights_file"])
def test_a_classifier_s_backbone_is_taken(photos_run, squares, maps, quiet, of):
    source = photos_run.path if of == "run" else getattr(photos_run, of)
    kept = load_file(photos_run.weights_file)
    for data, options in ((squares, DETECT), (maps, SEGMENT)):
        weights = start(data, source, quiet, **options)
        body = {name: tensor for name, tensor in weights.items() if name.startswith("backbone.body.")}
        shared = [name for name in body if name.removeprefix("backbone.body.") in kept]
        assert len(shared) >= 0.9 * len(body) > 20
        if of != "last_checkpoint":  # of the last epoch, the run keeps the best
            assert all(torch.equal(body[name], kept[name.removeprefix("backbone.body.")]) for name in shared)


def test_a_detector_of_the_same_classes_is_taken_wholly(finding_run, squares, quiet, caplog):
    weights, kept = start(squares, finding_run.path, quiet, **DETECT), load_file(finding_run.weights_file)
    assert set(weights) == set(kept)
    assert all(torch.equal(weights[name], kept[name]) for name in kept)
    assert not caplog.records


def test_of_one_of_other_classes_all_but_the_head_is_taken_and_that_is_said(finding_run, three, quiet, caplog):
    with caplog.at_level(logging.WARNING):
        weights = start(three, finding_run.path, quiet, **DETECT)
    kept, layer = load_file(finding_run.weights_file), RetinaNet.class_layers[0]
    different = {name for name in kept if not torch.equal(weights[name], kept[name])}
    assert different == {f"{layer}.weight", f"{layer}.bias"}
    assert [record.message for record in caplog.records] == [f"{SAID}{layer}, which start new"]


def test_a_segmenter_of_other_classes_likewise(maps_run, tmp_path, quiet, caplog):
    data = write_maps(tmp_path / "ADEChallengeData2016", 4, 2, zero_is_ignored=True)
    (data / "classes.txt").write_text("ground\nred\nblue\ngreen\n")
    with caplog.at_level(logging.WARNING):
        weights = start(data, maps_run.path, quiet, **SEGMENT)
    kept = load_file(maps_run.weights_file)
    assert {name for name in kept if not torch.equal(weights[name], kept[name])} == {
        "head.classifier.weight", "head.classifier.bias",
    }  # fmt: skip
    assert "the checkpoint has other classes than the model's 4" in caplog.text


def test_training_goes_on_from_a_detector(finding_run, three, tmp_path, quiet):
    options = {**DETECT, "min_size": 32, "epochs": 1}
    run = train(three, checkpoint=finding_run.path, out=tmp_path / "run", console=quiet, **options)
    assert run.report_file.is_file()
    assert run.read_config().checkpoint == str(finding_run.path)


def test_a_classifier_does_not_start_from_a_detector_silently(finding_run, tmp_path, quiet):
    data = write_photos(tmp_path / "photos", 4)
    with pytest.raises(UserError, match=r"does not fit the model"):
        train(data, checkpoint=finding_run.path, out=tmp_path / "run", console=quiet, **QUICK)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("wrong", ["a segmenter", "another backbone", "no weights"])
def test_what_does_not_fit_is_said(wrong, finding_run, maps_run, squares, tmp_path, quiet):
    source, options = maps_run.path, {**DETECT, "out": tmp_path / "run"}
    if wrong == "another backbone":
        source, options["model"] = finding_run.path, "test_convnext"
    if wrong == "no weights":
        source = tmp_path / "start.pth"
        torch.save({"a": "b"}, source)
    with pytest.raises(UserError) as caught:
        train(squares, checkpoint=source, console=quiet, **options)
    assert len(str(caught.value)) < 1500
    assert not (tmp_path / "run").exists()


def test_an_unfinished_run_gives_its_last_checkpoint(boxes_run, squares, tmp_path, quiet):
    for name in ("config.yaml", "last.ckpt"):
        (tmp_path / name).write_bytes((boxes_run.path / name).read_bytes())
    weights = start(squares, tmp_path, quiet, **DETECT)
    state = torch.load(Run(tmp_path).last_checkpoint, weights_only=True)["state_dict"]
    assert all(torch.equal(tensor, state[f"model.{name}"]) for name, tensor in weights.items())
