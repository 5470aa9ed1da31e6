"""SRA against timm's PVT v2 with the same weights, and the reduction of Table X patch by patch."""

import pytest
import torch
import torch.nn.functional as F
from timm.models.pvt_v2 import Attention

from tests.helpers.formulas import batch_norm, close, patches, rand
from transxnet.layers.compared import SRA, NonOverlappingSpatialReduction

SIZE = pytest.mark.parametrize(("height", "width"), [(8, 12), (7, 9), (1, 1), (4, 6)])


@SIZE
@pytest.mark.parametrize("sr_ratio", [1, 2, 4])
@torch.no_grad()
def test_sra_matches_pvt(randomize, height, width, sr_ratio):
    theirs = randomize(Attention(8, num_heads=2, sr_ratio=sr_ratio)).double().eval()
    ours, x = SRA(8, 2, sr_ratio).double(), rand(2, 8, height, width)
    pairs = [(ours.q, theirs.q), (ours.kv, theirs.kv), (ours.proj, theirs.proj)]
    if sr_ratio > 1:
        pairs += [(ours.reduction, theirs.sr), (ours.norm, theirs.norm)]
    for mine, other in pairs:
        mine.weight.copy_(other.weight.reshape(mine.weight.shape))
        mine.bias.copy_(other.bias)
    # With zero padding, timm's keys come from the same zeros; its queries do not attend to each other.
    padded = F.pad(x, (0, -width % sr_ratio, 0, -height % sr_ratio))
    truth = theirs(padded.flatten(2).transpose(1, 2), padded.shape[2:]).transpose(1, 2).reshape(padded.shape)
    close(ours(x), truth[:, :, :height, :width])


@SIZE
@pytest.mark.parametrize("stride", [2, 4])
def test_reduction_weights_each_patch_separately(randomize, height, width, stride):
    reduction = randomize(NonOverlappingSpatialReduction(6, stride)).double().eval()
    x = rand(2, 6, height, width)
    weight = reduction.reduce.conv.weight[:, 0, None, None]
    y = F.gelu(batch_norm((patches(x, stride) * weight).sum((4, 5)), reduction.reduce.bn))
    truth = batch_norm(y * reduction.scale.conv.weight[:, 0], reduction.scale.bn)
    assert truth.shape[2:] == (-(-height // stride), -(-width // stride))
    close(reduction(x), truth)
