"""Batches of photographs with objects or label maps, for Lightning's trainer."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from lightning.pytorch import LightningDataModule
from torch.utils.data import DataLoader, Dataset, Sampler

from transxnet.data.aspect_sampler import AspectRatioSampler
from transxnet.data.detection_set import DetectionDataset, DetectionSet, collate_detection
from transxnet.data.module import outlive_signals
from transxnet.data.sampler import EpochSampler, ShareSampler
from transxnet.data.segmentation_set import SegmentationDataset, SegmentationSet, collate_pairs, collate_sizes


class _ResumableData(LightningDataModule):
    """Where an interrupted epoch stood travels in the checkpoint, so that a resumed run draws what is left of it."""

    def __init__(self) -> None:
        super().__init__()
        self._resumed = {"epoch": 0, "batches_done": 0}

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


class DetectionData(_ResumableData):
    """Training and validation batches: lists of B images (3, H, W) uint8 and of B targets.

    Targets are as :meth:`DetectionSet.target` says; in training without crowds. Where an interrupted epoch stood
    travels in the checkpoint.

    Args:
        train: images to train on.
        val: images held out.
        train_transform: of training images and targets, such as
            :func:`~transxnet.data.dense_transforms.detection_training` makes it.
        batch_size: images a batch and process.
        workers: processes that decode and augment; 0 does it in the training process.
        seed: of order and augmentation.
        masks: give the objects' masks as well.
        group_by_aspect: make batches of wide or of upright images only.
    """

    def __init__(
        self,
        train: DetectionSet,
        val: DetectionSet,
        train_transform: Callable,
        batch_size: int,
        workers: int,
        seed: int,
        *,
        masks: bool = False,
        group_by_aspect: bool = True,
    ):
        super().__init__()
        self.train, self.val, self.train_transform = train, val, train_transform
        self.batch_size, self.workers, self.seed = batch_size, workers, seed
        self.masks, self.group_by_aspect = masks, group_by_aspect

    def train_dataloader(self) -> DataLoader:
        """Shuffled batches; the tail that fills no batch is left out."""
        if self.group_by_aspect:
            sampler: EpochSampler = AspectRatioSampler(self.train.own_sizes, self.batch_size, self.seed)
        else:
            sampler = EpochSampler(len(self.train), self.batch_size, self.seed)
        sampler.resume(**self._resumed)
        dataset = DetectionDataset(self.train, self.train_transform, masks=self.masks, crowds=False)
        return _loader(dataset, self.batch_size, self.workers, sampler, collate_detection, drop_last=True)

    def val_dataloader(self) -> DataLoader:
        """The held-out images, each once, with their crowds."""
        return detection_loader(self.val, self.batch_size, self.workers, masks=self.masks)


class SegmentationData(_ResumableData):
    """Training and validation batches of photographs and labels.

    In training: images (B, 3, S, S) uint8, labels (B, S, S) uint8 and positions (B,). In validation: lists of B images
    (3, h, w), as the transform resizes them, and of B label maps (H, W), in the photographs' own size; positions (B,).
    Where an interrupted epoch stood travels in the checkpoint.

    Args:
        train: photographs to train on.
        val: photographs held out.
        train_transform: of training photographs and labels, to one size, such as
            :func:`~transxnet.data.dense_transforms.segmentation_training` makes it.
        val_transform: of held-out photographs and labels, such as
            :class:`~transxnet.data.dense_transforms.AlignedResize`.
        batch_size: photographs a batch and process.
        workers: processes that decode and augment; 0 does it in the training process.
        seed: of order and augmentation.
    """

    def __init__(
        self,
        train: SegmentationSet,
        val: SegmentationSet,
        train_transform: Callable,
        val_transform: Callable,
        batch_size: int,
        workers: int,
        seed: int,
    ):
        super().__init__()
        self.train, self.val, self.train_transform, self.val_transform = train, val, train_transform, val_transform
        self.batch_size, self.workers, self.seed = batch_size, workers, seed

    def train_dataloader(self) -> DataLoader:
        """Shuffled batches; the tail that fills no batch is left out."""
        sampler = EpochSampler(len(self.train), self.batch_size, self.seed)
        sampler.resume(**self._resumed)
        dataset = SegmentationDataset(self.train, self.train_transform)
        return _loader(dataset, self.batch_size, self.workers, sampler, collate_pairs, drop_last=True)

    def val_dataloader(self) -> DataLoader:
        """The held-out photographs, each once."""
        return segmentation_loader(self.val, self.val_transform, self.batch_size, self.workers)


def detection_loader(images: DetectionSet, batch_size: int, workers: int, *, masks: bool = False) -> DataLoader:
    """Every image once, in order and in its own size, with crowds; shared out over the processes without padding."""
    dataset = DetectionDataset(images, masks=masks)
    return _loader(dataset, batch_size, workers, ShareSampler(len(images)), collate_detection)


def segmentation_loader(images: SegmentationSet, transform: Callable, batch_size: int, workers: int) -> DataLoader:
    """Every photograph once, in order; shared out over the processes without padding."""
    dataset = SegmentationDataset(images, transform)
    return _loader(dataset, batch_size, workers, ShareSampler(len(images)), collate_sizes)


def _loader(
    dataset: Dataset,
    batch_size: int,
    workers: int,
    sampler: Sampler,
    collate: Callable[[Sequence[Any]], Any],
    drop_last: bool = False,
) -> DataLoader:
    return DataLoader(
        dataset,
        batch_size,
        sampler=sampler,
        num_workers=workers,
        collate_fn=collate,
        drop_last=drop_last,
        pin_memory=torch.cuda.is_available(),
        persistent_workers=workers > 0,
        worker_init_fn=outlive_signals,
    )
