"""Read the runs of a study and compute its results."""

from collections.abc import Mapping

from rich.console import Console

from transxnet.experiments.experiment_folder import merge_environments, shared_options
from transxnet.studies.external_test import evaluate_external
from transxnet.studies.fold_results import read_arms_results
from transxnet.studies.folds import StudyImages, read_folds
from transxnet.studies.paired_comparison import compare_with_best, estimate
from transxnet.studies.study_folder import StudyFolder
from transxnet.studies.study_results import StudyResult
from transxnet.utils.errors import UserError


def read_study(folder: StudyFolder, images: StudyImages, failures: Mapping[str, str], console: Console) -> StudyResult:
    """Compute metrics, intervals and comparisons of the finished arms, and evaluate them on further test data.

    Args:
        folder: folder of the study.
        images: its images.
        failures: error messages of failed runs, by name of the run.
        console: console to print to.

    Raises:
        UserError: no arm is finished, a file is damaged, or a run used images of its outer fold.
    """
    folds = read_folds(folder.path, list(folder.class_names))
    arms = read_arms_results(folder, folds, images)
    if not arms:
        reasons = " ".join(f"{name}: {error}" for name, error in failures.items())
        raise UserError(f"no arm of the study in {folder.path} has finished all runs. {reasons}")
    pooled = {arm.arm.name: arm.pooled for arm in arms}
    estimates = estimate(pooled, folds.units, folder.resamples, folder.fold_seed)
    return StudyResult(
        folder=folder,
        folds=folds,
        arms=arms,
        estimates=estimates.rows,
        best=estimates.best(folder.metric),
        comparisons=compare_with_best(estimates, pooled, folder.metric, grouped=folds.groups is not None),
        environment=merge_environments([run for arm in arms for run in folder.runs_of(arm.arm)]),
        config=shared_options([arm.options for arm in folder.arms]),
        failures=dict(failures),
        external=None if folder.test is None else evaluate_external(folder, arms, console),
    )
