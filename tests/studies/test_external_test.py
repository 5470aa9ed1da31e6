import numpy as np
import pytest

from transxnet.evaluation.evaluate import evaluate
from transxnet.studies import external_test
from transxnet.studies.external_test import evaluate_external


def test_test_data_is_evaluated_with_all_models(whole, other_cells, quiet):
    external = whole.external
    assert (external.images, external.groups) == (8, 4)
    for arm in whole.arms:
        value, std = external.rows[arm.arm.name]["accuracy"]
        runs = [whole.folder.run(arm.arm, each.fold, each.seed) for each in arm.folds]
        accuracies = [evaluate(run.path, other_cells, workers=0, console=quiet).metrics()["accuracy"] for run in runs]
        assert value.value == pytest.approx(np.mean(accuracies))
        assert std == pytest.approx(np.std(accuracies, ddof=1))


def test_stored_predictions_are_not_computed_again(whole, quiet, monkeypatch):
    monkeypatch.setattr(external_test, "run_evaluation", None)
    assert evaluate_external(whole.folder, whole.arms, quiet) == whole.external
