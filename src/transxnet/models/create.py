"""Creating a model by name."""

from collections.abc import Mapping
from typing import Any

import timm
from torch import nn

from transxnet.errors import UserError, nearest


def create_model(name: str, pretrained: bool = False, **kwargs: Any) -> nn.Module:
    """Create one of our models, or any of timm's, by name.

    Args:
        name: such as "transxnet_t", or with a tag of published weights "transxnet_b.in1k_384".
        pretrained: load the published weights.
        **kwargs: what ``timm.create_model`` and the model take, such as ``num_classes``, ``in_chans``, ``img_size``,
            ``features_only``.

    Raises:
        UserError: no model or tag of this name (the nearest ones are named), or its weights can't be had.
        TypeError: an option that the model does not have.
    """
    check_name(name)
    if kwargs.get("token_enhancer", "") is None:
        kwargs["token_enhancer"] = "none"  # timm leaves out what is None, and the network would have its default
    try:
        return timm.create_model(name, pretrained=pretrained, **kwargs)
    except (OSError, RuntimeError) as error:
        if not pretrained:
            raise
        raise UserError(
            f"the published weights of {name} can't be had: {error} Fetch the file by other means and give it as "
            "--checkpoint to train and as --file to eval and predict."
        ) from error


def check_name(name: str) -> None:
    """Raise UserError, with the nearest names, unless there is such a model and, if one is given, such a tag."""
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


def create_model_with(name: str, wishes: Mapping[str, Any], **kwargs: Any) -> tuple[nn.Module, dict[str, Any]]:
    """Create a model with those of the wishes that it knows, and say which these are.

    Networks that hold something of a fixed size, such as a position bias, take ``img_size``, others do not; the same
    holds for ``drop_path_rate``.

    Args:
        name: of the model.
        wishes: arguments that are left out where the model does not have them.
        **kwargs: arguments that it must have.
    """
    granted = dict(wishes)
    while True:
        try:
            return create_model(name, **granted, **kwargs), granted
        except TypeError as error:
            unknown = [wish for wish in granted if f"'{wish}'" in str(error)]
            if not unknown:
                raise
            for wish in unknown:
                del granted[wish]


def own_size(name: str) -> int:
    """Side in pixels of the images that a model, or the weights of its tag, were made for."""
    config = timm.get_pretrained_cfg(name)
    return int(config.input_size[-1]) if config is not None else 224


def split_tag(name: str) -> tuple[str, str]:
    """``"transxnet_b.in1k_384"`` -> ``("transxnet_b", "in1k_384")``; without a tag the second is empty."""
    architecture, _, tag = name.partition(".")
    return architecture, tag
