"""Networks that the paper compares TransXNet with and that timm lacks, under the names of their published tensors."""

from transxnet.models.peers.focal import FocalTransformer
from transxnet.models.peers.mpvit import MPViT
from transxnet.models.peers.quadtree import QuadTreeTransformer
from transxnet.models.peers.uniformer import UniFormer

__all__ = ["FocalTransformer", "MPViT", "QuadTreeTransformer", "UniFormer"]
