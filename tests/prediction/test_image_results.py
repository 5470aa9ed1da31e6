import pickle
import sys

import numpy as np
import pytest
from PIL import Image

from transxnet.data.reading.masks import encode_mask
from transxnet.metrics.detection import Detections
from transxnet.prediction.image_results import Classification, DetectedObjects, Segmentation
from transxnet.reports.drawing import background_class, draw_detections, draw_label_map, enlarge
from transxnet.utils.errors import UserError

IMAGE = Image.effect_noise((60, 40), 90).convert("RGB")
NAMES = ["sky", "sea", "<b>sand"]


@pytest.fixture
def classes() -> Classification:
    return Classification(NAMES, IMAGE, np.array([0.25, 0.625, 0.125], np.float32))


@pytest.fixture
def objects() -> DetectedObjects:
    mask = np.zeros((40, 60), np.uint8)
    mask[10:20, 5:30] = True
    boxes = np.array([[5, 10, 30, 20], [40, 2, 50, 30]], np.float32)
    found = Detections(boxes, np.array([2, 1]), np.array([0.75, 0.25], np.float32), [encode_mask(mask)] * 2)
    return DetectedObjects(NAMES, IMAGE, found)


@pytest.fixture
def regions() -> Segmentation:
    labels = np.zeros((40, 60), np.uint8)
    labels[:30] = 2
    return Segmentation(NAMES, IMAGE, labels)


def test_classification_sorts_its_classes(classes):
    assert (classes.label, classes.score) == ("sea", 0.625)
    assert classes.top(2) == [("sea", 0.625), ("sky", 0.25)]
    assert [name for name, _ in classes.top()] == ["sea", "sky", "<b>sand"]
    assert repr(classes) == "Classification('sea', score 0.6250, 3 classes)"
    assert classes.to_pandas().to_dict("list") == {"label": ["sea", "sky", "<b>sand"], "score": [0.625, 0.25, 0.125]}


def test_detected_objects_have_names_boxes_and_masks(objects):
    assert len(objects) == 2
    assert objects.labels == ["sea", "sky"]
    assert objects.scores.tolist() == [0.75, 0.25]
    assert objects.boxes.dtype == np.float32
    assert objects.masks.shape == (2, 40, 60)
    assert objects.masks[0].sum() == 250
    assert objects.filter().labels == ["sea"]
    assert repr(objects) == "DetectedObjects(2 objects, best 'sea', score 0.7500)"
    frame = objects.to_pandas()
    assert list(frame.columns) == ["label", "score", "x1", "y1", "x2", "y2"]
    assert frame.loc[1].tolist() == ["sky", 0.25, 40, 2, 50, 30]
    none = objects.filter(0.9)
    assert (len(none), none.labels, none.masks.shape) == (0, [], (0, 40, 60))
    assert repr(none) == "DetectedObjects(0 objects)"
    assert list(none.to_pandas().columns) == list(frame.columns)


def test_segmentation_has_the_share_of_each_class(regions):
    assert regions.shares == {"<b>sand": 0.75, "sky": 0.25}
    assert repr(regions) == "Segmentation(60x40 pixels, <b>sand 75.0%, sky 25.0%)"
    assert regions.to_pandas().to_dict("list") == {"label": ["<b>sand", "sky"], "share": [0.75, 0.25]}


def test_plots_are_those_of_predict(classes, objects, regions):
    drawn = draw_detections(*enlarge(IMAGE, objects.detections.filter(0.5)), NAMES)
    assert np.array_equal(objects.plot(), drawn)
    assert not np.array_equal(objects.plot(0.1), drawn)
    untinted = background_class(regions.label_map, NAMES)
    assert np.array_equal(regions.plot(), draw_label_map(IMAGE, regions.label_map, NAMES, untinted=untinted))
    assert regions.plot(legend=False).size == IMAGE.size
    assert np.array_equal(np.asarray(classes.plot())[:40, :60], IMAGE)


def test_notebooks_show_an_escaped_table(classes, objects, regions):
    for result in (classes, objects.filter(), regions):
        html = result._repr_html_()
        assert html.startswith("<table>")
        assert "<b>" not in html
    assert "&lt;b&gt;sand" in classes._repr_html_()
    assert ">0.625<" in classes._repr_html_()


def test_results_can_be_pickled(classes):
    assert pickle.loads(pickle.dumps(classes)).top() == classes.top()


def test_image_of_a_file_is_read_when_needed(tmp_path, classes):
    result = Classification(NAMES, str(tmp_path / "a.png"), classes.probabilities)
    with pytest.raises(UserError, match=r"cannot read .*a\.png"):
        result.plot()
    IMAGE.save(tmp_path / "a.png")
    assert np.array_equal(result.image, IMAGE)


def test_data_frames_name_the_missing_package(classes, monkeypatch):
    monkeypatch.setitem(sys.modules, "pandas", None)
    monkeypatch.setattr("transxnet.utils.optional_packages.find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"to_pandas\(\) needs the package pandas\. Install it .* pip install pandas"):
        classes.to_pandas()
