"""Hardware of a training run: device, number of processes, and detecting processes that fail."""

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
"""Seconds between checks of the child processes."""

EXIT_TIMEOUT = 5.0
"""Seconds to wait for the exit status of a process after communication with it has failed."""

_CONNECTION_ERRORS = ("gloo", "closed by peer", "reset by peer", "broken pipe", "nccl")
"""Substrings of PyTorch's error messages when another process has ended."""


@dataclass(frozen=True)
class Hardware:
    """Hardware of a training run.

    Attributes:
        device: "cuda", "cpu", or "other", such as MPS.
        processes: number of training processes on all machines (the world size).
    """

    device: Literal["cuda", "cpu", "other"]
    processes: int


def resolve_hardware(config: TrainConfig) -> Hardware:
    """Resolve the options device, devices and num_nodes.

    Raises:
        UserError: the options require a GPU, but no GPU was found.
    """
    cuda = torch.cuda.is_available()
    wanted = config.device
    if (wanted == "cuda" and not cuda) or (wanted == "gpu" and not cuda and not torch.backends.mps.is_available()):
        raise UserError(f"no GPU found for device {wanted}. Leave out --device to train on the CPU.")
    device: Literal["cuda", "cpu", "other"] = "other"
    if cuda and config.device in ("auto", "gpu", "cuda"):
        device = "cuda"
    elif config.device == "cpu" or (config.device == "auto" and not torch.backends.mps.is_available()):
        device = "cpu"
    devices = str(config.devices)
    if devices in ("auto", "-1"):
        count = torch.cuda.device_count() if device == "cuda" else 1
    else:
        count = int(devices) if devices.isdigit() else len(devices.strip(" ,[]").split(","))
    return Hardware(device, max(1, count) * config.num_nodes)


def is_lost_connection(error: BaseException) -> bool:
    """Return whether an error means that the connection to another process is lost."""
    return isinstance(error, dist.DistError) or any(word in str(error).lower() for word in _CONNECTION_ERRORS)


def check_launch(processes: int, has_folder: bool) -> None:
    """Check that torchrun or SLURM started as many processes as the options request.

    Otherwise Lightning would let each process train alone, all in the same folder.

    Args:
        processes: number of processes that the options request.
        has_folder: whether the run folder is given, not chosen automatically.

    Raises:
        UserError: the number of processes differs, or processes started together have no common folder.
    """
    started = int(os.environ["WORLD_SIZE"]) if "TORCHELASTIC_RUN_ID" in os.environ else None
    if started not in (None, processes):
        local = int(os.environ.get("LOCAL_WORLD_SIZE", started or 1))
        raise UserError(
            f"torchrun started {started} processes, but the options request {processes}. Use --devices {local} "
            f"--num-nodes {(started or 1) // local}."
        )
    if not has_folder and processes > 1 and (started is not None or SLURMEnvironment.detect()):
        raise UserError(
            "processes started by torchrun or SLURM cannot choose a run folder automatically. "
            "Pass the same --out FOLDER to all of them."
        )


class ProcessWatch(Callback):
    """Report immediately which child process has failed, and how to resume.

    The other processes end on their own: their next collective fails, or Lightning terminates them after some seconds.
    """

    _children: ClassVar[Sequence[subprocess.Popen]] = ()
    """Child processes of this one. Later runs of an ablation reuse those of the first."""

    def __init__(self, run: Run):
        self.run = run
        self._done = threading.Event()
        self._watcher: threading.Thread | None = None

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start watching the child processes."""
        ProcessWatch._children = getattr(trainer.strategy.launcher, "procs", ()) or self._children
        if trainer.world_size > 1 and self._children:
            self._watcher = threading.Thread(target=self._watch, args=(self._children,), daemon=True)
            self._watcher.start()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """After a lost connection, wait for the watcher's report; then stop watching.

        Lightning does not call the callbacks' ``teardown`` after an error.
        """
        if self._watcher is not None and is_lost_connection(exception):
            self._watcher.join(EXIT_TIMEOUT)
        self._done.set()

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Stop watching, after a last check: a process that ends later is not this training's."""
        self._done.set()
        if self._watcher is not None:
            self._watcher.join()

    def _watch(self, started: Sequence[subprocess.Popen]) -> None:
        over = False
        while not over:
            over = self._done.wait(POLL_INTERVAL)  # checks once more at the end, which a failed process may have caused
            for number, process in enumerate(started, 1):
                if process.poll() not in (None, 0, Interrupted.exit_status):
                    print(
                        f"training process {number} (PID {process.pid}) {describe_exit(process.returncode)}; "
                        f"training stops. Resume with: {self.run.resume_command}",
                        file=sys.stderr,
                        flush=True,
                    )
                    return


def describe_exit(status: int) -> str:
    """Describe the exit status of a process, negative if a signal ended it."""
    return f"was killed by {signal.Signals(-status).name}" if status < 0 else f"exited with status {status}"
