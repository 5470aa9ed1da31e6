"""Trainings as processes of their own, to be killed: one import of the libraries for all of them.

Reads a job a line from standard input, as JSON, forks a process that carries it out, and writes how that ended.

A job: ``words`` of the command line, ``folder`` to work in, ``log`` for what it prints, and, each optional, ``trap``
(what goes wrong where, see :data:`traps.POINTS`) and ``signal`` with ``after``, to be sent so many seconds after the
training's process began. An answer: ``status`` (negative for a signal), ``seconds``.
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
        os.setsid()  # loaders' workers die with it
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
