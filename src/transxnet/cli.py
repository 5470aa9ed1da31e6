"""The command line: parses, and calls the function of the same name."""

import sys
import traceback
from collections.abc import Callable, Sequence
from typing import NoReturn

from jsonargparse import ArgumentParser, Namespace
from rich.console import Console
from rich.table import Table

from transxnet.errors import UserError, nearest
from transxnet.version import __version__

DESCRIPTION = """TransXNet: train, evaluate and use a vision backbone with a dual dynamic token mixer.

  transxnet train DATA           learn to classify the images in a folder of class folders
  transxnet eval RUN [DATA]      how good is it, on held-out or other labelled images
  transxnet predict RUN IMAGE... what does it say about these images
  transxnet info MODEL           parameters, multiply-adds, stages

Each has --help. Try: transxnet train elpv --recipe demo"""


class Parser(ArgumentParser):
    """Errors in one line, with the nearest option's name, and the exit status 2."""

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        """Say what is wrong and stop."""
        raise UserError(f"{message} See: {self.prog} --help") from ex


def train_parser(recipe: str | None) -> ArgumentParser:
    """The options of ``train``, with a recipe's values as defaults."""
    from transxnet.tasks.config import TrainConfig, read_recipe, recipe_names

    parser = Parser(
        prog="transxnet train",
        description="Train a classifier on DATA and write a run folder with weights, figures and a report. What you "
        "leave open is chosen from the data and the hardware, and said.",
        usage="transxnet train DATA [options]  |  transxnet train --resume RUN",
    )
    parser.add_argument("data", nargs="?", help="a folder of class folders, elpv, digits, or hfds/... wds/... tfds/...")
    parser.add_argument("--recipe", help=f"start from a recipe's values: {', '.join(recipe_names())}, or a YAML file")
    parser.add_argument("--resume", metavar="RUN", help="go on with an interrupted run")
    parser.add_argument("--overwrite", action="store_true", help="write over the run in --out")
    parser.add_argument("--debug", action="store_true", help="show where an error comes from")
    parser.add_class_arguments(TrainConfig, skip={"data"})
    parser.add_argument("--print_config", action="store_true", help="print the options as YAML and stop")
    if recipe is not None:
        parser.set_defaults({name: value for name, value in read_recipe(recipe).items() if name != "data"})
    return parser


def run_train(args: Namespace) -> None:
    """``transxnet train``."""
    import yaml

    from transxnet.tasks.config import TrainConfig
    from transxnet.tasks.train import train

    given = args.as_dict()
    data, resume, overwrite = given.pop("data"), given.pop("resume"), given.pop("overwrite")
    print_config = given.pop("print_config")
    given.pop("recipe")
    if print_config:
        print(yaml.safe_dump(given, sort_keys=False), end="")
        return
    if resume is not None:
        changed = [name for name, value in given.items() if value != getattr(TrainConfig(""), name)]
        if changed or data is not None:
            raise UserError(f"--resume goes on with a run as it was started; leave out {', '.join(changed) or data}.")
        train(resume=resume)
    else:
        train(data, overwrite=overwrite, **given)


def eval_parser() -> ArgumentParser:
    """The options of ``eval``."""
    from transxnet.tasks.evaluate import evaluate

    parser = Parser(prog="transxnet eval", description="Evaluate a trained model on labelled images.")
    parser.add_argument("model", metavar="RUN", help=_MODEL)
    parser.add_argument("data", nargs="?", help="labelled images; by default the run's own held-out part")
    return _add_options(parser, evaluate, "model", "data")


def predict_parser() -> ArgumentParser:
    """The options of ``predict``."""
    from transxnet.tasks.predict import predict

    parser = Parser(prog="transxnet predict", description="Predict the classes of images, as CSV and JSON lines.")
    parser.add_argument("model", metavar="RUN", help=_MODEL)
    parser.add_argument("images", metavar="IMAGE", nargs="+", help="files, folders and globs, any number")
    return _add_options(parser, predict, "model", "images")


def info_parser() -> ArgumentParser:
    """The options of ``info``."""
    from transxnet.analysis.cost import info

    parser = Parser(prog="transxnet info", description="Parameters, multiply-adds and stages of a model.")
    parser.add_argument("model", help="name of one of our models, or of timm's")
    return _add_options(parser, info, "model")


def run_eval(args: Namespace) -> None:
    """``transxnet eval``."""
    from transxnet.tasks.evaluate import evaluate

    evaluate(**args.as_dict())


def run_predict(args: Namespace) -> None:
    """``transxnet predict``."""
    from transxnet.tasks.predict import predict

    predict(**args.as_dict())


def run_info(args: Namespace) -> None:
    """``transxnet info``."""
    from transxnet.analysis.cost import info

    facts, console = info(**args.as_dict()), Console()
    size = f"{facts.img_size}x{facts.img_size}"
    console.print(f"[bold]{facts.name}[/bold]", highlight=False)
    for name, value in {
        "parameters": f"{facts.cost.parameters:,}",
        f"multiply-adds at {size}": f"{facts.cost.multiply_adds / 1e9:.2f} G in convolutions and linear layers",
        "": f"{facts.cost.attention_multiply_adds / 1e9:.2f} G more in attention products",
        "classes": f"{facts.num_classes:,}",
        "preprocessing": f"{facts.interpolation}, crop {facts.crop_pct:g}",
        "published weights": ", ".join(facts.weights) or "none",
    }.items():
        console.print(f"  {name:<28}{value}", highlight=False, soft_wrap=True)
    if facts.stages:
        table = Table(
            "stage", "channels", "reduction", f"output at {size}", box=None, pad_edge=False, padding=(0, 3, 0, 2)
        )
        for stage in facts.stages:
            table.add_row(stage.name, str(stage.channels), str(stage.reduction), f"{stage.size[0]}x{stage.size[1]}")
        console.print(table)


COMMANDS: dict[str, tuple[Callable[..., ArgumentParser], Callable[[Namespace], None]]] = {
    "train": (train_parser, run_train),
    "eval": (eval_parser, run_eval),
    "predict": (predict_parser, run_predict),
    "info": (info_parser, run_info),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; the exit status."""
    words = list(sys.argv[1:] if argv is None else argv)
    debug = "--debug" in words
    try:
        return _main([word for word in words if word != "--debug"])
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:
        return 141
    except Exception as error:
        if debug:
            raise
        _say_error(error)
        return 130 if type(error).__name__ == "Interrupted" else 2 if isinstance(error, UserError) else 1


def _main(words: list[str]) -> int:
    if not words or words[0] in ("-h", "--help"):
        print(DESCRIPTION)
        return 0
    if words[0] == "--version":
        print(f"transxnet {__version__}")
        return 0
    command = words[0]
    if command not in COMMANDS:
        raise UserError(
            f"there is no command {command!r}.{nearest(command, COMMANDS)} Accepted: {', '.join(COMMANDS)}."
        )
    make_parser, run = COMMANDS[command]
    words = [_underscored(word) for word in words[1:]]
    parser = make_parser(_value_of("--recipe", words)) if command == "train" else make_parser()
    _check_options(parser, words)
    args = parser.parse_args(words)
    args.pop("debug", None)
    run(args)
    return 0


_MODEL = "a run folder, or the name of a model with published ImageNet weights, such as transxnet_t.in1k"


def _add_options(parser: ArgumentParser, function: Callable, *positional: str) -> ArgumentParser:
    """The options of a command are the keyword arguments of its function, with their docstring as help."""
    parser.add_argument("--debug", action="store_true", help="show where an error comes from")
    parser.add_function_arguments(function, skip={*positional, "console"})
    return parser


def _underscored(word: str) -> str:
    """``--batch-size`` means ``--batch_size``."""
    if not word.startswith("--"):
        return word
    name, equals, value = word.partition("=")
    return "--" + name[2:].replace("-", "_") + equals + value


def _value_of(option: str, words: Sequence[str]) -> str | None:
    for i, word in enumerate(words):
        if word == option and i + 1 < len(words):
            return words[i + 1]
        if word.startswith(option + "="):
            return word.partition("=")[2]
    return None


def _check_options(parser: ArgumentParser, words: Sequence[str]) -> None:
    known = [option for action in parser._actions for option in action.option_strings]
    for word in words:
        name = word.partition("=")[0]
        if name.startswith("--") and len(name) > 2 and name not in known:
            raise UserError(f"{parser.prog} has no option {name!r}.{nearest(name, known)} See: {parser.prog} --help")


def _say_error(error: Exception) -> None:
    console = Console(stderr=True)
    if isinstance(error, UserError):
        console.print("[bold red]error:[/bold red] ", end="")
        console.print(str(error), markup=False, highlight=False, soft_wrap=True)
    else:
        last = traceback.extract_tb(error.__traceback__)[-1]
        console.print("[bold red]error:[/bold red] ", end="")
        console.print(f"{type(error).__name__}: {error}", markup=False, highlight=False, soft_wrap=True)
        console.print(f"  in {last.name}, {last.filename}:{last.lineno}. See the whole way with --debug.", markup=False)


if __name__ == "__main__":
    sys.exit(main())
