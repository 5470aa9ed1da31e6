"""Each named part of the paper against its formula, spelt out independently, in float64."""

import copy
import math
import pickle

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from transxnet.layers import (
    DPE,
    MSFFN,
    OSRA,
    STE,
    Block,
    DMixer,
    IDConv,
    LayerScale,
    PatchEmbed,
    PositionBias,
    position_bias,
)

LAYERS = {
    "DPE": lambda: DPE(6),
    "IDConv": lambda: IDConv(8, kernel_size=5, num_groups=3),
    "OSRA reduced": lambda: OSRA(8, num_heads=2, sr_ratio=2),
    "OSRA": lambda: OSRA(8, num_heads=4),
    "STE": lambda: STE(8),
    "DMixer": lambda: DMixer(16, num_heads=2, sr_ratio=4),
    "MSFFN": lambda: MSFFN(6, expansion=3),
    "LayerScale": lambda: LayerScale(6),
    "Block": lambda: Block(16, num_heads=2, sr_ratio=2),
}
LAYER = pytest.mark.parametrize("make", LAYERS.values(), ids=LAYERS.keys())


def rand(*shape: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64)


def channels(layer: nn.Module) -> int:
    """The channels of its input, by its first parameter with one for each."""
    return {"LayerScale": 6, "MSFFN": 6, "DPE": 6, "DMixer": 16, "Block": 16}.get(type(layer).__name__, 8)


def close(actual: Tensor, truth: Tensor) -> None:
    torch.testing.assert_close(actual, truth, rtol=0, atol=1e-12)


def batch_norm(x: Tensor, norm: nn.BatchNorm2d) -> Tensor:
    """Eval mode, by its formula."""
    mean, std = norm.running_mean[:, None, None], (norm.running_var[:, None, None] + norm.eps).sqrt()
    return (x - mean) / std * norm.weight[:, None, None] + norm.bias[:, None, None]


def pointwise(x: Tensor, conv: nn.Conv2d) -> Tensor:
    out = torch.einsum("oc,bchw->bohw", conv.weight[:, :, 0, 0], x)
    return out if conv.bias is None else out + conv.bias[:, None, None]


def depthwise(x: Tensor, weight: Tensor, bias: Tensor | None = None, stride: int = 1) -> Tensor:
    """Channel by channel."""
    convolved = [
        F.conv2d(x[:, c : c + 1], weight[c : c + 1], stride=stride, padding=weight.shape[-1] // 2)
        for c in range(len(weight))
    ]
    return torch.cat(convolved, 1) + (0 if bias is None else bias[:, None, None])


@LAYER
@pytest.mark.parametrize(("height", "width"), [(8, 8), (7, 9), (1, 1), (3, 12)])
def test_shape_is_kept_at_any_size(make, randomize, height, width):
    layer = randomize(make()).double().eval()
    x = rand(2, channels(layer), height, width)
    out = layer(x)
    assert out.shape == x.shape
    assert out.isfinite().all()
    assert not torch.equal(out, x)


@LAYER
@pytest.mark.parametrize("train", [True, False])
def test_every_parameter_and_the_input_get_a_gradient(make, randomize, train):
    layer = randomize(make()).double().train(train)
    x = rand(2, channels(layer), 8, 8).requires_grad_()
    layer(x).square().sum().backward()
    assert x.grad.any()
    assert [name for name, p in layer.named_parameters() if p.grad is None or not p.grad.any()] == []


@LAYER
def test_samples_of_a_batch_do_not_see_each_other_in_eval_mode(make, randomize):
    layer = randomize(make()).double().eval()
    x = rand(3, channels(layer), 6, 5)
    close(layer(x), torch.cat([layer(sample[None]) for sample in x]))


@LAYER
def test_an_empty_batch_passes(make):
    layer = make().double().eval()
    assert layer(rand(0, channels(layer), 8, 8)).shape == (0, channels(layer), 8, 8)


def test_dpe_adds_a_depthwise_convolution(randomize):
    dpe, x = randomize(DPE(6, kernel_size=5)).double(), rand(2, 6, 7, 4)
    close(dpe(x), x + depthwise(x, dpe.dwconv.weight, dpe.dwconv.bias))
    assert DPE(6).dwconv.kernel_size == (7, 7)


def test_layer_scale_scales_and_shifts_each_channel(randomize):
    scale, x = randomize(LayerScale(6)).double(), rand(2, 6, 3, 4)
    close(scale(x), torch.stack([x[:, c] * scale.weight[c] + scale.bias[c] for c in range(6)], 1))


def test_layer_scale_starts_from_its_first_value_without_a_shift():
    scale = LayerScale(6, init_value=0.25)
    assert (scale.weight == 0.25).all()
    assert not scale.bias.any()
    assert (LayerScale(6).weight == 1e-5).all()


@pytest.mark.parametrize(("patch_size", "stride"), [(7, 4), (3, 2), (3, 1)])
@pytest.mark.parametrize(("height", "width"), [(16, 12), (9, 15), (1, 2)])
def test_patch_embed_is_a_strided_convolution_and_batch_norm(randomize, patch_size, stride, height, width):
    embed, x = randomize(PatchEmbed(3, 10, patch_size, stride)).double().eval(), rand(2, 3, height, width)
    dense = F.conv2d(x, embed.conv.weight, padding=patch_size // 2)
    out = embed(x)
    assert embed.conv.bias is None
    assert out.shape == (2, 10, math.ceil(height / stride), math.ceil(width / stride))
    close(out, batch_norm(dense[:, :, ::stride, ::stride], embed.bn))


def pool(x: Tensor, size: int) -> Tensor:
    """Adaptive average pooling of one sample: cell i averages rows floor(iH/size) to ceil((i+1)H/size)."""
    H, W = x.shape[1:]
    rows = [slice(i * H // size, -(-(i + 1) * H // size)) for i in range(size)]
    columns = [slice(i * W // size, -(-(i + 1) * W // size)) for i in range(size)]
    return torch.stack([torch.stack([x[:, r, c].mean((1, 2)) for c in columns], -1) for r in rows], -2)


@pytest.mark.parametrize("num_groups", [2, 4])
@pytest.mark.parametrize(("height", "width"), [(8, 9), (3, 5), (1, 1), (14, 14)])
def test_idconv_mixes_its_bank_for_each_sample(randomize, num_groups, height, width):
    conv, x = randomize(IDConv(8, 7, num_groups)).double().eval(), rand(3, 8, height, width)

    def shares(pooled: Tensor) -> Tensor:
        hidden = F.gelu(batch_norm(pointwise(pooled[None], conv.squeeze.conv), conv.squeeze.bn))
        logits = pointwise(hidden, conv.expand)[0].reshape(num_groups, 8, *pooled.shape[1:])
        return logits.exp() / logits.exp().sum(0)

    for sample, out in zip(x, conv(x), strict=True):
        weight = (shares(pool(sample, 7)) * conv.weight).sum(0)
        bias = (shares(sample.mean((1, 2))[:, None, None])[..., 0, 0] * conv.bias).sum(0)
        close(out, F.conv2d(sample, weight[:, None], bias, padding=3, groups=8))


def test_idconv_shares_add_up_to_one_over_the_groups(randomize):
    shares = randomize(IDConv(8, num_groups=3)).double().eval().attention(rand(2, 8, 7, 7))
    assert shares.shape == (2, 3, 8, 7, 7)
    assert (shares > 0).all()
    close(shares.sum(1), torch.ones(2, 8, 7, 7, dtype=torch.float64))


@pytest.mark.parametrize("dim", [32, 96])
def test_idconv_has_as_many_parameters_as_the_paper_counts(dim):
    """Sec. III-B1: C^2/r (G + 1) + G C K^2, which is 1.25 C^2 + 196 C; the paper counts no BatchNorm and no biases."""
    conv = IDConv(dim, kernel_size=7, num_groups=4, reduction_ratio=4)
    count = conv.weight.numel() + conv.squeeze.conv.weight.numel() + conv.expand.weight.numel()
    assert count == 1.25 * dim**2 + 196 * dim
    uncounted = conv.bias.numel() + conv.expand.bias.numel() + sum(p.numel() for p in conv.squeeze.bn.parameters())
    assert count + uncounted == sum(p.numel() for p in conv.parameters())


def test_idconv_batch_norm_sees_the_pooled_input_and_then_the_mean(randomize):
    conv, x = randomize(IDConv(8)).double().train(), rand(3, 8, 9, 10)
    bn = conv.squeeze.bn
    mean, var = bn.running_mean.clone(), bn.running_var.clone()
    for pooled in (torch.stack([pool(sample, 7) for sample in x]), x.mean((2, 3), keepdim=True)):
        squeezed = pointwise(pooled, conv.squeeze.conv).transpose(0, 1).flatten(1)
        mean = 0.9 * mean + 0.1 * squeezed.mean(1)
        var = 0.9 * var + 0.1 * squeezed.var(1, unbiased=True)
    conv(x)
    assert bn.num_batches_tracked == 2
    close(bn.running_mean, mean.detach())
    close(bn.running_var, var.detach())


def test_idconv_banks_start_from_a_truncated_normal():
    conv = IDConv(256, num_groups=4)
    assert conv.weight.std().item() == pytest.approx(0.02, abs=1e-3)
    assert conv.bias.std().item() == pytest.approx(0.02, abs=3e-3)


@pytest.mark.parametrize("with_bias", [True, False])
@pytest.mark.parametrize("sr_ratio", [1, 2, 4, 8])
@pytest.mark.parametrize(("height", "width"), [(8, 8), (9, 5), (1, 1)])
def test_osra_attends_to_reduced_and_refined_keys(randomize, height, width, sr_ratio, with_bias):
    h, d = 2, 4
    osra, x = randomize(OSRA(h * d, h, sr_ratio)).double().eval(), rand(2, h * d, height, width)
    M = math.ceil(height / sr_ratio) * math.ceil(width / sr_ratio)
    bias = rand(1, h, height * width, M) if with_bias else None

    y = x
    if sr_ratio > 1:
        reduce, scale = osra.reduction.reduce, osra.reduction.scale
        assert reduce.conv.kernel_size == (sr_ratio + 3, sr_ratio + 3)
        y = F.gelu(batch_norm(depthwise(y, reduce.conv.weight, stride=sr_ratio), reduce.bn))
        y = batch_norm(y * scale.conv.weight[:, 0], scale.bn)
    y = y + depthwise(y, osra.refinement.dwconv.weight, osra.refinement.dwconv.bias)
    # (B, C, positions) with the heads' channels one after the other; the keys come before the values
    q, kv = pointwise(x, osra.q).flatten(2), pointwise(y, osra.kv).flatten(2)
    k, v = kv[:, : h * d], kv[:, h * d :]
    truth = torch.empty_like(q)
    for head in range(h):
        c = slice(head * d, (head + 1) * d)
        logits = torch.einsum("bcn,bcm->bnm", q[:, c], k[:, c]) / math.sqrt(d)
        shares = (logits if bias is None else logits + bias[:, head]).softmax(-1)
        truth[:, c] = torch.einsum("bnm,bcm->bcn", shares, v[:, c])
    close(osra(x, bias), truth.reshape(x.shape))


@pytest.mark.parametrize(("dim", "squeezed"), [(8, 16), (128, 16), (256, 32), (448, 56)])
def test_ste_squeezes_to_an_eighth_but_never_below_sixteen(randomize, dim, squeezed):
    ste, x = randomize(STE(dim)).double().eval(), rand(2, dim, 4, 3)
    y = batch_norm(F.gelu(depthwise(x, ste.dwconv.weight, ste.dwconv.bias)), ste.bn1)
    y = batch_norm(F.gelu(pointwise(y, ste.squeeze)), ste.bn2)
    assert y.shape[1] == squeezed
    close(ste(x), x + batch_norm(pointwise(y, ste.expand), ste.bn3))


def test_dmixer_gives_the_first_half_to_idconv_the_second_to_osra_and_both_to_ste(randomize):
    mixer, x = randomize(DMixer(16, num_heads=2, sr_ratio=2)).double().eval(), rand(2, 16, 6, 6)
    bias = rand(1, 2, 36, 9)
    close(mixer(x, bias), mixer.ste(torch.cat([mixer.idconv(x[:, :8]), mixer.osra(x[:, 8:], bias)], 1)))


@pytest.mark.parametrize(
    ("dim", "expansion", "scales", "widths"),
    [
        (6, 4, (1, 3, 5, 7), (6, 6, 6, 6)),
        (5, 3, (1, 3, 5, 7), (6, 3, 3, 3)),
        (4, 2, (3, 5, 7), (4, 2, 2)),
        (2, 1, (7,), (2,)),
    ],
)
def test_msffn_convolves_each_share_of_its_hidden_channels_at_its_own_scale(randomize, dim, expansion, scales, widths):
    ffn, x = randomize(MSFFN(dim, expansion, scales)).double().eval(), rand(2, dim, 5, 6)
    y = batch_norm(F.gelu(pointwise(x, ffn.expand)), ffn.bn1)
    branches = []
    for conv, scale, group in zip(ffn.dwconv, scales, y.split(widths, 1), strict=True):
        assert conv.kernel_size == (scale, scale)
        branches.append(depthwise(group, conv.weight, conv.bias))
    y = batch_norm(F.gelu(y + torch.cat(branches, 1)), ffn.bn2)
    close(ffn(x), batch_norm(pointwise(y, ffn.project), ffn.bn3))


def group_norm(x: Tensor, norm: nn.GroupNorm) -> Tensor:
    mean, var = x.mean((1, 2, 3), keepdim=True), x.var((1, 2, 3), unbiased=False, keepdim=True)
    return (x - mean) / (var + 1e-5).sqrt() * norm.weight[:, None, None] + norm.bias[:, None, None]


def test_block_is_three_residuals(randomize):
    block, x = randomize(Block(16, num_heads=2, sr_ratio=2)).double().eval(), rand(2, 16, 6, 6)
    bias = rand(1, 2, 36, 9)
    y = block.dpe(x)
    y = y + block.scale1(block.mixer(group_norm(y, block.norm1), bias))
    y = y + block.scale2(block.ffn(group_norm(y, block.norm2)))
    close(block(x, bias), y)


def test_stochastic_depth_drops_both_branches_of_a_sample_in_training_only(randomize):
    block, x = randomize(Block(16, drop_path=1 - 1e-9)).double(), rand(4, 16, 6, 6)
    close(block.train()(x), block.dpe(x))
    assert not torch.allclose(block.eval()(x), block.dpe(x))


def test_position_bias_is_the_stored_matrix_at_its_own_size():
    bias = PositionBias(2, 6, 4)
    assert bias(6, 4) is bias.weight
    assert bias.weight.shape == (1, 2, 6, 4)
    assert not bias.weight.any()


def cubic(t: float, a: float = -0.75) -> float:
    """Keys' kernel."""
    t = abs(t)
    if t <= 1:
        return (a + 2) * t**3 - (a + 3) * t**2 + 1
    return a * (t**3 - 5 * t**2 + 8 * t - 4) if t < 2 else 0.0


def resize_rows(matrix: Tensor, rows: int) -> Tensor:
    """Bicubic along the first dimension, pixel centres at half-integers, borders repeated."""
    out = torch.zeros(rows, matrix.shape[1], dtype=matrix.dtype)
    for i in range(rows):
        centre = (i + 0.5) * len(matrix) / rows - 0.5
        for j in range(math.floor(centre) - 1, math.floor(centre) + 3):
            out[i] += cubic(centre - j) * matrix[min(max(j, 0), len(matrix) - 1)]
    return out


@pytest.mark.parametrize("size", [(9, 4), (6, 9), (13, 7), (3, 2), (1, 1)])
@pytest.mark.parametrize("grad", [True, False])
def test_position_bias_is_resized_whole_and_bicubic(randomize, size, grad):
    bias = randomize(PositionBias(2, 6, 4)).double()
    with torch.set_grad_enabled(grad):
        resized = bias(*size)
    assert resized.shape == (1, 2, *size)
    assert resized.requires_grad == grad
    for head in range(2):
        close(resized[0, head].detach(), resize_rows(resize_rows(bias.weight[0, head], size[0]).T, size[1]).T.detach())


@pytest.fixture
def resizes(monkeypatch) -> list:
    """Every resize that happens, as the size asked for."""
    calls = []

    def counted(bias, size, resize=position_bias.resize_position_bias):
        calls.append(size)
        return resize(bias, size)

    monkeypatch.setattr(position_bias, "resize_position_bias", counted)
    return calls


@torch.no_grad()
def test_without_gradients_the_last_resized_matrix_is_kept(resizes):
    bias = PositionBias(2, 6, 4)
    assert bias(8, 8) is bias(8, 8)
    bias(9, 9), bias(9, 9), bias(8, 8)
    assert resizes == [(8, 8), (9, 9), (8, 8)]


def test_with_gradients_nothing_is_kept(resizes):
    bias = PositionBias(2, 6, 4)
    bias(8, 8), bias(8, 8)
    assert len(resizes) == 2


def add_in_place(bias: PositionBias) -> PositionBias:
    with torch.no_grad():
        bias.weight.add_(1)
    return bias


def add_in_inference_mode(bias: PositionBias) -> PositionBias:
    with torch.inference_mode():
        bias.weight.add_(1)
    return bias


def add_through_data(bias: PositionBias) -> PositionBias:
    bias.train()
    bias.weight.data.add_(1)
    return bias.eval()


def replace_storage(bias: PositionBias) -> PositionBias:
    bias.weight.data = bias.weight.data + 1
    return bias


def load(bias: PositionBias) -> PositionBias:
    bias.load_state_dict({"weight": bias.weight + 1})
    return bias


def assign(bias: PositionBias) -> PositionBias:
    bias.load_state_dict({"weight": (bias.weight + 1).detach()}, assign=True)
    return bias


def optimise(bias: PositionBias, **kind: bool) -> PositionBias:
    with torch.enable_grad():
        bias(6, 4).sum().neg().backward()
    torch.optim.AdamW(bias.parameters(), lr=1, weight_decay=0, eps=0, **kind).step()
    return bias


@pytest.mark.parametrize(
    "change",
    [
        add_in_place,
        add_in_inference_mode,
        add_through_data,
        replace_storage,
        load,
        assign,
        pytest.param(lambda bias: optimise(bias, foreach=True), id="foreach optimiser"),
        pytest.param(lambda bias: optimise(bias, fused=True), id="fused optimiser"),
        pytest.param(lambda bias: add_in_place(copy.deepcopy(bias)), id="change a deep copy"),
    ],
)
def test_a_changed_weight_is_resized_anew(randomize, change):
    bias = randomize(PositionBias(2, 6, 4)).double().eval()
    with torch.no_grad():
        before = bias(8, 8)
        close(change(bias)(8, 8), before + 1)


def test_a_kept_matrix_follows_the_precision_of_the_weight():
    bias = PositionBias(2, 6, 4)
    with torch.no_grad():
        assert bias(8, 8).dtype == torch.float32
        assert bias.double()(8, 8).dtype == torch.float64
        assert bias.to("meta")(8, 8).is_meta


def test_a_kept_matrix_stays_out_of_pickles_copies_and_state_dicts():
    bias = PositionBias(1, 6, 4)
    small = len(pickle.dumps(bias))
    with torch.no_grad():
        bias(500, 500)
    assert len(pickle.dumps(bias)) == small
    assert copy.deepcopy(bias)._kept is None
    assert list(bias.state_dict()) == ["weight"]


def test_a_matrix_kept_in_inference_mode_does_not_reach_a_backward_pass(randomize):
    bias = randomize(PositionBias(2, 6, 4)).double()
    with torch.inference_mode():
        kept = bias(8, 8)
    resized = bias(8, 8)
    resized.sum().backward()
    assert bias.weight.grad.any()
    close(resized.detach(), kept.clone())


def test_a_position_bias_made_in_inference_mode_works():
    with torch.inference_mode():
        assert PositionBias(2, 6, 4)(8, 8).shape == (1, 2, 8, 8)


class Interrupted(PositionBias):
    """Another thread asks for 9x9 at the worst moment."""

    def __setattr__(self, name, value):
        super().__setattr__(name, value)
        if name == "_kept" and value is not None and value[1].shape[2:] == (8, 8):
            self(9, 9)


@torch.no_grad()
def test_a_thread_at_another_size_does_not_get_in_between():
    bias = Interrupted(1, 6, 4)
    assert bias(8, 8).shape[2:] == (8, 8)
    assert bias._kept[1].shape[2:] == (9, 9), "the interruption took place"


@pytest.mark.parametrize(
    ("make", "value", "accepted"),
    [
        (lambda: DPE(0), "0", "dim must be a positive integer"),
        (lambda: DPE(8, kernel_size=4), "4", "kernel_size must be odd"),
        (lambda: IDConv(8.0), "8.0", "dim must be a positive integer"),
        (lambda: IDConv(8, kernel_size=6), "6", "kernel_size must be odd"),
        (lambda: IDConv(8, num_groups=1), "1", "num_groups must be at least 2"),
        (lambda: IDConv(8, num_groups=True), "True", "num_groups must be a positive integer"),
        (lambda: IDConv(3), "3", "at least reduction_ratio=4"),
        (lambda: IDConv(8, reduction_ratio=-1), "-1", "reduction_ratio must be a positive integer"),
        (lambda: OSRA(10, num_heads=4), "dim=10", "divisible by num_heads=4; the nearest that works: 8 or 12"),
        (lambda: OSRA(8, num_heads=0), "0", "num_heads must be a positive integer"),
        (lambda: OSRA(8, sr_ratio=0), "0", "sr_ratio must be a positive integer"),
        (lambda: STE(8, reduction_ratio=0), "0", "reduction_ratio must be a positive integer"),
        (lambda: STE(8, min_dim="16"), "'16'", "min_dim must be a positive integer"),
        (lambda: DMixer(15), "dim=15", "the nearest that works: 14 or 16"),
        (lambda: DMixer(24, num_heads=5), "dim=12", "the nearest that works: 10 or 15"),
        (lambda: MSFFN(8, expansion=0), "0", "expansion must be a positive integer"),
        (lambda: MSFFN(8, scales=()), "()", "scales must hold 1 to 32 kernel sizes"),
        (lambda: MSFFN(1, 1, scales=(1, 3)), "(1, 3)", "scales must hold 1 to 1 kernel sizes"),
        (lambda: MSFFN(8, scales=(1, 2)), "2", "scale must be odd"),
        (lambda: PatchEmbed(3, 8, patch_size=2), "2", "patch_size must be odd"),
        (lambda: PatchEmbed(3, 8, stride=0), "0", "stride must be a positive integer"),
        (lambda: Block(15), "dim=15", "the nearest that works: 14 or 16"),
    ],
)
def test_a_wrong_argument_is_named_with_its_value_and_what_is_accepted(make, value, accepted):
    with pytest.raises(ValueError, match=accepted) as error:
        make()
    assert value in str(error.value)


@pytest.mark.parametrize("layer", [DPE, IDConv, OSRA, STE, DMixer, MSFFN, LayerScale, Block])
def test_a_misspelt_argument_is_an_error(layer):
    with pytest.raises(TypeError, match="kernel_sise"):
        layer(16, kernel_sise=3)
