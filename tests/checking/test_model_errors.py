"""The classifiers that find label errors."""

import numpy as np
import pytest

from transxnet import load
from transxnet.checking.all_images import AllImages
from transxnet.checking.image_scan import scan_images
from transxnet.checking.model_errors import describe_accuracy, is_run_of, load_classifier, model_outputs
from transxnet.data.open_data import open_data
from transxnet.metrics.classification import ClassificationEvaluation
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


def test_outputs_are_those_of_predict_and_embed(photos_run, photos):
    source, done = open_data(str(photos)), []
    images = AllImages({"train": source.train, "val": source.val})
    scan = scan_images(list(images.sets.values()), lambda count: None)
    outputs = model_outputs(load_model(photos_run.path), images, scan, "cpu", done.append)
    files = [part.path(i) for part in images.sets.values() for i in range(len(part))]
    model = load(photos_run.path, device="cpu")
    np.testing.assert_allclose(outputs.features, model.embed(files), atol=1e-5)
    np.testing.assert_allclose(
        outputs.probabilities, [result.probabilities for result in model.predict(files)], atol=1e-5
    )
    assert outputs.numbers.tolist() == list(range(len(images))) and done[-1] == len(images)


@pytest.mark.parametrize(
    ("predicted", "expected"),
    [
        ([0, 0, 0, 1], "label errors: the model agrees with 100.0% of 4 labels; the most frequent class is 75.0%"),
        ([0, 0, 0, 0], "label errors: the model agrees with 75.0% of 4 labels, no more than the most frequent class"),
        ([], "label errors: none can be found, the run has no validation or test image"),
    ],
)  # fmt: skip
def test_accuracy_is_compared_with_the_most_frequent_class(predicted, expected):
    halves = np.split(np.eye(2)[np.array(predicted, int)], 2)
    labels = np.split(np.array([0, 0, 0, 1][: len(predicted)], int), 2)
    evaluations = [
        ClassificationEvaluation(["a", "b"], ["x"] * len(own), own, half)
        for own, half in zip(labels, halves, strict=True)
    ]
    assert describe_accuracy(evaluations).startswith(expected)
