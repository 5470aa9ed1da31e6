"""The plain FFN against timm's Mlp with the same weights."""

import torch
from timm.layers import Mlp

from tests.helpers.formulas import close, rand
from transxnet.layers.ffn import FFN


@torch.no_grad()
def test_the_plain_ffn_is_timm_s_mlp(randomize):
    theirs, ours, x = randomize(Mlp(6, 18)).double(), FFN(6, 3).double(), rand(2, 6, 4, 5)
    for mine, other in [(ours.expand, theirs.fc1), (ours.project, theirs.fc2)]:
        mine.weight.copy_(other.weight[:, :, None, None])
        mine.bias.copy_(other.bias)
    close(ours(x), theirs(x.movedim(1, 3)).movedim(3, 1))
