"""Evaluating a trained model on labelled images."""

import json
from pathlib import Path
from typing import Any

from rich.console import Console

from transxnet.data.image_set import ImageSet
from transxnet.data.readers import Stream
from transxnet.data.sources import open_evaluation, without_unreadable
from transxnet.errors import UserError, check_at_least
from transxnet.files import write_whole
from transxnet.tasks.evaluation import Evaluation
from transxnet.tasks.inference import evaluate_model
from transxnet.tasks.plan import open_data
from transxnet.tasks.progress import progress_bar
from transxnet.tasks.results import show_figures
from transxnet.tasks.run import TrainedModel, load_trained


def evaluate(
    model: str | Path,
    data: str | Path | None = None,
    *,
    file: str | Path | None = None,
    split: str | None = None,
    batch_size: int = 64,
    workers: int = 2,
    out: str | Path | None = None,
    overwrite: bool = False,
    console: Console | None = None,
) -> Evaluation:
    """Evaluate a run's model, or a published one, on labelled images.

    Args:
        model: a run folder, or the name of a model with published ImageNet weights.
        data: a folder of class folders (ImageNet's and ImageNet-V2's among them), a sample, or a timm reader name. By
            default, and where it is the data that the run was trained on, the run's own held-out images.
        file: published weights on disk, for a model by name.
        split: split of a timm reader; by default validation.
        batch_size: images at once.
        workers: processes that decode.
        out: a JSON file to write the figures to.
        overwrite: write over it.
        console: where to report; by default standard output.

    Returns:
        Labels, probabilities and what follows from them.

    Raises:
        UserError: the model or the data cannot be opened, or their classes differ.
    """
    console = console or Console()
    check_at_least(1, batch_size=batch_size)
    check_at_least(0, workers=workers)
    if out is not None:
        _check_out(Path(out), overwrite)
    trained = load_trained(model, file)
    images, what = _images(trained, None if data is None else str(data), split)
    (images,), notes = without_unreadable(images)
    size = trained.preprocessing.img_size
    console.print(f"{trained.name} on {what}: {len(images):,} images at {size}x{size}", **_PLAIN)
    for note in notes:
        console.print(f"  {note}", **_PLAIN)
    with progress_bar(console, "evaluating", len(images)) as advance:
        evaluation = evaluate_model(
            trained.model, images, trained.preprocessing.transform(), batch_size, workers, progress=advance
        )
    figures = evaluation.metrics()
    show_figures(console, figures, len(evaluation.labels))
    if out is not None:
        content: dict[str, Any] = {"model": str(model), "data": what, "images": len(evaluation.labels), **figures}
        write_whole(Path(out), json.dumps(content, indent=2))
        console.print(f"figures     {out}", **_PLAIN)
    return evaluation


_PLAIN: dict[str, Any] = {"highlight": False, "markup": False, "soft_wrap": True}


def _check_out(out: Path, overwrite: bool) -> None:
    if out.is_dir() or not out.parent.is_dir():
        raise UserError(f"{out} can't be written: give the name of a JSON file in a folder that exists.")
    if out.exists() and not overwrite:
        raise UserError(f"{out} exists already. Write over it by --overwrite, or choose another --out.")


def _images(trained: TrainedModel, data: str | None, split: str | None) -> tuple[ImageSet | Stream, str]:
    config = trained.run.read_config() if trained.run is not None else None
    if config is None:
        if data is None:
            raise UserError(f"name the data to evaluate {trained.name} on.")
        return open_evaluation(data, trained.class_names, split=split or "validation"), data
    trained_on = data is None or data == config.data or Path(data).resolve() == Path(config.data).resolve()
    if trained_on and split in (None, config.val_split):
        assert trained.run is not None
        source = open_data(config, trained.run.stored_split)
        return source.val, f"the held-out part of {config.data}"
    data = data or config.data
    return open_evaluation(data, trained.class_names, split=split or "validation"), data
