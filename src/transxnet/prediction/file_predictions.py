"""Predict for image files, folders, globs and shards, in order and in constant memory."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from torch import Tensor
from torch.utils.data import DataLoader

from transxnet.data.datasets.unlabeled_dataset import UnlabeledDataset, describe_image_error
from transxnet.data.loading.loaders import explained
from transxnet.data.reading.image_search import Inputs
from transxnet.data.reading.pixels import displayed
from transxnet.prediction.image_results import ImagePrediction
from transxnet.prediction.loaded_model import LoadedModel


@dataclass(frozen=True)
class FilePrediction:
    """The prediction for one file.

    Attributes:
        path: path of the file, or ``SHARD!MEMBER``.
        result: classes, detected objects or label map; None if there is an error.
        error: error if the image could not be read or processed, or None.
    """

    path: str
    result: ImagePrediction | None
    error: str | None = None


def predict_files(
    model: LoadedModel, inputs: Inputs, batch_size: int = 32, workers: int = 0
) -> Iterator[FilePrediction]:
    """Predict for the images of files, folders, globs and shards, in order and in constant memory.

    Args:
        model: the model.
        inputs: as for :func:`~transxnet.data.reading.image_search.find_images`.
        batch_size: images per batch of a classifier; other models process images one by one.
        workers: number of data loading processes.
    """
    classify = model.task == "classify"
    if not classify:
        batch_size = 1
    dataset = UnlabeledDataset(inputs, model.backend.prepare, batch_size, model.backend.read)
    for batch in explained(DataLoader(dataset, batch_size, num_workers=workers, collate_fn=list)):
        readable = [(name, tensor) for name, tensor, _ in batch if tensor is not None]
        # The pixels of a detector's or segmenter's image are the image itself, which is drawn on.
        sources = [name if classify else displayed(tensor) for name, tensor in readable]
        results = iter(_results(model, [tensor for _, tensor in readable], sources))
        for name, _, error in batch:
            result = None if error is not None else next(results)
            yield FilePrediction(name, *((None, result) if isinstance(result, str) else (result, error)))


def _results(model: LoadedModel, tensors: list[Tensor], sources: list) -> Sequence[ImagePrediction | str]:
    """The result of each image; of a single image of any size, a string with the error."""
    if not tensors:
        return []
    try:
        return model.results(tensors, sources)
    except (RuntimeError, MemoryError) as error:  # a detector's or segmenter's memory grows with the image
        if model.task == "classify":
            raise
        return [describe_image_error(error)]
