"""What of a network becomes 8-bit integers."""

from typing import Any

import pytest
import timm
import torch

from transxnet.deploy import format_openvino
from transxnet.deploy.exportable import inference_form
from transxnet.deploy.quantize import left_in_floating_point
from transxnet.deploy.trace import trace

nncf = pytest.importorskip("nncf")
SIZE = (64, 64)


def quantised(model: Any) -> list[tuple[str, int]]:
    """The kind of each operator that has quantised inputs, and how many channels its output has."""
    kinds = []
    for op in model.get_ordered_ops():
        inputs = [value.get_source_output().get_node().get_type_name() for value in op.inputs()]
        if "FakeQuantize" in inputs and op.get_type_name() != "FakeQuantize":
            kinds.append((op.get_type_name(), op.get_output_partial_shape(0)[1].get_length()))
    return kinds


@pytest.mark.parametrize("dynamic", [(), pytest.param(("batch",), marks=pytest.mark.long)])
def test_the_dense_convolutions_outside_of_the_branches_are_quantised(dynamic):
    torch.manual_seed(0)
    depths, dims = (1, 1, 1, 1), (32, 64, 128, 256)
    network = timm.create_model("transxnet_n", depths=depths, embed_dims=dims, img_size=SIZE[0]).eval()
    images = torch.randn(2, 3, *SIZE)
    model = format_openvino.convert(trace(inference_form(network, SIZE), images, dynamic), ["logits"])
    left = left_in_floating_point(model)
    assert len(left.names) == 4 * sum(depths)  # IDConv's squeeze and expand, OSRA's q and kv
    small = nncf.quantize(model, nncf.Dataset([images.numpy()]), ignored_scope=left, subset_size=1)
    kinds = quantised(small)
    assert {kind for kind, _ in kinds} == {"Convolution"}
    # A block: STE's two, MS-FFN's four branches in and out; before each stage its patch embedding.
    assert len(kinds) == (2 + 4 + 4) * sum(depths) + len(depths)
    assert {channels for _, channels in kinds} >= set(dims)


def test_of_other_networks_the_package_chooses():
    network = timm.create_model("test_resnet", num_classes=5).eval()
    model = format_openvino.convert(trace(network, torch.randn(1, 3, *SIZE), ()), ["logits"])
    left = left_in_floating_point(model)
    assert not left.names
    assert not left.types
