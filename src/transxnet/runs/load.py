"""Save a trained model in a run folder, and load it from there or from published weights."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import timm
import torch
from safetensors.torch import save
from torch import Tensor, nn

from transxnet.data.formats.class_alignment import imagenet_synsets
from transxnet.data.formats.class_names import COCO_CATEGORY_IDS, COCO_CLASSES
from transxnet.data.loading.preprocessing import Preprocessing, check_sides
from transxnet.data.tiling import read_tiling
from transxnet.heads import SemanticFPN, create_detector, create_segmenter
from transxnet.heads.create_heads import DETECTORS
from transxnet.heads.dense_checkpoints import dense_tensors, load_checkpoint
from transxnet.metrics.targets import Targets
from transxnet.models.checkpoints import convert_official_state_dict, read_checkpoint
from transxnet.models.create import check_name, create_model, create_model_with
from transxnet.models.model_spec import ModelSpec, check_options, parse_model_name, parse_model_spec, with_options
from transxnet.runs.run_folder import Run, list_runs, suggest_runs
from transxnet.runs.task_configs import CONFIGS
from transxnet.runs.trained_models import (
    TrainedClassifier,
    TrainedDetector,
    TrainedEncoder,
    TrainedModel,
    TrainedSegmenter,
)
from transxnet.utils.errors import UserError
from transxnet.utils.files import write_atomic
from transxnet.utils.text_files import read_json
from transxnet.version import __version__

FORMAT = 1
"""Version of the run folder's layout; increased when an older package could misread it."""

PUBLISHED_SCALE = (2048, 512)
"""Longer and shorter side in pixels that the published segmenters resize images to fit."""


def save_model(run: Run, state_dict: Mapping[str, Tensor], description: Mapping[str, Any]) -> None:
    """Write the weights and the description to rebuild the network (see ``Plan.description``).

    Also writes the description of a classifier in timm's format, so that
    ``timm.create_model("local-dir:FOLDER", pretrained=True)`` creates it.
    """
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in state_dict.items()}
    write_atomic(run.weights_file, lambda path: path.write_bytes(save(tensors)))
    if description["task"] == "classify":
        write_atomic(run.timm_file, json.dumps(timm_config(description), indent=2))
    save_description(run, description)


def save_description(run: Run, description: Mapping[str, Any]) -> None:
    """Write the description to rebuild the network, which marks the run as finished."""
    write_atomic(run.model_file, json.dumps({"format": FORMAT, **description, "transxnet": __version__}, indent=2))


def timm_config(description: Mapping[str, Any]) -> dict[str, Any]:
    """Convert the description of a classifier to the content of timm's ``config.json``."""
    spec = parse_model_name(description["architecture"])
    preprocessing = Preprocessing.from_dict(description["preprocessing"])
    arguments = spec.options | description["model_args"]
    if arguments.get("token_enhancer", "") is None:
        arguments["token_enhancer"] = "none"  # timm drops arguments that are None
    names = description["class_names"]
    published = timm.get_pretrained_cfg(spec.architecture)
    size = preprocessing.img_size
    return {
        "architecture": spec.architecture,
        "num_classes": len(names),
        "label_names": names,
        "model_args": arguments,
        "pretrained_cfg": {
            "input_size": [arguments.get("in_chans", 3), size, size],
            "fixed_input_size": published is not None and published.fixed_input_size,
            "interpolation": preprocessing.interpolation,
            "crop_pct": preprocessing.crop_pct,
            "mean": preprocessing.mean,
            "std": preprocessing.std,
            "num_classes": len(names),
            "first_conv": published and published.first_conv,
            "classifier": published and published.classifier,
        },
    }


def load_model(
    model: str | Path | ModelSpec,
    file: str | Path | None = None,
    *,
    analysis: bool = False,
    size: int | None = None,
    features: bool = False,
) -> TrainedModel:
    """Load a model from a run folder or by name.

    Args:
        model: run folder, or model name, by default with its published weights.
        file: weights file for a model by name: of a classifier (ImageNet), or a whole detector (COCO) or segmenter
            (ADE20K).
        analysis: accept the setting ``untrained``, a part, and classifiers with any number of classes.
        size: side of the input in pixels, for models by name with a fixed input size; by default their own.
        features: accept the run of a pretraining, which has no classes.

    Raises:
        UserError: the folder, model or setting does not exist, the weights are not available, or the run is unfinished
            or has damaged files.
    """
    spec = model if isinstance(model, ModelSpec) else parse_model_spec(model, file)
    spec.check_settings(("file", "untrained") if analysis else ("file",), part=analysis)
    if spec.path is None:
        return _load_by_name(spec, analysis, size)
    if not spec.path.is_dir():
        raise UserError(f"{spec.path} is a file. Accepted: a run folder, or a model name with --file {spec.path}.")
    trained = _load_run(Run.open(spec.path))
    if isinstance(trained, TrainedEncoder) and not features:
        raise UserError(
            f"{spec.path} is a pretrained network, which predicts nothing. Train a classifier, detector or segmenter "
            f"from it: transxnet train DATA --checkpoint {spec.path}"
        )
    return trained


def _load_by_name(spec: ModelSpec, analysis: bool, size: int | None) -> TrainedModel:
    try:
        check_name(spec)
    except UserError as error:
        if timm.is_model(spec.architecture):
            raise
        folder = Path(spec.name).parent
        if list_runs(folder) or ("/" in spec.name and ":" not in spec.name):  # a model name with a slash has a prefix
            raise UserError(f"run folder {spec.name} does not exist. {suggest_runs(folder)}") from error
        raise UserError(f"run folder {spec.name} does not exist. Read as a model name: {error}") from error
    overlay: dict[str, Any] | None = None
    if spec.file is not None:
        if spec.untrained:
            raise UserError(
                f"{spec.text!r} requests both random weights and those of {spec.file}. Remove untrained or the file."
            )
        overlay = {"file": spec.file}
        if spec.is_transxnet:
            content = read_checkpoint(Path(spec.file))
            tensors = dense_tensors(content)
            if tensors is not None:
                return _published_dense(spec, tensors)
            overlay = {"state_dict": _classifier_weights(spec, content)}
    model = _create(spec, analysis, size, overlay).eval()
    count: Any = model.num_classes
    if count != 1000 and not analysis:
        raise UserError(
            f"{spec.name} has {count} classes without names. Accepted: a run folder, or a model with ImageNet's 1,000 "
            "classes."
        )
    names = list(imagenet_synsets()) if count == 1000 else [str(i) for i in range(count)]
    preprocessing = Preprocessing.of_model(model, size)
    return TrainedClassifier(model, spec.label, names, None, preprocessing, untrained=spec.untrained)


def _create(spec: ModelSpec, analysis: bool, size: int | None, overlay: dict[str, Any] | None) -> nn.Module:
    """Create a classifier by name, for the given image size if its input size is fixed."""
    config = timm.get_pretrained_cfg(spec.name)
    wishes = {"img_size": size} if size is not None and config and config.fixed_input_size else {}
    weights: dict[str, Any] = {"pretrained": not spec.untrained, "pretrained_cfg_overlay": overlay}
    try:
        return create_model_with(spec, wishes, **weights)[0]
    except TypeError as error:
        raise UserError(f"cannot create {spec.label}: {error}") from error
    except UserError as error:
        if spec.untrained or not analysis:
            raise
        with torch.device("meta"):
            create_model_with(spec, wishes)  # raises its own error for a wrong option
        raise UserError(
            f"{error} Alternatives: {spec.name}@file=PATH, a run folder, or {spec.name}@untrained for random weights."
        ) from error


def _classifier_weights(spec: ModelSpec, content: Mapping[str, Any]) -> dict[str, Tensor]:
    tensors = convert_official_state_dict(content)
    head, count = tensors.get("head.fc.weight"), spec.options.get("num_classes", 1000)
    if head is None or len(head) != count:
        what = "no classification layer" if head is None else f"{len(head)} classes"
        expected = "ImageNet's 1,000 classes" if count == 1000 else f"{count} classes"
        raise UserError(f"{spec.file} has {what}; {spec.name} needs {expected}. Train with --checkpoint {spec.file}.")
    return tensors


def _published_dense(spec: ModelSpec, tensors: dict[str, Tensor]) -> TrainedModel:
    """Load a published detector of the COCO classes, or a published segmenter, whose class names are numbers.

    Both resize images as in the published evaluation.
    """
    backbone = with_options(spec.name, spec.options_text)
    if SemanticFPN.class_layers[0] + ".weight" in tensors:
        count = len(tensors[SemanticFPN.class_layers[0] + ".weight"])
        segmenter = create_segmenter(backbone, count, checkpoint=tensors)
        names = [str(i) for i in range(count)]
        return TrainedSegmenter(segmenter.eval(), spec.label, names, None, PUBLISHED_SCALE, as_published=True)
    head = "maskrcnn" if any(layer.startswith("roi_heads.") for layer in tensors) else "retinanet"
    classes, kind = list(COCO_CLASSES), DETECTORS[head][0]
    detector = create_detector(head, backbone, len(classes))  # type: ignore[arg-type]
    layer = f"{kind.class_layers[0]}.weight"
    if len(tensors[layer]) != len(detector.state_dict()[layer]):
        raise UserError(
            f"{spec.file} is a detector with unnamed classes. Accepted: COCO's {len(classes)} classes. "
            f"Train with --checkpoint {spec.file}."
        )
    load_checkpoint(detector, tensors)
    detector.transform.opencv_resize = True
    return TrainedDetector(detector.eval(), spec.label, classes, None, category_ids=list(COCO_CATEGORY_IDS))


def _load_run(run: Run) -> TrainedModel:
    if not run.model_file.is_file():
        raise UserError(f"the run in {run.path} is not finished. Resume it with: {run.resume_command}")
    try:
        description = read_json(run.model_file)
        if description["format"] > FORMAT:
            raise UserError(
                f"{run.path} was written by a newer transxnet ({description['transxnet']}). Update this installation."
            )
        trained = _build(run, description)
        trained.model.load_state_dict(read_checkpoint(run.weights_file))
    except (OSError, KeyError, TypeError, ValueError, AttributeError, RuntimeError) as error:
        raise UserError(
            f"the model in {run.path} is damaged or not a transxnet model: {type(error).__name__}: {error}"
        ) from error
    trained.model.eval()
    return trained


def _build(run: Run, description: Mapping[str, Any]) -> TrainedModel:
    """Build the network of a run; its weights are loaded later."""
    architecture, classes = description["architecture"], description["class_names"]
    args, preprocessing = description["model_args"], description["preprocessing"]
    _check_description(description)
    name, count = str(run.path), len(classes)
    reading: dict[str, Any] = dict(tiling=read_tiling(preprocessing), channels=len(args.get("mean", ())) or None)
    if description["task"] == "detect":
        detector = create_detector(backbone=architecture, num_classes=count, **args)
        ids = description.get("category_ids", [])
        return TrainedDetector(detector, name, classes, run, category_ids=ids, **reading)
    if description["task"] == "segment":
        segmenter = create_segmenter(architecture, count, **args)
        return TrainedSegmenter(segmenter, name, classes, run, tuple(preprocessing["scale"]), **reading)
    if description["task"] == "pretrain":
        encoder = create_model(architecture, num_classes=0, **args)
        return TrainedEncoder(encoder, name, classes, run, Preprocessing.from_dict(preprocessing))
    targets = Targets.from_dict(description.get("targets", {"kind": "classes"}), count)
    classifier = create_model(architecture, num_classes=count, **args)
    return TrainedClassifier(classifier, name, classes, run, Preprocessing.from_dict(preprocessing), targets=targets)


def _check_description(description: Mapping[str, Any]) -> None:
    """Raise ValueError for content that training never writes: the file may be untrusted."""
    classes, args, preprocessing = (description[name] for name in ("class_names", "model_args", "preprocessing"))
    empty = description["task"] == "pretrain"
    if not isinstance(classes, list) or bool(classes) == empty or not all(isinstance(name, str) for name in classes):
        raise ValueError("class_names is not a list of names")
    if len(set(classes)) < len(classes):
        raise ValueError("class_names contains duplicates")
    ids = description.get("category_ids", list(range(len(classes))))
    if len(ids) != len(classes) or len(set(ids)) < len(ids) or not all(type(number) is int for number in ids):
        raise ValueError("category_ids are not one integer for each class")
    if not isinstance(description["architecture"], str) or not isinstance(args, dict):
        raise ValueError("architecture is not a name, or model_args are not options")
    check_options(description["architecture"], args)
    if description["task"] not in CONFIGS:
        raise ValueError(f"task is {description['task']!r}; accepted: {', '.join(CONFIGS)}")
    if "checkpoint" in args:
        raise ValueError("model_args must not contain a checkpoint: the weights are in the run folder")
    sides = [*preprocessing.get("scale", ())]
    for given in (args.get(name) for name in ("img_size", "min_size", "max_size")):
        sides += given if isinstance(given, list) else [] if given is None else [given]
    check_sides(sides)
