"""The results of a finished training: weights, metrics, predictions and report."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from rich.console import Console
from torch import Tensor

from transxnet.analysis.cost import count
from transxnet.analysis.dense_cost import HEADS, dense_info
from transxnet.analysis.explain_figure import overlay
from transxnet.analysis.grad_cam import explain_image
from transxnet.analysis.network_parts import MIXER_PARTS, find_part, named_parts
from transxnet.data.datasets.classification_dataset import ClassificationSet, describe_label
from transxnet.data.reading.image_decoding import UnreadableImage
from transxnet.evaluation.dataset_evaluation import AnyEvaluation, run_evaluation
from transxnet.evaluation.evaluation_output import (
    print_metrics,
    results_content,
    write_classifier_predictions,
    write_detections,
    write_map_counts,
)
from transxnet.evaluation.evaluation_report import image_reader
from transxnet.evaluation.inference_backends import TrainedBackend
from transxnet.metrics.best_epoch import describe_saved_epoch, find_best_epoch
from transxnet.metrics.detection import DetectionEvaluation
from transxnet.metrics.embeddings import EmbeddingEvaluation
from transxnet.metrics.segmentation import SegmentationEvaluation
from transxnet.reports import Report, write_report
from transxnet.reports.model_card import model_card
from transxnet.runs.config import TrainConfig
from transxnet.runs.load import load_model, save_description
from transxnet.runs.pretrain_config import PretrainConfig
from transxnet.runs.run_folder import Run
from transxnet.runs.task_configs import ClassifyConfig, DetectConfig, SegmentConfig
from transxnet.runs.trained_models import TrainedClassifier, TrainedModel
from transxnet.training.averaging import average_weights
from transxnet.training.checkpoint_files import read_verified
from transxnet.training.init_weights import model_weights
from transxnet.training.lightning_module import TrainingModule, learning_rates
from transxnet.training.plan import Plan
from transxnet.training.plan_classify import ClassifyPlan
from transxnet.utils.device import device_of_training, resolve_device
from transxnet.utils.errors import UserError
from transxnet.utils.files import write_atomic
from transxnet.utils.progress import PLAIN, progress_bar
from transxnet.utils.quantities import format_count

AUGMENTED_IMAGES = 12
RATE_POINTS = 200


def select_weights(
    plan: Plan,
    run: Run,
    module: TrainingModule,
    history: Sequence[dict[str, float]],
    averaged: Mapping[int, Path],
    console: Console,
) -> dict[str, Tensor]:
    """Select the weights of the best or the last epoch, or the mean of several: the EMA weights if there are any.

    Without a metric to select by, these are the weights of the last epoch.

    Args:
        plan: plan of the run.
        run: the run.
        module: the trained module.
        history: one row per epoch.
        averaged: checkpoints to average, by epoch; empty to select one.
        console: console for progress.

    Raises:
        UserError: a checkpoint cannot be read.
    """
    config = plan.config
    best = find_best_epoch(history, config.predicted)
    try:
        if averaged:
            return average_weights(averaged, module, plan, _device(config), console)
        if config.select == "last" or best is None:
            return module.best_weights.state_dict()
        return model_weights(read_verified(run.best_checkpoint)["state_dict"])
    except UserError as error:
        which, instead = "the best epoch", "use the last epoch instead, set select to last"
        if averaged:
            which, instead = "the averaged epochs", "use the best epoch instead, set average to null"
        raise UserError(
            f"cannot load the weights of {which}: {error} To {instead} in {run.config_file} and resume with: "
            f"{run.resume_command}"
        ) from error


def write_results(
    run: Run, plan: Plan, history: Sequence[dict[str, float]], console: Console, averaged: Sequence[int] = ()
) -> None:
    """Evaluate the saved model, store the metrics and write the report.

    Args:
        run: the run, with the saved model.
        plan: its plan.
        history: one row per epoch.
        console: where to print.
        averaged: epochs whose weights were averaged, if any.
    """
    config, source = plan.config, plan.source
    trained = load_model(run.path, features=config.task == "pretrain")
    evaluation = _evaluate(trained, plan, console, source.val) if plan.validates else None
    if isinstance(trained, TrainedClassifier) and evaluation is not None:
        targets, evaluation = trained.targets.fit(evaluation)
        trained = replace(trained, targets=targets)
        save_description(run, {**plan.description(), "targets": targets.to_dict()})
    test = None if source.test is None else _evaluate(trained, plan, console, source.test)
    found = {"images": 0} if evaluation is None else results_content(evaluation)
    results: dict[str, Any] = {**found, "select": config.select}
    if averaged:
        results |= {"select": config.average, "averaged": list(averaged), "best_epoch": _best_epoch(history, config)}
    if test is not None:
        results["test"] = results_content(test)
    write_atomic(run.results_file, json.dumps(results, indent=2))
    if evaluation is not None:
        write_predictions(run, evaluation)
    if test is not None:
        write_predictions(run, test, test=True)
    saved = describe_saved_epoch(history, config.predicted, config.select, averaged)
    saved += ", EMA" if config.ema_decay else ""
    write_report(_report(run, plan, trained, history, evaluation, test, saved), run.report_file)
    write_atomic(run.card_file, model_card(run))
    if evaluation is None:
        console.print(f"not validated: all {format_count(len(source.train), 'image')} were used for training", **PLAIN)
    else:
        print_metrics(console, evaluation, "validation image", fitted_here=True)
    if test is not None:
        print_metrics(console, test, "test image")
    console.print(f"weights     {saved}\nrun folder  {run.path}\nreport      {run.report_file}", **PLAIN)


def _best_epoch(history: Sequence[dict[str, float]], config: TrainConfig) -> dict[str, float]:
    """Return number and validation metrics of the best epoch; empty if none was validated."""
    best = find_best_epoch(history, config.predicted) or {}
    figures = {name.removeprefix("val_"): value for name, value in best.items() if name.startswith("val_")}
    return {"epoch": round(best["epoch"]), **figures} if best else {}


def _report(
    run: Run,
    plan: Plan,
    trained: TrainedModel,
    history: Sequence[dict[str, float]],
    evaluation: AnyEvaluation | None,
    test: AnyEvaluation | None,
    saved: str,
) -> Report:
    """Collect what the report shows."""
    config, source = plan.config, plan.source
    stored = run.read_environment()
    return Report(
        title=f"{config.model} on {Path(config.data).name}",
        command=stored["command"],
        config=config.to_dict(),
        environment=stored["environment"],
        notes=stored["choices"],
        history=history,
        evaluation=evaluation,
        image=image_reader(source.val),
        saved_weights=saved,
        selected=config.selects_by_validation,
        train_counts=_train_counts(source.train),
        train_images=_augmented_images(plan),
        learning_rate=_learning_rate(config, history),
        explain=_gradcam_getter(trained, source.val),
        test=test,
        model={
            "Model": config.model,
            **({"Head": HEADS[config.head]} if isinstance(config, DetectConfig) else {}),
            **_format_cost(*cost(config, trained.model, len(source.class_names))),
            "Training images": f"{len(source.train):,}",
            "Validation images": f"{len(source.val):,}",
            **({} if source.test is None else {"Test images": f"{len(source.test):,}"}),
        },
    )


def _evaluate(trained: TrainedModel, plan: Plan, console: Console, images: Any) -> AnyEvaluation:
    """Run the saved model over labeled images."""
    config = plan.config
    assert isinstance(config.batch_size, int) and config.workers is not None
    device = _device(config)
    with progress_bar(console, "evaluating", len(images)) as advance:
        backend = TrainedBackend(trained, device)
        return run_evaluation(backend, images, config.batch_size, config.workers, progress=advance)


def _device(config: TrainConfig) -> torch.device:
    """Return the device of the results: that of the training, unless only Lightning knows it."""
    return resolve_device(device_of_training(config.device))


def _train_counts(images: Any) -> list[int] | None:
    """Return the number of images of each class; None unless they are labeled images that need no reading."""
    if not isinstance(images, ClassificationSet) or images.targets == "regression":
        return None
    if images.targets == "multilabel":
        return np.nansum(images.own_labels, axis=0).astype(int).tolist()
    return np.bincount(images.own_labels, minlength=len(images.class_names)).tolist()


def _augmented_images(plan: Plan) -> list[tuple[str, Image.Image]]:
    """Return (label, image) of training images after augmentation, without normalization."""
    images = plan.source.train
    if not isinstance(plan, ClassifyPlan) or not isinstance(images, ClassificationSet):
        return []
    dataset: Any = plan.data_module().train_dataset()
    positions = np.random.default_rng(plan.config.seed).permutation(len(images))[:AUGMENTED_IMAGES]
    shown = []
    for seed, position in enumerate(positions.tolist()):
        try:
            pixels, label, _ = dataset[position, seed]
        except UnreadableImage:
            continue
        text = describe_label(np.asarray(label), images.class_names)
        shown.append((text, Image.fromarray(plan.transforms.display(pixels))))
    return shown


def _learning_rate(config: TrainConfig, history: Sequence[dict[str, float]]) -> list[dict[str, float]]:
    """Return step and learning rate of at most ``RATE_POINTS`` updates."""
    if not history:
        return []
    steps = round(history[-1]["step"])
    shown = np.unique(np.linspace(0, steps - 1, RATE_POINTS).round().astype(int)).tolist()
    rates = learning_rates(config, round(steps / history[-1]["epoch"]), shown)
    return [{"step": update + 1, "lr": rate} for update, rate in zip(shown, rates, strict=True)]


def write_predictions(run: Run, evaluation: AnyEvaluation, *, test: bool = False) -> None:
    """Write the predictions for the validation images, or for the test images to files with the prefix ``test_``.

    A classifier gets ``predictions.csv`` with labels, predictions and probabilities; a detector ``detections.json`` in
    COCO's results format; a segmenter ``predictions.csv`` with the mean IoU and the pixels of each image; a pretrained
    network none.
    """
    table = run.test_predictions_file if test else run.predictions_file
    if isinstance(evaluation, DetectionEvaluation):
        write_detections(run.test_detections_file if test else run.detections_file, evaluation)
    elif isinstance(evaluation, SegmentationEvaluation):
        write_map_counts(table, evaluation)
    elif not isinstance(evaluation, EmbeddingEvaluation):
        write_classifier_predictions(table, evaluation)


def cost(config: TrainConfig, model: Any, classes: int) -> tuple[int, int, tuple[int, int]]:
    """Return parameters, MACs, and the input height and width of the MACs: those of the task's published values."""
    channels = config.channels or 3
    if isinstance(config, DetectConfig):
        assert config.min_size is not None
        size = (config.min_size, round(1.6 * config.min_size))
        facts: Any = dense_info(config.model, "detect", config.head, size, classes, channels)
    elif isinstance(config, SegmentConfig):
        assert config.crop is not None
        size = config.crop, 4 * config.crop
        facts = dense_info(config.model, "segment", None, size, classes, channels)
    else:
        assert isinstance(config, (ClassifyConfig, PretrainConfig)) and config.img_size is not None
        size = config.img_size, config.img_size
        facts = count(model.cpu(), *size, channels)
    return sum(parameter.numel() for parameter in model.parameters()), facts.multiply_adds, size


def _format_cost(parameters: int, multiply_adds: int, size: tuple[int, int]) -> dict[str, str]:
    return {
        "Parameters": f"{parameters / 1e6:.2f} M",
        "MACs": f"{multiply_adds / 1e9:.2f} G at {size[0]}x{size[1]}",
    }


def _gradcam_getter(trained: TrainedModel, images: Any) -> Callable[..., Any]:
    """Return a function that draws Grad-CAM at the last stage and in the last D-Mixer's branches, if there are any."""
    read_pixels = image_reader(images, "pixels")

    def get_panels(index: int, class_index: int | None = None) -> list[tuple[str, Image.Image]]:
        pixels = read_pixels(index)
        parts = {name: part for name, part in named_parts(trained.model).items() if name in MIXER_PARTS}
        found = explain_image(trained, pixels, class_index, parts={"last": find_part(trained.model), **parts})
        panels = [("image", Image.fromarray(found.image))]
        for name, heat in found.maps.items():
            caption = found.titles[name] + ("" if heat.any() else ": no evidence")
            panels.append((caption, Image.fromarray(overlay(found.image, heat))))
        return panels

    return get_panels
