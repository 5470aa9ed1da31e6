"""Opening models for inference."""

import pytest

from tests.helpers.prediction_data import write_classifier_run
from transxnet.evaluation.inference_backends import TrainedBackend
from transxnet.evaluation.open_backend import open_backend, with_options
from transxnet.utils.errors import UserError


def test_a_run_is_opened_and_changed_by_options(tmp_path):
    run = write_classifier_run(tmp_path / "small", "test_resnet")
    backend = open_backend(run)
    assert isinstance(backend, TrainedBackend) and not backend.tta
    assert with_options(backend, None, 0.25, True).tta
    with pytest.raises(UserError, match="tile is for detectors and segmenters"):
        with_options(backend, 64, 0.25, False)


def test_exported_files_run_on_the_cpu_and_contain_their_weights(tmp_path):
    (tmp_path / "net.onnx").write_bytes(b"")
    with pytest.raises(UserError, match=r"contains its weights\. Remove --file"):
        open_backend(tmp_path / "net.onnx", "weights.pth")
    with pytest.raises(UserError, match="runs on the CPU, got device cuda"):
        open_backend(tmp_path / "net.onnx", device="cuda")
