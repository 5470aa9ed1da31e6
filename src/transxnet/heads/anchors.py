"""Anchors, and the objects that they are matched to."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torchvision.models.detection._utils import Matcher
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.image_list import ImageList

ASPECT_RATIOS = (0.5, 1.0, 2.0)


class Anchors(AnchorGenerator):
    """Anchors on grids of fixed strides, as published weights expect them.

    torchvision's own differ in three ways: it rounds them to whole pixels, takes a level's stride from its size, which
    at the coarse levels is not a power of two (61 instead of 64 for an image of 800), and computes them in the type of
    the features, which in half precision moves them by pixels.

    Args:
        strides: of the levels, in pixels.
        sizes: for each level, the square roots of the anchors' areas in pixels.

    Shapes:
        images and the levels' features -> for each image (A, 4), boxes (x1, y1, x2, y2) in float32: level by level,
        row by row, place by place; at a place, the aspect ratios (height / width) 0.5, 1, 2 and for each the sizes.
        The place in row i and column j has its anchors' centre at (j * stride, i * stride).
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
        """The anchors of the place at the origin: (ratios * scales, 4)."""
        halves = [(size / ratio**0.5 / 2, size * ratio**0.5 / 2) for ratio in aspect_ratios for size in scales]
        return torch.tensor([(-width, -height, width, height) for width, height in halves], dtype=dtype, device=device)

    def forward(self, image_list: ImageList, feature_maps: list[Tensor]) -> list[Tensor]:
        """The anchors of each image of a batch, which are the same for all."""
        self.set_cell_anchors(torch.float32, feature_maps[0].device)
        sizes = [list(feature.shape[-2:]) for feature in feature_maps]
        anchors = torch.cat(self.grid_anchors(sizes, [[stride, stride] for stride in self.strides]))  # type: ignore
        return [anchors] * len(image_list.image_sizes)


class AnchorMatcher(Matcher):
    """Match anchors to objects by IoU; each object also has its best anchors, below the threshold too.

    Args:
        high_threshold: IoU from which an anchor is an object's.
        low_threshold: IoU below which it is background; between the two it does not count.
        min_quality: IoU that an object's best anchors must reach to be its even below ``high_threshold``. torchvision
            knows no such limit, and leaves a best anchor to another object that it overlaps more.

    Shapes:
        IoU (objects, anchors) -> (anchors,): an object's index, -1 for background, -2 for an anchor that doesn't count.
    """

    def __init__(self, high_threshold: float, low_threshold: float, min_quality: float):
        super().__init__(high_threshold, low_threshold, allow_low_quality_matches=True)
        self.min_quality = min_quality

    def set_low_quality_matches_(self, matches: Tensor, all_matches: Tensor, match_quality_matrix: Tensor) -> None:
        """Give each object its best anchors, all where several are equally good; of two objects the later has it."""
        best = match_quality_matrix.amax(1, keepdim=True)
        is_best = (match_quality_matrix == best) & (best >= self.min_quality) & (best > 0)
        order = torch.arange(1, len(best) + 1, dtype=torch.int32, device=matches.device)
        owner = (is_best * order[:, None]).amax(0).to(matches.dtype) - 1
        matches.copy_(torch.where(owner >= 0, owner, matches))
