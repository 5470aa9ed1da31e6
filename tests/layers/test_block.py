"""LayerScale and the block against their formulas."""

import torch
from torch import Tensor, nn

from tests.helpers.formulas import close, rand
from transxnet.layers import Block, LayerScale


def test_layer_scale_scales_and_shifts_each_channel(randomize):
    scale, x = randomize(LayerScale(6)).double(), rand(2, 6, 3, 4)
    close(scale(x), torch.stack([x[:, c] * scale.weight[c] + scale.bias[c] for c in range(6)], 1))


def test_layer_scale_starts_from_its_first_value_without_a_shift():
    scale = LayerScale(6, init_value=0.25)
    assert (scale.weight == 0.25).all()
    assert not scale.bias.any()
    assert (LayerScale(6).weight == 1e-5).all()


def group_norm(x: Tensor, norm: nn.GroupNorm) -> Tensor:
    mean, var = x.mean((1, 2, 3), keepdim=True), x.var((1, 2, 3), unbiased=False, keepdim=True)
    return (x - mean) / (var + 1e-5).sqrt() * norm.weight[:, None, None] + norm.bias[:, None, None]


def test_block_is_three_residuals(randomize):
    block, x = randomize(Block(16, num_heads=2, sr_ratio=2)).double().eval(), rand(2, 16, 6, 6)
    bias = rand(1, 2, 36, 9)
    y = block.dpe(x)
    y = y + block.scale1(block.mixer(group_norm(y, block.norm1), bias))
    y = y + block.scale2(block.ffn(group_norm(y, block.norm2)))
    close(block(x, bias), y)


def test_stochastic_depth_drops_both_branches_in_training_only(randomize):
    block, x = randomize(Block(16, drop_path=1 - 1e-9)).double(), rand(4, 16, 6, 6)
    close(block.train()(x), block.dpe(x))
    assert not torch.allclose(block.eval()(x), block.dpe(x))
