"""The methods of pretraining: views, losses and gradients."""

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

pytest.importorskip("lightly")

from transxnet.data.datasets.image_dataset import seeded
from transxnet.data.loading.preprocessing import Preprocessing
from transxnet.runs.pretrain_config import PretrainConfig
from transxnet.runs.trained_models import TrainedEncoder
from transxnet.training.pretrain_methods import METHODS, FeatureDistillation, SimSiam, VICReg
from transxnet.training.teacher import Teacher

OWN = Preprocessing(32, 1.0, "bicubic", (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))


class Features(nn.Module):
    """A network whose features are the mean color, twice."""

    def forward_features(self, images):
        return images

    def forward_head(self, images, pre_logits):
        assert pre_logits
        return images.mean(dim=(2, 3)).repeat(1, 2)


def teacher() -> Teacher:
    return Teacher(TrainedEncoder(Features(), "t", [], None, OWN), OWN)


@pytest.mark.parametrize(("name", "count"), [("vicreg", 2), ("simsiam", 2), ("distill", 1)])
def test_views_are_seeded_and_normalized(name, count):
    image = Image.fromarray(np.random.default_rng(0).integers(0, 255, (40, 50, 3), np.uint8))
    config = PretrainConfig("photos", method=name, teacher="t" if name == "distill" else None, hflip=0.5)
    transform = METHODS[name].transform(config, OWN)
    with seeded(5):
        views = transform(image)
    with seeded(5):
        again = transform(image)
    assert [view.shape for view in views] == [(3, 32, 32)] * count
    assert all(torch.equal(*pair) for pair in zip(views, again, strict=True))
    assert -1 <= min(view.min() for view in views) < 0 < max(view.max() for view in views) <= 1
    assert count == 1 or not torch.equal(*views)


def test_vicreg_is_lower_for_equal_views():
    method, features = VICReg(8), torch.randn(32, 8)
    assert method([features, features], []) < method([features, torch.randn(32, 8)], [])


def test_simsiam_stops_the_gradient_of_the_target():
    method = SimSiam(8)
    method.projection, method.prediction = nn.Identity(), nn.Linear(8, 8)
    first, second = torch.randn(2, 32, 8, requires_grad=True)
    loss = method([first, second], [])
    cosine = nn.CosineSimilarity()
    expected = -(cosine(method.prediction(first), second).mean() + cosine(method.prediction(second), first).mean()) / 2
    torch.testing.assert_close(loss, expected)
    gradients = [torch.autograd.grad(value, first, retain_graph=True)[0] for value in (loss, expected)]
    assert not torch.allclose(*gradients)


def test_vicreg_penalizes_collapse():
    method = VICReg(8)
    collapsed = torch.ones(32, 8)
    assert method([collapsed, collapsed], []) > method([torch.randn(32, 8)] * 2, [])


def test_features_that_match_the_teacher_have_lowest_loss():
    images = torch.randn(4, 3, 32, 32)
    method = FeatureDistillation(6, teacher())
    nn.init.eye_(method.projection.weight)
    nn.init.zeros_(method.projection.bias)
    assert method.projection.out_features == 6
    assert method([images.mean(dim=(2, 3)).repeat(1, 2)], [images]).item() == pytest.approx(-1)
    assert list(method.state_dict()) == ["projection.weight", "projection.bias"]
