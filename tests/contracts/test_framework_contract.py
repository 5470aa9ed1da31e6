"""The networks work in packages that build on timm and PyTorch. The extra "frameworks" installs them."""

import copy

import pytest
import timm
import torch
from torch.utils.flop_counter import FlopCounterMode
from torchvision.models.detection import RetinaNet
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.backbone_utils import BackboneWithFPN

import transxnet  # noqa: F401, registers the networks


@pytest.fixture(scope="module")
def model() -> torch.nn.Module:
    """transxnet_n with five classes, in eval mode."""
    return timm.create_model("transxnet_n", num_classes=5, depths=(1, 1, 1, 1)).eval()


@pytest.fixture
def image() -> torch.Tensor:
    """One 64x64 image."""
    return torch.randn(1, 3, 64, 64)


def needs(package: str):
    return pytest.importorskip(package, reason="extra frameworks")


@pytest.mark.parametrize(("kind", "in_channels"), [("Unet", 3), ("FPN", 4)])
@torch.no_grad()
def test_segmentation_models_use_it_as_encoder(kind, in_channels):
    smp = needs("segmentation_models_pytorch")
    network = getattr(smp, kind)("tu-transxnet_n", encoder_weights=None, in_channels=in_channels, classes=2).eval()
    assert network.encoder.out_channels == [in_channels, 0, 32, 64, 128, 256]
    assert network(torch.randn(1, in_channels, 64, 96)).shape == (1, 2, 64, 96)


@torch.no_grad()
def test_transformers_use_it_as_backbone(image):
    transformers = needs("transformers")
    config = transformers.TimmBackboneConfig(backbone="transxnet_n", out_indices=(1, 3), use_pretrained_backbone=False)
    backbone = transformers.TimmBackbone(config).eval()
    assert backbone.channels == [64, 256]
    assert [f.shape for f in backbone(image).feature_maps] == [(1, 64, 8, 8), (1, 256, 2, 2)]


@torch.no_grad()
def test_transformers_wrap_the_classifier(image):
    transformers = needs("transformers")
    config = transformers.TimmWrapperConfig(architecture="transxnet_n", num_labels=3)
    classifier = transformers.TimmWrapperForImageClassification(config).eval()
    assert torch.equal(classifier(image).logits, classifier.timm_model(image))
    features = transformers.TimmWrapperModel(config).eval()(image).last_hidden_state
    assert features.shape == (1, 256, 2, 2)


def test_torchvision_detects_on_its_features():
    body = timm.create_model("transxnet_n", features_only=True, feature_cls="list")
    layers = {f"stages_{i}": str(i) for i in (1, 2, 3)}
    backbone = BackboneWithFPN(body, layers, body.feature_info.channels()[1:], 16)
    sizes = tuple((size,) for size in (16, 32, 64, 128))
    anchors = AnchorGenerator(sizes, ((1.0,),) * len(sizes))
    detector = RetinaNet(backbone, 3, anchor_generator=anchors, min_size=64, max_size=96)
    targets = [{"boxes": torch.tensor([[4.0, 4.0, 40.0, 40.0]]), "labels": torch.tensor([1])}] * 2
    losses = detector([torch.rand(3, 64, 80), torch.rand(3, 80, 64)], targets)
    sum(losses.values()).backward()
    assert body["stages_0"].patch_embed.conv.weight.grad.any()


def test_grad_cam_explains_the_last_stage(model, image):
    targets = needs("pytorch_grad_cam.utils.model_targets")
    with needs("pytorch_grad_cam").GradCAM(model, [model.stages[3].blocks[-1]]) as explain:
        heat = explain(image, [targets.ClassifierOutputTarget(1)])
    assert heat.shape == (1, 64, 64)


def test_captum_attributions_sum_to_the_change_of_the_output(model, image):
    attr = needs("captum.attr")
    attributions = attr.IntegratedGradients(model).attribute(image, target=1, n_steps=32)
    with torch.no_grad():
        change = (model(image) - model(torch.zeros_like(image)))[0, 1]
    torch.testing.assert_close(attributions.sum().float(), change, rtol=0.1, atol=1e-3)
    layer = attr.LayerGradCam(model, model.stages[2].blocks[-1]).attribute(image, target=1)
    assert layer.shape == (1, 1, 4, 4)


@torch.no_grad()
def test_torchao_quantizes_the_classifier(model, image):
    quantization = needs("torchao.quantization")
    quantized = copy.deepcopy(model)
    quantization.quantize_(quantized, quantization.Int8WeightOnlyConfig())
    assert type(quantized.head.fc.weight.data) is not torch.Tensor
    scale = model(image).abs().max().item()
    torch.testing.assert_close(quantized(image), model(image), rtol=0, atol=0.05 * scale)


@pytest.mark.long
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("counter", ["fvcore", "ptflops"])
def test_flop_counters_see_all_convolutions(model, counter):
    x = torch.randn(1, 3, 64, 64)
    with FlopCounterMode(display=False) as truth:
        model(x)
    convolutions = truth.get_flop_counts()["Global"][torch.ops.aten.convolution] / 2
    if counter == "fvcore":
        analysis = needs("fvcore.nn").FlopCountAnalysis(model, x).unsupported_ops_warnings(False)
        assert analysis.by_operator()["conv"] == convolutions
    else:
        options = dict(as_strings=False, print_per_layer_stat=False, backend="aten")
        total, parameters = needs("ptflops").get_model_complexity_info(model, (3, 64, 64), **options)
        assert parameters == sum(p.numel() for p in model.parameters())
        assert total >= convolutions
        assert total == pytest.approx(convolutions, rel=0.2), "it also counts activations and norms"
