"""Each inference layer against the trained layer that it replaces, in float64, on all code paths."""

import pytest
import torch
from torch import Tensor

from transxnet import reparameterize
from transxnet.deploy import inference_layers
from transxnet.deploy.inference_layers import (
    InferenceBlock,
    InferenceIDConv,
    InferenceOSRA,
    InferenceReduction,
    InferenceSTE,
)
from transxnet.layers import OSRA, STE, Block, IDConv, LayerScale
from transxnet.layers.osra import OverlappingSpatialReduction


@pytest.fixture(params=["overwriting", "as on GPUs"])
def x(request, monkeypatch) -> Tensor:
    """Features with 16 channels; layers work in place or not, as on a GPU or under a compiler."""
    if request.param == "as on GPUs":
        monkeypatch.setattr(inference_layers, "may_overwrite", lambda x: False)
        monkeypatch.setattr(inference_layers, "runs_branch_by_branch", lambda x: False)
    return torch.randn(2, 16, 9, 11, dtype=torch.float64)


@pytest.fixture
def trained(randomize):
    return lambda layer: randomize(layer).double().eval()


def close(actual: Tensor, truth: Tensor) -> None:
    torch.testing.assert_close(actual, truth, rtol=0, atol=1e-9 * truth.abs().max().item())


@torch.no_grad()
@pytest.mark.parametrize("num_groups", [2, 3])
def test_idconv(trained, x, num_groups):
    layer = trained(IDConv(16, num_groups=num_groups))
    close(InferenceIDConv(layer)(x), layer(x))


@torch.no_grad()
@pytest.mark.parametrize("sr_ratio", [1, 4])
def test_osra(trained, x, sr_ratio):
    layer = trained(OSRA(16, num_heads=2, sr_ratio=sr_ratio))
    keys = -(-9 // sr_ratio) * -(-11 // sr_ratio)
    bias = torch.randn(1, 2, 99, keys, dtype=torch.float64)
    close(InferenceOSRA(layer)(x, bias), layer(x, bias))


@torch.no_grad()
def test_spatial_reduction(trained, x):
    layer = trained(OverlappingSpatialReduction(16, 2))
    close(InferenceReduction(layer)(x), layer(x))


@torch.no_grad()
def test_ste_branch_with_layer_scale(trained, x):
    layer, scale = trained(STE(16)), trained(LayerScale(16))
    branch = InferenceSTE(layer, scale)(x)
    close(branch + x * scale.weight[:, None, None], scale(layer(x)))


@torch.no_grad()
@pytest.mark.parametrize("ffn_scales", [(1, 3, 5, 7), (3,)])
def test_block(trained, x, ffn_scales):
    block = trained(Block(16, num_heads=2, sr_ratio=4, ffn_scales=ffn_scales))
    before = x.clone()
    close(InferenceBlock(block)(x), block(x))
    assert torch.equal(x, before)


@torch.no_grad()
def test_code_paths_of_compilers_and_gpus_give_the_same(tiny, images, monkeypatch):
    model = tiny()
    for name, tensor in model.named_parameters():
        if name.endswith(("scale1.weight", "scale2.weight")):
            tensor[::3] = 0
    reparameterized, truth = reparameterize(model), model(images)
    monkeypatch.setattr(inference_layers, "may_overwrite", lambda x: False)
    close(reparameterized(images), truth)
    monkeypatch.setattr(inference_layers, "runs_branch_by_branch", lambda x: False)
    close(reparameterized(images), truth)
