"""What does not overlap: SRA against timm's PVT v2 with its weights, the reduction and the embedding patch by patch."""

import pytest
import torch
import torch.nn.functional as F
from timm.layers import Mlp
from timm.models.pvt_v2 import Attention
from torch import Tensor

from tests.helpers.formulas import batch_norm, close, rand
from transxnet.layers.compared import FFN, SRA, NonOverlappingPatchEmbed, NonOverlappingSpatialReduction

SIZE = pytest.mark.parametrize(("height", "width"), [(8, 12), (7, 9), (1, 1), (4, 6)])


def patches(x: Tensor, step: int) -> Tensor:
    """(B, C, H, W) -> (B, C, rows, columns, step, step), zeros where there is no image."""
    x = F.pad(x, (0, -x.shape[3] % step, 0, -x.shape[2] % step))
    return x.unfold(2, step, step).unfold(3, step, step)


@SIZE
@pytest.mark.parametrize("sr_ratio", [1, 2, 4])
@torch.no_grad()
def test_sra_is_that_of_pvt(randomize, height, width, sr_ratio):
    theirs = randomize(Attention(8, num_heads=2, sr_ratio=sr_ratio)).double().eval()
    ours, x = SRA(8, 2, sr_ratio).double(), rand(2, 8, height, width)
    pairs = [(ours.q, theirs.q), (ours.kv, theirs.kv), (ours.proj, theirs.proj)]
    if sr_ratio > 1:
        pairs += [(ours.reduction, theirs.sr), (ours.norm, theirs.norm)]
    for mine, other in pairs:
        mine.weight.copy_(other.weight.reshape(mine.weight.shape))
        mine.bias.copy_(other.bias)
    # Its keys then come from the same zeros, and its queries do not look at each other.
    padded = F.pad(x, (0, -width % sr_ratio, 0, -height % sr_ratio))
    truth = theirs(padded.flatten(2).transpose(1, 2), padded.shape[2:]).transpose(1, 2).reshape(padded.shape)
    close(ours(x), truth[:, :, :height, :width])


@SIZE
@pytest.mark.parametrize("stride", [2, 4])
def test_the_reduction_weighs_each_patch_by_itself(randomize, height, width, stride):
    reduction = randomize(NonOverlappingSpatialReduction(6, stride)).double().eval()
    x = rand(2, 6, height, width)
    weight = reduction.reduce.conv.weight[:, 0, None, None]
    y = F.gelu(batch_norm((patches(x, stride) * weight).sum((4, 5)), reduction.reduce.bn))
    truth = batch_norm(y * reduction.scale.conv.weight[:, 0], reduction.scale.bn)
    assert truth.shape[2:] == (-(-height // stride), -(-width // stride))
    close(reduction(x), truth)


@SIZE
@pytest.mark.parametrize("stride", [2, 4])
def test_the_embedding_maps_each_patch_by_itself(randomize, height, width, stride):
    embed, x = randomize(NonOverlappingPatchEmbed(3, 10, stride)).double().eval(), rand(2, 3, height, width)
    assert embed.conv.bias is None
    close(embed(x), batch_norm(torch.einsum("bcyxij,ocij->boyx", patches(x, stride), embed.conv.weight), embed.bn))


@torch.no_grad()
def test_the_plain_ffn_is_timm_s_mlp(randomize):
    theirs, ours, x = randomize(Mlp(6, 18)).double(), FFN(6, 3).double(), rand(2, 6, 4, 5)
    for mine, other in [(ours.expand, theirs.fc1), (ours.project, theirs.fc2)]:
        mine.weight.copy_(other.weight[:, :, None, None])
        mine.bias.copy_(other.bias)
    close(ours(x), theirs(x.movedim(1, 3)).movedim(3, 1))
