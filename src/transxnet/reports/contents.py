"""What a report is made of."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from PIL import Image

from transxnet.metrics.classification import Evaluation
from transxnet.metrics.detection import DetectionEvaluation
from transxnet.metrics.segmentation import SegmentationEvaluation
from transxnet.reports.charts import Plot


@dataclass(frozen=True)
class Report:
    """Everything the page shows.

    Attributes:
        title: What ran on what, such as "transxnet_n on elpv".
        command: The shell command that reproduces the run.
        config: The resolved options; nested mappings are shown with dotted names.
        environment: Versions, hardware, commit; a "date" among them also stands in the header.
        choices: Sentences: what was chosen automatically and why, and what the reader should know.
        history: A row an epoch; any value may be missing or NaN. Shown of all tasks: epoch, lr, train_loss, val_loss
            and seconds (the epoch's duration); of classification: val_accuracy, val_balanced_accuracy and val_f1; of
            detection: val_ap, val_ap50 and val_mask_ap; of segmentation: val_miou and val_pixel_accuracy.
        evaluation: The model's answers on held-out images; its type decides which page is made.
        model: Facts about the model, by their names.
        image: Gives the picture of held-out image i of a classifier; an OSError becomes a placeholder, and so does all
            where there is no such function. Evaluations of detection and segmentation have their pictures themselves.
        explain: Gives, of held-out image i of a classifier, pictures of what its answer rests on, with captions; an
            OSError leaves the image out, a UserError says on the page why there are none.
    """

    title: str
    command: str
    config: Mapping[str, object]
    environment: Mapping[str, str]
    choices: Sequence[str]
    history: Sequence[Mapping[str, float]]
    evaluation: Evaluation | DetectionEvaluation | SegmentationEvaluation
    model: Mapping[str, str]
    image: Callable[[int], Image.Image] | None = None
    explain: Callable[[int], Sequence[tuple[str, Image.Image]]] | None = None


@dataclass(frozen=True)
class Tile:
    """A headline figure."""

    label: str
    value: str
    notes: Sequence[str] = ()


@dataclass(frozen=True)
class Particulars:
    """What the page of one task adds to what all pages have.

    Attributes:
        template: name of the page's template.
        images: how many held-out images there are.
        tiles: headline figures, the first of which is the largest.
        scores: the chart of the scores over the epochs.
        sections: (id, name) of the task's own sections, in order.
        content: what the template's own sections are filled with.
    """

    template: str
    images: int
    tiles: Sequence[Tile]
    scores: Plot
    sections: Sequence[tuple[str, str]]
    content: Mapping[str, object] = field(default_factory=dict)
