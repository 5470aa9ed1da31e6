import csv
import shutil

import pytest

from transxnet.runs.run_folder import Run
from transxnet.studies.leakage import check_leakage
from transxnet.studies.study import study
from transxnet.utils.errors import UserError


def read_rows(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def write_rows(path, rows):
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


@pytest.fixture
def copy(whole, tmp_path):
    return shutil.copytree(whole.folder.path, tmp_path / "study")


def plant_epoch(run):
    """The epoch was chosen by the outer fold."""
    rows = read_rows(run.split_file)
    write_rows(
        run.split_file, [{**row, "part": {"val": "test", "test": "val"}.get(row["part"], "train")} for row in rows]
    )


def plant_one_image(run):
    """One image of the outer fold was trained on."""
    rows = read_rows(run.split_file)
    next(row for row in rows if row["part"] == "test")["part"] = "train"
    write_rows(run.split_file, rows)


def plant_threshold(run):
    """Threshold and temperature were chosen on the outer fold."""
    shutil.copyfile(run.test_predictions_file, run.predictions_file)


def plant_missing(run):
    """A prediction for the outer fold is missing."""
    write_rows(run.test_predictions_file, read_rows(run.test_predictions_file)[1:])


@pytest.mark.parametrize(
    ("plant", "message"),
    [
        (plant_epoch, r"fold2-seed1 chose the epoch by \d+ groups of its outer fold 2, so its results are biased"),
        (plant_one_image, r"fold2-seed1 trained on 1 groups of its outer fold 2, so its results are biased"),
        (plant_threshold, r"fold2-seed1 chose threshold and temperature by \d+ groups of its outer fold 2"),
        (plant_missing, r"test_predictions\.csv does not hold each image of fold 2 once"),
    ],
)
def test_planted_leak_is_refused(copy, quiet, plant, message):
    plant(Run(copy / "test_vit-fold2-seed1"))
    with pytest.raises(UserError, match=message):
        study(resume=copy, console=quiet)


def test_group_of_the_outer_fold_is_a_leak(whole, copy):
    """Another image of a group that is tested: its name is not in the outer fold."""
    run, folds = Run(copy / "test_vit-fold1-seed0"), whole.folds
    tested = [folds.names[i] for i in folds.outer(1)]
    validated = [row["name"] for row in read_rows(run.predictions_file)]
    check_leakage(run, folds, 1, validated, tested)
    moved = folds.fold.copy()
    moved[folds.names.index(validated[0])] = 1
    changed = type(folds)(folds.names, folds.labels, folds.groups, moved)
    with pytest.raises(UserError, match="chose the epoch by 1 groups"):
        check_leakage(run, changed, 1, validated, [*tested, validated[0]])


def test_unknown_image_is_an_error(whole, copy):
    run = Run(copy / "test_vit-fold1-seed0")
    with pytest.raises(UserError, match=r"predictions\.csv names 'other\.png', which is not in the folds"):
        check_leakage(run, whole.folds, 1, ["other.png"], [])
