import pytest
import torch
from torch import nn

pytest.importorskip("lightly")

from transxnet.runs.pretrain_config import PretrainConfig
from transxnet.training.pretrain_methods import SimSiam
from transxnet.training.pretrainer import Pretrainer


def make(**options) -> Pretrainer:
    model = nn.Sequential(nn.Flatten(), nn.Linear(12, 4))
    return Pretrainer(model, SimSiam(4), PretrainConfig("photos", **options), ["a", "b"])


def test_optimizer_trains_network_and_heads():
    module = make(ema_decay=0.5)
    trained = {id(weight) for weight in module.trained.parameters()}
    assert trained == {id(weight) for part in (module.model, module.method) for weight in part.parameters()}
    assert not any(name.startswith("trained.") for name in module.state_dict())


def test_loss_has_gradients_in_network_and_heads():
    module = make()
    module.losses(([torch.randn(4, 3, 2, 2)] * 2, None, None))["loss"].backward()
    assert all(weight.grad is not None for weight in module.trained.parameters())


def test_validation_metrics_are_those_of_all_batches():
    pytest.importorskip("sklearn")
    module = make().requires_grad_(False)
    module.log_dict = lambda values, sync_dist: None
    for label in (0, 1):
        module.validation_step((torch.randn(3, 3, 2, 2) + 5 * label, torch.full((3,), label), torch.arange(3)), 0)
    module.on_validation_epoch_end()
    assert list(module.validation_metrics) == ["val_knn_accuracy", "val_effective_rank", "val_embedding_std"]
    assert module.monitor in module.columns
