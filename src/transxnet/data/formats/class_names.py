"""Read class names from a file next to the data."""

import re
import unicodedata
from pathlib import Path

from transxnet.utils.errors import UserError
from transxnet.utils.text_files import read_json, read_text

FILES = ("classes.txt", "labels.txt", "classes.json", "labels.json", "objectInfo150.txt")
"""Files with class names, in the order in which they are tried."""

COCO_CLASSES = (
    "person", "bicycle", "car", "motorcycle", "airplane", "bus", "train", "truck", "boat", "traffic light",
    "fire hydrant", "stop sign", "parking meter", "bench", "bird", "cat", "dog", "horse", "sheep", "cow", "elephant",
    "bear", "zebra", "giraffe", "backpack", "umbrella", "handbag", "tie", "suitcase", "frisbee", "skis", "snowboard",
    "sports ball", "kite", "baseball bat", "baseball glove", "skateboard", "surfboard", "tennis racket", "bottle",
    "wine glass", "cup", "fork", "knife", "spoon", "bowl", "banana", "apple", "sandwich", "orange", "broccoli",
    "carrot", "hot dog", "pizza", "donut", "cake", "chair", "couch", "potted plant", "bed", "dining table", "toilet",
    "tv", "laptop", "mouse", "remote", "keyboard", "cell phone", "microwave", "oven", "toaster", "sink", "refrigerator",
    "book", "clock", "vase", "scissors", "teddy bear", "hair drier", "toothbrush",
)  # fmt: skip
"""COCO's 80 classes in the order of their ids, as in published detectors."""

COCO_CATEGORY_IDS = tuple(i for i in range(1, 91) if i not in (12, 26, 29, 30, 45, 66, 68, 69, 71, 83))
"""The ids of COCO's 80 classes; 10 classes were announced and never published."""


def read_class_names(*folders: Path) -> list[str] | None:
    """Read the names from the first of :data:`FILES` found in one of the folders; None if no folder has one.

    Text files have one name per line. JSON is a list of names, an object of names by number from 0, or either under the
    key ``names``. ``objectInfo150.txt`` is ADE20K's table; the first synonym is used.

    Raises:
        UserError: the file cannot be read, or names are missing or not unique.
    """
    for folder in folders:
        for name in FILES:
            if (folder / name).is_file():
                return read_names(folder / name)
    return None


def read_names(path: Path) -> list[str]:
    """Read class names from a file; its format depends on its name, as in :func:`read_class_names`.

    Raises:
        UserError: the file cannot be read, or names are missing or not unique.
    """
    try:
        if path.suffix == ".json":
            names = _from_json(read_json(path))
        elif path.name == "objectInfo150.txt":
            names = _from_table(read_text(path))
        else:
            names = [line.strip() for line in read_text(path).splitlines() if line.strip()]
        if broken := next((name for name in names if not is_plain(name)), None):
            raise ValueError(f"{broken!r:.40} contains control characters or line breaks")
    except (OSError, ValueError, KeyError, TypeError, IndexError, RecursionError) as error:
        raise UserError(
            f"cannot read class names from {path}: {error}. Accepted: one name per line, a JSON list of names, or a "
            "JSON object of names by class index."
        ) from error
    if not names or len(set(names)) < len(names):
        twice = [name for name in dict.fromkeys(names) if names.count(name) > 1]
        what = f"contains {twice[0]!r} {names.count(twice[0])} times" if twice else "is empty"
        raise UserError(f"{path} {what}. Accepted: one unique name per class.")
    return names


def is_plain(name: str) -> bool:
    """Whether a name is safe on a line of any file or page: no control characters, line breaks or lone surrogates."""
    return not any(unicodedata.category(letter) in ("Cc", "Cs", "Zl", "Zp") for letter in name)


def _from_json(content: object) -> list[str]:
    if isinstance(content, dict):
        if "names" in content:
            return _from_json(content["names"])
        content = [content[key] for key in (str(i) for i in range(len(content)))]
    if not isinstance(content, list) or not all(isinstance(name, str) for name in content):
        raise TypeError("neither a list nor an object of names")
    return content


def _from_table(text: str) -> list[str]:
    """The first synonym in the last column, or all synonyms if another class has the same first one."""
    rows = [re.split(r"\t+", line.strip()) for line in text.splitlines() if line.strip()]
    synonyms = [row[-1].strip() for row in rows if row[0].strip().isdigit()]
    first = [re.split(r"[,;]", names)[0].strip() for names in synonyms]
    return [one if first.count(one) == 1 else names for one, names in zip(first, synonyms, strict=True)]
