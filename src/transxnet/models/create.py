"""Creating a model by name."""

import logging
from typing import Any

import timm
from torch import nn

from transxnet.errors import UserError, nearest

_log = logging.getLogger(__name__)


def create_model(name: str, pretrained: bool = False, **kwargs: Any) -> nn.Module:
    """Create one of our models, or any of timm's, by name.

    Args:
        name: such as "transxnet_t", or with a tag of published weights "transxnet_b.in1k_384".
        pretrained: load the published weights.
        **kwargs: what ``timm.create_model`` and the model take, such as ``num_classes``, ``in_chans``, ``img_size``,
            ``features_only``.

    Raises:
        UserError: no model or tag of this name; the nearest ones are named.
        TypeError: an option that the model does not have.
    """
    architecture, tag = split_tag(name)
    if not timm.is_model(architecture):
        raise UserError(
            f"there is no model {architecture!r}.{nearest(architecture, timm.list_models())} Ours: "
            f"{', '.join(timm.list_models('transxnet*'))}; any other of timm's works too."
        )
    tags = [split_tag(known)[1] for known in timm.list_pretrained(f"{architecture}.*")]
    if tag and tag not in tags:
        raise UserError(
            f"{architecture} has no weights {tag!r}.{nearest(tag, tags)} Accepted: {', '.join(tags) or 'none'}."
        )
    return timm.create_model(name, pretrained=pretrained, **kwargs)


def create_sized_model(name: str, img_size: int, **kwargs: Any) -> tuple[nn.Module, dict[str, Any]]:
    """Create a model for one input size, and say which arguments that took.

    Networks that hold something of a fixed size, such as a position bias, take ``img_size``; the others do not know it.

    Returns:
        The model, and ``{"img_size": img_size}`` or ``{}``.
    """
    try:
        return create_model(name, img_size=img_size, **kwargs), {"img_size": img_size}
    except TypeError as error:
        if "img_size" not in str(error):
            raise
    return create_model(name, **kwargs), {}


def split_tag(name: str) -> tuple[str, str]:
    """``"transxnet_b.in1k_384"`` -> ``("transxnet_b", "in1k_384")``; without a tag the second is empty."""
    architecture, _, tag = name.partition(".")
    return architecture, tag
