"""The layers that are quantized to int8."""

from typing import Any

import numpy as np
import pytest
import timm
import torch

from transxnet.deploy.format_onnx import to_onnx
from transxnet.deploy.format_openvino import convert
from transxnet.deploy.quantizable_model import QuantizableOnnx, QuantizableOpenVino
from transxnet.deploy.reparameterize import reparameterize
from transxnet.deploy.trace import trace

pytest.importorskip("nncf")
SIZE = (64, 64)


def quantized_layers(model: Any) -> list[tuple[str, int]]:
    """The type of each operator with quantized inputs, and its number of output channels."""
    kinds = []
    for op in model.get_ordered_ops():
        inputs = [value.get_source_output().get_node().get_type_name() for value in op.inputs()]
        if "FakeQuantize" in inputs and op.get_type_name() != "FakeQuantize":
            kinds.append((op.get_type_name(), op.get_output_partial_shape(0)[1].get_length()))
    return kinds


@pytest.mark.long
@pytest.mark.parametrize("dynamic", [(), ("batch",)])
def test_dense_convolutions_outside_the_branches_are_quantized(dynamic):
    torch.manual_seed(0)
    depths, dims = (1, 1, 1, 1), (32, 64, 128, 256)
    network = timm.create_model("transxnet_n", depths=depths, embed_dims=dims, img_size=SIZE[0]).eval()
    images = torch.randn(2, 3, *SIZE)
    model = to_onnx(trace(reparameterize(network, SIZE), images, dynamic), ["logits"])
    # Per block: STE's two, and MS-FFN's four branches, input and output; per stage: its patch embedding.
    expected = (2 + 4 + 4) * sum(depths) + len(depths)
    for quantizable in (QuantizableOnnx(model), QuantizableOpenVino(convert(model))):
        dense = {name for name, kind, _ in quantizable.layers() if kind == "Conv"}
        ignored = quantizable.ignored_names()
        assert len(dense.intersection(ignored)) == 4 * sum(depths)  # IDConv's squeeze and expand, OSRA's q and kv
        batches = [(images.numpy(), np.zeros(2))]
        small = quantizable.quantize(batches, batches, 1.0)
        assert small.count_quantized()[0] == expected
    kinds = quantized_layers(small.model)
    assert {kind for kind, _ in kinds} == {"Convolution"}
    assert {channels for _, channels in kinds} >= set(dims)


@pytest.mark.long
def test_nncf_chooses_the_layers_of_other_networks():
    network = timm.create_model("test_resnet", num_classes=5).eval()
    model = to_onnx(trace(network, torch.randn(1, 3, *SIZE), ()), ["logits"])
    assert QuantizableOnnx(model).ignored_names() == QuantizableOpenVino(convert(model)).ignored_names() == []
