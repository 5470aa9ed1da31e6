"""Preprocessing: from an image to the network's input, for training and inference."""

import math
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from typing import Any

from PIL import Image
from timm.data import create_transform, resolve_data_config
from torch import Tensor, nn
from torchvision.transforms import Compose

Transform = Callable[[Image.Image], Tensor]

MAX_SIDE = 16384
"""Largest side in pixels that stored preprocessing may resize images to, since memory grows with it."""

MAX_ASPECT = 16
"""Of longer and thinner images only the middle is resized: the center crop drops the rest, and an image of 30000x1
pixels would become 6.7 GB."""


def check_sides(sides: Iterable[Any]) -> None:
    """Raise ValueError unless all are integers in the range of sides that images may be resized to."""
    sides = list(sides)
    if not all(type(side) is int and 0 < side <= MAX_SIDE for side in sides):
        raise ValueError(f"image sides must be 1 to {MAX_SIDE} pixels, got {sides}.")


@dataclass(frozen=True)
class Preprocessing:
    """Preprocessing for inference: resize, center crop, normalize.

    Attributes:
        img_size: side of the input in pixels.
        crop_pct: the shorter side is resized to ``img_size / crop_pct`` before the crop.
        interpolation: interpolation of the resize.
        mean: mean of each channel, for values in 0 to 1.
        std: standard deviation of each channel.

    Raises:
        ValueError: an invalid value; the values may come from an untrusted file.
    """

    img_size: int
    crop_pct: float
    interpolation: str
    mean: tuple[float, ...]
    std: tuple[float, ...]

    def __post_init__(self) -> None:
        check_sides([self.img_size])
        numbers = [*self.mean, *self.std, self.crop_pct]
        if not all(isinstance(number, (int, float)) and math.isfinite(number) for number in numbers):
            raise ValueError(f"preprocessing must contain finite numbers, got {numbers}.")
        if not all(self.std) or self.crop_pct < 0.1:
            raise ValueError(
                f"preprocessing must have std other than 0 and crop_pct of at least 0.1, got {self.std}, "
                f"{self.crop_pct}."
            )

    @classmethod
    def of_model(cls, model: nn.Module, img_size: int | None = None, crop_pct: float | None = None) -> "Preprocessing":
        """Read the model's configuration, with optional overrides of size and crop."""
        config = resolve_data_config(model=model)
        return cls(
            img_size or config["input_size"][-1],
            crop_pct or config["crop_pct"],
            config["interpolation"],
            tuple(config["mean"]),
            tuple(config["std"]),
        )

    @classmethod
    def from_dict(cls, values: dict) -> "Preprocessing":
        """The inverse of :meth:`to_dict`."""
        return cls(**{**values, "mean": tuple(values["mean"]), "std": tuple(values["std"])})

    def to_dict(self) -> dict:
        """Convert to plain data."""
        return asdict(self)

    def transform(self) -> Transform:
        """The transform from an RGB image to (3, img_size, img_size) float32."""
        resize_and_crop = create_transform(
            self.img_size,
            is_training=False,
            interpolation=self.interpolation,
            mean=self.mean,
            std=self.std,
            crop_pct=self.crop_pct,
        )
        return Compose([crop_middle, resize_and_crop])

    def training_transform(
        self,
        *,
        min_scale: float,
        hflip: float,
        vflip: float,
        color_jitter: float,
        auto_augment: str | None,
        random_erasing: float,
    ) -> Transform:
        """The random augmentation from an RGB image to (3, img_size, img_size) float32.

        Args:
            min_scale: smallest fraction of the image's area that a random crop keeps.
            hflip: probability of a horizontal flip.
            vflip: probability of a vertical flip.
            color_jitter: strength of brightness, contrast and saturation changes; RandAugment replaces it.
            auto_augment: timm's policy string, such as "rand-m9-mstd0.5-inc1", or None.
            random_erasing: probability of filling a random rectangle with noise.
        """
        return create_transform(
            self.img_size,
            is_training=True,
            scale=(min_scale, 1.0),
            hflip=hflip,
            vflip=vflip,
            color_jitter=color_jitter,
            auto_augment=auto_augment,
            interpolation=self.interpolation,
            mean=self.mean,
            std=self.std,
            re_prob=random_erasing,
            re_mode="pixel",
        )


def crop_middle(image: Image.Image) -> Image.Image:
    """Crop an image whose sides differ by more than ``MAX_ASPECT`` to its middle; others are returned unchanged."""
    most = MAX_ASPECT * min(image.size)
    left, top = (max(0, side - most) // 2 for side in image.size)
    if not left and not top:
        return image
    return image.crop((left, top, image.width - left, image.height - top))
