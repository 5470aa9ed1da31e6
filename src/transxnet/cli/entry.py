"""Entry point of ``transxnet``: runs one command and reports errors."""

import io
import os
import sys
import traceback
from collections.abc import Sequence

from rich.console import Console

from transxnet.cli.command_table import COMMANDS
from transxnet.utils.errors import Interrupted, UserError, command_line, nearest
from transxnet.utils.library_messages import hide_missing_cuda
from transxnet.version import __version__

_LIST = "\n".join(
    f"  transxnet {f'{command.name} {command.synopsis}':<23} {command.summary}" for command in COMMANDS.values()
)
DESCRIPTION = f"""TransXNet: train, evaluate and use a vision backbone with a dual dynamic token mixer.

{_LIST}

Options of a command: transxnet COMMAND --help
Example: transxnet train elpv --recipe demo"""


@command_line()
def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return the exit status."""
    words = list(sys.argv[1:] if argv is None else argv)
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:  # it was closed
            setattr(sys, name, io.TextIOWrapper(io.FileIO(os.devnull, "w")))
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # file names may contain bytes that are not text
    hide_missing_cuda()
    try:
        _run(words)
        sys.stdout.flush()
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return Interrupted.exit_status
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # otherwise Python prints an error at exit
        return 141
    except Exception as error:
        if "--debug" in words:
            raise
        _say_error(error)
        return error.exit_status if isinstance(error, UserError) else 1
    return 0


def _run(words: Sequence[str]) -> None:
    if not words or words[0] in ("-h", "--help"):
        print(DESCRIPTION)
    elif words[0] == "--version":
        print(f"transxnet {__version__}")
    elif words[0] in COMMANDS:
        COMMANDS[words[0]].run(words[1:])
    else:
        raise UserError(f"unknown command {words[0]!r}.{nearest(words[0], COMMANDS)} Accepted: {', '.join(COMMANDS)}.")


def _say_error(error: Exception) -> None:
    console = Console(stderr=True)
    stopped = isinstance(error, Interrupted)
    console.print("[bold yellow]interrupted:[/bold yellow] " if stopped else "[bold red]error:[/bold red] ", end="")
    if isinstance(error, UserError):
        console.print(str(error), markup=False, highlight=False, soft_wrap=True)
        return
    last = traceback.extract_tb(error.__traceback__)[-1]
    where = f"in {last.name}, {last.filename}:{last.lineno}. --debug shows the traceback."
    console.print(f"{type(error).__name__}: {error}\n  {where}", markup=False, highlight=False, soft_wrap=True)
