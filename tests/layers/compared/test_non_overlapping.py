"""The non-overlapping patch embedding, patch by patch."""

import pytest
import torch

from tests.helpers.formulas import batch_norm, close, patches, rand
from transxnet.layers.compared import NonOverlappingPatchEmbed

SIZE = pytest.mark.parametrize(("height", "width"), [(8, 12), (7, 9), (1, 1), (4, 6)])


@SIZE
@pytest.mark.parametrize("stride", [2, 4])
def test_embedding_maps_each_patch_separately(randomize, height, width, stride):
    embed, x = randomize(NonOverlappingPatchEmbed(3, 10, stride)).double().eval(), rand(2, 3, height, width)
    assert embed.conv.bias is None
    close(embed(x), batch_norm(torch.einsum("bcyxij,ocij->boyx", patches(x, stride), embed.conv.weight), embed.bn))
