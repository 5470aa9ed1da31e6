"""The command ``pretrain``: pretrain a network on images without labels, and write a run folder with a report."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lightning.pytorch.callbacks import Callback
from lightning.pytorch.loggers import Logger
from rich.console import Console

from transxnet.runs.recipes import Recipe
from transxnet.runs.run_folder import Run
from transxnet.training.train import train


def pretrain(
    data: str | Path | None = None,
    *,
    recipe: str | Path | Recipe | None = None,
    resume: str | Path | None = None,
    overwrite: bool = False,
    dry_run: bool = False,
    callbacks: Sequence[Callback] = (),
    logger: str | Logger | Sequence[Logger] | None = None,
    console: Console | None = None,
    **options: Any,
) -> Run:
    """Pretrain a network on images, whose labels are not used, and write a run folder.

    Start other trainings from it with ``transxnet.train(..., checkpoint=run.path)``; compute features with
    ``transxnet.load(run.path).embed(images)``.

    Args:
        data: a folder of images, also in folders below it; or DATA of :func:`transxnet.train`.
        recipe: YAML file of options; options override its values.
        resume: folder of an interrupted run to resume; the only option that it takes is ``epochs``, to train longer.
        overwrite: overwrite the run in ``out``.
        dry_run: print what would be trained, run two steps, and write nothing.
        callbacks: as for :func:`transxnet.train`.
        logger: as for :func:`transxnet.train`.
        console: console to print to; by default standard output.
        **options: fields of :class:`~transxnet.runs.config.TrainConfig` and
            :class:`~transxnet.runs.pretrain_config.PretrainConfig`, such as ``method`` and ``teacher``.

    Returns:
        The run, with weights, metrics of the embeddings, and report.

    Raises:
        UserError: an option, the data or a checkpoint is invalid, or the loss became NaN or Inf.
        Interrupted: training was stopped; its state is saved.
    """
    return train(
        data,
        task="pretrain" if resume is None else None,
        recipe=recipe,
        resume=resume,
        overwrite=overwrite,
        dry_run=dry_run,
        callbacks=callbacks,
        logger=logger,
        console=console,
        **options,
    )
