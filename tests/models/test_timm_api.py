"""timm's model API on the smallest network: classifier, intermediate features and dense features."""

import pytest
import timm
import torch
import torch.nn.functional as F
from torch import nn

from tests.helpers.networks import OUT_INDICES, run_stages
from transxnet import TransXNetFeatures


@torch.no_grad()
def test_an_empty_batch_passes(tiny):
    assert tiny()(torch.empty(0, 3, 64, 64, dtype=torch.float64)).shape == (0, 5)


@pytest.mark.parametrize("in_chans", [1, 4])
def test_in_chans_sets_the_stem_input(tiny, in_chans):
    assert tiny(in_chans=in_chans)(torch.randn(2, in_chans, 64, 64, dtype=torch.float64)).shape == (2, 5)


@torch.no_grad()
def test_global_pool_and_num_classes_shape_the_head(tiny, images):
    features = tiny().forward_features(images)
    fc = tiny().head.fc
    for model, truth in [
        (tiny(), fc(features.mean((2, 3)))),
        (tiny(global_pool="max"), fc(features.amax((2, 3)))),
        (tiny(num_classes=0), features.mean((2, 3))),
        (tiny(num_classes=0, global_pool=""), features),
    ]:
        torch.testing.assert_close(model(images), truth, rtol=0, atol=1e-12)
    torch.testing.assert_close(
        tiny().forward_head(features, pre_logits=True), features.mean((2, 3)), rtol=0, atol=1e-12
    )


def test_drop_rate_drops_before_the_classifier_in_training_only(tiny, images):
    model = tiny(drop_rate=0.5)
    features = model.forward_features(images)
    assert torch.equal(model.forward_head(features), model.forward_head(features))
    model.head.train()
    pooled = model.forward_head(features, pre_logits=True)
    assert 0 < (pooled == 0).double().mean() < 1


@torch.no_grad()
def test_classifier_can_be_replaced(tiny, images):
    model = tiny()
    features = model.forward_features(images)
    model.reset_classifier(3)
    assert model.num_classes == 3
    assert model.get_classifier().weight.shape == (3, 32)
    assert model(images).shape == (2, 3)
    model.reset_classifier(4, "max")
    torch.testing.assert_close(model(images), model.get_classifier()(features.amax((2, 3))), rtol=0, atol=1e-12)
    model.reset_classifier(0)
    assert isinstance(model.get_classifier(), nn.Identity)
    torch.testing.assert_close(model(images), features.amax((2, 3)), rtol=0, atol=1e-12)


@OUT_INDICES
@torch.no_grad()
def test_features_are_normalized_stage_outputs(tiny, images, randomize, out_indices):
    size = dict(depths=(1, 1, 1, 1), embed_dims=(16, 16, 32, 32), num_heads=(1, 1, 2, 2), img_size=64)
    dense = randomize(TransXNetFeatures(out_indices, **size)).double().eval()
    intermediates = tiny().forward_intermediates(images, intermediates_only=True)
    stages = [i % 4 for i in out_indices]
    for i, feature in zip(stages, dense(images), strict=True):
        norm = dense.norms[str(i)]
        truth = F.group_norm(intermediates[i], 1, norm.weight, norm.bias)
        torch.testing.assert_close(feature, truth, rtol=0, atol=1e-12)


@pytest.mark.parametrize("out_indices", [(), (4,), (-5,), (2, 2), (3, -1), 0, 5, -1])
def test_out_indices_that_do_not_exist_or_repeat_are_refused(out_indices):
    with pytest.raises(ValueError, match=r"out_indices must be different stages from 0 to 3, .* got") as error:
        timm.create_model("transxnet_n", features_only=True, out_indices=out_indices)
    assert str(out_indices) in str(error.value)


@pytest.mark.parametrize(
    ("out_indices", "stages"), [(2, [2, 3]), ((3, 1), [1, 3]), ((-1, 0), [0, 3]), (4, [0, 1, 2, 3])]
)
@pytest.mark.parametrize("reference", ["resnet18", "convnext_atto"])
def test_features_have_the_order_of_those_of_timm(out_indices, stages, reference):
    """timm returns the outputs in the order of the stages too, whatever the order of out_indices."""
    offset = 1 if reference == "resnet18" else 0  # its first feature is the stem
    indices = out_indices if isinstance(out_indices, int) else [i if i < 0 else i + offset for i in out_indices]
    theirs = timm.create_model(reference, features_only=True, out_indices=indices).eval()
    ours = timm.create_model("transxnet_n", features_only=True, out_indices=out_indices).eval()
    x = torch.zeros(1, 3, 64, 64)
    assert [f.shape[2:] for f in ours(x)] == [f.shape[2:] for f in theirs(x)]
    assert ours.feature_info.channels() == [f.shape[1] for f in ours(x)] == [[32, 64, 128, 256][i] for i in stages]
    assert ours.out_indices == tuple(stages)


@pytest.mark.parametrize("feature_cls", ["getter", "list", "dict", "hook", "fx"])
def test_feature_classes_of_timm_return_the_stages(feature_cls):
    weights = timm.create_model("transxnet_n").state_dict()
    arguments = dict(pretrained=True, pretrained_cfg_overlay=dict(state_dict=weights))
    model = timm.create_model("transxnet_n", **arguments).eval()
    features = timm.create_model(
        "transxnet_n", features_only=True, feature_cls=feature_cls, out_indices=(1, 3), **arguments
    ).eval()
    assert features.feature_info.channels() == [64, 256]
    assert features.feature_info.reduction() == [8, 32]
    x = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        outputs = features(x)
        stages = model.forward_intermediates(x, [1, 3], intermediates_only=True)
    for out, stage in zip(outputs.values() if isinstance(outputs, dict) else outputs, stages, strict=True):
        torch.testing.assert_close(out, stage, rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ("indices", "taken"),
    [(None, [0, 1, 2, 3]), (1, [3]), (3, [1, 2, 3]), ([0, 2], [0, 2]), ([-1, 1], [1, 3]), ([-3], [1])],
)
@torch.no_grad()
def test_intermediates_are_the_outputs_of_the_stages(tiny, images, indices, taken):
    model = tiny()
    stages = run_stages(model, images)
    final, intermediates = model.forward_intermediates(images, indices)
    assert torch.equal(final, model.forward_features(images))
    assert len(intermediates) == len(taken)
    assert all(torch.equal(out, stages[i]) for out, i in zip(intermediates, taken, strict=True))
    alone = model.forward_intermediates(images, indices, intermediates_only=True)
    assert all(torch.equal(a, b) for a, b in zip(alone, intermediates, strict=True))


@torch.no_grad()
def test_norm_applies_to_the_last_intermediate_only(tiny, images):
    model = tiny()
    stages = run_stages(model, images)
    *others, last = model.forward_intermediates(images, norm=True, intermediates_only=True)
    assert all(torch.equal(a, b) for a, b in zip(others, stages[:-1], strict=True))
    assert torch.equal(last, model.forward_features(images))


@pytest.mark.parametrize("stop_early", [True, False])
@torch.no_grad()
def test_stop_early_runs_no_stage_after_the_last_requested(tiny, images, stop_early):
    model, ran = tiny(), []
    for i, stage in enumerate(model.stages):
        stage.register_forward_hook(lambda *_, i=i: ran.append(i))
    final, (out,) = model.forward_intermediates(images, [1], stop_early=stop_early)
    assert ran == ([0, 1] if stop_early else [0, 1, 2, 3])
    assert torch.equal(final, out) == stop_early


def test_another_output_format_is_refused(tiny, images):
    with pytest.raises(ValueError, match="must be 'NCHW', got 'NHWC'"):
        tiny().forward_intermediates(images, output_fmt="NHWC")


@torch.no_grad()
def test_pruning_drops_later_stages_the_norm_and_the_head(tiny, images):
    model = tiny()
    stages = run_stages(model, images)
    assert model.prune_intermediate_layers([0, 2]) == [0, 2]
    assert len(model.stages) == 3
    final, intermediates = model.forward_intermediates(images, [0, 2])
    assert torch.equal(final, stages[2])
    assert all(torch.equal(a, stages[i]) for a, i in zip(intermediates, (0, 2), strict=True))
    assert torch.equal(model(images), stages[2])


@pytest.mark.parametrize("kwargs", [{}, {"features_only": True}])
def test_misspelled_option_is_an_error(kwargs):
    with pytest.raises(TypeError, match="drop_paht_rate"):
        timm.create_model("transxnet_n", drop_paht_rate=0.1, **kwargs)
