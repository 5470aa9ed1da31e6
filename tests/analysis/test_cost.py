import pytest
import timm
import torch
from torch import nn

import transxnet
from transxnet.analysis.cost import count, info
from transxnet.utils.errors import UserError


@pytest.mark.parametrize(
    ("name", "parameters", "multiply_adds"),
    [
        ("transxnet_t", 12_834_808, 1.8e9),
        *(
            pytest.param(*row, marks=pytest.mark.long)
            for row in (("transxnet_s", 26_864_068, 4.5e9), ("transxnet_b", 48_009_002, 8.3e9))
        ),
    ],
)
def test_model_costs_match_the_paper(name, parameters, multiply_adds):
    cost = count(transxnet.create_model(name), 224, 224)
    assert cost.parameters == parameters
    assert abs(cost.multiply_adds - multiply_adds) < 0.03 * multiply_adds


def test_a_convolution_is_counted_as_by_hand():
    cost = count(nn.Conv2d(3, 8, 3, stride=2, padding=1), 16, 20)
    assert cost.multiply_adds == (8 * 10) * 8 * (3 * 3 * 3)
    assert cost.parameters == 8 * 27 + 8
    grouped = count(nn.Conv2d(4, 8, 5, padding=2, groups=4, bias=False), 6, 6, in_chans=4)
    assert grouped.multiply_adds == 36 * 8 * 25
    assert cost.attention_multiply_adds == 0


def test_a_linear_layer_is_counted_as_by_hand():
    assert count(nn.Sequential(nn.Flatten(), nn.Linear(48, 10)), 4, 4).multiply_adds == 480
    assert count(nn.Linear(6, 10), 4, 6).multiply_adds == 3 * 4 * 60


def test_the_products_of_attention_are_counted_apart():
    class Attention(nn.Module):
        def forward(self, x):
            tokens = x.flatten(2).transpose(1, 2)
            return nn.functional.scaled_dot_product_attention(tokens, tokens, tokens)

    cost = count(Attention(), 4, 5)
    assert cost.attention_multiply_adds == 2 * 20 * 20 * 3
    assert cost.multiply_adds == cost.parameters == 0


def test_counting_does_not_change_the_model():
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)).train()
    count(model, 8, 8)
    assert model.training
    assert model[0].weight.device == torch.device("cpu")
    assert model[1].num_batches_tracked == 0


def test_the_facts_of_our_tiny_model():
    facts = info("transxnet_t")
    assert (facts.img_size, facts.num_classes, facts.crop_pct, facts.interpolation) == (224, 1000, 0.9, "bicubic")
    assert [stage.channels for stage in facts.stages] == [48, 96, 224, 448]
    assert [stage.reduction for stage in facts.stages] == [4, 8, 16, 32]
    assert [stage.size for stage in facts.stages] == [(56, 56), (28, 28), (14, 14), (7, 7)]
    assert facts.weights == ["transxnet_t.in1k"]


@pytest.mark.long
def test_a_tag_and_a_size_change_the_input():
    assert info("transxnet_b.in1k_384").img_size == 384
    small = info("transxnet_n", img_size=64)
    assert [stage.size for stage in small.stages] == [(16, 16), (8, 8), (4, 4), (2, 2)]


@pytest.mark.parametrize("name", ["resnet18", "vgg11", "test_vit", "swin_tiny_patch4_window7_224"])
def test_timm_models_are_supported(name):
    facts = info(name)
    assert facts.cost.parameters == sum(p.numel() for p in timm.create_model(name).parameters())
    assert all(stage.size == (facts.img_size // stage.reduction,) * 2 for stage in facts.stages)
    assert facts.stages


def test_model_without_stages_has_no_stage_costs(monkeypatch):
    whole = timm.create_model

    def no_features(name, features_only=False, **kwargs):
        if features_only:
            raise RuntimeError("features_only not implemented")
        return whole(name, **kwargs)

    monkeypatch.setattr(timm, "create_model", no_features)
    assert info("test_resnet").stages == []


def test_unknown_model_error_suggests_the_nearest():
    with pytest.raises(UserError, match=r"unknown model 'resnet_18'. Did you mean 'resnet"):
        info("resnet_18")
    with pytest.raises(UserError, match=r"resnet18 has no weights 'a1_in2k'. Did you mean 'a1_in1k'"):
        info("resnet18.a1_in2k")


@pytest.mark.parametrize(("name", "size"), [("transxnet_t", 0), ("transxnet_t", -5), ("test_vit", 33), ("vgg11", 3)])
def test_unsupported_image_size_is_an_error(name, size):
    with pytest.raises(UserError, match=r"img_size|--img-size"):
        info(name, img_size=size)
