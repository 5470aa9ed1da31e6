"""The metadata of an exported file: everything needed to use it without its run folder."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Literal

from transxnet.data.loading.preprocessing import Preprocessing, check_sides
from transxnet.metrics.targets import Targets
from transxnet.utils.errors import UserError

PREFIX = "transxnet."
"""Prefix of the keys in the file."""

InputKind = Literal["float32", "uint8", "image"]

ExportTask = Literal["classify", "features", "detect", "segment"]


@dataclass(frozen=True)
class Metadata:
    """The metadata of an exported file.

    Each is stored as a string under ``transxnet.`` and its name here; values other than strings are JSON.

    Attributes:
        task: "classify" returns logits (N, K), "features" a map for each stage, "segment" logits (N, K, H, W), "detect"
            boxes (D, 4), labels (D,) from 1 and scores (D,) in descending order, and of Mask R-CNN masks (D, 1, M, M).
        model: the network's name.
        source: the run folder, the weights' file, or "published" or "untrained".
        class_names: K names by class index; for detectors label 1 is the first.
        input: "float32" for (N, C, H, W), normalized by mean and std; "uint8" for (N, H, W, 3), normalized inside;
            "image" for one image (H, W, 3) uint8 of any size; the outputs are then those of ``transxnet predict``:
            probabilities (1, K), a label map (H, W), or boxes in pixels of the image and masks (D, H, W).
        mean: mean of each of the C channels; of RGB, for values in 0 to 1.
        std: standard deviation of each channel.
        size: height and width; the sizes at tracing if they are dynamic.
        batch: N; 0 if it is dynamic.
        dynamic: which of "batch", "height" and "width" are dynamic; height and width must be multiples of 32.
        resize: how images are resized to the input's size. Classifiers: ``img_size``, ``crop_pct`` and
            ``interpolation``; detectors: ``min_size``, ``max_size`` and the ``fill`` value of the padding; segmenters:
            ``scale`` and, of other images than RGB, ``fill``. The last two also have ``multiple``, a divisor of both
            sides, and with published weights ``opencv_resize`` or ``as_published``. With ``tile`` and ``overlap``,
            tiles are resized instead of images.
        outputs: names of the outputs.
        score_threshold: detections below it are discarded; 0 for other tasks.
        targets: of a classifier, what the logits mean: ``kind`` "classes" (softmax), "multilabel" (sigmoid, and the
            ``thresholds`` from which each label is predicted) or "regression" (multiply by ``std``, add ``mean``).
        dtype: data type of the computation, or "int8", or "int8-bfloat16" if the rest is bfloat16.
        versions: versions of transxnet, torch, the runtime that checked the file, and ONNX's opset.
        channels: C, if the model reads the stored values of other images than RGB; else null.
        reference: ``image``, a PNG or an NPY file in base64, and the ``outputs`` that the model returns for it, resized
            to the input by Pillow's bicubic interpolation (NPY: PyTorch's): their ``shape``, ``values`` in base64 of
            the ``kind`` "float32" (little-endian), "uint8" or "bits" and, of maps, the flattened ``positions`` of these
            values.
    """

    task: ExportTask
    model: str
    source: str
    class_names: list[str]
    input: InputKind
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
    targets: dict[str, Any] = field(default_factory=dict)
    channels: int | None = None
    reference: dict[str, Any] = field(default_factory=dict)

    def to_texts(self) -> dict[str, str]:
        """Convert to the strings that the file stores."""
        return {
            PREFIX + name: value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
            for name, value in asdict(self).items()
        }

    @classmethod
    def from_texts(cls, texts: Mapping[str, str]) -> "Metadata":
        """The inverse of :meth:`to_texts`.

        Raises:
            KeyError: a value is missing.
            TypeError, ValueError: a value is not JSON or not valid; the file may be untrusted.
        """
        values = {}
        for each in fields(cls):
            if each.name in _ADDED and PREFIX + each.name not in texts:
                continue
            text = texts[PREFIX + each.name]
            plain = each.name in ("task", "model", "source", "input", "dtype")
            value = text if plain else json.loads(text)
            values[each.name] = tuple(value) if each.name in _TUPLES else value
        metadata = cls(**values)
        metadata._check()
        return metadata

    def _check(self) -> None:
        if not isinstance(self.class_names, list) or not all(isinstance(name, str) for name in self.class_names):
            raise ValueError("class_names is not a list of names")
        if not isinstance(self.resize, dict):
            raise ValueError("resize is not a mapping")
        sides = [*self.size, *self.resize.get("scale", ())]
        check_sides([*sides, *(self.resize[name] for name in ("min_size", "max_size") if name in self.resize)])
        _ = self.preprocessing, self.decoded_targets  # validate their values

    @property
    def preprocessing(self) -> Preprocessing | None:
        """Preprocessing of images for a file that takes float32; None for detectors and segmenters."""
        if "img_size" not in self.resize:
            return None
        return Preprocessing(**self.resize, mean=self.mean, std=self.std, channels=self.channels)

    @property
    def decoded_targets(self) -> Targets:
        """What a classifier's logits mean; files without it classify."""
        return Targets.from_dict(self.targets or {"kind": "classes"}, len(self.class_names))


_ADDED = ("targets", "channels", "reference")
"""Values that older files lack."""

_TUPLES = ("mean", "std", "size", "dynamic", "outputs")


def parse_metadata(path: Path, texts: Mapping[str, str]) -> Metadata:
    """Parse the strings of a file; raises UserError if they are not those of an export."""
    try:
        return Metadata.from_texts(texts)
    except (KeyError, ValueError, TypeError, RecursionError) as error:
        raise UserError(
            f"cannot read the metadata of {path}: it was not written by transxnet export, or was changed: "
            f"{type(error).__name__}: {error}"
        ) from error
