"""Data loaders with this package's settings, for training and for evaluation."""

import signal

import torch
from torch.utils.data import DataLoader, Dataset, IterableDataset, Sampler

from transxnet.data.loading.samplers import ShareSampler


def make_loader(
    dataset: Dataset, batch_size: int, workers: int, sampler: Sampler | None = None, drop_last: bool = False
) -> DataLoader:
    """A loader that makes batches as the dataset's ``collate`` does, by PyTorch's default where it has none."""
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
    """Every item once, in order; shared by the processes without padding."""
    if isinstance(dataset, IterableDataset):  # it shares its items itself
        return make_loader(dataset, batch_size, workers)
    return make_loader(dataset, batch_size, workers, ShareSampler(len(dataset)))  # type: ignore[arg-type]


def ignore_signals(worker: int) -> None:
    """Leave Ctrl-C and a cluster's SIGTERM to the training process, which still needs its workers to stop in order."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
