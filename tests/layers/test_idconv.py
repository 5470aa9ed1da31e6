"""IDConv against its formula, sample by sample."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from tests.helpers.formulas import batch_norm, close, pointwise, rand
from transxnet.layers import IDConv


def pool(x: Tensor, size: int) -> Tensor:
    """Adaptive average pooling of one sample: cell i averages rows floor(iH/size) to ceil((i+1)H/size)."""
    H, W = x.shape[1:]
    rows = [slice(i * H // size, -(-(i + 1) * H // size)) for i in range(size)]
    columns = [slice(i * W // size, -(-(i + 1) * W // size)) for i in range(size)]
    return torch.stack([torch.stack([x[:, r, c].mean((1, 2)) for c in columns], -1) for r in rows], -2)


@pytest.mark.parametrize("num_groups", [2, 4])
@pytest.mark.parametrize(("height", "width"), [(8, 9), (3, 5), (1, 1), (14, 14)])
def test_idconv_mixes_its_bank_for_each_sample(randomize, num_groups, height, width):
    conv, x = randomize(IDConv(8, 7, num_groups)).double().eval(), rand(3, 8, height, width)

    def shares(pooled: Tensor) -> Tensor:
        hidden = F.gelu(batch_norm(pointwise(pooled[None], conv.squeeze.conv), conv.squeeze.bn))
        logits = pointwise(hidden, conv.expand)[0].reshape(num_groups, 8, *pooled.shape[1:])
        return logits.exp() / logits.exp().sum(0)

    for sample, out in zip(x, conv(x), strict=True):
        weight = (shares(pool(sample, 7)) * conv.weight).sum(0)
        bias = (shares(sample.mean((1, 2))[:, None, None])[..., 0, 0] * conv.bias).sum(0)
        close(out, F.conv2d(sample, weight[:, None], bias, padding=3, groups=8))


def test_idconv_shares_add_up_to_one_over_the_groups(randomize):
    shares = randomize(IDConv(8, num_groups=3)).double().eval().attention(rand(2, 8, 7, 7))
    assert shares.shape == (2, 3, 8, 7, 7)
    assert (shares > 0).all()
    close(shares.sum(1), torch.ones(2, 8, 7, 7, dtype=torch.float64))


@pytest.mark.parametrize("dim", [32, 96])
def test_idconv_parameter_count_matches_the_paper(dim):
    """Sec. III-B1: C^2/r (G + 1) + G C K^2, i.e. 1.25 C^2 + 196 C; the paper does not count BatchNorm and biases."""
    conv = IDConv(dim, kernel_size=7, num_groups=4, reduction_ratio=4)
    count = conv.weight.numel() + conv.squeeze.conv.weight.numel() + conv.expand.weight.numel()
    assert count == 1.25 * dim**2 + 196 * dim
    uncounted = conv.bias.numel() + conv.expand.bias.numel() + sum(p.numel() for p in conv.squeeze.bn.parameters())
    assert count + uncounted == sum(p.numel() for p in conv.parameters())


def test_idconv_batch_norm_sees_the_pooled_input_then_the_mean(randomize):
    conv, x = randomize(IDConv(8)).double().train(), rand(3, 8, 9, 10)
    bn = conv.squeeze.bn
    mean, var = bn.running_mean.clone(), bn.running_var.clone()
    for pooled in (torch.stack([pool(sample, 7) for sample in x]), x.mean((2, 3), keepdim=True)):
        squeezed = pointwise(pooled, conv.squeeze.conv).transpose(0, 1).flatten(1)
        mean = 0.9 * mean + 0.1 * squeezed.mean(1)
        var = 0.9 * var + 0.1 * squeezed.var(1, unbiased=True)
    conv(x)
    assert bn.num_batches_tracked == 2
    close(bn.running_mean, mean.detach())
    close(bn.running_var, var.detach())


def test_idconv_banks_start_from_a_truncated_normal():
    conv = IDConv(256, num_groups=4)
    assert conv.weight.std().item() == pytest.approx(0.02, abs=1e-3)
    assert conv.bias.std().item() == pytest.approx(0.02, abs=3e-3)
