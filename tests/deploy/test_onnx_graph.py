"""Translations and rewrites of ONNX graphs: fewer operators, the same outputs."""

from collections import Counter

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from transxnet.deploy.format_onnx import OnnxSession, to_onnx
from transxnet.deploy.trace import trace

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxscript")
pytest.importorskip("onnxruntime")


class Attention(nn.Module):
    """Attention over the positions of a feature map, with or without a bias."""

    def __init__(self, biased: bool):
        super().__init__()
        self.bias = nn.Parameter(torch.randn(1, 2, 30, 30)) if biased else None

    def forward(self, x: Tensor) -> Tensor:
        q = x.flatten(2).unflatten(1, (2, 4)).transpose(2, 3)
        return F.scaled_dot_product_attention(q, q + 1, q - 1, self.bias).transpose(2, 3).reshape(x.shape)


class SplitWeights(nn.Module):
    """Split weights become constants, and a split into one part disappears."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(6, 8, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        (x,) = x.split(8, dim=1)
        first, second = self.weight.split([2, 4])
        return torch.cat([F.conv2d(x, second), F.conv2d(x, first)], dim=1)


def converted(module: nn.Module, x: Tensor, folder, **options) -> tuple[Counter, Tensor]:
    """The number of operators of each type in the graph, and the output of ONNX Runtime."""
    model = to_onnx(trace(module.eval(), x, ()), ["y"], **options)
    onnx.save(model, folder / "graph.onnx")
    (out,) = OnnxSession(folder / "graph.onnx")(x)
    return Counter(node.op_type for node in model.graph.node), out


@torch.no_grad()
@pytest.mark.parametrize("queries_last", [False, True])
@pytest.mark.parametrize("biased", [False, True])
def test_attention_scales_keys_only(tmp_path, biased, queries_last):
    module, x = Attention(biased), torch.randn(2, 8, 5, 6)
    operators, out = converted(module, x, tmp_path, queries_last=queries_last)
    assert (operators["MatMul"], operators["Softmax"]) == (2, 1)
    assert operators["Mul"] == 1
    torch.testing.assert_close(out, module(x), rtol=0, atol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize(("affine", "products"), [(False, 0), (True, 1)])
@pytest.mark.parametrize("groups", [1, 2])
def test_group_norm_without_weights_costs_no_product(tmp_path, groups, affine, products):
    module, x = nn.GroupNorm(groups, 6, affine=affine), torch.randn(2, 6, 4, 5) * 3 + 1
    for weight in module.parameters():
        nn.init.normal_(weight)
    operators, out = converted(module, x, tmp_path)
    assert operators["InstanceNormalization"] == 1
    assert (operators["Mul"], operators["Add"]) == (products, products)
    torch.testing.assert_close(out, module(x), rtol=0, atol=1e-5)


@torch.no_grad()
def test_splits_of_weights_are_folded(tmp_path):
    module, x = SplitWeights(), torch.randn(2, 8, 4, 5)
    operators, out = converted(module, x, tmp_path)
    assert operators["Split"] == 0
    torch.testing.assert_close(out, module(x), rtol=0, atol=1e-5)
