"""Effective receptive fields: against closed forms, and from a command to files."""

import csv
import json

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from tests.helpers.sample_images import write_pictures
from transxnet import UserError, create_model
from transxnet.analysis.erf import ReceptiveField, erf, receptive_field
from transxnet.analysis.network_parts import as_maps, find_place, named_places, watched
from transxnet.cli import main

SMALL = "transxnet_n@untrained,depths=(1,1,1,1),layer_scale_init_value=1.0"


def field(density: np.ndarray) -> ReceptiveField:
    return ReceptiveField("net", "stage 4", False, density / density.sum(), 1)


def averaging(layers: int, in_chans: int = 3) -> nn.Sequential:
    """Convolutions of 3x3 equal weights, the first over three colours."""
    convs = []
    for i in range(layers):
        convs.append(nn.Conv2d(in_chans if i == 0 else 1, 1, 3, padding=1, bias=False))
        nn.init.constant_(convs[-1].double().weight, 1 / 9)
    return nn.Sequential(*convs)


@pytest.mark.parametrize("layers", [1, 2, 5])
def test_uniform_convolutions_have_the_power_of_a_box_as_their_field(layers):
    row = np.array([1.0])
    for _ in range(layers):
        row = np.convolve(row, [1 / 3] * 3)
    expected = np.zeros((15, 15))
    reach = slice(7 - layers, 8 + layers)
    expected[reach, reach] = np.outer(row, row)
    gradient = receptive_field(averaging(layers), torch.rand(2, 3, 15, 15).double(), str(layers - 1))
    np.testing.assert_allclose(gradient, np.stack([3 * expected] * 2), rtol=0, atol=1e-12)
    found = field(gradient.sum(axis=0))
    assert found.centre == (7, 7)
    rows, columns = np.indices(expected.shape)
    distance = np.hypot(rows - 7, columns - 7)
    for share in (0.2, 0.5, 0.99):
        within = [radius for radius in np.unique(distance) if expected[distance <= radius].sum() >= share - 1e-12]
        assert found.radius(share) == within[0]
        assert found.area(share) == (distance <= within[0]).mean()


def test_radius_and_area_of_a_point_and_of_an_even_field():
    point = np.zeros((9, 9))
    point[2, 6] = 1
    assert field(point).centre == (2, 6)
    assert (field(point).radius(0.99), field(point).area(0.99)) == (0, 1 / 81)
    even = field(np.ones((9, 9)))
    assert even.centre == (4, 4)
    assert even.radius(1.0) == pytest.approx(np.hypot(4, 4))
    assert even.area(1.0) == 1
    assert even.area(0.5) == pytest.approx(0.5, abs=0.1)


def test_the_centre_is_the_fields_own_where_strides_move_it():
    """Of 3x3 convolutions of stride 2 and padding 1, position i looks at pixel 2 i."""
    net = nn.Sequential(*[nn.Conv2d(1, 1, 3, stride=2, padding=1, bias=False) for _ in range(3)]).double()
    for conv in net:
        nn.init.constant_(conv.weight, 1.0)
    gradient = receptive_field(net, torch.rand(1, 1, 56, 56).double(), "2")
    assert field(gradient[0]).centre == (24, 24)


def test_channels_do_not_cancel_where_a_norm_keeps_their_sum():
    net = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.GroupNorm(1, 8)).double()
    one_place = torch.rand(1, 3, 1, 1).double()
    assert net(one_place).sum().abs() < 1e-9
    assert receptive_field(net, one_place, "1").sum() > 1e-3


def test_the_network_and_the_images_are_left_as_they_were(tiny, images):
    network = tiny()
    receptive_field(network, images, "idconv")
    assert all(parameter.grad is None for parameter in network.parameters())
    assert not images.requires_grad
    assert not any(module._forward_hooks for module in network.modules())


def test_places_have_names_in_all_forms_and_networks(tiny):
    ours = ["stage1", "stage2", "stage3", "idconv", "osra", "ste", "stage4"]
    network = tiny()
    assert list(named_places(network)) == ours
    mixer = network.stages[-1].blocks[-1].mixer
    assert [find_place(network, name).module for name in ("idconv", "osra", "ste")] == [
        mixer.idconv,
        mixer.osra,
        mixer.ste,
    ]
    assert find_place(network).module is network.stages[-1]
    assert find_place(network, "stages.0.blocks.0.ffn").module is network.stages[0].blocks[0].ffn
    assert find_place(tiny(local_conv="dwconv"), "idconv").title == "DWConv, local branch"
    assert list(named_places(create_model("transxnet_n", features_only=True))) == ours
    assert list(named_places(create_model("test_resnet", features_only=True))) == ours[:3] + ours[-1:]


@pytest.mark.parametrize("name", ["swin_tiny_patch4_window7_224", "vit_tiny_patch16_224"])
def test_maps_and_tokens_of_other_layouts_become_maps(name):
    network = create_model(name).eval()
    with torch.no_grad(), watched(find_place(network).module) as (calls,):
        features = network.forward_features(torch.rand(1, 3, 224, 224))
    side, channels = (7, 768) if "swin" in name else (14, 192)
    maps = as_maps(network, calls.outputs[0])
    assert maps.shape == (1, channels, side, side)
    tokens = features if "swin" in name else features[:, 1:].unflatten(1, (14, 14))
    torch.testing.assert_close(network.norm(maps.permute(0, 2, 3, 1)), tokens)


@pytest.mark.parametrize(
    ("place", "said"),
    [
        ("idcnv", "Did you mean 'idconv'.*Accepted: stage1, stage2, stage3, idconv, osra, ste, stage4"),
        ("stage5", "Did you mean 'stage"),
        ("stages.9", "no place 'stages.9'"),
    ],
)
def test_a_place_that_there_is_not(place, said, tiny):
    with pytest.raises(UserError, match=said):
        find_place(tiny(), place)


def test_networks_without_the_place_or_without_stages_or_maps(images):
    with pytest.raises(UserError, match=r"no place .osra.\. It has no D-Mixer"):
        find_place(create_model("test_resnet"), "osra")
    net = nn.Sequential(nn.Flatten(), nn.Linear(3 * 64 * 64, 5)).double()
    with pytest.raises(UserError, match=r"does not say what its stages are.*after a colon"):
        find_place(net)
    with pytest.raises(UserError, match=r"needs feature maps .* gives \(2, 5\)"):
        receptive_field(net, images, "1")


def test_the_command_writes_a_figure_and_figures_and_refuses_to_do_so_twice(tmp_path, capsys):
    write_pictures(tmp_path / "photos", 5)
    words = ["erf", SMALL, f"{SMALL}:idconv", "test_resnet@untrained", "--data", str(tmp_path / "photos")]
    words += ["--images", "3", "--size", "64", "--batch-size", "2", "--out", str(tmp_path / "out")]
    assert main(words) == 0
    assert "untrained" in capsys.readouterr().out
    rows = list(csv.DictReader((tmp_path / "out" / "erf.csv").open()))
    assert [row["place"] for row in rows] == ["stage 4", "IDConv, local branch", "stage 4"]
    assert all(row["untrained"] == "True" and row["images"] == "3" and row["size"] == "64" for row in rows)
    for row in rows:
        assert 0 <= float(row["radius_20"]) <= float(row["radius_50"]) <= float(row["radius_99"]) < 64 * 2**0.5
        assert 0 < float(row["area_20"]) <= float(row["area_99"]) <= 1
    content = json.loads((tmp_path / "out" / "erf.json").read_text())
    assert [entry["model"] for entry in content["fields"]] == [row["model"] for row in rows]
    assert Image.open(tmp_path / "out" / "erf.png").width > 500
    assert main(words) == 2
    assert "--overwrite" in capsys.readouterr().err
    assert main([*words, "--overwrite"]) == 0


def test_the_function_gives_fields_and_writes_nothing_unless_asked(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_pictures(tmp_path / "photos", 2)
    (found,) = erf("test_resnet@untrained", "photos", images=2, size=32, out=None)
    assert found.density.shape == (32, 32)
    assert found.density.sum() == pytest.approx(1)
    assert [path.name for path in tmp_path.iterdir()] == ["photos"]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (dict(images=3), "3 images are to be averaged and 2 were found.*--images 2"),
        (dict(images=0), "images must be a whole number of at least 1, got 0"),
        (dict(models=["test_resnet@untrained", "transxnet_n@untrained"], images=1), "160 and 224 pixels.*Give --size"),
        (dict(models=[]), "name the models"),
        (
            dict(models="test_vit@untrained", images=1, size=33),
            "test_vit does not take images of 33x33: .* another --size",
        ),
    ],
)
def test_options_that_do_not_fit(options, said, tmp_path):
    write_pictures(tmp_path, 2)
    with pytest.raises(UserError, match=said):
        erf(**{"models": "test_resnet@untrained", "data": tmp_path, "out": None, **options})
