"""Exported files as models."""

from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from tests.helpers.prediction_data import DarkOrLight
from transxnet.data.tiling import Tiling
from transxnet.evaluation.exported_backends import ExportedBackend, WholeImageBackend
from transxnet.prediction.loaded_model import LoadedModel
from transxnet.utils.errors import UserError


@dataclass
class WholeImageFile:
    """Stands in for an opened file that takes one decoded image."""

    task: str
    outputs: dict[str, Tensor]
    given: list[Tensor] = field(default_factory=list)
    name = "model.onnx"
    class_names = ("dark", "light")
    preprocessing = None
    targets = DarkOrLight.targets
    metadata: Any = field(default_factory=lambda: SimpleNamespace(input="image", channels=None, resize={}, outputs=()))

    def predict_image(self, image: Tensor) -> dict[str, Tensor]:
        self.given.append(image)
        return self.outputs


def test_fingerprint_includes_the_weights_file_of_openvino(tmp_path):
    def fingerprints() -> dict[str, str]:
        names = ("model.onnx", "model.xml")
        return {name: LoadedModel(ExportedBackend(DarkOrLight(), tmp_path / name)).fingerprint for name in names}

    for name in ("model.onnx", "model.xml"):
        (tmp_path / name).write_bytes(b"graph")
    before = fingerprints()
    (tmp_path / "model.bin").write_bytes(b"weights")
    after = fingerprints()
    assert after["model.xml"] != before["model.xml"]
    assert after["model.onnx"] == before["model.onnx"]  # the file contains its weights


def test_exported_features_and_oblong_classifiers_are_refused(tmp_path):
    features = DarkOrLight()
    features.task = "features"
    with pytest.raises(UserError, match=r"returns feature maps, without predictions\. Accepted: a run folder"):
        ExportedBackend(features, tmp_path / "model.onnx")
    oblong = DarkOrLight()

    def refuse(height, width):
        raise ValueError("it takes 8x16.")

    oblong.check_size = refuse
    with pytest.raises(UserError, match=r"images are resized to 8x8 pixels, and it takes 8x16. Export the model"):
        ExportedBackend(oblong, tmp_path / "model.onnx")


def test_whole_image_classifier_gets_each_image_in_its_own_size():
    file = WholeImageFile("classify", {"probabilities": torch.tensor([[0.25, 0.75]])})
    model = LoadedModel(WholeImageBackend(file, "model.onnx"))
    images = [Image.new("RGB", size) for size in ((8, 6), (5, 9))]
    assert [each.label for each in model.predict(images)] == ["light", "light"]
    assert [tuple(image.shape) for image in file.given] == [(3, 6, 8), (3, 9, 5)]
    model.predict(images[0], tta=True)
    assert len(file.given) == 4


def test_whole_image_segmenter_returns_its_label_map(tmp_path):
    labels = torch.arange(6, dtype=torch.uint8).view(2, 3)
    backend = WholeImageBackend(WholeImageFile("segment", {"label_map": labels}), tmp_path / "model.onnx")
    np.testing.assert_array_equal(backend.segment(torch.zeros(3, 2, 3, dtype=torch.uint8)), labels)
    for change in (backend.with_tta, lambda: backend.with_tiling(Tiling(64, 0.25))):
        with pytest.raises(UserError, match=r"model.onnx returns label maps, which cannot be merged. Remove --t"):
            change()
