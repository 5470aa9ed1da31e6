"""The classifiers that find label errors."""

import pytest

from transxnet.checking.model_errors import is_run_of, load_classifier
from transxnet.runs.load import load_model
from transxnet.utils.errors import UserError


def test_runs_are_of_the_data_that_they_were_trained_on(photos_run, photos, planted_data):
    trained = load_model(photos_run.path)
    assert is_run_of(trained, str(photos))
    assert not is_run_of(trained, str(planted_data))


def test_any_classifier_gives_features_for_folds(photos_run, planted_data):
    assert load_classifier(photos_run.path, str(planted_data), 3).class_names
    with pytest.raises(UserError, match="to --model, or add --folds 5"):
        load_classifier(photos_run.path, str(planted_data), None)


def test_segmenters_and_regressions_are_refused(maps_run, values_run, photos):
    for run, folds in ((maps_run, None), (maps_run, 3), (values_run, None)):
        with pytest.raises(UserError, match="label errors need a classifier of one class per image"):
            load_classifier(run.path, str(photos), folds)
