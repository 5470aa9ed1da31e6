"""The HTML report of an evaluation."""

import shlex
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from transxnet.data.datasets.classification_dataset import ClassificationSet
from transxnet.data.reading.image_decoding import UnreadableImage
from transxnet.evaluation.dataset_evaluation import AnyEvaluation
from transxnet.evaluation.inference_backends import InferenceBackend
from transxnet.reports import Report
from transxnet.utils.environment import collect_environment
from transxnet.utils.option_names import as_option


def evaluation_report(
    backend: InferenceBackend,
    images: Any,
    evaluation: AnyEvaluation,
    *,
    data: str,
    split: str,
    given: Sequence[str],
    options: Mapping[str, Any],
    notes: Sequence[str],
) -> Report:
    """Collect what the report of an evaluation shows.

    Args:
        backend: the model.
        images: the evaluated images.
        evaluation: their results.
        data: what was evaluated, in words.
        split: the set of the run that was evaluated: "validation", "training" or "test"; empty for other data.
        given: arguments of the command ``eval``.
        options: its options; those without a value are not shown.
        notes: remarks on the data.
    """
    stated = {name: value for name, value in options.items() if value}
    flags = [as_option(name) if value is True else f"{as_option(name)}={value}" for name, value in stated.items()]
    words = {"Model": backend.name, "Data": data, "Images": f"{len(evaluation):,}", "Image size": backend.input_size}
    if backend.tiling is not None:
        words["Tiles"] = f"{backend.tiling.size} pixels"
    return Report(
        title=f"{backend.name} on {data}",
        command=shlex.join(["transxnet", "eval", *given, *flags]),
        config={"model": given[0], "data": data, **{name: str(value) for name, value in stated.items()}},
        environment=collect_environment(),
        notes=[*notes, *evaluation.describe_fitted(split == "validation")],
        history=[],
        evaluation=evaluation,
        image=image_reader(images),
        model=words | ({"Test-time augmentation": "horizontal flip"} if backend.tta else {}),
        training=False,
        split=split,
    )


def image_reader(images: Any, method: str = "image") -> Callable[[int], Any]:
    """Return a function that reads an image of a set again, and raises OSError if it cannot be read.

    Args:
        images: the set.
        method: how it is read: "image", for display, or "pixels", for a model.
    """

    def read_again(index: int) -> Any:
        if not isinstance(images, ClassificationSet):
            raise OSError("images of a stream cannot be read again")
        try:
            return getattr(images, method)(index)
        except UnreadableImage as error:
            raise OSError(str(error)) from error

    return read_again
