"""Reference vectors of the networks that the paper compares with, computed by their authors' code in float64."""

import gzip
import json
from functools import lru_cache

import numpy as np
import pytest
import timm
import torch
from torch import Tensor, nn

from tests.helpers import fill
from transxnet.models.peers.peer_network import load_published

HERE = fill.HERE / "peers"

REFERENCES = {
    "uniformer_small": "uniformer_s",
    "mpvit_xsmall": "mpvit_xs",
    "focal_tiny": "focal_t",
    "quadtree_b1": "quadtree_b1",
}
"""Registered name -> name of the vectors."""

PARAMETERS = {
    "uniformer_small": 21_545_256,
    "mpvit_xsmall": 10_573_448,
    "focal_tiny": 28_880_380,
    "quadtree_b1": 13_657_788,
}
LINEAR_MACS = {
    "uniformer_small": 3_427_708_416,
    "mpvit_xsmall": 2_900_441_344,
    "focal_tiny": 4_373_088_768,
    "quadtree_b1": 2_241_071_104,
}
"""MACs of convolutions and linear layers at 224x224, of the authors' code."""

TOTAL_MACS = {
    "uniformer_small": 3_631_774_208,
    "mpvit_xsmall": 2_950_215_936,
    "focal_tiny": 4_953_223_680,
    "quadtree_b1": 2_308_708_352,
}
"""Together with the matrix products of attention."""

WIDTHS = {
    "uniformer_small": [64, 128, 320, 512],
    "mpvit_xsmall": [128, 192, 256, 256],
    "focal_tiny": [96, 192, 384, 768],
    "quadtree_b1": [64, 128, 320, 512],
}
EVERY = pytest.mark.parametrize("name", list(REFERENCES))


def stored(name: str, kind: str) -> dict:
    """The keys or the aliases of a published checkpoint."""
    return json.loads(gzip.decompress((HERE / f"{REFERENCES[name]}_{kind}.json.gz").read_bytes()))


@lru_cache(1)
def checkpoint(name: str) -> dict[str, Tensor]:
    """A complete checkpoint with the authors' names, in float64."""
    keys = stored(name, "keys")
    return {key: torch.as_tensor(fill.tensor(key, tuple(shape))) for key, shape in keys.items()}


def filled(name: str, **kwargs) -> nn.Module:
    """The network in float64 with the weights of the vectors, loaded as a checkpoint of the authors."""
    model = timm.create_model(name, **kwargs).double().eval()
    load_published(model, model.pretrained_cfg | dict(state_dict=checkpoint(name)))
    return model


@torch.no_grad()
def check_vectors(name: str, size: str) -> None:
    """Compare logits and stage maps with those of the authors' code, to 1e-9 of the largest value."""
    with np.load(HERE / f"{REFERENCES[name]}_{size}.npz") as file:
        truth = dict(file)
    model, x = filled(name), torch.from_numpy(fill.image(*map(int, size.split("x"))))
    maps = model.forward_intermediates(x, intermediates_only=True)
    found = {"logits": model(x).numpy()}
    for i, feature in enumerate(maps, 1):
        assert feature.shape == tuple(truth[f"stage{i}_shape"])
        found[f"stage{i}_samples"] = fill.samples(feature.numpy())
    for key, array in found.items():
        error = np.abs(array - truth[key]).max() / np.abs(truth[key]).max()
        assert error < 1e-9, f"{key}: {error:.1e}"
