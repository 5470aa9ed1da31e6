"""Explain the classes of images by Grad-CAM (``transxnet explain``)."""

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from transxnet.analysis.compare_explanations import compare_explanations
from transxnet.analysis.explain_figure import draw
from transxnet.analysis.explain_images import explain_images
from transxnet.analysis.grad_cam import Explanation, explain_image, find_class, require_grad_cam
from transxnet.analysis.network_parts import find_part
from transxnet.analysis.result_files import write_table
from transxnet.data.reading.image_search import find_images
from transxnet.data.reading.pixels import extensions_for
from transxnet.models.model_spec import parse_model_spec
from transxnet.runs.load import load_model
from transxnet.utils.device import resolve_device
from transxnet.utils.errors import UserError
from transxnet.utils.output_folder import output_folder
from transxnet.utils.progress import PLAIN
from transxnet.utils.quantities import format_count

TABLE = "explanations.csv"
COLUMNS = ("path", "class", "score", "image", "error")


def explain(
    model: str | Path | Sequence[str | Path],
    images: str | Path | Sequence[str | Path],
    *,
    class_name: str | None = None,
    preset: str | None = None,
    out: str | Path | None = "explanations",
    file: str | Path | None = None,
    device: str = "auto",
    overwrite: bool = False,
    console: Console | None = None,
) -> list[Explanation]:
    """Show by Grad-CAM which image regions support a class (Figs. 7 and 8).

    Computes a saliency map at every stage and, in a network with D-Mixers, at both branches of the last one and their
    fusion. Writes a figure for each image as PNG, and ``explanations.csv``; nothing if ``out`` is None.

    Args:
        model: a run folder, or the name of a model, optionally with @ and settings as in ``transxnet erf``. After a
            colon may follow a part of the network; then only this part is explained. With a preset, none or several.
        images: files, folders (searched recursively) and globs, any number.
        class_name: the class to explain; by default a classifier's most probable class or label, the class of a
            detector's best detection, or a segmenter's most frequent class except background.
        preset: compare the networks of one of the paper's figures, at their stages, in one image: fig7. Networks
            without available weights are untrained, which all results state; to give weights, add the network as
            NAME@file=PATH.
        out: folder for the results; by default explanations, or explanations-2 and so on if it has results.
        file: weights on disk, for a model given by name.
        device: device to compute on: auto, cpu, cuda, cuda:1 or mps; auto is a GPU if there is one.
        overwrite: overwrite existing results.
        console: where to print; by default standard output.

    Returns:
        One explanation for each image that could be explained, in order; with a preset, one by each network.

    Raises:
        UserError: the package grad-cam is not installed; a preset, model, part or class does not exist; no image could
            be explained; or results already exist.
    """
    console, where = console or Console(), resolve_device(device)
    require_grad_cam()
    folder = None if out is None else output_folder(out, "explanations", (TABLE,), overwrite)
    inputs = [images] if isinstance(images, (str, Path)) else list(images)
    if preset is not None:
        if file is not None:
            raise UserError(f"--preset {preset} has several networks. Instead of --file, add NAME@file={file}.")
        given = [model] if isinstance(model, (str, Path)) else list(model)
        return compare_explanations(preset, given, _find(inputs), class_name, folder, TABLE, device, console)
    if not isinstance(model, (str, Path)):
        raise UserError(f"explain accepts one model without a preset, got {len(model)}.")
    spec = parse_model_spec(model, file)
    trained = load_model(spec, analysis=True)
    preprocessing = trained.backbone_preprocessing
    chosen = None if class_name is None else find_class(trained, class_name)
    parts = {spec.part: find_part(trained.backbone, spec.part)} if spec.part else None
    results = explain_images(
        _find(inputs, preprocessing.channels),
        preprocessing.read,
        lambda path, image: explain_image(trained, image, chosen, parts, path, where),
        lambda found: draw(found, trained.name, trained.untrained),
        folder,
        console,
    )
    explanations, rows = [], []
    for result in results:
        if result.found is None:
            rows.append((result.path, "", "", "", result.error))
            text = result.error
        else:
            explanations.append(result.found)
            name, score = result.found.class_name, result.found.score
            rows.append((result.path, name, f"{score:.6f}", result.figure, ""))
            text = f"{name}, {result.found.score_text}"
        console.print(f"  {result.path}: {text}", **PLAIN)
    if folder is not None:
        write_table(folder / TABLE, COLUMNS, rows)
        console.print(f"{format_count(len(explanations), 'explanation')} written to {folder}", **PLAIN)
    return explanations


def _find(inputs: Sequence[str | Path], channels: int | None = None) -> list[str]:
    """Find the images, as a model of this number of channels reads them; None for RGB."""
    paths = list(find_images(inputs, extensions=extensions_for(channels)))
    if not paths:
        raise UserError("no images found. Accepted: image files, folders and globs.")
    return paths
