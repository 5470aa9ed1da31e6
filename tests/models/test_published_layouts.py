"""Every tensor of a published backbone is mapped to our layout, and unknown tensors are reported."""

import pytest
import torch
from torch import Tensor

from tests.helpers.networks import on_meta
from tests.helpers.published import empty_backbone
from transxnet import UserError, convert_official_state_dict
from transxnet.models.published_layouts import is_dense, is_ours

VARIANT = pytest.mark.parametrize("variant", ["t", "s", "b"])
FORM = pytest.mark.parametrize("form", ["classifier", "features"])


def shapes(tensors: dict[str, Tensor]) -> dict[str, tuple]:
    return {name: tuple(tensor.shape) for name, tensor in tensors.items()}


@VARIANT
@FORM
def test_every_published_tensor_is_mapped(variant, form):
    model = on_meta(f"transxnet_{variant}", features_only=form == "features")
    assert shapes(convert_official_state_dict(empty_backbone(variant, form))) == shapes(model.state_dict())


DROPPED = [
    "patch_embed.proj.conv.weight",
    "patch_embed.proj.bn.running_var",
    "network.3.proj.bn.running_mean",
    "relative_pos_enc.0",
    "relative_pos_enc.3",
    "network.0.0.token_mixer.global_unit.sr.0.bn.running_mean",
    "network.2.2.token_mixer.local_unit.bias",
    "network.2.1.mlp.dwconv.proj.3.weight",
    "network.4.8.layer_scale_2.weight",
    "network.6.0.norm1.bias",
    "network.6.2.mlp.norm.num_batches_tracked",
]


@pytest.mark.parametrize("name", DROPPED)
@FORM
def test_a_missing_tensor_is_named(form, name):
    tensors = empty_backbone("t", form)
    del tensors[name]
    with pytest.raises(UserError, match="missing") as error:
        convert_official_state_dict({f"module.{n}": tensor for n, tensor in tensors.items()})
    assert name in str(error.value)
    assert "unexpected" not in str(error.value)


@pytest.mark.parametrize(
    ("form", "name"),
    [
        *(("classifier", f"classifier.{layer}") for layer in ("0.weight", "0.bias", "2.weight", "2.bias")),
        *(("features", name) for name in ("norm0.weight", "norm4.bias", "norm6.bias")),
    ],
)
def test_half_of_a_head_or_of_an_output_norm_is_refused(form, name):
    tensors = empty_backbone("t", form)
    del tensors[name]
    with pytest.raises(UserError, match=r"missing \(1\)") as error:
        convert_official_state_dict(tensors)
    assert name in str(error.value)


@pytest.mark.parametrize(
    "name", ["network.0.0.foo.weight", "neck.weight", "relative_pos_enc.4", "norm1.weight", "classifier.3.bias"]
)
@FORM
def test_unexpected_tensor_is_named(form, name):
    with pytest.raises(UserError, match=r"unexpected \(1\)") as error:
        convert_official_state_dict({**empty_backbone("t", form), name: torch.zeros(1)})
    assert name in str(error.value)
    assert "missing" not in str(error.value)


@pytest.mark.parametrize("name", ["resnet18", "pvt_v2_b0"])
def test_another_network_is_refused(name):
    with pytest.raises(UserError, match="not a TransXNet checkpoint") as error:
        convert_official_state_dict(on_meta(name).state_dict())
    assert "every block" in str(error.value)


@pytest.mark.parametrize(
    ("names", "ours", "dense"),
    [
        (["stages.0.patch_embed.conv.weight", "head.fc.weight"], True, False),
        (["patch_embed.proj.conv.weight", "classifier.2.weight"], False, False),
        (["backbone.patch_embed.proj.conv.weight", "neck.fpn_convs.0.conv.weight"], False, True),
        (["backbone.body.stages.0.patch_embed.conv.weight", "backbone.fpn.inner_blocks.0.0.weight"], True, True),
        (["backbone.patch_embed.proj.conv.weight"], False, False),
        ([], False, False),
    ],
)
def test_a_layout_is_recognized_by_its_names(names, ours, dense):
    assert is_ours(names) == ours
    assert is_dense(names) == dense
