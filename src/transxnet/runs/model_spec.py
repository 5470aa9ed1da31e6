"""Which network an analysis looks at, with which weights, and at which place in it."""

import inspect
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import timm
import torch
from torch import nn

from transxnet.data.formats.class_alignment import imagenet_synsets
from transxnet.data.loading.preprocessing import Preprocessing
from transxnet.models.create import check_name, create_model_with, split_suffix, split_tag
from transxnet.runs.load import TrainedClassifier, TrainedDetector, TrainedModel, TrainedSegmenter, load_trained
from transxnet.utils.errors import UserError, nearest

GRAMMAR = "NAME[@untrained,file=PATH,argument=value][:PLACE]"


@dataclass(frozen=True)
class Subject:
    """A network to look at.

    Attributes:
        label: as the user named it, with the arguments that differ.
        trained: the model, in evaluation mode, on the CPU.
        place: name of a part of it, see :func:`transxnet.analysis.network_parts.find_part`; empty for the last stage.
        untrained: whether its weights are random, so that it must be called untrained wherever it is shown.
    """

    label: str
    trained: TrainedModel
    place: str
    untrained: bool

    @property
    def network(self) -> nn.Module:
        """The backbone: a classifier itself, what a detector's or segmenter's pyramid stands on."""
        return backbone(self.trained)

    @property
    def preprocessing(self) -> Preprocessing:
        """From a picture to the network's input; of detectors and segmenters, as their backbones were pretrained."""
        if isinstance(self.trained, TrainedClassifier):
            return self.trained.preprocessing
        return Preprocessing.of_model(self.network)


def backbone(trained: TrainedModel) -> nn.Module:
    """A classifier itself, what a detector's or segmenter's pyramid stands on."""
    if isinstance(trained, (TrainedDetector, TrainedSegmenter)):
        return trained.model.backbone.body
    return trained.model


def find_subject(text: str | Path, file: str | Path | None = None, size: int | None = None) -> Subject:
    """Load what ``RUN``, ``RUN:PLACE``, ``NAME`` or ``NAME@WORD,argument=value:PLACE`` stands for.

    Args:
        text: a run folder; or the name of a model with its published weights, where after @ may come ``file=PATH`` for
            weights on disk, ``untrained`` for random ones, and arguments of the model such as ``local_conv=dwconv``.
            After a colon may come a place.
        file: weights on disk for a model by name, as another way to give them.
        size: side of the images in pixels, for models by name that are made for one; by default their own.

    Raises:
        UserError: no such run, model, word or argument, or weights that can't be had.
    """
    whole = str(text)
    folder, colon, place = whole.rpartition(":")
    for target, where in ((whole, ""), (folder, place)):
        if target and Path(target).is_dir():
            return Subject(target, load_trained(target, file), where, untrained=False)
    name, place = (folder, place) if colon else (whole, "")
    arguments, words = split_suffix(name)
    name = name.partition("@")[0]
    file = arguments.pop("file", file)
    untrained = "untrained" in words
    for word in words:
        if word != "untrained":
            raise UserError(
                f"{whole!r}: {word!r} is no setting.{nearest(word, ('untrained', 'file='))} Accepted: a run folder, or "
                f"{GRAMMAR}."
            )
    if "/" in name or not timm.is_model(split_tag(name)[0]):
        try:
            check_name(name)
        except UserError as error:
            raise UserError(f"there is no run folder {name}, and {error}") from error
    if untrained and file is not None:
        raise UserError(f"{whole!r}: random weights or those of {file}? Leave out untrained, or the file.")
    shown = ", ".join(f"{key}={value}" for key, value in arguments.items())
    label = f"{name} ({shown})" if shown else name
    if file is not None and not arguments:
        return Subject(label, load_trained(name, file), place, untrained=False)
    return Subject(label, _create(name, not untrained, file, size, arguments), place, untrained)


def _create(
    name: str, pretrained: bool, file: str | Path | None, size: int | None, arguments: dict[str, Any]
) -> TrainedClassifier:
    """A classifier by name, for images of the size if it takes but one."""
    config = timm.get_pretrained_cfg(name)
    wishes = {"img_size": size} if size is not None and config and config.fixed_input_size else {}
    overlay = None if file is None else {"file": str(file)}
    try:
        model, _ = create_model_with(name, wishes, pretrained=pretrained, pretrained_cfg_overlay=overlay, **arguments)
    except TypeError as error:
        raise UserError(f"{name} can't be made with these arguments: {error}.{_known(name, arguments)}") from error
    except UserError as error:
        if not pretrained:
            raise
        with torch.device("meta"):
            create_model_with(name, wishes, **arguments)  # or it is an argument that is wrong, which says so itself
        raise UserError(
            f"{error} Here: {name}@file=PATH, the folder of a run that trained it, or {name}@untrained for random "
            "weights."
        ) from error
    count = model.num_classes
    names = list(imagenet_synsets()) if count == 1000 else [str(i) for i in range(count)]  # type: ignore
    return TrainedClassifier(model.eval(), name, names, None, Preprocessing.of_model(model, size))


def _known(name: str, arguments: Iterable[str]) -> str:
    """For those arguments that a model does not have, the nearest that it has; and all of these."""
    with torch.device("meta"):
        kind = type(create_model_with(name, {})[0])
    signatures = [inspect.signature(base.__init__) for base in kind.__mro__ if "__init__" in vars(base)]  # type: ignore
    known = {
        key: None for signature in signatures for key, p in signature.parameters.items() if p.default is not p.empty
    }
    close = "".join(nearest(argument, known) for argument in arguments if argument not in known)
    return f"{close} Accepted: {', '.join(known)}."
