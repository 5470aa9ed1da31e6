import pytest
import timm
import torch

from transxnet.heads.create_heads import create_detector, create_segmenter
from transxnet.training.freezing import FrozenPart
from transxnet.utils.errors import UserError


def trained_names(model):
    return {name for name, weight in model.named_parameters() if weight.requires_grad}


@pytest.mark.parametrize("name", ["transxnet_n", "resnet18", "swin_tiny_patch4_window7_224"])
def test_backbone_leaves_the_classifier(name):
    model = timm.create_model(name, num_classes=3)
    FrozenPart(model, "backbone").apply(0)
    assert {id(w) for w in model.get_classifier().parameters()} == {
        id(w) for w in model.parameters() if w.requires_grad
    }


@pytest.mark.parametrize(
    ("name", "first"), [("transxnet_n", "stages.2"), ("resnet18", "layer3"), ("convnext_atto", "stages.2")]
)
def test_stages_freeze_the_stem_and_the_first_stages(name, first):
    model = timm.create_model(name, num_classes=3)
    FrozenPart(model, "stages=2").apply(0)
    names = [weight for weight, _ in model.named_parameters()]
    start = next(i for i, weight in enumerate(names) if weight.startswith(first))
    assert trained_names(model) == set(names[start:])


@pytest.mark.parametrize("body", ["transxnet_n", "convnext_atto"])
@pytest.mark.parametrize("make", [lambda body: create_detector("retinanet", body, 2), lambda b: create_segmenter(b, 2)])
def test_heads_of_detectors_and_segmenters_stay_trainable(make, body):
    model = make(body)
    FrozenPart(model, "backbone").apply(0)
    assert not any(name.startswith("backbone.body.") for name in trained_names(model))
    assert any(name.startswith("backbone.fpn.") for name in trained_names(model))
    model = make(body)
    FrozenPart(model, "stages=1").apply(0)
    assert {n for n in dict(model.named_parameters()) if n.startswith("backbone.fpn.")} <= trained_names(model)
    assert len([n for n in trained_names(model) if n.startswith("backbone.body.")]) > 0


def test_frozen_norms_keep_their_statistics_until_unfrozen():
    model = timm.create_model("resnet18", num_classes=3).train()
    part = FrozenPart(model, "backbone", epochs=1)
    part.apply(0)
    before = model.bn1.running_mean.clone()
    model(torch.randn(2, 3, 32, 32)).sum().backward()
    assert torch.equal(model.bn1.running_mean, before)
    assert model.conv1.weight.grad is None
    part.apply(1)
    model(torch.randn(2, 3, 32, 32)).sum().backward()
    assert not torch.equal(model.bn1.running_mean, before)
    assert model.conv1.weight.grad is not None


@pytest.mark.parametrize("part", ["head", "stages", "stages=0", "stages=9", "stages=x"])
def test_other_parts_are_rejected(part):
    with pytest.raises(UserError, match="stages=N"):
        FrozenPart(timm.create_model("resnet18"), part)


def test_frozen_backbone_trains_with_one_image():
    model = timm.create_model("transxnet_n", depths=(1, 1, 1, 1), num_classes=3, img_size=64).train()
    with pytest.raises(ValueError, match="more than 1 value per channel"):
        model(torch.randn(1, 3, 64, 64))
    FrozenPart(model, "backbone").apply(0)
    model(torch.randn(1, 3, 64, 64)).sum().backward()
    assert model.get_classifier().weight.grad is not None
