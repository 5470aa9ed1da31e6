"""Draw the scenes of the built-in sample: digits pasted on a background image, with exact masks."""

import colorsys
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

SIDES = (192, 320)
"""Range of a scene's width and height, in pixels."""

SIZES = (26, 240)
"""Range of a digit's height in pixels, log-uniform: it covers COCO's small, medium and large objects."""

MOST = 7
"""Most digits in a scene."""

MIN_VISIBLE = 0.7
"""Fraction of every digit that later digits must leave visible."""

TURN = 20.0
"""Largest rotation of a digit in degrees; a larger one could turn a six into a nine."""

_CELL = 16
"""Factor by which a digit's 8x8 pixels are enlarged."""

_EDGE, _FULL = 0.32, 0.85
"""Gray values, in 0 to 1, at which an enlarged digit starts, in its rim's color, and reaches its full color."""

_SMOOTH = Image.Resampling.BICUBIC


@dataclass(frozen=True)
class Scene:
    """A drawn scene.

    Attributes:
        image: RGB.
        owner: (H, W) uint8, the object that each pixel shows, from 1; 0 for the background.
        labels: the digits of object 1, 2 and so on.
    """

    image: Image.Image
    owner: np.ndarray
    labels: list[int]


@dataclass(frozen=True)
class Digits:
    """Handwritten digits: gray values (N, 8, 8) in 0 to 1, and labels (N,)."""

    values: np.ndarray
    labels: np.ndarray


def draw_scene(
    random: np.random.Generator, digits: Digits, backgrounds: Sequence[Image.Image], empty: bool = False
) -> Scene:
    """Draw a scene with up to ``MOST`` digits on a crop of a background image.

    Args:
        random: generator of all randomness.
        digits: digits to choose from.
        backgrounds: images to choose the background from.
        empty: draw no digits.
    """
    width, height = (int(random.integers(*SIDES, endpoint=True)) for _ in range(2))
    background = backgrounds[int(random.integers(len(backgrounds)))]
    canvas = _background(random, background, width, height)
    owner = np.zeros((height, width), np.uint8)
    areas: list[int] = []
    labels: list[int] = []
    for _ in range(0 if empty else int(random.integers(1, MOST, endpoint=True))):
        which = int(random.integers(len(digits.labels)))
        body, ink = _shape(random, digits.values[which], min(width, height))
        place = _place(random, body >= 0.5, owner, areas)
        if place is None:
            continue
        _paste(random, canvas, body, ink, place)
        seen = owner[place]
        seen[body >= 0.5] = len(labels) + 1
        labels.append(int(digits.labels[which]))
        areas.append(int((body >= 0.5).sum()))
    image = Image.fromarray(np.round(np.clip(canvas, 0, 1) * 255).astype(np.uint8))
    return Scene(image, owner, labels)


def _background(random: np.random.Generator, background: Image.Image, width: int, height: int) -> np.ndarray:
    """A random crop, randomly mirrored and darkened so that digits stand out: (H, W, 3) in 0 to 1."""
    scale = min(background.width / width, background.height / height) * random.uniform(0.6, 1.0)
    crop_width, crop_height = width * scale, height * scale
    left = random.uniform(0, background.width - crop_width)
    top = random.uniform(0, background.height - crop_height)
    box = (left, top, left + crop_width, top + crop_height)
    crop = background.resize((width, height), _SMOOTH, box=box)
    values = np.asarray(crop, np.float64) / 255
    if random.random() < 0.5:
        values = values[:, ::-1]
    return values * random.uniform(0.4, 0.7)


def _shape(random: np.random.Generator, values: np.ndarray, room: int) -> tuple[np.ndarray, np.ndarray]:
    """Enlarge, slant and rotate a digit; return the coverage of its body, and of its ink inside the rim."""
    gray = Image.fromarray(np.pad(values, 1).astype(np.float32))
    side = gray.width * _CELL
    large = gray.resize((side, side), _SMOOTH)
    angle, slant, stretch = random.uniform(-TURN, TURN), random.uniform(-0.2, 0.2), random.uniform(0.85, 1.2)
    middle = side / 2
    large = large.transform((side, side), Image.Transform.AFFINE, (1, slant, -slant * middle, 0, 1, 0), _SMOOTH)
    large = large.rotate(angle, _SMOOTH, expand=True)
    around = np.asarray(large) >= _EDGE
    rows, columns = np.flatnonzero(around.any(axis=1)), np.flatnonzero(around.any(axis=0))
    large = large.crop((int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1))
    size = float(np.exp(random.uniform(*np.log(SIZES))))
    height = min(size, 0.8 * room)
    width = height * large.width / large.height * stretch
    shrink = min(1.0, 0.8 * room / width)
    shape = max(4, round(width * shrink)), max(4, round(height * shrink))
    grey_values = np.asarray(large)
    ink = np.clip((grey_values - _EDGE) / (_FULL - _EDGE), 0, 1)
    body, ink = (
        np.asarray(Image.fromarray(values.astype(np.float32)).resize(shape, Image.Resampling.BILINEAR), np.float64)
        for values in (grey_values >= _EDGE, ink)
    )
    return body, ink


def _place(
    random: np.random.Generator, mask: np.ndarray, owner: np.ndarray, areas: Sequence[int]
) -> tuple[slice, slice] | None:
    """Find a position that does not hide too much of earlier objects; None if 20 random ones fail."""
    for _ in range(20):
        top, left = (int(random.integers(owner.shape[axis] - mask.shape[axis] + 1)) for axis in (0, 1))
        place = slice(top, top + mask.shape[0]), slice(left, left + mask.shape[1])
        after = owner.copy()
        after[place][mask] = 255
        seen = np.bincount(after.ravel(), minlength=len(areas) + 1)[1 : len(areas) + 1]
        if (seen >= MIN_VISIBLE * np.array(areas)).all():
            return place
    return None


def _paste(
    random: np.random.Generator, canvas: np.ndarray, body: np.ndarray, ink: np.ndarray, place: tuple[slice, slice]
) -> None:
    """Paste the digit on the canvas, in a light color with a dark rim."""
    under = canvas[place]
    hue, saturation = random.uniform(), random.uniform(0.3, 1.0)
    fill, rim = (colorsys.hls_to_rgb(hue, light, saturation) for light in (random.uniform(0.6, 0.85), 0.08))
    shade = 1 + random.uniform(-0.15, 0.15) * np.linspace(-1, 1, body.shape[0])[:, None, None]
    color = rim + ink[..., None] * (np.array(fill) * shade - rim)
    canvas[place] = under + body[..., None] * (color - under)
