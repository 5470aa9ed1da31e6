"""A model's outputs in words, for pages about it."""

from collections.abc import Sequence

from transxnet.utils.quantities import format_count

MAX_NAMES = 8
"""Of more classes only the number is given."""


def describe_outputs(task: str, kind: str, names: Sequence[str]) -> str:
    """Describe what a model returns: "Classifier of 3 classes: ant, bee, cat".

    Args:
        task: "classify", "detect" or "segment".
        kind: what a classifier's targets are: "classes", "multilabel" or "regression"; "classes" for other models.
        names: names of the classes, labels or value to show.
    """
    if kind == "regression":
        return f"Regression of {names[0]}"
    words = ("label", "labels") if kind == "multilabel" else ("class", "classes")
    model = {"classify": "Classifier", "detect": "Detector", "segment": "Segmenter"}[task]
    model = "Multi-label classifier" if kind == "multilabel" else model
    listed = f": {', '.join(names)}" if len(names) <= MAX_NAMES else ""
    return f"{model} of {format_count(len(names), *words)}{listed}"
