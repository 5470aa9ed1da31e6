"""Prepare a trained model for export, with the original model as the reference."""

import copy
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from PIL import Image
from torch import Tensor, nn
from torchvision import tv_tensors
from torchvision.models.detection.roi_heads import maskrcnn_inference

from transxnet.data.tiling import tile_dict
from transxnet.deploy.detector_graphs import MaskRCNNGraph, RetinaNetGraph
from transxnet.deploy.export_graphs import ClassifierGraph, FeaturesGraph, InputNormalization, SegmenterGraph
from transxnet.deploy.metadata import ExportTask
from transxnet.deploy.reparameterize import reparameterize
from transxnet.deploy.whole_image import (
    ClassifierInput,
    ClassifierOutput,
    DetectorInput,
    DetectorOutput,
    SegmenterInput,
    SegmenterOutput,
    WholeImage,
)
from transxnet.heads import MaskRCNN, RetinaNet
from transxnet.heads.detector_transform import float_images
from transxnet.heads.semantic_fpn import logits_at_size
from transxnet.runs.trained_models import TrainedClassifier, TrainedDetector, TrainedModel, TrainedSegmenter
from transxnet.utils.errors import UserError

MULTIPLE = 32
"""Divisor of dynamic image sides, and of all sides for detectors and segmenters."""

Outputs = tuple[Tensor, ...]

DETECTIONS = ("boxes", "labels", "scores")
"""Outputs of a detector; Mask R-CNN also has masks."""


@dataclass(frozen=True)
class ExportableModel:
    """A model prepared for export.

    Attributes:
        graph: the module to trace, in evaluation mode, on the CPU.
        trained: the original model, in float32, not modified.
        task: see :class:`~transxnet.deploy.metadata.Metadata`.
        outputs: names of the outputs.
        mean: mean of each channel, for the input's normalization.
        std: standard deviation of each channel.
        resize: how images are resized to the input's size.
        score_threshold: see :class:`~transxnet.deploy.metadata.Metadata`.
        whole_image: what surrounds the graph in a file that takes whole images; else None.
    """

    graph: nn.Module
    trained: TrainedModel
    task: ExportTask
    outputs: tuple[str, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    resize: dict[str, Any]
    score_threshold: float = 0.0
    whole_image: WholeImage | None = None

    @torch.inference_mode()
    def reference_outputs(self, images: Tensor) -> Outputs:
        """The outputs of the original model, for images (N, C, H, W) normalized by mean and std.

        If the file takes whole images, for one image (H, W, 3) uint8, the outputs of ``transxnet predict``.
        """
        if self.whole_image is not None:
            return _predicted(self.trained, images, self.resize)
        if self.task == "detect":
            return _found(self.trained.model, images)  # type: ignore[arg-type]
        if self.task == "features":
            network = self.trained.backbone
            return FeaturesGraph(InputNormalization(self.mean, self.std, False, torch.float32), network)(images)
        return (self.trained.model(images),)

    @torch.inference_mode()
    def reference_masks(self, images: Tensor, boxes: Tensor, labels: Tensor) -> Tensor:
        """The masks (N, 1, M, M) that the original Mask R-CNN computes in boxes (N, 4) of classes (N,) in one image."""
        detector = _at_own_size(self.trained.model, images)
        features = detector.backbone(detector.transform(list(images))[0].tensors)
        (masks,) = maskrcnn_inference(detector.roi_heads.segment(features, [boxes]), [labels])
        return masks


def prepare_export(
    trained: TrainedModel,
    *,
    features: bool,
    static_size: tuple[int, int] | None,
    uint8: bool,
    dtype: torch.dtype,
) -> ExportableModel:
    """Prepare a model for export.

    Args:
        trained: the model.
        features: export the backbone's feature maps instead of the model's predictions.
        static_size: fixed height and width of the input, or None for any.
        uint8: whether the file takes uint8 images.
        dtype: data type to compute in.

    Raises:
        UserError: the model cannot be exported.
    """
    if features or isinstance(trained, TrainedClassifier):
        prepared = trained.backbone_preprocessing
        network = _inference_copy(trained.backbone, static_size).to(dtype)
        normalize = InputNormalization(prepared.mean, prepared.std, uint8, dtype)
        resize = dict(img_size=prepared.img_size, crop_pct=prepared.crop_pct, interpolation=prepared.interpolation)
        if features:
            names = tuple(f"stride{stride}" for stride in _strides(network, trained.name))
            graph: nn.Module = FeaturesGraph(normalize, network)
            return ExportableModel(graph.eval(), trained, "features", names, prepared.mean, prepared.std, resize)
        assert isinstance(trained, TrainedClassifier)
        graph = ClassifierGraph(normalize, network)
        return ExportableModel(graph.eval(), trained, "classify", ("logits",), prepared.mean, prepared.std, resize)
    prepared = trained.backbone_preprocessing  # the network itself normalizes its input
    mean, std = (0.0,) * len(prepared.mean), (1.0,) * len(prepared.mean)
    normalize, padded = InputNormalization(mean, std, uint8, dtype), _padded(static_size)
    if isinstance(trained, TrainedSegmenter):
        segmenter = _with_inference_body(trained.model, padded).to(dtype)
        resize = dict(scale=list(trained.scale), multiple=MULTIPLE, **tile_dict(trained.tiling))
        if trained.as_published:
            resize["as_published"] = True
        if prepared.channels is not None:
            resize["fill"] = list(prepared.mean)
        graph = SegmenterGraph(normalize, segmenter)  # type: ignore[arg-type]
        return ExportableModel(graph.eval(), trained, "segment", ("logits",), mean, std, resize)
    assert isinstance(trained, TrainedDetector)
    detector = _with_inference_body(trained.model, padded).to(dtype)
    scaling = trained.model.transform
    resize = dict(
        min_size=scaling.min_size[-1],
        max_size=scaling.max_size,
        multiple=MULTIPLE,
        fill=list(scaling.image_mean),
        **tile_dict(trained.tiling),
    )
    if scaling.opencv_resize:
        resize["opencv_resize"] = True
    names, threshold = DETECTIONS, _thresholded(trained.model).score_thresh
    if isinstance(detector, MaskRCNN):
        graph, names = MaskRCNNGraph(normalize, detector), (*DETECTIONS, "masks")
    else:
        graph = RetinaNetGraph(normalize, detector)  # type: ignore[arg-type]
    return ExportableModel(graph.eval(), trained, "detect", names, mean, std, resize, threshold)


def prepare_whole_image(trained: TrainedModel, *, side: int | None, dtype: torch.dtype) -> ExportableModel:
    """Prepare a model for a file that takes one decoded image of any size and returns the outputs of ``predict``.

    Args:
        trained: the model.
        side: height and width of a classifier's input; None for other models.
        dtype: data type to compute in.

    Raises:
        UserError: the model cannot be exported.
    """
    size = None if side is None else (side, side)
    exportable = prepare_export(trained, features=False, static_size=size, uint8=False, dtype=dtype)
    if isinstance(trained, TrainedClassifier):
        assert side is not None
        preprocessing = replace(trained.preprocessing, img_size=side)
        around = WholeImage(ClassifierInput(preprocessing), ClassifierOutput(trained.targets))
        resize, outputs = {**exportable.resize, "img_size": side}, ("probabilities",)
        return replace(exportable, whole_image=around, resize=resize, outputs=outputs)
    if isinstance(trained, TrainedSegmenter):
        around = WholeImage(SegmenterInput(trained.resize), SegmenterOutput(), maps=True)
        return replace(exportable, whole_image=around, outputs=("label_map",))
    assert isinstance(trained, TrainedDetector)
    around = WholeImage(DetectorInput(trained.model.transform), DetectorOutput(exportable.score_threshold))
    return replace(exportable, whole_image=around)


def _inference_copy(network: nn.Module, size: tuple[int, int] | None) -> nn.Module:
    """A copy for inference, reparameterized if it is one of our networks with the paper's parts."""
    try:
        return reparameterize(network, size)
    except UserError:  # another network, or one with other parts
        return copy.deepcopy(network).requires_grad_(False).eval()


def _with_inference_body(model: nn.Module, size: tuple[int, int] | None) -> nn.Module:
    model = copy.deepcopy(model).requires_grad_(False).eval()
    model.backbone.body = _inference_copy(model.backbone.body, size)
    return model


def _padded(size: tuple[int, int] | None) -> tuple[int, int] | None:
    return None if size is None else (size[0] + -size[0] % MULTIPLE, size[1] + -size[1] % MULTIPLE)


def _strides(network: nn.Module, label: str) -> Sequence[int]:
    """Strides of the feature maps that :class:`FeaturesGraph` returns."""
    info = getattr(network, "feature_info", None)
    if info is None or not (hasattr(info, "reduction") or hasattr(network, "forward_intermediates")):
        raise UserError(f"{label} does not return feature maps: timm lists no stages for it. Remove --features.")
    return info.reduction() if hasattr(info, "reduction") else [stage["reduction"] for stage in info]


def _thresholded(detector: RetinaNet | MaskRCNN) -> Any:
    """The part of a detector that has the score threshold."""
    return detector.roi_heads if isinstance(detector, MaskRCNN) else detector


def _predicted(trained: TrainedModel, image: Tensor, resize: dict[str, Any]) -> Outputs:
    """The outputs of ``transxnet predict`` for an image (H, W, 3) uint8."""
    if isinstance(trained, TrainedClassifier):
        preprocessing = replace(trained.preprocessing, img_size=resize["img_size"])
        prepared = preprocessing.transform()(Image.fromarray(image.numpy()))[None]
        return (trained.targets.activate(trained.model(prepared)),)
    pixels = image.permute(2, 0, 1).contiguous()
    if isinstance(trained, TrainedSegmenter):
        logits = logits_at_size(trained.model, trained.resize(tv_tensors.Image(pixels)), tuple(image.shape[:2]))
        return (logits[0].argmax(0).to(torch.uint8),)
    (found,) = trained.model(float_images([pixels]))
    return tuple(found[name] for name in (*DETECTIONS, "masks") if name in found)


def _at_own_size(detector: nn.Module, images: Tensor) -> Any:
    """A copy of a detector that does not resize these images."""
    detector = copy.deepcopy(detector)
    height, width = images.shape[2:]
    detector.transform.min_size, detector.transform.max_size = (min(height, width),), max(height, width)
    detector.transform.opencv_resize = False
    return detector


def _found(detector: RetinaNet | MaskRCNN, images: Tensor) -> Outputs:
    """Detections in one image without resizing, including those below the threshold; masks span their boxes."""
    detector = _at_own_size(detector, images)
    _thresholded(detector).score_thresh = 0.0
    if isinstance(detector, MaskRCNN):
        detector.transform.postprocess = lambda found, *sizes: found  # it would paste the masks into the image
    (found,) = detector(list(images))
    return tuple(found[name] for name in (*DETECTIONS, "masks") if name in found)
