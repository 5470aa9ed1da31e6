import pytest
import torch

from transxnet import UserError
from transxnet.heads import MaskRCNN, RetinaNet, SemanticFPN, create_detector, create_segmenter

STRIDES = [4, 8, 16, 32]


@pytest.mark.parametrize(
    "name", ["transxnet_n", "transxnet_t", "resnet50", "swin_tiny_patch4_window7_224", "pvt_v2_b0"]
)
def test_every_head_takes_our_and_timm_backbones(name):
    with torch.device("meta"):  # shapes only
        retinanet = create_detector("retinanet", name, 3, drop_path_rate=0.1)
        mask_rcnn = create_detector("maskrcnn", name, 3)
        segmenter = create_segmenter(name, 3)
    assert [type(model) for model in (retinanet, mask_rcnn, segmenter)] == [RetinaNet, MaskRCNN, SemanticFPN]
    assert [model.num_classes for model in (retinanet, mask_rcnn, segmenter)] == [3, 3, 3]
    assert [len(model.backbone.fpn.inner_blocks) for model in (retinanet, mask_rcnn, segmenter)] == [3, 4, 4]
    for model, strides in ((retinanet, STRIDES[1:]), (mask_rcnn, STRIDES), (segmenter, STRIDES)):
        body = model.backbone.body
        assert [body.feature_info.reduction()[i] for i in model.backbone.indices] == strides
        widths = [body.feature_info.channels()[i] for i in model.backbone.indices]
        assert [block[0].in_channels for block in model.backbone.fpn.inner_blocks] == widths
        assert all(parameter.is_meta for parameter in model.parameters())
    # Box outputs: RetinaNet has 9 anchors per location; Mask R-CNN's classes include the background.
    outputs = [
        len(model.get_submodule(layer).bias)
        for model in (retinanet, mask_rcnn, segmenter)
        for layer in model.class_layers
    ]
    assert outputs == [9 * 3, 4, 4 * 4, 4, 3]


def test_sizes_and_ignored_label_are_passed_on(body):
    detector = create_detector("retinanet", body((1, 2, 3)), 2, min_size=100, max_size=200)
    assert (detector.transform.min_size, detector.transform.max_size) == ((100,), 200)
    assert (create_detector("maskrcnn", body(), 2).transform.min_size) == (800,)
    assert create_segmenter(body(), 2, ignore_index=9).ignore_index == 9


def test_module_is_used_unchanged(body):
    backbone = body()
    assert create_segmenter(backbone, 2).backbone.body is backbone
    for options in (dict(pretrained=True), dict(drop_path_rate=0.1)):
        with pytest.raises(UserError, match="require a backbone given by name"):
            create_segmenter(backbone, 2, **options)


def test_backbone_starts_from_published_imagenet_weights(monkeypatch):
    asked = []

    def load(model, cfg, cache_dir=None):
        asked.append(cfg["url"].rpartition("/")[2])

    monkeypatch.setattr("transxnet.models.timm_api.load_pretrained", load)
    create_detector("retinanet", "transxnet_t", 2, pretrained=True)
    create_segmenter("transxnet_b.in1k_384", 2, pretrained=True)
    assert asked == ["transx-t.pth.tar", "transx-b-384.pth.tar"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (dict(head="retina"), "head must be 'retinanet' or 'maskrcnn', got 'retina'"),
        (dict(num_classes=0), "num_classes must be an integer of at least 1, got 0"),
        (dict(min_size=0), "min_size must be an integer of at least 1, got 0"),
        (dict(backbone="transxnet_x"), "unknown model 'transxnet_x'"),
        (dict(backbone="test_vit"), "the head needs feature maps of strides"),
        (dict(checkpoint="nowhere.pth"), r"checkpoint file nowhere\.pth"),
    ],
)
def test_impossible_combinations_are_errors(options, message):
    with pytest.raises(UserError, match=message):
        create_detector(**{**dict(head="maskrcnn", backbone="resnet10t", num_classes=2), **options})
    if "head" not in options and "min_size" not in options:
        with pytest.raises(UserError, match=message):
            create_segmenter(**{**dict(backbone="resnet10t", num_classes=2), **options})
