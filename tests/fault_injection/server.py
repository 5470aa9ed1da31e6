"""Trainings in forked processes that can be killed; the libraries are imported only once.

Reads one job per line from standard input as JSON, forks a process that runs it, and prints the result.

A job has the ``words`` of the command line, a working ``folder``, a ``log`` file for the output, and optionally a
``trap`` (which fault to inject where, see :data:`traps.POINTS`), or a ``signal`` to be sent ``after`` so many seconds
from the start of the process. A result has ``status`` (negative for a signal) and ``seconds``.
"""

import json
import os
import signal
import sys
import time


def main() -> None:
    import torch

    import transxnet.cli
    import transxnet.training.train
    from tests.fault_injection import traps

    torch.set_num_threads(1)
    for line in sys.stdin:
        job = json.loads(line)
        started = time.monotonic()
        child = os.fork()
        if child == 0:
            _carry_out(job, traps, transxnet.cli)
        status = _wait(child, job, started)
        print(json.dumps({"status": status, "seconds": time.monotonic() - started}), flush=True)


def _carry_out(job: dict, traps, cli) -> None:
    status = 1
    try:
        os.setsid()  # loader workers are killed with it
        os.chdir(job["folder"])
        log = os.open(job["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.dup2(log, 1)
        os.dup2(log, 2)
        if "trap" in job:
            traps.set_trap(**job["trap"])
        status = cli.main(job["words"])
        sys.stdout.flush()
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        os._exit(status)


def _wait(child: int, job: dict, started: float) -> int:
    if "signal" in job:
        while time.monotonic() - started < job["after"]:
            done, status = os.waitpid(child, os.WNOHANG)
            if done:
                return os.waitstatus_to_exitcode(status)
            time.sleep(0.002)
        os.kill(child, signal.Signals[f"SIG{job['signal']}"])
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


if __name__ == "__main__":
    main()
