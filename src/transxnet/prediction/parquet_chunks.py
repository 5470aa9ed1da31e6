"""Classify the images of a chunk and write a Parquet file: the columns, the tables and the loader."""

from collections.abc import Iterator, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from transxnet.data.datasets.unlabeled_dataset import Read, load_or_error
from transxnet.data.loading.loaders import explained
from transxnet.data.loading.preprocessing import Transform
from transxnet.data.reading.tar_shards import ImageLocation
from transxnet.prediction.classifier_tables import ClassifierTable, classifier_table
from transxnet.prediction.image_results import classifier_prediction
from transxnet.prediction.loaded_model import LoadedModel
from transxnet.prediction.work_folder import PredictionSettings, WorkFolder
from transxnet.utils.files import write_atomic

if TYPE_CHECKING:
    import pyarrow as pa

Batch = tuple[int, list[str], list[str | None], Tensor]
"""Number of the chunk, names of the images, errors of unreadable images, and tensors of the readable ones."""


def parquet_schema(table: ClassifierTable, embed: str | None) -> "pa.Schema":
    """Return the schema: path, the columns of the table, embedding if requested, error."""
    import pyarrow as pa

    types = {"string": pa.string(), "float32": pa.float32(), "list<string>": pa.list_(pa.string())}
    columns = [("path", pa.string()), *((_as_utf8(name), types[type]) for name, type in table.columns)]
    if embed is not None:
        columns.append(("embedding", pa.list_(pa.type_for_alias(embed))))
    return pa.schema([*columns, ("error", pa.string())])


def predict_chunks(classifier: LoadedModel, work: WorkFolder, chunks: Sequence[int], workers: int) -> Iterator[int]:
    """Classify chunks in order and write each when it is complete; yields the number of images of each batch.

    The batches of a chunk do not depend on earlier chunks or the number of workers, so neither do its results.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    dataset = _ChunksDataset(work, chunks, classifier.backend.prepare, classifier.backend.read)
    tables: list[pa.Table] = []
    for chunk, names, errors, images in explained(DataLoader(dataset, batch_size=None, num_workers=workers)):
        tables.append(_batch_table(classifier, work.settings, names, errors, images))
        if sum(map(len, tables)) == work.chunks[chunk][1]:
            complete = pa.concat_tables(tables)
            write_atomic(work.chunk_file(chunk), lambda path, table=complete: pq.write_table(table, path))  # type: ignore[misc]
            tables = []
        yield len(names)


class _ChunksDataset(IterableDataset):
    """Batches of chunks. Each of n workers loads every n-th batch; the loader's round-robin order keeps the order."""

    def __init__(self, work: WorkFolder, chunks: Sequence[int], transform: Transform, read: Read):
        self.work, self.chunks, self.transform, self.read = work, chunks, transform, read

    def __iter__(self) -> Iterator[Batch]:
        worker = get_worker_info()
        number, workers = (worker.id, worker.num_workers) if worker else (0, 1)
        batches = ((chunk, lines) for chunk in self.chunks for lines in self.work.batches(chunk))
        for chunk, lines in islice(batches, number, None, workers):
            yield self._batch(chunk, lines)

    def _batch(self, chunk: int, lines: Sequence[bytes]) -> Batch:
        sources = [ImageLocation.from_line(line) for line in lines]
        root = self.work.settings.root
        decoded_images = [load_or_error(source, self.transform, root, self.read) for source in sources]
        readable = [image for image, _ in decoded_images if image is not None]
        stacked = torch.stack(readable) if readable else torch.empty(0)
        return chunk, [source.name for source in sources], [error for _, error in decoded_images], stacked


def _batch_table(
    classifier: LoadedModel,
    settings: PredictionSettings,
    names: Sequence[str],
    errors: Sequence[str | None],
    images: Tensor,
) -> "pa.Table":
    """Return the rows of a batch; rows of unreadable images are null except for their error."""
    import pyarrow as pa

    unread = np.array([error is not None for error in errors])
    stored = classifier_table(classifier.targets, classifier.class_names, settings.top_k)
    rows: list[list[Any]] = []
    features: np.ndarray = np.zeros(0, np.float32)
    if len(images):
        outputs, pooled = classifier.backend.predict(images, settings.embed is not None)
        read = (name for name, error in zip(names, errors, strict=True) if error is None)
        rows = [
            stored.values(classifier_prediction(classifier.targets, classifier.class_names, name, row))
            for name, row in zip(read, outputs.numpy(), strict=True)
        ]
        if pooled is not None:
            features = pooled.numpy()
    schema = parquet_schema(stored, settings.embed)
    columns: dict[str, Any] = {
        "path": [_as_utf8(name) for name in names],
        "error": [error and _as_utf8(error) for error in errors],
    }
    for i, (name, _) in enumerate(stored.columns):
        values = iter(rows)
        column = [None if error is not None else _utf8_value(next(values)[i]) for error in errors]
        columns[_as_utf8(name)] = pa.array(column, schema.field(_as_utf8(name)).type)
    if settings.embed is not None:
        columns["embedding"] = _list_column(features, unread, settings.embed)
    return pa.table([columns[name] for name in schema.names], schema=schema)


def _list_column(features: np.ndarray, unread: np.ndarray, dtype: str) -> "pa.Array":
    """Return a column with a list for each readable image, and null for the others."""
    import pyarrow as pa

    width = features.shape[1] if features.ndim == 2 else 0
    offsets = np.concatenate([[0], np.cumsum(~unread) * width]).astype(np.int32)
    values = pa.array(features.astype(dtype).ravel())
    return pa.ListArray.from_arrays(offsets, values, mask=pa.array(unread))


def _as_utf8(name: str) -> str:
    """Convert a file name, which may contain bytes that are not text, to valid UTF-8 for Parquet."""
    return name.encode("utf-8", "backslashreplace").decode()


def _utf8_value(value: Any) -> Any:
    """Convert the text in a value of a column."""
    if isinstance(value, list):
        return [_as_utf8(name) for name in value]
    return _as_utf8(value) if isinstance(value, str) else value
