"""The classes, and on request the features, of the images of a piece as a table."""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from transxnet.data.datasets.unlabeled_dataset import load_or_error
from transxnet.data.loading.preprocessing import Transform
from transxnet.prediction.classifier_backends import Predictor
from transxnet.prediction.work_folder import Job, Work
from transxnet.utils.files import write_atomic

if TYPE_CHECKING:
    import pyarrow as pa

Batch = tuple[int, list[str], list[str | None], Tensor]
"""A piece's number, the names of some of its images, why each could not be read, and the tensors of the others."""


def schema_of(job: Job) -> "pa.Schema":
    """The columns: path, class1, probability1 and so on, embedding on request, error."""
    import pyarrow as pa

    pairs = [(f"class{i}", pa.string()) for i in range(1, job.top_k + 1)]
    shares = [(f"probability{i}", pa.float32()) for i in range(1, job.top_k + 1)]
    columns = [("path", pa.string()), *(column for pair in zip(pairs, shares, strict=True) for column in pair)]
    if job.embed is not None:
        columns.append(("embedding", pa.list_(pa.type_for_alias(job.embed))))
    return pa.schema([*columns, ("error", pa.string())])


def predict_pieces(predictor: Predictor, work: Work, pieces: Sequence[int], workers: int) -> Iterator[int]:
    """Do pieces in order and write each when it is whole; after each batch, the number of images in it.

    Each piece is cut into the same batches whichever pieces come before it and whoever decodes, so that its results do
    not depend on them.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    dataset = _PiecesDataset(work, pieces, predictor.preprocessing.transform())
    loader = DataLoader(dataset, batch_size=None, num_workers=workers)
    tables: list[pa.Table] = []
    for piece, names, errors, tensors in loader:
        tables.append(_table(predictor, work.job, names, errors, tensors))
        if sum(map(len, tables)) == work.pieces[piece][1]:
            whole = pa.concat_tables(tables)
            write_atomic(work.piece_file(piece), lambda path, whole=whole: pq.write_table(whole, path))  # type: ignore[misc]
            tables = []
        yield len(names)


class _PiecesDataset(IterableDataset):
    """Batches of pieces. Of n workers each takes every n-th; the loader, which asks them in turn, keeps the order."""

    def __init__(self, work: Work, pieces: Sequence[int], transform: Transform):
        self.work, self.pieces, self.transform = work, pieces, transform

    def __iter__(self) -> Iterator[Batch]:
        worker = get_worker_info()
        number, workers = (worker.id, worker.num_workers) if worker else (0, 1)
        batches = ((piece, lines) for piece in self.pieces for lines in self.work.batches(piece))
        for i, (piece, lines) in enumerate(batches):
            if i % workers == number:
                yield self._batch(piece, lines)

    def _batch(self, piece: int, lines: Sequence[bytes]) -> Batch:
        sources = self.work.sources(lines)
        pairs = [load_or_error(source, self.transform, self.work.job.root) for source in sources]
        tensors = [tensor for tensor, _ in pairs if tensor is not None]
        stacked = torch.stack(tensors) if tensors else torch.empty(0)
        return piece, [source.name for source in sources], [error for _, error in pairs], stacked


def _table(
    predictor: Predictor, job: Job, names: Sequence[str], errors: Sequence[str | None], tensors: Tensor
) -> "pa.Table":
    """What is said of a batch, unreadable images among it."""
    import pyarrow as pa

    unread = np.array([error is not None for error in errors])
    columns: dict[str, Any] = {
        "path": [_text(name) for name in names],
        "error": [error and _text(error) for error in errors],
    }
    shares = np.zeros((len(names), job.top_k), np.float32)
    which = np.zeros((len(names), job.top_k), np.int32)
    features: np.ndarray = np.zeros(0, np.float32)
    if len(tensors):
        logits, embedding = predictor.answer(tensors, job.embed is not None)
        values, indices = logits.softmax(dim=1).topk(job.top_k, dim=1)
        shares[~unread], which[~unread] = values.numpy(), indices.numpy()
        if embedding is not None:
            features = embedding.numpy()
    class_names = pa.array([*map(_text, predictor.class_names)], pa.string())
    for i in range(job.top_k):
        columns[f"class{i + 1}"] = class_names.take(pa.array(which[:, i], mask=unread))
        columns[f"probability{i + 1}"] = pa.array(shares[:, i], mask=unread)
    if job.embed is not None:
        columns["embedding"] = _lists(features, unread, job.embed)
    schema = schema_of(job)
    return pa.table([columns[name] for name in schema.names], schema=schema)


def _lists(features: np.ndarray, unread: np.ndarray, embed: str) -> "pa.Array":
    """A list for each image that was read, null for the others."""
    import pyarrow as pa

    width = features.shape[1] if features.ndim == 2 else 0
    offsets = np.concatenate([[0], np.cumsum(~unread) * width]).astype(np.int32)
    values = pa.array(features.astype(embed).ravel())
    return pa.ListArray.from_arrays(offsets, values, mask=pa.array(unread))


def _text(name: str) -> str:
    """A file name, whose bytes need not be text, as a Parquet file can hold it."""
    return name.encode("utf-8", "backslashreplace").decode()
