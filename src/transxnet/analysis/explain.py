"""Grad-CAM: which parts of an image speak for a class, at each stage and in both branches of the last D-Mixer."""

import csv
import io
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from rich.console import Console
from torch import Tensor, nn

from transxnet.analysis.explain_cases import NothingFound, make_case
from transxnet.analysis.figure_files import check_free, write_figure
from transxnet.analysis.network_parts import Place, as_maps, find_place, named_places
from transxnet.data.image_files import find_images
from transxnet.data.images import UnreadableImage, open_image
from transxnet.data.labels import in_words
from transxnet.metrics.detection import Found
from transxnet.runs.load import TrainedModel
from transxnet.runs.model_spec import backbone, find_subject
from transxnet.utils.device import default_device, placed
from transxnet.utils.errors import UserError, nearest
from transxnet.utils.files import write_whole
from transxnet.utils.optional_packages import require_package
from transxnet.utils.progress import progress_bar

_logger = logging.getLogger(__name__)

TABLE = "explanations.csv"


@dataclass(frozen=True)
class Explanation:
    """Where the reasons for a class lie in an image.

    Attributes:
        path: of the file.
        picture: (H, W, 3) bytes, the image as the network saw it.
        class_name: of the class that is explained, in words.
        class_index: its index, from 0.
        score: the classifier's probability of it, the best detection's score, or the share of pixels that are its.
        maps: for each place (H, W) float32 from 0 to 1, its largest value; all 0 where nothing speaks for the class.
        titles: of the places, for people.
        found: what a detector found of the class, and counts for the score; else None.
        labels: (H, W) uint8, a segmenter's classes; else None.
    """

    path: str
    picture: np.ndarray
    class_name: str
    class_index: int
    score: float
    maps: dict[str, np.ndarray]
    titles: dict[str, str]
    found: Found | None = None
    labels: np.ndarray | None = None


def check_installed() -> None:
    """Raise UserError, naming the extra, unless the Grad-CAM package is installed."""
    require_package("pytorch_grad_cam", "transxnet[explain]", "Grad-CAM")


def grad_cam(
    model: nn.Module,
    network: nn.Module,
    images: Tensor,
    place: nn.Module,
    targets: Sequence[Callable[[Any], Tensor]],
) -> np.ndarray:
    """Grad-CAM of Selvaraju et al. 2017: a place's channels, weighted by their mean gradient, where they are positive.

    By the package grad-cam, in one forward and backward pass.

    Args:
        model: in evaluation mode.
        network: the part of the model that has the place.
        images: (B, 3, H, W), as the model takes them, on its device.
        place: a module of the network that gives feature maps (B, C, h, w), or tokens of a square.
        targets: for each image, from the model's output for it to the score that is explained.

    Returns:
        (B, H, W) float32: ``relu(sum_c mean(d score / d A_c) A_c)`` of the place's channels ``A_c``, resized, and
        scaled in each image so that it goes from 0 to 1: how strong the reasons are at two places cannot be compared,
        and of an even map small differences show in full.

    Raises:
        UserError: the package is not installed, or the place gives no maps.

    Note:
        A transformer that classifies by a class token does not use the other tokens of its last block, so their
        gradient and the map are zero there: name an earlier block.
    """
    check_installed()
    from pytorch_grad_cam import GradCAM

    cam = GradCAM(model, [place], reshape_transform=lambda output: as_maps(network, output))
    try:
        with torch.enable_grad():
            return cam(images, list(targets))
    finally:
        cam.activations_and_grads.release()
        model.zero_grad(set_to_none=True)


def explain(
    model: str | Path,
    images: str | Path | Sequence[str | Path],
    *,
    class_name: str | None = None,
    out: str | Path | None = "explanations",
    file: str | Path | None = None,
    overwrite: bool = False,
    console: Console | None = None,
) -> list[Explanation]:
    """Show by Grad-CAM which parts of images speak for a class (Figs. 7 and 8).

    At every stage and, in a network with D-Mixers, at both branches of the last one and their fusion. Written are a
    panel for each image, as PNG, and ``explanations.csv``; nothing where ``out`` is None.

    Args:
        model: a run folder; or a model's name, after which may come, as of ``transxnet erf``, @ with settings. After a
            colon may come a place, the only one that is then looked at.
        images: files, folders (searched to any depth) and globs, any number.
        class_name: the class to explain; by default a classifier's answer, the class of a detector's best find, and of
            a segmenter the commonest.
        out: folder for the results.
        file: weights on disk, for a model by name.
        overwrite: write over results of before.
        console: where to report; by default standard output.

    Returns:
        One for each image that could be explained, in order.

    Raises:
        UserError: the package grad-cam is not installed; a model, place or class that there is not; no image that
            could be explained; or results that exist already.
    """
    from transxnet.analysis.explain_figure import draw

    console = console or Console()
    check_installed()
    folder = None if out is None else Path(out)
    if folder is not None:
        check_free(folder, (TABLE,), overwrite)
    paths = list(find_images([images] if isinstance(images, (str, Path)) else list(images)))
    if not paths:
        raise UserError("no image found. Accepted: image files, folders and globs.")
    subject = find_subject(model, file)
    chosen = None if class_name is None else class_index(subject.trained, class_name)
    places = {subject.place: find_place(subject.network, subject.place)} if subject.place else None
    explanations, rows = [], []
    with progress_bar(console, "explaining", len(paths)) as advance:
        for number, path in enumerate(paths, 1):
            try:
                found = explain_picture(subject.trained, open_image(path), chosen, places, path)
            except (UnreadableImage, NothingFound) as error:
                rows.append((path, "", "", "", str(error)))
            else:
                name = f"{number:04d}-{Path(path).stem[:100]}.png"
                explanations.append(found)
                rows.append((path, found.class_name, f"{found.score:.6f}", name, ""))
                if folder is not None:
                    folder.mkdir(parents=True, exist_ok=True)
                    write_figure(draw(found, subject.label, subject.untrained), folder / name)
            advance(number)
    if not explanations:
        raise UserError(f"none of the {len(paths)} images could be explained; the last: {rows[-1][-1]}")
    for row in rows:
        what = row[4] or f"{row[1]}, {float(row[2]):.1%}"
        console.print(f"  {row[0]}: {what}", highlight=False, markup=False, soft_wrap=True)
    if folder is not None:
        _write_table(folder / TABLE, rows)
        console.print(f"{len(explanations):,} images explained in {folder}", highlight=False, markup=False)
    return explanations


def explain_picture(
    trained: TrainedModel,
    picture: Image.Image,
    class_index: int | None = None,
    places: Mapping[str, Place] | None = None,
    path: str = "",
) -> Explanation:
    """Explain one picture; as :func:`explain`, without files.

    Args:
        trained: a classifier, detector or segmenter; its network is moved to the device.
        picture: in RGB.
        class_index: of the class, from 0; by default as in :func:`explain`.
        places: in the network; by default all that have names.
        path: of the picture's file, if it has one.

    Raises:
        UserError: the package is not installed, a place gives no maps, or the network can't be explained.
        NothingFound: a detector finds no such object, or no pixel is of the class.
    """
    try:
        network = backbone(trained)
        places = places or named_places(network) or {"": find_place(network)}
        device = default_device()
        placed(trained.model, device)
        case = make_case(trained, picture, class_index, device)
        maps = {
            name: case.within(grad_cam(case.model, network, case.images, place.module, [case.target])[0])
            for name, place in places.items()
        }
        return Explanation(
            path=path,
            picture=case.picture,
            class_name=in_words(trained.class_names[case.class_index]),
            class_index=case.class_index,
            score=case.score,
            maps=maps,
            titles={name: place.title for name, place in places.items()},
            found=case.found,
            labels=case.labels,
        )
    except UserError:
        raise
    except Exception as error:  # networks are of many kinds, and what is asked beside the reasons is worth having
        _logger.exception("Grad-CAM of %s", trained.name)
        raise UserError(f"Grad-CAM fails on this network: {type(error).__name__}: {error}") from error


def class_index(trained: TrainedModel, name: str) -> int:
    """The index, from 0, of a class that is named as the model has it, or in words.

    Raises:
        UserError: there is none of this name; the nearest are named.
    """
    words = [in_words(known) for known in trained.class_names]
    for names in (trained.class_names, words):
        if name in names:
            return names.index(name)
    shown = ", ".join(words[:5]) + (f" and {len(words) - 5} more" if len(words) > 5 else "")
    raise UserError(f"the model has no class {name!r}.{nearest(name, words)} Accepted: {shown}.")


def _write_table(path: Path, rows: Sequence[Sequence[str]]) -> None:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["path", "class", "score", "picture", "error"])
    writer.writerows(rows)
    write_whole(path, text.getvalue())
