import hashlib
from pathlib import Path

import pytest
import torch
from PIL import Image

from tests.helpers.prediction_data import write_classifier_run
from transxnet.evaluation import inference_backends
from transxnet.evaluation.inference_backends import TrainedBackend
from transxnet.prediction.loaded_model import open_model
from transxnet.runs.load import load_model

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    return write_classifier_run(tmp_path_factory.mktemp("runs") / "small", "test_resnet")


def test_weights_are_hashed_and_moved_only_when_needed(run, monkeypatch):
    asked = []
    move = inference_backends.prepare_for_inference
    monkeypatch.setattr(inference_backends, "hash_tensors", lambda model: asked.append("hash") or "")
    monkeypatch.setattr(
        inference_backends, "prepare_for_inference", lambda *args: asked.append("device") or move(*args)
    )
    loaded = open_model(run)
    assert asked == []
    loaded.backend.classify(torch.zeros(1, 3, 32, 32))
    loaded.backend.classify(torch.zeros(1, 3, 32, 32))
    assert asked == ["device"]
    assert loaded.fingerprint == loaded.fingerprint
    assert asked == ["device", "hash"]


def test_weights_keep_their_gradients_after_a_prediction(run):
    """Moving them in inference mode would turn them into tensors that cannot receive gradients."""
    trained = load_model(run)
    images = torch.zeros(1, 3, 32, 32)
    TrainedBackend(trained, CPU).classify(images)
    trained.model(images).sum().backward()
    assert all(parameter.grad is not None for parameter in trained.model.parameters())


@torch.no_grad()
def test_features_are_the_input_of_the_classifier(run):
    trained = load_model(run)
    images = torch.rand(2, 3, 32, 32)
    logits, features = TrainedBackend(trained, CPU).classify(images, features=True)
    torch.testing.assert_close(trained.model.get_classifier()(features), logits, rtol=0, atol=1e-5)
    torch.testing.assert_close(trained.model(images), logits, rtol=0, atol=1e-5)


@pytest.mark.parametrize("kind", ["finding_run", "maps_run"])
def test_dense_transform_is_the_input_of_the_network(kind, request):
    backend = TrainedBackend(load_model(request.getfixturevalue(kind).path), CPU)
    image = Image.effect_noise((70, 50), 90).convert("RGB")
    tensor = backend.transform(image)
    assert tensor.dtype == torch.float32
    assert 0 <= tensor.min() < tensor.max() <= 1
    with torch.no_grad():
        if kind == "finding_run":
            (output,) = backend.trained.model([tensor])
            found = backend.detect(backend.prepare(image))
            assert len(found.scores) > 10
            assert output["scores"].tolist() == pytest.approx(found.scores.tolist(), abs=1e-6)
        else:
            logits = backend.trained.model(tensor[None])
            resized = torch.nn.functional.interpolate(logits, (50, 70), mode="bilinear", align_corners=False)
            assert (resized.argmax(1)[0].numpy() == backend.segment(backend.prepare(image))).all()


def test_hash_of_weights_covers_names_types_and_values():
    layer = torch.nn.Linear(1, 1)
    layer.weight.data.fill_(2.0)
    layer.bias.data.fill_(0.0)
    expected = hashlib.sha256(b"weight (1, 1) torch.float32\0\0\0@bias (1,) torch.float32\0\0\0\0").hexdigest()
    assert inference_backends.hash_tensors(layer) == expected
