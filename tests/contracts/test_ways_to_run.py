"""Copies, checkpointing, compilation, export and autocast give the results of plain PyTorch.

Checked in float64 on the smallest complete network with random weights; outputs, gradients and running
statistics are compared by name.
"""

import copy
import pickle
from collections.abc import Callable

import pytest
import timm
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.helpers.networks import (
    MIXERS,
    SWIN_STYLE_TINY,
    VARIANTS,
)
from tests.helpers.tracing import assert_same, trace
from transxnet import TransXNet, TransXNetFeatures
from transxnet.layers import DPE, Block
from transxnet.layers.block import ResidualBlock
from transxnet.layers.compared import FFN
from transxnet.models import SwinStyle, SwinStyleFeatures

TRAIN = pytest.mark.parametrize("train", [True, False], ids=["train", "eval"])
TINY = dict(depths=(1, 1, 1, 1), embed_dims=(16, 16, 32, 32), num_heads=(1, 1, 2, 2), img_size=64)


@pytest.mark.parametrize(
    "duplicate", [copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model))], ids=["copy", "pickle"]
)
@torch.no_grad()
def test_copies_give_the_same_and_are_independent(tiny, duplicate):
    model, x = tiny(), torch.randn(2, 3, 40, 72, dtype=torch.float64)
    truth = model(x)
    twin = duplicate(model)
    assert torch.equal(twin(x), truth)
    for p in twin.parameters():
        p.add_(1)
    assert torch.equal(model(x), truth)
    assert not torch.equal(twin(x), truth)


@torch.no_grad()
def test_a_state_dict_carries_everything(tiny, images):
    model, other = tiny(), tiny()
    for tensor in other.state_dict().values():
        tensor.fill_(1)
    assert not torch.equal(other(images), model(images))
    other.load_state_dict(model.state_dict())
    assert torch.equal(other(images), model(images))


@pytest.mark.parametrize(
    ("train", "checkpointing"),
    [
        pytest.param(False, False, marks=pytest.mark.long),
        pytest.param(True, False, marks=pytest.mark.long),
        pytest.param(True, True, marks=pytest.mark.long),
    ],
    ids=["eval", "train", "train checkpointed"],
)
def test_compiling_the_whole_graph_changes_nothing(tiny, train, checkpointing):
    torch.compiler.reset()
    x = torch.randn(2, 3, 48, 64, dtype=torch.float64)
    truth = trace(tiny().train(train), x)
    model = tiny().train(train)
    model.set_grad_checkpointing(checkpointing)
    assert_same(trace(model, x, torch.compile(model, backend="aot_eager", fullgraph=True)), truth, atol=1e-10)


@pytest.mark.long
@TRAIN
def test_inductor_compiles_the_network_with_its_backward_pass(tiny, images, train):
    torch.compiler.reset()
    truth = trace(tiny().train(train), images)
    model = tiny().train(train)
    assert_same(trace(model, images, torch.compile(model, fullgraph=True)), truth, atol=1e-8)


@pytest.mark.parametrize(
    ("train", "dynamic"),
    [
        (False, True),
        *(pytest.param(*pair, marks=pytest.mark.long) for pair in ((True, True), (True, False), (False, False))),
    ],
)
def test_an_exported_network_gives_the_same(tiny, images, train, dynamic):
    shapes = ({0: torch.export.Dim("batch")},) if dynamic else None
    exported = torch.export.export(tiny().train(train), (images,), dynamic_shapes=shapes).module()
    x = torch.randn(5, 3, 64, 64, dtype=torch.float64) if dynamic else images
    assert_same(trace(exported, x), trace(tiny().train(train), x), atol=1e-10)


@pytest.mark.long
def test_exported_features_give_the_same():
    model = timm.create_model("transxnet_n", features_only=True, out_indices=(1, 2)).eval()
    x = torch.randn(2, 3, 64, 48)
    exported = torch.export.export(model, (x,)).module()
    for out, truth in zip(exported(x), model(x), strict=True):
        torch.testing.assert_close(out, truth, rtol=0, atol=1e-5)


@TRAIN
def test_channels_last_changes_no_gradient(tiny, images, train):
    truth = trace(tiny().train(train), images)
    model = tiny().train(train).to(memory_format=torch.channels_last)
    actual = trace(model, images, lambda x: model(x.contiguous(memory_format=torch.channels_last)))
    assert_same(actual, truth, atol=1e-9)


@pytest.mark.parametrize(("train", "atol", "cosine"), [(False, 0.02, 0.999), (True, 0.1, 0.98)], ids=["eval", "train"])
def test_autocast_keeps_outputs_and_gradients_close(tiny, train, atol, cosine):
    x = torch.randn(8, 3, 64, 64)
    truth = trace(tiny().float().train(train), x)
    model = tiny().float().train(train)
    with torch.autocast("cpu", torch.bfloat16):
        actual = trace(model, x)
    assert actual["output"].dtype == torch.bfloat16
    assert all(p.dtype == p.grad.dtype == torch.float32 for p in model.parameters())
    torch.testing.assert_close(actual["output"].float(), truth["output"], rtol=0, atol=atol)
    # Not compared one by one: in training some are zero up to rounding, e.g. of a bias before a BatchNorm.
    gradients = [torch.cat([t[name].flatten() for name in truth if "gradient" in name]) for t in (actual, truth)]
    assert F.cosine_similarity(*gradients, dim=0) > cosine


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@torch.no_grad()
def test_half_precision_weights_stay_close(tiny, dtype):
    model, x = tiny(), torch.randn(2, 3, 48, 80, dtype=torch.float64)
    truth = model(x)
    out = model.to(dtype)(x.to(dtype))
    assert out.dtype == dtype
    torch.testing.assert_close(out.double(), truth, rtol=0, atol=0.02)


@pytest.fixture(params=[*VARIANTS, *MIXERS])
def network(request, tiny, randomize) -> Callable[[], nn.Module]:
    """Make a small network in float64 and eval mode: one per variant, and one per token mixer."""
    if request.param in VARIANTS:
        return lambda: tiny(**VARIANTS[request.param])
    return lambda: randomize(SwinStyle(5, token_mixer=request.param, **SWIN_STYLE_TINY)).double().eval()


@pytest.fixture(params=[*VARIANTS, *MIXERS])
def block(request, randomize) -> tuple[Callable[[], ResidualBlock], Tensor]:
    """Make a block in float64, with shifted windows if possible, and an input."""
    if request.param in MIXERS:

        def make() -> ResidualBlock:
            mixer = SwinStyle(token_mixer=request.param, **SWIN_STYLE_TINY).stages[0].blocks[1].mixer
            return randomize(ResidualBlock(16, DPE(16), mixer, FFN(16, 2), layer_scale_init_value=0.1)).double()

        return make, torch.randn(2, 16, 8, 9, dtype=torch.float64)
    options = VARIANTS[request.param]
    ratio = options.get("attn_ratio", 0.5)
    single = {**options, "attn_ratio": ratio if isinstance(ratio, float) else ratio[1]}
    return lambda: randomize(Block(16, 2, sr_ratio=2, **single)).double(), torch.randn(2, 16, 9, 8, dtype=torch.float64)


def test_every_parameter_gets_a_gradient(network, images):
    model = network().train()
    model(images).square().sum().backward()
    assert [name for name, p in model.named_parameters() if p.grad is None or not p.grad.any()] == []


@pytest.mark.parametrize("size", [(33, 65), (8, 5), (96, 160)])
@torch.no_grad()
def test_any_size_passes(network, size):
    out = network()(torch.randn(2, 3, *size, dtype=torch.float64))
    assert out.shape == (2, 5)
    assert out.isfinite().all()


@pytest.mark.parametrize(
    ("form", "options", "taken"),
    [
        *((TransXNetFeatures, TINY | options, (0, 2)) for options in VARIANTS.values()),
        *((SwinStyleFeatures, SWIN_STYLE_TINY | dict(token_mixer=name), (1, 3)) for name in MIXERS),
    ],
    ids=[*VARIANTS, *MIXERS],
)
def test_features_are_the_normalized_stages(images, randomize, form, options, taken):
    dense = randomize(form(taken, **options)).double().eval()
    classifier = {TransXNetFeatures: TransXNet, SwinStyleFeatures: SwinStyle}[form]
    model = randomize(classifier(num_classes=5, **options)).double().eval()
    stages = model.forward_intermediates(images, intermediates_only=True)
    for feature, i in zip(dense(images), taken, strict=True):
        torch.testing.assert_close(feature, dense.norms[str(i)](stages[i]), rtol=0, atol=1e-12)


def test_checkpointing_changes_nothing(network, images):
    truth, model = trace(network().train(), images), network().train()
    model.set_grad_checkpointing()
    assert_same(trace(model, images), truth, atol=0)


def test_channels_last_changes_nothing(network, images):
    truth, model = trace(network().train(), images), network().train().to(memory_format=torch.channels_last)
    actual = trace(model, images, lambda x: model(x.contiguous(memory_format=torch.channels_last)))
    assert_same(actual, truth, atol=1e-9)


def test_autocast_to_bfloat16_stays_close(network, images):
    model, x = network().float(), images.float()
    truth = model(x)
    with torch.autocast("cpu", torch.bfloat16):
        actual = model(x)
    assert actual.dtype == torch.bfloat16
    torch.testing.assert_close(actual.float(), truth, rtol=0, atol=0.03)


@pytest.mark.parametrize(
    "block",
    [
        name if name in ("window", "mixing_block") else pytest.param(name, marks=pytest.mark.long)
        for name in (*VARIANTS, *MIXERS)
    ],
    indirect=True,
)
def test_compiling_a_block_changes_nothing(block):
    torch.compiler.reset()
    make, x = block
    truth, model = trace(make().train(), x), make().train()
    compiled = torch.compile(model, backend="aot_eager", fullgraph=True)
    assert_same(trace(model, x, compiled), truth, atol=1e-10)


@pytest.mark.parametrize("block", VARIANTS, indirect=True)
def test_an_exported_block_gives_the_same_for_any_batch(block):
    make, example = block
    model, x = make().eval(), torch.randn(5, *example.shape[1:], dtype=torch.float64)
    exported = torch.export.export(model, (example,), dynamic_shapes=({0: torch.export.Dim("batch")},)).module()
    torch.testing.assert_close(exported(x), model(x), rtol=0, atol=1e-10)


@pytest.mark.long
@pytest.mark.parametrize("network", MIXERS, indirect=True)
def test_an_exported_mixer_gives_the_same_for_any_batch(network, images):
    model = network()
    exported = torch.export.export(model, (images,), dynamic_shapes=({0: torch.export.Dim("batch")},)).module()
    x = torch.randn(5, 3, 64, 64, dtype=torch.float64)
    torch.testing.assert_close(exported(x), model(x), rtol=0, atol=1e-10)
