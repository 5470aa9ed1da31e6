import os
import shutil
from pathlib import Path

import numpy as np
import pytest

import transxnet
from tests.helpers.study_data import FILES, OPTIONS, read_files
from transxnet.cli import main
from transxnet.data.split import read_split
from transxnet.runs.run_folder import Run
from transxnet.studies.study import study
from transxnet.studies.study_folder import StudyFolder
from transxnet.utils.errors import UserError

RUNS = [f"{arm}-fold{fold}-seed{seed}" for arm in OPTIONS["models"] for fold in (1, 2) for seed in (0, 1)]


def test_folder_has_runs_folds_and_tables(whole):
    path = whole.folder.path
    assert sorted(each.name for each in path.iterdir() if each.is_dir()) == sorted(RUNS)
    assert {each.name for each in path.iterdir() if each.is_file()} == {
        "study.yaml", "folds.csv", "split-fold1.csv", "split-fold2.csv", *FILES,
    }  # fmt: skip


def test_outer_fold_is_the_test_set_of_all_arms_and_seeds(whole):
    names = whole.folds.names
    for number in (1, 2):
        runs = [Run(whole.folder.path / name) for name in RUNS if f"fold{number}" in name]
        splits = [{part: own.tolist() for part, own in read_split(run.split_file, names).items()} for run in runs]
        assert all(split == splits[0] for split in splits)
        assert splits[0]["test"] == whole.folds.outer(number).tolist()
        assert sorted(i for part in splits[0].values() for i in part) == list(range(len(names)))
        groups = [set(whole.folds.groups[part].tolist()) for part in splits[0].values()]
        assert not groups[0] & groups[1] and not groups[2] & (groups[0] | groups[1])


def test_resumed_finished_study_trains_nothing_and_writes_the_same(whole, resume_finished):
    assert resume_finished(whole) == read_files(whole.folder.path)


def run_until_replaced(arguments, count, quiet):
    """Run a study in a process that is killed before it completes its file number ``count``."""
    pid = os.fork()
    if pid:
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    replace, done = Path.replace, 0

    def killed(self, target):
        nonlocal done
        done += 1
        if done == count:
            os._exit(9)
        return replace(self, target)

    try:
        Path.replace = killed
        study(**arguments, console=quiet)
    finally:
        os._exit(0)


def test_killed_study_gives_the_files_of_an_uninterrupted_one(whole, cells, other_cells, tmp_path, quiet):
    out = tmp_path / "killed"
    random = np.random.default_rng(0)
    statuses = []
    for _ in range(3):
        begun = (out / StudyFolder.PLAN_FILE).is_file()
        arguments = {"resume": out} if begun else {"data": cells, "test": other_cells, "out": out, **OPTIONS}
        statuses.append(run_until_replaced(arguments, int(random.integers(5, 40)), quiet))
    assert statuses == [9, 9, 9]
    study(resume=out, console=quiet)
    assert read_files(out) == read_files(whole.folder.path)


@pytest.mark.long
@pytest.mark.parametrize("ray", [False, True])
def test_parallel_study_gives_the_files_of_a_sequential_one(
    ray, whole, cells, other_cells, tmp_path, quiet, monkeypatch
):
    if ray:
        pytest.importorskip("ray")
    monkeypatch.setenv("GIT_DIR", os.devnull)  # the processes do not find the commit either
    out = tmp_path / "parallel"
    study(cells, test=other_cells, out=out, parallel=2, ray=ray, console=quiet, **OPTIONS)
    assert read_files(out) == read_files(whole.folder.path)
    assert {path.stem for path in (out / "logs").iterdir()} == set(RUNS)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("", r"Name the arms once: with --models"),
        ("--models a --arms b.yaml", r"Name the arms once: with --models"),
        ("--models test_resnet", "no data given"),
        ("digits --models test_resnet test_resnet", "two arms have the same name"),
        ("digits --models test_rsnet", "arm 'test_rsnet': unknown model 'test_rsnet'. Did you mean"),
        ("digits --models test_resnet --folds 1", "folds must be an integer of at least 2, got 1"),
        ("digits --models test_resnet --seeds 0", "seeds must be an integer of at least 1, got 0"),
        ("digits --models test_resnet --resamples 3", "resamples must be an integer of at least 100, got 3"),
        ("digits --models test_resnet --metric auc", "metric must be 'accuracy' or"),
        ("digits --models test_resnet --metric sensitivity", "metric must be 'accuracy' or"),
        ("digits --models test_resnet --positive 3", "--positive is for a classifier of two classes, got 10 classes"),
        ("digits --models test_resnet --val-fraction 0", "Use a --val-fraction above 0"),
        ("digits --models test_resnet --test digits", "--test digits is the training data"),
        ("digits --models test_resnet --test nowhere", "'nowhere' is neither an existing folder nor a sample"),
        ("digits --models test_resnet --task detect", "digits is data for task 'classify', got task 'detect'"),
        ("--resume nowhere", "nowhere is not the folder of a study: study.yaml is missing"),
        ("digits --resume nowhere", "--resume uses the options of the study and accepts no others but --parallel and"),
        ("digits --resume nowhere --folds 3", "no others but --parallel and --ray. Remove digits, --folds."),
        ("digits --models test_resnet --parallel 0", "parallel must be an integer of at least 1, got 0"),
    ],
)
def test_wrong_arguments_are_errors_before_any_training(arguments, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["study", *arguments.split()]) == 2
    assert message in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_data_that_cannot_be_folded_is_refused(photos, cells, tint_sample, tmp_path):
    options = {**OPTIONS, "out": tmp_path / "study"}
    with pytest.raises(UserError, match="supports one class per image"):
        transxnet.study(tint_sample, targets="multilabel", **options)
    parts = tmp_path / "parts"
    for part in ("train", "val"):
        for name in ("a", "b"):
            shutil.copytree(cells / "images", parts / part / name)
    with pytest.raises(UserError, match=r"has a validation set, but study makes its own folds"):
        transxnet.study(parts, **options)
    with pytest.raises(UserError, match="the classes of the data do not match the model"):
        transxnet.study(cells, test=photos, **options)
    with pytest.raises(UserError, match="13 folds need at least 13 groups, got 12"):
        transxnet.study(cells, **{**options, "folds": 13})
    assert not options["out"].exists()
