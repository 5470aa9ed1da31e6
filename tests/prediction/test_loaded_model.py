from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import transxnet
from tests.helpers.prediction_data import CLASSES, DarkOrLight
from transxnet.evaluation import open_backend
from transxnet.evaluation.exported_backends import ExportedBackend
from transxnet.evaluation.inference import classifier_outputs
from transxnet.prediction.image_results import Classification, DetectedObjects, Segmentation
from transxnet.prediction.loaded_model import LoadedModel, open_model
from transxnet.runs.load import load_model
from transxnet.utils.errors import UserError


@pytest.fixture(scope="module")
def model(run) -> LoadedModel:
    return transxnet.load(run, device="cpu")


@pytest.fixture(scope="module")
def paths(images) -> list[Path]:
    return sorted(images.glob("*.png"))[:7]


def test_classification_equals_the_networks_softmax(model, run, paths):
    trained = load_model(run)
    batch = torch.stack([model.transform(Image.open(path).convert("RGB")) for path in paths])
    expected = classifier_outputs(trained.model, batch, torch.device("cpu"))[0].softmax(1).numpy()
    results = model.predict(paths, batch_size=3)
    assert all(isinstance(result, Classification) for result in results)
    np.testing.assert_allclose([result.probabilities for result in results], expected, atol=1e-6)
    assert [result.label for result in results] == [CLASSES[i] for i in expected.argmax(1)]
    assert len({result.label for result in results}) > 1
    assert [result.source for result in results] == list(map(str, paths))


def test_one_image_list_and_generator(model, paths):
    one = model.predict(paths[0])
    assert isinstance(one, Classification)
    opened = [Image.open(path) for path in paths]
    arrays = [np.asarray(image.convert("RGB")) for image in opened]
    tensors = torch.from_numpy(np.stack(arrays)).permute(0, 3, 1, 2)
    for several in (list(map(str, paths)), tuple(opened), np.stack(arrays), tensors, tensors / 255):
        results = model.predict(several)
        assert isinstance(results, list)
        np.testing.assert_allclose(results[0].probabilities, one.probabilities, atol=1e-6)
        assert len(results) == len(paths)
    assert model.predict([]) == []


def test_generator_is_read_batch_by_batch(model, paths):
    taken = []
    results = model.predict((taken.append(path) or path for path in paths), batch_size=2)
    assert taken == []
    next(results)
    assert taken == paths[:2]
    assert len(list(results)) == len(paths) - 1


def test_embeddings_equal_those_of_predict(model, run, paths, tmp_path, quiet):
    pq = pytest.importorskip("pyarrow.parquet")
    embedded = model.embed(paths, batch_size=3)
    assert (embedded.dtype, embedded.shape[0]) == (np.float32, len(paths))
    out = transxnet.predict(run, paths, out=tmp_path / "o.parquet", embed=True, workers=0, console=quiet)
    stored = np.array(pq.read_table(out.files[0])["embedding"].to_pylist())
    np.testing.assert_allclose(embedded, stored, atol=1e-5)
    assert model.embed(paths[0]).shape == (1, embedded.shape[1])
    with pytest.raises(UserError, match="no images given"):
        model.embed([])


def test_detector_and_segmenter_return_typed_results(finding_run, masks_run, maps_run):
    image = Image.effect_noise((70, 50), 90)
    boxes, masks = (transxnet.load(run.path).predict(image) for run in (finding_run, masks_run))
    assert isinstance(boxes, DetectedObjects)
    assert len(boxes) > 10
    assert boxes.boxes.shape == (len(boxes), 4)
    assert boxes.masks is None
    assert set(boxes.labels) <= {"red", "blue"}
    assert masks.masks.shape == (len(masks), 50, 70)
    model = transxnet.load(maps_run.path)
    (regions,) = model.predict([image])
    assert isinstance(regions, Segmentation)
    assert regions.label_map.shape == (50, 70)
    assert sum(regions.shares.values()) == pytest.approx(1)
    with pytest.raises(UserError, match="is not a classifier, and only classifiers return features"):
        model.embed(image)


def test_tiles_give_results_at_the_size_of_the_image(finding_run, masks_run, maps_run):
    image = Image.effect_noise((150, 90), 90)
    boxes, masks, regions = (transxnet.load(run.path) for run in (finding_run, masks_run, maps_run))
    found = boxes.predict(image, tile=64)
    assert len(found) > len(boxes.predict(image))  # a hundred in each tile, instead of in the image
    assert found.boxes[:, 2].max() > 100
    assert masks.predict(image, tile=64).masks.shape[1:] == (90, 150)
    assert regions.predict(image, tile=64, overlap=0.5).label_map.shape == (90, 150)
    assert regions.backend.tiling is None


def test_image_within_a_tile_is_predicted_as_without_tiles(finding_run, maps_run):
    image = Image.effect_noise((70, 50), 90)
    boxes, regions = (transxnet.load(run.path) for run in (finding_run, maps_run))
    assert np.array_equal(boxes.predict(image, tile=70).boxes, boxes.predict(image).boxes)
    assert np.array_equal(regions.predict(image, tile=70).label_map, regions.predict(image).label_map)


def test_tiles_of_a_classifier_are_refused(model, paths):
    with pytest.raises(UserError, match=r"tile is for detectors and segmenters, and .* is not one\. Remove --tile"):
        model.predict(paths[0], tile=64)


def test_attributes_describe_the_model(model, run):
    assert (model.task, model.class_names, model.name) == ("classify", CLASSES, str(run))
    assert isinstance(model.module, torch.nn.Module)
    assert not model.module.training
    assert model.device == torch.device("cpu")
    assert repr(model) == (f"LoadedModel({str(run)!r}, task='classify', device='cpu', 3 classes: 'ant', 'bee', 'cat')")


def test_exported_file_has_no_module_or_features(tmp_path, monkeypatch):
    file = tmp_path / "model.onnx"
    file.write_bytes(b"graph")
    monkeypatch.setattr(open_backend, "load_exported", lambda path: DarkOrLight())
    model = transxnet.load(file)
    assert isinstance(model.backend, ExportedBackend)
    gray = [np.full((9, 9), level, np.uint8) for level in (0, 255)]
    assert [result.label for result in model.predict(gray)] == ["dark", "light"]
    assert not hasattr(model, "module")
    with pytest.raises(UserError, match=r"is an exported file, which contains no nn\.Module\. Load the run"):
        _ = model.module
    with pytest.raises(UserError, match="is an exported file and returns no features"):
        model.embed(gray)
    with pytest.raises(UserError, match=r"is an exported file and runs on the CPU, got device cuda\. Remove"):
        transxnet.load(file, device="cuda")


def test_file_option_with_an_exported_model_is_refused(tmp_path):
    (tmp_path / "model.onnx").write_bytes(b"graph")
    with pytest.raises(UserError, match=r"model\.onnx is an exported file, which contains its weights\. Remove"):
        open_model(tmp_path / "model.onnx", tmp_path / "weights.pth")


def test_unreadable_image_and_wrong_options_are_user_errors(model, images, run):
    with pytest.raises(UserError, match=r"cannot read .*broken\.png: .*Pass the path of an image file"):
        model.predict(images / "deeper" / "broken.png")
    with pytest.raises(UserError, match="batch_size must be an integer of at least 1, got 0"):
        model.predict([], batch_size=0)
    with pytest.raises(UserError, match="device must be 'auto' or 'cpu' or 'cuda' or 'mps', got 'gpu'"):
        transxnet.load(run, device="gpu")
