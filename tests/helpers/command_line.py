"""Run commands in this process or in a separate process."""

import os
import subprocess
import sys

QUICK = ["--model", "test_resnet", "--img-size", "32", "--batch-size", "4", "--workers", "0", "--device", "cpu"]
"""Options of a training that takes seconds."""


def invoke(capsys, *words: object) -> tuple[int, str, str]:
    """Run a command; returns exit status, standard output and standard error."""
    from transxnet.cli import main

    status = main([str(word) for word in words])
    out, err = capsys.readouterr()
    return status, out, err


def spawn(*words: object, **options) -> subprocess.Popen:
    """Start a command in its own process and session."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE", "PYTHONUNBUFFERED": "1"}
    command = [sys.executable, "-m", "transxnet", *map(str, words)]
    pipes = dict(stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    return subprocess.Popen(command, env=environment, start_new_session=True, **pipes, **options)
