import hashlib

import pytest
import torch

from tests.helpers.prediction_data import DarkOrLight
from transxnet.prediction import image_classifier
from transxnet.prediction.image_classifier import exported_classifier, load_for_prediction, trained_classifier
from transxnet.runs.load import load_model
from transxnet.utils.errors import UserError


def test_weights_are_hashed_and_moved_only_when_needed(run, monkeypatch):
    asked = []
    monkeypatch.setattr(image_classifier, "hash_tensors", lambda model: asked.append("hash") or "")
    monkeypatch.setattr(image_classifier, "resolve_device", lambda: asked.append("device") or torch.device("cpu"))
    loaded = load_for_prediction(run)
    assert asked == []
    loaded.probabilities(torch.zeros(1, 3, 32, 32))
    loaded.probabilities(torch.zeros(1, 3, 32, 32))
    assert asked == ["device"]
    assert loaded.fingerprint == loaded.fingerprint
    assert asked == ["device", "hash"]


def test_weights_keep_their_gradients_after_a_prediction(run):
    """Moving them in inference mode would turn them into tensors that cannot receive gradients."""
    trained = load_model(run)
    images = torch.zeros(1, 3, 32, 32)
    trained_classifier(trained).probabilities(images)
    trained.model(images).sum().backward()
    assert all(parameter.grad is not None for parameter in trained.model.parameters())


def test_fingerprint_includes_the_weights_file_of_openvino(tmp_path):
    for name in ("model.onnx", "model.xml"):
        (tmp_path / name).write_bytes(b"graph")
    before = {
        name: exported_classifier(DarkOrLight(), tmp_path / name).fingerprint for name in ("model.onnx", "model.xml")
    }
    (tmp_path / "model.bin").write_bytes(b"weights")
    after = {name: exported_classifier(DarkOrLight(), tmp_path / name).fingerprint for name in before}
    assert after["model.xml"] != before["model.xml"]
    assert after["model.onnx"] == before["model.onnx"]  # the file contains its weights


def test_hash_of_weights_covers_names_types_and_values():
    layer = torch.nn.Linear(1, 1)
    layer.weight.data.fill_(2.0)
    layer.bias.data.fill_(0.0)
    expected = hashlib.sha256(b"weight (1, 1) torch.float32\0\0\0@bias (1,) torch.float32\0\0\0\0").hexdigest()
    assert image_classifier.hash_tensors(layer) == expected


def test_exported_file_of_another_task_or_shape_is_refused(tmp_path):
    detector = DarkOrLight()
    detector.task = "detect"
    with pytest.raises(
        UserError, match=r"was exported for task detect\. Accepted: a run folder, or an exported classifier"
    ):
        exported_classifier(detector, tmp_path / "model.onnx")
    oblong = DarkOrLight()

    def refuse(height, width):
        raise ValueError("it takes 8x16.")

    oblong.check_size = refuse
    with pytest.raises(UserError, match=r"images are resized to 8x8 pixels, and it takes 8x16. Export the model with"):
        exported_classifier(oblong, tmp_path / "model.onnx")


def test_file_option_with_an_exported_model_is_refused(tmp_path):
    (tmp_path / "model.onnx").write_bytes(b"graph")
    with pytest.raises(UserError, match=r"model\.onnx is an exported file, which contains its weights\. Remove --file"):
        load_for_prediction(tmp_path / "model.onnx", tmp_path / "weights.pth")
