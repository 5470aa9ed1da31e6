"""RetinaNet, a one-stage detector."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models.detection._utils import Matcher
from torchvision.models.detection.retinanet import RetinaNet as TorchvisionRetinaNet
from torchvision.models.detection.retinanet import RetinaNetHead
from torchvision.ops import batched_nms, box_iou, clip_boxes_to_image, sigmoid_focal_loss

from transxnet.heads.anchors import AnchorMatcher, Anchors, BoxCoder, centers_inside
from transxnet.heads.detector_transform import DetectorTransform, at_least_float32, mean_and_std
from transxnet.heads.pyramid import HEAD_NORM, P6P7, PYRAMID_CHANNELS, PyramidBackbone
from transxnet.heads.target_checks import check_images, check_targets

ANCHORS_PER_LOCATION = 9


class RetinaNet(TorchvisionRetinaNet):
    """RetinaNet on the feature maps of stages 2 to 4, as in the paper's experiments (Sec. IV-B).

    The pyramid has five levels of strides 8 to 128, with P6 and P7 computed from stage 4's output. Each position has 9
    anchors: three aspect ratios, and areas of (4 * stride * 2^(k/3))^2 for k = 0, 1, 2, so sizes from 32 to 813 pixels.
    The two subnets have four 3x3 convolutions without norms. An anchor is positive from an IoU of 0.5 or as an object's
    best, and background below 0.4; anchors in the padding that a batch adds to smaller images are ignored. The losses
    are sigmoid focal loss (alpha 0.25, gamma 2) and L1, both divided by the number of positive anchors in the batch.

    Args:
        body: outputs feature maps of strides 8, 16 and 32, such as
            ``create_model("transxnet_t", features_only=True, out_indices=(1, 2, 3))``.
        num_classes: K, not counting the background.
        min_size: the shorter side of an image is resized to this.
        max_size: the longer side is at most this; the shorter side becomes smaller if necessary.
        head_norm: use GroupNorm in the pyramid and the subnets, to train from scratch; not in the published models.
        score_thresh: detections below this score are dropped.
        nms_thresh: IoU from which the lower-scoring of two boxes of a class is dropped.
        detections_per_img: maximum number of detections.
        topk_candidates: number of candidates of each level before NMS.

    Shapes:
        In training, images (a list of (3, H, W), RGB in 0 to 1, of any sizes) and targets (for each image "boxes"
        (N, 4) and "labels" (N,) from 1 to K) -> the losses "classification" and "bbox_regression". Else images -> for
        each "boxes" (D, 4), "labels" (D,) from 1 to K and "scores" (D,) in descending order. Boxes are
        (x1, y1, x2, y2) in pixels of the original image.

    Raises:
        UserError: the body lacks one of the strides.
        ValueError: images or targets are not as above, or :class:`PyramidBackbone` rejects them.

    Source:
        Lin et al., "Focal Loss for Dense Object Detection", with the settings of mmdetection 2.x's 1x schedule.
    """

    class_layers = ("head.classification_head.cls_logits",)
    """Layers whose size depends on the number of classes."""

    def __init__(
        self,
        body: nn.Module,
        num_classes: int,
        min_size: int = 800,
        max_size: int = 1333,
        head_norm: bool = False,
        score_thresh: float = 0.05,
        nms_thresh: float = 0.5,
        detections_per_img: int = 100,
        topk_candidates: int = 1000,
    ):
        backbone = PyramidBackbone(body, (8, 16, 32), P6P7, head_norm)
        strides = (8, 16, 32, 64, 128)
        super().__init__(
            backbone,
            num_classes,
            anchor_generator=Anchors(strides, [[4 * stride * 2 ** (k / 3) for k in range(3)] for stride in strides]),
            head=RetinaNetHead(
                PYRAMID_CHANNELS, ANCHORS_PER_LOCATION, num_classes, norm_layer=HEAD_NORM if head_norm else None
            ),
            proposal_matcher=AnchorMatcher(0.5, 0.4, min_quality=0.0),
            score_thresh=score_thresh,
            nms_thresh=nms_thresh,
            detections_per_img=detections_per_img,
            topk_candidates=topk_candidates,
        )
        self.num_classes = num_classes
        self.box_coder = BoxCoder((1.0, 1.0, 1.0, 1.0))
        self.transform = DetectorTransform(min_size, max_size, *mean_and_std(body))

    def forward(
        self, images: list[Tensor], targets: list[dict[str, Tensor]] | None = None
    ) -> dict[str, Tensor] | list[dict[str, Tensor]]:
        """Return the losses in training, else the detections."""
        check_images(images)
        if self.training:
            check_targets(images, targets, self.num_classes, with_masks=False)
        return super().forward(images, targets if self.training else None)

    def compute_loss(
        self, targets: list[dict[str, Tensor]], head_outputs: dict[str, Tensor], anchors: list[Tensor]
    ) -> dict[str, Tensor]:
        """Compute the losses of a batch: logits (B, A, K) and deltas (B, A, 4) against the targets.

        The targets come from :class:`DetectorTransform`, with "padded_size".
        """
        logits = at_least_float32(head_outputs["cls_logits"])
        deltas = at_least_float32(head_outputs["bbox_regression"])
        classification, regression, count = logits.new_zeros(()), logits.new_zeros(()), logits.new_zeros(())
        for i, target in enumerate(targets):
            boxes, labels = target["boxes"].to(anchors[i]), target["labels"]
            inside = centers_inside(anchors[i], target["padded_size"])
            matches = torch.full((len(anchors[i]),), Matcher.BELOW_LOW_THRESHOLD, device=logits.device)
            if len(boxes):
                matches = self.proposal_matcher(box_iou(boxes, anchors[i]).masked_fill(~inside, 0))
            # Anchors in the padding that the batch adds to a smaller image are ignored.
            matches = matches.masked_fill(~inside, Matcher.BETWEEN_THRESHOLDS)
            matched, counted = matches >= 0, matches != Matcher.BETWEEN_THRESHOLDS
            objects = matches[matched]
            truth = torch.zeros_like(logits[i])
            truth[matched, labels[objects] - 1] = 1
            classification = classification + sigmoid_focal_loss(logits[i][counted], truth[counted], reduction="sum")
            truth_deltas = self.box_coder.encode_single(boxes[objects], anchors[i][matched])
            regression = regression + F.l1_loss(deltas[i][matched], truth_deltas, reduction="sum")
            count = count + matched.sum().clamp(min=1)  # an image without objects counts as one anchor
        return {"classification": classification / count, "bbox_regression": regression / count}

    def postprocess_detections(
        self,
        head_outputs: dict[str, list[Tensor]],
        anchors: list[list[Tensor]],
        image_shapes: list[tuple[int, int]],
    ) -> list[dict[str, Tensor]]:
        """Select the best boxes of each image, with labels from 1.

        torchvision's own version lets boxes without an area take the place of others.
        """
        detections = []
        for i, shape in enumerate(image_shapes):
            levels = [
                self._candidates(at_least_float32(logits[i]), at_least_float32(deltas[i]), level_anchors)
                for logits, deltas, level_anchors in zip(
                    head_outputs["cls_logits"], head_outputs["bbox_regression"], anchors[i], strict=True
                )
            ]
            boxes, scores, labels = (torch.cat(parts) for parts in zip(*levels, strict=True))
            boxes = clip_boxes_to_image(boxes, shape)
            keep = (boxes[:, 2:] > boxes[:, :2]).all(1)
            boxes, scores, labels = boxes[keep], scores[keep], labels[keep]
            keep = batched_nms(boxes, scores, labels, self.nms_thresh)[: self.detections_per_img]
            detections.append({"boxes": boxes[keep], "scores": scores[keep], "labels": labels[keep] + 1})
        return detections

    def _candidates(self, logits: Tensor, deltas: Tensor, anchors: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Boxes, scores and labels from 0 of the best candidates of one level."""
        scores = logits.sigmoid().flatten()
        index = torch.where(scores > self.score_thresh)[0]
        scores, best = scores[index].topk(min(self.topk_candidates, len(index)))
        place, labels = index[best] // self.num_classes, index[best] % self.num_classes
        return self.box_coder.decode_single(deltas[place], anchors[place]), scores, labels
