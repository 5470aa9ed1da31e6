"""Experiment loggers by name: Weights & Biases, MLflow and Trackio."""

import hashlib
from argparse import Namespace
from collections.abc import Mapping
from typing import Any

from lightning.pytorch.loggers import Logger, MLFlowLogger, TensorBoardLogger, WandbLogger
from lightning.pytorch.utilities.rank_zero import rank_zero_only

from transxnet.runs.config import TrainConfig
from transxnet.runs.run_folder import Run
from transxnet.utils.errors import UserError, check_one_of

PROJECT = "transxnet"
"""Name of the project or experiment that the runs are logged to."""


class TrackioLogger(Logger):
    """Log metrics with `Trackio <https://huggingface.co/docs/trackio>`_.

    Args:
        project: project of the run.
        name: name of the run; an earlier run of this name is continued.

    Raises:
        ModuleNotFoundError: the package trackio is not installed.
    """

    def __init__(self, project: str, name: str):
        import trackio

        self._trackio: Any = trackio
        self._project, self._name, self._run = project, name, None

    @property
    def name(self) -> str:
        """Name of the run."""
        return self._name

    @property
    def version(self) -> None:
        """None: Trackio has no versions."""
        return None

    @rank_zero_only
    def log_hyperparams(self, params: dict[str, Any] | Namespace, *args: Any, **kwargs: Any) -> None:
        """Start the run with these hyperparameters."""
        self._start(dict(params if isinstance(params, dict) else vars(params)))

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Log the metrics of a step."""
        self._start({})
        self._trackio.log(dict(metrics), step=step)

    @rank_zero_only
    def finalize(self, status: str) -> None:
        """End the run."""
        if self._run is not None:
            self._trackio.finish()
            self._run = None

    def _start(self, config: dict[str, Any]) -> None:
        if self._run is None:
            self._run = self._trackio.init(project=self._project, name=self._name, config=config, resume="allow")


def _wandb(run: Run) -> Logger:
    identity = hashlib.sha256(str(run.path.resolve()).encode()).hexdigest()[:12]  # a resumed run continues its log
    return WandbLogger(name=run.path.name, save_dir=run.path, id=identity, project=PROJECT, resume="allow")


_BY_NAME = {
    "wandb": _wandb,
    "mlflow": lambda run: MLFlowLogger(experiment_name=PROJECT, run_name=run.path.name),
    "trackio": lambda run: TrackioLogger(PROJECT, run.path.name),
}


def create_loggers(config: TrainConfig, run: Run) -> list[Logger]:
    """Create TensorBoard's logger and the one that the options name.

    Raises:
        UserError: there is no logger of this name, or its package is not installed or fails to start.
    """
    loggers: list[Logger] = [TensorBoardLogger(run.path, name="tensorboard", version="")]
    if config.logger is None:
        return loggers
    check_one_of(tuple(_BY_NAME), logger=config.logger)
    try:
        return [*loggers, _BY_NAME[config.logger](run)]
    except ImportError as error:
        raise UserError(
            f"--logger {config.logger} needs the package {config.logger}, which is not installed. "
            f"Install it: pip install {config.logger}"
        ) from error
