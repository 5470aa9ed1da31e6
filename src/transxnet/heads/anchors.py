"""Anchors, their matching to objects, and the coding of boxes relative to them."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torchvision.models.detection._utils import BoxCoder as TorchvisionBoxCoder
from torchvision.models.detection._utils import Matcher
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.image_list import ImageList

ASPECT_RATIOS = (0.5, 1.0, 2.0)


class Anchors(AnchorGenerator):
    """Anchors on grids of fixed strides, as published weights expect them.

    torchvision's own anchors differ in three ways: they are rounded to whole pixels; the stride of a level is computed
    from its size, which at coarse levels is not a power of two (61 instead of 64 for an image of 800); and the dtype is
    that of the features, which in half precision shifts the anchors by pixels.

    Args:
        strides: strides of the levels, in pixels.
        sizes: for each level, the square roots of the anchors' areas in pixels.

    Shapes:
        images and the levels' features -> for each image (A, 4), boxes (x1, y1, x2, y2) in float32, ordered by level,
        row and column; at each position the aspect ratios (height / width) 0.5, 1, 2, and for each ratio the sizes.
        The anchors in row i and column j are centered at (j * stride, i * stride).
    """

    def __init__(self, strides: Sequence[int], sizes: Sequence[Sequence[float]]):
        super().__init__(tuple(map(tuple, sizes)), (ASPECT_RATIOS,) * len(sizes))
        self.strides = tuple(strides)

    def generate_anchors(
        self,
        scales: Sequence[float],
        aspect_ratios: Sequence[float],
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
    ) -> Tensor:
        """Compute the anchors at the origin: (ratios * scales, 4)."""
        halves = [(size / ratio**0.5 / 2, size * ratio**0.5 / 2) for ratio in aspect_ratios for size in scales]
        return torch.tensor([(-width, -height, width, height) for width, height in halves], dtype=dtype, device=device)

    def forward(self, image_list: ImageList, feature_maps: list[Tensor]) -> list[Tensor]:
        """Compute the anchors of each image of a batch; all images share them."""
        self.set_cell_anchors(torch.float32, feature_maps[0].device)
        sizes = [list(feature.shape[-2:]) for feature in feature_maps]
        anchors = torch.cat(self.grid_anchors(sizes, [[stride, stride] for stride in self.strides]))  # type: ignore
        return [anchors] * len(image_list.image_sizes)


def centers_inside(anchors: Tensor, size: Tensor) -> Tensor:
    """Test whether anchors are centered inside an image.

    Args:
        anchors: (A, 4) in pixels.
        size: (2,) width and height in pixels.

    Returns:
        bool (A,). A center on the right or the bottom edge is outside.
    """
    # Centers and sizes are whole pixels; the half absorbs rounding.
    return ((anchors[:, :2] + anchors[:, 2:]) / 2 < size - 0.5).all(1)


class BoxCoder(TorchvisionBoxCoder):
    """Box deltas whose width and height change by a factor of at most 62.5, as published.

    torchvision limits only the growth, and lets boxes shrink without limit.
    """

    def decode_single(self, rel_codes: Tensor, boxes: Tensor) -> Tensor:
        """Apply deltas (N, 4 K) to boxes (N, 4); returns (N, 4 K)."""
        dx, dy, dw, dh = rel_codes.unflatten(1, (-1, 4)).unbind(2)
        dw = dw.clamp(min=-self.bbox_xform_clip * self.weights[2])
        dh = dh.clamp(min=-self.bbox_xform_clip * self.weights[3])
        return super().decode_single(torch.stack([dx, dy, dw, dh], 2).flatten(1), boxes)


class AnchorMatcher(Matcher):
    """Match anchors or proposals to objects by IoU; each object also gets its best ones.

    Args:
        high_threshold: IoU from which an anchor is positive.
        low_threshold: IoU below which it is background; in between it is ignored.
        min_quality: minimum IoU of an object's best anchors, which match it even below ``high_threshold`` or if they
            overlap another object more. torchvision has no minimum, and gives them to the object they overlap most.

    Shapes:
        IoU (objects, anchors) -> (anchors,): an object's index, -1 for background, -2 for ignored anchors.
    """

    def __init__(self, high_threshold: float, low_threshold: float, min_quality: float):
        super().__init__(high_threshold, low_threshold, allow_low_quality_matches=True)
        self.min_quality = min_quality

    def __call__(self, match_quality_matrix: Tensor) -> Tensor:
        """Match anchors by IoU (objects, anchors), with at least one object; there may be no anchors."""
        if not match_quality_matrix.shape[1]:
            return torch.zeros(0, dtype=torch.int64, device=match_quality_matrix.device)
        return super().__call__(match_quality_matrix)

    def set_low_quality_matches_(self, matches: Tensor, all_matches: Tensor, match_quality_matrix: Tensor) -> None:
        """Give each object its best anchors, including ties; if two objects share one, the later object gets it."""
        best = match_quality_matrix.amax(1, keepdim=True)
        is_best = (match_quality_matrix == best) & (best >= self.min_quality) & (best > 0)
        order = torch.arange(1, len(best) + 1, dtype=torch.int32, device=matches.device)
        owner = (is_best * order[:, None]).amax(0).to(matches.dtype) - 1
        matches.copy_(torch.where(owner >= 0, owner, matches))
