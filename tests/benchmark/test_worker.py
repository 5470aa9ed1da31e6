"""One model: its training step, precision, memory format, cost and failures."""

import pytest
import torch
from torch import nn

from tests.helpers.benchmark_settings import SETTINGS, settings
from transxnet.benchmark.settings import parse_benchmark_model
from transxnet.benchmark.worker import Measurement, describe_failure, make_step
from transxnet.utils.errors import UserError


@pytest.mark.parametrize("features", [False, True])
def test_training_step_matches_a_plain_training_loop(features, here):
    measured = parse_benchmark_model("transxnet_n@depths=(1,1,1,1)", settings(mode="train", features=features))
    torch.manual_seed(0)
    model = measured.create()
    model.load_state_dict(twin := {k: v.clone() for k, v in model.state_dict().items()})
    torch.manual_seed(1)
    step = make_step(model, measured.settings)
    for _ in range(2):
        step()

    other = measured.create().train()
    other.load_state_dict(twin)
    torch.manual_seed(1)
    images = torch.randn(2, 3, 32, 32)
    labels = torch.randint(1000, (2,))
    optimizer = torch.optim.AdamW(other.parameters(), lr=1e-4, fused=True)
    for _ in range(2):
        out = other(images)
        loss = sum((o**2).mean() for o in out) if features else nn.functional.cross_entropy(out, labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    changed = 0
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(parameter, other.get_parameter(name), rtol=0, atol=1e-6, msg=name)
        changed += not torch.equal(parameter, twin[name])
        assert parameter.grad is None
    assert changed > 0.9 * len(list(model.parameters()))


@pytest.mark.parametrize(
    ("changes", "weights", "products"),
    [
        ({}, torch.float32, torch.float32),
        ({"dtype": "bfloat16"}, torch.bfloat16, torch.bfloat16),
        ({"dtype": "bfloat16", "autocast": True}, torch.float32, torch.bfloat16),
        ({"dtype": "bfloat16", "mode": "train"}, torch.float32, torch.bfloat16),
    ],
)
def test_dtype_casts_in_inference_and_autocasts_in_training(changes, weights, products, here):
    model = parse_benchmark_model("mine:tiny", settings(**changes)).create()
    seen = []
    model.register_forward_hook(lambda module, inputs, output: seen.append((inputs[0].dtype, output.dtype)))
    make_step(model, settings(**changes))()
    assert seen == [(weights, products)]
    assert model[0][0].weight.dtype == weights


def test_channels_last_applies_to_weights_and_images(here):
    model = parse_benchmark_model("mine:tiny", settings(channels_last=True)).create()
    seen = []
    model.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    make_step(model, settings(channels_last=True))()
    assert seen[0].is_contiguous(memory_format=torch.channels_last)
    assert model[0][0].weight.is_contiguous(memory_format=torch.channels_last)
    assert seen[0].std() > 0.5, "images are noise"


def test_other_networks_cannot_be_reparameterized(here):
    for name in ("mine:tiny", "test_resnet"):
        with pytest.raises(UserError, match="reparameterize takes a TransXNet or a TransXNetFeatures, got"):
            Measurement(parse_benchmark_model(name, settings(reparameterize=True))).build()


def test_unknown_cost_does_not_prevent_measuring(here, monkeypatch):
    def refuse(*args):
        raise NotImplementedError

    monkeypatch.setattr("transxnet.benchmark.worker.count", refuse)
    facts = Measurement(parse_benchmark_model("mine:tiny", SETTINGS)).build()
    assert facts.multiply_adds is None
    assert facts.parameters > 0


def test_out_of_memory_is_recognized():
    assert describe_failure(torch.OutOfMemoryError("CUDA out of memory. Tried to allocate")).reason == "out of memory"
    assert describe_failure(MemoryError()).out_of_memory
    assert describe_failure(
        RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried")
    ).out_of_memory
    assert describe_failure(ValueError("\n  first\nsecond")).reason == "ValueError: first"
