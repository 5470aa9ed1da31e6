"""Run a trained model or an exported file over labeled images and compute its metrics."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import torch

from transxnet.data.datasets.classification_dataset import ClassificationSet
from transxnet.data.datasets.detection_dataset import DetectionDataset, DetectionSet
from transxnet.data.datasets.segmentation_dataset import SegmentationDataset, SegmentationSet
from transxnet.data.formats.timm_readers import Stream
from transxnet.data.loading.loaders import evaluation_loader, explain_worker_errors
from transxnet.evaluation.inference_backends import InferenceBackend
from transxnet.metrics.detection import DetectionEvaluation, DetectionMetric
from transxnet.metrics.embeddings import EmbeddingEvaluation
from transxnet.metrics.segmentation import SegmentationEvaluation, SegmentationMetric
from transxnet.metrics.targets import ClassifierEvaluation

AnyEvaluation = ClassifierEvaluation | DetectionEvaluation | SegmentationEvaluation | EmbeddingEvaluation
"""The results of :func:`run_evaluation`."""


@explain_worker_errors()
def run_evaluation(
    backend: InferenceBackend,
    images: ClassificationSet | Stream | DetectionSet | SegmentationSet,
    batch_size: int,
    workers: int,
    progress: Callable[[int], Any] = lambda done: None,
) -> AnyEvaluation:
    """Run a model over labeled images and compute its metrics.

    Args:
        backend: computes the outputs of a classifier, detector, segmenter or pretrained network.
        images: images for the model's task, with its classes.
        batch_size: images per batch.
        workers: number of data loading processes.
        progress: called with the number of images done.
    """
    backend.start()
    if isinstance(images, DetectionSet):
        detection = DetectionMetric(images, backend.masks)
        detection_data = DetectionDataset(images, masks=backend.masks)
        for batch, targets in _report(progress, evaluation_loader(detection_data, batch_size, workers)):
            detection.update([backend.detector_output(image) for image in batch], targets)
        return detection.compute()
    if isinstance(images, SegmentationSet):
        segmentation = SegmentationMetric(images)
        for batch, labels, _ in _report(progress, evaluation_loader(SegmentationDataset(images), batch_size, workers)):
            for image, true in zip(batch, labels, strict=True):
                segmentation.update(backend.segment(image), true.numpy())
        return segmentation.compute()
    dataset = images.evaluation_dataset(backend.prepare)
    loader = evaluation_loader(dataset, batch_size if backend.batches else 1, workers)
    if backend.task == "pretrain":
        embedded = [
            (backend.classify(batch, features=True)[1], labels) for batch, labels, _ in _report(progress, loader)
        ]
        features, true = (torch.cat(parts).numpy() for parts in zip(*embedded, strict=True))
        return EmbeddingEvaluation(features, images.class_names, true)
    results = [(backend.predict(batch)[0], labels, positions) for batch, labels, positions in _report(progress, loader)]
    predicted, labels, positions = (torch.cat(parts).numpy() for parts in zip(*results, strict=True))
    if isinstance(images, ClassificationSet):
        names, columns = [images.name(i) for i in positions], (images.own_weights, images.own_groups)
    else:
        names, columns = [str(i) for i in positions], (None, None)
    weights, groups = (None if column is None else column[positions] for column in columns)
    return backend.targets.evaluate(list(images.class_names), names, labels, predicted, weights, groups)


def _report(progress: Callable[[int], Any], loader: Iterable[Sequence[Any]]) -> Iterator[Any]:
    """Iterate over the batches of a loader; after each, call ``progress`` with the number of images done."""
    done = 0
    for batch in loader:
        yield batch
        done += len(batch[0])
        progress(done)
