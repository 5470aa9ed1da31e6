"""The section of OpenVINO models for Intel's Model API."""

import pytest

from tests.helpers.exports import described
from transxnet.deploy.model_api import model_info


def test_classifier_has_names_and_normalization_in_levels():
    info = model_info(described(class_names=["polar bear", "cat"], mean=(0.485, 0.5, 0.4), std=(0.2, 0.5, 1.0)))
    assert info == {
        "model_type": "Classification",
        "labels": "polar_bear cat",
        "resize_type": "crop",
        "reverse_input_channels": "True",
        "mean_values": "123.675 127.5 102",
        "scale_values": "51 127.5 255",
    }


@pytest.mark.parametrize(
    "changes",
    [
        {"input": "uint8"},
        {"task": "features"},
        {"targets": {"kind": "multilabel", "thresholds": [0.5, 0.5]}},
    ],
    ids=["uint8", "features", "several labels"],
)
def test_other_models_have_no_section(changes):
    assert model_info(described(**changes)) == {}
