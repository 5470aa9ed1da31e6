"""The parts that the paper compares its own with, a family to a file, each usable alone."""

from transxnet.layers.compared.acmix import ACmix
from transxnet.layers.compared.depthwise_convs import DDWConv, DWConv, DyConv
from transxnet.layers.compared.ffn import FFN
from transxnet.layers.compared.mixing_block import MixingBlock
from transxnet.layers.compared.non_overlapping import NonOverlappingPatchEmbed
from transxnet.layers.compared.sep_conv import SepConv
from transxnet.layers.compared.sra import SRA, NonOverlappingSpatialReduction
from transxnet.layers.compared.window import ShiftedWindowAttention, WindowAttention

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
