"""``transxnet``: runs one command, and says what went wrong."""

import io
import os
import sys
import traceback
from collections.abc import Callable, Sequence

from rich.console import Console

from transxnet.cli import analyses, deploying, measuring, training, using
from transxnet.utils.errors import Interrupted, UserError, nearest
from transxnet.version import __version__

DESCRIPTION = """TransXNet: train, evaluate and use a vision backbone with a dual dynamic token mixer.

  transxnet train DATA           learn to classify images, to find objects in them, or to label their pixels
  transxnet eval RUN [DATA]      how good is it, on held-out or other images whose truth is known
  transxnet predict RUN IMAGE... what does it say about these images
  transxnet app RUN              a page in the browser to try it on any picture
  transxnet export RUN           a file that runs without this package: ONNX, OpenVINO, AOTInductor
  transxnet info MODEL           parameters, multiply-adds, stages
  transxnet bench MODEL...       speed and memory, measured in turns
  transxnet erf MODEL...         effective receptive fields, side by side
  transxnet explain RUN IMAGE... which parts of an image speak for a class, by Grad-CAM
  transxnet dynamics RUN IMAGE... how far kernels and attention go by the input
  transxnet ablate TABLE         variants of a model, trained alike and put into one table
  transxnet doctor               this machine, and how fast operators are chosen on it

Each has --help. Try: transxnet train elpv --recipe demo"""

COMMANDS: dict[str, Callable[[Sequence[str]], None]] = {
    "train": training.run_train,
    "eval": using.run_eval,
    "predict": using.run_predict,
    "app": using.run_app,
    "export": deploying.run_export,
    "info": measuring.run_info,
    "bench": measuring.run_bench,
    "erf": analyses.run_erf,
    "explain": analyses.run_explain,
    "dynamics": analyses.run_dynamics,
    "ablate": training.run_ablate,
    "doctor": measuring.run_doctor,
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; the exit status."""
    words = list(sys.argv[1:] if argv is None else argv)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # file names may hold bytes that are not text
    try:
        _run(words)
        sys.stdout.flush()
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return Interrupted.exit_status
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or Python complains at its exit
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
        COMMANDS[words[0]](words[1:])
    else:
        raise UserError(
            f"there is no command {words[0]!r}.{nearest(words[0], COMMANDS)} Accepted: {', '.join(COMMANDS)}."
        )


def _say_error(error: Exception) -> None:
    console = Console(stderr=True)
    console.print("[bold red]error:[/bold red] ", end="")
    if isinstance(error, UserError):
        console.print(str(error), markup=False, highlight=False, soft_wrap=True)
        return
    last = traceback.extract_tb(error.__traceback__)[-1]
    where = f"in {last.name}, {last.filename}:{last.lineno}. See the whole way with --debug."
    console.print(f"{type(error).__name__}: {error}\n  {where}", markup=False, highlight=False, soft_wrap=True)
