import pytest
from rich.console import Console

from transxnet.analysis.cost import count
from transxnet.analysis.dense_cost import dense_info, show
from transxnet.models.create import create_model
from transxnet.utils.errors import UserError


@pytest.mark.parametrize(
    ("model", "head", "parameters", "flops"),
    [
        ("transxnet_t", "retinanet", 22.4, 187),
        pytest.param("transxnet_s", "retinanet", 36.6, 242, marks=pytest.mark.long),
        pytest.param("transxnet_b", "retinanet", 58.0, 317, marks=pytest.mark.long),
        ("transxnet_t", "maskrcnn", 32.5, 205),
        pytest.param("transxnet_s", "maskrcnn", 46.5, 261, marks=pytest.mark.long),
        pytest.param("transxnet_b", "maskrcnn", 67.6, 336, marks=pytest.mark.long),
    ],
)
def test_detector_costs_match_the_paper(model, head, parameters, flops):
    """Table IV: parameters in millions and GMACs at 800x1280."""
    facts = dense_info(model, "detect", head)
    assert (facts.size, facts.num_classes) == ((800, 1280), 80)
    assert abs(facts.parameters / 1e6 - parameters) < 0.1
    assert abs(facts.multiply_adds / 1e9 - flops) < 0.005 * flops


@pytest.mark.parametrize(
    ("model", "parameters", "flops"),
    [("swin_tiny_patch4_window7_224", 48, 264), ("convnext_tiny", 48, 262)],
)
def test_costs_of_other_models_match_their_papers(model, parameters, flops):
    """Mask R-CNN on Swin-T (Dong et al., "CSWin Transformer"), ConvNeXt-T (Liu et al., "A ConvNet for the 2020s")."""
    facts = dense_info(model, "detect", "maskrcnn")
    assert abs(facts.parameters / 1e6 - parameters) < 0.5
    assert abs(facts.multiply_adds / 1e9 - flops) < 0.01 * flops


def test_semantic_fpn_with_resnet50_matches_the_published_cost():
    """Wang et al., "Pyramid Vision Transformer", Table 4: 28.5 M parameters, 45.6 G at 512x512."""
    facts = dense_info("resnet50", "segment", img_size=512)
    assert abs(facts.parameters / 1e6 - 28.5) < 0.1
    assert abs(facts.multiply_adds / 1e9 - 45.6) < 0.03 * 45.6


def test_the_parts_of_retinanet_are_counted_as_by_hand():
    facts = dense_info("resnet10t", "detect", num_classes=3)
    backbone, pyramid, head = facts.parts
    positions = 100 * 160 + 50 * 80 + 25 * 40
    extra = 13 * 20 * 9 * (512 * 256) + 7 * 10 * 9 * (256 * 256)
    laterals = 256 * (100 * 160 * 128 + 50 * 80 * 256 + 25 * 40 * 512)
    assert pyramid.multiply_adds == laterals + positions * 9 * 256**2 + extra
    assert head.multiply_adds == (positions + 13 * 20 + 7 * 10) * 9 * 256 * (8 * 256 + 9 * 3 + 9 * 4)
    assert head.parameters == 9 * 256 * (8 * 256 + 27 + 36) + 8 * 256 + 27 + 36
    assert facts.parameters == backbone.parameters + pyramid.parameters + head.parameters


def test_the_parts_of_mask_r_cnn_are_counted_as_by_hand():
    parts = {part.name: part for part in dense_info("resnet10t", "detect", "maskrcnn", img_size="256x320").parts}
    assert parts["box head, 1,000 proposals"].multiply_adds == 1000 * 1024 * (256 * 49 + 1024 + 81 + 4 * 81)
    convs, deconv, logits = 4 * 14**2 * 9 * 256**2, 28**2 * 256**2, 28**2 * 256 * 81
    assert parts["mask head, 100 proposals"].multiply_adds == 100 * (convs + deconv + logits)
    positions = sum((256 // s) * (320 // s) for s in (4, 8, 16, 32, 64))
    assert parts["RPN head"].multiply_adds == positions * (9 * 256**2 + 256 * (3 + 12))


@pytest.mark.long
def test_backbone_cost_equals_its_cost_alone():
    part = dense_info("transxnet_n", "segment", img_size="64x96").parts[0]
    alone = count(create_model("transxnet_n", features_only=True), 64, 96)
    assert (part.parameters, part.multiply_adds) == (alone.parameters, alone.multiply_adds)
    assert part.attention_multiply_adds == alone.attention_multiply_adds > 0


@pytest.mark.parametrize("size", [250, "250", "250x250", (250, 250), (256, 256)])
def test_size_formats_are_equivalent_and_padded_to_32(size):
    facts = dense_info("resnet10t", "segment", img_size=size, num_classes=2)
    assert facts.multiply_adds == dense_info("resnet10t", "segment", img_size=256, num_classes=2).multiply_adds


def test_printed_lines(capsys):
    Console(width=80).print(show(dense_info("resnet10t", "detect", "maskrcnn", img_size="256x320", num_classes=1000)))
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "resnet10t, Mask R-CNN, 1,000 classes"
    assert lines[2].startswith("  MACs at 256x320    ")
    assert [line.split("  ")[0] for line in lines[5:]] == [
        "backbone", "FPN", "RPN head", "box head, 1,000 proposals", "mask head, 100 proposals"
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (dict(task="classify"), "task must be 'detect' or 'segment', got 'classify'"),
        (dict(task="detect", head="fcos"), "head must be 'retinanet' or 'maskrcnn', got 'fcos'"),
        (dict(task="segment", head="maskrcnn"), "head='maskrcnn' is for detectors; segmenters use Semantic FPN"),
        (
            dict(task="detect", img_size="800 x 1280"),
            "such as 224 or 800x1280, at least 1, got '800 x",
        ),
        (dict(task="detect", img_size=0), "at least 1, got 0"),
        (dict(task="detect", num_classes=0), "num_classes must be an integer of at least 1, got 0"),
    ],
)
def test_invalid_options_are_errors(options, message):
    with pytest.raises(UserError, match=message):
        dense_info("resnet10t", **options)


def test_unsuitable_networks_and_sizes_are_errors():
    with pytest.raises(UserError, match="the head needs feature maps of strides 8, 16, 32, but test_vit returns"):
        dense_info("test_vit", "detect")
    with pytest.raises(
        UserError, match=r"maxvit_tiny_tf_224 does not support images of 96x160: .* Choose another --img-size\."
    ):
        dense_info("maxvit_tiny_tf_224", "detect", img_size="96x160")
    with pytest.raises(UserError, match="Did you mean 'transxnet_"):
        dense_info("transxnet_x", "segment")


def test_input_channels_change_the_first_convolution_only():
    three, six = (dense_info("resnet18", "segment", img_size=64, in_chans=channels) for channels in (3, 6))
    assert six.parameters - three.parameters == 3 * 64 * 7 * 7
    assert six.multiply_adds - three.multiply_adds == 3 * 64 * 7 * 7 * 32 * 32
