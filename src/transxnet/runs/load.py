"""Trained models: stored in a run folder, and built again from it or from published weights."""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import timm
from safetensors.torch import save
from torch import Tensor, nn

from transxnet.data.formats.class_alignment import imagenet_synsets
from transxnet.data.formats.class_names import COCO_CLASSES
from transxnet.data.loading.preprocessing import Preprocessing, check_sides
from transxnet.heads import MaskRCNN, RetinaNet, SemanticFPN, create_detector, create_segmenter
from transxnet.heads.create_heads import DETECTORS
from transxnet.heads.dense_checkpoints import dense_tensors, load_checkpoint
from transxnet.models.checkpoints import convert_official_state_dict, read_checkpoint
from transxnet.models.create import check_name, check_options, create_model, is_ours, split_tag
from transxnet.runs.run_folder import Run
from transxnet.runs.task_configs import CONFIGS
from transxnet.utils.errors import UserError
from transxnet.utils.files import write_atomic
from transxnet.utils.text_files import read_json
from transxnet.version import __version__

FORMAT = 1
"""Layout of a run folder; raised when an older version could misread it."""

PUBLISHED_SCALE = (2048, 512)
"""Longer and shorter side that the published segmenters' photographs are resized to fit, in pixels."""


@dataclass(frozen=True)
class TrainedModel:
    """A model that can be put to use.

    Attributes:
        model: in evaluation mode, on the CPU.
        name: for the user.
        class_names: K names by class index; of detectors label 1 is the first.
        run: the run it came from, or None.
    """

    model: nn.Module
    name: str
    class_names: list[str]
    run: Run | None


@dataclass(frozen=True)
class TrainedClassifier(TrainedModel):
    """A classifier.

    Attributes:
        preprocessing: from a picture to its input.
    """

    preprocessing: Preprocessing


@dataclass(frozen=True)
class TrainedDetector(TrainedModel):
    """A detector, which resizes and normalises what it is given."""

    model: RetinaNet | MaskRCNN

    @property
    def masks(self) -> bool:
        """Whether it finds masks as well as boxes."""
        return isinstance(self.model, MaskRCNN)


@dataclass(frozen=True)
class TrainedSegmenter(TrainedModel):
    """A segmenter.

    Attributes:
        scale: longer and shorter side that photographs are resized to fit, in pixels.
    """

    model: SemanticFPN
    scale: tuple[int, int]


def save_model(run: Run, state_dict: Mapping[str, Tensor], description: Mapping[str, Any]) -> None:
    """Write the weights, and what is needed to build the network around them (a plan's description)."""
    content = {"format": FORMAT, **description, "transxnet": __version__}
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in state_dict.items()}
    write_atomic(run.weights_file, lambda path: path.write_bytes(save(tensors)))
    write_atomic(run.model_file, json.dumps(content, indent=2))


def load_trained(target: str | Path, file: str | Path | None = None) -> TrainedModel:
    """Load the model of a run folder, or one with published weights by its name.

    Args:
        target: the folder, or the name of a backbone.
        file: published weights on disk, for a model by name: a classifier's (ImageNet), or a whole detector's (COCO)
            or segmenter's (ADE20K).

    Raises:
        UserError: neither, or the run holds no finished model, or its files are damaged.
    """
    if os.path.isdir(target):
        if file is not None:
            raise UserError(f"{target} is a run folder with weights of its own: --file is for a model by name.")
        return _load_run(Run.open(target))
    if os.path.exists(target):
        raise UserError(f"{target} is a file. Accepted: a run folder, or a model's name with --file {target}.")
    name = str(target)
    if "/" in name or not timm.is_model(split_tag(name)[0]):
        try:
            check_name(name)
        except UserError as error:
            raise UserError(f"there is no run folder {name}, and {error}") from error
    overlay: dict[str, Any] | None = None if file is None else {"file": str(file)}
    if file is not None and is_ours(name):
        content = read_checkpoint(Path(file))
        tensors = dense_tensors(content)
        if tensors is not None:
            return _published_dense(name, file, tensors)
        overlay = {"state_dict": _imagenet_weights(Path(file), content)}
    model = create_model(name, pretrained=True, pretrained_cfg_overlay=overlay).eval()
    if model.num_classes != 1000:
        raise UserError(
            f"{target} has {model.num_classes} classes and no names for them. Accepted: a run folder, or a "
            "model of ImageNet's 1,000 classes."
        )
    return TrainedClassifier(model, name, list(imagenet_synsets()), None, Preprocessing.of_model(model))


def _imagenet_weights(file: Path, content: Mapping[str, Any]) -> dict[str, Tensor]:
    tensors = convert_official_state_dict(content)
    head = tensors.get("head.fc.weight")
    if head is None or len(head) != 1000:
        what = "no classifier" if head is None else f"{len(head)} classes"
        raise UserError(f"{file} has {what}; a model by name is for ImageNet's 1,000. Train with --checkpoint {file}.")
    return tensors


def _published_dense(name: str, file: str | Path, tensors: dict[str, Tensor]) -> TrainedModel:
    """A published detector of COCO's classes, or segmenter, whose classes have numbers for names."""
    if SemanticFPN.class_layers[0] + ".weight" in tensors:
        count = len(tensors[SemanticFPN.class_layers[0] + ".weight"])
        segmenter = create_segmenter(name, count, checkpoint=tensors)
        return TrainedSegmenter(segmenter.eval(), name, [str(i) for i in range(count)], None, PUBLISHED_SCALE)
    head = "maskrcnn" if any(layer.startswith("roi_heads.") for layer in tensors) else "retinanet"
    classes, kind = list(COCO_CLASSES), DETECTORS[head][0]
    detector = create_detector(head, name, len(classes))  # type: ignore[arg-type]
    layer = f"{kind.class_layers[0]}.weight"
    if len(tensors[layer]) != len(detector.state_dict()[layer]):
        raise UserError(
            f"{file} is a detector of other classes than COCO's {len(classes)}, and so without names for them. "
            f"Train with --checkpoint {file}."
        )
    load_checkpoint(detector, tensors)
    return TrainedDetector(detector.eval(), name, classes, None)


def _load_run(run: Run) -> TrainedModel:
    if not run.model_file.is_file():
        raise UserError(f"{run.path} holds no finished model yet. Go on with its training: --resume {run.path}")
    try:
        description = read_json(run.model_file)
        if description["format"] > FORMAT:
            raise UserError(
                f"{run.path} was written by a newer transxnet ({description['transxnet']}). Update this one."
            )
        trained = _build(run, description)
        trained.model.load_state_dict(read_checkpoint(run.weights_file))
    except (OSError, KeyError, TypeError, ValueError, AttributeError, RuntimeError) as error:
        raise UserError(f"the model in {run.path} is damaged or not ours: {type(error).__name__}: {error}") from error
    trained.model.eval()
    return trained


def _build(run: Run, description: Mapping[str, Any]) -> TrainedModel:
    """The network of a run with weights that are still to be loaded."""
    architecture, classes = description["architecture"], description["class_names"]
    args, preprocessing = description["model_args"], description["preprocessing"]
    _check_description(description)
    name, count = str(run.path), len(classes)
    if description["task"] == "detect":
        detector = create_detector(backbone=architecture, num_classes=count, **args)
        return TrainedDetector(detector, name, classes, run)
    if description["task"] == "segment":
        segmenter = create_segmenter(architecture, count, **args)
        return TrainedSegmenter(segmenter, name, classes, run, tuple(preprocessing["scale"]))
    classifier = create_model(architecture, num_classes=count, **args)
    return TrainedClassifier(classifier, name, classes, run, Preprocessing.from_dict(preprocessing))


def _check_description(description: Mapping[str, Any]) -> None:
    """Raise ValueError for what no training writes: somebody else may have written the file."""
    classes, args, preprocessing = (description[name] for name in ("class_names", "model_args", "preprocessing"))
    if not isinstance(classes, list) or not classes or not all(isinstance(name, str) for name in classes):
        raise ValueError("its class_names are no list of names")
    if len(set(classes)) < len(classes):
        raise ValueError("two of its class_names are the same")
    if not isinstance(description["architecture"], str) or not isinstance(args, dict):
        raise ValueError("its architecture is no name, or its model_args are no options")
    check_options(description["architecture"], args)
    if description["task"] not in CONFIGS:
        raise ValueError(f"its task is {description['task']!r}; accepted: {', '.join(CONFIGS)}")
    if "checkpoint" in args:
        raise ValueError("its model_args name a checkpoint, and the weights are those beside it")
    sides = [*preprocessing.get("scale", ())]
    for given in (args.get(name) for name in ("img_size", "min_size", "max_size")):
        sides += given if isinstance(given, list) else [] if given is None else [given]
    check_sides(sides)
