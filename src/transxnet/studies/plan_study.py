"""Make the plan of a study: check the options, the arms and the data before the first training."""

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from transxnet.data.datasets.classification_dataset import ClassificationSet
from transxnet.data.recognize import check_exists
from transxnet.experiments.experiment_folder import stored_data
from transxnet.metrics.binary_curves import choose_positive
from transxnet.runs.config import TrainConfig
from transxnet.runs.recipes import Recipe, make_config
from transxnet.runs.training_data import open_run_data, trained_on
from transxnet.studies.arms import make_arms, read_arms
from transxnet.studies.external_test import open_external
from transxnet.studies.folds import FOLDS_FILE, StudyImages, make_folds, make_splits, write_folds
from transxnet.studies.paired_comparison import MIN_RESAMPLES, RESAMPLES
from transxnet.studies.study_folder import StudyFolder
from transxnet.studies.study_metrics import ranking_metric
from transxnet.utils.errors import UserError, check_at_least
from transxnet.utils.option_names import as_option, option_words
from transxnet.utils.progress import PLAIN


def plan_study(
    data: str | Path | None,
    models: Sequence[str] | None,
    arms: str | Path | None,
    task: str | None,
    recipe: str | Path | Recipe | None,
    options: Mapping[str, Any],
    console: Console,
    *,
    folds: int,
    seeds: int,
    metric: str | None,
    test: str | Path | None,
    resamples: int,
    out: str | Path | None,
) -> tuple[StudyFolder, StudyImages]:
    """Return the plan of a new study, and its images.

    The arguments are those of :func:`~transxnet.studies.study.study`.

    Raises:
        UserError: an option, an arm or the data is invalid.
    """
    given = read_arms(models, arms)
    if data is None:
        raise UserError("no data given. Name a folder, a table of images and labels, or a sample such as digits.")
    check_at_least(2, folds=folds)
    check_at_least(1, seeds=seeds)
    check_at_least(MIN_RESAMPLES, resamples=resamples)
    if options.get("split_file") is not None:
        raise UserError("study makes its own folds and does not accept split_file. Remove --split-file.")
    shared = make_config(data, recipe, task, **options)
    own = make_arms(given, data, shared.task, recipe, options)
    config = shared.replace(model=own[0].model)
    if not config.val_fraction:
        raise UserError("a study chooses epoch and threshold on validation images. Use a --val-fraction above 0.")
    if test is not None:
        check_exists(str(test))
        if trained_on(config, str(test)):
            raise UserError(f"--test {test} is the training data. Name other images, or remove --test.")
    path = StudyFolder.choose_path(out, "study", data)
    stated = dict(models=models, arms=arms, folds=folds, seeds=seeds, metric=metric, test=test)
    if resamples != RESAMPLES:
        stated["resamples"] = resamples
    images = open_images(config, console)
    names = images.class_names
    classes, labels = (names, images.own_labels) if isinstance(images, ClassificationSet) else ([], None)
    folder = StudyFolder(
        path=path,
        data=stored_data(data),
        task=shared.task,
        arms=tuple(own),
        folds=folds,
        seeds=tuple(range(config.seed, config.seed + seeds)),
        fold_seed=config.seed,
        limit=config.limit,
        class_names=tuple(names),
        positive=choose_positive(classes, labels, getattr(shared, "positive", None)),
        metric=ranking_metric(
            metric, shared.task, names, masks=all(arm.options.get("head") == "maskrcnn" for arm in own)
        ),
        resamples=resamples,
        test=None if test is None else stored_data(test),
        command=_command(data, stated, shared),
    )
    make_splits(images, make_folds(images, folds, config.seed), config.val_fraction, config.seed)
    if folder.test is not None:
        open_external(folder, check_images=False)
    return folder, images


def open_images(config: TrainConfig, console: Console | None, *, check_images: bool = True) -> StudyImages:
    """Open all images of a study.

    Raises:
        UserError: they cannot be divided into folds, or have several labels or values each.
    """
    undivided = config.replace(val_fraction=0.0, train_fraction=1.0)
    source = open_run_data(undivided, console, None, check_images=check_images)
    if not source.split_made or source.test is not None:
        raise UserError(
            f"{config.data} has a {'test' if source.split_made else 'validation'} set, but study makes its own folds. "
            "Name the training images only; a test set may follow as --test. For a table, use --split-column none."
        )
    if console is not None:
        for note in source.notes:
            console.print(note, **PLAIN)
    images = source.train
    in_files = isinstance(images, StudyImages)
    if not in_files or (isinstance(images, ClassificationSet) and images.targets != "classes"):
        raise UserError(
            "study supports one class per image, boxes and label maps, not several labels or values per image. Train "
            "each fold with transxnet train --split-file instead."
        )
    return images


def store_folds(folder: StudyFolder, images: StudyImages | None, console: Console) -> None:
    """Write the folds and the split of each fold, unless the study has them already.

    Args:
        folder: folder of the study.
        images: its images, if they are open.
        console: console for the progress of opening them.
    """
    if (folder.path / FOLDS_FILE).is_file():
        return
    images = images or open_images(folder.config, console)
    folds, fraction = make_folds(images, folder.folds, folder.fold_seed), folder.config.val_fraction
    write_folds(folder.path, folds, make_splits(images, folds, fraction, folder.fold_seed), images.class_names)


def _command(data: str | Path, own: Mapping[str, Any], config: TrainConfig) -> str:
    """Return the shell command that repeats the study, from its own options and those of the trainings."""
    words = ["transxnet", "study", str(data)]
    for name, value in own.items():
        if value is not None:
            words += [as_option(name), *value] if name == "models" else option_words(name, value)
    return shlex.join([*words, *config.to_arguments(exclude=("model",))])
