"""Deterministic weights for the reference vectors in this folder, and access to the vectors.

Every tensor of the published TransXNet checkpoint layout is drawn from a generator seeded by its own
name, so anyone who knows the layout (the *_keys.json.gz files) can rebuild the weights bit for bit.
The vectors are the outputs of the published implementation in float64, eval mode, on the CPU.
"""

import gzip
import json
import zlib
from pathlib import Path

import numpy as np

HERE = Path(__file__).parents[1] / "reference"


def tensor(key: str, shape: tuple[int, ...]) -> np.ndarray:
    """The value of one checkpoint tensor, float64 (int64 for a BatchNorm counter)."""
    rng = np.random.RandomState(zlib.crc32(key.encode()))
    leaf = key.rsplit(".", 1)[-1]
    if leaf == "num_batches_tracked":
        return np.zeros(shape, np.int64)
    z = rng.standard_normal(shape)
    if leaf == "running_var":
        return 0.5 + rng.random_sample(shape)
    if leaf == "running_mean":
        return 0.1 * z
    if "relative_pos_enc" in key:
        return 0.5 * z
    if "layer_scale" in key:
        return 0.5 + 0.1 * z if leaf == "weight" else 0.1 * z
    if len(shape) == 1:
        return 1 + 0.1 * z if leaf == "weight" else 0.1 * z
    if len(shape) == 2:  # bias bank of the input-dependent convolution, (groups, channels)
        return 0.1 * z
    return z / np.sqrt(np.prod(shape[1:]))


def keys(variant: str, form: str) -> dict[str, tuple[int, ...]]:
    """Name and shape of every tensor in a published checkpoint; variant t, s or b, form classifier or features."""
    text = gzip.decompress((HERE / f"transxnet_{variant}_{form}_keys.json.gz").read_bytes())
    return {key: tuple(shape) for key, shape in json.loads(text).items()}


def checkpoint(variant: str, form: str) -> dict[str, np.ndarray]:
    """A complete checkpoint in the published layout, name -> array."""
    return {key: np.asarray(tensor(key, shape)) for key, shape in keys(variant, form).items()}


def vectors(name: str) -> dict[str, np.ndarray]:
    """Outputs of the published implementation: t_224x224 and t_200x168 (logits), t_features_224x320 (samples)."""
    with np.load(HERE / f"transxnet_{name}.npz") as file:
        return dict(file)


def image(height: int, width: int, batch: int = 2) -> np.ndarray:
    """The input of every vector, (batch, 3, height, width), float64."""
    return np.random.RandomState(0).standard_normal((batch, 3, height, width))


def samples(feature: np.ndarray) -> np.ndarray:
    """256 entries of a flattened feature map, at the positions stored in the vectors."""
    flat = np.asarray(feature).reshape(-1)
    return flat[np.random.RandomState(1).randint(0, flat.size, 256)]
