"""Window attention against masked global attention, and against timm's Swin and Twins."""

import pytest
import torch
from timm.models.swin_transformer import SwinTransformerBlock
from timm.models.twins import LocallyGroupedAttn

from tests.helpers.formulas import close, pointwise, rand, windows
from transxnet.layers.compared import ShiftedWindowAttention, WindowAttention

SIZE = pytest.mark.parametrize(("height", "width"), [(8, 12), (9, 7), (4, 11), (5, 3), (1, 1), (16, 4)])


@SIZE
@pytest.mark.parametrize("shift", [0, 1, 2, 3])
def test_shifted_windows_attend_within_each_window(randomize, height, width, shift):
    attention = randomize(ShiftedWindowAttention(8, 2, window_size=4, shift=shift)).double()
    x = rand(2, 8, height, width)
    q, k, v = pointwise(x, attention.qkv).chunk(3, 1)
    close(attention(x), pointwise(windows(q, k, v, 2, 4, shift, attention.pos_bias.weight), attention.proj))


@SIZE
def test_plain_windows_have_no_bias_and_no_shift(randomize, height, width):
    attention, x = randomize(WindowAttention(8, 2, window_size=4)).double(), rand(2, 8, height, width)
    q, k, v = pointwise(x, attention.qkv).chunk(3, 1)
    close(attention(x), pointwise(windows(q, k, v, 2, 4), attention.proj))


@pytest.mark.parametrize(("height", "width"), [(8, 12), (9, 7)])
def test_gpu_kernels_take_windows_and_masks(randomize, monkeypatch, height, width):
    pytest.importorskip("triton", reason="the kernels need the package triton")
    device = "cuda" if torch.cuda.is_available() else "cpu"
    attention = randomize(ShiftedWindowAttention(8, 2, window_size=4, shift=2)).to(device)
    x, traces = torch.randn(2, 8, height, width, device=device), []
    for implementation in ("reference", "triton"):
        monkeypatch.setenv("TRANSXNET_OPS", implementation)
        attention.zero_grad()
        out = attention(x)
        out.square().sum().backward()
        traces.append([out.detach(), *(p.grad.clone() for p in attention.parameters())])
    for actual, truth in zip(*traces, strict=True):
        torch.testing.assert_close(actual, truth, rtol=0, atol=1e-4)


def copy_linear(ours, theirs) -> None:
    ours.weight.copy_(theirs.weight[:, :, None, None])
    ours.bias.copy_(theirs.bias)


@pytest.mark.parametrize("shift", [0, 3])
@torch.no_grad()
def test_shifted_windows_match_timm_swin(randomize, shift):
    theirs = randomize(SwinTransformerBlock(8, (14, 21), num_heads=2, window_size=7, shift_size=shift)).double().eval()
    ours, x = ShiftedWindowAttention(8, 2, window_size=7, shift=shift).double(), rand(2, 8, 14, 21)
    copy_linear(ours.qkv, theirs.attn.qkv)
    copy_linear(ours.proj, theirs.attn.proj)
    ours.pos_bias.weight.copy_(theirs.attn.relative_position_bias_table)
    close(ours(x), theirs._attn(x.movedim(1, 3)).movedim(3, 1))


@torch.no_grad()
def test_plain_windows_match_timm_twins(randomize):
    theirs = randomize(LocallyGroupedAttn(8, num_heads=2, ws=7)).double().eval()
    ours, x = WindowAttention(8, 2, window_size=7).double(), rand(2, 8, 14, 21)
    copy_linear(ours.qkv, theirs.qkv)
    copy_linear(ours.proj, theirs.proj)
    close(ours(x), theirs(x.flatten(2).transpose(1, 2), (14, 21)).transpose(1, 2).reshape(x.shape))


def test_only_a_shift_connects_windows(randomize):
    for shift, reached in [(0, {0, 1, 2, 3}), (2, {2, 3, 4, 5})]:
        attention = randomize(ShiftedWindowAttention(4, 1, window_size=4, shift=shift)).double()
        x = rand(1, 4, 8, 8).requires_grad_()
        attention(x)[:, :, 3, 3].sum().backward()
        seen = x.grad[0].abs().sum(0).nonzero()
        assert {int(i) for i in seen[:, 0]} == {int(i) for i in seen[:, 1]} == reached


def test_the_position_bias_starts_from_a_truncated_normal():
    weight = ShiftedWindowAttention(64, 16, window_size=7).pos_bias.weight
    assert weight.shape == (13 * 13, 16)
    assert weight.std().item() == pytest.approx(0.02, abs=2e-3)
