"""Exported files against their PyTorch models."""

import json
from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from PIL import Image

import transxnet
from tests.helpers.classifier_runs import preprocessing
from tests.helpers.exports import CLASSES, SUFFIX, assert_near, random_images
from transxnet import UserError, load_exported
from transxnet.deploy.export import export
from transxnet.deploy.verify import TOLERANCE
from transxnet.runs.load import load_model


@pytest.fixture(scope="module")
def exported(ours, quiet, tmp_path_factory) -> Callable[[str], Path]:
    """Export the run to a format once for all tests of this file."""

    @cache
    def once(format: str) -> Path:
        return export(
            ours.path, format=format, out=tmp_path_factory.mktemp("ours") / f"net{SUFFIX[format]}", console=quiet
        )

    return once


@pytest.mark.parametrize("format", ["onnx", pytest.param("openvino", marks=pytest.mark.long)])
@torch.no_grad()
def test_any_batch_size_gives_the_outputs_of_the_model(ours, exported, format):
    model, compiled = load_model(ours.path).model, load_exported(exported(format))
    for count in (1, 2, 7):
        x = random_images(count, 64, 64)
        assert_near(compiled(x), model(x))
    each = torch.cat([compiled(x[i : i + 1]) for i in range(len(x))])
    assert_near(compiled(x), each)
    assert not torch.allclose(each[0], each[1], atol=1e-3 * each.abs().max().item())


@pytest.mark.long
@torch.no_grad()
def test_dynamic_height_and_width_in_steps_of_32(ours, tmp_path, console):
    file = export(ours.path, dynamic="batch,height,width", out=tmp_path / "net.onnx", console=console)
    model, exported = load_model(ours.path).model, load_exported(file)
    for size in ((64, 64), (32, 96), (128, 160)):
        x = random_images(2, *size)
        assert_near(exported(x), model(x))
    with pytest.raises(ValueError, match="height that is a multiple of 32, got 65"):
        exported(random_images(1, 65, 64))


@torch.no_grad()
def test_fixed_batch_is_padded_and_uint8_is_normalized(theirs, tmp_path, console):
    options = dict(dynamic="none", batch_size=2, img_size=96, with_preprocessing=True, console=console)
    file = export(theirs.path, out=tmp_path / "net.onnx", **options)
    levels = np.random.default_rng(0).integers(0, 256, (2, 96, 96, 3), dtype=np.uint8)
    (logits,) = onnxruntime.InferenceSession(str(file)).run(["logits"], {"images": levels})
    prepared = preprocessing(64)
    x = (levels / 255 - prepared["mean"]) / prepared["std"]
    x = torch.from_numpy(x).permute(0, 3, 1, 2).float()
    model, exported = load_model(theirs.path).model, load_exported(file)
    assert_near(torch.from_numpy(logits), model(x))
    assert_near(exported(torch.cat([x, x[:1]])), model(torch.cat([x, x[:1]])))
    image = Image.fromarray(levels[0])
    assert exported.preprocessing.transform()(image).shape == (3, 96, 96)


@pytest.mark.long
@pytest.mark.parametrize("format", ["onnx", "pt2"])
@torch.no_grad()
def test_segmenter_takes_images_of_any_size(segmenter, tmp_path, console, format):
    file = export(segmenter.path, format=format, out=tmp_path / f"maps{SUFFIX[format]}", console=console)
    model, exported = load_model(segmenter.path).model, load_exported(file)
    for size in ((64, 96), (96, 64)):
        x = torch.rand(1, 3, *size)
        assert_near(exported(x), model(x))
    assert exported.metadata.resize == {"scale": [128, 64], "multiple": 32}


@pytest.mark.parametrize(
    ("format", "dynamic"),
    [
        ("onnx", "none"),
        pytest.param("onnx", "height,width", marks=pytest.mark.long),
        pytest.param("pt2", "none", marks=pytest.mark.long),
        pytest.param("pt2", "height,width", marks=pytest.mark.long),
    ],
)
@torch.no_grad()
def test_detector_gives_boxes_after_nms(detector, tmp_path, console, format, dynamic):
    options = dict(format=format, img_size="64x96", dynamic=dynamic, console=console)
    exported = load_exported(export(detector.path, out=tmp_path / f"boxes{SUFFIX[format]}", **options))
    model = load_model(detector.path).model
    image = torch.rand(3, 64, 96)
    (truth,) = model([image])
    found = exported.detect(image)
    assert len(truth["scores"]) > 10
    assert_near(found["scores"], truth["scores"])
    assert_near(found["boxes"], truth["boxes"])
    assert found["labels"].tolist() == truth["labels"].tolist()


@pytest.mark.long
@pytest.mark.parametrize(("format", "dtype"), [("onnx", "float16"), ("openvino", "float16"), ("openvino", "bfloat16")])
@torch.no_grad()
def test_half_precision_stays_within_tolerance(theirs, tmp_path, console, format, dtype):
    file = export(theirs.path, format=format, dtype=dtype, out=tmp_path / f"net{SUFFIX[format]}", console=console)
    x = random_images(2, 64, 64)
    logits = load_exported(file)(x)
    assert logits.dtype == torch.float32
    assert_near(logits, load_model(theirs.path).model(x), TOLERANCE[dtype])


def test_predict_takes_exported_classifiers(ours, exported, photos, tmp_path, console):
    file = exported("onnx")
    tables = []
    for name, model in (("run", ours.path), ("file", file)):
        out = transxnet.predict(model, photos, out=tmp_path / name, workers=0, console=console).folder
        tables.append([json.loads(line) for line in (out / "predictions.jsonl").read_text().splitlines()])
    for by_run, by_file in zip(*tables, strict=True):
        shares = [{top["class"]: top["probability"] for top in line["top"]} for line in (by_run, by_file)]
        assert by_run["path"] == by_file["path"]
        assert shares[0] == pytest.approx(shares[1], abs=1e-5)
    with pytest.raises(UserError, match="contains its weights"):
        transxnet.predict(file, photos, out=tmp_path / "no", file="weights.pth", console=console)


@pytest.mark.long
@pytest.mark.parametrize(
    ("options", "agreement"),
    [({}, 1.0), ({"dynamic": "none", "img_size": "64x96"}, 0.9)],
)
def test_exported_segmenter_predicts_images_of_any_size(segmenter, photos, tmp_path, console, options, agreement):
    """A fixed size changes the padding and, for other aspect ratios, the scale."""
    file = export(segmenter.path, out=tmp_path / "maps.onnx", console=console, **options)
    model, exported = transxnet.load(segmenter.path), transxnet.load(file)
    for size in ((90, 60), (60, 90), (150, 100)):
        image = Image.open(photos / CLASSES[0] / "0.png").convert("RGB").resize(size)
        expected, found = model.predict(image).label_map, exported.predict(image).label_map
        assert found.shape == expected.shape == size[::-1]
        assert (found == expected).mean() >= agreement - 1e-3
        assert exported.transform(image).shape[1] % 32 == exported.transform(image).shape[2] % 32 == 0


@pytest.mark.long
def test_exported_detector_predicts_like_its_run(detector, photos, tmp_path, console):
    file = export(detector.path, out=tmp_path / "boxes.onnx", console=console)
    image = Image.open(photos / CLASSES[1] / "1.png").resize((96, 64))
    expected, found = (transxnet.load(path).predict(image) for path in (detector.path, file))
    assert len(found) == len(expected) > 10
    assert found.labels == expected.labels
    np.testing.assert_allclose(found.scores, expected.scores, atol=1e-4)
    np.testing.assert_allclose(found.boxes, expected.boxes, atol=1e-2)
    assert found.masks is None
    out = transxnet.predict(file, photos, out=tmp_path / "out", workers=0, console=console)
    assert [each.error for each in out] == [None] * 9


@pytest.mark.parametrize(
    ("format", "options"),
    [
        pytest.param("onnx", {}, marks=pytest.mark.long),
        pytest.param("onnx", {"dynamic": "none", "img_size": "64x96"}, marks=pytest.mark.long),
        pytest.param("openvino", {}, marks=pytest.mark.long),
        pytest.param("pt2", {"dynamic": "none", "img_size": "64x96"}, marks=pytest.mark.long),
    ],
    ids=str,
)
def test_exported_mask_rcnn_predicts_like_its_run(mask_detector, photos, tmp_path, console, format, options):
    out = tmp_path / f"masks{SUFFIX[format]}"
    file = export(mask_detector.path, format=format, out=out, console=console, **options)
    image = Image.open(photos / CLASSES[1] / "1.png").resize((96, 64))
    expected, found = (transxnet.load(path).predict(image) for path in (mask_detector.path, file))
    assert len(found) == len(expected) > 10
    assert found.labels == expected.labels
    np.testing.assert_allclose(found.scores, expected.scores, atol=1e-4)
    np.testing.assert_allclose(found.boxes, expected.boxes, atol=1e-2)
    assert found.masks.shape == (len(found), 64, 96)
    assert (found.masks == expected.masks).mean() > 0.999


@pytest.mark.parametrize(("size", "dynamic"), [("64x96", "batch"), ("96x64", "none")])
def test_predict_refuses_classifiers_of_other_than_squares(theirs, photos, tmp_path, console, size, dynamic):
    file = export(theirs.path, img_size=size, dynamic=dynamic, out=tmp_path / "wide.onnx", console=console)
    axis = "width" if size == "64x96" else "height"
    message = rf"resized to 64x64 pixels, and .*wide\.onnx requires images of {axis} 96, got 64\. .* square --img-size"
    with pytest.raises(UserError, match=message):
        transxnet.predict(file, photos, out=tmp_path / "no", workers=0, console=console)
