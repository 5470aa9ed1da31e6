"""Create a model by name. A name may have options of the model: ``transxnet_t@local_conv=dyconv,dpe=false``."""

import inspect
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import timm
import torch
from torch import nn

from transxnet.models.model_spec import ModelSpec, parse_model_name
from transxnet.utils.errors import UserError, by_interface, nearest
from transxnet.utils.library_messages import brief_retries


def create_model(name: str | ModelSpec, pretrained: bool = False, **kwargs: Any) -> nn.Module:
    """Create one of our models, or any of timm's, by name.

    Args:
        name: name such as "transxnet_t", optionally with a tag of published weights, "transxnet_b.in1k_384", or with
            options of the model, "transxnet_t@local_conv=dyconv". Settings and part of a parsed name are ignored.
        pretrained: load the published weights.
        **kwargs: arguments of ``timm.create_model`` and the model, such as ``num_classes``, ``in_chans``, ``img_size``,
            ``features_only``.

    Raises:
        UserError: the model or tag does not exist (the message names the nearest), an option in the name is unknown to
            the model or also given as an argument, or weights are not available.
        TypeError: an argument that the model does not have.
    """
    spec = check_name(name)
    if twice := spec.options.keys() & kwargs:
        raise UserError(f"{spec.text}: {sorted(twice)[0]} is also passed as an argument. Remove it from the name.")
    arguments = spec.options | kwargs
    if arguments.get("token_enhancer", "") is None:
        arguments["token_enhancer"] = "none"  # timm drops arguments that are None, and the default would be used
    try:
        with brief_retries():
            return timm.create_model(spec.name, pretrained=pretrained, **arguments)
    except TypeError as error:
        if wrong := [option for option in spec.options if f"keyword argument '{option}'" in str(error)]:
            known = _options_of(spec.architecture)
            raise UserError(
                f"{spec.architecture} has no option {wrong[0]!r}.{nearest(wrong[0], known)} "
                f"Accepted: {', '.join(known)}."
            ) from error
        raise
    except (OSError, RuntimeError) as error:
        if not pretrained:
            raise
        raise UserError(
            f"cannot get the published weights of {spec.text}: {error} Download the file in another way, and pass "
            + by_interface(
                "it as --checkpoint to train, or as --file to other commands.", "pretrained_cfg_overlay=dict(file=...)."
            )
        ) from error


def check_name(name: str | ModelSpec) -> ModelSpec:
    """Parse a name, and check that the model and its tag exist. Options are checked on creation.

    Raises:
        UserError: the model or tag does not exist (the message names the nearest), an unparsed name contains something
            other than options of a model, or it is a folder.
    """
    if isinstance(name, str) and os.path.isdir(name):
        raise UserError(
            f"{name} is a folder, not the name of a model. Load a run folder with transxnet.load({name!r}); to train "
            f"from its weights, pass --checkpoint {name}."
        )
    spec = parse_model_name(name) if isinstance(name, str) else name
    if not timm.is_model(spec.architecture):
        raise UserError(
            f"unknown model {spec.architecture!r}.{nearest(spec.architecture, timm.list_models())} Accepted: "
            f"{', '.join(timm.list_models('transxnet*'))} and all models of timm."
        )
    tags = [known.partition(".")[2] for known in timm.list_pretrained(f"{spec.architecture}.*")]
    if spec.tag and spec.tag not in tags:
        raise UserError(
            f"{spec.architecture} has no weights {spec.tag!r}.{nearest(spec.tag, tags)} "
            f"Accepted: {', '.join(tags) or 'none'}."
        )
    if isinstance(name, str):
        spec.check_settings()
    return spec


def create_model_with(
    name: str | ModelSpec, wishes: Mapping[str, Any], **kwargs: Any
) -> tuple[nn.Module, dict[str, Any]]:
    """Create a model with those of the wishes that it supports, and return it with these wishes.

    Networks with parts of a fixed size, such as a position bias, take ``img_size``, others do not; the same holds for
    ``drop_path_rate``.

    Args:
        name: name of the model.
        wishes: optional arguments, dropped if the model does not have them or its name sets them.
        **kwargs: required arguments.
    """
    spec = check_name(name)
    granted = {wish: value for wish, value in wishes.items() if wish not in spec.options}
    while True:
        try:
            return create_model(spec, **granted, **kwargs), granted
        except TypeError as error:
            unknown = [wish for wish in granted if f"'{wish}'" in str(error)]
            if not unknown:
                raise
            for wish in unknown:
                del granted[wish]


def default_img_size(name: str | ModelSpec) -> int:
    """Side in pixels of the images that a model, or the weights of its tag, were trained on."""
    config = timm.get_pretrained_cfg(check_name(name).name)
    return int(config.input_size[-1]) if config is not None else 224


@contextmanager
def wrong_size_as_user_error(name: str, height: int, width: int, option: str) -> Iterator[None]:
    """Convert the various errors by which networks reject an image size to a UserError."""
    try:
        yield
    except (ValueError, AssertionError, RuntimeError, ZeroDivisionError) as error:
        raise UserError(
            f"{name} does not support images of {height}x{width}: {error} Choose another {option}."
        ) from error


def _options_of(architecture: str) -> list[str]:
    """Optional arguments of a model's class and its base classes."""
    with torch.device("meta"):
        kinds = type(timm.create_model(architecture)).__mro__
    signatures = [inspect.signature(kind.__init__) for kind in kinds if "__init__" in vars(kind)]  # type: ignore[misc]
    return list(dict.fromkeys(key for s in signatures for key, p in s.parameters.items() if p.default is not p.empty))
