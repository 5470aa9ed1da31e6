import logging
import shutil
from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import load_file, save_file

import transxnet
from tests.helpers.class_folders import QUICK, write_photos
from tests.helpers.dense_data import CATEGORIES, DETECT, SEGMENT, write_maps, write_squares
from transxnet.heads import RetinaNet
from transxnet.runs.recipes import make_config
from transxnet.runs.run_folder import Run
from transxnet.training.init_weights import load_initial_weights, model_weights
from transxnet.training.make_plan import make_plan
from transxnet.training.train import train
from transxnet.utils.errors import UserError


def test_run_gives_its_weights(photos_run):
    model = timm.create_model("test_resnet", num_classes=3)
    assert load_initial_weights(model, str(photos_run.path)) == []
    kept = load_file(photos_run.weights_file)
    assert all(torch.equal(tensor, kept[name]) for name, tensor in model.state_dict().items())


@pytest.mark.parametrize("name", ["last_checkpoint", "best_checkpoint"])
def test_checkpoint_gives_its_averaged_weights(digits_run, name):
    path = getattr(digits_run, name)
    model = timm.create_model("test_resnet", num_classes=10)
    load_initial_weights(model, str(path))
    state = torch.load(path, weights_only=True)["state_dict"]
    assert torch.equal(model.fc.weight, state["ema.module.fc.weight"])
    assert not torch.equal(model.fc.weight, state["model.fc.weight"])


def test_run_with_only_a_previous_checkpoint_gives_that(digits_run, tmp_path):
    run = Run(Path(shutil.copytree(digits_run.path, tmp_path / "run")))
    run.weights_file.unlink()
    run.last_checkpoint.rename(run.previous_checkpoint)
    model = timm.create_model("test_resnet", num_classes=10)
    load_initial_weights(model, str(run.path))
    state = torch.load(run.previous_checkpoint, weights_only=True)["state_dict"]
    assert torch.equal(model.fc.weight, state["ema.module.fc.weight"])


def test_state_without_average_gives_plain_weights():
    assert model_weights({"model.a": torch.ones(1), "val_metrics.x": torch.zeros(1)}) == {"a": torch.ones(1)}


def test_checkpoint_of_a_compared_network_is_converted(tmp_path):
    """Its authors store the tensors under "model", and MPViT's shared ones under several names."""
    options = dict(num_layers=(1, 1, 1, 1), embed_dims=(8, 16, 16, 24), num_paths=(1, 1, 1, 1))
    source = timm.create_model("mpvit_xsmall", num_classes=7, **options)
    state = source.state_dict()
    state["mhca_stages.0.mhca_blks.0.MHCA_layers.0.cpe.proj.bias"] = state["mhca_stages.0.mhca_blks.0.cpe.proj.bias"]
    torch.save({"model": state}, tmp_path / "seven.pth")
    model = timm.create_model("mpvit_xsmall", num_classes=3, **options)
    notes = load_initial_weights(model, str(tmp_path / "seven.pth"))
    assert notes == [
        "the checkpoint has 7 classes, the data 3: the backbone is loaded, the head is initialized randomly"
    ]
    for name, tensor in model.state_dict().items():
        assert name.startswith("cls_head.") or torch.equal(tensor, state[name]), name
    del state["stem.0.conv.weight"]
    torch.save({"model": state}, tmp_path / "seven.pth")
    with pytest.raises(UserError, match=r"seven\.pth does not match the model: (.|\n)*missing \(1\): stem\.0\.conv"):
        load_initial_weights(model, str(tmp_path / "seven.pth"))


@pytest.mark.parametrize("name", ["test_resnet", "transxnet_n"])
def test_other_classes_keep_backbone_and_reset_head(name, tmp_path):
    options = {"img_size": 64} if name == "transxnet_n" else {}
    source = timm.create_model(name, num_classes=7, **options)
    save_file(source.state_dict(), tmp_path / "seven.safetensors")
    model = timm.create_model(name, num_classes=3, **options)
    before = {key: tensor.clone() for key, tensor in model.state_dict().items()}
    notes = load_initial_weights(model, str(tmp_path / "seven.safetensors"))
    assert notes == [
        "the checkpoint has 7 classes, the data 3: the backbone is loaded, the head is initialized randomly"
    ]
    head = model.pretrained_cfg["classifier"]
    for key, tensor in model.state_dict().items():
        expected = before[key] if key.startswith(head) else source.state_dict()[key]
        assert torch.equal(tensor, expected), key


def test_training_starts_from_a_run_of_other_classes(photos_run, tmp_path, console):
    data = write_photos(tmp_path / "two", 8, names=("red", "blue"))
    run = train(data, checkpoint=photos_run.path, out=tmp_path / "run", console=console, **{**QUICK, "epochs": 1})
    expected = "the checkpoint has 3 classes, the data 2: the backbone is loaded, the head is initialized randomly"
    assert expected in console.file.getvalue()
    assert expected in run.read_environment()["choices"]
    assert run.read_config().lr < 1e-4  # a tenth of the learning rate from scratch


@pytest.mark.parametrize("name", ["test_resnet", "transxnet_n"])
@pytest.mark.parametrize("content", ["another network", "no tensors", "truncated", "text"])
def test_foreign_file_is_refused_by_name(name, content, tmp_path):
    path = tmp_path / "start.pth"
    torch.save({"a": "b"} if content == "no tensors" else timm.create_model("test_vit").state_dict(), path)
    if content == "truncated":
        path.write_bytes(path.read_bytes()[:5000])
    if content == "text":
        path.write_text("no weights")
    with pytest.raises(UserError, match=r"start.pth"):
        load_initial_weights(transxnet.create_model(name, num_classes=3), str(path))


def test_run_of_another_model_is_refused(photos_run):
    with pytest.raises(UserError, match=r"does not match the model"):
        load_initial_weights(transxnet.create_model("test_vit", num_classes=3), str(photos_run.path))


OTHER_CLASSES = "the checkpoint does not have the model's 3 classes: "


def start(data, checkpoint, quiet, **options) -> dict[str, torch.Tensor]:
    """The initial weights of a training."""
    config = make_config(data, checkpoint=str(checkpoint), **options)
    plan = make_plan(config, quiet)
    assert any("divided by 10 for fine-tuning" in sentence for sentence in plan.choices)
    return plan.model.state_dict()


@pytest.fixture(scope="module")
def three(tmp_path_factory):
    """Squares of three classes, one of which never occurs."""
    return write_squares(tmp_path_factory.mktemp("data") / "three", 4, 2, [*CATEGORIES, dict(id=1, name="green")])


@pytest.mark.parametrize("of", ["run", "last_checkpoint", "weights_file"])
def test_detector_and_segmenter_take_a_classifier_s_backbone(photos_run, squares, maps, quiet, of):
    source = photos_run.path if of == "run" else getattr(photos_run, of)
    kept = load_file(photos_run.weights_file)
    for data, options in ((squares, DETECT), (maps, SEGMENT)):
        weights = start(data, source, quiet, **options)
        body = {name: tensor for name, tensor in weights.items() if name.startswith("backbone.body.")}
        shared = [name for name in body if name.removeprefix("backbone.body.") in kept]
        assert len(shared) >= 0.9 * len(body) > 20
        if of != "last_checkpoint":  # the last epoch; the run keeps the best
            assert all(torch.equal(body[name], kept[name.removeprefix("backbone.body.")]) for name in shared)


def test_detector_of_the_same_classes_gives_all_weights(finding_run, squares, quiet, caplog):
    weights, kept = start(squares, finding_run.path, quiet, **DETECT), load_file(finding_run.weights_file)
    assert set(weights) == set(kept)
    assert all(torch.equal(weights[name], kept[name]) for name in kept)
    assert not caplog.records


def test_detector_of_other_classes_gives_all_but_class_layer(finding_run, three, quiet, caplog):
    with caplog.at_level(logging.WARNING):
        weights = start(three, finding_run.path, quiet, **DETECT)
    kept, layer = load_file(finding_run.weights_file), RetinaNet.class_layers[0]
    different = {name for name in kept if not torch.equal(weights[name], kept[name])}
    assert different == {f"{layer}.weight", f"{layer}.bias"}
    expected = f"{OTHER_CLASSES}{layer} are initialized randomly, all else is loaded"
    assert [record.message for record in caplog.records] == [expected]


def test_segmenter_of_other_classes_gives_all_but_class_layer(maps_run, tmp_path, quiet, caplog):
    data = write_maps(tmp_path / "ADEChallengeData2016", 4, 2, zero_is_ignored=True)
    (data / "classes.txt").write_text("ground\nred\nblue\ngreen\n")
    with caplog.at_level(logging.WARNING):
        weights = start(data, maps_run.path, quiet, **SEGMENT)
    kept = load_file(maps_run.weights_file)
    assert {name for name in kept if not torch.equal(weights[name], kept[name])} == {
        "head.classifier.weight", "head.classifier.bias",
    }  # fmt: skip
    assert "the checkpoint does not have the model's 4 classes" in caplog.text


@pytest.mark.long
def test_training_starts_from_a_detector(finding_run, three, tmp_path, quiet):
    options = {**DETECT, "min_size": 32, "epochs": 1}
    run = train(three, checkpoint=finding_run.path, out=tmp_path / "run", console=quiet, **options)
    assert run.report_file.is_file()
    assert run.read_config().checkpoint == str(finding_run.path)


def test_classifier_refuses_a_detector_s_weights(finding_run, tmp_path, quiet):
    data = write_photos(tmp_path / "photos", 4)
    with pytest.raises(UserError, match=r"does not match the model"):
        train(data, checkpoint=finding_run.path, out=tmp_path / "run", console=quiet, **QUICK)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ("a segmenter", r"(?s)does not match this RetinaNet: .*missing \(.*backbone\.fpn\.extra_blocks\.p6\.weight"),
        ("another backbone", r"(?s)does not match this RetinaNet: .*missing \(.*backbone\.body\.stem_0\.weight"),
        ("no weights", r"(?s)expected a mapping of names to tensors.*not tensors \(1\): a"),
    ],
)
def test_weights_that_do_not_fit_are_refused(wrong, message, finding_run, maps_run, squares, tmp_path, quiet):
    source, options = maps_run.path, {**DETECT, "out": tmp_path / "run"}
    if wrong == "another backbone":
        source, options["model"] = finding_run.path, "test_convnext"
    if wrong == "no weights":
        source = tmp_path / "start.pth"
        torch.save({"a": "b"}, source)
    with pytest.raises(UserError, match=message) as caught:
        train(squares, checkpoint=source, console=quiet, **options)
    assert len(str(caught.value)) < 1500
    assert not (tmp_path / "run").exists()


def test_unfinished_run_gives_its_last_checkpoint(boxes_run, squares, tmp_path, quiet):
    for name in ("config.yaml", "last.ckpt"):
        (tmp_path / name).write_bytes((boxes_run.path / name).read_bytes())
    weights = start(squares, tmp_path, quiet, **DETECT)
    state = torch.load(Run(tmp_path).last_checkpoint, weights_only=True)["state_dict"]
    assert all(torch.equal(tensor, state[f"model.{name}"]) for name, tensor in weights.items())
