"""Mapping of tensor names from the published layouts to ours.

The backbones number their stages 0, 2, 4 and 6, with the downsampling between them at 1, 3 and 5.

The detectors and segmenters use mmdetection 2.x and mmsegmentation 0.x. Besides the names two things differ. There the
background is the last class of Mask R-CNN's classifier, here the first. And there boxes and masks have no background
class, while ours is zero and never read.
"""

import re
from collections.abc import Collection, Iterable, Mapping

import torch
from torch import Tensor

_AFFINE = ("weight", "bias")
_BATCH_NORM = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")

# Within a block: published name -> ours. A longer name precedes its prefixes.
_BLOCK = {
    "pos_embed": "dpe.dwconv",
    "norm1": "norm1",
    "norm2": "norm2",
    "layer_scale_1": "scale1",
    "layer_scale_2": "scale2",
    "token_mixer.local_unit.proj.0": "mixer.idconv.squeeze",
    "token_mixer.local_unit.proj.1": "mixer.idconv.expand",
    "token_mixer.local_unit": "mixer.idconv",
    "token_mixer.global_unit.q": "mixer.osra.q",
    "token_mixer.global_unit.sr.0": "mixer.osra.reduction.reduce",
    "token_mixer.global_unit.sr.1": "mixer.osra.reduction.scale",
    "token_mixer.global_unit.local_conv": "mixer.osra.refinement.dwconv",
    "token_mixer.global_unit.kv": "mixer.osra.kv",
    "token_mixer.proj.0": "mixer.ste.dwconv",
    "token_mixer.proj.2": "mixer.ste.bn1",
    "token_mixer.proj.3": "mixer.ste.squeeze",
    "token_mixer.proj.5": "mixer.ste.bn2",
    "token_mixer.proj.6": "mixer.ste.expand",
    "token_mixer.proj.7": "mixer.ste.bn3",
    "mlp.fc1.0": "ffn.expand",
    "mlp.fc1.2": "ffn.bn1",
    "mlp.dwconv.proj": "ffn.dwconv",
    "mlp.norm": "ffn.bn2",
    "mlp.fc2.0": "ffn.project",
    "mlp.fc2.1": "ffn.bn3",
}
_HEAD = {"classifier.0": "norm", "classifier.2": "head.fc"}


def is_ours(names: Iterable[str]) -> bool:
    """Whether these are tensor names of this package's networks, or of its detectors and segmenters on any network."""
    return any(name.startswith(("stages.0.patch_embed.", "backbone.fpn.")) for name in names)


def is_dense(names: Iterable[str]) -> bool:
    """Whether these are tensor names of a whole detector or segmenter, published or ours."""
    names = list(names)
    published = all(any(name.startswith(part) for name in names) for part in ("backbone.", "neck."))
    return published or any(name.startswith("backbone.fpn.") for name in names)


def convert_published(tensors: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], list[str], list[str]]:
    """Convert a published classifier, backbone, detector or segmenter to our layout.

    Returns:
        The tensors in our layout; unknown published names; missing published names.
    """
    if not is_dense(tensors):
        return _convert_backbone(tensors)
    inside = [name for name in tensors if name.startswith("backbone.")]
    converted, foreign, missing = _convert_backbone({n.removeprefix("backbone."): tensors[n] for n in inside})
    outside = [name for name in tensors if not name.startswith("backbone.")]
    places = _places(outside)
    converted = {f"backbone.body.{name}": tensor for name, tensor in converted.items()}
    converted |= {ours: _background_first(name, tensors[name]) for name, ours in places.items() if name in tensors}
    foreign = [f"backbone.{name}" for name in foreign] + [name for name in outside if name not in places]
    missing = [f"backbone.{name}" for name in missing] + [name for name in places if name not in tensors]
    return converted, foreign, missing


def _convert_backbone(tensors: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], list[str], list[str]]:
    converted, foreign = {}, []
    for name, tensor in tensors.items():
        ours = _our_name(name)
        if ours is None:
            foreign.append(name)
            continue
        if name.startswith("classifier.2.weight") and tensor.ndim == 4:
            tensor = tensor.flatten(1)  # a 1x1 convolution on pooled features is a linear layer
        if "layer_scale" in name:
            tensor = tensor.flatten()
        converted[ours] = tensor
    return converted, foreign, _incomplete([name for name in tensors if name not in foreign])


def _our_name(name: str) -> str | None:
    """Our name of a published tensor, or None if it is unknown."""
    if match := re.fullmatch(r"patch_embed\.proj\.(.+)", name):
        return f"stages.0.patch_embed.{match[1]}"
    if match := re.fullmatch(r"relative_pos_enc\.([0-3])", name):
        return f"stages.{match[1]}.pos_bias.weight"
    if match := re.fullmatch(r"norm([0246])\.(weight|bias)", name):
        return f"norms.{int(match[1]) // 2}.{match[2]}"
    if match := re.fullmatch(r"network\.([135])\.proj\.(.+)", name):
        return f"stages.{(int(match[1]) + 1) // 2}.patch_embed.{match[2]}"
    if match := re.fullmatch(r"network\.([0246])\.(\d+)\.(.+)", name):
        for theirs, ours in _BLOCK.items():
            if match[3].startswith(theirs + "."):
                return f"stages.{int(match[1]) // 2}.blocks.{match[2]}.{ours}{match[3].removeprefix(theirs)}"
    for theirs, ours in _HEAD.items():
        if name.startswith(theirs + "."):
            return ours + name.removeprefix(theirs)
    return None


def _incomplete(names: Collection[str]) -> list[str]:
    """Published names of missing tensors, inferred from the other tensors of the checkpoint.

    Every block has the same names, except for OSRA's reduction, which all or none of a stage's blocks have. A layer of
    the head or an output's norm may be absent, but not incomplete.
    """
    blocks: dict[tuple[str, str], set[str]] = {}
    for name in names:
        if match := re.fullmatch(r"network\.([0246])\.(\d+)\.(.+)", name):
            blocks.setdefault((match[1], match[2]), set()).add(match[3])
    if not blocks:
        return ["every block"]
    common = {leaf for block in blocks.values() for leaf in block if ".sr." not in leaf}
    missing = []
    for stage in "0246":
        expected = common.union(*(block for (s, _), block in blocks.items() if s == stage))
        depth = 1 + max((int(b) for s, b in blocks if s == stage), default=0)
        for i in range(depth):
            absent = expected - blocks.get((stage, str(i)), set())
            missing += sorted(f"network.{stage}.{i}.{leaf}" for leaf in absent)
    outside = [f"relative_pos_enc.{i}" for i in range(4)]
    for embedding in ("patch_embed.proj", "network.1.proj", "network.3.proj", "network.5.proj"):
        outside += [f"{embedding}.conv.weight"]
        outside += [f"{embedding}.bn.{leaf}" for leaf in ("weight", "bias", "running_mean", "running_var")]
    for layer in ("classifier.0", "classifier.2", "norm0", "norm2", "norm4", "norm6"):
        pair = [f"{layer}.weight", f"{layer}.bias"]
        outside += pair if any(name in names for name in pair) else []
    return missing + [name for name in outside if name not in names]


def _places(names: Iterable[str]) -> dict[str, str]:
    """Published name -> ours, for each tensor required in a file with these names."""
    names = list(names)
    if any(name.startswith("decode_head.") for name in names):
        return _neck(4, 0) | _semantic_fpn()
    if any(name.startswith(("rpn_head.", "roi_head.")) for name in names):
        return _neck(4, 0) | _mask_rcnn()
    return _neck(3, 2) | _retinanet()


def _neck(levels: int, extra_levels: int) -> dict[str, str]:
    layers = {}
    for i in range(levels):
        layers[f"neck.lateral_convs.{i}.conv"] = f"backbone.fpn.inner_blocks.{i}.0"
        layers[f"neck.fpn_convs.{i}.conv"] = f"backbone.fpn.layer_blocks.{i}.0"
    for i, name in enumerate(("p6", "p7")[:extra_levels]):
        layers[f"neck.fpn_convs.{levels + i}.conv"] = f"backbone.fpn.extra_blocks.{name}"
    return _leaves(layers)


def _retinanet() -> dict[str, str]:
    layers = {
        "bbox_head.retina_cls": "head.classification_head.cls_logits",
        "bbox_head.retina_reg": "head.regression_head.bbox_reg",
    }
    for i in range(4):
        layers[f"bbox_head.cls_convs.{i}.conv"] = f"head.classification_head.conv.{i}.0"
        layers[f"bbox_head.reg_convs.{i}.conv"] = f"head.regression_head.conv.{i}.0"
    return _leaves(layers)


def _mask_rcnn() -> dict[str, str]:
    layers = {
        "rpn_head.rpn_conv": "rpn.head.conv.0.0",
        "rpn_head.rpn_cls": "rpn.head.cls_logits",
        "rpn_head.rpn_reg": "rpn.head.bbox_pred",
        "roi_head.bbox_head.shared_fcs.0": "roi_heads.box_head.fc6",
        "roi_head.bbox_head.shared_fcs.1": "roi_heads.box_head.fc7",
        "roi_head.bbox_head.fc_cls": "roi_heads.box_predictor.cls_score",
        "roi_head.bbox_head.fc_reg": "roi_heads.box_predictor.bbox_pred",
        "roi_head.mask_head.upsample": "roi_heads.mask_predictor.conv5_mask",
        "roi_head.mask_head.conv_logits": "roi_heads.mask_predictor.mask_fcn_logits",
    }
    for i in range(4):
        layers[f"roi_head.mask_head.convs.{i}.conv"] = f"roi_heads.mask_head.{i}.0"
    return _leaves(layers)


def _semantic_fpn() -> dict[str, str]:
    names = _leaves({"decode_head.conv_seg": "head.classifier"})
    for level in range(4):
        for i in range(max(1, level)):
            step = 2 * i  # every second module upsamples
            theirs, ours = f"decode_head.scale_heads.{level}.{step}", f"head.scale_heads.{level}.{step}"
            names[f"{theirs}.conv.weight"] = f"{ours}.0.weight"
            names |= _leaves({f"{theirs}.bn": f"{ours}.1"}, _BATCH_NORM)
    return names


def _leaves(layers: Mapping[str, str], leaves: Iterable[str] = _AFFINE) -> dict[str, str]:
    return {f"{theirs}.{leaf}": f"{ours}.{leaf}" for theirs, ours in layers.items() for leaf in leaves}


def _background_first(name: str, tensor: Tensor) -> Tensor:
    if name.startswith("roi_head.bbox_head.fc_cls."):
        return tensor.roll(1, 0)
    if name.startswith("roi_head.bbox_head.fc_reg."):
        return torch.cat([tensor.new_zeros((4, *tensor.shape[1:])), tensor])
    if name.startswith("roi_head.mask_head.conv_logits."):
        return torch.cat([tensor.new_zeros((1, *tensor.shape[1:])), tensor])
    return tensor
