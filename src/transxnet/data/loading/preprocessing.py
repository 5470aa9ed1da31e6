"""Preprocessing: from an image to the network's input, for training and inference."""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from timm.data import create_transform, resolve_data_config
from torch import Tensor, nn
from torchvision.transforms import Compose

from transxnet.data.loading.channel_transforms import channel_augmentation, channel_transform, middle_margins
from transxnet.data.reading.pixels import Pixels, displayed, open_pixels, unit_to_uint8

Transform = Callable[[Any], Tensor]
"""From an image, an RGB image of Pillow or a tensor of channels, to the input of a network."""

MAX_SIDE = 16384
"""Largest side in pixels that stored preprocessing may resize images to, since memory grows with it."""


def check_sides(sides: Iterable[Any]) -> None:
    """Raise ValueError unless all are integers in the range of sides that images may be resized to."""
    sides = list(sides)
    if not all(type(side) is int and 0 < side <= MAX_SIDE for side in sides):
        raise ValueError(f"image sides must be 1 to {MAX_SIDE} pixels, got {sides}.")


def check_normalization(mean: Sequence[Any], std: Sequence[Any]) -> None:
    """Raise ValueError unless these are a finite mean, and a finite standard deviation other than 0, per channel."""
    numbers = [*mean, *std]
    if not all(isinstance(number, (int, float)) and math.isfinite(number) for number in numbers):
        raise ValueError(f"mean and std must contain finite numbers, got {numbers}.")
    if not all(std) or not 0 < len(mean) == len(std):
        raise ValueError(f"mean and std must be given for each channel, std other than 0, got {mean} and {std}.")


@dataclass(frozen=True)
class Preprocessing:
    """Preprocessing for inference: resize, center crop, normalize.

    Attributes:
        img_size: side of the input in pixels.
        crop_pct: the shorter side is resized to ``img_size / crop_pct`` before the crop.
        interpolation: interpolation of the resize.
        mean: mean of each channel, of RGB for values in 0 to 1, else in the unit of the file.
        std: standard deviation of each channel.
        channels: number of channels to read, with their stored values; None for RGB.

    Raises:
        ValueError: an invalid value; the values may come from an untrusted file.
    """

    img_size: int
    crop_pct: float
    interpolation: str
    mean: tuple[float, ...]
    std: tuple[float, ...]
    channels: int | None = None

    def __post_init__(self) -> None:
        check_sides([self.img_size])
        check_normalization(self.mean, self.std)
        if not (isinstance(self.crop_pct, (int, float)) and 0.1 <= self.crop_pct < math.inf):
            raise ValueError(f"crop_pct must be a finite number of at least 0.1, got {self.crop_pct}.")
        if self.channels is not None and (type(self.channels) is not int or self.channels != len(self.mean)):
            raise ValueError(
                f"preprocessing must have mean and std of each channel, got {len(self.mean)} for channels "
                f"{self.channels}."
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
        """Convert to plain data; without ``channels`` for RGB, as earlier versions wrote it."""
        values = asdict(self)
        if self.channels is None:
            del values["channels"]
        return values

    def read(self, source: str | Path | bytes) -> Pixels:
        """Decode an image file or its bytes for the transforms; raises UnreadableImage."""
        return open_pixels(source, self.channels)

    def display(self, image: Tensor) -> np.ndarray:
        """Render a transformed image (C, H, W) without normalization as (H, W, 3) uint8."""
        shift, scale = (torch.tensor(values).view(-1, 1, 1) for values in (self.mean, self.std))
        plain = image.detach().cpu() * scale + shift
        return unit_to_uint8(plain) if self.channels is None else np.asarray(displayed(plain))

    def transform(self) -> Transform:
        """The transform from an image to (C, img_size, img_size) float32."""
        if self.channels is not None:
            size, kept = self.img_size, math.floor(self.img_size / self.crop_pct)
            return channel_transform(size, kept, self.interpolation, self.mean, self.std)
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
        """The random augmentation from an image to (C, img_size, img_size) float32.

        Other images than RGB are not changed in color.

        Args:
            min_scale: smallest fraction of the image's area that a random crop keeps.
            hflip: probability of a horizontal flip.
            vflip: probability of a vertical flip.
            color_jitter: strength of brightness, contrast and saturation changes; RandAugment replaces it.
            auto_augment: timm's policy string, such as "rand-m9-mstd0.5-inc1", or None.
            random_erasing: probability of filling a random rectangle with noise.
        """
        if self.channels is not None:
            return channel_augmentation(
                self.img_size,
                self.interpolation,
                self.mean,
                self.std,
                min_scale=min_scale,
                hflip=hflip,
                vflip=vflip,
                random_erasing=random_erasing,
            )
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
    left, top = middle_margins(image.width, image.height)
    if not left and not top:
        return image
    return image.crop((left, top, image.width - left, image.height - top))
