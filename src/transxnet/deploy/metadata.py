"""The metadata of an exported file: all that is needed to use it without its run folder."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Literal

from transxnet.data.transforms import Preprocessing, check_sides
from transxnet.utils.errors import UserError

PREFIX = "transxnet."
"""Of the keys in the file."""

ExportTask = Literal["classify", "features", "detect", "segment"]


@dataclass(frozen=True)
class Metadata:
    """The metadata of an exported file.

    In the file each is a text under ``transxnet.`` and its name here; what is no text is JSON.

    Attributes:
        task: "classify" gives logits (N, K), "features" a map for each stage, "segment" logits (N, K, H, W), "detect"
            boxes (D, 4), labels (D,) from 1 and scores (D,), best first.
        model: the network's name.
        source: the run folder, the weights' file, or "published" or "untrained".
        class_names: K names by class index; of detectors label 1 is the first.
        input: "float32" for (N, 3, H, W), normalised by mean and std; "uint8" for (N, H, W, 3), normalised inside.
        mean: of each channel, of values in 0 to 1.
        std: of each channel.
        size: height and width; where they are dynamic, those that it was traced with.
        batch: N; where it is dynamic, 0.
        dynamic: which of "batch", "height" and "width" may have any value; height and width multiples of 32.
        resize: how a picture of any size is brought to the input's: of classifiers ``img_size``, ``crop_pct`` and
            ``interpolation``; of detectors ``min_size``, ``max_size`` and the ``fill`` of what is padded; of segmenters
            ``scale``; of both with ``multiple``, of which both sides have to be.
        outputs: their names.
        score_threshold: below which a detection is none; of other tasks 0.
        dtype: in which the network computes, or "int8", or "int8-bfloat16" where bfloat16 is what is not int8.
        versions: of transxnet, torch, the runtime that it was checked with, and of ONNX's opset.
    """

    task: ExportTask
    model: str
    source: str
    class_names: list[str]
    input: Literal["float32", "uint8"]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    size: tuple[int, int]
    batch: int
    dynamic: tuple[str, ...]
    resize: dict[str, Any]
    outputs: tuple[str, ...]
    score_threshold: float
    dtype: str
    versions: dict[str, str]

    def to_texts(self) -> dict[str, str]:
        """The texts that the file stores."""
        return {
            PREFIX + name: value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
            for name, value in asdict(self).items()
        }

    @classmethod
    def from_texts(cls, texts: Mapping[str, str]) -> "Metadata":
        """The inverse of :meth:`to_texts`.

        Raises:
            KeyError: one is missing.
            TypeError, ValueError: one is no JSON, or not what an export writes: it may be by somebody else.
        """
        values = {}
        for field in fields(cls):
            text = texts[PREFIX + field.name]
            plain = field.name in ("task", "model", "source", "input", "dtype")
            value = text if plain else json.loads(text)
            values[field.name] = tuple(value) if field.name in _TUPLES else value
        metadata = cls(**values)
        metadata._check()
        return metadata

    def _check(self) -> None:
        if not isinstance(self.class_names, list) or not all(isinstance(name, str) for name in self.class_names):
            raise ValueError("its class_names are no list of names")
        if not isinstance(self.resize, dict):
            raise ValueError("its resize is no mapping")
        sides = [*self.size, *self.resize.get("scale", ())]
        check_sides([*sides, *(self.resize[name] for name in ("min_size", "max_size") if name in self.resize)])
        _ = self.preprocessing  # which looks at what it is made of

    @property
    def preprocessing(self) -> Preprocessing | None:
        """From a picture to the input of a file that takes float32; of detectors and segmenters None."""
        if "img_size" not in self.resize:
            return None
        return Preprocessing(**self.resize, mean=self.mean, std=self.std)


_TUPLES = ("mean", "std", "size", "dynamic", "outputs")


def parse_metadata(path: Path, texts: Mapping[str, str]) -> Metadata:
    """Parse the texts of a file; raises UserError if they are not those of an export."""
    try:
        return Metadata.from_texts(texts)
    except (KeyError, ValueError, TypeError, RecursionError) as error:
        raise UserError(
            f"{path} does not say what it is: it was not written by transxnet export, or its metadata was taken out or "
            f"changed: {type(error).__name__}: {error}"
        ) from error
