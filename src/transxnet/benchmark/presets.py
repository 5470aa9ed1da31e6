"""Presets of a benchmark: the paper's tables, and networks of similar accuracy."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from transxnet.utils.errors import UserError, nearest


@dataclass(frozen=True)
class PublishedSpeed:
    """What the paper measured for a model.

    Attributes:
        images_per_second: throughput.
        megabytes: memory, in the paper's unit.
    """

    images_per_second: int
    megabytes: int


@dataclass(frozen=True)
class PublishedAccuracy:
    """A published accuracy on the validation set of ImageNet-1k.

    Attributes:
        label: the network's short name.
        top1: top-1 accuracy in percent.
        size: side of the images in pixels.
        source: where it is published: the paper, or the weights in timm's table of results.
        training: what was used besides ImageNet-1k and its labels; empty for nothing.
    """

    label: str
    top1: float
    size: int
    source: str
    training: str = ""


@dataclass(frozen=True)
class Preset:
    """Models to compare: of a table of the paper, with the settings in its text, or of our own choice.

    Attributes:
        models: names of the models.
        size: side of the images in pixels.
        batch: batch size.
        note: source and limits.
        published: model name -> the paper's measurements, for the models that its text gives them for.
        accuracies: model name -> its published accuracy.
    """

    models: tuple[str, ...]
    size: int
    batch: int
    note: str
    published: Mapping[str, PublishedSpeed] = field(default_factory=dict)
    accuracies: Mapping[str, PublishedAccuracy] = field(default_factory=dict)


TOKEN_MIXERS = ("d_mixer", "sep_conv", "sra", "shifted_window", "mixing_block", "acmix")
_PAPER = "TransXNet (Lou et al., 2023), ImageNet-1k results"
_TIMM = "timm, results/results-imagenet.csv at commit aa4b5850c154: "
FRONTIER = {
    "transxnet_t": PublishedAccuracy("TransXNet-T", 81.6, 224, _PAPER),
    "transxnet_s": PublishedAccuracy("TransXNet-S", 83.8, 224, _PAPER),
    "transxnet_b": PublishedAccuracy("TransXNet-B", 84.6, 224, _PAPER),
    "convnext_tiny": PublishedAccuracy("ConvNeXt-T", 82.07, 224, _TIMM + "convnext_tiny.fb_in1k"),
    "convnext_small": PublishedAccuracy("ConvNeXt-S", 83.14, 224, _TIMM + "convnext_small.fb_in1k"),
    "swin_tiny_patch4_window7_224": PublishedAccuracy(
        "Swin-T", 81.39, 224, _TIMM + "swin_tiny_patch4_window7_224.ms_in1k"
    ),
    "swin_small_patch4_window7_224": PublishedAccuracy(
        "Swin-S", 83.23, 224, _TIMM + "swin_small_patch4_window7_224.ms_in1k"
    ),
    "pvt_v2_b2": PublishedAccuracy("PVTv2-B2", 82.06, 224, _TIMM + "pvt_v2_b2.in1k"),
    "caformer_s18": PublishedAccuracy("CAFormer-S18", 83.66, 224, _TIMM + "caformer_s18.sail_in1k"),
    "mobilenetv4_conv_large": PublishedAccuracy(
        "MobileNetV4-conv-L", 82.97, 384, _TIMM + "mobilenetv4_conv_large.e600_r384_in1k"
    ),
    "fastvit_sa12": PublishedAccuracy("FastViT-SA12", 80.85, 256, _TIMM + "fastvit_sa12.apple_in1k"),
    "fastvit_sa24": PublishedAccuracy("FastViT-SA24", 82.71, 256, _TIMM + "fastvit_sa24.apple_in1k"),
    "efficientnet_b3": PublishedAccuracy("EfficientNet-B3", 81.47, 288, _TIMM + "efficientnet_b3.ra2_in1k"),
    "regnety_040": PublishedAccuracy("RegNetY-4G", 82.31, 224, _TIMM + "regnety_040.ra3_in1k"),
    "resnet50": PublishedAccuracy("ResNet-50", 80.38, 224, _TIMM + "resnet50.a1_in1k"),
    "efficientformerv2_l": PublishedAccuracy(
        "EfficientFormerV2-L", 83.64, 224, _TIMM + "efficientformerv2_l.snap_dist_in1k", "distilled"
    ),
    "tiny_vit_21m_224": PublishedAccuracy("TinyViT-21M", 83.27, 224, _TIMM + "tiny_vit_21m_224.in1k"),
}
"""Accuracies of the frontier preset: of the paper for ours, and as timm measured published weights for the others."""

PRESETS = {
    "table11": Preset(
        models=(
            "transxnet_t",
            "mpvit_xsmall",
            "quadtree_b1",
            "transxnet_s",
            "swin_tiny_patch4_window7_224",
            "convnext_tiny",
            "mpvit_small",
            "focal_tiny",
            "transxnet_b",
            "swin_small_patch4_window7_224",
            "convnext_small",
        ),
        size=224,
        batch=128,
        note="Follows Table XI, of which we have only the text. It names batch 128 on an RTX 3090, and Swin, ConvNeXt, "
        "MPViT, QuadTree and Focal Transformers. Our choices: size 224, and variants of about the cost of T, S and B. "
        "Values marked as the paper's are those in its text, on its GPU.",
        published={"transxnet_t": PublishedSpeed(857, 2252), "mpvit_xsmall": PublishedSpeed(868, 2460)},
    ),
    "table12": Preset(
        models=tuple(f"transxnet_swin_style@token_mixer={mixer}" for mixer in TOKEN_MIXERS),
        size=224,
        batch=128,
        note="Follows Table XII, of which we have only the text. It names the six token mixers in one architecture. "
        "Batch 128 is that of Table XI; size 224 is our choice.",
    ),
    "frontier": Preset(
        models=tuple(
            f"{name}@{'reparameterize,' * name.startswith(('transxnet', 'fastvit'))}size={published.size}"
            for name, published in FRONTIER.items()
        ),
        size=224,
        batch=128,
        note="Throughput in the inference form where there is one, each network at the size of its published accuracy. "
        "Top-1 on ImageNet-1k is published, not measured here: the paper's for TransXNet, timm's results for the "
        "others. A star marks the frontier: no other network is both faster and more accurate.",
        accuracies=FRONTIER,
    ),
}


def find_preset(name: str) -> Preset:
    """Find a preset by name.

    Raises:
        UserError: no preset has this name.
    """
    if name not in PRESETS:
        raise UserError(f"unknown preset {name!r}.{nearest(name, PRESETS)} Accepted: {', '.join(PRESETS)}.")
    return PRESETS[name]
