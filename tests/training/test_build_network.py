import pytest
import torch

from transxnet.runs.pretrain_config import PretrainConfig
from transxnet.runs.task_configs import ClassifyConfig
from transxnet.training.build_network import build_network
from transxnet.utils.errors import UserError


def test_network_without_classes_returns_features():
    model, granted, notes = build_network(PretrainConfig("photos", model="test_resnet"), 0, 32, False)
    assert model(torch.zeros(2, 3, 32, 32)).shape == (2, model.num_features)
    assert (granted, notes, model.training) == ({"drop_path_rate": 0.1}, [], True)


def test_given_stochastic_depth_must_be_supported():
    config = ClassifyConfig("photos", model="vgg11", drop_path_rate=0.2)
    with pytest.raises(UserError, match=r"cannot create vgg11 with num_classes 3, .*drop_path_rate 0.2, img_size 32"):
        build_network(config, 3, 32, False)


def test_unsupported_size_is_refused_at_once():
    with pytest.raises(UserError, match=r"does not support images of 20000x20000: .*--img-size"):
        build_network(ClassifyConfig("photos", model="test_resnet"), 3, 20000, False)
