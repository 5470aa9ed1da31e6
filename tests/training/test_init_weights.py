import shutil
from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import load_file, save_file

import transxnet
from tests.helpers.class_folders import QUICK, write_photos
from transxnet.runs.run_folder import Run
from transxnet.training.init_weights import load_initial_weights, model_weights
from transxnet.training.train import train
from transxnet.utils.errors import UserError


def test_a_run_s_weights_are_the_start_of_another(photos_run):
    model = timm.create_model("test_resnet", num_classes=3)
    assert load_initial_weights(model, str(photos_run.path)) == []
    kept = load_file(photos_run.weights_file)
    assert all(torch.equal(tensor, kept[name]) for name, tensor in model.state_dict().items())


@pytest.mark.parametrize("name", ["last_checkpoint", "best_checkpoint"])
def test_so_are_its_checkpoints_and_of_these_the_network_to_use(digits_run, name):
    path = getattr(digits_run, name)
    model = timm.create_model("test_resnet", num_classes=10)
    load_initial_weights(model, str(path))
    state = torch.load(path, weights_only=True)["state_dict"]
    assert torch.equal(model.fc.weight, state["ema.module.fc.weight"])
    assert not torch.equal(model.fc.weight, state["model.fc.weight"])


def test_so_is_the_checkpoint_before_the_last_where_nothing_else_is_there(digits_run, tmp_path):
    run = Run(Path(shutil.copytree(digits_run.path, tmp_path / "run")))
    run.weights_file.unlink()
    run.last_checkpoint.rename(run.previous_checkpoint)
    model = timm.create_model("test_resnet", num_classes=10)
    load_initial_weights(model, str(run.path))
    state = torch.load(run.previous_checkpoint, weights_only=True)["state_dict"]
    assert torch.equal(model.fc.weight, state["ema.module.fc.weight"])


def test_without_an_average_the_plain_weights_are_kept():
    assert model_weights({"model.a": torch.ones(1), "val_metrics.x": torch.zeros(1)}) == {"a": torch.ones(1)}


@pytest.mark.parametrize("name", ["test_resnet", "transxnet_n"])
def test_with_other_classes_the_backbone_is_kept_and_the_head_is_new_and_that_is_said(name, tmp_path):
    options = {"img_size": 64} if name == "transxnet_n" else {}
    source = timm.create_model(name, num_classes=7, **options)
    save_file(source.state_dict(), tmp_path / "seven.safetensors")
    model = timm.create_model(name, num_classes=3, **options)
    before = {key: tensor.clone() for key, tensor in model.state_dict().items()}
    notes = load_initial_weights(model, str(tmp_path / "seven.safetensors"))
    assert notes == ["the checkpoint has 7 classes, the data 3: the backbone is kept, the head is new"]
    head = model.pretrained_cfg["classifier"]
    for key, tensor in model.state_dict().items():
        expected = before[key] if key.startswith(head) else source.state_dict()[key]
        assert torch.equal(tensor, expected), key


def test_training_goes_on_from_a_run_of_other_classes(photos_run, tmp_path, console):
    data = write_photos(tmp_path / "two", 8, names=("red", "blue"))
    run = train(data, checkpoint=photos_run.path, out=tmp_path / "run", console=console, **{**QUICK, "epochs": 1})
    said = "the checkpoint has 3 classes, the data 2: the backbone is kept, the head is new"
    assert said in console.file.getvalue()
    assert said in run.read_environment()["choices"]
    assert run.read_config().lr < 1e-4  # a tenth of what a training from scratch takes


@pytest.mark.parametrize("name", ["test_resnet", "transxnet_n"])
@pytest.mark.parametrize("content", ["another network", "no tensors", "truncated", "text"])
def test_a_foreign_file_is_said(name, content, tmp_path):
    path = tmp_path / "start.pth"
    torch.save({"a": "b"} if content == "no tensors" else timm.create_model("test_vit").state_dict(), path)
    if content == "truncated":
        path.write_bytes(path.read_bytes()[:5000])
    if content == "text":
        path.write_text("no weights")
    with pytest.raises(UserError, match=r"start.pth"):
        load_initial_weights(transxnet.create_model(name, num_classes=3), str(path))


def test_a_run_of_another_model_is_said(photos_run):
    with pytest.raises(UserError, match=r"does not fit the model"):
        load_initial_weights(transxnet.create_model("test_vit", num_classes=3), str(photos_run.path))
