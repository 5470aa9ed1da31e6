"""Detectors and segmenters on the backbones: RetinaNet, Mask R-CNN and Semantic FPN.

All take RGB images with values in 0 to 1 and normalise them themselves. Detectors number their K classes from 1 to K,
in what they are given and in what they answer, as torchvision does: 0 is the background, which is no label. Segmenters
number theirs from 0 to K - 1, and 255 is a pixel that does not count.
"""

from transxnet.heads.create_heads import create_detector, create_segmenter
from transxnet.heads.dense_checkpoints import load_checkpoint
from transxnet.heads.mask_rcnn import MaskRCNN
from transxnet.heads.retinanet import RetinaNet
from transxnet.heads.semantic_fpn import SemanticFPN

__all__ = ["MaskRCNN", "RetinaNet", "SemanticFPN", "create_detector", "create_segmenter", "load_checkpoint"]
