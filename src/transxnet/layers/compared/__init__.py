"""The layers that the paper compares its own with, one family per file, each usable alone.

Importing this package adds their names to the options ``local_conv`` and ``spatial_reduction``. ``import transxnet``
imports it, because :mod:`transxnet.models` does.
"""

from transxnet.layers.compared.acmix import ACmix
from transxnet.layers.compared.depthwise_convs import DDWConv, DWConv, DyConv
from transxnet.layers.compared.mixing_block import MixingBlock
from transxnet.layers.compared.non_overlapping import NonOverlappingPatchEmbed
from transxnet.layers.compared.sep_conv import SepConv
from transxnet.layers.compared.sra import SRA, NonOverlappingSpatialReduction
from transxnet.layers.compared.window import ShiftedWindowAttention, WindowAttention
from transxnet.layers.dmixer import LOCAL_CONVS
from transxnet.layers.ffn import FFN
from transxnet.layers.osra import SPATIAL_REDUCTIONS

__all__ = [
    "FFN",
    "SRA",
    "ACmix",
    "DDWConv",
    "DWConv",
    "DyConv",
    "MixingBlock",
    "NonOverlappingPatchEmbed",
    "NonOverlappingSpatialReduction",
    "SepConv",
    "ShiftedWindowAttention",
    "WindowAttention",
]

LOCAL_CONVS.update(
    dwconv=lambda dim, kernel_size, num_groups, num_heads: DWConv(dim, kernel_size),
    window=lambda dim, kernel_size, num_groups, num_heads: WindowAttention(dim, num_heads, kernel_size),
    dyconv=lambda dim, kernel_size, num_groups, num_heads: DyConv(dim, kernel_size, num_groups),
    d_dwconv=lambda dim, kernel_size, num_groups, num_heads: DDWConv(dim, kernel_size),
)
SPATIAL_REDUCTIONS.update(non_overlapping=NonOverlappingSpatialReduction)
