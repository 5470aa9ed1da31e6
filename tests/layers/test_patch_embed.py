"""The overlapping patch embedding against its formula."""

import math

import pytest
import torch.nn.functional as F

from tests.helpers.formulas import batch_norm, close, rand
from transxnet.layers import PatchEmbed


@pytest.mark.parametrize(("patch_size", "stride"), [(7, 4), (3, 2), (3, 1)])
@pytest.mark.parametrize(("height", "width"), [(16, 12), (9, 15), (1, 2)])
def test_patch_embed_is_a_strided_convolution_and_batch_norm(randomize, patch_size, stride, height, width):
    embed, x = randomize(PatchEmbed(3, 10, patch_size, stride)).double().eval(), rand(2, 3, height, width)
    dense = F.conv2d(x, embed.conv.weight, padding=patch_size // 2)
    out = embed(x)
    assert embed.conv.bias is None
    assert out.shape == (2, 10, math.ceil(height / stride), math.ceil(width / stride))
    close(out, batch_norm(dense[:, :, ::stride, ::stride], embed.bn))
