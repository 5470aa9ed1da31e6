"""MS-FFN against its formula."""

import pytest
import torch
import torch.nn.functional as F

from tests.helpers.formulas import batch_norm, close, depthwise, pointwise, rand
from transxnet.layers import MSFFN


@pytest.mark.parametrize(
    ("dim", "expansion", "scales", "widths"),
    [
        (6, 4, (1, 3, 5, 7), (6, 6, 6, 6)),
        (5, 3, (1, 3, 5, 7), (6, 3, 3, 3)),
        (4, 2, (3, 5, 7), (4, 2, 2)),
        (2, 1, (7,), (2,)),
    ],
)
def test_msffn_convolves_each_channel_group_at_its_own_scale(randomize, dim, expansion, scales, widths):
    ffn, x = randomize(MSFFN(dim, expansion, scales)).double().eval(), rand(2, dim, 5, 6)
    y = batch_norm(F.gelu(pointwise(x, ffn.expand)), ffn.bn1)
    branches = []
    for conv, scale, group in zip(ffn.dwconv, scales, y.split(widths, 1), strict=True):
        assert conv.kernel_size == (scale, scale)
        branches.append(depthwise(group, conv.weight, conv.bias))
    y = batch_norm(F.gelu(y + torch.cat(branches, 1)), ffn.bn2)
    close(ffn(x), batch_norm(pointwise(y, ffn.project), ffn.bn3))
