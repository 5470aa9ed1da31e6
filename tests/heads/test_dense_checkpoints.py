"""Published detectors and segmenters load completely and give the same outputs as their original implementation."""

import logging

import numpy as np
import pytest
import timm
import torch
import torch.nn.functional as F
from torch import Tensor

from tests.helpers.published import KINDS, empty, filled
from transxnet import UserError, convert_official_state_dict
from transxnet.heads import MaskRCNN, RetinaNet, SemanticFPN, create_detector, create_segmenter, load_checkpoint
from transxnet.models.checkpoints import read_checkpoint

KIND = pytest.mark.parametrize("kind", KINDS)


def create(kind: str, variant: str = "t", num_classes: int | None = None) -> RetinaNet | MaskRCNN | SemanticFPN:
    if kind == "sfpn":
        return create_segmenter(f"transxnet_{variant}", num_classes or 150)
    return create_detector(kind, f"transxnet_{variant}", num_classes or 80, min_size=64, max_size=96)


def on_meta(kind: str, variant: str) -> RetinaNet | MaskRCNN | SemanticFPN:
    with torch.device("meta"):
        return create(kind, variant)


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> dict[str, str]:
    """A file of each kind for the tiny variant, with the extra entries that training scripts save."""
    paths = {}
    for kind in KINDS:
        meta = {"CLASSES": ("person", "bicycle"), "PALETTE": [[120, 120, 120]], "epoch": 12, "mmdet_version": "2.28.2"}
        meta["hook_msgs"] = {"best_score": np.float64(0.431), "best_ckpt": "epoch_12.pth"}
        paths[kind] = str(tmp_path_factory.mktemp("published") / f"{kind}_tiny.pth")
        torch.save({"meta": meta, "state_dict": filled(kind, "t"), "optimizer": {"state": {}}}, paths[kind])
    return paths


@pytest.fixture(scope="module")
def published(files) -> dict[str, dict[str, Tensor]]:
    return {kind: read_checkpoint(path)["state_dict"] for kind, path in files.items()}


# Layouts


@pytest.mark.parametrize("variant", ["t", "s", "b"])
@KIND
def test_every_published_tensor_is_mapped(kind, variant):
    converted = convert_official_state_dict({"state_dict": empty(kind, variant)})
    own = on_meta(kind, variant).state_dict()
    assert {n: tuple(t.shape) for n, t in converted.items()} == {n: tuple(t.shape) for n, t in own.items()}


@KIND
def test_files_load_completely(files, published, kind):
    model = create(kind)
    load_checkpoint(model, files[kind])
    truth = convert_official_state_dict(published[kind])
    assert all(torch.equal(tensor, truth[name]) for name, tensor in model.state_dict().items())
    stage = model.backbone.body.stages[2].blocks[8]
    assert torch.equal(stage.ffn.bn2.bias, published[kind]["backbone.network.4.8.mlp.norm.bias"])


@KIND
def test_distributed_training_prefixes_are_removed(kind):
    tensors = {f"module.{name}": tensor for name, tensor in empty(kind, "t").items()}
    assert convert_official_state_dict(tensors).keys() == on_meta(kind, "t").state_dict().keys()


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        ("retinanet", "neck.fpn_convs.4.conv.bias"),
        ("retinanet", "bbox_head.retina_reg.weight"),
        ("retinanet", "backbone.network.4.8.mlp.norm.weight"),
        ("maskrcnn", "neck.lateral_convs.3.conv.weight"),
        ("maskrcnn", "rpn_head.rpn_cls.bias"),
        ("maskrcnn", "roi_head.bbox_head.fc_reg.weight"),
        ("maskrcnn", "roi_head.mask_head.upsample.weight"),
        ("sfpn", "decode_head.scale_heads.3.4.bn.running_var"),
        ("sfpn", "decode_head.scale_heads.1.0.bn.num_batches_tracked"),
        ("sfpn", "backbone.relative_pos_enc.2"),
    ],
)
def test_a_missing_tensor_is_named(kind, name):
    tensors = empty(kind, "t")
    del tensors[name]
    with pytest.raises(UserError, match=r"missing \(1\)") as error:
        convert_official_state_dict(tensors)
    assert name in str(error.value)
    assert "unexpected" not in str(error.value)


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        ("retinanet", "neck.fpn_convs.5.conv.bias"),
        ("retinanet", "rpn_head_too.weight"),
        ("retinanet", "backbone.network.4.8.extra.weight"),
        ("maskrcnn", "roi_head.bbox_head.shared_fcs.2.weight"),
        ("sfpn", "auxiliary_head.conv_seg.weight"),
    ],
)
def test_unexpected_tensor_is_named(kind, name):
    with pytest.raises(UserError, match=r"unexpected \(1\)") as error:
        convert_official_state_dict({**empty(kind, "t"), name: torch.empty(1, device="meta")})
    assert name in str(error.value)
    assert "missing" not in str(error.value)


def test_tensors_missing_only_in_the_network_are_named(published):
    tensors = {n: t for n, t in published["retinanet"].items() if not n.startswith("backbone.norm2.")}
    with pytest.raises(UserError, match="the checkpoint does not match this RetinaNet") as error:
        load_checkpoint(create("retinanet"), tensors)
    assert "missing (2): backbone.body.norms.1.weight, backbone.body.norms.1.bias" in str(error.value)


def test_another_head_or_variant_is_refused(files):
    with pytest.raises(UserError, match=r"retinanet_tiny\.pth does not match this MaskRCNN") as error:
        load_checkpoint(create("maskrcnn"), files["retinanet"])
    assert "unexpected" in str(error.value)
    with pytest.raises(UserError, match=r"Check the model variant(?s:.*)\n  shape mismatch"):
        load_checkpoint(on_meta("sfpn", "s"), files["sfpn"])


def test_backbone_without_head_is_refused_with_a_remedy(published):
    backbone = {n: t for n, t in published["sfpn"].items() if n.startswith("backbone.")}
    with pytest.raises(UserError, match=r"does not contain a complete SemanticFPN\. To start from backbone weights"):
        load_checkpoint(on_meta("sfpn", "t"), backbone)


@KIND
def test_our_own_weights_load_again(any_body, tmp_path, kind):
    make = {"retinanet": lambda: RetinaNet(any_body((1, 2, 3)), 2), "maskrcnn": lambda: MaskRCNN(any_body(), 2)}
    make["sfpn"] = lambda: SemanticFPN(any_body(), 2)
    first, second = make[kind](), make[kind]()
    torch.save({"state_dict": first.state_dict()}, tmp_path / "ours.pth")
    load_checkpoint(second, tmp_path / "ours.pth")
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True))


@KIND
def test_other_class_count_resets_only_the_class_layers(files, published, kind, caplog):
    model = create(kind, num_classes=3)
    own = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    with caplog.at_level(logging.WARNING, "transxnet"):
        load_checkpoint(model, files[kind])
    assert "does not have the model's 3 classes" in caplog.text
    truth, replaced = convert_official_state_dict(published[kind]), tuple(model.class_layers)
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, own[name] if name.startswith(replaced) else truth[name]), name
    assert all(layer in caplog.text for layer in replaced)


def test_same_classes_load_without_a_warning(files, caplog):
    with caplog.at_level(logging.WARNING, "transxnet"):
        load_checkpoint(create("sfpn"), files["sfpn"])
    assert not caplog.records


# The same outputs as the original implementation, computed from the published tensors alone


def conv(tensors: dict[str, Tensor], name: str, x: Tensor, stride: int = 1) -> Tensor:
    weight = tensors[f"{name}.weight"]
    return F.conv2d(x, weight, tensors[f"{name}.bias"], stride, weight.shape[-1] // 2)


def neck(tensors: dict[str, Tensor], features: list[Tensor]) -> list[Tensor]:
    laterals = [conv(tensors, f"neck.lateral_convs.{i}.conv", x) for i, x in enumerate(features)]
    for i in range(len(laterals) - 1, 0, -1):
        laterals[i - 1] = laterals[i - 1] + F.interpolate(laterals[i], size=laterals[i - 1].shape[2:], mode="nearest")
    return [conv(tensors, f"neck.fpn_convs.{i}.conv", x) for i, x in enumerate(laterals)]


def by_place(x: Tensor, values: int) -> Tensor:
    """(B, A * values, H, W) -> (B, H * W * A, values), the order of mmdetection's head outputs."""
    return x.permute(0, 2, 3, 1).reshape(len(x), -1, values)


@torch.no_grad()
def test_retinanet_outputs_match_the_published_model(published):
    tensors, model = published["retinanet"], create("retinanet").eval()
    load_checkpoint(model, tensors)
    image = torch.randn(1, 3, 64, 96)
    features = list(model.backbone.features(image).values())
    levels = neck(tensors, features)
    levels.append(conv(tensors, "neck.fpn_convs.3.conv", features[-1], stride=2))
    levels.append(conv(tensors, "neck.fpn_convs.4.conv", levels[-1], stride=2))

    def branch(x: Tensor, convs: str, last: str, values: int) -> Tensor:
        for i in range(4):
            x = conv(tensors, f"bbox_head.{convs}.{i}.conv", x).relu()
        return by_place(conv(tensors, f"bbox_head.{last}", x), values)

    logits = torch.cat([branch(x, "cls_convs", "retina_cls", 80) for x in levels], 1)
    deltas = torch.cat([branch(x, "reg_convs", "retina_reg", 4) for x in levels], 1)
    ours = model.head(list(model.backbone(image).values()))
    torch.testing.assert_close(ours["cls_logits"], logits, rtol=0, atol=1e-4)
    torch.testing.assert_close(ours["bbox_regression"], deltas, rtol=0, atol=1e-4)


@torch.no_grad()
def test_mask_rcnn_outputs_match_the_published_model(published):
    tensors, model = published["maskrcnn"], create("maskrcnn").eval()
    load_checkpoint(model, tensors)
    image = torch.randn(1, 3, 64, 96)
    levels = neck(tensors, list(model.backbone.features(image).values()))
    levels.append(levels[-1][:, :, ::2, ::2])
    logits, deltas = model.rpn.head(list(model.backbone(image).values()))
    for i, level in enumerate(levels):
        hidden = conv(tensors, "rpn_head.rpn_conv", level).relu()
        torch.testing.assert_close(logits[i], conv(tensors, "rpn_head.rpn_cls", hidden), rtol=0, atol=1e-4)
        torch.testing.assert_close(deltas[i], conv(tensors, "rpn_head.rpn_reg", hidden), rtol=0, atol=1e-4)

    def linear(name: str, x: Tensor) -> Tensor:
        return F.linear(x, tensors[f"roi_head.bbox_head.{name}.weight"], tensors[f"roi_head.bbox_head.{name}.bias"])

    heads, regions = model.roi_heads, torch.randn(2, 256, 7, 7)
    hidden = linear("shared_fcs.1", linear("shared_fcs.0", regions.flatten(1)).relu()).relu()
    scores = linear("fc_cls", hidden).softmax(1)  # the background comes last
    classes, boxes = heads.box_predictor(heads.box_head(regions))
    torch.testing.assert_close(classes.softmax(1)[:, 1:], scores[:, :80], rtol=0, atol=1e-5)
    torch.testing.assert_close(classes.softmax(1)[:, 0], scores[:, 80], rtol=0, atol=1e-5)
    torch.testing.assert_close(boxes[:, 4:], linear("fc_reg", hidden), rtol=0, atol=1e-4)
    assert not boxes[:, :4].any()

    hidden = torch.randn(2, 256, 14, 14)
    masks = heads.mask_predictor(heads.mask_head(hidden))
    for i in range(4):
        hidden = conv(tensors, f"roi_head.mask_head.convs.{i}.conv", hidden).relu()
    weight, bias = (tensors[f"roi_head.mask_head.upsample.{leaf}"] for leaf in ("weight", "bias"))
    hidden = F.conv_transpose2d(hidden, weight, bias, stride=2).relu()
    torch.testing.assert_close(masks[:, 1:], conv(tensors, "roi_head.mask_head.conv_logits", hidden), rtol=0, atol=1e-4)
    assert not masks[:, 0].any()


@torch.no_grad()
def test_semantic_fpn_outputs_match_the_published_model(published):
    tensors, model = published["sfpn"], create("sfpn").eval()
    load_checkpoint(model, tensors)
    image = torch.rand(1, 3, 64, 96)
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    levels = neck(tensors, list(model.backbone.features((image - mean) / std).values()))
    total = 0
    for level, x in enumerate(levels):
        for i in range(max(1, level)):
            name = f"decode_head.scale_heads.{level}.{2 * i}"
            x = F.conv2d(x, tensors[f"{name}.conv.weight"], padding=1)
            norm = [tensors[f"{name}.bn.{leaf}"] for leaf in ("running_mean", "running_var", "weight", "bias")]
            x = F.batch_norm(x, *norm).relu()
            if level:
                x = F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)
        total = total + x
    truth = F.interpolate(conv(tensors, "decode_head.conv_seg", total), (64, 96), mode="bilinear", align_corners=False)
    torch.testing.assert_close(model(image), truth, rtol=0, atol=1e-4)


# Through the factories


@KIND
def test_factory_takes_a_complete_checkpoint(files, published, kind):
    model = (
        create_segmenter("transxnet_t", 150, checkpoint=files[kind])
        if kind == "sfpn"
        else create_detector(kind, "transxnet_t", 80, checkpoint=files[kind], pretrained=True)  # nothing is downloaded
    )
    truth = convert_official_state_dict(published[kind])
    assert all(torch.equal(tensor, truth[name]) for name, tensor in model.state_dict().items())


@pytest.mark.parametrize("name", ["transxnet_n", "resnet10t"])
def test_backbone_starts_from_a_classifier_checkpoint(name, tmp_path):
    classifier = timm.create_model(name, num_classes=7)
    torch.save(classifier.state_dict(), tmp_path / "classifier.pth")
    detector = create_detector("retinanet", name, 2, checkpoint=tmp_path / "classifier.pth")
    own, theirs = dict(detector.backbone.body.named_parameters()), dict(classifier.named_parameters())
    assert all(torch.equal(p, theirs[n]) for n, p in own.items() if not n.startswith("norms."))
