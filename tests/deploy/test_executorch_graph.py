"""Programs are rewritten into operators that XNNPACK supports, without changing their outputs."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.export import ExportedProgram, export

from tests.helpers.exports import assert_near
from transxnet.deploy.executorch_graph import fold_constants, rewrite
from transxnet.ops import biased_attention, dynamic_depthwise_conv2d


class DynamicConv(nn.Module):
    """A depthwise convolution with kernels that depend on the input, and one with constant kernels."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(4, 4, 5, padding=2, groups=4)

    def forward(self, x: Tensor) -> Tensor:
        weight = F.adaptive_avg_pool2d(x, 3).sigmoid()
        return dynamic_depthwise_conv2d(self.conv(x), weight, x.mean((2, 3)))


class Attention(nn.Module):
    """Attention of a map to its upper half, with a bias."""

    def __init__(self) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.randn(1, 1, 12, 6))

    def forward(self, x: Tensor) -> Tensor:
        return biased_attention(x, x[:, :, :6], x[:, :, 6:], self.bias)


class SplitWeight(nn.Module):
    """Two convolutions by the parts of a weight and a bias."""

    def __init__(self) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.randn(6, 4, 1, 1)), nn.Parameter(torch.randn(6))

    def forward(self, x: Tensor) -> Tensor:
        (first, second), (bias, other) = self.weight.split([4, 2]), self.bias.split([4, 2])
        return F.conv2d(F.conv2d(x, first, bias), second, other)


def operators(program: ExportedProgram) -> list[str]:
    return [node.target.__name__.split(".")[0] for node in program.graph.nodes if node.op == "call_function"]


def rewritten(module: nn.Module, x: Tensor) -> ExportedProgram:
    torch.manual_seed(0)
    with torch.no_grad():
        program = rewrite(export(module.eval(), (x,), strict=False))
        assert_near(program.module()(x), module(x), rel=1e-5)
    return program


def test_dynamic_convolution_becomes_products():
    found = operators(rewritten(DynamicConv(), torch.randn(1, 4, 9, 12)))
    assert found.count("conv2d") == 1
    assert "bmm" in found


def test_attention_becomes_products_and_a_softmax():
    found = operators(rewritten(Attention(), torch.randn(1, 1, 12, 8)))
    assert "scaled_dot_product_attention" not in found
    assert found.count("bmm") == 2 and "_softmax" in found


def test_group_norm_becomes_averages():
    found = operators(rewritten(nn.GroupNorm(1, 4), torch.randn(1, 4, 9, 12) + 20))
    assert "group_norm" not in found
    assert found.count("mean") == 4


def test_operations_on_weights_are_computed():
    assert operators(rewritten(SplitWeight(), torch.randn(1, 4, 5, 5))) == ["conv2d", "conv2d"]


def test_results_of_operations_on_weights_are_copies():
    module = export(SplitWeight(), (torch.randn(1, 4, 5, 5),), strict=False).module()
    fold_constants(module)
    folded = [tensor for name, tensor in module.named_buffers() if "folded" in name]
    assert len(folded) == 4
    assert all(each.untyped_storage().nbytes() == each.nbytes for each in folded)
