"""STE and D-Mixer against their formulas."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from tests.helpers.formulas import batch_norm, close, depthwise, pointwise, rand
from transxnet.analysis.cost import count
from transxnet.layers import STE, DMixer


@pytest.mark.parametrize(("dim", "squeezed"), [(8, 16), (128, 16), (256, 32), (448, 56)])
def test_ste_squeezes_to_an_eighth_but_never_below_sixteen(randomize, dim, squeezed):
    ste, x = randomize(STE(dim)).double().eval(), rand(2, dim, 4, 3)
    y = batch_norm(F.gelu(depthwise(x, ste.dwconv.weight, ste.dwconv.bias)), ste.bn1)
    y = batch_norm(F.gelu(pointwise(y, ste.squeeze)), ste.bn2)
    assert y.shape[1] == squeezed
    close(ste(x), x + batch_norm(pointwise(y, ste.expand), ste.bn3))


@pytest.mark.parametrize(("dim", "r"), [(128, 8), (448, 8), (448, 4)])
def test_ste_cost_matches_the_paper(dim, r):
    """Sec. III-B3: HWC (2 C/r + 9), with C/r at least 16; a 1x1 convolution costs HWC^2."""

    def multiply_adds(module: nn.Module) -> int:
        return count(module, 14, 7, in_chans=dim).multiply_adds

    assert multiply_adds(STE(dim, r)) == 14 * 7 * dim * (2 * dim // r + 9)
    assert multiply_adds(DMixer(dim, token_enhancer="conv1x1").ste) == 14 * 7 * dim**2


def test_dmixer_runs_idconv_and_osra_on_halves_and_ste_on_both(randomize):
    mixer, x = randomize(DMixer(16, num_heads=2, sr_ratio=2)).double().eval(), rand(2, 16, 6, 6)
    bias = rand(1, 2, 36, 9)
    close(mixer(x, bias), mixer.ste(torch.cat([mixer.idconv(x[:, :8]), mixer.osra(x[:, 8:], bias)], 1)))


def test_last_channels_go_to_attention_for_any_ratio(randomize):
    mixer, x = randomize(DMixer(16, 2, 2, attn_ratio=0.25)).double().eval(), torch.randn(2, 16, 6, 6).double()
    truth = mixer.ste(torch.cat([mixer.idconv(x[:, :12]), mixer.osra(x[:, 12:])], 1))
    torch.testing.assert_close(mixer(x), truth, rtol=0, atol=1e-12)


@pytest.mark.long
@pytest.mark.skipif(
    torch.__version__.startswith("2.11."), reason="on CPUs, its Inductor can't lower convolutions with computed kernels"
)
def test_inductor_compiles_the_token_mixer(randomize):
    torch.compiler.reset()
    mixer, x = randomize(DMixer(16, sr_ratio=2)).eval(), torch.randn(2, 16, 6, 6)
    with torch.no_grad():
        torch.testing.assert_close(torch.compile(mixer, fullgraph=True)(x), mixer(x), rtol=0, atol=1e-5)
