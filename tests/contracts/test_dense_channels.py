"""Detectors and segmenters of four 16-bit channels, through every command."""

import json

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

import transxnet
from tests.helpers.channel_data import CHANNELS, write_band_boxes, write_band_maps
from tests.helpers.dense_data import DETECT, SEGMENT
from transxnet.analysis.explain import explain
from transxnet.checking.check import check
from transxnet.data.open_data import open_data
from transxnet.data.reading.channel_decoding import open_channels
from transxnet.deploy.export import export
from transxnet.deploy.verify_file import verify
from transxnet.evaluation.evaluate import evaluate
from transxnet.heads import RetinaNet, create_segmenter
from transxnet.prediction.predict import predict
from transxnet.runs.load import load_model
from transxnet.runs.task_configs import config_from_dict
from transxnet.training.train import train
from transxnet.utils.errors import UserError
from transxnet.web.page_model import PageModel

LEARNED = {**SEGMENT, "channels": CHANNELS, "epochs": 8, "lr": 1e-2, "min_ratio": 1, "max_ratio": 1}


@pytest.fixture(scope="module")
def band_maps(tmp_path_factory):
    return write_band_maps(tmp_path_factory.mktemp("data") / "maps", 10)


@pytest.fixture(scope="module")
def band_boxes(tmp_path_factory):
    return write_band_boxes(tmp_path_factory.mktemp("data") / "boxes", 4)


@pytest.fixture(scope="module")
def segmenter(band_maps, quiet, tmp_path_factory):
    return train(band_maps, out=tmp_path_factory.mktemp("runs") / "maps", console=quiet, **LEARNED)


@pytest.fixture(scope="module")
def detector(band_boxes, quiet, tmp_path_factory):
    """A detector that is trained on tiles, with raised scores, so that it detects objects everywhere."""
    options = {**DETECT, "channels": CHANNELS, "epochs": 1, "select": "last", "tile": 48, "ema_decay": 0}
    run = train(band_boxes / "coco", out=tmp_path_factory.mktemp("runs") / "boxes", console=quiet, **options)
    weights, bias = load_file(run.weights_file), f"{RetinaNet.class_layers[0]}.bias"
    weights[bias] += 5
    save_file(weights, run.weights_file)
    return run


def test_pixels_that_differ_in_a_low_byte_are_separated(segmenter):
    assert json.loads(segmenter.results_file.read_text())["miou"] > 0.8


def test_run_stores_the_statistics_of_the_channels(segmenter, detector):
    for run in (segmenter, detector):
        stored = json.loads(run.model_file.read_text())["model_args"]
        assert len(stored["mean"]) == len(stored["std"]) == CHANNELS
        assert 0x8000 < stored["mean"][-1] < 0x8000 + 255 and stored["std"][-1] > 64
        trained = load_model(run.path)
        assert trained.channels == CHANNELS and trained.backbone.conv1[0].weight.shape[1] == CHANNELS
        assert trained.backbone_preprocessing.mean == tuple(stored["mean"])
        assert any("4 channels, normalized by" in note for note in run.read_environment()["choices"])
        assert run.read_config().photometric is False


def test_report_shows_the_images(segmenter, detector):
    for run in (segmenter, detector):
        page = run.report_file.read_text()
        assert "data:image" in page and "can be read" not in page


def test_evaluation_reads_the_channels(segmenter, detector, band_maps, band_boxes, quiet):
    whole, tiled = (
        evaluate(segmenter.path, band_maps, split="train", workers=0, console=quiet, **options).metrics()["miou"]
        for options in ({}, {"tile": 48})
    )
    assert whole > 0.8 and tiled > 0.8
    assert evaluate(detector.path, band_boxes / "coco", workers=0, console=quiet).metrics()["ap"] >= 0


@pytest.mark.parametrize("layout", ["coco", "yolo", "voc"])
def test_boxes_are_read_for_images_of_channels(layout, band_boxes):
    source = open_data(str(band_boxes / layout), channels=CHANNELS)
    assert len(source.train) + len(source.val) == 4
    assert source.train.pixels(0).shape == (CHANNELS, 64, 64)
    sides = source.train.objects.boxes[:, 2:] - source.train.objects.boxes[:, :2]
    np.testing.assert_allclose(sides, 32, atol=1e-4)


def test_predictions_for_files_and_arrays(segmenter, detector, band_maps, band_boxes, tmp_path, quiet):
    file = band_maps / "images" / "0.tif"
    (stored,) = predict(segmenter.path, file, out=tmp_path / "maps", workers=0, console=quiet)
    assert stored.error is None and stored.result.image.size == (64, 64)
    model, pixels = transxnet.load(segmenter.path, device="cpu"), open_channels(file, CHANNELS)
    for form in (file, pixels, pixels.numpy()):
        assert np.array_equal(model.predict(form).label_map, stored.result.label_map)
    (found,) = predict(detector.path, band_boxes / "coco" / "1.npy", out=tmp_path / "boxes", workers=0, console=quiet)
    assert found.error is None and len(found.result)
    found.result.plot()


@pytest.mark.parametrize(("dynamic", "size"), [pytest.param(None, "64x96", marks=pytest.mark.long), ("none", "64x64")])
def test_exported_segmenter_predicts_as_the_run(dynamic, size, segmenter, band_maps, tmp_path, quiet):
    pytest.importorskip("onnxruntime")
    file = export(segmenter.path, out=tmp_path / "maps.onnx", dynamic=dynamic, img_size=size, console=quiet)
    metadata = transxnet.read_metadata(file)
    assert (metadata.channels, len(metadata.resize["fill"])) == (CHANNELS, CHANNELS)
    assert verify(file, console=quiet).comparison.relative < 1e-4
    image = band_maps / "images" / "1.tif"
    expected = transxnet.load(segmenter.path, device="cpu").predict(image).label_map
    assert (transxnet.load(file).predict(image).label_map == expected).mean() > 0.99


@pytest.mark.long
def test_exported_detector_takes_the_channels(detector, band_boxes, tmp_path, quiet):
    pytest.importorskip("onnxruntime")
    file = export(detector.path, out=tmp_path / "boxes.onnx", dynamic="none", img_size=64, console=quiet)
    assert transxnet.read_metadata(file).channels == CHANNELS
    assert len(transxnet.load(file).predict(band_boxes / "coco" / "1.npy", tile=64))
    with pytest.raises(UserError, match="--with-preprocessing is for RGB images"):
        export(detector.path, out=tmp_path / "other.onnx", with_preprocessing=True, console=quiet)


def test_grad_cam_explains_both(segmenter, detector, band_maps, band_boxes, quiet):
    pytest.importorskip("pytorch_grad_cam")
    for run, image in ((segmenter, band_maps / "images" / "0.tif"), (detector, band_boxes / "coco" / "1.npy")):
        (found,) = explain(run.path, image, out=None, console=quiet)
        assert found.image.shape == (64, 64, 3) and found.image.std() > 10


def test_check_reads_the_channels(band_maps, quiet):
    """Only the gray rendering of all channels differs; the noise of different images does not correlate."""
    result = check(band_maps, channels=CHANNELS, out=None, console=quiet)
    assert result.modes == {"4 channels": 10}
    assert not result.of("unreadable") and not len(result.of("near_duplicate") + result.of("near_leak"))


def test_page_refuses_the_models(segmenter, detector):
    for run in (segmenter, detector):
        with pytest.raises(UserError, match="reads 4 channels"):
            PageModel(load_model(run.path), "cpu")


@pytest.mark.parametrize("task", ["detect", "segment"])
def test_changes_of_color_are_refused(task, band_maps):
    with pytest.raises(UserError, match=r"photometric changes the colors of RGB images, got channels 4\. Remove"):
        config_from_dict({"data": str(band_maps), "task": task, "channels": 4, "photometric": True})


@pytest.mark.parametrize("std", [[1.0], [1.0, 0.0], [1.0, float("nan")], None])
def test_invalid_statistics_are_refused(std):
    with pytest.raises(ValueError, match="mean and std must"):
        create_segmenter("test_resnet", 2, mean=[0.0, 1.0], std=std)


def test_stem_of_rgb_weights_is_adapted(photos_run):
    weights = load_file(photos_run.weights_file)
    model = create_segmenter("test_resnet", 2, checkpoint=weights, mean=[0.0] * 4, std=[1.0] * 4)
    torch.testing.assert_close(model.backbone.body.conv1[0].weight[:, :3], weights["conv1.0.weight"] * 3 / 4)
