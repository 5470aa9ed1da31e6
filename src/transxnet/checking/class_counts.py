"""Number of images or objects of each class in each set, and imbalance."""

import numpy as np

from transxnet.checking.all_images import AllImages
from transxnet.checking.check_findings import DataFinding, Kind
from transxnet.data.class_frequency import count_classes, rare_classes


def class_counts(images: AllImages) -> dict[str, list[int]]:
    """Return the number of images of each class, or of objects, in each set; empty for values and label maps."""
    columns = {name: count_classes(part) for name, part in images.sets.items()}
    return {name: counts.tolist() for name, counts in columns.items() if counts is not None}


def imbalance_findings(counts: dict[str, list[int]], class_names: list[str]) -> list[DataFinding]:
    """Return the findings about classes that are missing in a set, or rare in the training set."""
    found = []
    for part, values in counts.items():
        missing = [name for name, count in zip(class_names, values, strict=True) if not count]
        if missing and any(values):
            found.append(DataFinding(Kind.IMBALANCE, (), f"{part} has no {', '.join(missing)}"))
    train = counts.get("train", [])
    for i in rare_classes(train):
        most, count = class_names[int(np.argmax(train))], train[i]
        ratio = f"{max(train) / count:.0f}:1"
        detail = f"{class_names[i]} occurs {count:,} times in train, {most} {max(train):,} times ({ratio})"
        found.append(DataFinding(Kind.IMBALANCE, (), detail))
    return found
