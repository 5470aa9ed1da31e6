"""Find exact and near duplicates: mirrored, resized, recompressed, or cropped by a few percent."""

from collections.abc import Callable, Iterator, Sequence
from functools import cache
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from scipy.fft import dct
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from torch import Tensor

from transxnet.checking.image_scan import SIDE, Scan
from transxnet.checking.neighbor_index import NeighborIndex

MIN_SIDE = 32
"""Smaller images are compared exactly only: of the sample digits (8x8), different ones are as similar as copies."""

MAX_PAIRS = 200_000
"""Of more pairs of near duplicates only the most similar are kept; they would fill the memory and nobody reads them."""

_LOW, _FREQUENCIES = 6, 10  # per axis; pHash uses 8. The low ones are searched, the others confirm a candidate
_RADIUS = 0.35  # of candidates; copies of 1,200 cells and scenes, cropped by 5%, were all within it
_MARGIN = 0.5  # between the similarity of a pair and that of the other frequencies, before alignment
_NEIGHBORS = 4
_ALIGNED = 32  # candidates of an image, by the agreement of the other frequencies
_CHUNK = 512  # images; the spectra of all versions take 8 MB
_BATCH = 64  # pairs, whose Jacobians take 4 MB
_STEPS = 5
_BORDER = 4  # pixels of a thumbnail that are not compared, since a crop lacks them
_FLAT = 2.0  # standard deviation of gray values, below which there is nothing to compare

# The kept fraction and the center of crops, as scale and shift of coordinates from -1 to 1.
_CROPS = [(1.0, 0.0, 0.0), (0.975, 0.0, 0.0)] + [
    (scale, x * (1 - scale), y * (1 - scale)) for scale in (0.95, 0.925) for x in (-1, 0, 1) for y in (-1, 0, 1)
]


class NearDuplicates(NamedTuple):
    """Pairs of near duplicates; by default none.

    Attributes:
        pairs: (M, 2) numbers of images, ascending.
        similarity: (M,) similarity of each pair, at most 1: the correlation after alignment, or that of features.
    """

    pairs: np.ndarray = np.zeros((0, 2), int)
    similarity: np.ndarray = np.zeros(0)


def exact_duplicates(scan: Scan) -> list[np.ndarray]:
    """Return the groups of images with the same pixels, as ascending numbers."""
    numbers = np.flatnonzero(scan.readable)
    _, inverse = np.unique(scan.digests[numbers], return_inverse=True)
    return equal_groups(numbers, inverse)


def first_copies(scan: Scan, numbers: np.ndarray) -> np.ndarray:
    """Return the positions in ``numbers``, ascending, of all images but exact duplicates of an earlier one."""
    return np.sort(np.unique(scan.digests[numbers], return_index=True)[1])


def near_duplicates(scan: Scan, similarity: float, progress: Callable[[int], Any]) -> NearDuplicates:
    """Find pairs of near duplicates. Of exact duplicates only the first is compared.

    Candidates are the nearest neighbors by low DCT frequencies, as in a perceptual hash; each image is searched with
    its mirrored and cropped versions. A candidate counts if its fine structure correlates with that of the other image
    after both are aligned. Only the ``MAX_PAIRS`` most similar pairs are returned.

    Args:
        scan: the images.
        similarity: minimum correlation.
        progress: called with the number of images searched.
    """
    numbers = np.flatnonzero(scan.readable & (scan.sizes.min(axis=1, initial=MIN_SIDE) >= MIN_SIDE))
    numbers = numbers[first_copies(scan, numbers)]
    numbers, low, high = _read_spectra(scan, numbers)
    if len(numbers) < 2:
        return NearDuplicates()
    index, parts = NeighborIndex(low), [NearDuplicates()]
    for first in range(0, len(numbers), _CHUNK):
        chunk = numbers[first : first + _CHUNK]
        for own, other, mirrored, crop in _candidates(index, high, _thumbnails(scan, chunk), first, similarity):
            a, b = numbers[own], numbers[other]
            values = _similarity(_thumbnails(scan, a), _thumbnails(scan, b), mirrored, crop)
            near = values >= similarity
            parts.append(NearDuplicates(np.sort(np.stack([a, b], 1)[near], axis=1), values[near].astype(float)))
        if sum(len(part.pairs) for part in parts) > 2 * MAX_PAIRS:
            parts = [_most_similar(parts)]
        progress(first + len(chunk))
    return _most_similar(parts)


def _most_similar(parts: Sequence[NearDuplicates]) -> NearDuplicates:
    """Return the ``MAX_PAIRS`` most similar pairs, each once, the most similar first."""
    pairs, similarity = (np.concatenate(column) for column in zip(*parts, strict=True))
    order = np.lexsort((pairs[:, 1], pairs[:, 0], -similarity))
    first = np.sort(np.unique(pairs[order], axis=0, return_index=True)[1])[:MAX_PAIRS]
    return NearDuplicates(pairs[order][first], similarity[order][first])


def linked_groups(pairs: np.ndarray, count: int) -> list[np.ndarray]:
    """Return the groups of images that pairs (M, 2) link, directly or through others, as ascending numbers."""
    graph = coo_array((np.ones(len(pairs), bool), (pairs[:, 0], pairs[:, 1])), (count, count))
    return equal_groups(np.arange(count), connected_components(graph, directed=False)[1])


def equal_groups(numbers: np.ndarray, label: np.ndarray) -> list[np.ndarray]:
    """Return the numbers of each label that two or more have, in the order of their first."""
    order = np.argsort(label, kind="stable")
    starts = np.flatnonzero(np.diff(label[order])) + 1
    return sorted((group for group in np.split(numbers[order], starts) if len(group) > 1), key=lambda group: group[0])


def _thumbnails(scan: Scan, numbers: np.ndarray) -> Tensor:
    return torch.from_numpy(scan.thumbnails[numbers].astype(np.float32))


def _read_spectra(scan: Scan, numbers: np.ndarray) -> tuple[np.ndarray, Tensor, Tensor]:
    """Return the images with structure, and their low frequencies and others as 8-bit integers, without versions."""
    kept = np.empty(len(numbers), numbers.dtype)
    low = torch.empty(len(numbers), _LOW**2 - 1)
    high = torch.empty(len(numbers), _FREQUENCIES**2 - _LOW**2, dtype=torch.int8)
    count = 0  # the arrays are filled in place: small results between large ones would fragment the memory
    for start in range(0, len(numbers), _CHUNK):
        chunk = numbers[start : start + _CHUNK]
        thumbnails = _thumbnails(scan, chunk)
        structured = thumbnails.numpy().std((1, 2)) >= _FLAT
        own_low, own_high = _frequencies(thumbnails[structured], 1)
        own = slice(count, count + len(own_low))
        kept[own], low[own] = chunk[structured], own_low[:, 0, 0]
        high[own] = (own_high[:, 0, 0] * 127).round().to(torch.int8)
        count = own.stop
    return kept[:count], low[:count], high[:count]


def _frequencies(thumbnails: Tensor, crops: int = len(_CROPS)) -> tuple[Tensor, Tensor]:
    """Return low and other DCT coefficients (B, 2, crops, F), normalized, of the images and their mirror images."""
    half = F.avg_pool2d(thumbnails[:, None], 2)[:, 0]
    x, y = (torch.stack([_axis_transform(_CROPS[i][0], _CROPS[i][axis]) for i in range(crops)]) for axis in (1, 2))
    spectra = y @ half[:, None] @ x.mT
    sign = (-1.0) ** torch.arange(_FREQUENCIES)  # a mirrored image has the opposite odd horizontal frequencies
    both = torch.stack([spectra, spectra * sign], 1)
    low = both[..., :_LOW, :_LOW].flatten(3)[..., 1:]
    high = torch.cat([both[..., :_LOW, _LOW:].flatten(3), both[..., _LOW:, :].flatten(3)], 3)
    return F.normalize(low, dim=3), F.normalize(high, dim=3)


@cache
def _axis_transform(scale: float, shift: float) -> Tensor:
    """Return the matrix (frequencies, SIDE / 2) that crops one axis as :func:`_crop` and computes its DCT."""
    side = SIDE // 2
    axis = (np.arange(side) + 0.5) / (side / 2) - 1
    place = np.clip((scale * axis + shift + 1) * (side / 2) - 0.5, 0, side - 1)
    samples = np.stack([np.interp(place, np.arange(side), unit) for unit in np.eye(side)], 1)
    return torch.from_numpy(dct(samples, axis=0, norm="ortho")[:_FREQUENCIES].astype(np.float32))


def _candidates(
    index: NeighborIndex, high: Tensor, thumbnails: Tensor, first: int, similarity: float
) -> Iterator[tuple[np.ndarray, ...]]:
    """Iterate over batches of (image, other image, whether mirrored, best crop)."""
    low, own_high = _frequencies(thumbnails)
    version, other, closeness = index.search(low.flatten(0, 2), _NEIGHBORS, 1 - _RADIUS**2 / 2)
    own, mirrored, crop = np.unravel_index(version, low.shape[:3])
    order = np.argsort(-closeness, kind="stable")
    order = order[own[order] + first != other[order]]
    pair = (own * 2 + mirrored) * len(high) + other
    best = order[np.unique(pair[order], return_index=True)[1]]
    own, other, mirrored, crop = (column[best] for column in (own, other, mirrored, crop))
    agreement = (own_high[own, mirrored, crop] * high[other]).sum(1) / 127
    order = np.lexsort((-agreement.numpy(), own))
    rank = np.arange(len(order)) - np.searchsorted(own[order], own[order])
    likely = order[(agreement.numpy()[order] >= similarity - _MARGIN) & (rank < _ALIGNED)]
    for start in range(0, len(likely), _BATCH):
        batch = likely[start : start + _BATCH]
        yield own[batch] + first, other[batch], mirrored[batch], crop[batch]


def _parameters(crop: int) -> Tensor:
    scale, x, y = _CROPS[crop]
    return torch.tensor([scale, x, scale, y])


def _similarity(images: Tensor, others: Tensor, mirrored: np.ndarray, crop: np.ndarray) -> np.ndarray:
    """Return the correlation of the fine structure of images (B, SIDE, SIDE), mirrored and aligned, with the others."""
    images = torch.where(torch.from_numpy(mirrored == 1)[:, None, None], images.flip(2), images)
    start = torch.stack([_parameters(i) for i in crop.tolist()])
    aligned = _align(images, others, start)
    both = [_correlation(_crop(images, parameters), others) for parameters in (start, aligned)]
    return torch.maximum(*both).numpy()


def _align(images: Tensor, others: Tensor, parameters: Tensor) -> Tensor:
    """Fit scale and shift on both axes (B, 4) by Gauss-Newton; a result far from a small crop is not used."""
    start, axis = parameters, (torch.arange(SIDE) + 0.5) / (SIDE / 2) - 1
    goal = _normalized(_blur(others))
    for _ in range(_STEPS):
        view = _normalized(_blur(_crop(images, parameters)))
        down, right = (gradient * (SIDE / 2) for gradient in torch.gradient(view, dim=(1, 2)))
        jacobian = torch.stack([right * axis, right, down * axis[:, None], down], 1).flatten(2)
        rest = (goal - view).flatten(1)[..., None]
        hessian = jacobian @ jacobian.mT
        damped = hessian + 1e-3 * torch.diag_embed(hessian.diagonal(dim1=1, dim2=2)) + 1e-6 * torch.eye(4)
        parameters = parameters + torch.linalg.solve(damped, jacobian @ rest)[..., 0].clamp(-0.03, 0.03)
    scale, shift = parameters[:, [0, 2]], parameters[:, [1, 3]]
    small = (scale > 0.88) & (scale < 1.04) & (shift.abs() <= (scale - 1).abs() + 0.03)
    return torch.where(small.all(1, keepdim=True), parameters, start)


def _crop(images: Tensor, parameters: Tensor) -> Tensor:
    """Sample crops of images (B, S, S) at their size; parameters (B, 4): scale and shift in x, scale and shift in y."""
    matrix = torch.zeros(len(images), 2, 3)
    matrix[:, 0, 0], matrix[:, 0, 2], matrix[:, 1, 1], matrix[:, 1, 2] = parameters.T
    grid = F.affine_grid(matrix, [len(images), 1, *images.shape[1:]], align_corners=False)
    return F.grid_sample(images[:, None], grid, padding_mode="border", align_corners=False)[:, 0]


def _correlation(views: Tensor, others: Tensor) -> Tensor:
    """Return the correlation (B,) of both images without their large-scale brightness, inside the border."""
    inner = slice(_BORDER, -_BORDER)
    fine = [(x - _blur(x, 9))[:, inner, inner] for x in (_blur(views), _blur(others))]
    return (_normalized(fine[0]) * _normalized(fine[1])).sum((1, 2))


def _blur(images: Tensor, width: int = 3) -> Tensor:
    return F.avg_pool2d(images[:, None], width, 1, width // 2, count_include_pad=False)[:, 0]


def _normalized(images: Tensor) -> Tensor:
    centered = images - images.mean((1, 2), keepdim=True)
    return centered / (centered.flatten(1).norm(dim=1)[:, None, None] + 1e-6)
