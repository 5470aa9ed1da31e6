"""Lightning data modules of the three tasks, which resume in the middle of an epoch."""

from abc import abstractmethod
from collections.abc import Callable
from typing import Any

from lightning.pytorch import LightningDataModule
from torch.utils.data import DataLoader, Dataset

from transxnet.data.datasets.classification_dataset import ClassificationDataset, ClassificationSet
from transxnet.data.datasets.detection_dataset import DetectionDataset, DetectionSet
from transxnet.data.datasets.segmentation_dataset import SegmentationDataset, SegmentationSet
from transxnet.data.formats.timm_readers import Stream
from transxnet.data.loading.loaders import evaluation_loader, make_loader
from transxnet.data.loading.preprocessing import Transform
from transxnet.data.loading.samplers import AspectRatioSampler, EpochSampler


class ResumableData(LightningDataModule):
    """Training and validation batches.

    The position in an interrupted epoch is saved in the checkpoint, so that a resumed run draws the rest of the epoch.

    Args:
        train: images to train on.
        val: validation images.
        batch_size: images per batch and process.
        workers: processes that decode and augment; 0 does it in the training process.
        seed: of order and augmentation.
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
        """The order of the training images."""
        return EpochSampler(len(self.train), self.batch_size, self.seed)

    def train_dataloader(self) -> DataLoader:
        """Shuffled batches; images that do not fill the last one are dropped."""
        sampler = self.train_sampler()
        sampler.resume(**self._resumed)
        return make_loader(self.train_dataset(), self.batch_size, self.workers, sampler, drop_last=True)

    def val_dataloader(self) -> DataLoader:
        """The validation images, each once."""
        return evaluation_loader(self.val_dataset(), self.batch_size, self.workers)

    def state_dict(self) -> dict[str, Any]:
        """The epoch to resume, and how many of its batches are done."""
        if self.trainer is None:
            return self._resumed
        loop = self.trainer.fit_loop
        epochs = loop.epoch_progress.state_dict()["current"]
        epoch, batches = epochs["processed"], loop.epoch_loop.batch_progress.state_dict()["current"]["processed"]
        if epochs["started"] == epoch:  # the batches are still those of the epoch before
            return {"epoch": epoch, "batches_done": 0}
        return {"epoch": epoch, "batches_done": batches}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Resume there."""
        self._resumed = state_dict


class ClassificationData(ResumableData):
    """Training and validation batches: images (B, 3, S, S) float32, labels (B,), positions (B,).

    Args:
        train: images to train on.
        val: validation images.
        train_transform: of training images.
        val_transform: of validation images.
        batch_size: images per batch and process.
        workers: processes that decode and augment; 0 does it in the training process.
        seed: of order and augmentation.
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
    ):
        super().__init__(train, val, batch_size, workers, seed)
        self.train_transform, self.val_transform = train_transform, val_transform

    def train_dataset(self) -> Dataset:
        """Augmented images and labels; of a stream, which is shuffled by itself, from the resumed epoch on."""
        if isinstance(self.train, Stream):
            return self.train.training_dataset(
                self.train_transform, self.batch_size, self.workers, self.seed, first_epoch=self._resumed["epoch"]
            )
        return ClassificationDataset(self.train, self.train_transform)

    def val_dataset(self) -> Dataset:
        """Preprocessed images and labels."""
        return self.val.evaluation_dataset(self.val_transform)

    def train_dataloader(self) -> DataLoader:
        """Shuffled batches; images that do not fill the last one are dropped."""
        if isinstance(self.train, Stream):
            return make_loader(self.train_dataset(), self.batch_size, self.workers, drop_last=True)
        return super().train_dataloader()


class DetectionData(ResumableData):
    """Training and validation batches: lists of B images (3, H, W) uint8 and of B targets.

    Targets are as :meth:`DetectionSet.target` returns them; in training without crowds.

    Args:
        train: images to train on.
        val: validation images.
        train_transform: of training images and targets, such as
            :func:`~transxnet.data.loading.dense_transforms.detection_training` makes it.
        batch_size: images per batch and process.
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
        super().__init__(train, val, batch_size, workers, seed)
        self.train_transform, self.masks, self.group_by_aspect = train_transform, masks, group_by_aspect

    def train_dataset(self) -> Dataset:
        """Augmented images and targets without crowds."""
        return DetectionDataset(self.train, self.train_transform, masks=self.masks, crowds=False)

    def val_dataset(self) -> Dataset:
        """Images and targets with crowds."""
        return DetectionDataset(self.val, masks=self.masks)

    def train_sampler(self) -> EpochSampler:
        """The order of the training images."""
        if self.group_by_aspect:
            return AspectRatioSampler(self.train.own_sizes, self.batch_size, self.seed)
        return super().train_sampler()


class SegmentationData(ResumableData):
    """Training and validation batches of images and labels.

    In training: images (B, 3, S, S) uint8, labels (B, S, S) uint8 and positions (B,). In validation: lists of B images
    (3, h, w), as the transform resizes them, and of B label maps (H, W), in the images' own size; positions (B,).

    Args:
        train: images to train on.
        val: validation images.
        train_transform: of training images and labels, to one size, such as
            :func:`~transxnet.data.loading.dense_transforms.segmentation_training` makes it.
        val_transform: of validation images and labels, such as
            :class:`~transxnet.data.loading.dense_transforms.AlignedResize`.
        batch_size: images per batch and process.
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
        super().__init__(train, val, batch_size, workers, seed)
        self.train_transform, self.val_transform = train_transform, val_transform

    def train_dataset(self) -> Dataset:
        """Augmented images and labels of one size."""
        return SegmentationDataset(self.train, self.train_transform, one_size=True)

    def val_dataset(self) -> Dataset:
        """Resized images, and labels of the images' own size."""
        return SegmentationDataset(self.val, self.val_transform)
