"""COCO metrics against pycocotools on the same files, and per-image F1 against hand-counted values."""

import contextlib
import io
import json
import math
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from transxnet.data.datasets.detection_dataset import DetectionSet
from transxnet.data.formats.coco import read_coco
from transxnet.data.formats.coco_folders import find_coco
from transxnet.data.formats.findings import Findings
from transxnet.data.reading.masks import decode_mask, encode_mask
from transxnet.metrics import detection
from transxnet.metrics.detection import (
    CocoMetric,
    DetectionEvaluation,
    DetectionMetric,
    Detections,
    coco_metrics,
    coco_results,
    compute_image_f1,
)
from transxnet.utils.errors import UserError

COCO = pytest.importorskip("pycocotools.coco").COCO
COCOeval = pytest.importorskip("pycocotools.cocoeval").COCOeval

WIDTH, HEIGHT = 220, 160
CATEGORIES = [dict(id=7, name="cat"), dict(id=3, name="dog"), dict(id=11, name="never"), dict(id=20, name="ant")]
METRICS = ("ap", "ap50", "ap75", "ap_small", "ap_medium", "ap_large")
EMPTY = (4, 9)  # images without an object; the first has detections nevertheless


def write_truth(root: Path) -> Path:
    """Write ten images with objects of all sizes, including polygons, run lengths and crowds; ids are not in order."""
    dice = np.random.default_rng(3)
    images = [dict(id=10 + 3 * i, file_name=f"{i}.png", width=WIDTH, height=HEIGHT) for i in range(10)]
    annotations = []
    for i, entry in enumerate(images):
        Image.new("RGB", (WIDTH, HEIGHT)).save(root / entry["file_name"])
        for n in range(0 if i in EMPTY else 6):
            size = dice.choice([24, 60, 110])
            w, h = size + dice.integers(0, 16, 2) / 4
            x, y = dice.integers(0, 4 * (WIDTH - w)) / 4, dice.integers(0, 4 * (HEIGHT - h)) / 4
            segmentation = [[x, y, x + w, y, x + 0.75 * w, y + h, x, y + h]]
            crowd = int(n == 5 and i % 2 == 0)
            if n % 3 == 2 or crowd:
                segmentation = encode_mask(decode_mask(segmentation, HEIGHT, WIDTH))
            annotations.append(
                dict(id=len(annotations) + 1, image_id=entry["id"], category_id=int(dice.choice([3, 7, 20])),
                     bbox=[x, y, w, h], area=0.875 * w * h, iscrowd=crowd, segmentation=segmentation)
            )  # fmt: skip
    file = root / "annotations.json"
    content = dict(images=images[::-1], annotations=annotations, categories=CATEGORIES)
    file.write_text(json.dumps(content, default=float))
    return file


def find(images: DetectionSet, index: int) -> dict[str, torch.Tensor]:
    """Simulate an average detector: most objects, shifted, some twice or misclassified, false alarms, tied scores."""
    number = (images.image_id(index) - 10) // 3
    dice = np.random.default_rng(number)
    target = images.target(index, masks=True)
    boxes, labels, masks = [], [], []
    for n in range(len(target["labels"])):
        for _ in range(dice.choice([0, 1, 1, 1, 2])):
            shift = dice.integers(0, dice.choice([3, 30]), 2)
            boxes.append(target["boxes"][n].numpy() + np.tile(shift, 2))
            labels.append(int(target["labels"][n]) if dice.random() < 0.8 else int(dice.integers(1, 5)))
            masks.append(np.roll(target["masks"][n].numpy(), tuple(shift[::-1]), (0, 1)))
    for _ in range(0 if number == EMPTY[1] else 110 if number == 2 else 3):  # COCO uses the 100 highest scores
        x, y = dice.integers(0, 100, 2)
        boxes.append(np.array([x, y, x + 20, y + 15]))
        labels.append(int(dice.integers(1, 5)))
        masks.append(np.zeros((HEIGHT, WIDTH), np.uint8))
        masks[-1][y : y + 15, x : x + 20] = 1
    scores = torch.from_numpy(dice.integers(1, 64, len(boxes)) / 64).float()
    order = scores.argsort(descending=True, stable=True)
    return dict(
        boxes=torch.tensor(np.array(boxes).reshape(-1, 4), dtype=torch.float32)[order],
        labels=torch.tensor(labels, dtype=torch.int64)[order],
        scores=scores[order],
        masks=torch.from_numpy(np.array(masks, np.uint8).reshape(-1, HEIGHT, WIDTH)).bool()[order],
    )


def evaluate(images: DetectionSet, masks: bool) -> DetectionEvaluation:
    metric = DetectionMetric(images, masks)
    for i in range(len(images)):
        answer = find(images, i)
        if not masks:
            del answer["masks"]
        metric.update([answer], [images.target(i, masks=masks)])
    return metric.compute()


def by_pycocotools(file: Path, evaluation: DetectionEvaluation, kind: str, category: int | None = None):
    """Evaluate the same detections with pycocotools, from files in COCO format."""
    images, results = evaluation.images, []
    for i, detections in enumerate(evaluation.detections):
        for result in coco_results(detections, images.image_id(i), images.category_ids):
            if kind == "segm":
                del result["bbox"]  # or pycocotools would use the area of the box instead of the mask
            results.append(result)
    answers = file.parent / "answers.json"
    answers.write_text(json.dumps(results))
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO(str(file))
        expected = COCOeval(truth, truth.loadRes(str(answers)), kind)
        if category is not None:
            expected.params.catIds = [category]
        expected.evaluate()
        expected.accumulate()
        expected.summarize()
    return expected


@pytest.fixture(scope="module")
def truth(tmp_path_factory) -> Path:
    return write_truth(tmp_path_factory.mktemp("coco"))


@pytest.fixture(scope="module", params=[False, True], ids=["boxes", "boxes and masks"])
def evaluation(request, truth) -> DetectionEvaluation:
    part = find_coco(truth.parent).train
    return evaluate(read_coco(part, Findings(), masks=True), request.param)


def kinds(evaluation: DetectionEvaluation) -> dict[str, str]:
    return {"box": "bbox", "mask": "segm"} if "mask" in evaluation.class_ap else {"box": "bbox"}


def test_metrics_match_pycocotools(evaluation, truth):
    for ours, theirs in kinds(evaluation).items():
        prefix = "" if ours == "box" else "mask_"
        expected = by_pycocotools(truth, evaluation, theirs).stats[:6]
        assert (expected > 0).all()  # every size occurs
        assert [evaluation.all_metrics[prefix + name] for name in METRICS] == pytest.approx(expected, abs=1e-12)
    assert evaluation.metrics() == evaluation.all_metrics
    assert len(evaluation.all_metrics) == 6 * len(kinds(evaluation))


def test_per_class_ap_and_precision_match_pycocotools(evaluation, truth):
    assert evaluation.class_names == ["dog", "cat", "never", "ant"]
    assert evaluation.objects[2] == 0
    assert any((detections.labels == 3).any() for detections in evaluation.detections)
    for ours, theirs in kinds(evaluation).items():
        for i, category in enumerate(evaluation.images.category_ids):
            expected = by_pycocotools(truth, evaluation, theirs, category)
            if i == 2:
                assert expected.stats[0] == -1
                assert math.isnan(evaluation.class_ap[ours][i])
                assert np.isnan(evaluation.precision[ours][i]).all()
                continue
            assert evaluation.class_ap[ours][i] == pytest.approx(expected.stats[0], abs=1e-12)
            curve = expected.eval["precision"][0, :, 0, 0, 2]
            np.testing.assert_allclose(evaluation.precision[ours][i], curve, atol=1e-12, rtol=0)


def test_images_without_objects_have_no_metrics(truth):
    part = find_coco(truth.parent).train
    images = read_coco(part, Findings(), masks=True).subset(np.array(EMPTY))
    for positions in ([0, 1], [1]):  # the first has detections, the second has none
        result = evaluate(images.subset(np.array(positions)), masks=False)
        assert result.metrics() == {}
        assert np.isnan(result.class_ap["box"]).all()
        assert result.precision["box"].shape == (4, 101)
        assert len(result) == len(result.detections) == len(positions)


def answer(*objects: tuple[float, int, list[float]]) -> dict[str, torch.Tensor]:
    scores, labels, boxes = zip(*objects, strict=True) if objects else ((), (), ())
    return dict(
        boxes=torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4),
        labels=torch.tensor(labels, dtype=torch.int64),
        scores=torch.tensor(scores, dtype=torch.float32),
    )


def known(*objects: tuple[int, list[float], int]) -> dict:
    labels, boxes, crowd = zip(*objects, strict=True) if objects else ((), (), ())
    return dict(
        boxes=torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4),
        labels=torch.tensor(labels, dtype=torch.int64),
        iscrowd=torch.tensor(crowd, dtype=torch.int64),
    )


BOX, OTHER, HALF = [0, 0, 10, 10], [50, 50, 60, 60], [0, 0, 10, 5]


@pytest.mark.parametrize(
    ("predicted", "true", "f1"),
    [
        ([], [], 1),
        ([(0.9, 1, BOX)], [], 0),
        ([(0.4, 1, BOX)], [], 1),  # below the score threshold
        ([], [(1, BOX, 0)], 0),
        ([(0.9, 1, BOX)], [(1, BOX, 0)], 1),
        ([(0.9, 2, BOX)], [(1, BOX, 0)], 0),
        ([(0.9, 1, HALF)], [(1, BOX, 0)], 1),  # an IoU of exactly 0.5 is enough
        ([(0.9, 1, [0, 0, 10, 4])], [(1, BOX, 0)], 0),
        ([(0.9, 1, BOX), (0.8, 1, BOX)], [(1, BOX, 0)], 2 / 3),  # the duplicate is a false positive
        ([(0.9, 1, BOX), (0.8, 1, BOX)], [(1, BOX, 0), (1, BOX, 0)], 1),
        ([(0.9, 1, BOX)], [(1, BOX, 0), (2, OTHER, 0)], 2 / 3),
        ([(0.8, 1, HALF), (0.9, 1, BOX)], [(1, BOX, 0), (1, HALF, 0)], 1),  # the highest score is matched first
        ([(0.9, 1, HALF)], [(1, BOX, 1)], 1),  # detections in a crowd are ignored
        ([(0.9, 1, BOX)], [(1, [0, 0, 10, 4], 1)], 0),  # less than half of it lies in the crowd
        ([(0.9, 2, HALF)], [(1, BOX, 1)], 0),  # a crowd of another class
        ([(0.9, 1, OTHER), (0.8, 1, HALF)], [(1, BOX, 1), (1, OTHER, 0)], 1),
    ],
)
def test_image_f1_matches_values_counted_by_hand(predicted, true, f1):
    assert compute_image_f1(answer(*predicted), known(*true)) == pytest.approx(f1, abs=1e-12)


def test_filter_keeps_detections_from_the_threshold():
    found = Detections.from_output(answer((0.9, 1, BOX), (0.5, 2, OTHER), (0.49, 1, HALF))).filter()
    assert found.labels.tolist() == [1, 2]
    assert found.boxes.tolist() == [BOX, OTHER]
    assert found.masks is None


@pytest.mark.parametrize("masks", [False, True])
def test_metric_in_batches_matches_image_by_image(truth, masks):
    part = find_coco(truth.parent).train
    images = read_coco(part, Findings(), masks=True)
    outputs, targets = [find(images, i) for i in range(10)], [images.target(i, masks=masks) for i in range(10)]
    metric = CocoMetric(masks)
    for start in range(0, 10, 4):
        metric.update(outputs[start : start + 4], targets[start : start + 4])
    assert coco_metrics(metric.compute(), masks) == pytest.approx(evaluate(images, masks).all_metrics, abs=1e-12)


def test_without_faster_coco_eval_the_error_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "faster_coco_eval", None)  # as if it were not installed
    with pytest.raises(UserError, match=r"faster-coco-eval\. Install it with: pip install 'transxnet\[detect\]'"):
        CocoMetric(masks=False)


def test_resampled_ap_is_that_of_the_drawn_images(evaluation):
    resampled = evaluation.resampler()
    whole = resampled(np.arange(10))
    assert whole == pytest.approx({name: evaluation.all_metrics[name] for name in whole})
    drawn = np.array([1, 1, 2, 7, 4, 9, 0, 0, 0, 8])
    metric = DetectionMetric(evaluation.images, "mask" in evaluation.class_ap)
    for i in drawn.tolist():
        target = evaluation.images.target(i, masks=metric.masks)
        metric.update([evaluation.detections[i].to_output(HEIGHT, WIDTH)], [target])
    expected = metric.compute().all_metrics
    found = resampled(drawn)
    assert set(found) == {f"{prefix}{name}" for prefix in _prefixes_of(evaluation) for name in ("ap", "ap50", "ap75")}
    assert found == pytest.approx({name: expected[name] for name in found})


def _prefixes_of(evaluation: DetectionEvaluation) -> list[str]:
    return ["" if kind == "box" else "mask_" for kind in kinds(evaluation)]


def test_many_images_or_no_detections_have_no_intervals(evaluation, monkeypatch):
    monkeypatch.setattr(detection, "MAX_PAIRS", 39)
    assert replace(evaluation).intervals.limits == {}
    monkeypatch.undo()
    assert replace(evaluation, detections=[each.filter(2.0) for each in evaluation.detections]).intervals.limits == {}
