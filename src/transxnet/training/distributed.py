"""The hardware of a training: its device, its processes, and what happens when one of them ends."""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
import torch.distributed as dist
from lightning.fabric.plugins.environments import SLURMEnvironment
from lightning.pytorch import Callback, LightningModule, Trainer

from transxnet.runs.config import TrainConfig
from transxnet.runs.run_folder import Run
from transxnet.utils.errors import Interrupted, UserError

POLL_INTERVAL = 0.1
"""Seconds between checks of the processes that this one started."""

EXIT_TIMEOUT = 5.0
"""Seconds to wait until the end of a process is noticed, once a message to it has failed."""

_CONNECTION_ERRORS = ("gloo", "closed by peer", "reset by peer", "broken pipe", "nccl")
"""Words in the errors of PyTorch's communication when a process has ended."""


@dataclass(frozen=True)
class Hardware:
    """The hardware that a training runs on.

    Attributes:
        device: "cuda", "cpu", or "other", such as MPS.
        processes: how many train together, on all machines.
    """

    device: Literal["cuda", "cpu", "other"]
    processes: int


def resolve_hardware(config: TrainConfig) -> Hardware:
    """Resolve accelerator, devices and num_nodes."""
    cuda = torch.cuda.is_available()
    device: Literal["cuda", "cpu", "other"] = "other"
    if cuda and config.accelerator in ("auto", "gpu", "cuda"):
        device = "cuda"
    elif config.accelerator == "cpu" or (config.accelerator == "auto" and not torch.backends.mps.is_available()):
        device = "cpu"
    devices = str(config.devices)
    if devices in ("auto", "-1"):
        count = torch.cuda.device_count() if device == "cuda" else 1
    else:
        count = int(devices) if devices.isdigit() else len(devices.strip(" ,[]").split(","))
    return Hardware(device, max(1, count) * config.num_nodes)


def is_lost_connection(error: BaseException) -> bool:
    """Whether an error says that another process does not answer any more."""
    return isinstance(error, dist.DistError) or any(word in str(error).lower() for word in _CONNECTION_ERRORS)


def check_launch(processes: int, has_folder: bool) -> None:
    """Check that torchrun or SLURM started the processes that the options ask for.

    Lightning itself would let each of them train alone, all in one folder.

    Args:
        processes: how many the options ask for.
        has_folder: whether the run folder is given, rather than chosen automatically.

    Raises:
        UserError: another number of processes, or no folder for processes that were started together.
    """
    started = int(os.environ["WORLD_SIZE"]) if "TORCHELASTIC_RUN_ID" in os.environ else None
    if started not in (None, processes):
        local = int(os.environ.get("LOCAL_WORLD_SIZE", started or 1))
        raise UserError(
            f"torchrun started {started} processes, and the options ask for {processes}. Give --devices {local} "
            f"--num_nodes {(started or 1) // local}."
        )
    if not has_folder and processes > 1 and (started is not None or SLURMEnvironment.detect()):
        raise UserError(
            "processes that torchrun or SLURM started can't agree on a new folder among themselves. "
            "Give --out FOLDER, the same for all of them."
        )


class ProcessWatch(Callback):
    """Reports at once which of the processes that this one started has ended, and how to resume.

    The others end on their own: their next message to it fails, or Lightning ends them after some seconds.
    """

    _children: ClassVar[Sequence[subprocess.Popen]] = ()
    """The processes that this one started. Later trainings of an ablation reuse those of the first."""

    def __init__(self, run: Run):
        self.run = run
        self._done = threading.Event()
        self._watcher: threading.Thread | None = None

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start to watch."""
        ProcessWatch._children = getattr(trainer.strategy.launcher, "procs", ()) or self._children
        if trainer.world_size > 1 and self._children:
            self._watcher = threading.Thread(target=self._watch, args=(self._children,), daemon=True)
            self._watcher.start()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Wait until the watcher has reported who ended, if a message to it failed first; then stop watching.

        Lightning calls no teardown of callbacks after an error.
        """
        if self._watcher is not None and is_lost_connection(exception):
            self._watcher.join(EXIT_TIMEOUT)
        self._done.set()

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Stop watching."""
        self._done.set()

    def _watch(self, started: Sequence[subprocess.Popen]) -> None:
        over = False
        while not over:
            over = self._done.wait(POLL_INTERVAL)  # and once more at the end, which another's may have brought about
            for number, process in enumerate(started, 1):
                if process.poll() not in (None, 0, Interrupted.exit_status):
                    print(
                        f"process {number} of the training (PID {process.pid}) {_describe_exit(process.returncode)}, "
                        f"so the training ends. Go on with: {self.run.resume_command}",
                        file=sys.stderr,
                        flush=True,
                    )
                    return


def _describe_exit(status: int) -> str:
    """Describe an exit status."""
    return f"was ended by {signal.Signals(-status).name}" if status < 0 else f"ended with status {status}"
