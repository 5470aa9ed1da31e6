from dataclasses import replace

import numpy as np
import pytest

from tests.helpers.dense_data import write_coco_squares
from transxnet.data.open_data import open_data
from transxnet.data.reading.masks import encode_mask
from transxnet.metrics.detection import DetectionMetric
from transxnet.metrics.scored_detections import DETECTION_METRICS, ScoredDetections, match_detections


@pytest.fixture(scope="module")
def squares(tmp_path_factory):
    """Eight images with boxes and masks, crowds and images without objects."""
    return open_data(
        str(write_coco_squares(tmp_path_factory.mktemp("data"), 8)), "detect", val_fraction=0, masks=True
    ).train


def detect(images, seed=0):
    """Return shifted objects as detections, with a wrong one in each image, as the metric and as results."""
    random, metric, results = np.random.default_rng(seed), DetectionMetric(images, masks=True), []
    for i in range(len(images)):
        target = images.target(i, masks=True, crowds=False)
        output = {name: target[name].clone() for name in ("boxes", "labels", "masks")}
        output["boxes"] += random.integers(-4, 5)
        output["labels"][:1] = 1
        output["scores"] = target["boxes"].new_tensor(random.random(len(target["boxes"])))
        metric.update([output], [images.target(i, masks=True)])
        results.append(
            [
                {"bbox": [x1, y1, x2 - x1, y2 - y1], "score": score, "label": label, "segmentation": encode_mask(mask)}
                for (x1, y1, x2, y2), score, label, mask in zip(
                    output["boxes"].tolist(), output["scores"].tolist(), output["labels"].tolist(),
                    output["masks"].numpy(), strict=True,
                )
            ]
        )  # fmt: skip
    return metric.compute(), results


def test_metrics_are_those_of_the_evaluation(squares):
    evaluation, results = detect(squares)
    scored = match_detections(squares, results, masks=True)
    found = scored.metrics()
    assert [name for name in found if "class" not in name] == list(DETECTION_METRICS)
    for name in DETECTION_METRICS:
        assert found[name] == pytest.approx(evaluation.all_metrics[name], nan_ok=True), name
    assert 0 < found["ap"] < 1
    for prefix, kind in (("", "box"), ("mask_", "mask")):
        own = [found[f"{prefix}class_ap_{name}"] for name in squares.class_names]
        np.testing.assert_allclose(own, evaluation.class_ap[kind])
    assert scored.compared == ("ap", "mask_ap") and len(scored) == 8


def test_drawn_images_give_the_metrics_of_matching_them_anew(squares):
    _, results = detect(squares)
    scored, drawn = match_detections(squares, results, masks=False), np.array([5, 0, 5, 1, 2, 2, 6])
    objects = replace(squares, indices=squares.indices[drawn])
    anew = match_detections(objects, [results[i] for i in drawn], masks=False)
    found = scored.take(drawn).metrics()
    np.testing.assert_allclose(list(found.values()), list(anew.metrics().values()))
    parts = ScoredDetections.concatenate([scored.take(drawn[:3]), scored.take(drawn[3:])])
    np.testing.assert_allclose(list(parts.metrics().values()), list(found.values()))
    assert scored.image_scores[5] == pytest.approx(scored.take(np.array([5])).metrics()["ap"])
    assert np.isnan(scored.image_scores[3])  # without objects


def test_images_without_detections_have_an_ap_of_zero(squares):
    assert match_detections(squares, [[] for _ in range(8)], masks=False).metrics()["ap"] == 0
