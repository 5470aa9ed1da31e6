"""The sentences of a study: how it was done, and what its results can and cannot show."""

from pathlib import Path

import numpy as np

from transxnet.metrics.best_epoch import SELECTION_METRICS
from transxnet.metrics.intervals import FEW
from transxnet.metrics.temperature import LIMITS
from transxnet.studies.study_folder import StudyFolder
from transxnet.studies.study_metrics import metric_title
from transxnet.studies.study_results import StudyResult
from transxnet.utils.quantities import format_count

_STRATA = {
    "classify": "stratified by class, ",
    "detect": "stratified by the rarest class of each image, ",
    "segment": "",
}

_TRAINING = {
    "batch_size": "batches of {}",
    "img_size": "images of {} pixels",
    "opt": "optimizer {}",
    "lr": "learning rate {:g}",
}
"""Options in the method, in words."""

_NOTES = {
    "detect": ["AP is COCO's, of the best 100 detections of each image, with the objects of all images together."],
    "segment": [
        "IoU and Dice are those of the pixels of all images together. Mean IoU and mean Dice are over the classes that "
        "occur or were predicted."
    ],
}

CAUTION = (
    "The best arm was chosen by the same predictions, and the runs of different folds share training images: the "
    "intervals and p-values describe the variation of the test images for these trained models, not that of new "
    "training sets, so that a small p-value supports a difference on this data only, and a large one does not show "
    "that two arms are equal."
)
"""What the comparisons of a study can and cannot show."""

RUNS_CAUTION = (
    "The best run was chosen by the same images, and each run is a single training: a small p-value supports a "
    "difference between these trained models on such images, not between their methods; for that, compare several "
    "seeds and folds with transxnet study."
)
"""What comparisons of single runs can and cannot show."""


def describe_method(result: StudyResult) -> str:
    """Describe data, folds, choices, intervals, tests, software and hardware in one paragraph."""
    folder, folds = result.folder, result.folds
    images = _describe_images(result)
    grouped = folds.groups is not None
    if grouped:
        images += f" in {format_count(len(np.unique(folds.units)), 'group')}"
    chosen = _list_choices(result)
    seeds = ", ".join(map(str, folder.seeds))
    environment = result.environment
    versions = ", ".join(
        f"{name} {environment[name]}" for name in ("transxnet", "torch", "timm") if name in environment
    )
    hardware = ", ".join(environment[name] for name in ("cpu", "gpu") if name in environment)
    return " ".join(
        [
            f"The data, {Path(folder.data).name}, are {images}.",
            f"Each of {format_count(len(result.arms), 'arm')} was trained in {folder.folds}-fold cross-validation, "
            f"{_STRATA[folder.task]}"
            f"{'with the images of a group in one fold, ' if grouped else ''}with "
            f"{format_count(len(folder.seeds), 'seed')} ({seeds}); all arms used the same folds and seeds.",
            f"In each fold, about {folder.config.val_fraction:.0%} of the other images"
            f"{', whole groups,' if grouped else ''} chose {chosen}; the outer fold was evaluated once, after "
            "training.",
            *_describe_training(result),
            "Metrics are those of the pooled out-of-fold predictions, "
            f"{'averaged over the seeds, ' if len(folder.seeds) > 1 else ''}with 95% percentile intervals from "
            f"{folder.resamples:,} bootstrap resamples of {'groups' if grouped else 'images'}.",
            *_describe_tests(result),
            f"Software: {versions}. Hardware: {hardware}. Precision of the trainings: {environment['precision']}.",
        ]
    )


def _describe_training(result: StudyResult) -> list[str]:
    """Describe the options that all arms share, and whether weights were random, if anything can be said."""
    shared = {name: value for name, value in result.config.items() if value is not None}
    random = not any(arm.arm.options.get(name) for arm in result.arms for name in ("pretrained", "checkpoint"))
    facts = [
        *(["from random weights"] if random else []),
        *([format_count(shared["epochs"], "epoch")] if "epochs" in shared else []),
        *(words.format(shared[name]) for name, words in _TRAINING.items() if name in shared),
    ]
    return [f"Each training: {', '.join(facts)}."] if facts else []


def _describe_images(result: StudyResult) -> str:
    """Describe number and classes of the images."""
    names, labels = result.folder.class_names, result.folds.labels
    kind = {"classify": "images", "detect": "images with boxes", "segment": "images with label maps"}[
        result.folder.task
    ]
    images = f"{len(result.folds.names):,} {kind} of {format_count(len(names), 'class', 'classes')}"
    if len(names) > 10:
        return images
    if labels is None:
        return f"{images} ({', '.join(names)})"
    counts = np.bincount(labels, minlength=len(names)).tolist()
    return f"{images} ({', '.join(f'{name} {count:,}' for name, count in zip(names, counts, strict=True))})"


def _list_choices(result: StudyResult) -> str:
    """List what the validation images of a run chose."""
    folder, config = result.folder, result.folder.config
    used = "" if config.select == "best" else " not used: last epoch"
    chosen = [f"the epoch (highest validation {SELECTION_METRICS[config.predicted][1]}{used})"]
    if folder.positive is not None:
        chosen.append(f"the threshold of the class {folder.positive} (highest Youden index)")
    if folder.task == "classify":
        chosen.append("the temperature (highest likelihood)")
    return f"{', '.join(chosen[:-1])} and {chosen[-1]}" if len(chosen) > 1 else chosen[0]


def _describe_tests(result: StudyResult) -> list[str]:
    """Describe the tests of the comparisons, if there are any."""
    if not result.comparisons:
        return []
    tests = {each.metric: each.test for each in result.comparisons}
    told = ", ".join(f"{metric_title(metric)}: {test}" for metric, test in tests.items())
    return [
        f"The other arms were compared with the arm of the best {metric_title(result.folder.metric)} by paired "
        f"tests ({told}), with p-values adjusted by Holm's method over the arms."
    ]


def list_notes(result: StudyResult) -> list[str]:
    """List what a reader of the tables must know."""
    folder = result.folder
    notes = [
        f"{format_count(folder.folds * len(folder.seeds), 'run')} of each arm, one for each fold and seed. Mean and "
        "standard deviation are those of the outer folds; the values with intervals are those of the pooled "
        "predictions, so the two differ, most in ECE, which is larger on fewer images.",
        *(_notes_on_classes(folder) if folder.task == "classify" else _NOTES[folder.task]),
    ]
    notes += notes_on_units(len(np.unique(result.folds.units)), grouped=result.folds.groups is not None)
    notes += _notes_on_temperatures(result)
    if len(folder.seeds) == 1:
        notes.append("One seed: the variation between seeds is unknown.")
    if result.comparisons:
        notes.append(CAUTION)
    if result.external is not None:
        notes.append(
            f"{Path(result.external.data).name}: evaluated once with the models of all folds and seeds; the mean over "
            "the models, with intervals from resamples of its "
            f"{'images' if result.external.groups is None else 'groups'}."
        )
    return [*notes, *(f"{name} failed, so its arm is left out: {error}" for name, error in result.failures.items())]


def notes_on_units(units: int, grouped: bool) -> list[str]:
    """Warn if the intervals are those of too few groups or images."""
    if units >= FEW:
        return []
    drawn = format_count(units, "group" if grouped else "image")
    return [f"The intervals, of resamples of {drawn}, are too narrow: {FEW} or more are needed."]


def _notes_on_classes(folder: StudyFolder) -> list[str]:
    if folder.positive is not None:
        ranked = (
            f"Sensitivity, specificity, AUROC and AUPRC are those of the class {folder.positive}; sensitivity and "
            "specificity at the threshold that the validation images of each run chose."
        )
    else:
        ranked = "AUROC and AUPRC are means over the classes, each against all others."
    return [
        "Accuracy, balanced accuracy, F1 and MCC are those of the class with the highest probability.",
        ranked,
        "ECE has 10 bins of equal width. “Scaled” is after temperature scaling.",
    ]


def _notes_on_temperatures(result: StudyResult) -> list[str]:
    """Warn if the validation images of runs asked for a temperature outside of the limits."""
    fitted = [each.choices.temperature for arm in result.arms for each in arm.folds if each.choices is not None]
    temperatures = [value for value in fitted if value is not None]
    outside = sum(not 1.01 * LIMITS[0] < value < 0.99 * LIMITS[1] for value in temperatures)
    if not outside:
        return []
    return [
        f"The temperature of {outside} of {format_count(len(temperatures), 'run')} is at a limit ({LIMITS[0]:g} or "
        f"{LIMITS[1]:g}): the predictions for their validation images are no better than chance, or all correct. A low "
        "ECE after scaling does not show that these models are well calibrated."
    ]
