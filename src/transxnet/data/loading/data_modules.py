"""Lightning data modules of the three tasks, resumable in the middle of an epoch."""

from abc import abstractmethod
from collections.abc import Callable
from typing import Any

import numpy as np
from lightning.pytorch import LightningDataModule
from torch.utils.data import DataLoader, Dataset

from transxnet.data.datasets.classification_dataset import ClassificationDataset, ClassificationSet
from transxnet.data.datasets.detection_dataset import DetectionDataset, DetectionSet
from transxnet.data.datasets.segmentation_dataset import SegmentationDataset, SegmentationSet
from transxnet.data.formats.timm_readers import Stream
from transxnet.data.loading.loaders import evaluation_loader, make_loader
from transxnet.data.loading.preprocessing import Transform
from transxnet.data.loading.samplers import AspectRatioSampler, EpochSampler, WeightedSampler


class ResumableData(LightningDataModule):
    """Training and validation batches.

    The position within an epoch is saved in the checkpoint, so a resumed run continues with the rest of the epoch.

    Args:
        train: training images.
        val: validation images.
        batch_size: images per batch and process.
        workers: processes that decode and augment; 0 uses the training process.
        seed: seed of the order and the augmentation.
    """

    def __init__(self, train: Any, val: Any, batch_size: int, workers: int, seed: int):
        super().__init__()
        self.train, self.val = train, val
        self.batch_size, self.workers, self.seed = batch_size, workers, seed
        self._resumed = {"epoch": 0, "batches_done": 0}

    @abstractmethod
    def train_dataset(self) -> Dataset:
        """The augmented training images."""

    @abstractmethod
    def val_dataset(self) -> Dataset:
        """The validation images."""

    def train_sampler(self) -> EpochSampler:
        """The sampler of the training images."""
        return EpochSampler(len(self.train), self.batch_size, self.seed)

    def train_dataloader(self) -> DataLoader:
        """Shuffled batches; the incomplete last batch is dropped."""
        sampler = self.train_sampler()
        sampler.resume(**self._resumed)
        return make_loader(self.train_dataset(), self.batch_size, self.workers, sampler, drop_last=True)

    def val_dataloader(self) -> DataLoader:
        """All validation images, once each."""
        return evaluation_loader(self.val_dataset(), self.batch_size, self.workers)

    def state_dict(self) -> dict[str, Any]:
        """The epoch to resume, and the number of its batches that are done."""
        if self.trainer is None:
            return self._resumed
        loop = self.trainer.fit_loop
        epochs = loop.epoch_progress.state_dict()["current"]
        epoch, batches = epochs["processed"], loop.epoch_loop.batch_progress.state_dict()["current"]["processed"]
        if epochs["started"] == epoch:  # the batches still belong to the previous epoch
            return {"epoch": epoch, "batches_done": 0}
        return {"epoch": epoch, "batches_done": batches}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the position in the epoch."""
        self._resumed = state_dict


class ClassificationData(ResumableData):
    """Training and validation batches: images (B, 3, S, S) float32, labels (B,), positions (B,).

    Args:
        train: training images.
        val: validation images.
        train_transform: transform of training images.
        val_transform: transform of validation images.
        batch_size: images per batch and process.
        workers: processes that decode and augment; 0 uses the training process.
        seed: seed of the order and the augmentation.
        probabilities: (N,) probability of each training image in a weighted sampling with replacement; by default each
            is drawn once in an epoch.
    """

    def __init__(
        self,
        train: ClassificationSet | Stream,
        val: ClassificationSet | Stream,
        train_transform: Transform,
        val_transform: Transform,
        batch_size: int,
        workers: int,
        seed: int,
        probabilities: np.ndarray | None = None,
    ):
        super().__init__(train, val, batch_size, workers, seed)
        self.train_transform, self.val_transform = train_transform, val_transform
        self.probabilities = probabilities

    def train_sampler(self) -> EpochSampler:
        """The sampler of the training images."""
        if self.probabilities is not None:
            return WeightedSampler(self.probabilities, self.batch_size, self.seed)
        return super().train_sampler()

    def train_dataset(self) -> Dataset:
        """Augmented images and labels; a stream shuffles itself, starting at the resumed epoch."""
        if isinstance(self.train, Stream):
            return self.train.training_dataset(
                self.train_transform, self.batch_size, self.workers, self.seed, first_epoch=self._resumed["epoch"]
            )
        return ClassificationDataset(self.train, self.train_transform)

    def val_dataset(self) -> Dataset:
        """Preprocessed images and labels."""
        return self.val.evaluation_dataset(self.val_transform)

    def train_dataloader(self) -> DataLoader:
        """Shuffled batches; the incomplete last batch is dropped."""
        if isinstance(self.train, Stream):
            return make_loader(self.train_dataset(), self.batch_size, self.workers, drop_last=True)
        return super().train_dataloader()


class DetectionData(ResumableData):
    """Training and validation batches: lists of B images (3, H, W) uint8 and of B targets.

    Targets are as :meth:`DetectionSet.target` returns them; training targets exclude crowds.

    Args:
        train: training images.
        val: validation images.
        train_transform: transform of training images and targets, such as
            :func:`~transxnet.data.loading.dense_transforms.detection_training`.
        batch_size: images per batch and process.
        workers: processes that decode and augment; 0 uses the training process.
        seed: seed of the order and the augmentation.
        masks: include the objects' masks.
        group_by_aspect: make batches of only landscape or only portrait images.
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
        super().__init__(train, val, batch_size, workers, seed)
        self.train_transform, self.masks, self.group_by_aspect = train_transform, masks, group_by_aspect

    def train_dataset(self) -> Dataset:
        """Augmented images and targets without crowds."""
        return DetectionDataset(self.train, self.train_transform, masks=self.masks, crowds=False)

    def val_dataset(self) -> Dataset:
        """Images and targets with crowds."""
        return DetectionDataset(self.val, masks=self.masks)

    def train_sampler(self) -> EpochSampler:
        """The sampler of the training images."""
        if self.group_by_aspect:
            return AspectRatioSampler(self.train.own_sizes, self.batch_size, self.seed)
        return super().train_sampler()


class SegmentationData(ResumableData):
    """Training and validation batches of images and labels.

    Training: images (B, 3, S, S) uint8, labels (B, S, S) uint8, positions (B,). Validation: lists of B images (3, h, w)
    as resized by the transform and of B label maps (H, W) at the images' original size; positions (B,).

    Args:
        train: training images.
        val: validation images.
        train_transform: transform of training images and labels to one size, such as
            :func:`~transxnet.data.loading.dense_transforms.segmentation_training`.
        val_transform: transform of validation images and labels, such as
            :class:`~transxnet.data.loading.dense_transforms.AlignedResize`; None if tiles are resized later.
        batch_size: images per batch and process.
        workers: processes that decode and augment; 0 uses the training process.
        seed: seed of the order and the augmentation.
    """

    def __init__(
        self,
        train: SegmentationSet,
        val: SegmentationSet,
        train_transform: Callable,
        val_transform: Callable | None,
        batch_size: int,
        workers: int,
        seed: int,
    ):
        super().__init__(train, val, batch_size, workers, seed)
        self.train_transform, self.val_transform = train_transform, val_transform

    def train_dataset(self) -> Dataset:
        """Augmented images and labels of one size."""
        return SegmentationDataset(self.train, self.train_transform, one_size=True)

    def val_dataset(self) -> Dataset:
        """Resized images, and labels at the images' original size."""
        return SegmentationDataset(self.val, self.val_transform)
