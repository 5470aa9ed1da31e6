"""The two paths of ACmix: Swin's attention and a convolution."""

import pytest
import torch
import torch.nn.functional as F

from tests.helpers.formulas import close, pointwise, rand, windows
from transxnet.analysis.cost import count
from transxnet.layers.compared import ACmix

SIZE = pytest.mark.parametrize(("height", "width"), [(8, 8), (7, 9), (1, 1), (3, 10)])


@SIZE
@pytest.mark.parametrize("shift", [0, 2])
def test_the_paths_are_added_with_their_weights(randomize, height, width, shift):
    mixer, x = randomize(ACmix(8, 2, window_size=4, shift=shift)).double(), rand(2, 8, height, width)
    qkv = pointwise(x, mixer.qkv)
    q, k, v = qkv.chunk(3, 1)
    attended = pointwise(windows(q, k, v, 2, 4, shift, mixer.pos_bias.weight), mixer.proj)
    close(mixer(x), mixer.attention_weight * attended + mixer.conv_weight * mixer.convolve(qkv))


@SIZE
@pytest.mark.parametrize("kernel_size", [3, 5])
def test_convolution_path_starts_as_an_ordinary_convolution(height, width, kernel_size):
    """Kernel offset (i, j) has the weights that mix the heads into map (i, j)."""
    heads, d, K = 2, 3, kernel_size
    mixer, qkv = ACmix(heads * d, heads, kernel_size=K).double(), rand(2, 3 * heads * d, height, width)
    torch.nn.init.zeros_(mixer.mix.bias)  # the shifts move the bias, but not into the border
    weight = mixer.mix.weight[:, :, 0, 0].T.reshape(1, 3 * heads, K, K)
    by_channel = qkv.reshape(2, 3 * heads, d, height, width)
    truth = torch.cat(
        [F.conv2d(by_channel[:, :, c], weight, padding=K // 2).repeat(1, heads, 1, 1) for c in range(d)], 1
    )
    close(mixer.convolve(qkv), truth)


@SIZE
def test_convolution_path_shifts_by_learned_kernels(randomize, height, width):
    heads, d = 2, 3
    mixer, qkv = randomize(ACmix(heads * d, heads)).double(), rand(2, 3 * heads * d, height, width)
    by_channel = qkv.reshape(2, 3 * heads, d, height, width)
    truth = []
    for c in range(d):
        maps = pointwise(by_channel[:, :, c], mixer.mix)
        outputs = slice(c * heads, (c + 1) * heads)
        truth.append(F.conv2d(maps, mixer.shift_conv.weight[outputs], mixer.shift_conv.bias[outputs], padding=1))
    close(mixer.convolve(qkv), torch.cat(truth, 1))


def test_path_weights_start_equal():
    mixer = ACmix(8, 2)
    assert mixer.attention_weight.item() == mixer.conv_weight.item() == 0.5


def test_acmix_cost_matches_the_paper():
    """Per position: 4 C^2 for projections, 3 K^2 C to mix the heads, K^4 C to shift, without attention products."""
    C, K, H, W = 32, 3, 14, 7
    cost = count(ACmix(C, 4), H, W, in_chans=C)
    assert cost.multiply_adds == H * W * (4 * C**2 + 3 * K**2 * C + K**4 * C)
    assert cost.attention_multiply_adds == 2 * H * W * 49 * C
