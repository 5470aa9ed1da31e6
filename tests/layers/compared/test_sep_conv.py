"""Sep Conv against timm's implementation with the same weights."""

import pytest
import torch
from timm.models import metaformer

from tests.helpers.formulas import close, rand
from transxnet.layers.compared import SepConv


@pytest.mark.parametrize(("height", "width"), [(8, 8), (7, 9), (1, 1)])
@torch.no_grad()
def test_sep_conv_matches_convformer(randomize, height, width):
    theirs, ours = randomize(metaformer.SepConv(6)).double(), SepConv(6).double()
    names = dict(expand="pwconv1", dwconv="dwconv", project="pwconv2")
    pairs = [(f"{mine}.weight", f"{other}.weight") for mine, other in names.items()]
    pairs += [("act.scale", "act1.scale"), ("act.bias", "act1.bias")]
    state = theirs.state_dict()
    ours.load_state_dict({mine: state[other] for mine, other in pairs})
    assert len(pairs) == len(state)
    x = rand(2, 6, height, width)
    close(ours(x), theirs(x))


def test_initial_values_match_convformer():
    ours, theirs = SepConv(4).act, metaformer.StarReLU()
    assert (ours.scale.item(), ours.bias.item()) == (theirs.scale.item(), theirs.bias.item()) == (1, 0)
