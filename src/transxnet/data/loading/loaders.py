"""Data loaders with this package's settings, for training and evaluation."""

import signal

import torch
from torch.utils.data import DataLoader, Dataset, IterableDataset, Sampler

from transxnet.data.loading.samplers import ShareSampler


def make_loader(
    dataset: Dataset, batch_size: int, workers: int, sampler: Sampler | None = None, drop_last: bool = False
) -> DataLoader:
    """Create a data loader with the dataset's ``collate`` function, or PyTorch's default."""
    return DataLoader(
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


def evaluation_loader(dataset: Dataset, batch_size: int, workers: int) -> DataLoader:
    """Create a data loader of every item once, in order, sharded over the processes without padding."""
    if isinstance(dataset, IterableDataset):  # it shards its items itself
        return make_loader(dataset, batch_size, workers)
    return make_loader(dataset, batch_size, workers, ShareSampler(len(dataset)))  # type: ignore[arg-type]


def ignore_signals(worker: int) -> None:
    """Ignore Ctrl-C and SIGTERM in a worker; the training process needs its workers for an orderly shutdown."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
