"""Results and report of a classifier, generated from random numbers."""

from collections.abc import Callable

import numpy as np
from PIL import Image

from transxnet.metrics.classification import ClassificationEvaluation
from transxnet.reports import Report


def sample_evaluation(
    num_classes: int = 2, images: int = 80, skill: float = 1.0, weights: bool = False
) -> ClassificationEvaluation:
    generator = np.random.default_rng(num_classes)
    labels = generator.integers(0, num_classes, images)
    logits = generator.normal(size=(images, num_classes))
    logits[np.arange(images), labels] += skill
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    return ClassificationEvaluation(
        class_names=[f"kind {i}" for i in range(num_classes)],
        names=[f"image{i:04d}.png" for i in range(images)],
        labels=labels,
        probabilities=probabilities.astype(np.float32),
        weights=generator.uniform(0.2, 1, images) if weights else None,
    )


def sample_history(epochs: int) -> list[dict[str, float]]:
    return [
        {
            "epoch": epoch,
            "step": 10 * epoch,
            "lr": 1e-3 / epoch,
            "train_loss": 1 / epoch,
            "val_loss": 1 / epoch + 0.01 * epoch,
            "val_accuracy": 1 - 0.5 / epoch,
            "val_balanced_accuracy": 0.98 - 0.5 / epoch,
            "val_f1": 0.97 - 0.5 / epoch,
            "seconds": 30.0,
        }
        for epoch in range(1, epochs + 1)
    ]


def sample_image(index: int) -> Image.Image:
    return Image.new("RGB", (300, 200), (index % 256, 90, 120))


def sample_report(
    evaluation: ClassificationEvaluation | None = None,
    epochs: int = 6,
    image: Callable[[int], Image.Image] = sample_image,
) -> Report:
    return Report(
        title="transxnet_n on kinds",
        command="transxnet train --data kinds --epochs 6",
        config={"epochs": epochs, "optimizer": {"lr": 1e-3, "nesterov": False}, "limit": None},
        environment={"date": "2026-01-02", "torch": "2.11.0"},
        notes=["3 unreadable images were skipped."],
        history=sample_history(epochs),
        evaluation=sample_evaluation() if evaluation is None else evaluation,
        image=image,
        model={"Parameters": "3.1 M"},
    )
