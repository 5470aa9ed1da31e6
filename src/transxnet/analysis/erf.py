"""Compare effective receptive fields of networks (``transxnet erf``)."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from torch import Tensor

from transxnet.analysis.erf_report import FILES, table, write
from transxnet.analysis.network_parts import find_part
from transxnet.analysis.paper_figures import ERF_FIGURES, find_figure, load_or_untrained, models_of
from transxnet.analysis.receptive_field import ReceptiveField, receptive_field
from transxnet.data.datasets.unlabeled_dataset import UnlabeledDataset
from transxnet.data.loading.preprocessing import Preprocessing
from transxnet.data.reading.image_search import find_images
from transxnet.data.reading.pixels import extensions_for
from transxnet.models.create import wrong_size_as_user_error
from transxnet.models.model_spec import parse_model_spec
from transxnet.runs.trained_models import TrainedModel
from transxnet.utils.device import resolve_device
from transxnet.utils.errors import UserError, check_at_least
from transxnet.utils.output_folder import output_folder
from transxnet.utils.progress import PLAIN, progress_bar
from transxnet.utils.quantities import format_count


def erf(
    models: str | Path | Sequence[str | Path],
    data: str | Path | Sequence[str | Path],
    *,
    images: int = 100,
    img_size: int | None = None,
    batch_size: int = 4,
    device: str = "auto",
    preset: str | None = None,
    out: str | Path | None = "erf",
    overwrite: bool = False,
    console: Console | None = None,
) -> list[ReceptiveField]:
    """Compare effective receptive fields of networks, or of their parts (Figs. 2, 6 and 8).

    For each network the gradient of :func:`receptive_field` is averaged over images and scaled to a sum of 1. Writes
    ``erf.png`` with all fields side by side on one scale, and ``erf.csv`` and ``erf.json`` with the radii and areas
    that hold 20, 50 and 99% of the mass. Writes nothing if ``out`` is None.

    Args:
        models: run folders, or names of our models or timm's with their published weights. After @ a name may have
            comma-separated settings: ``file=PATH`` for weights on disk, ``untrained`` for random weights, and arguments
            such as ``local_conv=dwconv``. After a colon follows an optional part: stage1 to stage4; idconv, osra or ste
            of the last D-Mixer; or the name of a module. Default: the last stage.
        data: files, folders (searched recursively) and globs of images, without labels.
        images: largest number of images to average over, evenly spaced in the data; 100 in the paper.
        img_size: side of the images in pixels; by default the models' own, which must be the same for all.
        batch_size: batch size.
        device: device to compute on: auto, cpu, cuda, cuda:1 or mps; auto is a GPU if there is one.
        preset: networks and image size of one of the paper's figures: fig2 or fig6. Networks without available weights
            are untrained, which all results state; to give weights, add the network as NAME@file=PATH.
        out: folder for the results; by default erf, or erf-2 and so on if it has results.
        overwrite: overwrite existing results.
        console: where to print; by default standard output.

    Returns:
        One receptive field for each model, in order.

    Raises:
        UserError: a model or part does not exist, weights are not available, sizes differ, there are no images, or
            results already exist.
    """
    console, where = console or Console(), resolve_device(device)
    check_at_least(1, images=images, batch_size=batch_size, **({} if img_size is None else {"img_size": img_size}))
    folder = None if out is None else output_folder(out, "erf", FILES, overwrite)
    names = [models] if isinstance(models, (str, Path)) else list(models)
    figure = None if preset is None else find_figure(ERF_FIGURES, preset)
    if figure is not None:
        chosen_models = models_of(figure, names)
        img_size = img_size or figure.size
    else:
        chosen_models = [(parse_model_spec(name), False) for name in names]
    if not chosen_models:
        raise UserError(
            "no models given. Name the models to compare, such as transxnet_t transxnet_t:idconv, or use --preset fig2."
        )
    specs = [spec for spec, _ in chosen_models]
    loaded = [load_or_untrained(spec, default, img_size, console) for spec, default in chosen_models]
    for spec, trained in zip(specs, loaded, strict=True):
        find_part(trained.backbone, spec.part)  # fail before anything is computed
    transforms = _preprocessings(loaded, img_size)
    channels = next((each.channels for each in transforms if each.channels is not None), None)
    chosen = _evenly(data, images, channels)
    if len(chosen) < images:
        console.print(f"found {format_count(len(chosen), 'image')}; the average is over fewer than {images}", **PLAIN)
    for trained, preprocessing in zip(loaded, transforms, strict=True):
        side = preprocessing.img_size
        with wrong_size_as_user_error(trained.name, side, side, "--img-size"), torch.no_grad():
            trained.backbone(torch.zeros(1, len(preprocessing.mean), side, side))
    fields = []
    with progress_bar(console, "computing", len(loaded) * len(chosen)) as advance:
        for number, (spec, trained, preprocessing) in enumerate(zip(specs, loaded, transforms, strict=True)):
            batches = _batches(chosen, preprocessing, batch_size)
            fields.append(_average(trained, spec.part, batches, where, advance, done=number * len(chosen)))
    console.print(table(fields), highlight=False)
    if folder is not None:
        for path in write(fields, folder):
            console.print(f"  {path}", highlight=False, markup=False, soft_wrap=True)
    if figure is not None:
        console.print(figure.note, **PLAIN)
    return fields


def _average(
    trained: TrainedModel,
    part: str,
    batches: Iterator[Tensor],
    device: torch.device,
    progress: Callable[[int], None],
    done: int,
) -> ReceptiveField:
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
        why = "all images are unreadable" if total is None else "the gradient is zero or non-finite"
        raise UserError(f"cannot compute the receptive field of {trained.name}: {why}.")
    title = find_part(network, part).title
    return ReceptiveField(trained.name, title, trained.untrained, total / total.sum(), count)


def _batches(paths: Sequence[str], preprocessing: Preprocessing, batch_size: int) -> Iterator[Tensor]:
    """Iterate over batches of the readable images, preprocessed for the network."""
    batch: list[Tensor] = []
    for _, tensor, _ in UnlabeledDataset(paths, preprocessing.transform(), batch_size, preprocessing.read):
        batch += [] if tensor is None else [tensor]
        if len(batch) == batch_size:
            yield torch.stack(batch)
            batch = []
    if batch:
        yield torch.stack(batch)


def _evenly(data: str | Path | Sequence[str | Path], count: int, channels: int | None) -> list[str]:
    """At most this many files, evenly spaced over all that the inputs match, so that every folder is represented."""
    inputs = [data] if isinstance(data, (str, Path)) else list(data)
    found = list(find_images(inputs, extensions=extensions_for(channels)))
    if not found:
        raise UserError("no images found. Accepted: image files, folders and globs.")
    count = min(count, len(found))
    return [found[i * len(found) // count] for i in range(count)]


def _preprocessings(loaded: Sequence[TrainedModel], size: int | None) -> list[Preprocessing]:
    """Preprocessing of each network, all with the same image size."""
    own = [trained.backbone_preprocessing for trained in loaded]
    if size is None and len(sizes := {p.img_size for p in own}) > 1:
        raise UserError(
            f"the models have different image sizes ({', '.join(map(str, sorted(sizes)))}). Choose one for all, such "
            f"as --img-size {max(sizes)}."
        )
    return [replace(preprocessing, img_size=size or preprocessing.img_size) for preprocessing in own]
