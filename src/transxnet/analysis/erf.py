"""Effective receptive fields: how far from its centre an image still decides what the network sees there."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from torch import Tensor, nn

from transxnet.analysis.figure_files import check_free
from transxnet.analysis.network_parts import as_maps, find_place, watched
from transxnet.data.image_files import FilesDataset, find_images
from transxnet.data.transforms import Preprocessing
from transxnet.models.create import wrong_size_as_user_error
from transxnet.models.model_spec import parse_model_spec
from transxnet.runs.load import TrainedModel, load_model
from transxnet.utils.device import default_device
from transxnet.utils.errors import UserError, check_at_least
from transxnet.utils.progress import progress_bar

SHARES = (0.2, 0.5, 0.99)
"""Of the mass, for which radius and area are told."""
FILES = ("erf.png", "erf.csv", "erf.json")


@dataclass(frozen=True)
class ReceptiveField:
    """An effective receptive field.

    Attributes:
        label: the network, as the user named it.
        place: where in it, for people.
        untrained: whether the network's weights are random.
        density: (S, S) float64, each pixel's share of the whole gradient, adding up to 1.
        images: how many were averaged.
    """

    label: str
    place: str
    untrained: bool
    density: np.ndarray
    images: int

    @property
    def centre(self) -> tuple[int, int]:
        """Row and column of the field's middle, on either side of which there is half of the mass.

        It need not be the image's: convolutions of stride 2 see the image half a pixel further up and left than patches
        do that do not overlap, which adds up to 16 pixels over a stride of 32.
        """
        row, column = (int(np.searchsorted(self.density.sum(axis=axis).cumsum(), 0.5)) for axis in (1, 0))
        return row, column

    def radius(self, share: float) -> float:
        """Distance from the centre, in pixels, within which there is this share (0 to 1) of the mass."""
        distance = self._distance().ravel()
        order = np.argsort(distance, kind="stable")
        held = np.cumsum(self.density.ravel()[order])
        return float(distance[order][min(np.searchsorted(held, share * held[-1] * (1 - 1e-12)), len(held) - 1)])

    def area(self, share: float) -> float:
        """Share of the image's pixels (0 to 1) that lie within :meth:`radius` of the centre."""
        return float((self._distance() <= self.radius(share)).mean())

    def _distance(self) -> np.ndarray:
        rows, columns = np.indices(self.density.shape)
        return np.hypot(rows - self.centre[0], columns - self.centre[1])


def receptive_field(network: nn.Module, images: Tensor, place: str = "") -> np.ndarray:
    """The gradient of the features at the centre of the image with respect to its pixels.

    Luo et al. 2016 take the gradient of one unit. Here it is that of the sum of the absolute values of all channels
    ``y_c`` at the centre (of an even number of positions, the one after the middle), so that channels of opposite sign
    do not cancel, nor those of a norm over channels, whose plain sum is constant. Of each pixel the gradient's absolute
    values are added up over the colours.

    Args:
        network: in evaluation mode.
        images: (B, 3, S, S), normalised, on the network's device.
        place: name of the part to look at, see :func:`transxnet.analysis.network_parts.find_place`; by default the
            last stage.

    Returns:
        (B, S, S) float64 ``sum over colours of |d (sum_c |y_c(centre)|) / d x|``.

    Raises:
        UserError: no such place, or it has no feature maps.
    """
    pixels = images.detach().clone().requires_grad_()
    with torch.enable_grad(), watched(find_place(network, place).module) as (calls,):
        network(pixels)
        if not calls.outputs:
            raise UserError(f"no image passes {place!r} in {type(network).__name__}. Name another place.")
        features = as_maps(network, calls.outputs[-1])
        centre = features[:, :, features.shape[2] // 2, features.shape[3] // 2]
        (gradient,) = torch.autograd.grad(centre.abs().sum(), pixels)
    return gradient.abs().sum(dim=1).cpu().double().numpy()


def erf(
    models: str | Path | Sequence[str | Path],
    data: str | Path | Sequence[str | Path],
    *,
    images: int = 100,
    size: int | None = None,
    batch_size: int = 4,
    out: str | Path | None = "erf",
    overwrite: bool = False,
    console: Console | None = None,
) -> list[ReceptiveField]:
    """Compare effective receptive fields of networks, or of places in them (Figs. 2, 6 and 8).

    Of each network the gradient of :func:`receptive_field` is averaged over images and scaled to a sum of 1. Written
    are ``erf.png``, all of them side by side on one scale, and the radii and areas that hold 20, 50 and 99% of the mass
    as ``erf.csv`` and ``erf.json``; nothing where ``out`` is None.

    Args:
        models: run folders, and names of our models or timm's with their published weights. After @ may come, separated
            by commas, ``file=PATH`` for weights on disk, ``untrained`` for random ones, and arguments such as
            ``local_conv=dwconv``. After a colon may come a place: stage1 to stage4, idconv, osra or ste of the last
            D-Mixer, or the name of a module; by default the last stage.
        data: files, folders (searched to any depth) and globs of images, without labels.
        images: how many to average over, taken evenly from all of them; 100 in the paper.
        size: side of the images in pixels; by default the models' own, which must then be the same.
        batch_size: images at once.
        out: folder for the results.
        overwrite: write over results of before.
        console: where to report; by default standard output.

    Returns:
        One for each of the models, in their order.

    Raises:
        UserError: a model or place that there is not, weights that can't be had, sizes that differ, too few images, or
            results that exist already.
    """
    from transxnet.analysis.erf_report import table, write

    console = console or Console()
    check_at_least(1, images=images, batch_size=batch_size, **({} if size is None else {"size": size}))
    if out is not None:
        check_free(Path(out), FILES, overwrite)
    names = [models] if isinstance(models, (str, Path)) else list(models)
    if not names:
        raise UserError("name the models to compare, such as transxnet_t transxnet_t:idconv.")
    chosen = _evenly(data, images)
    specs = [parse_model_spec(name) for name in names]
    loaded = [load_model(spec, analysis=True, size=size) for spec in specs]
    for spec, trained in zip(specs, loaded, strict=True):
        find_place(trained.backbone, spec.part)  # before anything is computed
    transforms = _preprocessings(loaded, size)
    for trained, preprocessing in zip(loaded, transforms, strict=True):
        side = preprocessing.img_size
        with wrong_size_as_user_error(trained.name, side, side, "--size"), torch.no_grad():
            trained.backbone(torch.zeros(1, 3, side, side))
    fields = []
    with progress_bar(console, "averaging", len(loaded) * len(chosen)) as advance:
        for number, (spec, trained, preprocessing) in enumerate(zip(specs, loaded, transforms, strict=True)):
            batches = _batches(chosen, preprocessing, batch_size)
            fields.append(_average(trained, spec.part, batches, advance, done=number * len(chosen)))
    console.print(table(fields), highlight=False)
    if out is not None:
        for path in write(fields, Path(out)):
            console.print(f"  {path}", highlight=False, markup=False, soft_wrap=True)
    return fields


def _average(
    trained: TrainedModel, part: str, batches: Iterator[Tensor], progress: Callable[[int], None], done: int
) -> ReceptiveField:
    device = default_device()
    network = trained.backbone.to(device)
    total: np.ndarray | None = None
    count = 0
    for batch in batches:
        gradient = receptive_field(network, batch.to(device), part).sum(axis=0)
        total = gradient if total is None else total + gradient
        count += len(batch)
        progress(done + count)
    network.cpu()
    if total is None or not np.isfinite(total).all() or not total.any():
        why = "no image could be read" if total is None else "its gradient is zero or not finite"
        raise UserError(f"{trained.name} has no receptive field here: {why}.")
    place = find_place(network, part).title
    return ReceptiveField(trained.name, place, trained.untrained, total / total.sum(), count)


def _batches(paths: Sequence[str], preprocessing: Preprocessing, batch_size: int) -> Iterator[Tensor]:
    """The images that can be read, as the network takes them."""
    batch: list[Tensor] = []
    for _, tensor, _ in FilesDataset(paths, preprocessing.transform(), batch_size):
        batch += [] if tensor is None else [tensor]
        if len(batch) == batch_size:
            yield torch.stack(batch)
            batch = []
    if batch:
        yield torch.stack(batch)


def _evenly(data: str | Path | Sequence[str | Path], count: int) -> list[str]:
    """That many files of those that inputs stand for, at even distances, so that every folder has its share."""
    found = list(find_images([data] if isinstance(data, (str, Path)) else list(data)))
    if len(found) < count:
        raise UserError(
            f"{count} images are to be averaged and {len(found)} were found. Give more, or --images {len(found)}."
            if found
            else "no image found. Accepted: image files, folders and globs."
        )
    return [found[i * len(found) // count] for i in range(count)]


def _preprocessings(loaded: Sequence[TrainedModel], size: int | None) -> list[Preprocessing]:
    """How each network's images are made, all in one size."""
    own = [trained.backbone_preprocessing for trained in loaded]
    if size is None and len(sizes := {p.img_size for p in own}) > 1:
        raise UserError(
            f"the models are for images of {' and '.join(map(str, sorted(sizes)))} pixels, and fields are compared at "
            f"one size. Give --size {max(sizes)}, or another."
        )
    return [replace(preprocessing, img_size=size or preprocessing.img_size) for preprocessing in own]
