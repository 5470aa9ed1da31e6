"""The contract that every network of the paper's comparisons keeps: cost, timm's interface, checkpoints."""

import re

import pytest
import timm
import torch
from timm.models import group_parameters
from timm.optim import param_groups_layer_decay
from torch import nn

from tests.helpers.networks import on_meta
from tests.helpers.peers import EVERY, LINEAR_MACS, PARAMETERS, TOTAL_MACS, WIDTHS, checkpoint, stored
from transxnet import UserError, create_model
from transxnet.analysis.cost import count
from transxnet.analysis.network_parts import named_parts, record_calls

WITHOUT_GRADIENT = {"quadtree_b1": re.compile(r"block4\.\d\.attn\.py_att\.weight$")}
"""Parameters whose gradient is always zero: the weight of the only level, of which a softmax makes 1."""


@EVERY
def test_parameters_and_macs_are_those_of_the_authors_code(name):
    cost = count(on_meta(name), 224, 224)
    assert cost.parameters == PARAMETERS[name]
    assert cost.multiply_adds == LINEAR_MACS[name]
    assert cost.multiply_adds + cost.attention_multiply_adds == TOTAL_MACS[name]


@EVERY
def test_names_and_shapes_are_those_of_the_authors_checkpoint(name):
    model = on_meta(name)
    assert {key: list(tensor.shape) for key, tensor in model.state_dict().items()} == stored(name, "keys")


@EVERY
@pytest.mark.parametrize(("height", "width"), [(32, 32), (64, 96), (160, 224)])
@torch.no_grad()
def test_any_size_passes(name, height, width):
    model = timm.create_model(name, num_classes=7).eval()
    x = torch.randn(2, 3, height, width)
    features = model.forward_features(x)
    assert features.shape == (2, WIDTHS[name][-1], height // 32, width // 32)
    out = model(x)
    assert out.shape == (2, 7)
    assert out.isfinite().all()
    assert torch.equal(out, model.forward_head(features))


@EVERY
@pytest.mark.parametrize("kwargs", [{}, dict(features_only=True, out_indices=(1, 2))], ids=str)
def test_every_parameter_gets_a_gradient(name, kwargs, randomize):
    model = timm.create_model(name, **kwargs).train()
    randomize(model)
    out = model(torch.randn(2, 3, 64, 64))
    sum(o.square().sum() for o in (out if kwargs else [out])).backward()
    without = [key for key, p in model.named_parameters() if p.grad is None or not p.grad.any()]
    expected = WITHOUT_GRADIENT.get(name)
    assert [key for key in without if not (expected and expected.search(key))] == []


@EVERY
@pytest.mark.parametrize("out_indices", [(0, 1, 2, 3), (1,), (-2, -1)])
@torch.no_grad()
def test_features_are_the_outputs_of_the_stages(name, out_indices, randomize):
    model = randomize(timm.create_model(name)).eval()
    dense = timm.create_model(name, features_only=True, out_indices=out_indices).eval()
    dense.model.load_state_dict(model.state_dict(), strict=False)
    assert set(dense.model.state_dict()) <= set(model.state_dict())
    stages = sorted(i % 4 for i in out_indices)
    assert dense.feature_info.channels() == [WIDTHS[name][i] for i in stages]
    assert dense.feature_info.reduction() == [4 * 2**i for i in stages]
    x = torch.randn(2, 3, 64, 96)
    maps = model.forward_intermediates(x, intermediates_only=True)
    for i, feature in zip(stages, dense(x), strict=True):
        assert feature.shape == (2, WIDTHS[name][i], 64 // 4 // 2**i, 96 // 4 // 2**i)
        assert torch.equal(feature, maps[i])


@EVERY
@torch.no_grad()
def test_parts_are_the_four_stages(name):
    """Receptive fields and Grad-CAM find the stages' maps by timm's feature_info."""
    model = timm.create_model(name).eval()
    parts = named_parts(model)
    assert list(parts) == ["stage1", "stage2", "stage3", "stage4"]
    x = torch.randn(1, 3, 64, 64)
    with record_calls(*(part.module for part in parts.values())) as calls:
        maps = model.forward_intermediates(x, intermediates_only=True)
    assert all(torch.equal(call.outputs[-1], feature) for call, feature in zip(calls, maps, strict=True))


@EVERY
@torch.no_grad()
def test_classifier_can_be_replaced(name):
    model, x = timm.create_model(name, num_classes=0).eval(), torch.randn(1, 3, 64, 64)
    features = model.forward_features(x)
    assert torch.equal(model(x), features.mean((2, 3)))
    model.reset_classifier(3, "max")
    assert torch.equal(model(x), model.get_classifier()(features.amax((2, 3))))
    model.reset_classifier(0, "")
    assert isinstance(model.get_classifier(), nn.Identity)
    assert torch.equal(model(x), features)
    model.reset_classifier(0)
    with pytest.raises(ValueError, match="num_classes must be 0 without pooling, got 3"):
        model.reset_classifier(3)


@EVERY
def test_gradient_checkpointing_keeps_outputs_and_gradients(name):
    model, x = timm.create_model(name, num_classes=3).train(), torch.randn(2, 3, 64, 64)
    results = []
    state = {key: tensor.clone() for key, tensor in model.state_dict().items()}
    for enable in (False, True):
        model.load_state_dict(state)
        model.set_grad_checkpointing(enable)
        model.zero_grad()
        out = model(x)
        out.square().sum().backward()
        grads = [p.grad.clone() for p in model.parameters()]
        results.append([out.detach(), *grads, *(b.clone() for b in model.buffers())])
    for plain, saved in zip(*results, strict=True):
        torch.testing.assert_close(saved, plain, rtol=1e-4, atol=1e-6)


@EVERY
@pytest.mark.parametrize("coarse", [True, False])
def test_parameters_are_grouped_into_layers_from_the_input_up(name, coarse):
    model = on_meta(name)
    layers = group_parameters(model, model.group_matcher(coarse), reverse=True)
    assert set(layers) == {key for key, _ in model.named_parameters()}
    first, head = model.default_cfg["first_conv"], model.default_cfg["classifier"]
    assert layers[f"{first}.weight"] == 0
    assert layers[f"{head}.weight"] == max(layers.values())
    depth = [layers[key] for key, _ in model.named_parameters() if key.endswith("mlp.fc1.weight")]
    assert min(depth) > 0


@EVERY
def test_layer_decay_covers_all_parameters(name):
    model = on_meta(name)
    groups = param_groups_layer_decay(model, 0.05, model.no_weight_decay(), layer_decay=0.5)
    assert sum(len(group["params"]) for group in groups) == len(list(model.parameters()))


@pytest.mark.long
@EVERY
@torch.no_grad()
def test_checkpoint_of_the_authors_loads_from_a_file(name, tmp_path):
    torch.save({"model": checkpoint(name)}, tmp_path / "weights.pth")
    model = create_model(name, pretrained=True, pretrained_cfg_overlay=dict(file=str(tmp_path / "weights.pth")))
    for key, tensor in checkpoint(name).items():
        assert torch.equal(model.state_dict()[key], tensor.to(model.state_dict()[key].dtype)), key


@EVERY
@torch.no_grad()
def test_checkpoint_is_adapted_to_classes_and_channels(name):
    overlay = dict(state_dict=checkpoint(name))
    model = create_model(name, True, num_classes=5, in_chans=1, pretrained_cfg_overlay=overlay)
    assert model.get_classifier().weight.shape[0] == 5
    first = f"{model.default_cfg['first_conv']}.weight"
    truth = checkpoint(name)[first].sum(1, keepdim=True).float()
    torch.testing.assert_close(model.state_dict()[first], truth)
    dense = create_model(name, True, features_only=True, out_indices=(0, 2), pretrained_cfg_overlay=overlay)
    for key, tensor in dense.model.state_dict().items():
        torch.testing.assert_close(tensor, checkpoint(name)[key].to(tensor.dtype))


@EVERY
def test_checkpoint_of_another_network_is_an_error(name):
    tensors = dict(checkpoint(name))
    removed = next(iter(tensors))
    del tensors[removed]
    tensors["unknown.weight"] = torch.zeros(1)
    with pytest.raises(UserError, match=rf"does not match(.|\n)*missing \(1\): {removed}\n.*unexpected \(1\): unknown"):
        create_model(name, pretrained=True, pretrained_cfg_overlay=dict(state_dict=tensors))


@EVERY
def test_missing_weights_are_an_error_that_names_a_file(name):
    with pytest.raises(UserError, match=rf"no published weights for {name}. .*weights file"):
        create_model(name, pretrained=True)
