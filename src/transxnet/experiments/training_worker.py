"""The process of one training of an experiment: ``python -m transxnet.experiments.training_worker JOB``."""

import json
import os
import sys
import threading
import traceback
from pathlib import Path
from typing import NoReturn

from rich.console import Console

from transxnet.experiments.train_runs import train_or_resume
from transxnet.experiments.training_process import ERROR
from transxnet.runs.run_folder import Run
from transxnet.utils.errors import Interrupted, UserError, command_line
from transxnet.utils.library_messages import hide_missing_cuda


def main(job: str) -> int:
    """Train a run, and return the exit status; the error message of a failed training is printed last.

    Args:
        job: JSON list of the run folder and the options.
    """
    out, options = json.loads(job)
    hide_missing_cuda()
    try:
        with command_line():  # the other process shows advice as its interface spells it
            train_or_resume(Run(Path(out)), options, Console())
    except (Interrupted, KeyboardInterrupt) as error:
        print(error)
        return Interrupted.exit_status
    except Exception as error:
        known = isinstance(error, UserError)
        if not known:
            traceback.print_exc(file=sys.stdout)
        print(ERROR + (error.args[0] if known else f"{type(error).__name__}: {error}"))
        return 1
    return 0


def _end_with_parent() -> NoReturn:
    """End this process at once when the one that started it has ended, even if it was killed."""
    os.read(sys.stdin.fileno(), 1)
    os._exit(1)


if __name__ == "__main__":
    threading.Thread(target=_end_with_parent, daemon=True).start()
    sys.exit(main(sys.argv[1]))
