"""A reference image and its expected outputs, which travel in the metadata of an exported file."""

import base64
import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms.v2.functional import resize

from transxnet.data.reading.pixels import Pixels, open_pixels
from transxnet.deploy.export_images import image_batch
from transxnet.deploy.metadata import Metadata
from transxnet.deploy.verify import Comparison, difference

SIDE = 64
"""Longer side of the stored image, which is resized to the size of the file's input."""

POSITIONS = 16
"""Number of positions of a map whose outputs are stored, since whole maps would take megabytes."""


@dataclass(frozen=True)
class ReferenceAnswer:
    """A reference image and its expected outputs.

    Attributes:
        image: a PNG or, of channels, an NPY file.
        positions: for each output, the flattened positions of its map that are stored; None for an output that is
            stored completely.
        outputs: the expected outputs. Of maps (1, C, H, W) those at the positions: (1, C, P); of masks (D, 1, M, M)
            likewise.
    """

    image: bytes
    positions: tuple[list[int] | None, ...]
    outputs: tuple[Tensor, ...]

    @classmethod
    def create(
        cls, original: Pixels, metadata: Metadata, run: Callable[[Tensor], Sequence[Tensor]]
    ) -> "ReferenceAnswer":
        """Reduce an image, and compute its outputs.

        Args:
            original: an image of any size.
            metadata: metadata of the file.
            run: computes all outputs for images as :func:`image_batch` makes them.
        """
        return cls(_reduced(original), (), ()).answered(metadata, run)

    def answered(self, metadata: Metadata, run: Callable[[Tensor], Sequence[Tensor]]) -> "ReferenceAnswer":
        """The same image with other outputs; arguments as for :meth:`create`."""
        outputs = run(self.images(metadata))
        positions = tuple(_positions(output) for output in outputs)
        return ReferenceAnswer(self.image, positions, _selected(outputs, positions, metadata))

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "ReferenceAnswer":
        """The inverse of :meth:`to_dict`.

        Raises:
            KeyError, TypeError, ValueError: the values are not valid; the file may be untrusted.
        """
        outputs = [_decoded(each) for each in values["outputs"]]
        positions = tuple(each["positions"] for each in values["outputs"])
        return cls(base64.b64decode(values["image"]), positions, tuple(outputs))

    def to_dict(self) -> dict[str, Any]:
        """Convert to values for JSON."""
        return {
            "image": base64.b64encode(self.image).decode(),
            "outputs": [
                {
                    "shape": list(output.shape),
                    "positions": positions,
                    **_encoded(output),
                }
                for positions, output in zip(self.positions, self.outputs, strict=True)
            ],
        }

    def images(self, metadata: Metadata) -> Tensor:
        """The image in the size and batch size of a file's input: (N, H, W, C), or (H, W, 3) in its own size."""
        pixels = open_pixels(self.image, metadata.channels)
        if metadata.input == "image":
            return torch.from_numpy(np.array(pixels))
        return image_batch([pixels], metadata.size, metadata.batch or 1)

    def compare(self, outputs: Sequence[Tensor], metadata: Metadata) -> Comparison:
        """Compare a file's outputs for :meth:`images` with the expected ones."""
        selected = _selected(outputs, self.positions, metadata)
        height, width = self.images(metadata).shape[-3:-1]
        return Comparison((height, width), metadata.batch or 1, *difference(selected, self.outputs, metadata))


def _reduced(original: Pixels) -> bytes:
    """Reduce an image to a small file."""
    file = io.BytesIO()
    if isinstance(original, Image.Image):
        small = original.copy()
        small.thumbnail((SIDE, SIDE))
        small.save(file, "PNG")
    else:
        scale = min(1.0, SIDE / max(original.shape[1:]))
        size = [max(1, round(side * scale)) for side in original.shape[1:]]
        np.save(file, resize(original, size, antialias=True).numpy(), allow_pickle=False)
    return file.getvalue()


def _encoded(output: Tensor) -> dict[str, str]:
    """Return the kind and the values of an output: masks as bits, label maps as bytes, all others as float32."""
    if output.dtype == torch.bool:
        kind, values = "bits", np.packbits(output.numpy())
    elif output.dtype == torch.uint8:
        kind, values = "uint8", output.numpy()
    else:
        kind, values = "float32", output.float().numpy().astype("<f4")
    return {"kind": kind, "values": base64.b64encode(values.tobytes()).decode()}


def _decoded(stored: Mapping[str, Any]) -> Tensor:
    """The inverse of :func:`_encoded`; older files have no kind."""
    kind, content, shape = stored.get("kind", "float32"), base64.b64decode(stored["values"]), stored["shape"]
    if kind == "bits":
        count = int(np.prod(shape))
        bits = np.unpackbits(np.frombuffer(content, np.uint8), count=count)
        return torch.from_numpy(bits.astype(bool).reshape(shape))
    return torch.from_numpy(np.frombuffer(content, {"float32": "<f4", "uint8": "u1"}[kind]).reshape(shape).copy())


def _positions(output: Tensor) -> list[int] | None:
    """Evenly spaced positions of a map (N, C, H, W), and that of its largest value, which scales differences."""
    if output.ndim < 4:
        return None
    count = output[0, 0].numel()
    largest = output[:1].abs().amax((0, 1)).flatten().argmax().item()
    return sorted({*torch.linspace(0, count - 1, POSITIONS).long().tolist(), int(largest)})


def _selected(
    outputs: Sequence[Tensor], positions: Sequence[list[int] | None], metadata: Metadata
) -> tuple[Tensor, ...]:
    """The values to store: those of all of a detector's detections, else those of the first image."""
    if metadata.task != "detect" and metadata.input != "image":
        outputs = [output[:1] for output in outputs]
    return tuple(
        output if places is None else output.flatten(2)[..., places]
        for output, places in zip(outputs, positions, strict=True)
    )
