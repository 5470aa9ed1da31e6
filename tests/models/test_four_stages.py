"""The four stages: position bias, initial weights, parameter groups and gradient checkpointing."""

import copy

import pytest
import timm
import torch
from timm.models import group_parameters
from torch import nn

from tests.helpers.networks import (
    on_meta,
)
from tests.helpers.tracing import assert_same, trace
from transxnet.layers import position_bias


@pytest.mark.parametrize(
    ("img_size", "tokens"), [(64, [256, 64, 16, 4]), ((64, 96), [384, 96, 24, 6]), (40, [100, 25, 9, 4])]
)
def test_position_bias_is_stored_for_img_size(tiny, img_size, tokens, monkeypatch):
    model = tiny(img_size=img_size)
    assert [stage.pos_bias.weight.shape[2] for stage in model.stages] == tokens
    monkeypatch.setattr(position_bias, "resize_position_bias", None)  # not needed at this size
    height, width = (img_size, img_size) if isinstance(img_size, int) else img_size
    model(torch.randn(1, 3, height, width, dtype=torch.float64))


@pytest.mark.parametrize("grad", [True, False])
def test_position_bias_is_resized_once_per_stage(monkeypatch, grad):
    model, calls = timm.create_model("transxnet_n").eval(), []

    def counted(bias, size, resize=position_bias.resize_position_bias):
        calls.append(size)
        return resize(bias, size)

    monkeypatch.setattr(position_bias, "resize_position_bias", counted)
    once = [(256, 4), (64, 4), (16, 4), (4, 4)]
    with torch.set_grad_enabled(grad):
        model(torch.randn(1, 3, 64, 64))
        assert calls == once
        model(torch.randn(1, 3, 64, 64))
    assert calls == (once + once if grad else once)


def test_a_step_at_another_size_uses_the_new_position_bias(tiny):
    model, x = tiny(), torch.randn(2, 3, 48, 80, dtype=torch.float64)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1, fused=True)
    with torch.no_grad():
        model(x)
    model(x).square().sum().backward()
    optimizer.step()
    fresh = copy.deepcopy(model)
    with torch.no_grad():
        assert torch.equal(model(x), fresh(x))


def test_training_after_inference_mode_gives_the_same(tiny):
    model, x = tiny(), torch.randn(2, 3, 48, 80, dtype=torch.float64)
    with torch.inference_mode():
        before = model(x)
    truth = trace(tiny(), x)
    assert_same(trace(model, x), truth, atol=0)
    torch.testing.assert_close(before.clone(), truth["output"], rtol=0, atol=1e-12)


def test_weights_start_as_a_truncated_normal_and_biases_at_zero():
    model = timm.create_model("transxnet_t", layer_scale_init_value=0.1)
    for name, module in model.named_modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            assert module.bias is None or not module.bias.any(), name
            assert module.weight.abs().max() <= 2
            if module.weight.numel() > 5000:
                assert module.weight.std().item() == pytest.approx(0.02, abs=1e-3), name
    assert all((block.scale1.weight == 0.1).all() for stage in model.stages for block in stage.blocks)
    assert not any(stage.pos_bias.weight.any() for stage in model.stages)


def test_features_are_grouped_into_layers_too():
    model = on_meta("transxnet_n", features_only=True, out_indices=(1, 3))
    layers = group_parameters(model, model.group_matcher(), reverse=True)
    assert layers.keys() == dict(model.named_parameters()).keys()
    assert {layers[name] for name in layers if name.startswith("norms.")} == {max(layers.values())} == {10}


TRAIN = pytest.mark.parametrize("train", [True, False], ids=["train", "eval"])


@TRAIN
@pytest.mark.parametrize("drop_path_rate", [0.0, 0.5])
def test_checkpointing_changes_no_gradient_or_running_statistic(tiny, images, train, drop_path_rate):
    traces = []
    for checkpointing in (False, True):
        model = tiny(drop_path_rate=drop_path_rate).train(train)
        model.set_grad_checkpointing(checkpointing)
        torch.manual_seed(1)
        traces.append(trace(model, images))
    assert_same(traces[1], traces[0], atol=0)
    counters = {name: int(b) for name, b in traces[1].items() if name.endswith("num_batches_tracked")}
    twice = {name for name in counters if ".idconv." in name}
    assert counters == {name: (2 if name in twice else 1) if train else 0 for name in counters}


def test_checkpointing_keeps_fewer_activations(tiny, images):
    def kept(checkpointing: bool) -> int:
        sizes = []
        model = tiny(num_groups=(4, 4, 4, 4)).train()
        model.set_grad_checkpointing(checkpointing)
        with torch.autograd.graph.saved_tensors_hooks(lambda t: (sizes.append(t.numel()), t)[1], lambda t: t):
            model(images)
        return sum(sizes)

    assert kept(True) < kept(False) / 4


def test_checkpointing_can_be_switched_off_again(tiny):
    model = tiny()
    model.set_grad_checkpointing()
    assert all(stage.grad_checkpointing for stage in model.stages)
    model.set_grad_checkpointing(False)
    assert not any(stage.grad_checkpointing for stage in model.stages)


def test_the_first_stages_can_be_checkpointed_alone(tiny):
    model = tiny()
    model.set_grad_checkpointing(stages=2)
    assert [stage.grad_checkpointing for stage in model.stages] == [True, True, False, False]
