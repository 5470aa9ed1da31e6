"""Creating a model by name. A name may carry options of the model: ``transxnet_t@local_conv=dyconv,dpe=false``."""

import ast
import inspect
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import timm
from torch import nn

from transxnet.utils.errors import UserError, nearest

LOADING = frozenset(
    {"pretrained", "pretrained_cfg", "pretrained_cfg_overlay", "pretrained_strict", "checkpoint_path", "cache_dir"}
)
"""Arguments of ``timm.create_model`` that say which files to open. A name may come from somebody's recipe or run, so it
never has them: some versions of timm run what a file of ``checkpoint_path`` carries."""


def create_model(name: str, pretrained: bool = False, **kwargs: Any) -> nn.Module:
    """Create one of our models, or any of timm's, by name.

    Args:
        name: such as "transxnet_t", with a tag of published weights "transxnet_b.in1k_384", or with options of the
            model "transxnet_t@local_conv=dyconv".
        pretrained: load the published weights.
        **kwargs: what ``timm.create_model`` and the model take, such as ``num_classes``, ``in_chans``, ``img_size``,
            ``features_only``.

    Raises:
        UserError: no model or tag of this name (the nearest ones are named), an option in the name that the model does
            not have or that is given beside it too, or weights that can't be had.
        TypeError: an option beside the name that the model does not have.
    """
    check_name(name)
    options = name_options(name)
    if twice := options.keys() & kwargs:
        raise UserError(f"{name}: {sorted(twice)[0]} is set beside the name too. Leave it out of the name.")
    arguments = options | kwargs
    if arguments.get("token_enhancer", "") is None:
        arguments["token_enhancer"] = "none"  # timm leaves out what is None, and the network would have its default
    try:
        return timm.create_model(name.partition("@")[0], pretrained=pretrained, **arguments)
    except TypeError as error:
        if wrong := [option for option in options if f"keyword argument '{option}'" in str(error)]:
            architecture = split_tag(name)[0]
            raise UserError(
                f"{architecture} has no option {wrong[0]!r}.{nearest(wrong[0], _options_of(architecture))}"
            ) from error
        raise
    except (OSError, RuntimeError) as error:
        if not pretrained:
            raise
        raise UserError(
            f"the published weights of {name} can't be had: {error} Fetch the file by other means and give it as "
            "--checkpoint to train and as --file to eval and predict."
        ) from error


def check_name(name: str) -> None:
    """Raise UserError, with the nearest names, unless there is such a model and, if one is given, such a tag.

    Whether the model has the options in the name shows when it is created.
    """
    architecture, tag = split_tag(name)
    name_options(name)
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
        wishes: arguments that are left out where the model does not have them, or its name sets them.
        **kwargs: arguments that it must have.
    """
    granted = {wish: value for wish, value in wishes.items() if wish not in name_options(name)}
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
    config = timm.get_pretrained_cfg(name.partition("@")[0])
    return int(config.input_size[-1]) if config is not None else 224


def split_tag(name: str) -> tuple[str, str]:
    """``"transxnet_b.in1k_384"`` -> ``("transxnet_b", "in1k_384")``; without a tag the second is empty."""
    architecture, _, tag = name.partition("@")[0].partition(".")
    return architecture, tag


def is_ours(name: str) -> bool:
    """Whether a name, with or without tag and options, is of one of this package's networks."""
    return split_tag(name)[0].startswith("transxnet_")


def without_tag(name: str) -> str:
    """``"transxnet_b.in1k@dpe=false"`` -> ``"transxnet_b@dpe=false"``."""
    _, at, suffix = name.partition("@")
    return split_tag(name)[0] + at + suffix


def with_options(name: str, options: str) -> str:
    """``("transxnet_t@dpe=false", "local_conv=dyconv")`` -> ``"transxnet_t@dpe=false,local_conv=dyconv"``."""
    if not options:
        return name
    return name + ("," if "@" in name else "@") + options


def name_options(name: str) -> dict[str, Any]:
    """The options that a model's name carries: ``"transxnet_t@attn_ratio=0.25"`` -> ``{"attn_ratio": 0.25}``.

    Raises:
        UserError: what follows the @ is not of the form option=value, sets an option twice, or names files.
    """
    options, words = split_suffix(name)
    if words:
        raise UserError(
            f"{name!r}: after @ come options of the model as option=value, separated by commas, got {words[0]!r}."
        )
    check_options(name, options)
    return options


def check_options(name: str, options: Iterable[str]) -> None:
    """Raise UserError if one of a model's options, stored or in its name, says which files to open."""
    if loading := sorted(LOADING.intersection(options)):
        raise UserError(
            f"{name}: {loading[0]} is no option of a model, but says where weights come from. Give these by "
            "--pretrained or --checkpoint in training and --file elsewhere, or as an argument beside the name."
        )


def split_suffix(name: str) -> tuple[dict[str, Any], list[str]]:
    """What follows a name's @: the options, and the words without a value.

    Values are Python literals, true, false, or text: ``NAME@compile,ffn_scales=(1,3),dpe=false`` ->
    ``({"ffn_scales": (1, 3), "dpe": False}, ["compile"])``.

    Raises:
        UserError: an option is set twice.
    """
    options: dict[str, Any] = {}
    words = []
    for word in filter(None, re.split(r",(?![^(\[]*[)\]])", name.partition("@")[2])):  # not at the commas of a tuple
        option, equals, value = word.partition("=")
        if not equals:
            words.append(word)
        elif option in options:
            raise UserError(f"{name!r} sets {option} twice.")
        else:
            options[option] = _value(value)
    return options, words


def _value(text: str) -> Any:
    if text in ("true", "false"):
        return text == "true"
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):  # the last two where it is nested deeply
        return text


def _options_of(architecture: str) -> set[str]:
    """The arguments of a model and of the classes that it is made from."""
    kinds = [kind for kind in type(timm.create_model(architecture)).__mro__ if issubclass(kind, nn.Module)]
    return {name for kind in kinds for name in inspect.signature(kind).parameters}


@contextmanager
def one_sentence_of_sizes(name: str, height: int, width: int, option: str) -> Iterator[None]:
    """Turn what a network says of images that it does not take, each in its own way, into a UserError."""
    try:
        yield
    except (ValueError, AssertionError, RuntimeError, ZeroDivisionError) as error:
        raise UserError(f"{name} does not take images of {height}x{width}: {error} Give another {option}.") from error
