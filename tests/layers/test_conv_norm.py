"""A convolution and its BatchNorm against their formulas."""

import pytest
import torch.nn.functional as F

from tests.helpers.formulas import batch_norm, close, rand
from transxnet.layers.conv_norm import ConvNorm


@pytest.mark.parametrize("options", [{}, dict(kernel_size=3, stride=2, padding=1), dict(kernel_size=2, groups=4)])
def test_conv_norm_is_a_convolution_and_batch_norm(randomize, options):
    layer, x = randomize(ConvNorm(8, 12, **options)).double().eval(), rand(2, 8, 6, 5)
    assert layer.conv.bias is None
    conv = {name: value for name, value in options.items() if name != "kernel_size"}
    close(layer(x), batch_norm(F.conv2d(x, layer.conv.weight, **conv), layer.bn))
