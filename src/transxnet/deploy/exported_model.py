"""Load and run exported models."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision import tv_tensors
from torchvision.transforms.v2.functional import resize

from transxnet.data.loading.dense_transforms import MEAN_COLOUR, AlignedResize
from transxnet.data.loading.opencv_resize import opencv_resize_unit
from transxnet.data.loading.preprocessing import Preprocessing
from transxnet.deploy.export_format import Session
from transxnet.deploy.format_registry import find_format
from transxnet.deploy.metadata import Metadata
from transxnet.heads.detector_transform import float_images, paste_masks
from transxnet.metrics.targets import Targets


@dataclass(frozen=True)
class ExportedModel:
    """An exported model.

    Attributes:
        path: path of the file.
        metadata: metadata of the file.
        session: the file opened in its runtime.
    """

    path: Path
    metadata: Metadata
    session: Session

    name = property(lambda self: str(self.path))
    task = property(lambda self: self.metadata.task)

    @property
    def class_names(self) -> list[str]:
        """K names by class index; for detectors label 1 is the first."""
        return self.metadata.class_names

    @property
    def targets(self) -> Targets:
        """What a classifier's logits mean."""
        return self.metadata.decoded_targets

    @property
    def preprocessing(self) -> Preprocessing | None:
        """Preprocessing of images for a classifier; None for detectors and segmenters."""
        return self.metadata.preprocessing

    def __call__(self, images: Tensor) -> Tensor | tuple[Tensor, ...]:
        """Run the file.

        Args:
            images: (N, C, H, W) float32 on the CPU, normalized by the metadata's mean and std (for detectors and
                segmenters RGB values in 0 to 1). N may be any, even if the file has a fixed batch size above one. For
                files that take uint8, the images are converted back.

        Returns:
            The logits of a classifier (N, K) or of a segmenter (N, K, H, W), else all outputs.

        Raises:
            ValueError: the file does not accept images of this size.
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
        """Outputs (N, K) of a classifier, for images as above.

        Probabilities of classes (softmax) or labels (sigmoid), or (N, 1) values in the unit of a regression's target.
        """
        logits = self(images)
        assert isinstance(logits, Tensor)
        return self.targets.activate(logits)

    def detect(self, image: Tensor) -> dict[str, Tensor]:
        """Detect objects in an image (C, H, W) of any size, RGB in 0 to 1.

        The image is resized as by the detector, and padded at the right and the bottom with the mean color.

        Returns:
            "boxes" (D, 4) in pixels of the image, "labels" (D,) from 1 and "scores" (D,) in descending order; of Mask
            R-CNN also "masks", bool (D, H, W).
        """
        if self.metadata.input == "image":
            return self.predict_image((image * 255).round().to(torch.uint8))
        scaled, scale = fit_for_detector(image, self.metadata)
        boxes, labels, scores, *masks = self(scaled[None])
        boxes = boxes / torch.tensor(scale * 2)
        height, width = image.shape[1:]
        boxes = torch.stack(
            [x.clamp(0, side) for x, side in zip(boxes.unbind(1), (width, height) * 2, strict=True)], dim=1
        )
        real = (scores > self.metadata.score_threshold) & ((boxes[:, 2:] - boxes[:, :2]) > 0).all(1)
        found = {"boxes": boxes[real], "labels": labels[real], "scores": scores[real]}
        if masks:
            found["masks"] = paste_masks(masks[0][real, 0], found["boxes"], (height, width))
        return found

    def predict_image(self, image: Tensor) -> dict[str, Tensor]:
        """Run a file that takes one decoded image, on an image (3, H, W) uint8 of any size.

        Returns:
            The outputs by name: "probabilities" (1, K), or "label_map" (H, W), or of a detector "boxes" (D, 4) in
            pixels of the image, "labels" (D,), "scores" (D,) and, of Mask R-CNN, "masks" (D, H, W).
        """
        outputs = self.session(image.permute(1, 2, 0).contiguous())
        return dict(zip(self.metadata.outputs, outputs, strict=True))

    def segmenter_logits(self, image: Tensor) -> Tensor:
        """Compute the logits (K, H, W) of an image (C, H, W) of any size, RGB in uint8."""
        scaled, (height, width) = fit_for_segmenter(image, self.metadata)
        logits = self(scaled[None])
        assert isinstance(logits, Tensor)
        logits = logits[..., :height, :width].float()
        return F.interpolate(logits, size=image.shape[1:], mode="bilinear", align_corners=False)[0]

    def _check(self, images: Tensor) -> None:
        data = self.metadata
        if data.input == "image":
            raise ValueError(f"{self.path} takes one decoded image. Use predict_image.")
        if images.ndim != 4 or images.shape[1] != len(data.mean) or not images.is_floating_point() or not len(images):
            shape = f"(N, {len(data.mean)}, H, W)"
            raise ValueError(f"images must be float {shape} with N of at least 1, got {tuple(images.shape)}.")
        if data.task == "detect" and len(images) != 1:
            raise ValueError(f"exported detectors support batch size 1 only, got {len(images)}.")
        self.check_size(*images.shape[2:])

    def check_size(self, height: int, width: int) -> None:
        """Raise ValueError if the file does not take images of this size."""
        data = self.metadata
        for name, side, fixed in zip(("height", "width"), (height, width), data.size, strict=True):
            if name not in data.dynamic and side != fixed:
                raise ValueError(f"{self.path} requires images of {name} {fixed}, got {side}.")
            if name in data.dynamic and side % 32:
                raise ValueError(f"{self.path} requires an image {name} that is a multiple of 32, got {side}.")


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
        path: an ONNX file, an OpenVINO model's .xml, a .pt2 package, a .pte program, or an ncnn model's .param.
        threads: number of threads; 0 for the runtime's default.

    Raises:
        UserError: the file does not exist or was not exported by this package, or its runtime is not installed.
    """
    path = Path(path)
    return ExportedModel(path, *find_format(path).load(path, threads))


def fit_for_detector(image: Tensor, metadata: Metadata) -> tuple[Tensor, tuple[float, float]]:
    """Resize an image (C, H, W), RGB in 0 to 1, for a detector's file; also return the scale factors of x and y."""
    own, settings = image.shape[1:], metadata.resize
    (height, width), full = _fitted_sides(own, settings["min_size"], settings["max_size"], metadata)
    if settings.get("opencv_resize"):
        image = opencv_resize_unit(image, (height, width))
    elif (height, width) != tuple(own):
        image = F.interpolate(image[None], (height, width), mode="bilinear", align_corners=False)[0]
    padded = torch.tensor(settings["fill"]).view(-1, 1, 1).expand(-1, *full).clone()
    padded[:, :height, :width] = image
    return padded, (width / own[1], height / own[0])


def fit_for_segmenter(image: Tensor, metadata: Metadata) -> tuple[Tensor, tuple[int, int]]:
    """Resize an image (C, H, W) for a segmenter's file, 8 bits to values in 0 to 1.

    As by the trained segmenter if the file takes any size. For a fixed size the image keeps its aspect ratio and is
    padded at the right and the bottom with the mean color.

    Returns:
        The input of the file (C, h, w), and the height and width of the image in it.
    """
    scale = metadata.resize["scale"]
    if {"height", "width"} <= set(metadata.dynamic):
        resize_image = AlignedResize(
            tuple(scale), metadata.resize["multiple"], bool(metadata.resize.get("as_published"))
        )
        aligned = float_images([resize_image(tv_tensors.Image(image))])[0]
        return aligned, (aligned.shape[1], aligned.shape[2])
    (height, width), full = _fitted_sides(image.shape[1:], min(scale), max(scale), metadata)
    fill = metadata.resize.get("fill", [level / 255 for level in MEAN_COLOUR])
    padded = torch.tensor(fill).view(-1, 1, 1).expand(-1, *full).clone()
    padded[:, :height, :width] = float_images([resize(image, [height, width], antialias=True)])[0]
    return padded, (height, width)


def _fitted_sides(
    own: Sequence[int], shorter: int, longer: int, metadata: Metadata
) -> tuple[tuple[int, int], tuple[int, int]]:
    """Compute height and width of an image in a file's input, and of the input.

    The image keeps its aspect ratio and fits into the shorter and the longer side, and into the input's fixed sides.
    Dynamic sides are padded to multiples.
    """
    limits = [
        math.inf if axis in metadata.dynamic else side
        for axis, side in zip(("height", "width"), metadata.size, strict=True)
    ]
    scale = min(shorter / min(own), longer / max(own), *(limit / side for limit, side in zip(limits, own, strict=True)))
    height, width = (int(min(limit, max(1, int(side * scale + 0.5)))) for limit, side in zip(limits, own, strict=True))
    full_height, full_width = (
        side + -side % metadata.resize["multiple"] if limit == math.inf else int(limit)
        for limit, side in zip(limits, (height, width), strict=True)
    )
    return (height, width), (full_height, full_width)
