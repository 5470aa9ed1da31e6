"""What an exported file says of itself, so that it can be used without the run that it came from."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from importlib import import_module
from pathlib import Path
from typing import Any, Literal

from transxnet.data.loading.preprocessing import Preprocessing, check_sides
from transxnet.utils.errors import UserError

PREFIX = "transxnet."
"""Of the keys in the file."""

FORMATS = {"onnx": ".onnx", "openvino": ".xml", "pt2": ".pt2"}
"""The formats by name, and what their files end in."""

ExportTask = Literal["classify", "features", "detect", "segment"]


@dataclass(frozen=True)
class Metadata:
    """What an exported file says of itself.

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
        """As the file has it."""
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


def read_metadata(path: str | Path) -> Metadata:
    """What an exported file says of itself.

    Args:
        path: an ONNX file, an OpenVINO model's .xml, or a .pt2 package.

    Raises:
        UserError: no such file, another kind of file, or one that was not exported by this package.
    """
    path = Path(path)
    texts = format_of(path).read_texts(path)
    return described(path, texts)


def described(path: Path, texts: Mapping[str, str]) -> Metadata:
    """What a file says of itself in these texts; raises UserError as :func:`read_metadata`."""
    try:
        return Metadata.from_texts(texts)
    except (KeyError, ValueError, TypeError, RecursionError) as error:
        raise UserError(
            f"{path} does not say what it is: it was not written by transxnet export, or its metadata was taken out or "
            f"changed: {type(error).__name__}: {error}"
        ) from error


def format_of(path: Path) -> Any:
    """The module that reads and writes files of this ending.

    Raises:
        UserError: there is no such file, or its ending is another.
    """
    name = next((name for name, ending in FORMATS.items() if ending == path.suffix), None)
    if name is None:
        raise UserError(f"{path} is no exported model. Accepted: files that end in {', '.join(FORMATS.values())}.")
    if not path.is_file():
        raise UserError(f"there is no file {path}.")
    return format_module(name)


def format_module(name: str) -> Any:
    """The module that reads and writes files of a format."""
    return import_module(f"transxnet.deploy.format_{name}")


def files_of(path: Path) -> tuple[Path, ...]:
    """All files of an export: of OpenVINO the weights lie beside the graph."""
    return (path, path.with_suffix(".bin")) if path.suffix == FORMATS["openvino"] else (path,)


def is_exported(target: str | Path) -> bool:
    """Whether this names a file that ``transxnet export`` may have written."""
    return Path(target).suffix in FORMATS.values() and Path(target).is_file()
