"""Named parts of TransXNet and timm models, and their outputs as feature maps."""

import pytest
import torch
from torch import nn

from transxnet import UserError, create_model
from transxnet.analysis.network_parts import find_part, named_parts, record_calls, to_feature_maps
from transxnet.analysis.receptive_field import receptive_field


def test_named_parts_of_classifiers_and_feature_extractors(tiny):
    ours = ["stage1", "stage2", "stage3", "idconv", "osra", "ste", "stage4"]
    network = tiny()
    assert list(named_parts(network)) == ours
    mixer = network.stages[-1].blocks[-1].mixer
    assert [find_part(network, name).module for name in ("idconv", "osra", "ste")] == [
        mixer.idconv,
        mixer.osra,
        mixer.ste,
    ]
    assert find_part(network).module is network.stages[-1]
    assert find_part(network, "stages.0.blocks.0.ffn").module is network.stages[0].blocks[0].ffn
    assert find_part(tiny(local_conv="dwconv"), "idconv").title == "DWConv, local branch"
    assert list(named_parts(create_model("transxnet_n", features_only=True))) == ours
    assert list(named_parts(create_model("test_resnet", features_only=True))) == ours[:3] + ours[-1:]


@pytest.mark.parametrize("name", ["swin_tiny_patch4_window7_224", "vit_tiny_patch16_224"])
def test_nhwc_maps_and_tokens_become_feature_maps(name):
    network = create_model(name).eval()
    with torch.no_grad(), record_calls(find_part(network).module) as (calls,):
        features = network.forward_features(torch.rand(1, 3, 224, 224))
    side, channels = (7, 768) if "swin" in name else (14, 192)
    maps = to_feature_maps(network, calls.outputs[0])
    assert maps.shape == (1, channels, side, side)
    tokens = features if "swin" in name else features[:, 1:].unflatten(1, (14, 14))
    torch.testing.assert_close(network.norm(maps.permute(0, 2, 3, 1)), tokens)


@pytest.mark.parametrize(
    ("part", "message"),
    [
        ("idcnv", "Did you mean 'idconv'.*Accepted: stage1, stage2, stage3, idconv, osra, ste, stage4"),
        ("stage5", "Did you mean 'stage"),
        ("stages.9", "no part 'stages.9'"),
    ],
)
def test_unknown_part_is_an_error_with_a_suggestion(part, message, tiny):
    with pytest.raises(UserError, match=message):
        find_part(tiny(), part)


def test_networks_without_the_part_stages_or_maps_are_errors(images):
    with pytest.raises(UserError, match=r"no part .osra.\. It has no D-Mixer"):
        find_part(create_model("test_resnet"), "osra")
    net = nn.Sequential(nn.Flatten(), nn.Linear(3 * 64 * 64, 5)).double()
    with pytest.raises(UserError, match=r"has no stages in its feature_info.*after a colon"):
        find_part(net)
    with pytest.raises(UserError, match=r"expected feature maps .* got \(2, 5\)"):
        receptive_field(net, images, "1")
