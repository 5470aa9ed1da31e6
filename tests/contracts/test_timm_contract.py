"""The contract with timm that every registered network keeps."""

from math import ceil

import pytest
import timm
import torch
from timm.models import get_notrace_functions, get_notrace_modules, group_parameters
from timm.optim import param_groups_layer_decay
from torch import Tensor
from torchvision.models.feature_extraction import create_feature_extractor

from tests.helpers import peers
from tests.helpers.networks import DEPTHS, EVERY, OUT_INDICES, SMALL, WIDTHS, on_meta

ONE_BLOCK = dict(depths=(1, 1, 1, 1))
ignore_deprecation = pytest.mark.filterwarnings(
    "ignore:.*is deprecated:FutureWarning", "ignore:.*is deprecated:DeprecationWarning"
)

PARAMETERS = {
    "transxnet_n": 3_146_000,
    "transxnet_t": 12_834_808,
    "transxnet_s": 26_864_068,
    "transxnet_b": 48_009_002,
    "transxnet_swin_style": 10_742_016,
}


@EVERY
def test_parameters_are_as_many_as_published(name):
    assert sum(p.numel() for p in on_meta(name).parameters()) == PARAMETERS[name]


def test_timm_lists_the_networks_and_their_weights():
    assert set(timm.list_models("transxnet*")) == set(PARAMETERS)
    assert set(timm.list_pretrained("transxnet*")) == {
        "transxnet_t.in1k",
        "transxnet_s.in1k",
        "transxnet_b.in1k",
        "transxnet_b.in1k_384",
    }


@pytest.mark.parametrize("name", [*DEPTHS, *peers.REFERENCES])
def test_the_config_names_first_convolution_and_classifier(name):
    model = on_meta(name)
    assert model.get_submodule(model.default_cfg["first_conv"]).weight.shape[1] == 3
    assert model.get_submodule(model.default_cfg["classifier"]) is model.get_classifier()
    assert model.get_classifier().out_features == model.num_classes == model.default_cfg["num_classes"] == 1000


@SMALL
@pytest.mark.parametrize(("height", "width"), [(32, 32), (33, 65), (64, 40), (96, 160), (8, 5)])
@torch.no_grad()
def test_any_size_passes(name, height, width, randomize):
    model = randomize(timm.create_model(name, num_classes=7)).eval()
    x = torch.randn(2, 3, height, width)
    features = model.forward_features(x)
    assert features.shape == (2, WIDTHS[name][-1], ceil(height / 32), ceil(width / 32))
    out = model(x)
    assert out.shape == (2, 7)
    assert out.isfinite().all()
    assert torch.equal(out, model.forward_head(features))


@ignore_deprecation
@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("transxnet_n", ONE_BLOCK),
        ("transxnet_n", dict(ONE_BLOCK, features_only=True, out_indices=(1, 3))),
        ("transxnet_swin_style", ONE_BLOCK),
        ("uniformer_small", ONE_BLOCK),
        ("mpvit_xsmall", dict(num_layers=(1, 1, 1, 1), num_paths=(2, 2, 2, 2))),
    ],
    ids=str,
)
@torch.no_grad()
def test_scriptable_model_gives_the_same(name, options, randomize):
    model = randomize(timm.create_model(name, scriptable=True, **options)).eval()
    scripted = torch.jit.script(model)
    with torch.jit.optimized_execution(False):  # the first calls would take much longer
        for shape in [(1, 3, 64, 64), (2, 3, 96, 64)]:
            x = torch.randn(shape)
            torch.testing.assert_close(scripted(x), model(x), rtol=1e-4, atol=1e-4)


@ignore_deprecation
@torch.no_grad()
def test_model_traced_as_in_timms_tests_is_scripted(randomize):
    model = randomize(timm.create_model("transxnet_n", scriptable=True, **ONE_BLOCK)).eval()
    leaves = dict(leaf_modules=get_notrace_modules(), autowrap_functions=get_notrace_functions())
    traced = create_feature_extractor(model, ["head"], tracer_kwargs=dict(leaves, param_shapes_constant=True))
    x = torch.randn(1, 3, 64, 96)
    assert torch.equal(traced(x)["head"], model(x))
    with torch.jit.optimized_execution(False):
        torch.testing.assert_close(torch.jit.script(traced)(x)["head"], model(x), rtol=1e-4, atol=1e-4)


@EVERY
def test_stochastic_depth_grows_linearly_over_all_blocks(name):
    model = on_meta(name, drop_path_rate=0.3)
    rates = [block.drop_path.drop_prob for stage in model.stages for block in stage.blocks]
    last = sum(DEPTHS[name]) - 1
    assert rates == pytest.approx([0.3 * i / last for i in range(last + 1)], abs=1e-9)


@SMALL
@OUT_INDICES
def test_features_have_the_declared_shapes(name, out_indices):
    model = timm.create_model(name, features_only=True, out_indices=out_indices).eval()
    stages = [i % 4 for i in out_indices]
    assert model.feature_info.channels() == [WIDTHS[name][i] for i in stages]
    assert model.feature_info.reduction() == [4 * 2**i for i in stages]
    assert len(model.stages) == stages[-1] + 1, "stages after the last output are omitted"
    assert [f.shape for f in model(torch.randn(2, 3, 64, 72))] == [
        (2, WIDTHS[name][i], ceil(64 / 4 / 2**i), ceil(72 / 4 / 2**i)) for i in stages
    ]


def layers_from_the_input_up(name: str, coarse: bool) -> dict[str, int]:
    """The layer index of each parameter, by name."""
    depths = DEPTHS[name]
    layers = {}
    for parameter, _ in on_meta(name).named_parameters():
        match parameter.split("."):
            case ["stages", "0", "patch_embed", *_]:
                layers[parameter] = 0
            case ["stages", stage, "blocks", block, *_]:
                layers[parameter] = 1 + int(stage) if coarse else 1 + sum(depths[: int(stage)]) + int(block)
            case ["stages", stage, "patch_embed" | "pos_bias", *_]:
                layers[parameter] = 1 + int(stage) if coarse else 1 + sum(depths[: int(stage)])
            case ["norm", _]:
                layers[parameter] = 5 if coarse else sum(depths)
            case ["head", *_]:
                layers[parameter] = 5 if coarse else sum(depths) + 1
    return layers


@EVERY
@pytest.mark.parametrize("coarse", [True, False])
def test_parameters_are_grouped_into_layers_from_the_input_up(name, coarse):
    model = on_meta(name)
    assert group_parameters(model, model.group_matcher(coarse), reverse=True) == layers_from_the_input_up(name, coarse)


@SMALL
def test_layer_decay_covers_all_parameters_and_no_bias_decays(name):
    model = timm.create_model(name)
    groups = param_groups_layer_decay(model, 0.05, model.no_weight_decay(), layer_decay=0.5)
    decayed = {id(p) for group in groups if group["weight_decay"] for p in group["params"]}
    undecayed = {id(p) for group in groups if not group["weight_decay"] for p in group["params"]}
    assert (
        len(decayed) + len(undecayed) == sum(len(group["params"]) for group in groups) == len(list(model.parameters()))
    )
    for parameter, p in model.named_parameters():
        bank = parameter.endswith("idconv.weight")
        bias = parameter.endswith(("pos_bias.weight", "bias"))
        assert (id(p) in decayed) == (bank or (p.ndim > 1 and not bias)), parameter


@SMALL
@pytest.mark.parametrize(
    "kwargs",
    [{}, *({"features_only": True, "out_indices": taken} for taken in [(0, 1, 2, 3), (1, 3), (0,), (2,)])],
    ids=str,
)
def test_every_parameter_gets_a_gradient(name, kwargs):
    model = timm.create_model(name, **kwargs).train()
    out = model(torch.randn(2, 3, 64, 64))
    sum(o.square().sum() for o in ([out] if isinstance(out, Tensor) else out)).backward()
    assert [name for name, p in model.named_parameters() if p.grad is None or not p.grad.any()] == []
