"""The dynamic position encoding against its formula."""

from tests.helpers.formulas import close, depthwise, rand
from transxnet.layers import DPE


def test_dpe_adds_a_depthwise_convolution(randomize):
    dpe, x = randomize(DPE(6, kernel_size=5)).double(), rand(2, 6, 7, 4)
    close(dpe(x), x + depthwise(x, dpe.dwconv.weight, dpe.dwconv.bias))
    assert DPE(6).dwconv.kernel_size == (7, 7)
