"""The networks in the paper's figures, as presets of ``transxnet erf`` and ``transxnet explain``."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from rich.console import Console

from transxnet.models.model_spec import ModelSpec, parse_model_spec, with_options
from transxnet.runs.load import load_model
from transxnet.runs.trained_models import TrainedModel
from transxnet.utils.errors import UserError, nearest
from transxnet.utils.progress import PLAIN


@dataclass(frozen=True)
class PaperFigure:
    """A figure of the paper.

    Attributes:
        models: names of the networks, in the order of the panels.
        note: source and limits.
        size: side of the images in pixels.
    """

    models: tuple[str, ...]
    note: str
    size: int = 224


_COMPARED = ("uniformer_small", "swin_tiny_patch4_window7_224", "pvt_v2_b2", "transxnet_s")
_LOCAL_CONVS = ("dwconv", "window", "dyconv", "d_dwconv", "idconv")

ERF_FIGURES = {
    "fig2": PaperFigure(
        _COMPARED,
        "Follows Fig. 2: UniFormer-S, Swin-T and PVTv2-B2, which the text names, and TransXNet-S, of similar cost. The "
        "paper averages over 100 images of ImageNet.",
    ),
    "fig6": PaperFigure(
        (*(f"transxnet_t@local_conv={name}" for name in _LOCAL_CONVS), *_COMPARED),
        "Follows Fig. 6: (a) the local convolutions of Table VII in TransXNet-T, (b) networks of similar cost, for "
        "which the text names only TransXNet-S; the others are those of Fig. 2. The paper averages over 100 images of "
        "ImageNet.",
    ),
}
EXPLAIN_FIGURES = {
    "fig7": PaperFigure(
        ("transxnet_s", "swin_tiny_patch4_window7_224", "uniformer_small", "pvt_v2_b2"),
        "Follows Fig. 7: Grad-CAM of the networks that the text names, at every stage. The paper uses images of "
        "ImageNet's validation set.",
    ),
}


def find_figure(figures: dict[str, PaperFigure], name: str) -> PaperFigure:
    """Find a figure by name.

    Raises:
        UserError: no figure has this name.
    """
    if name not in figures:
        raise UserError(f"unknown preset {name!r}.{nearest(name, figures)} Accepted: {', '.join(figures)}.")
    return figures[name]


def models_of(figure: PaperFigure, given: Iterable[str | Path]) -> list[tuple[ModelSpec, bool]]:
    """The models of a figure, and models that the user gives.

    A given model with the name and options of one of the figure takes its place, with its own weights. The others
    follow after those of the figure.

    Returns:
        each model, and whether it may be untrained because its published weights are not available.
    """
    specs = [(parse_model_spec(name), True) for name in figure.models]
    for name in given:
        spec = parse_model_spec(name)
        same = [i for i, (own, default) in enumerate(specs) if default and not spec.path and _same_network(own, spec)]
        if same:
            specs[same[0]] = (spec, False)
        else:
            specs.append((spec, False))
    return specs


def split_words(figure: PaperFigure, words: Sequence[str]) -> tuple[list[str], list[str]]:
    """Split arguments into networks of a figure, given with settings, and others, such as images."""
    names = {name.partition("@")[0] for name in figure.models}
    models = [word for word in words if word.partition("@")[0].partition(".")[0] in names]
    return models, [word for word in words if word not in models]


def load_or_untrained(spec: ModelSpec, default: bool, size: int | None, console: Console) -> TrainedModel:
    """Load a model; one that the user did not choose has random weights if its published ones are not available.

    Args:
        spec: the model.
        default: whether it is in the figure's own list. With options, such a model has no published weights.
        size: as in ``load_model``.
        console: where to print why a model is untrained.

    Raises:
        UserError: as in ``load_model``, for a model that the user chose.
    """
    reason = "networks with options have no published weights"
    if not (default and spec.options):
        try:
            return load_model(spec, analysis=True, size=size)
        except UserError as error:
            if not default:
                raise
            reason = str(error).partition(". ")[0]
    on_disk = with_options(spec.untagged_name, "file=PATH")
    console.print(f"{spec.label} is untrained: {reason}. To use weights on disk, add {on_disk}.", **PLAIN)
    return load_model(replace(spec, settings={"untrained": None}), analysis=True, size=size)


def _same_network(a: ModelSpec, b: ModelSpec) -> bool:
    return a.architecture == b.architecture and a.options == b.options
