"""Exported models, opened again and run."""

import math
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from transxnet.data.transforms import Preprocessing
from transxnet.deploy.export_format import Session
from transxnet.deploy.format_registry import find_format
from transxnet.deploy.metadata import Metadata


@dataclass(frozen=True)
class ExportedModel:
    """An exported model.

    Attributes:
        path: of the file.
        metadata: of the file.
        session: the file, open in its runtime.
    """

    path: Path
    metadata: Metadata
    session: Session

    name = property(lambda self: str(self.path))
    task = property(lambda self: self.metadata.task)

    @property
    def class_names(self) -> list[str]:
        """K names by class index; of detectors label 1 is the first."""
        return self.metadata.class_names

    @property
    def preprocessing(self) -> Preprocessing | None:
        """From a picture to the images that a classifier takes; of detectors and segmenters None."""
        return self.metadata.preprocessing

    def __call__(self, images: Tensor) -> Tensor | tuple[Tensor, ...]:
        """Run the file.

        Args:
            images: (N, 3, H, W) float32 on the CPU, normalised by the metadata's mean and std (of detectors and
                segmenters that is 0 to 1). Of a file with a fixed batch of more than one, N may be any; of a file that
                takes bytes, the images are turned back into them.

        Returns:
            The logits of a classifier (N, K) or of a segmenter (N, K, H, W), else all outputs.

        Raises:
            ValueError: images of a size that the file does not take.
        """
        self._check(images)
        data = self.metadata
        size = data.batch or len(images)
        parts = []
        for chunk in images.split(size):
            missing = size - len(chunk)
            whole = torch.cat([chunk, chunk[-1:].expand(missing, -1, -1, -1)]) if missing else chunk
            parts.append([x[: len(x) - missing] for x in self.session(file_input(whole, data))])
        outputs = tuple(torch.cat(each) for each in zip(*parts, strict=True))
        return outputs[0] if data.task in ("classify", "segment") else outputs

    def probabilities(self, images: Tensor) -> Tensor:
        """Of a classifier, softmax probabilities (N, K) of images as above."""
        logits = self(images)
        assert isinstance(logits, Tensor)
        return logits.softmax(dim=1)

    def detect(self, image: Tensor) -> dict[str, Tensor]:
        """Of a detector, what it finds in a picture (3, H, W) of any size, in 0 to 1.

        The picture is resized as the detector does it, and padded at the right and the bottom with the mean colour.

        Returns:
            "boxes" (D, 4) in pixels of the picture, "labels" (D,) from 1 and "scores" (D,), best first.
        """
        scaled, scale = fit_for_detector(image, self.metadata)
        boxes, labels, scores = self(scaled[None])
        boxes = boxes / torch.tensor(scale * 2)
        height, width = image.shape[1:]
        boxes = torch.stack(
            [x.clamp(0, side) for x, side in zip(boxes.unbind(1), (width, height) * 2, strict=True)], dim=1
        )
        real = (scores > self.metadata.score_threshold) & ((boxes[:, 2:] - boxes[:, :2]) > 0).all(1)
        return {"boxes": boxes[real], "labels": labels[real], "scores": scores[real]}

    def _check(self, images: Tensor) -> None:
        data = self.metadata
        if images.ndim != 4 or images.shape[1] != 3 or not images.is_floating_point() or not len(images):
            raise ValueError(f"images must be float (N, 3, H, W), N at least 1, got {tuple(images.shape)}.")
        if data.task == "detect" and len(images) != 1:
            raise ValueError(f"an exported detector takes one image at a time, got {len(images)}.")
        self.check_size(*images.shape[2:])

    def check_size(self, height: int, width: int) -> None:
        """Raise ValueError if the file does not take images of this size."""
        data = self.metadata
        for name, side, fixed in zip(("height", "width"), (height, width), data.size, strict=True):
            if name not in data.dynamic and side != fixed:
                raise ValueError(f"{self.path} takes images of {name} {fixed}, got {side}.")
            if name in data.dynamic and side % 32:
                raise ValueError(f"{self.path} takes images whose {name} is a multiple of 32, got {side}.")


def file_input(images: Tensor, metadata: Metadata) -> Tensor:
    """Convert normalized images (N, 3, H, W) to the input of a file: themselves, or their uint8 values."""
    if metadata.input == "float32":
        return images.contiguous()
    mean, std = (torch.tensor(values).view(-1, 1, 1) for values in (metadata.mean, metadata.std))
    levels = ((images * std + mean) * 255).round().clamp(0, 255)
    return levels.to(torch.uint8).permute(0, 2, 3, 1).contiguous()


def load_exported(path: str | Path, threads: int = 0) -> ExportedModel:
    """Open a file that ``transxnet export`` wrote.

    Args:
        path: an ONNX file, an OpenVINO model's .xml, or a .pt2 package.
        threads: that compute; 0 for the runtime's own choice.

    Raises:
        UserError: no such file, one of another origin, or its runtime is not installed.
    """
    path = Path(path)
    return ExportedModel(path, *find_format(path).load(path, threads))


def fit_for_detector(image: Tensor, metadata: Metadata) -> tuple[Tensor, tuple[float, float]]:
    """A picture (3, H, W) in 0 to 1 at the size that a detector's file takes, and the factors of x and y."""
    own, resize = image.shape[1:], metadata.resize
    limits = [
        math.inf if axis in metadata.dynamic else side
        for axis, side in zip(("height", "width"), metadata.size, strict=True)
    ]
    scale = min(
        resize["min_size"] / min(own),
        resize["max_size"] / max(own),
        *(limit / side for limit, side in zip(limits, own, strict=True)),
    )
    height, width = (int(min(limit, max(1, int(side * scale + 0.5)))) for limit, side in zip(limits, own, strict=True))
    if (height, width) != tuple(own):
        image = F.interpolate(image[None], (height, width), mode="bilinear", align_corners=False)[0]
    full = [
        side + -side % resize["multiple"] if limit == math.inf else limit
        for limit, side in zip(limits, (height, width), strict=True)
    ]
    padded = torch.tensor(resize["fill"]).view(-1, 1, 1).expand(3, *full).clone()
    padded[:, :height, :width] = image
    return padded, (width / own[1], height / own[0])
