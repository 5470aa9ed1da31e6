"""MixFormer's mixing block, branch by branch, against its formulas."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.helpers.formulas import batch_norm, close, depthwise, layer_norm, pointwise, rand, windows
from transxnet.layers.compared import MixingBlock


def gate(x: Tensor, interaction: nn.Sequential) -> Tensor:
    squeeze, norm, _, expand = interaction
    return 1 / (1 + (-pointwise(F.gelu(batch_norm(pointwise(x, squeeze), norm)), expand)).exp())


@pytest.mark.parametrize(("height", "width"), [(8, 8), (7, 9), (1, 1), (3, 10)])
def test_branches_interact_in_both_directions(randomize, height, width):
    block, x = randomize(MixingBlock(32, 2, window_size=4)).double().eval(), rand(2, 32, height, width)
    conv = layer_norm(pointwise(x, block.to_conv[0]), block.to_conv[1])
    conv = F.gelu(batch_norm(depthwise(conv, block.dwconv.weight, block.dwconv.bias), block.dwconv_norm[0]))
    q, k, v = pointwise(layer_norm(pointwise(x, block.to_attention[0]), block.to_attention[1]), block.qkv).chunk(3, 1)
    channels = gate(conv.mean((2, 3), keepdim=True), block.channel_interaction)
    assert channels.shape == (2, 16, 1, 1)
    attended = windows(q, k, v * channels, 2, 4, table=block.pos_bias.weight)
    positions = gate(attended, block.spatial_interaction)
    assert positions.shape == (2, 1, height, width)
    conv = batch_norm(pointwise(conv, block.narrow) * positions, block.conv_norm)
    close(block(x), pointwise(torch.cat([layer_norm(attended, block.attention_norm), conv], 1), block.proj))


def test_the_convolution_is_3x3_and_the_windows_7x7():
    block = MixingBlock(32, 2)
    assert block.dwconv.kernel_size == (3, 3)
    assert block.window_size == 7
    assert (block.channel_interaction[0].out_channels, block.spatial_interaction[0].out_channels) == (4, 2)
