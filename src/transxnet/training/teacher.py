"""Teachers for knowledge distillation: trained networks whose outputs a training imitates."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from transxnet.data.formats.class_alignment import align_classes
from transxnet.data.loading.preprocessing import Preprocessing
from transxnet.runs.load import load_model
from transxnet.runs.trained_models import TrainedClassifier, TrainedEncoder, TrainedModel
from transxnet.utils.errors import UserError


class Teacher:
    """A trained network that receives the images of a training.

    It is not a module, so that checkpoints, EMA, optimizer and DistributedDataParallel ignore it: resuming loads it
    again.

    Args:
        trained: the network.
        student: preprocessing of the training's images.

    Attributes:
        note: the teacher and the size of its images, for the user.

    Raises:
        UserError: the network reads another number of channels.
    """

    def __init__(self, trained: TrainedClassifier | TrainedEncoder, student: Preprocessing):
        own = trained.preprocessing
        if len(own.mean) != len(student.mean):
            raise UserError(
                f"teacher {trained.name} reads {len(own.mean)} channels, got images with {len(student.mean)}. Use a "
                "teacher that was trained on such images."
            )
        self.trained, self._size = trained, own.img_size
        resized = "" if own.img_size == student.img_size else f", its images resized to {own.img_size} pixels"
        self.note = f"teacher: {trained.name}{resized}"
        self._model: Any = trained.model.requires_grad_(False)
        # (x * student's std + student's mean - own mean) / own std
        mean, std, own_mean, own_std = (
            torch.tensor(values).view(1, -1, 1, 1) for values in (student.mean, student.std, own.mean, own.std)
        )
        self._scale, self._shift = std / own_std, (mean - own_mean) / own_std

    @torch.no_grad()
    def logits(self, images: Tensor) -> Tensor:
        """Compute the logits (B, K) of normalized images (B, C, S, S)."""
        return self._model(self._prepare(images)).float()

    @torch.no_grad()
    def features(self, images: Tensor) -> Tensor:
        """Compute the pooled features (B, F) of normalized images (B, C, S, S)."""
        feature_map = self._model.forward_features(self._prepare(images))
        return self._model.forward_head(feature_map, pre_logits=True).float()

    def count_features(self) -> int:
        """Return F, from the features of an empty image."""
        return self.features(torch.zeros(1, self._scale.shape[1], self._size, self._size)).shape[1]

    def _prepare(self, images: Tensor) -> Tensor:
        """Move the network to the device of the images, and convert these to its normalization and size."""
        self._model.to(images.device)
        images = images * self._scale.to(images.device) + self._shift.to(images.device)
        if images.shape[-1] == self._size:
            return images
        return F.interpolate(images, size=(self._size, self._size), mode="bicubic", antialias=True)


class LogitTeacher(Teacher):
    """A teacher with the classes of the data.

    Args:
        trained: the classifier.
        student: preprocessing of the training's images.
        class_names: classes of the training's data; the teacher's are matched to them by name.

    Raises:
        UserError: the teacher does not predict exactly these classes.
    """

    def __init__(self, trained: TrainedClassifier, student: Preprocessing, class_names: list[str]):
        super().__init__(trained, student)
        if trained.targets.kind != "classes":
            raise UserError(
                f"teacher {trained.name} predicts {trained.targets.kind}, got data with classes. Use a teacher of "
                "classes."
            )
        if len(trained.class_names) != len(class_names):
            raise UserError(
                f"teacher {trained.name} has {len(trained.class_names)} classes, got data with {len(class_names)}. Use "
                "a teacher that was trained on these classes."
            )
        try:
            self._order = align_classes(trained.class_names, class_names)
        except UserError as error:
            raise UserError(f"teacher {trained.name}: {error}") from error

    def loss(self, logits: Tensor, images: Tensor, temperature: float) -> Tensor:
        """Compute the divergence of the student's softened probabilities from the teacher's.

        Args:
            logits: (B, C) of the student.
            images: (B, 3, S, S), as the student receives them.
            temperature: divisor of all logits; the loss is multiplied by its square, so that the size of its gradient
                does not depend on it.

        Source:
            Hinton et al., "Distilling the knowledge in a neural network", 2015.
        """
        own = (logits / temperature).log_softmax(dim=1)
        target = (self.logits(images)[:, self._order] / temperature).log_softmax(dim=1)
        return temperature**2 * F.kl_div(own, target, reduction="batchmean", log_target=True)


def load_teacher(name: str) -> TrainedClassifier:
    """Load a teacher of classes from a run folder or by name.

    Raises:
        UserError: it cannot be loaded, or is not a classifier.
    """
    trained = _load(name)
    if not isinstance(trained, TrainedClassifier):
        raise UserError(f"teacher {name} is not a classifier. Accepted: the run of a classifier, or a timm model.")
    return trained


def load_feature_teacher(name: str) -> TrainedClassifier | TrainedEncoder:
    """Load a teacher of features from a run folder or by name, with any number of classes.

    Raises:
        UserError: it cannot be loaded, has random weights, or returns no pooled features.
    """
    trained = _load(name, analysis=True, features=True)
    if trained.untrained or not isinstance(trained, (TrainedClassifier, TrainedEncoder)):
        raise UserError(
            f"teacher {name} is not a trained network with pooled features. Accepted: the run of a classifier or a "
            "pretraining, or a timm model."
        )
    return trained


def _load(name: str, analysis: bool = False, features: bool = False) -> TrainedModel:
    try:
        return load_model(name, analysis=analysis, features=features)
    except UserError as error:
        raise UserError(f"cannot load teacher {name}: {error}") from error
