"""Several processes that train together: how many there are, and what happens when one of them ends."""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

import torch.distributed as dist
from lightning.fabric.plugins.environments import SLURMEnvironment
from lightning.pytorch import Callback, LightningModule, Trainer

from transxnet.runs.config import TrainConfig
from transxnet.runs.run_folder import Run
from transxnet.training.defaults import processes
from transxnet.utils.errors import Interrupted, UserError

LOOK_EVERY = 0.1
"""Seconds between looks at the processes that this one started."""

SEEN_WITHIN = 5.0
"""Seconds to wait for the end of a process to be seen, once a message to it has failed."""

_LOST = ("gloo", "closed by peer", "reset by peer", "broken pipe", "nccl")
"""What stands in the errors of PyTorch's message passing when a process does not answer any more."""


def is_lost(error: BaseException) -> bool:
    """Whether an error says that another process does not answer any more."""
    return isinstance(error, dist.DistError) or any(word in str(error).lower() for word in _LOST)


def check_launch(config: TrainConfig, run: str | Path | None) -> None:
    """Raise UserError where torchrun or SLURM started processes that the options do not speak of.

    Lightning itself would let each of them train alone, all in one folder.

    Args:
        config: the training's options.
        run: the run folder, or None where one is to be chosen.
    """
    started = int(os.environ["WORLD_SIZE"]) if "TORCHELASTIC_RUN_ID" in os.environ else None
    asked = processes(config)
    if started not in (None, asked):
        local = int(os.environ.get("LOCAL_WORLD_SIZE", started or 1))
        raise UserError(
            f"torchrun started {started} processes, and the options ask for {asked}. Give --devices {local} "
            f"--num_nodes {(started or 1) // local}."
        )
    if run is None and asked > 1 and (started is not None or SLURMEnvironment.detect()):
        raise UserError(
            "processes that torchrun or SLURM started can't agree on a new folder among themselves. "
            "Give --out FOLDER, the same for all of them."
        )


class ProcessWatch(Callback):
    """Says at once which of the processes that this one started has ended, and how to go on.

    The others end by themselves: their next message to it fails, or Lightning ends them after some seconds.
    """

    _launched: ClassVar[Sequence[subprocess.Popen]] = ()
    """The processes that this one started: a table's later trainings go on in those of the first."""

    def __init__(self, run: Run):
        self.run = run
        self._done = threading.Event()
        self._looking: threading.Thread | None = None

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start to look."""
        ProcessWatch._launched = getattr(trainer.strategy.launcher, "procs", ()) or self._launched
        if trainer.world_size > 1 and self._launched:
            self._looking = threading.Thread(target=self._look, args=(self._launched,), daemon=True)
            self._looking.start()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Let the looks find who ended, where a message failed before they did and this process would end first.

        They end here, since Lightning calls no teardown of callbacks after an error.
        """
        if self._looking is not None and is_lost(exception):
            self._looking.join(SEEN_WITHIN)
        self._done.set()

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Look no more."""
        self._done.set()

    def _look(self, started: Sequence[subprocess.Popen]) -> None:
        over = False
        while not over:
            over = self._done.wait(LOOK_EVERY)  # and once more at the end, which another's may have brought about
            for number, process in enumerate(started, 1):
                if process.poll() not in (None, 0, Interrupted.exit_status):
                    print(
                        f"process {number} of the training (PID {process.pid}) {_ended(process.returncode)}, so the "
                        f"training ends. Go on with: {self.run.resume_command}",
                        file=sys.stderr,
                        flush=True,
                    )
                    return


def _ended(status: int) -> str:
    """An exit status in words."""
    return f"was ended by {signal.Signals(-status).name}" if status < 0 else f"ended with status {status}"
