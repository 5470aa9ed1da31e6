"""Models prepared for export, and models that cannot be exported."""

from dataclasses import replace

import pytest
import torch
from torchvision import tv_tensors

from tests.helpers.exports import CLASSES, assert_near, mask_rcnn, random_images
from transxnet import load_exported, read_metadata
from transxnet.data.tiling import Tiling, read_tiling
from transxnet.deploy.export import export
from transxnet.deploy.exportable_model import ExportableModel, prepare_export
from transxnet.deploy.exported_model import fit_for_detector, fit_for_segmenter
from transxnet.deploy.metadata import Metadata
from transxnet.heads import create_detector, create_segmenter
from transxnet.runs.load import load_model
from transxnet.runs.trained_models import TrainedDetector, TrainedModel, TrainedSegmenter


@pytest.mark.long
@torch.no_grad()
def test_features_are_the_outputs_of_the_stages(ours, tmp_path, console):
    file = export(ours.path, features=True, format="openvino", out=tmp_path / "maps.xml", console=console)
    x = random_images(2, 64, 64)
    truth = load_model(ours.path).model.forward_intermediates(x, intermediates_only=True)
    assert read_metadata(file).outputs == ("stride4", "stride8", "stride16", "stride32")
    for actual, expected in zip(load_exported(file)(x), truth, strict=True):
        assert_near(actual, expected)


def test_mask_rcnn_has_masks_that_span_their_boxes(mask_detector):
    trained = load_model(mask_detector.path)
    with torch.no_grad():
        trained.model.roi_heads.box_predictor.cls_score.bias[0] += 20  # the background
    ready = prepare_export(trained, features=False, static_size=None, uint8=False, dtype=torch.float32)
    assert ready.outputs == ("boxes", "labels", "scores", "masks")
    assert ready.score_threshold == 0.05
    boxes, _, scores, masks = ready.reference_outputs(torch.rand(1, 3, 64, 96))
    assert masks.shape == (len(boxes), 1, 28, 28)
    assert len(scores) > 0
    assert scores.max() < 0.05  # also those below the threshold


def test_masks_of_given_boxes_are_those_of_the_detections():
    trained = TrainedDetector(mask_rcnn(min_size=64, max_size=96), "masks", CLASSES, None)
    ready = prepare_export(trained, features=False, static_size=None, uint8=False, dtype=torch.float32)
    images = torch.rand(1, 3, 96, 160)
    boxes, labels, _, masks = ready.reference_outputs(images)
    torch.testing.assert_close(ready.reference_masks(images, boxes, labels), masks, rtol=0, atol=1e-6)
    moved = ready.reference_masks(images, boxes + 3, labels)
    assert (moved - masks).abs().max() > 0.01


def dynamic(trained: TrainedModel) -> tuple[ExportableModel, Metadata]:
    """Prepare a model for images of any size, with the metadata that a file of it would have."""
    ready = prepare_export(trained, features=False, static_size=None, uint8=False, dtype=torch.float32)
    described = dict(model=trained.name, source="", class_names=trained.class_names, input="float32", versions={})
    metadata = Metadata(
        task=ready.task,
        mean=ready.mean,
        std=ready.std,
        size=(64, 64),
        batch=1,
        dynamic=("height", "width"),
        resize=ready.resize,
        outputs=ready.outputs,
        score_threshold=ready.score_threshold,
        dtype="float32",
        **described,
    )
    return ready, metadata


@torch.no_grad()
def test_exported_published_detector_resizes_as_opencv():
    model = create_detector("retinanet", "test_resnet", 3, min_size=64, max_size=128).eval()
    model.transform.opencv_resize = True
    ready, metadata = dynamic(TrainedDetector(model, "published", CLASSES, None))
    image = torch.randint(256, (3, 50, 70), dtype=torch.uint8) / 255
    padded, _ = fit_for_detector(image, metadata)
    truth, _ = model.transform([image])
    height, width = truth.image_sizes[0]
    mean, std = (
        torch.tensor(values).view(3, 1, 1) for values in (model.transform.image_mean, model.transform.image_std)
    )
    pixels = (truth.tensors[0] * std + mean)[:, :height, :width]
    torch.testing.assert_close(padded[:, :height, :width], pixels, rtol=0, atol=1e-6)
    # The file itself resizes nothing, so its reference keeps floating-point pixels.
    between = torch.rand(1, 3, 64, 64)
    kept = ready.reference_outputs(between)
    model.transform.opencv_resize = False
    torch.testing.assert_close(kept, ready.reference_outputs(between), rtol=0, atol=0)


def test_tiles_of_a_run_are_those_of_its_exported_file():
    trained = TrainedSegmenter(
        create_segmenter("test_resnet", 3).eval(), "tiles", CLASSES, None, (128, 64), tiling=Tiling(64, 0.25)
    )
    metadata = dynamic(trained)[1]
    assert read_tiling(Metadata.from_texts(metadata.to_texts()).resize) == Tiling(64, 0.25)


def test_exported_published_segmenter_resizes_as_published():
    trained = TrainedSegmenter(
        create_segmenter("test_resnet", 3).eval(), "published", CLASSES, None, (128, 64), as_published=True
    )
    image = torch.randint(256, (3, 50, 70), dtype=torch.uint8)
    aligned, _ = fit_for_segmenter(image, dynamic(trained)[1])
    assert torch.equal(aligned, trained.resize(tv_tensors.Image(image)).as_subclass(torch.Tensor) / 255)


def test_fixed_input_of_channels_is_padded_with_their_mean():
    mean, std = [3e4, -5.0, 0.0, 7.0], [1.0, 2.0, 3.0, 4.0]
    model = create_segmenter("test_resnet", 2, mean=mean, std=std).eval()
    trained = TrainedSegmenter(model, "bands", ["a", "b"], None, (128, 32), channels=4)
    fixed = replace(dynamic(trained)[1], dynamic=(), size=(32, 64))
    image = torch.randn(4, 32, 32)
    padded, size = fit_for_segmenter(image, fixed)
    assert size == (32, 32) and padded.shape == (4, 32, 64)
    assert torch.equal(padded[..., :32], image) and padded[:, 0, -1].tolist() == mean
