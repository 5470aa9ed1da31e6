"""Labeled images for the quantization of a file: the inputs to calibrate it, and its metrics before and after."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from transxnet.data.datasets.classification_dataset import ClassificationDataset, ClassificationSet
from transxnet.data.datasets.detection_dataset import DetectionDataset, DetectionSet
from transxnet.data.datasets.segmentation_dataset import SegmentationDataset, SegmentationSet
from transxnet.data.loading.loaders import evaluation_loader
from transxnet.data.reading.pixels import pixels_to_tensor
from transxnet.deploy.export_images import LabeledImages
from transxnet.deploy.exported_model import ExportedModel, file_input, fit_for_detector, fit_for_segmenter
from transxnet.deploy.metadata import Metadata
from transxnet.heads.detector_transform import float_images
from transxnet.metrics.detection import DetectionMetric
from transxnet.metrics.segmentation import SegmentationMetric

CALIBRATION = 300
"""Number of images to calibrate activation ranges on; NNCF's default."""

BATCH = 16
"""Batch size if the batch axis is dynamic."""


class QuantizationData(ABC):
    """Labeled images of one task.

    Attributes:
        inputs: inputs of the file and labels, of training images, to calibrate the ranges of activations on.
        validation: the same of the validation images, if the package that quantizes can measure the accuracy on them.
    """

    inputs: Sequence[tuple[np.ndarray, np.ndarray]]
    validation: Sequence[tuple[np.ndarray, np.ndarray]] | None = None

    @abstractmethod
    def metrics(self, model: ExportedModel, progress: Callable[[int], object]) -> dict[str, float]:
        """Compute the metrics of a file on the validation images, by name in words.

        Args:
            model: the file.
            progress: called with the number of images done.
        """


class ClassificationImages(QuantizationData):
    """Images of a classifier."""

    def __init__(self, images: LabeledImages, metadata: Metadata):
        assert isinstance(images.train, ClassificationSet) and isinstance(images.val, ClassificationSet)
        self.val = images.val
        self.inputs = _ClassifierBatches(metadata, images.train.subset(_chosen(len(images.train))))
        self.validation = _ClassifierBatches(metadata, images.val)

    def metrics(self, model: ExportedModel, progress: Callable[[int], object]) -> dict[str, float]:
        """Compute the accuracy."""
        assert model.preprocessing is not None
        dataset = ClassificationDataset(self.val, model.preprocessing.transform())
        right = done = 0
        for batch, labels, _ in evaluation_loader(dataset, model.metadata.batch or BATCH, workers=0):
            logits = model(batch)
            assert isinstance(logits, Tensor)
            right += int((logits.argmax(1) == labels).sum())
            done += len(labels)
            progress(done)
        return {"accuracy": right / len(self.val)}


class DetectionImages(QuantizationData):
    """Images of a detector."""

    def __init__(self, images: LabeledImages, metadata: Metadata):
        assert isinstance(images.train, DetectionSet) and isinstance(images.val, DetectionSet)
        self.val, self.masks = images.val, "masks" in metadata.outputs
        self.inputs = _DenseInputs(
            images.train, metadata, lambda image: fit_for_detector(float_images([image])[0], metadata)[0]
        )

    def metrics(self, model: ExportedModel, progress: Callable[[int], object]) -> dict[str, float]:
        """Compute COCO's AP of boxes and, for Mask R-CNN, of masks."""
        metric, dataset = DetectionMetric(self.val, self.masks), DetectionDataset(self.val, masks=self.masks)
        for i in range(len(dataset)):
            image, target = dataset[i]
            metric.update([model.detect(float_images([image])[0])], [target])
            progress(i + 1)
        values, names = metric.compute().metrics(), {"ap": "box AP", "mask_ap": "mask AP"}
        return {words: values[name] for name, words in names.items() if name in values}


class SegmentationImages(QuantizationData):
    """Images of a segmenter."""

    def __init__(self, images: LabeledImages, metadata: Metadata):
        assert isinstance(images.train, SegmentationSet) and isinstance(images.val, SegmentationSet)
        self.val = images.val
        self.inputs = _DenseInputs(images.train, metadata, lambda image: fit_for_segmenter(image, metadata)[0])

    def metrics(self, model: ExportedModel, progress: Callable[[int], object]) -> dict[str, float]:
        """Compute the mean IoU."""
        metric, dataset = SegmentationMetric(self.val), SegmentationDataset(self.val)
        for i in range(len(dataset)):
            image, labels, _ = dataset[i]
            logits = model.segmenter_logits(image.as_subclass(Tensor))
            metric.update(logits.argmax(0).to(torch.uint8).numpy(), labels.numpy())
            progress(i + 1)
        return {"mean IoU": metric.compute().metrics()["miou"]}


KINDS: dict[str, Callable[[LabeledImages, Metadata], QuantizationData]] = {
    "classify": ClassificationImages,
    "detect": DetectionImages,
    "segment": SegmentationImages,
}
"""The images of each task."""


class _ClassifierBatches(Sequence[tuple[np.ndarray, np.ndarray]]):
    """A sequence of (input, labels) as a file takes them, created on access.

    Args:
        metadata: metadata of the file; a fixed batch size is used.
        images: labeled images; the last one is repeated to fill the last batch.
    """

    def __init__(self, metadata: Metadata, images: ClassificationSet):
        preprocessing = metadata.preprocessing
        assert preprocessing is not None
        self.metadata, self.size = metadata, metadata.batch or 1
        self.dataset = ClassificationDataset(images, preprocessing.transform())

    def __len__(self) -> int:
        return -(-len(self.dataset) // self.size)

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        if index >= len(self):
            raise IndexError(index)
        places = [min(index * self.size + i, len(self.dataset) - 1) for i in range(self.size)]
        images, labels, _ = zip(*(self.dataset[place] for place in places), strict=True)
        return file_input(torch.stack(images), self.metadata).numpy(), np.array(labels)


class _DenseInputs(Sequence[tuple[np.ndarray, np.ndarray]]):
    """A sequence of inputs of a detector or segmenter, without labels, created on access.

    Args:
        images: training images; some are chosen.
        metadata: metadata of the file; an image is repeated to fill a fixed batch size.
        fit: from an image (C, H, W) to the input of the file.
    """

    def __init__(self, images: DetectionSet | SegmentationSet, metadata: Metadata, fit: Callable[[Tensor], Tensor]):
        self.images, self.metadata, self.fit = images.subset(_chosen(len(images))), metadata, fit

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        if index >= len(self):
            raise IndexError(index)
        fitted = self.fit(pixels_to_tensor(self.images.pixels(index)))
        batch = fitted.expand(self.metadata.batch or 1, -1, -1, -1)
        return file_input(batch, self.metadata).numpy(), np.zeros(0)


def _chosen(count: int) -> np.ndarray:
    """Random positions of the images to calibrate on."""
    return np.sort(np.random.default_rng(0).permutation(count)[:CALIBRATION])
