"""Load weights of whole detectors and segmenters, published or our own."""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from transxnet.heads.mask_rcnn import MaskRCNN
from transxnet.heads.retinanet import RetinaNet
from transxnet.heads.semantic_fpn import SemanticFPN
from transxnet.models.checkpoints import convert_official_state_dict, load_adapted, read_checkpoint, unwrap
from transxnet.models.published_layouts import is_dense
from transxnet.utils.errors import UserError

_log = logging.getLogger(__name__)

DenseModel = RetinaNet | MaskRCNN | SemanticFPN


def load_checkpoint(model: DenseModel, source: str | Path | Mapping[str, Any]) -> None:
    """Load the weights of a whole detector or segmenter, and account for every tensor.

    Args:
        model: the model. If its number of classes differs from the file's, the layers that depend on it keep their
            initial weights, which is logged as a warning.
        source: a file or its contents: one of the published ``retinanet_*.pth``, ``maskrcnn_*.pth`` and
            ``sfpn_transxnet_*.pth``, or a state dict of such a model of ours.

    Raises:
        UserError: the file does not exist, holds weights of another kind of model (a backbone alone, for example), or
            tensors are missing, unexpected or of another shape; the message names them.
    """
    named = "the checkpoint" if isinstance(source, Mapping) else str(source)
    tensors = dense_tensors(source)
    if tensors is None:
        raise UserError(
            f"{named} does not contain a complete {type(model).__name__}. To start from backbone weights, pass them to "
            "create_detector or create_segmenter as checkpoint."
        )
    try:
        keep_own_class_layers(model, tensors)
        load_adapted(model, tensors)
    except UserError as error:
        raise UserError(f"{named} does not match this {type(model).__name__}: {error}") from error


def dense_tensors(source: str | Path | Mapping[str, Any]) -> dict[str, Tensor] | None:
    """Return the tensors of a whole detector or segmenter in our layout, or None for other weights.

    Raises:
        UserError: the file does not exist, or a published detector or segmenter is incomplete.
    """
    tensors = unwrap(source if isinstance(source, Mapping) else read_checkpoint(source))
    return dict(convert_official_state_dict(tensors)) if is_dense(tensors) else None


def keep_own_class_layers(model: DenseModel, tensors: dict[str, Tensor]) -> None:
    """Replace layers for another number of classes by the model's own, and log it."""
    own = model.state_dict()
    replaced = []
    for layer in model.class_layers:
        names = [f"{layer}.{leaf}" for leaf in ("weight", "bias")]
        if all(name in tensors for name in names) and len(tensors[names[0]]) != len(own[names[0]]):
            tensors.update({name: own[name] for name in names})
            replaced.append(layer)
    if replaced:
        _log.warning(
            "the checkpoint does not have the model's %d classes: %s are initialized randomly, all else is loaded",
            model.num_classes,
            ", ".join(replaced),
        )
