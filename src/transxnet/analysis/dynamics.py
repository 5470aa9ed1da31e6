"""Show how much kernels and attention depend on the input (``transxnet dynamics``)."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from torch import Tensor

from transxnet.analysis.dynamics_report import FILES, table, write
from transxnet.analysis.kernel_variation import Dynamics, mixer_dynamics
from transxnet.data.loading.preprocessing import Preprocessing
from transxnet.data.reading.image_decoding import UnreadableImage
from transxnet.data.reading.image_search import find_images
from transxnet.data.reading.pixels import extensions_for
from transxnet.models.model_spec import parse_model_spec
from transxnet.runs.load import load_model
from transxnet.utils.device import resolve_device
from transxnet.utils.errors import UserError
from transxnet.utils.output_folder import output_folder


def dynamics(
    model: str | Path,
    images: str | Path | Sequence[str | Path],
    *,
    out: str | Path | None = "dynamics",
    file: str | Path | None = None,
    device: str = "auto",
    overwrite: bool = False,
    console: Console | None = None,
) -> Dynamics:
    """Show how much IDConv's kernels and OSRA's attention depend on the input, for two or more images.

    Writes ``dynamics.png`` with the kernels and attention of each stage's last D-Mixer for each image, and
    ``dynamics.csv`` and ``dynamics.json`` with the variation in every D-Mixer, from 0 (static) to 1: see
    :mod:`transxnet.analysis.kernel_variation`. Writes nothing if ``out`` is None.

    Args:
        model: a run folder, or the name of a model, optionally with @ and settings as in ``transxnet erf``.
        images: files, folders (searched recursively) and globs; at least two images.
        out: folder for the results; by default dynamics, or dynamics-2 and so on if it has results.
        file: weights on disk, for a model given by name.
        device: device to compute on: auto, cpu, cuda, cuda:1 or mps; auto is a GPU if there is one.
        overwrite: overwrite existing results.
        console: where to print; by default standard output.

    Raises:
        UserError: the model does not exist or generates no kernels, there are fewer than two images, an image cannot be
            read, or results already exist.
    """
    console, where = console or Console(), resolve_device(device)
    folder = None if out is None else output_folder(out, "dynamics", FILES, overwrite)
    spec = parse_model_spec(model, file)
    if spec.part:
        raise UserError(f"dynamics analyzes all D-Mixers, not one part. Remove ':{spec.part}' from the model name.")
    trained = load_model(spec, analysis=True)
    made = trained.backbone_preprocessing
    inputs = [images] if isinstance(images, (str, Path)) else list(images)
    paths = list(find_images(inputs, extensions=extensions_for(made.channels)))
    if len(paths) < 2:
        raise UserError(f"dynamics needs at least two images, got {len(paths)}.")
    batch = torch.stack([_read(path, made) for path in paths]).to(where)
    mixers = mixer_dynamics(trained.backbone.to(where), batch)
    shown = np.stack([made.display(image) for image in batch])
    result = Dynamics(trained.name, trained.untrained, paths, shown, mixers)
    console.print(table(result), highlight=False)
    if folder is not None:
        for path in write(result, folder):
            console.print(f"  {path}", highlight=False, markup=False, soft_wrap=True)
    return result


def _read(path: str, preprocessing: Preprocessing) -> Tensor:
    try:
        return preprocessing.transform()(preprocessing.read(path))
    except UnreadableImage as error:
        raise UserError(f"cannot read {path}: {error}.") from error
