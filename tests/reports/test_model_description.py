import pytest

from transxnet.reports.model_description import MAX_NAMES, describe_outputs


@pytest.mark.parametrize(
    ("task", "kind", "names", "expected"),
    [
        ("classify", "classes", ["ant", "bee"], "Classifier of 2 classes: ant, bee"),
        ("classify", "multilabel", ["red"], "Multi-label classifier of 1 label: red"),
        ("classify", "regression", ["age"], "Regression of age"),
        ("detect", "classes", ["cat"], "Detector of 1 class: cat"),
        ("segment", "classes", ["x"] * (MAX_NAMES + 1), f"Segmenter of {MAX_NAMES + 1} classes"),
    ],
)
def test_outputs_are_described(task, kind, names, expected):
    assert describe_outputs(task, kind, names) == expected
