"""The paper's layers, each usable alone; :mod:`~transxnet.layers.compared` has those it compares them with."""

from transxnet.layers.block import Block, LayerScale
from transxnet.layers.dmixer import STE, DMixer
from transxnet.layers.dpe import DPE
from transxnet.layers.idconv import IDConv
from transxnet.layers.msffn import MSFFN
from transxnet.layers.osra import OSRA
from transxnet.layers.patch_embed import PatchEmbed
from transxnet.layers.position_bias import PositionBias, resize_position_bias

__all__ = [
    "DPE",
    "MSFFN",
    "OSRA",
    "STE",
    "Block",
    "DMixer",
    "IDConv",
    "LayerScale",
    "PatchEmbed",
    "PositionBias",
    "resize_position_bias",
]
