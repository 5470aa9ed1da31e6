"""Detectors and segmenters on the backbones: RetinaNet, Mask R-CNN and Semantic FPN.

All take RGB images with values in 0 to 1 and normalize them internally. Detectors number their K classes from 1 to K in
targets and predictions, as in torchvision; 0 is the background and not a label. Segmenters number theirs from 0 to
K - 1; 255 is an ignored pixel.
"""

from transxnet.heads.create_heads import create_detector, create_segmenter
from transxnet.heads.dense_checkpoints import load_checkpoint
from transxnet.heads.mask_rcnn import MaskRCNN
from transxnet.heads.retinanet import RetinaNet
from transxnet.heads.semantic_fpn import SemanticFPN

__all__ = ["MaskRCNN", "RetinaNet", "SemanticFPN", "create_detector", "create_segmenter", "load_checkpoint"]
