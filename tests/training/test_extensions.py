"""Own loss, transform and data set."""

import io
import re

import pytest
import torch
import torch.nn.functional as F
from rich.console import Console
from torch import nn
from torchvision.datasets import ImageFolder
from torchvision.transforms import Compose, Normalize, RandomHorizontalFlip, Resize, ToTensor

from tests.helpers.class_folders import QUICK
from tests.helpers.stopped_training import stopped_before
from transxnet.runs.task_configs import ClassifyConfig
from transxnet.training.extensions import Extensions
from transxnet.training.make_plan import make_plan
from transxnet.training.train import train
from transxnet.utils.errors import UserError

TRANSFORM = Compose([Resize((32, 32)), RandomHorizontalFlip(), ToTensor(), Normalize([0.5] * 3, [0.2] * 3)])


class Doubled(nn.Module):
    """Twice the cross-entropy; counts the images that it received."""

    def __init__(self):
        super().__init__()
        self.register_buffer("images", torch.zeros((), dtype=torch.int64))

    def forward(self, logits, target):
        self.images += len(target)
        return 2 * F.cross_entropy(logits, target, reduction="none")


@pytest.fixture
def given(photos):
    return lambda: dict(loss=Doubled(), train_transform=TRANSFORM, dataset=ImageFolder(photos))


def test_own_objects_train_and_resume_bitwise(given, tmp_path, quiet):
    whole = train(out=tmp_path / "whole", console=quiet, **given(), **QUICK)
    steps = round(whole.read_metrics()[-1]["step"])
    content = torch.load(whole.last_checkpoint, weights_only=True)["state_dict"]
    assert content["objective.module.images"].item() == 8 * steps
    assert whole.results["accuracy"] > 0 and whole.report_file.is_file()
    notes = whole.read_environment()["choices"]
    assert any("pass again to resume: loss Doubled" in note for note in notes)
    with stopped_before(5):
        train(out=tmp_path / "run", console=quiet, **given(), **QUICK)
    with pytest.raises(UserError, match=r"was started with loss Doubled, .*loss=\.\.\."):
        train(resume=tmp_path / "run", console=quiet)
    resumed = train(resume=tmp_path / "run", console=quiet, **given())
    assert resumed.results == whole.results
    other = torch.load(resumed.last_checkpoint, weights_only=True)["state_dict"]
    assert all(torch.equal(value, other[name]) for name, value in content.items())


def test_run_without_own_loss_is_not_resumed_with_one(photos_run):
    with pytest.raises(UserError, match=r"started without loss. Remove loss"):
        Extensions(loss=nn.CrossEntropyLoss()).check_resumed(photos_run)


def plan(photos, **extensions):
    config = ClassifyConfig(str(photos), model="test_resnet", img_size=32, device="cpu", batch_size=8)
    return make_plan(config, Console(file=io.StringIO()), extensions=Extensions(**extensions))


def test_own_transform_replaces_the_augmentation(photos):
    data = plan(photos, train_transform=lambda image: torch.full((3, 32, 32), 7.0)).data_module()
    assert (data.train_dataset()[0][0] == 7).all()
    assert not (data.val_dataset()[0][0] == 7).any()


@pytest.mark.parametrize("transform", [lambda image: image, lambda image: torch.zeros(1, 3, 8, 8)])
def test_transform_without_image_tensor_is_refused(photos, transform):
    with pytest.raises(UserError, match=r"train_transform must return a float tensor \(3, H, W\), got"):
        plan(photos, train_transform=transform)


def test_mean_and_image_losses_are_accepted_and_others_refused(photos):
    batch = torch.randn(4, 3, 32, 32), torch.tensor([0, 1, 2, 0]), torch.arange(4)
    losses = []
    for reduction in ("mean", "none"):
        torch.manual_seed(0)
        module = plan(photos, loss=nn.CrossEntropyLoss(reduction=reduction)).training_module().eval()
        losses.append(module.losses(batch)["loss"].item())
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)
    wrong = plan(photos, loss=nn.Identity().apply(lambda m: setattr(m, "forward", lambda logits, target: logits)))
    with pytest.raises(UserError, match=r"must return a tensor \(\) or \(4,\).*got \(4, 3\)"):
        wrong.training_module().losses(batch)


def test_own_loss_is_only_for_classification():
    with pytest.raises(UserError, match=re.escape("loss: accepted only for task 'classify', got task 'detect'")):
        Extensions(loss=nn.CrossEntropyLoss()).check_task("detect")


def test_data_and_data_set_are_not_combined(photos, quiet):
    with pytest.raises(UserError, match=r"data and dataset cannot be combined"):
        train(photos, dataset=ImageFolder(photos), console=quiet)
