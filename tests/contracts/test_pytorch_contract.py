"""The networks work with PyTorch's tools: tracing, torch.fx, torch.func, FLOP counters, compilation and ONNX.

Checked on the smallest complete network with random weights, without any setting by the user.
"""

import pytest
import timm
import torch
from torch.func import functional_call, grad, hessian, jvp, stack_module_state, vmap
from torch.utils.flop_counter import FlopCounterMode
from torchvision.models._utils import IntermediateLayerGetter
from torchvision.models.detection.backbone_utils import BackboneWithFPN
from torchvision.models.feature_extraction import create_feature_extractor

from tests.helpers.networks import SWIN_STYLE_TINY
from transxnet.analysis.cost import count
from transxnet.models import SwinStyle

ignore_deprecation = pytest.mark.filterwarnings(
    "ignore:.*is deprecated:FutureWarning", "ignore:.*is deprecated:DeprecationWarning"
)
OTHER_SIZE = (2, 3, 96, 40)


def like(x: torch.Tensor, *shape: int) -> torch.Tensor:
    return torch.randn(*shape, dtype=x.dtype)


@ignore_deprecation
@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning")  # by PyTorch's own check in group_norm
@pytest.mark.parametrize("grad_enabled", [True, False])
def test_traced_network_gives_the_same_for_any_size(tiny, images, grad_enabled):
    model = tiny()
    with torch.set_grad_enabled(grad_enabled):
        traced = torch.jit.trace(model, images)  # runs its own check
    other = like(images, *OTHER_SIZE)
    for x in (images, other):
        torch.testing.assert_close(traced(x), model(x), rtol=0, atol=1e-10)


@pytest.mark.parametrize("train", [True, False], ids=["train", "eval"])
def test_symbolically_traced_network_gives_the_same(tiny, images, train):
    model, twin = tiny().train(train), tiny().train(train)
    traced = torch.fx.symbolic_trace(twin)
    for x in (images, like(images, *OTHER_SIZE)):
        assert torch.equal(traced(x), model(x))
    model(images).sum().backward()
    traced(images).sum().backward()
    for (name, p), q in zip(model.named_parameters(), traced.parameters(), strict=True):
        torch.testing.assert_close(p.grad, q.grad, rtol=1e-10, atol=1e-10, msg=lambda m, name=name: f"{name}: {m}")


def test_swin_style_network_is_symbolically_traced(images, randomize):
    model = randomize(SwinStyle(5, **SWIN_STYLE_TINY)).double().eval()
    traced = torch.fx.symbolic_trace(model)
    for x in (images, like(images, *OTHER_SIZE)):
        assert torch.equal(traced(x), model(x))


@ignore_deprecation
@pytest.mark.parametrize("train", [True, False], ids=["train", "eval"])
def test_scripted_network_gives_the_same_for_any_size(tiny, images, train, tmp_path):
    model, twin = tiny().train(train), tiny().train(train)
    torch.jit.script(twin).save(tmp_path / "scripted.pt")
    scripted = torch.jit.load(tmp_path / "scripted.pt")
    for x in (images, like(images, *OTHER_SIZE)):
        torch.testing.assert_close(scripted(x), model(x), rtol=0, atol=1e-10)


def test_feature_extractor_returns_stages_and_blocks(tiny, images):
    model = tiny()
    nodes = {f"stages.{i}": f"stage{i}" for i in range(4)} | {"stages.2.blocks.0.mixer": "mixer"}
    features = create_feature_extractor(model, nodes)(images)
    for i, stage in enumerate(model.forward_intermediates(images, intermediates_only=True)):
        assert torch.equal(features[f"stage{i}"], stage)
    assert features["mixer"].shape == features["stage2"].shape


def test_torchvision_builds_a_pyramid_from_named_stages():
    body = timm.create_model("transxnet_n", features_only=True, feature_cls="list").eval()
    x = torch.randn(1, 3, 64, 64)
    assert [f.shape for f in IntermediateLayerGetter(body, {"stages_1": "a"})(x).values()] == [(1, 64, 8, 8)]
    layers = {f"stages_{i}": str(i) for i in range(4)}
    pyramid = BackboneWithFPN(body, layers, body.feature_info.channels(), 16)(x)
    assert [tuple(f.shape) for f in pyramid.values()] == [(1, 16, side, side) for side in (16, 8, 4, 2, 1)]


def test_gradients_of_samples_match_autograd(tiny, images):
    model = tiny()
    parameters = dict(model.named_parameters())

    def loss(values, image):
        return functional_call(model, values, (image[None],)).square().sum()

    gradients = vmap(grad(loss), (None, 0))(parameters, images)
    for i in range(2):
        truth = torch.autograd.grad(model(images[i : i + 1]).square().sum(), list(parameters.values()))
        for name, want in zip(parameters, truth, strict=True):
            torch.testing.assert_close(gradients[name][i], want, rtol=1e-7, atol=1e-8, msg=name)


@pytest.mark.parametrize("shape", [(2, 3, 64, 64), OTHER_SIZE])
@torch.no_grad()
def test_an_ensemble_is_a_vmap_over_stacked_weights(tiny, images, shape):
    models = [tiny(), tiny()]
    for p in models[1].parameters():
        p.mul_(0.9)
    x = like(images, *shape)
    state = stack_module_state(models)
    outputs = vmap(lambda *values: functional_call(models[0], values, (x,)))(*state)
    for model, output in zip(models, outputs, strict=True):
        torch.testing.assert_close(output, model(x), rtol=0, atol=1e-10)


@pytest.mark.parametrize("frozen", [False, True])
def test_forward_mode_matches_finite_differences(tiny, images, frozen):
    model = tiny().requires_grad_(not frozen)
    direction = torch.randn_like(images)
    output, tangent = jvp(model, (images,), (direction,))
    torch.testing.assert_close(output, model(images), rtol=0, atol=1e-10)
    step = 1e-5
    difference = (model(images + step * direction) - model(images - step * direction)) / (2 * step)
    torch.testing.assert_close(tangent, difference, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("frozen", [False, True])
def test_second_derivatives_match_finite_differences(tiny, images, frozen):
    model = tiny().requires_grad_(not frozen)
    direction = torch.randn_like(images)

    def slope(x):
        (gradient,) = torch.autograd.grad(model(x).square().sum(), x, create_graph=True)
        return gradient

    x = images.clone().requires_grad_()
    (product,) = torch.autograd.grad((slope(x) * direction).sum(), x)
    step = 1e-5
    ends = [slope((images + sign * step * direction).requires_grad_()).detach() for sign in (1, -1)]
    torch.testing.assert_close(product, (ends[0] - ends[1]) / (2 * step), rtol=1e-3, atol=1e-4)
    if not frozen:
        _, forward_over_reverse = jvp(grad(lambda y: model(y).square().sum()), (images,), (direction,))
        torch.testing.assert_close(forward_over_reverse, product, rtol=1e-7, atol=1e-8)


def test_hessian_of_the_classifier_is_exact(tiny, images):
    model = tiny()

    def loss(bias):
        return functional_call(model, {"head.fc.bias": bias}, (images,)).square().sum()

    second = hessian(loss)(model.head.fc.bias.detach())
    torch.testing.assert_close(second, 4 * torch.eye(5, dtype=images.dtype), rtol=0, atol=1e-10)


@pytest.mark.parametrize("grad_enabled", [True, False])
@pytest.mark.parametrize("make", ["tiny", "swin style"])
def test_flop_counter_sees_all_convolutions(tiny, images, make, grad_enabled):
    model = (tiny() if make == "tiny" else SwinStyle(5, **SWIN_STYLE_TINY)).float().eval()
    with FlopCounterMode(display=False) as counter, torch.set_grad_enabled(grad_enabled):
        model(images.float())
    flops = counter.get_flop_counts()["Global"]
    linear = flops[torch.ops.aten.convolution] + flops[torch.ops.aten.addmm]
    cost = count(model, 64, 64)
    assert linear == 2 * len(images) * cost.multiply_adds
    assert counter.get_total_flops() == 2 * len(images) * (cost.multiply_adds + cost.attention_multiply_adds)


@pytest.mark.long
def test_compiling_for_many_sizes_compiles_three_times(tiny, images):
    torch.compiler.reset()
    graphs = []

    def backend(graph, inputs):
        graphs.append(graph)
        return graph

    model = tiny()
    compiled = torch.compile(model, backend=backend)
    with torch.no_grad():
        for height, width in [(64, 64), (96, 96), (128, 128), (160, 160), (192, 192), (64, 96), (96, 64), (128, 160)]:
            x = like(images, 2, 3, height, width)
            torch.testing.assert_close(compiled(x), model(x), rtol=0, atol=1e-10)
    assert len(graphs) <= 3


@pytest.mark.long
def test_exported_onnx_gives_the_same(tiny, images, tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime", reason="extra export")
    pytest.importorskip("onnxscript", reason="extra export")
    model, x = tiny().float(), images.float()
    torch.onnx.export(model, (x,), tmp_path / "model.onnx", dynamo=True, verbose=False)
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx", providers=["CPUExecutionProvider"])
    (output,) = session.run(None, {session.get_inputs()[0].name: x.numpy()})
    torch.testing.assert_close(torch.from_numpy(output), model(x), rtol=0, atol=1e-4)
