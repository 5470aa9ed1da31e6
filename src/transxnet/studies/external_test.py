"""The evaluation of a study's models on further test data, once, at the end."""

from collections.abc import Sequence

import numpy as np
from rich.console import Console

from transxnet.data.formats.label_table import TableOptions
from transxnet.data.open_data import open_evaluation_data
from transxnet.data.split import group_images
from transxnet.evaluation.dataset_evaluation import run_evaluation
from transxnet.evaluation.evaluation_output import write_class_predictions, write_detections, write_map_counts
from transxnet.evaluation.open_backend import open_backend
from transxnet.metrics.classification import ClassificationEvaluation
from transxnet.metrics.detection import DetectionEvaluation
from transxnet.metrics.fitted_choices import FittedChoices
from transxnet.metrics.segmentation import SegmentationEvaluation
from transxnet.runs.run_folder import Run
from transxnet.studies.fold_results import ArmResult, read_scores
from transxnet.studies.folds import StudyImages
from transxnet.studies.paired_comparison import Estimate, Scores, estimate
from transxnet.studies.study_folder import StudyFolder
from transxnet.studies.study_results import ExternalResult
from transxnet.utils.device import device_of_training
from transxnet.utils.errors import UserError
from transxnet.utils.progress import PLAIN, progress_bar

_COLUMNS = ("path_column", "label_column", "split_column", "group_column", "weight_column")


def open_external(folder: StudyFolder, *, check_images: bool = True) -> StudyImages:
    """Open the further test data of a study.

    Raises:
        UserError: the data cannot be opened, has other classes, or is read in order.
    """
    assert folder.test is not None
    options = folder.arms[0].options
    images, _ = open_evaluation_data(
        folder.test,
        list(folder.class_names),
        folder.task,
        targets="classes",
        table=TableOptions(**{name: options.get(name) for name in _COLUMNS}),
        masks=folder.masks,
        zero_is_ignored=options.get("zero_is_ignored"),
        check_images=check_images,
    )
    if not isinstance(images, StudyImages):
        raise UserError(f"--test needs images in files or a sample, got {folder.test}, which is read in order.")
    return images if options["group_from"] is None else group_images(images, options["group_from"])


def evaluate_external(folder: StudyFolder, arms: Sequence[ArmResult], console: Console) -> ExternalResult:
    """Evaluate the models of all runs on ``folder.test``, with the thresholds and temperatures of their validation.

    The predictions are stored in the run folders, so that a resumed study does not compute them again.

    Raises:
        UserError: the data cannot be opened.
    """
    assert folder.test is not None
    images = open_external(folder)
    models = {
        arm.arm.name: [
            _scores(folder, folder.run(arm.arm, result.fold, result.seed), result.choices, images, console)
            for result in arm.folds
        ]
        for arm in arms
    }
    groups = images.own_groups
    units = np.arange(len(images)) if groups is None else groups
    estimates = estimate(models, units, folder.resamples, folder.fold_seed)
    return ExternalResult(
        folder.test,
        len(images),
        None if groups is None else len(np.unique(groups)),
        {name: _with_spread(row, models[name]) for name, row in estimates.rows.items()},
    )


def _with_spread(row: dict[str, Estimate], models: Sequence[Scores]) -> dict[str, tuple[Estimate, float | None]]:
    """Add the standard deviation over the models to each estimate."""
    values = [model.metrics() for model in models]
    return {
        name: (value, float(np.std([each[name] for each in values], ddof=1)) if len(values) > 1 else None)
        for name, value in row.items()
    }


def _scores(
    folder: StudyFolder, run: Run, choices: FittedChoices | None, images: StudyImages, console: Console
) -> Scores:
    """Return a model's predictions, from their file if it exists."""
    path = run.study_test_detections_file if folder.task == "detect" else run.study_test_file
    if not path.is_file():
        config = run.read_config()
        assert isinstance(config.batch_size, int)
        backend = open_backend(run.path, device=device_of_training(config.device))
        console.print(f"evaluating {run.path.name} on {folder.test}", **PLAIN)
        with progress_bar(console, "evaluating", len(images)) as advance:
            evaluation = run_evaluation(backend, images, config.batch_size, 0, progress=advance)
        if isinstance(evaluation, DetectionEvaluation):
            write_detections(path, evaluation)
        elif isinstance(evaluation, SegmentationEvaluation):
            write_map_counts(path, evaluation)
        else:
            assert isinstance(evaluation, ClassificationEvaluation)
            write_class_predictions(path, evaluation)
    return read_scores(folder, path, choices, images)[1]
