"""Published detectors and segmenters are used through their backbone's name and a file."""

import numpy as np
import pytest
import torch
from PIL import Image

from tests.helpers import published
from transxnet.data.formats.class_names import COCO_CLASSES
from transxnet.evaluation.evaluate import evaluate
from transxnet.evaluation.inference_backends import TrainedBackend
from transxnet.heads import MaskRCNN, RetinaNet, SemanticFPN, create_detector, create_segmenter
from transxnet.prediction.loaded_model import LoadedModel
from transxnet.prediction.predict import predict
from transxnet.runs.load import load_model
from transxnet.runs.trained_models import TrainedDetector, TrainedSegmenter
from transxnet.utils.errors import UserError


@pytest.fixture(scope="module", params=published.KINDS)
def kind(request) -> str:
    return request.param


@pytest.fixture(scope="module")
def file(kind, tmp_path_factory):
    """A file in the published layout with reproducible random weights."""
    path = tmp_path_factory.mktemp("published") / f"{kind}_transxnet_t.pth"
    torch.save({"meta": {}, "state_dict": published.filled(kind, "t")}, path)
    return path


def test_a_published_model_is_loaded_by_its_backbone_s_name(kind, file):
    trained = load_model("transxnet_t", file)
    assert trained.run is None
    assert trained.name == "transxnet_t"
    assert not trained.model.training
    if kind == "sfpn":
        assert isinstance(trained, TrainedSegmenter)
        assert isinstance(trained.model, SemanticFPN)
        assert trained.scale == (2048, 512)
        assert trained.resize.as_published
        assert trained.class_names == [str(i) for i in range(150)]
        reference = create_segmenter("transxnet_t", 150, checkpoint=file)
    else:
        assert isinstance(trained, TrainedDetector)
        assert isinstance(trained.model, MaskRCNN if kind == "maskrcnn" else RetinaNet)
        assert trained.masks == (kind == "maskrcnn")
        assert trained.class_names == list(COCO_CLASSES)
        assert (trained.model.transform.min_size, trained.model.transform.max_size) == ((800,), 1333)
        assert trained.model.transform.opencv_resize
        reference = create_detector(kind, "transxnet_t", 80, checkpoint=file)
        assert not reference.transform.opencv_resize
    mine, theirs = trained.model.state_dict(), reference.state_dict()
    assert set(mine) == set(theirs)
    assert all(torch.equal(mine[name], theirs[name]) for name in mine)


def test_a_detector_of_other_classes_has_no_names_for_them(kind, tmp_path):
    path = tmp_path / "seven.pth"
    torch.save(published.filled(kind, "t", num_classes=7), path)
    if kind == "sfpn":  # class names are numbers
        assert load_model("transxnet_t", path).class_names == [str(i) for i in range(7)]
        return
    with pytest.raises(
        UserError, match=r"seven.pth is a detector with unnamed classes. Accepted: COCO's 80.*--checkpoint"
    ):
        load_model("transxnet_t", path)


def test_file_of_another_variant_is_an_error(file):
    with pytest.raises(UserError, match=r"does not match this"):
        load_model("transxnet_s", file)


@pytest.mark.parametrize("kind", ["sfpn"], indirect=True)  # detectors resize to 800 pixels, which takes long
def test_a_published_segmenter_predicts_and_needs_data_for_eval(file, tmp_path):
    Image.effect_noise((96, 24), 90).convert("RGB").save(tmp_path / "a.png")
    trained = load_model("transxnet_t", file)
    object.__setattr__(trained, "scale", (128, 32))
    answer = LoadedModel(TrainedBackend(trained, torch.device("cpu"))).predict(tmp_path / "a.png")
    assert answer.label_map.shape == (24, 96)
    assert answer.label_map.max() < 150
    assert answer.label_map.dtype == np.uint8
    with pytest.raises(UserError, match=r"name the data to evaluate transxnet_t on"):
        evaluate("transxnet_t", file=file)
    with pytest.raises(UserError, match=r"no images found|does not exist"):
        predict("transxnet_t", tmp_path / "nothing", file=file, out=tmp_path / "out")
