"""Mask R-CNN: region proposals, then a class, a box and a mask for each."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor, TwoMLPHead
from torchvision.models.detection.generalized_rcnn import GeneralizedRCNN
from torchvision.models.detection.mask_rcnn import MaskRCNNHeads, MaskRCNNPredictor
from torchvision.models.detection.rpn import RegionProposalNetwork, RPNHead

from transxnet.heads.anchors import AnchorMatcher, Anchors, BoxCoder, centers_inside
from transxnet.heads.detector_transform import DetectorTransform, at_least_float32, mean_and_std
from transxnet.heads.pyramid import HEAD_NORM, P6, PYRAMID_CHANNELS, PyramidBackbone
from transxnet.heads.roi_heads import PyramidRoIAlign, RoIHeads
from transxnet.heads.target_checks import check_images, check_targets

BOX_SIZE, MASK_SIZE, HIDDEN = 7, 14, 1024
ANCHORS_PER_LOCATION = 3


class MaskRCNN(GeneralizedRCNN):
    """Mask R-CNN on the feature maps of all four stages, as in the paper's experiments (Sec. IV-B).

    The pyramid has levels of strides 4 to 64, where P6 is P5 subsampled by 2. Each position has 3 anchors of area
    (8 * stride)^2. Proposals: an anchor is positive from an IoU of 0.7 or, from 0.3, as an object's best; it is
    background below 0.3. 256 anchors are sampled per image, at most half of them positive. The best 2,000 of a level
    (1,000 in evaluation) go through NMS at 0.7, and 1,000 remain. Regions: a proposal belongs to the object that it
    overlaps most, from an IoU of 0.5; the best proposal of an object, from the same IoU, belongs to that object. The
    objects' own boxes are added, and 512 regions are sampled per image, at most a quarter of them positive. Classes and
    boxes: RoIAlign to 7x7 and two linear layers of 1,024. Masks: RoIAlign to 14x14, four convolutions, a transposed one
    and a 1x1, for masks of 28x28. Box deltas are in units of (0.1, 0.1, 0.2, 0.2). The box losses are L1.

    Args:
        body: outputs feature maps of strides 4, 8, 16 and 32, such as
            ``create_model("transxnet_t", features_only=True)``.
        num_classes: K, not counting the background.
        min_size: the shorter side of an image is resized to this.
        max_size: the longer side is at most this; the shorter side becomes smaller if necessary.
        head_norm: use GroupNorm in the pyramid and the mask head, to train from scratch; not in the published models.
        box_batch_size_per_image: regions sampled per image to train the heads, at most a quarter of them positive.
        score_thresh: detections below this score are dropped.
        nms_thresh: IoU from which the lower-scoring of two boxes of a class is dropped.
        detections_per_img: maximum number of detections.

    Shapes:
        In training, images (a list of (3, H, W), RGB in 0 to 1, of any sizes) and targets (for each image "boxes"
        (N, 4), "labels" (N,) from 1 to K and "masks", bool or uint8 (N, H, W)) -> the losses "loss_objectness",
        "loss_rpn_box_reg", "loss_classifier", "loss_box_reg" and "loss_mask". Else images -> for each "boxes" (D, 4),
        "labels" (D,) from 1 to K, "scores" (D,) in descending order, and "masks", bool (D, H, W). Boxes are
        (x1, y1, x2, y2) in pixels of the original image.

    Raises:
        UserError: the body lacks one of the strides.
        ValueError: images or targets are not as above, or :class:`PyramidBackbone` rejects them.

    Source:
        He et al., "Mask R-CNN", with the settings of mmdetection 2.x's 1x schedule.
    """

    class_layers = (
        "roi_heads.box_predictor.cls_score",
        "roi_heads.box_predictor.bbox_pred",
        "roi_heads.mask_predictor.mask_fcn_logits",
    )
    """Layers whose size depends on the number of classes."""

    def __init__(
        self,
        body: nn.Module,
        num_classes: int,
        min_size: int = 800,
        max_size: int = 1333,
        head_norm: bool = False,
        box_batch_size_per_image: int = 512,
        score_thresh: float = 0.05,
        nms_thresh: float = 0.5,
        detections_per_img: int = 100,
    ):
        strides = (4, 8, 16, 32)
        backbone = PyramidBackbone(body, strides, lambda _: P6(), head_norm)
        anchors = Anchors((*strides, 64), [[8 * stride] for stride in (*strides, 64)])
        roi_heads = RoIHeads(
            box_roi_pool=PyramidRoIAlign(BOX_SIZE, strides),
            box_head=TwoMLPHead(PYRAMID_CHANNELS * BOX_SIZE**2, HIDDEN),
            box_predictor=FastRCNNPredictor(HIDDEN, num_classes + 1),
            fg_iou_thresh=0.5,
            bg_iou_thresh=0.5,
            batch_size_per_image=box_batch_size_per_image,
            positive_fraction=0.25,
            bbox_reg_weights=(10.0, 10.0, 5.0, 5.0),
            score_thresh=score_thresh,
            nms_thresh=nms_thresh,
            detections_per_img=detections_per_img,
            mask_roi_pool=PyramidRoIAlign(MASK_SIZE, strides),
            mask_head=MaskRCNNHeads(
                PYRAMID_CHANNELS, (PYRAMID_CHANNELS,) * 4, dilation=1, norm_layer=HEAD_NORM if head_norm else None
            ),
            mask_predictor=MaskRCNNPredictor(PYRAMID_CHANNELS, PYRAMID_CHANNELS, num_classes + 1),
        )
        _init_heads(roi_heads)
        super().__init__(
            backbone, Proposals(anchors), roi_heads, DetectorTransform(min_size, max_size, *mean_and_std(body))
        )
        self.num_classes = num_classes

    def forward(
        self, images: list[Tensor], targets: list[dict[str, Tensor]] | None = None
    ) -> dict[str, Tensor] | list[dict[str, Tensor]]:
        """Return the losses in training, else the detections."""
        check_images(images)
        if self.training:
            check_targets(images, targets, self.num_classes, with_masks=True)
        return super().forward(images, targets if self.training else None)


class Proposals(RegionProposalNetwork):
    """The region proposal network with the settings of mmdetection 2.x.

    Args:
        anchors: anchors of the pyramid's levels.
    """

    def __init__(self, anchors: Anchors):
        super().__init__(
            anchors,
            Float32RPNHead(PYRAMID_CHANNELS, ANCHORS_PER_LOCATION),
            fg_iou_thresh=0.7,
            bg_iou_thresh=0.3,
            batch_size_per_image=256,
            positive_fraction=0.5,
            pre_nms_top_n=dict(training=2000, testing=1000),
            post_nms_top_n=dict(training=1000, testing=1000),
            nms_thresh=0.7,
        )
        self.proposal_matcher = AnchorMatcher(0.7, 0.3, min_quality=0.3)
        self.box_coder = BoxCoder((1.0, 1.0, 1.0, 1.0))
        self.min_size = torch.finfo(torch.float32).tiny  # keep every box that has an area

    def assign_targets_to_anchors(
        self, anchors: list[Tensor], targets: list[dict[str, Tensor]]
    ) -> tuple[list[Tensor], list[Tensor]]:
        """Label anchors 1 (object), 0 (background) or -1 (ignored), and match them to boxes.

        Anchors in the padding that a batch adds to a smaller image are ignored.
        """
        inside = [centers_inside(a, target["padded_size"]) for a, target in zip(anchors, targets, strict=True)]
        # Without an area, an anchor matches no object.
        candidates = [a * valid[:, None] for a, valid in zip(anchors, inside, strict=True)]
        labels, boxes = super().assign_targets_to_anchors(candidates, targets)
        return [n.masked_fill(~valid, -1) for n, valid in zip(labels, inside, strict=True)], boxes

    def compute_loss(
        self,
        objectness: Tensor,
        pred_bbox_deltas: Tensor,
        labels: list[Tensor],
        regression_targets: list[Tensor],
    ) -> tuple[Tensor, Tensor]:
        """Compute binary cross-entropy and L1, both divided by the number of sampled anchors.

        An image without positive anchors counts as having one, and so for negative anchors.
        """
        masks = self.fg_bg_sampler(labels)
        count = sum(image.sum().clamp(min=1) for group in masks for image in group)
        positive, negative = (torch.where(torch.cat(group))[0] for group in masks)
        sampled = torch.cat([positive, negative])
        truth = torch.cat(labels)[sampled]
        objectness_loss = F.binary_cross_entropy_with_logits(objectness.flatten()[sampled], truth, reduction="sum")
        truth_deltas = torch.cat(regression_targets)[positive]
        box_loss = F.l1_loss(pred_bbox_deltas[positive], truth_deltas, reduction="sum")
        return objectness_loss / count, box_loss / count


class Float32RPNHead(RPNHead):
    """torchvision's RPN head with outputs in at least float32."""

    def forward(self, x: list[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        """Logits (B, A, H, W) and deltas (B, 4 A, H, W) of each level."""
        logits, deltas = super().forward(x)
        return [at_least_float32(level) for level in logits], [at_least_float32(level) for level in deltas]


def _init_heads(roi_heads: RoIHeads) -> None:
    """Initialize as mmdetection 2.x does, except for masks: its first mask logits explode for few classes."""
    for linear in (roi_heads.box_head.fc6, roi_heads.box_head.fc7):
        nn.init.xavier_uniform_(linear.weight)
        nn.init.zeros_(linear.bias)
    for layer, std in (
        (roi_heads.box_predictor.cls_score, 0.01),
        (roi_heads.box_predictor.bbox_pred, 0.001),
        (roi_heads.mask_predictor.mask_fcn_logits, 0.001),
    ):
        nn.init.normal_(layer.weight, std=std)
        nn.init.zeros_(layer.bias)
