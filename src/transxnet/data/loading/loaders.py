"""Data loaders with this package's settings, for training and evaluation."""

import atexit
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from weakref import WeakSet

import torch
from torch.utils.data import DataLoader, Dataset, IterableDataset, Sampler

from transxnet.data.loading.samplers import ShareSampler
from transxnet.utils.errors import UserError

_LOADERS: WeakSet[DataLoader] = WeakSet()
"""The loaders with workers."""


def make_loader(
    dataset: Dataset, batch_size: int, workers: int, sampler: Sampler | None = None, drop_last: bool = False
) -> DataLoader:
    """Create a data loader with the dataset's ``collate`` function, or PyTorch's default."""
    loader = DataLoader(
        dataset,
        batch_size,
        sampler=sampler,
        num_workers=workers,
        collate_fn=getattr(dataset, "collate", None),
        drop_last=drop_last,
        pin_memory=torch.cuda.is_available(),
        persistent_workers=workers > 0,
        worker_init_fn=ignore_signals,
    )
    if workers:
        _LOADERS.add(loader)
    return loader


def evaluation_loader(dataset: Dataset, batch_size: int, workers: int) -> DataLoader:
    """Create a data loader of every item once, in order, sharded over the processes without padding."""
    if isinstance(dataset, IterableDataset):  # it shards its items itself
        return make_loader(dataset, batch_size, workers)
    return make_loader(dataset, batch_size, workers, ShareSampler(len(dataset)))  # type: ignore[arg-type]


def ignore_signals(worker: int) -> None:
    """Ignore Ctrl-C and SIGTERM in a worker; the training process needs its workers for an orderly shutdown."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)


@atexit.register
def _close_loaders() -> None:
    """End the workers of the loaders that are open when Python exits.

    A loader is open after an interrupted validation, or a loop that a script left early. Python would send SIGTERM to
    its workers, which they ignore, and wait for them forever.
    """
    for loader in _LOADERS:
        if loader._iterator is not None:
            loader._iterator._shutdown_workers()  # type: ignore[attr-defined]


@contextmanager
def explain_worker_errors() -> Iterator[None]:
    """Explain errors of data loading processes that ran out of shared memory, as in containers with a small /dev/shm.

    Raises:
        UserError: instead of PyTorch's error.
    """
    try:
        yield
    except RuntimeError as error:
        if known := describe_worker_error(error):
            raise known from error
        raise


def explained(loader: DataLoader) -> Iterator[Any]:
    """Iterate over the batches of a loader, with explained errors."""
    with explain_worker_errors():
        yield from loader


def describe_worker_error(error: Exception) -> UserError | None:
    """Describe the error of a data loading process that ran out of shared memory; None for any other error."""
    if not any(text in str(error).lower() for text in ("shared memory", "(shm)", "bus error")):
        return None
    return UserError(
        "the data loading processes ran out of shared memory: /dev/shm is too small. Use --workers 0, or enlarge "
        "/dev/shm (Docker's option shm-size)."
    )
