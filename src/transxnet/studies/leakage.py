"""The check that the outer fold of a run has chosen nothing."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from transxnet.data.split import read_split
from transxnet.runs.run_folder import Run
from transxnet.studies.folds import Folds
from transxnet.utils.errors import UserError


def check_leakage(run: Run, folds: Folds, number: int, validated: Sequence[str], tested: Sequence[str]) -> None:
    """Refuse a run that used images or groups of its outer fold in training or for any choice.

    The training images fit the weights; the validation images choose epoch, threshold and temperature.

    Args:
        run: a finished run.
        folds: the folds of the study.
        number: the outer fold of the run.
        validated: names of the images whose predictions choose threshold and temperature.
        tested: names of the images whose predictions are counted.

    Raises:
        UserError: such an image was used, or the predictions are not those of the outer fold.
    """
    outer = folds.outer(number)
    parts = read_split(run.split_file, folds.names)
    used: dict[str, Any] = {
        "trained on": parts["train"],
        "chose the epoch by": parts["val"],
        "chose threshold and temperature by": _positions(folds, validated, run.predictions_file),
    }
    for verb, positions in used.items():
        shared = set(folds.units[positions].tolist()) & set(folds.units[outer].tolist())
        if shared:
            unit = "images" if folds.groups is None else "groups"
            raise UserError(
                f"{run.path} {verb} {len(shared)} {unit} of its outer fold {number}, so its results are biased. "
                "Delete this run folder, and resume the study."
            )
    if sorted(_positions(folds, tested, run.test_predictions_file)) != outer.tolist():
        raise UserError(
            f"{run.test_predictions_file} does not hold each image of fold {number} once. Delete this run folder, and "
            "resume the study."
        )


def _positions(folds: Folds, names: Iterable[str], file: Path) -> list[int]:
    position = {name: i for i, name in enumerate(folds.names)}
    try:
        return [position[name] for name in names]
    except KeyError as error:
        raise UserError(f"{file} names {error.args[0]!r}, which is not in the folds of the study.") from error
