import csv

import numpy as np
import pytest


def test_pooled_predictions_are_those_of_the_outer_folds(whole):
    for arm in whole.arms:
        for seed, pooled in zip(arm.seeds, arm.pooled, strict=True):
            assert (pooled.labels == whole.folds.labels).all()
            for fold in (1, 2):
                run = whole.folder.run(arm.arm, fold, seed)
                with run.test_predictions_file.open(newline="") as file:
                    stored = {row["name"]: float(row["probability_defect"]) for row in csv.DictReader(file)}
                for i in whole.folds.outer(fold):
                    assert pooled.probabilities[i, 0] == np.float32(stored[whole.folds.names[i]])


def test_metrics_of_the_runs_are_those_of_their_results(whole):
    for arm in whole.arms:
        assert arm.by_run["accuracy"].shape == (2, 2)
        for s, seed in enumerate(arm.seeds):
            for fold in (1, 2):
                tested = whole.folder.run(arm.arm, fold, seed).read_results()["test"]
                assert arm.by_run["accuracy"][s, fold - 1] == pytest.approx(tested["accuracy"])
        values = arm.by_run["accuracy"]
        assert arm.mean("accuracy") == pytest.approx(values.mean())
        assert arm.std("accuracy", "folds") == pytest.approx(np.std(values.mean(0), ddof=1))
        assert arm.std("accuracy", "seeds") == pytest.approx(np.std(values.mean(1), ddof=1))
