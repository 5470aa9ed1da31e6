"""How the page's worker prepares images and reads outputs, compared with this package; in Node.js, without a model."""

import json
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from tests.helpers.exports import described
from transxnet.data.loading.preprocessing import Preprocessing
from transxnet.deploy.exported_model import ExportedModel, fit_for_detector, fit_for_segmenter
from transxnet.deploy.format_web import check_images

WORKER = Path(__file__).parents[2] / "src" / "transxnet" / "templates" / "model_worker.js"
SIZES = [(90, 70), (300, 700), (33, 50), (1, 33), (640, 37), (224, 224), (1000, 30)]
"""Width and height. The last is so long that only its middle is classified."""

DETECT = dict(min_size=64, max_size=128, multiple=32, fill=[0.4, 0.5, 0.6])
SEGMENT = dict(scale=[128, 64], multiple=32)
ANY_SIZE = ("height", "width")

HARNESS = """
const {readFileSync} = await import("node:fs");
const given = JSON.parse(readFileSync(process.argv[2]));
const images = given.images?.map(image => ({...image, data: Uint8ClampedArray.from(image.data)}));
settings = given.settings;
console.log(JSON.stringify(await (async () => %s)(), (k, v) => (ArrayBuffer.isView(v) ? Array.from(v) : v)));
"""


@pytest.fixture
def run_worker(tmp_path):
    """A function that evaluates an expression with the worker's functions."""
    if shutil.which("node") is None:
        pytest.skip("Node.js is not installed")

    def run(expression: str, **given):
        script = WORKER.read_text().replace("onmessage =", "globalThis.onmessage =") + HARNESS % expression
        (tmp_path / "worker.mjs").write_text(script)
        (tmp_path / "given.json").write_text(json.dumps(given))
        words = ["node", str(tmp_path / "worker.mjs"), str(tmp_path / "given.json")]
        done = subprocess.run(words, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    return run


def noise(size: tuple[int, int]) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)


def rgba(pixels: np.ndarray) -> dict:
    height, width = pixels.shape[:2]
    data = np.dstack([pixels, np.full((height, width), 255, np.uint8)])
    return dict(width=width, height=height, data=data.ravel().tolist())


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
def test_classifier_input_is_pillows_bit_for_bit(run_worker, interpolation):
    resize = dict(img_size=64, crop_pct=0.9, interpolation=interpolation)
    settings = dict(resize=resize, mean=[0, 0, 0], std=[1, 1, 1])
    transform = Preprocessing(**resize, mean=(0.0,) * 3, std=(1.0,) * 3).transform()
    expression = "images.map(image => classifierInput(image).planes)"
    inputs = run_worker(expression, images=[rgba(noise(size)) for size in SIZES], settings=settings)
    for size, planes in zip(SIZES, inputs, strict=True):
        truth = transform(Image.fromarray(noise(size)))
        np.testing.assert_array_equal(np.float32(planes).reshape(3, 64, 64), truth, str(size))


@pytest.mark.parametrize("dynamic", [ANY_SIZE, ("height",), ()])
@pytest.mark.parametrize("task", ["detect", "segment"])
def test_dense_input_is_that_of_predict(run_worker, dynamic, task):
    resize, name = (DETECT, "detectorInput") if task == "detect" else (SEGMENT, "segmenterInput")
    settings = dict(resize=resize, size=[64, 96], dynamic=list(dynamic))
    metadata = described(task=task, resize=resize, size=(64, 96), dynamic=dynamic)
    expression = f"images.map(image => {name}(image).planes)"
    inputs = run_worker(expression, images=[rgba(noise(size)) for size in SIZES], settings=settings)
    for size, planes in zip(SIZES, inputs, strict=True):
        image = torch.from_numpy(noise(size)).permute(2, 0, 1)
        truth, _ = fit_for_detector(image / 255, metadata) if task == "detect" else fit_for_segmenter(image, metadata)
        difference = np.abs(np.float32(planes).reshape(truth.shape) - truth.numpy()) * 255
        if task == "detect":
            assert difference.max() < 0.01, size
        else:  # PyTorch rounds once, or as Pillow, depending on the processor
            assert difference.max() < 1.01 and (difference > 0.01).mean() < 0.03, size


def test_detections_and_masks_are_those_of_predict(run_worker):
    dice, count = np.random.default_rng(1), 100
    corners, sides = dice.uniform(-5, 90, (count, 2)), dice.uniform(-2, 40, (count, 2))
    boxes = np.concatenate([corners, corners + sides], 1).astype(np.float32)
    labels, scores = dice.integers(1, 4, count), np.sort(dice.uniform(0, 1, count).astype(np.float32))[::-1].copy()
    disk = np.clip(1.2 - np.hypot(*np.meshgrid(np.linspace(-1, 1, 28), np.linspace(-1, 1, 28))), 0, 1)
    masks = (0.3 * dice.uniform(0, 1, (count, 1, 28, 28)) + 0.7 * disk).astype(np.float32)
    settings = dict(score_threshold=0.05, resize=DETECT, size=(64, 96), dynamic=ANY_SIZE)
    metadata = described(task="detect", outputs=("boxes", "labels", "scores", "masks"), **settings)
    outputs = [torch.from_numpy(each) for each in (boxes, labels, scores, masks)]
    truth = ExportedModel(Path("file"), metadata, lambda images: outputs).detect(torch.rand(3, 200, 300))
    given = {name: each.flatten().tolist() for name, each in zip(metadata.outputs, outputs, strict=True)}
    expression = """readDetections({
        boxes: {data: Float32Array.from(given.boxes)}, labels: {data: BigInt64Array.from(given.labels.map(BigInt))},
        scores: {data: Float32Array.from(given.scores)},
        masks: {data: Float32Array.from(given.masks), dims: [100, 1, 28, 28]},
    }, given.whole, fitSides(given.whole, 64, 128)).detections"""
    found = run_worker(expression, **given, whole=dict(width=300, height=200), settings=settings)
    assert 20 < len(found) < count
    assert [each["label"] + 1 for each in found] == truth["labels"].tolist()
    np.testing.assert_allclose([each["score"] for each in found], truth["scores"])
    np.testing.assert_allclose([each["box"] for each in found], truth["boxes"], atol=1e-3)
    for each, expected in zip(found, truth["masks"], strict=True):
        mask, area = each["mask"], np.zeros((200, 300), bool)
        rows, columns = (slice(mask[a], mask[a] + mask[b]) for a, b in (("top", "height"), ("left", "width")))
        area[rows, columns] = np.reshape(mask["inside"], (mask["height"], mask["width"]))
        assert (area != expected.numpy()).mean() < 1e-3


def test_label_map_is_that_of_predict(run_worker):
    logits = torch.randn(1, 5, 64, 96)
    settings = dict(resize=SEGMENT, size=(64, 96), dynamic=ANY_SIZE)
    model = ExportedModel(Path("file"), described(task="segment", **settings), lambda images: [logits])
    expression = """readLabelMap({logits: {data: Float32Array.from(given.logits), dims: [1, 5, 64, 96]}},
        given.whole, {fitted: {width: 96, height: 64}})"""
    whole = dict(width=300, height=200)
    result = run_worker(expression, logits=logits.flatten().tolist(), whole=whole, settings=settings)
    truth = model.segmenter_logits(torch.zeros(3, 200, 300, dtype=torch.uint8)).argmax(0)
    assert result["shown"] == whole
    assert (np.reshape(result["labels"], (200, 300)) != truth.numpy()).mean() < 1e-3


@pytest.mark.parametrize(
    ("targets", "logits", "key"),
    [
        (dict(kind="classes"), [1.0, -2.0], "probabilities"),
        (dict(kind="multilabel", thresholds=[0.5, 0.5]), [1.0, -2.0], "probabilities"),
        (dict(kind="regression", mean=3.0, std=2.0), [0.5], "value"),
    ],
)
def test_every_kind_of_targets_is_read(run_worker, targets, logits, key):
    metadata = described(targets=targets, class_names=["a", "b"][: len(logits)])
    result = run_worker("readClasses({logits: {data: given.logits}})", logits=logits, settings=dict(targets=targets))
    truth = metadata.decoded_targets.activate(torch.tensor([logits]))[0]
    np.testing.assert_allclose(result[key], truth if key == "probabilities" else truth.item(), rtol=1e-6)


def test_test_input_of_javascript_is_that_of_python(run_worker):
    expression = "Array.from({length: 3 * 64 * 64}, (_, i) => (Math.imul(i, 2654435761) >>> 0) / 2 ** 32)"
    assert expression.partition("=> ")[2][:-1] in WORKER.read_text()
    np.testing.assert_allclose(check_images((64, 64)).flatten(), run_worker(expression, settings={}), rtol=1e-6)
