"""The methods of pretraining: augmentation, heads and losses, for the most part those of lightly."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any

from lightly.loss import NegativeCosineSimilarity, VICRegLoss
from lightly.models.modules.heads import SimSiamPredictionHead, SimSiamProjectionHead, VICRegProjectionHead
from lightly.transforms import SimSiamTransform, VICRegTransform
from torch import Tensor, nn

from transxnet.data.loading.preprocessing import Preprocessing
from transxnet.runs.pretrain_config import PretrainConfig
from transxnet.training.teacher import Teacher

Views = Callable[[Any], Sequence[Any]]
"""From an RGB image to its augmented views (3, S, S), normalized."""

BLUR = 2 / 224
"""Largest standard deviation of the Gaussian blur, by the side of the image, as in SimCLR at 224 pixels."""


class PretrainMethod(nn.Module, ABC):
    """Heads and loss of a method; they are trained with the network, and not saved."""

    @staticmethod
    @abstractmethod
    def transform(config: PretrainConfig, preprocessing: Preprocessing) -> Views:
        """Return the augmentation."""

    @abstractmethod
    def forward(self, features: Sequence[Tensor], views: Sequence[Tensor]) -> Tensor:
        """Compute the loss.

        Args:
            features: (B, F) of each view.
            views: (B, 3, S, S).
        """


class VICReg(PretrainMethod):
    """Equal embeddings of two views, with a variance of at least 1 and without covariance.

    The heads have 4 F units, as the published ones for a ResNet-50.

    Args:
        features: F.

    Source:
        Bardes et al., "VICReg", ICLR 2022.
    """

    def __init__(self, features: int):
        super().__init__()
        self.head = VICRegProjectionHead(features, 4 * features, 4 * features)
        self.criterion = VICRegLoss(gather_distributed=True)

    @staticmethod
    def transform(config: PretrainConfig, preprocessing: Preprocessing) -> Views:
        """Return lightly's augmentation for VICReg."""
        return VICRegTransform(**_augmentation(config, preprocessing))

    def forward(self, features: Sequence[Tensor], views: Sequence[Tensor]) -> Tensor:
        """Compute the loss."""
        return self.criterion(*map(self.head, features))


class SimSiam(PretrainMethod):
    """From the embedding of a view, predict that of the other, whose gradient is stopped.

    The heads have F units, and the predictor's hidden layer F / 4, as the published ones for a ResNet-50.

    Args:
        features: F.

    Source:
        Chen and He, "Exploring simple Siamese representation learning", CVPR 2021.
    """

    def __init__(self, features: int):
        super().__init__()
        self.projection = SimSiamProjectionHead(features, features, features)
        self.prediction = SimSiamPredictionHead(features, max(1, features // 4), features)
        self.criterion = NegativeCosineSimilarity()

    @staticmethod
    def transform(config: PretrainConfig, preprocessing: Preprocessing) -> Views:
        """Return lightly's augmentation for SimSiam."""
        return SimSiamTransform(**_augmentation(config, preprocessing))

    def forward(self, features: Sequence[Tensor], views: Sequence[Tensor]) -> Tensor:
        """Compute the symmetric loss, -1 to 1."""
        first, second = map(self.projection, features)
        ahead, back = self.prediction(first), self.prediction(second)
        return (self.criterion(ahead, second.detach()) + self.criterion(back, first.detach())) / 2


class FeatureDistillation(PretrainMethod):
    """Imitate the direction of a teacher's features through a linear projection.

    Args:
        features: F.
        teacher: its pooled features are imitated.
    """

    def __init__(self, features: int, teacher: Teacher):
        super().__init__()
        self.teacher = teacher
        self.projection = nn.Linear(features, teacher.count_features())
        self.criterion = NegativeCosineSimilarity()

    @staticmethod
    def transform(config: PretrainConfig, preprocessing: Preprocessing) -> Views:
        """Return the augmentation of a classifier, with one view."""
        assert config.hflip is not None
        augment = preprocessing.training_transform(
            min_scale=config.min_scale,
            hflip=config.hflip,
            vflip=config.vflip,
            color_jitter=config.color_jitter,
            auto_augment=None,
            random_erasing=0.0,
        )
        return _Single(augment)

    def forward(self, features: Sequence[Tensor], views: Sequence[Tensor]) -> Tensor:
        """Compute the loss, -1 to 1."""
        (own,), (images,) = features, views
        return self.criterion(self.projection(own), self.teacher.features(images))


class _Single:
    """A transform with one view; a class, since data loading processes may have to pickle it."""

    def __init__(self, transform: Callable[[Any], Tensor]):
        self.transform = transform

    def __call__(self, image: Any) -> list[Tensor]:
        return [self.transform(image)]


METHODS: dict[str, type[PretrainMethod]] = {"vicreg": VICReg, "simsiam": SimSiam, "distill": FeatureDistillation}
"""The methods by their names in :class:`~transxnet.runs.pretrain_config.PretrainConfig`."""


def _augmentation(config: PretrainConfig, preprocessing: Preprocessing) -> dict[str, Any]:
    """Return arguments of lightly's transforms."""
    size = preprocessing.img_size
    return dict(
        input_size=size,
        min_scale=config.min_scale,
        cj_strength=config.color_jitter,
        hf_prob=config.hflip,
        vf_prob=config.vflip,
        sigmas=(0.1, max(0.1, BLUR * size)),
        normalize={"mean": list(preprocessing.mean), "std": list(preprocessing.std)},
    )
