"""Rewritten OpenVINO graphs give the outputs of PyTorch."""

from collections import defaultdict
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.helpers.exports import described
from transxnet.deploy.format_onnx import to_onnx
from transxnet.deploy.format_openvino import OpenVinoFormat, save_model
from transxnet.deploy.format_openvino import convert as to_openvino
from transxnet.deploy.trace import trace

pytest.importorskip("openvino")


class Normalised(nn.Module):
    """A norm before a convolution, one with weights before a split, and one with two groups."""

    def __init__(self):
        super().__init__()
        self.first = nn.GroupNorm(1, 6, affine=False)
        self.second, self.third = nn.GroupNorm(1, 6), nn.GroupNorm(2, 6)
        self.conv = nn.Conv2d(6, 6, 1)
        for weight in self.parameters():
            nn.init.normal_(weight)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(self.first(x))
        one, other = self.second(x).split([2, 4], dim=1)
        return torch.cat([self.conv(self.third(x)), other.sin(), one], dim=1)


class Attention(nn.Module):
    """Attention with its own keys, values and bias."""

    def __init__(self, keys: int, biased: bool):
        super().__init__()
        self.k, self.v = nn.Parameter(torch.randn(1, 2, keys, 4)), nn.Parameter(torch.randn(1, 2, keys, 4))
        self.bias = nn.Parameter(torch.randn(1, 2, 30, keys)) if biased else None

    def forward(self, x: Tensor) -> Tensor:
        q = x.flatten(2).unflatten(1, (2, 4)).transpose(2, 3)
        k, v = (t.expand(x.shape[0], -1, -1, -1) for t in (self.k, self.v))
        return F.scaled_dot_product_attention(q, k, v, self.bias).transpose(2, 3).reshape(x.shape)


def convert(module: nn.Module, x: Tensor, folder: Path) -> tuple[dict[str, list[list[int]]], Tensor]:
    """The output shapes of each operator type in a module's graph, and the graph's output for x."""
    model = to_openvino(to_onnx(trace(module.eval(), x, ()), ["y"], queries_last=True))
    shapes = defaultdict(list)
    for op in model.get_ordered_ops():
        shapes[op.get_type_name()].append(next(list(output.shape) for output in op.outputs()))
    save_model(model, described().to_texts(), "float32", folder / "graph.xml")
    (out,) = OpenVinoFormat().open(folder / "graph.xml", "float32")(x)
    return shapes, out


@torch.no_grad()
def test_norms_before_convolutions_keep_the_layout(tmp_path):
    torch.manual_seed(0)
    module, x = Normalised(), torch.randn(2, 6, 5, 7) * 3 + 1
    shapes, out = convert(module, x, tmp_path)
    assert sorted(map(len, shapes["MVN"])) == [3, 3, 4]  # one of them precedes a convolution
    torch.testing.assert_close(out, module(x), rtol=0, atol=2e-5)


@torch.no_grad()
@pytest.mark.parametrize(("keys", "biased", "computed"), [(7, True, 8), (8, True, 8), (7, False, 7)])
def test_attention_over_keys_by_queries(tmp_path, keys, biased, computed):
    torch.manual_seed(0)
    module, x = Attention(keys, biased), torch.randn(3, 8, 5, 6)
    shapes, out = convert(module, x, tmp_path)
    assert shapes["Softmax"] == [[3, 2, computed, 30]]
    torch.testing.assert_close(out, module(x), rtol=0, atol=2e-5)
