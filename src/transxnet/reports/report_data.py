"""The data that a report shows."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from PIL import Image

from transxnet.metrics.detection import DetectionEvaluation
from transxnet.metrics.embeddings import EmbeddingEvaluation
from transxnet.metrics.segmentation import SegmentationEvaluation
from transxnet.metrics.targets import ClassifierEvaluation
from transxnet.reports.charts import Plot


@dataclass(frozen=True)
class Report:
    """The results of a training run.

    Attributes:
        title: Model and data, such as "transxnet_n on elpv".
        command: Shell command that reproduces the run.
        config: The resolved options; nested mappings are shown with dotted names.
        environment: Versions, hardware, commit; an entry "date" is also shown in the header.
        notes: Sentences: the automatically chosen settings with their reasons, and other remarks.
        history: One row per epoch; any value may be missing or NaN. Shown for all tasks: epoch, lr, train_loss,
            val_loss and seconds (the epoch's duration); for classes: val_accuracy, val_balanced_accuracy and val_f1;
            for labels: val_macro_ap, val_macro_auroc and val_f1; for regression: val_r2 and val_spearman; for
            detection: val_ap, val_ap50 and val_mask_ap; for segmentation: val_miou and val_pixel_accuracy; for
            pretraining: val_effective_rank, val_embedding_std and val_knn_accuracy.
        evaluation: The results on the validation images, or None without any; its type selects the page.
        model: Properties of the model, by name.
        image: Loads validation image i of a classifier; an OSError, or no function, gives a placeholder. Evaluations
            of detection and segmentation hold their images themselves.
        saved_weights: The epoch whose weights were evaluated, and the reason; or the averaged epochs.
        selected: Whether the validation images selected these weights.
        train_counts: Number of training images of each class or label of a classifier, if known.
        train_images: (label, image) of some training images as a classifier's network receives them.
        learning_rate: Rows of step and lr; the chart then shows them instead of the history's lr.
        explain: Returns (caption, image) pairs that explain the prediction of validation image i of a classifier, or
            a class that is given as the second argument. An OSError skips the image; a UserError is printed on the
            page instead of all explanations.
        test: The results on the test images, if there are any; they chose nothing.
        training: Whether the page is about a training, and not about an evaluation only.
        split: The set that was evaluated: "validation", "training" or "test"; empty for other data.
    """

    title: str
    command: str
    config: Mapping[str, object]
    environment: Mapping[str, str]
    notes: Sequence[str]
    history: Sequence[Mapping[str, float]]
    evaluation: ClassifierEvaluation | DetectionEvaluation | SegmentationEvaluation | EmbeddingEvaluation | None
    model: Mapping[str, str]
    image: Callable[[int], Image.Image] | None = None
    saved_weights: str = ""
    selected: bool = False
    train_counts: Sequence[int] | None = None
    train_images: Sequence[tuple[str, Image.Image]] = ()
    learning_rate: Sequence[Mapping[str, float]] = ()
    explain: Callable[..., Sequence[tuple[str, Image.Image]]] | None = None
    test: ClassifierEvaluation | DetectionEvaluation | SegmentationEvaluation | EmbeddingEvaluation | None = None
    training: bool = True
    split: str = "validation"

    @property
    def fitted_here(self) -> bool:
        """Whether the evaluated images are those that thresholds and temperature were fitted on."""
        return self.split == "validation"

    @property
    def image_kind(self) -> str:
        """The noun of an evaluated image."""
        return f"{self.split} image".strip()


@dataclass(frozen=True)
class Tile:
    """A headline metric."""

    label: str
    value: str
    notes: Sequence[str] = ()


@dataclass(frozen=True)
class TaskPage:
    """The part of the page that depends on the task.

    Attributes:
        template: name of the page's template.
        images: number of validation images.
        tiles: headline metrics, of which the first is the largest on the page.
        sections: (id, name) of the task's own sections, in order.
        scores: the charts of the validation metrics over the epochs.
        content: variables of the template's own sections.
    """

    template: str
    images: int
    tiles: Sequence[Tile]
    sections: Sequence[tuple[str, str]]
    scores: Sequence[Plot] = ()
    content: Mapping[str, object] = field(default_factory=dict)
