"""Batches for Lightning's trainer."""

import signal
from typing import Any

import torch
from lightning.pytorch import LightningDataModule
from torch.utils.data import DataLoader, Dataset, Sampler

from transxnet.data.image_set import ClassificationDataset, ImageSet
from transxnet.data.readers import Stream
from transxnet.data.sampler import EpochSampler, ShareSampler
from transxnet.data.sources import Source
from transxnet.data.transforms import Transform


class ClassificationData(LightningDataModule):
    """Training and validation batches: images (B, 3, S, S) float32, labels (B,), positions (B,).

    Where an interrupted epoch stood travels in the checkpoint, so that a resumed run draws what is left of it.

    Args:
        source: the images.
        train_transform: of training pictures.
        val_transform: of held-out pictures.
        batch_size: images a batch and process.
        workers: processes that decode and augment; 0 does it in the training process.
        seed: of order and augmentation.
    """

    def __init__(
        self,
        source: Source,
        train_transform: Transform,
        val_transform: Transform,
        batch_size: int,
        workers: int,
        seed: int,
    ):
        super().__init__()
        self.source, self.batch_size, self.workers, self.seed = source, batch_size, workers, seed
        self.train_transform, self.val_transform = train_transform, val_transform
        self._resumed = {"epoch": 0, "batches_done": 0}

    def train_dataloader(self) -> DataLoader:
        """Shuffled batches; the tail that fills no batch is left out."""
        images = self.source.train
        if isinstance(images, Stream):
            dataset: Dataset = images.training_dataset(
                self.train_transform, self.batch_size, self.workers, self.seed, first_epoch=self._resumed["epoch"]
            )
            return make_loader(dataset, self.batch_size, self.workers, drop_last=True)
        sampler = EpochSampler(len(images), self.batch_size, self.seed)
        sampler.resume(**self._resumed)
        dataset = ClassificationDataset(images, self.train_transform)
        return make_loader(dataset, self.batch_size, self.workers, sampler=sampler, drop_last=True)

    def val_dataloader(self) -> DataLoader:
        """The held-out images, each once."""
        return evaluation_loader(self.source.val, self.val_transform, self.batch_size, self.workers)

    def state_dict(self) -> dict[str, Any]:
        """The epoch to go on with, and how far it has come."""
        if self.trainer is None:
            return self._resumed
        loop = self.trainer.fit_loop
        epochs = loop.epoch_progress.state_dict()["current"]
        epoch, batches = epochs["processed"], loop.epoch_loop.batch_progress.state_dict()["current"]["processed"]
        if epochs["started"] == epoch:  # the batches are still those of the epoch before
            return {"epoch": epoch, "batches_done": 0}
        return {"epoch": epoch, "batches_done": batches}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from there."""
        self._resumed = state_dict


def evaluation_loader(images: ImageSet | Stream, transform: Transform, batch_size: int, workers: int) -> DataLoader:
    """Every image once, in order; shared out over the processes without padding."""
    if isinstance(images, Stream):
        return make_loader(images.evaluation_dataset(transform), batch_size, workers)
    dataset = ClassificationDataset(images, transform)
    return make_loader(dataset, batch_size, workers, sampler=ShareSampler(len(images)))


def make_loader(
    dataset: Dataset, batch_size: int, workers: int, sampler: Sampler | None = None, drop_last: bool = False
) -> DataLoader:
    """A loader with this package's settings."""
    return DataLoader(
        dataset,
        batch_size,
        sampler=sampler,
        num_workers=workers,
        drop_last=drop_last,
        pin_memory=torch.cuda.is_available(),
        persistent_workers=workers > 0,
        worker_init_fn=outlive_signals,
    )


def outlive_signals(worker: int) -> None:
    """Leave Ctrl-C and a cluster's SIGTERM to the training process, which still needs its workers to stop in order."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
