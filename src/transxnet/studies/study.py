"""The command ``study``: compare models on the same folds and seeds, with intervals and paired tests."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from transxnet.experiments.train_runs import check_parallel, open_experiment, started_folder, train_runs
from transxnet.runs.recipes import Recipe
from transxnet.runs.run_folder import is_first_process
from transxnet.studies.paired_comparison import RESAMPLES
from transxnet.studies.plan_study import open_images, plan_study, store_folds
from transxnet.studies.read_study import read_study
from transxnet.studies.study_folder import StudyFolder
from transxnet.studies.study_page import write_page
from transxnet.studies.study_results import StudyResult
from transxnet.studies.study_tables import to_rich, write_tables
from transxnet.utils.errors import check_resumed_alone
from transxnet.utils.progress import PLAIN
from transxnet.utils.quantities import format_count


def study(
    data: str | Path | None = None,
    *,
    models: Sequence[str] | None = None,
    arms: str | Path | None = None,
    folds: int | None = None,
    seeds: int | None = None,
    metric: str | None = None,
    test: str | Path | None = None,
    resamples: int | None = None,
    out: str | Path | None = None,
    resume: str | Path | None = None,
    parallel: int | None = None,
    ray: bool = False,
    task: str | None = None,
    recipe: str | Path | Recipe | None = None,
    console: Console | None = None,
    **options: Any,
) -> StudyResult:
    """Compare models by cross-validation on the same folds and seeds, and write tables and a page.

    Each arm, fold and seed is a run of :func:`~transxnet.training.train.train`. The outer fold is its test set; a part
    of the other images, ``val_fraction``, is its validation set, which chooses the epoch, and for classifiers threshold
    and temperature. The
    results are written to ``study.html``, ``study.csv``, ``study.json`` and ``study.tex``.

    Args:
        data: training data with one class per image, boxes or label maps, as for ``train``, without a validation or
            test set of its own.
        models: names of the models to compare; each is an arm.
        arms: YAML file with the arms instead of models: training options by the name of the arm.
        folds: number of outer folds, stratified by class, by default 5; groups are not split.
        seeds: number of seeds, counted from ``seed``, by default 1; each arm is trained once per fold and seed.
        metric: metric by which the arms are ranked: accuracy, balanced_accuracy, auroc, auprc, f1, mcc, sensitivity,
            specificity, ece, ece_scaled, brier or brier_scaled; by default auroc for two classes, else accuracy. For
            segmenters miou, mean_dice, pixel_accuracy, iou_CLASS or dice_CLASS; by default miou. For
            detectors ap, ap50, ap75, ap_small, ap_medium, ap_large or class_ap_CLASS, and with mask_ before them those
            of masks; by default ap.
        test: further labeled images, which all models are evaluated on once, at the end.
        resamples: number of bootstrap resamples for the intervals, by default 1000.
        out: folder of the study; by default runs/study-DATA-NUMBER.
        resume: folder of a study to resume; finished runs are kept, an interrupted run is resumed.
        parallel: number of runs to train at the same time, each in a process of its own with its share of the CPU
            threads, and its own GPU as far as there are several; by default one run after another.
        ray: train the runs on a Ray cluster: the one at RAY_ADDRESS, or else one on this machine only; ``parallel`` is
            then the number on each machine, by default one per GPU, or one.
        task: "classify", "detect" or "segment"; by default the recipe's task, or the one that the data is for.
        recipe: recipe of all arms, as for ``train``.
        console: console to print to; by default standard output.
        **options: training options of all arms, as for ``train``.

    Returns:
        The arms with their metrics and intervals, and the comparisons with the best arm.

    Raises:
        UserError: an option, an arm or the data is invalid, or a run used images of its outer fold for a choice.
        Interrupted: stopped by the user or the system; the finished work is kept.
    """
    console = console or Console()
    check_parallel(parallel, ray)
    images = None
    if resume is not None:
        given = {
            "data": data, "models": models, "arms": arms, "folds": folds, "seeds": seeds, "metric": metric,
            "test": test, "resamples": resamples, "out": out, "task": task, "recipe": recipe,
        }  # fmt: skip
        check_resumed_alone("study", "--parallel and --ray", given, options)
        folder = StudyFolder.read(resume)
    elif (started := started_folder(StudyFolder)) is not None:
        folder = started
    else:
        folder, images = plan_study(
            data, models, arms, task, recipe, options, console, folds=5 if folds is None else folds,
            seeds=1 if seeds is None else seeds, metric=metric, test=test,
            resamples=RESAMPLES if resamples is None else resamples, out=out,
        )  # fmt: skip
    with open_experiment(folder):
        if is_first_process():
            store_folds(folder, images, console)
        return _run(folder, console, parallel, ray)


def _run(folder: StudyFolder, console: Console, parallel: int | None, ray: bool) -> StudyResult:
    arms, folds, seeds = len(folder.arms), folder.folds, len(folder.seeds)
    console.print(
        f"{format_count(arms, 'arm')}, {folds} folds and {format_count(seeds, 'seed')}: "
        f"{format_count(folder.num_runs, 'run')}",
        **PLAIN,
    )
    console.print(f"folder {folder.path}", **PLAIN)
    failures = train_runs(folder, console, parallel=parallel, ray=ray)
    console.print(f"\ncomputing intervals from {folder.resamples:,} resamples", **PLAIN)
    images = open_images(folder.config, None, check_images=False)
    result = read_study(folder, images, failures, console)
    if is_first_process():
        write_tables(result)
        write_page(result, images)
        console.print(to_rich(result), highlight=False)
        console.print(f"\nstudy       {folder.path / 'study.html'}, .csv, .json and .tex", **PLAIN)
    return result
