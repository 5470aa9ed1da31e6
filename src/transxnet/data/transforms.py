"""From a picture to the network's input, in training and in use."""

from collections.abc import Callable
from dataclasses import asdict, dataclass

from PIL import Image
from timm.data import create_transform, resolve_data_config
from torch import Tensor, nn

Transform = Callable[[Image.Image], Tensor]


@dataclass(frozen=True)
class Preprocessing:
    """How a picture becomes the network's input outside training: resize, centre crop, normalise.

    Attributes:
        img_size: side of the input in pixels.
        crop_pct: the shorter side is resized to ``img_size / crop_pct`` before the crop.
        interpolation: of the resize.
        mean: of each channel, of values in 0 to 1.
        std: of each channel.
    """

    img_size: int
    crop_pct: float
    interpolation: str
    mean: tuple[float, ...]
    std: tuple[float, ...]

    @classmethod
    def of_model(cls, model: nn.Module, img_size: int | None = None, crop_pct: float | None = None) -> "Preprocessing":
        """What the model's own configuration says, with another size or crop on request."""
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
        """As plain data."""
        return asdict(self)

    def transform(self) -> Transform:
        """Picture (RGB) -> (3, img_size, img_size) float32."""
        return create_transform(
            self.img_size,
            is_training=False,
            interpolation=self.interpolation,
            mean=self.mean,
            std=self.std,
            crop_pct=self.crop_pct,
        )

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
        """Picture (RGB) -> (3, img_size, img_size) float32, augmented at random.

        Args:
            min_scale: smallest share of the picture's area that a random crop keeps.
            hflip: probability of a left-right flip.
            vflip: probability of an upside-down flip.
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
