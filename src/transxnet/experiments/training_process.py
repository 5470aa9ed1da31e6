"""A training of an experiment in a process of its own, with a log file."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from transxnet.training.distributed import describe_exit

ERROR = "\nerror: "
"""Stands before the error message that ends the log of a failed training."""

WORKER = ("-m", "transxnet.experiments.training_worker")
"""Arguments of Python that the process runs."""


@dataclass(frozen=True)
class TrainingJob:
    """A training for a process, which may be on another machine.

    Attributes:
        out: run folder.
        options: arguments of ``train``, without ``out``.
        log: file for the output of the training.
        folder: working directory.
    """

    out: str
    options: dict[str, Any]
    log: str
    folder: str


class TrainingProcess:
    """The process of a training. It ends with the process that started it, and ignores Ctrl-C on the terminal.

    Args:
        job: what is trained.
        environment: environment variables in addition to those of this process.
    """

    def __init__(self, job: TrainingJob, environment: Mapping[str, str]):
        self._log = Path(job.log)
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, *WORKER, json.dumps([job.out, job.options])],
                stdin=subprocess.PIPE,  # closed at the end of this process, which ends the other
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=job.folder,
                env={**os.environ, **environment},
                start_new_session=True,
            )

    @property
    def running(self) -> bool:
        """Whether the process has not ended."""
        return self._process.poll() is None

    def interrupt(self) -> None:
        """Ask the training to save a checkpoint and stop; at the second call it stops at once.

        By SIGTERM: processes of a command in the background ignore SIGINT.
        """
        if self.running:
            self._process.terminate()

    def wait(self) -> str | None:
        """Wait for the end of the process, and return the error message of a failed training, else None."""
        status = self._process.wait()
        assert self._process.stdin is not None
        self._process.stdin.close()
        if status == 0:
            return None
        _, marked, message = self._log.read_text(encoding="utf-8", errors="replace").rpartition(ERROR)
        return message.strip() if marked else f"the process {describe_exit(status)}."
