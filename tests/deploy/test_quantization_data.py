"""Inputs that calibrate a file, and its metrics."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import torch

from tests.helpers.exports import described
from transxnet.data.datasets.segmentation_dataset import SegmentationDataset
from transxnet.data.open_data import open_data
from transxnet.data.recognize import recognize
from transxnet.deploy.export_images import LabeledImages
from transxnet.deploy.quantization_data import CALIBRATION, DetectionImages, SegmentationImages, _chosen

RGB = dict(mean=(0.0,) * 3, std=(1.0,) * 3, batch=1, dynamic=("height", "width"))


def labeled(data, task: str) -> LabeledImages:
    source = open_data(recognize(str(data), task), check_images=False)
    return LabeledImages(source.train, source.val, str(data))


def test_true_label_maps_have_a_mean_iou_of_1(maps):
    images = labeled(maps, "segment")
    metadata = described(task="segment", resize={"scale": [128, 64], "multiple": 32}, **RGB)
    data = SegmentationImages(images, metadata)
    truth = [labels for _, labels, _ in (SegmentationDataset(images.val)[i] for i in range(len(images.val)))]
    answers = iter(torch.nn.functional.one_hot(each.long().clamp(max=2), 3).permute(2, 0, 1).float() for each in truth)
    done = []
    metrics = data.metrics(SimpleNamespace(segmenter_logits=lambda image: next(answers)), done.append)
    assert metrics == {"mean IoU": 1.0}
    assert done == list(range(1, len(images.val) + 1))
    pixels, _ = data.inputs[0]
    assert (
        pixels.dtype == np.float32 and pixels.shape[:2] == (1, 3) and not np.array(pixels.shape[2:]).__mod__(32).any()
    )
    assert len(data.inputs) == len(images.train)


def test_true_boxes_have_an_ap_of_1(squares):
    images = labeled(squares, "detect")
    resize = {"min_size": 64, "max_size": 96, "multiple": 32, "fill": [0.5] * 3}
    metadata = replace(described(task="detect", outputs=("boxes", "labels", "scores"), **RGB), resize=resize)
    data = DetectionImages(images, metadata)
    targets = iter([images.val.target(i) for i in range(len(images.val))])

    def detect(image):
        target = next(targets)
        return {"boxes": target["boxes"], "labels": target["labels"], "scores": torch.ones(len(target["labels"]))}

    assert data.metrics(SimpleNamespace(detect=detect), lambda done: None) == {"box AP": 1.0}
    assert data.inputs[0][0].shape[2:] == (64, 64)


def test_calibration_images_are_chosen_at_random_once():
    assert _chosen(3).tolist() == [0, 1, 2]
    chosen = _chosen(1000)
    assert len(set(chosen)) == CALIBRATION and chosen.max() > 900
    np.testing.assert_array_equal(chosen, _chosen(1000))
