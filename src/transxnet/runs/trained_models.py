"""Trained models: a network with what is needed to use it."""

from dataclasses import dataclass, field, replace
from typing import ClassVar

from torch import nn

from transxnet.data.loading.dense_transforms import AlignedResize
from transxnet.data.loading.preprocessing import Preprocessing
from transxnet.data.tiling import Tiling
from transxnet.heads import MaskRCNN, RetinaNet, SemanticFPN
from transxnet.metrics.targets import CLASSES, Targets
from transxnet.runs.run_folder import Run


@dataclass(frozen=True)
class TrainedModel:
    """A model that is ready for inference.

    Attributes:
        task: "classify", "detect", "segment" or "pretrain".
        model: network in evaluation mode, on the CPU.
        name: name to show to the user.
        class_names: K names by class index; for detectors, label 1 is the first.
        run: run of the model, or None.
        untrained: whether the weights are random, which every result must show.
        tiling: tiles that a detector or segmenter cuts images into, or None.
    """

    task: ClassVar[str]

    model: nn.Module
    name: str
    class_names: list[str]
    run: Run | None
    untrained: bool = field(default=False, kw_only=True)
    tiling: Tiling | None = field(default=None, kw_only=True)

    @property
    def backbone(self) -> nn.Module:
        """The network of a classifier; of a detector or segmenter the backbone below the feature pyramid."""
        return self.model

    @property
    def backbone_preprocessing(self) -> Preprocessing:
        """Preprocessing of the backbone."""
        return Preprocessing.of_model(self.backbone)


@dataclass(frozen=True)
class TrainedClassifier(TrainedModel):
    """A classifier.

    Attributes:
        preprocessing: from an image to the input of the network.
        targets: what the logits mean.
    """

    task = "classify"

    preprocessing: Preprocessing
    targets: Targets = field(default=CLASSES, kw_only=True)

    @property
    def backbone_preprocessing(self) -> Preprocessing:
        """Preprocessing of the classifier."""
        return self.preprocessing


@dataclass(frozen=True)
class TrainedEncoder(TrainedModel):
    """A pretrained network without classes, which returns pooled features.

    Attributes:
        preprocessing: from an image to the input of the network.
    """

    task = "pretrain"

    preprocessing: Preprocessing

    @property
    def backbone_preprocessing(self) -> Preprocessing:
        """Preprocessing of the network."""
        return self.preprocessing


@dataclass(frozen=True)
class TrainedDenseModel(TrainedModel):
    """A detector or segmenter.

    Attributes:
        channels: number of channels that it reads, with their stored values; None for RGB.
    """

    model: RetinaNet | MaskRCNN | SemanticFPN
    channels: int | None = field(default=None, kw_only=True)

    @property
    def backbone(self) -> nn.Module:
        """Backbone below the feature pyramid."""
        return self.model.backbone.body

    @property
    def backbone_preprocessing(self) -> Preprocessing:
        """Preprocessing of the backbone: that of its pretraining, or the normalization of the channels."""
        return replace(super().backbone_preprocessing, channels=self.channels)


@dataclass(frozen=True)
class TrainedDetector(TrainedDenseModel):
    """A detector, which resizes and normalizes its input itself.

    Attributes:
        category_ids: ids of its K classes in COCO's results; by default 1 to K.
    """

    task = "detect"

    model: RetinaNet | MaskRCNN
    category_ids: list[int] = field(default_factory=list, kw_only=True)

    def __post_init__(self) -> None:
        if not self.category_ids:
            object.__setattr__(self, "category_ids", list(range(1, len(self.class_names) + 1)))

    @property
    def masks(self) -> bool:
        """Whether it predicts masks in addition to boxes."""
        return isinstance(self.model, MaskRCNN)


@dataclass(frozen=True)
class TrainedSegmenter(TrainedDenseModel):
    """A segmenter.

    Attributes:
        scale: longer and shorter side in pixels that images are resized to fit.
        as_published: resize as for the published results; see :class:`AlignedResize`.
    """

    task = "segment"

    model: SemanticFPN
    scale: tuple[int, int]
    as_published: bool = field(default=False, kw_only=True)

    @property
    def resize(self) -> AlignedResize:
        """From an image to the size for the network."""
        return AlignedResize(self.scale, as_published=self.as_published)
