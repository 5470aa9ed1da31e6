"""The reparameterized network against the original, in float64, with random weights."""

import copy
import pickle

import pytest
import timm
import torch
from torch import Tensor, nn

from transxnet import TransXNetFeatures, UserError, reparameterize
from transxnet.layers import PositionBias

TINY = dict(depths=(1, 1, 1, 1), embed_dims=(16, 16, 32, 32), num_heads=(1, 1, 2, 2), img_size=64)


@torch.no_grad()
def with_zeros(model: nn.Module) -> nn.Module:
    """Set some LayerScale weights to zero, where reparameterization must not divide by them."""
    for name, tensor in model.named_parameters():
        if name.endswith(("scale1.weight", "scale2.weight")):
            tensor[::3] = 0
    return model


@pytest.fixture
def trained(tiny):
    """The smallest classifier with random weights, as after training."""
    return lambda **kwargs: with_zeros(tiny(**kwargs))


@pytest.fixture
def dense(randomize):
    """The smallest dense backbone with random weights, as after training."""

    def make(**kwargs) -> TransXNetFeatures:
        return with_zeros(randomize(TransXNetFeatures(**{**TINY, **kwargs}))).double().eval()

    return make


def close(actual: Tensor | list[Tensor], truth: Tensor | list[Tensor], rel: float = 1e-9) -> None:
    """Compare relative to the largest value."""
    pairs = [(actual, truth)] if isinstance(truth, Tensor) else list(zip(actual, truth, strict=True))
    for a, t in pairs:
        torch.testing.assert_close(a, t, rtol=0, atol=rel * t.abs().max().item())


# Equality


@pytest.mark.parametrize(
    ("name", "form", "size", "kept"),
    [
        ("transxnet_n", "classifier", (224, 224), False),
        ("transxnet_n", "features", (224, 224), True),
        ("transxnet_t", "classifier", (64, 64), False),
        ("transxnet_t", "classifier", (72, 40), True),
        ("transxnet_t", "features", (37, 53), False),
        ("transxnet_t", "features", (37, 53), True),
        pytest.param("transxnet_s", "classifier", (32, 32), True, marks=pytest.mark.long),
        pytest.param("transxnet_s", "features", (32, 32), False, marks=pytest.mark.long),
        pytest.param("transxnet_b", "classifier", (32, 32), False, marks=pytest.mark.long),
        pytest.param("transxnet_b", "features", (32, 32), True, marks=pytest.mark.long),
    ],
)
@torch.no_grad()
def test_all_variants_give_the_same(randomize, name, form, size, kept):
    model = with_zeros(randomize(timm.create_model(name, features_only=form == "features"))).double().eval()
    x = torch.randn(2, 3, *size, dtype=torch.float64)
    close(reparameterize(model, size if kept else None)(x), model(x))


@pytest.mark.parametrize("size", [(64, 64), (33, 65), (8, 5), (96, 160)])
@pytest.mark.parametrize("img_size", [None, 64, (33, 65)])
@torch.no_grad()
def test_any_size_gives_the_same_with_any_kept_bias(trained, dense, size, img_size):
    x = torch.randn(2, 3, *size, dtype=torch.float64)
    for model in (trained(), dense()):
        close(reparameterize(model, img_size)(x), model(x))


@pytest.mark.parametrize(
    "kwargs",
    [
        dict(num_classes=0),
        dict(num_classes=0, global_pool=""),
        dict(global_pool="max"),
        dict(global_pool="catavgmax"),
        dict(in_chans=1),
        dict(sr_ratios=(4, 1, 2, 1)),
        dict(num_groups=(2, 3, 4, 5)),
        dict(kernel_sizes=(3, 5, 7, 9)),
        dict(mlp_ratios=(1, 2, 3, 4)),
        dict(drop_rate=0.5, drop_path_rate=0.5),
        dict(layer_scale_init_value=0.0),
        dict(attn_ratio=0.25),
        dict(attn_ratio=(0.75, 0.5, 0.25, 0.625)),
        dict(ffn_scales=(3,)),
        dict(ffn_scales=(9, 1, 3)),
    ],
    ids=str,
)
@torch.no_grad()
def test_all_options_give_the_same(trained, kwargs):
    model, x = trained(**kwargs), torch.randn(2, kwargs.get("in_chans", 3), 64, 64, dtype=torch.float64)
    close(reparameterize(model)(x), model(x))


@pytest.mark.parametrize("out_indices", [(0, 2), (3,)])
@torch.no_grad()
def test_chosen_outputs_give_the_same(dense, images, out_indices):
    model = dense(out_indices=out_indices)
    close(reparameterize(model)(images), model(images))


@torch.no_grad()
def test_float32_differs_by_rounding_only(trained, dense, images):
    for model in (trained().float(), dense().float()):
        close(reparameterize(model)(images.float()), model(images.float()), rel=1e-4)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@torch.no_grad()
def test_half_precision_weights_stay_half_precision(trained, images, dtype):
    model = trained()
    half = reparameterize(copy.deepcopy(model).to(dtype), 64)
    assert {t.dtype for t in (*half.parameters(), *half.buffers())} == {dtype}
    out = half(images.to(dtype))
    assert out.dtype == dtype
    close(out.double(), model(images), rel=0.05)


@torch.no_grad()
def test_empty_batch(trained):
    assert reparameterize(trained())(torch.empty(0, 3, 64, 64, dtype=torch.float64)).shape == (0, 5)


# Outputs


@torch.no_grad()
def test_no_batchnorm_and_no_trainable_parameter_remain(trained, dense):
    for model in (trained(drop_rate=0.5, drop_path_rate=0.5), dense()):
        reparameterized = reparameterize(model.train())
        assert type(reparameterized) is type(model)
        assert not any(isinstance(m, nn.BatchNorm2d | nn.Dropout) for m in reparameterized.modules())
        assert not any(p.requires_grad for p in reparameterized.parameters())
        assert not any(m.training for m in reparameterized.modules())


@torch.no_grad()
def test_train_mode_changes_nothing(trained, images):
    model = reparameterize(trained(drop_rate=0.5, drop_path_rate=0.5))
    truth = model(images)
    assert torch.equal(model.train()(images), truth)


def test_original_model_is_unchanged(trained, images):
    model = trained(drop_path_rate=0.5).train()
    model.set_grad_checkpointing()
    model(images).sum().backward()
    before, gradients = copy.deepcopy(model), [p.grad.clone() for p in model.parameters()]
    reparameterized = reparameterize(model, (40, 72))
    for tensor in reparameterized.state_dict().values():
        tensor.fill_(7)
    assert str(model) == str(before)
    assert model.training
    assert model.stages[0].grad_checkpointing
    for (name, actual), truth in zip(model.state_dict().items(), before.state_dict().values(), strict=True):
        assert torch.equal(actual, truth), name
    for (name, actual), gradient in zip(model.named_parameters(), gradients, strict=True):
        assert actual.requires_grad, name
        assert torch.equal(actual.grad, gradient), name


@torch.no_grad()
def test_methods_and_attributes_are_kept(trained, dense, images):
    model = trained()
    reparameterized = reparameterize(model)
    assert reparameterized.num_classes == 5
    assert reparameterized.feature_info == model.feature_info
    features = reparameterized.forward_features(images)
    close(features, model.forward_features(images))
    close(reparameterized.forward_head(features, pre_logits=True), features.mean((2, 3)))
    assert reparameterize(dense(out_indices=(1, 3))).feature_info.channels() == [16, 32]
    named = timm.create_model("transxnet_n")
    assert reparameterize(named).pretrained_cfg == named.pretrained_cfg


@torch.no_grad()
def test_inputs_and_intermediates_are_not_overwritten(trained, images):
    model, x = trained(), images.clone()
    reparameterized = reparameterize(model)
    _, intermediates = reparameterized.forward_intermediates(x)
    close(intermediates, model.forward_intermediates(images, intermediates_only=True))
    assert torch.equal(x, images)


@pytest.mark.parametrize("img_size", [None, (40, 72)])
@torch.no_grad()
def test_reparameterizing_twice_gives_a_copy(trained, img_size):
    model, x = trained(), torch.randn(2, 3, 40, 72, dtype=torch.float64)
    once = reparameterize(model)
    twice = reparameterize(once, img_size)
    close(twice(x), model(x))
    assert twice.stages[0].pos_bias.size == ((180, 6) if img_size else None)
    for tensor in twice.state_dict().values():
        tensor.fill_(7)
    close(once(x), model(x))


@pytest.mark.parametrize(
    ("make", "name"),
    [
        (lambda tiny: nn.Linear(3, 3), "Linear"),
        (lambda tiny: timm.create_model("resnet18"), "ResNet"),
        (lambda tiny: torch.compile(tiny()), "OptimizedModule"),
    ],
)
def test_other_networks_are_refused_by_name(tiny, make, name):
    with pytest.raises(UserError, match=f"takes a TransXNet or a TransXNetFeatures, got {name}"):
        reparameterize(make(tiny))


@pytest.mark.parametrize(
    ("option", "part", "wanted"),
    [
        (dict(dpe=False), "Identity", "True"),
        (dict(local_conv="dyconv"), "DyConv", "'idconv'"),
        (dict(token_enhancer=None), "Identity", "'ste'"),
        (dict(ffn_scales=()), "FFN", "at least one kernel size"),
        (dict(spatial_reduction="non_overlapping"), "NonOverlappingSpatialReduction", "'overlapping'"),
    ],
)
def test_compared_parts_are_refused_by_their_option(tiny, option, part, wanted):
    (name,) = option
    with pytest.raises(UserError, match=f"requires {name} to be {wanted}; this network has {part}"):
        reparameterize(tiny(**option))


def test_swin_style_network_is_refused():
    with pytest.raises(UserError, match="got SwinStyle"):
        reparameterize(timm.create_model("transxnet_swin_style"))


def test_size_must_be_positive(tiny):
    with pytest.raises(ValueError, match="width must be a positive integer, got 0"):
        reparameterize(tiny(), (64, 0))


# The position bias


@pytest.mark.parametrize("img_size", [64, (48, 80)])
@torch.no_grad()
def test_no_resizing_at_the_kept_size(trained, monkeypatch, img_size):
    model = trained()
    reparameterized = reparameterize(model, img_size)
    x = torch.randn(1, 3, *((img_size, img_size) if isinstance(img_size, int) else img_size), dtype=torch.float64)
    truth = model(x)
    monkeypatch.setattr(PositionBias, "forward", None)
    close(reparameterized(x), truth)


@torch.no_grad()
def test_position_bias_is_contiguous_in_channels_last(trained):
    model = reparameterize(trained(), (48, 80)).to(memory_format=torch.channels_last)
    for size in [(240, 4), (200, 5)]:
        assert model.stages[0].pos_bias(*size).is_contiguous()
    assert model.stages[2].pos_bias(15, 6).is_contiguous()


@torch.no_grad()
def test_state_dict_updates_the_kept_position_bias(trained, randomize):
    model, x = trained(), torch.randn(2, 3, 48, 80, dtype=torch.float64)
    other = copy.deepcopy(model)
    for tensor in other.state_dict().values():
        tensor.add_(1)
    for img_size in (None, (48, 80)):
        loaded = reparameterize(other, img_size)
        loaded.load_state_dict(reparameterize(model).state_dict(), strict=True)
        close(loaded(x), model(x))


# Ways to run: each gives the results of plain PyTorch


@pytest.mark.parametrize(
    "duplicate", [copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model))], ids=["copy", "pickle"]
)
@torch.no_grad()
def test_copies_give_the_same(trained, duplicate):
    model, x = reparameterize(trained(), (40, 72)), torch.randn(2, 3, 40, 72, dtype=torch.float64)
    truth = model(x)
    twin = duplicate(model)
    for tensor in model.state_dict().values():
        tensor.fill_(7)
    assert torch.equal(twin(x), truth)


def test_inference_mode_and_gradients_give_the_same(trained, images):
    model = trained()
    reparameterized, x = reparameterize(model), images.clone().requires_grad_()
    truth = model(x)
    (gradient,) = torch.autograd.grad(truth.square().sum(), x)
    with torch.inference_mode():
        close(reparameterized(images).clone(), truth.detach())
    actual = reparameterized(x)
    close(actual.detach(), truth.detach())
    close(torch.autograd.grad(actual.square().sum(), x)[0], gradient)


@pytest.mark.long
@pytest.mark.parametrize("img_size", [None, (48, 64)])
@torch.no_grad()
def test_full_graph_compiles(trained, img_size):
    torch.compiler.reset()
    model, x = trained(), torch.randn(2, 3, 48, 64, dtype=torch.float64)
    compiled = torch.compile(reparameterize(model, img_size), backend="aot_eager", fullgraph=True)
    close(compiled(x), model(x))


@pytest.mark.long
@torch.no_grad()
def test_inductor_compiles_the_network(trained, images):
    torch.compiler.reset()
    model = trained()
    close(torch.compile(reparameterize(model, 64), fullgraph=True)(images), model(images))


@pytest.mark.long
@pytest.mark.parametrize(("form", "gradients"), [("classifier", False), ("features", True)])
def test_torch_export_with_dynamic_batch(trained, dense, images, form, gradients):
    model = trained() if form == "classifier" else dense()
    shapes = ({0: torch.export.Dim("batch")},)
    with torch.set_grad_enabled(gradients):
        exported = torch.export.export(reparameterize(model, 64), (images,), dynamic_shapes=shapes)
        x = torch.randn(5, 3, 64, 64, dtype=torch.float64)
        close(exported.module()(x), model(x))


@torch.no_grad()
def test_channels_last_is_kept(trained, dense, images):
    x = images.contiguous(memory_format=torch.channels_last)
    model = trained()
    close(reparameterize(model).to(memory_format=torch.channels_last)(x), model(images))
    model = dense()
    out = reparameterize(model).to(memory_format=torch.channels_last)(x)
    close(out, model(images))
    assert all(feature.is_contiguous(memory_format=torch.channels_last) for feature in out)


@pytest.mark.parametrize("overwrite", [True, False])
def test_autocast_to_bfloat16_stays_close(trained, images, overwrite):
    model, x = trained(), images.float()
    truth = model(images).detach()
    with torch.autocast("cpu", torch.bfloat16), torch.set_grad_enabled(not overwrite):
        actual = reparameterize(model.float())(x)
    assert actual.dtype == torch.bfloat16
    close(actual.double(), truth, rel=0.05)
