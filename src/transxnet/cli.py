"""The command line: parses, and calls the function of the same name."""

import argparse
import inspect
import io
import os
import re
import sys
import traceback
from collections.abc import Callable, Collection, Sequence
from typing import Any, Literal, NoReturn

from jsonargparse import ArgumentParser, DefaultHelpFormatter
from rich.console import Console
from rich.table import Table

from transxnet.errors import Interrupted, UserError, nearest
from transxnet.version import __version__

DESCRIPTION = """TransXNet: train, evaluate and use a vision backbone with a dual dynamic token mixer.

  transxnet train DATA           learn to classify images, to find objects in them, or to label their pixels
  transxnet eval RUN [DATA]      how good is it, on held-out or other images whose truth is known
  transxnet predict RUN IMAGE... what does it say about these images
  transxnet info MODEL           parameters, multiply-adds, stages
  transxnet bench MODEL...       speed and memory, measured in turns
  transxnet erf MODEL...         effective receptive fields, side by side
  transxnet explain RUN IMAGE... which parts of an image speak for a class, by Grad-CAM
  transxnet dynamics RUN IMAGE... how far kernels and attention go by the input
  transxnet ablate TABLE         variants of a model, trained alike and put into one table
  transxnet doctor               this machine, and how fast operators are chosen on it

Each has --help. Try: transxnet train elpv --recipe demo"""


class Help(DefaultHelpFormatter):
    """Descriptions with their defaults, without types."""

    def _get_help_string(self, action: argparse.Action) -> str:
        text = re.sub(r"(?<!\.)\.$", "", (action.help or "").replace("``", ""))
        plain = not action.option_strings or action.default is None or action.default is False
        return text if plain or action.default == argparse.SUPPRESS else f"{text} (default: %(default)s)"


class Parser(ArgumentParser):
    """Errors in one line and the exit status 2."""

    def __init__(self, command: str, usage: str, description: str):
        super().__init__(
            prog=f"transxnet {command}",
            usage=f"transxnet {command} {usage}",
            description=description,
            formatter_class=Help,
            print_config=None,
        )
        self.flags: dict[str, Collection[str]] = {}  # options that may stand alone, with the words that may follow
        self.given: set[str] = set()  # options among the words that were parsed
        self.add_argument("--debug", action="store_true", help="show where an error comes from")

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        """Say what is wrong and stop."""
        raise UserError(f"{self._in_words(message)} See: {self.prog} --help") from ex

    def add_options(self, source: Callable, names: Collection[str], title: str | None = None) -> None:
        """Add some of a function's or a data class's parameters, with their docstring as help."""
        parameters = inspect.signature(source).parameters
        place = self if title is None else self.add_argument_group(title)
        add = place.add_class_arguments if inspect.isclass(source) else place.add_function_arguments
        add(source, as_group=False, skip={name for name in parameters if name not in names})
        self.flags |= {name: _SWITCH for name in names if parameters[name].annotation in (bool, bool | None)}
        for action in self._actions:
            if action.dest in self.flags:
                action.metavar = "[true|false]" if self.flags[action.dest] is _SWITCH else "[MODE]"
            elif action.option_strings and action.dest in names and action.metavar is None:
                annotation = inspect.formatannotation(parameters[action.dest].annotation)
                if not annotation.startswith("Literal"):
                    action.metavar = _METAVARS.get(annotation, action.dest.rpartition("_")[2].upper())

    def parse_words(self, words: Sequence[str]) -> dict[str, Any]:
        """The options by name. ``--batch-size`` means ``--batch_size``, and ``--flag`` means ``--flag true``."""
        known = [option for action in self._actions for option in action.option_strings]
        options = list(words[: words.index("--")] if "--" in words else words)
        for i, word in enumerate(options):
            if not word.startswith("--"):
                continue
            name, equals, value = word.partition("=")
            name = "--" + name[2:].replace("-", "_")
            if name not in known:
                raise UserError(f"{self.prog} has no option {name!r}.{nearest(name, known)} See: {self.prog} --help")
            if name[2:] in self.flags and not equals and not set(options[i + 1 : i + 2]) & set(self.flags[name[2:]]):
                equals, value = "=", "true"
            options[i] = name + equals + value
            self.given.add(name[2:])
        given = self.parse_args([*options, *words[len(options) :]]).as_dict()
        given.pop("debug")
        return given

    def _in_words(self, message: str) -> str:
        """jsonargparse's account of a value of the wrong type, and of arguments that are missing, as a sentence."""
        if missing := re.fullmatch(r"the following arguments are required: (.+)", message):
            shown = {action.dest: str(action.metavar or action.dest) for action in self._actions}
            return f"missing: {', '.join(shown.get(name, name) for name in missing[1].split(', '))}."
        wrong = re.match(r"""Parser key "(.+?)":.*(?:Given value|Got value): ([^\n]*)""", message, re.DOTALL)
        if not wrong:
            return message if message.endswith(".") else f"{message}."
        choices = re.search(r"Literal\[(.+?)\]", message)
        kinds = {"'int'": "a whole number", "'float'": "a number", "'bool'": "true or false"}
        expected = choices[1] if choices else next((words for kind, words in kinds.items() if kind in message), "")
        return f"{wrong[1]} must be {expected.replace(', ', ' or ')}, got {wrong[2]!r}." if expected else message


Task = Literal["classify", "detect", "segment"]
_SWITCH = ("true", "false")
_METAVARS = {"int": "N", "int | None": "N", "float": "X", "float | None": "X"}
_BENCH_TOPICS = {
    "what": ("preset", "mode", "features", "size", "batch"),
    "how": ("device", "dtype", "autocast", "channels_last", "compile", "reparameterize"),
    "measurement": ("rounds", "seconds", "profile"),
    "result": ("output", "overwrite"),
}
_MODEL = (
    "a run folder, or the name of a model with published weights, such as transxnet_t.in1k; a published detector or "
    "segmenter is transxnet_t with --file"
)


def train_parser(recipe: str | None = None) -> Parser:
    """The options of ``train``, with a recipe's values as defaults."""
    parser = Parser(
        "train",
        "DATA [options]\n       transxnet train --resume RUN",
        "Train a classifier, a detector or a segmenter on DATA and write a run folder with weights, figures and a "
        "report. What you leave open is chosen from the data and the hardware, and said.",
    )
    parser.add_argument(
        "data",
        metavar="DATA",
        nargs="?",
        help="a folder with a folder of images for each class (or train/ and val/ of such), with annotations in the "
        "format of COCO or Pascal VOC, or with label maps beside photographs; a sample: elpv, digits, scenes; "
        "or a timm reader name, hfds/..., wds/... or tfds/...",
    )
    parser.add_argument("--resume", metavar="RUN", help="go on with an interrupted run")
    parser.add_argument("--overwrite", action="store_true", help="write over the run in --out")
    parser.add_argument("--print_config", action="store_true", help="print the options as YAML, a recipe, and stop")
    _add_training(parser, recipe)
    return parser


def _add_training(parser: Parser, recipe: str | None, without: Collection[str] = ()) -> None:
    """The task, the recipe, and the options of a training but for some, with the recipe's values as defaults."""
    from transxnet.tasks.config import TrainConfig
    from transxnet.tasks.task_configs import CONFIGS, read_recipe, recipe_names

    parser.add_argument(
        "--task",
        type=Task | None,
        default=None,
        help="what to learn; by default the recipe's, or what the data is for",
    )
    parser.add_argument("--recipe", help=f"start from a recipe's values: {', '.join(recipe_names())}, or a YAML file")
    for topic, names in TrainConfig.TOPICS.items():
        parser.add_options(TrainConfig, [name for name in names if name not in without], topic)
    added: set[str] = set()
    for task, config in CONFIGS.items():
        parser.add_options(config, [name for name in config.OWN if name not in added], f"only to {task}")
        added |= set(config.OWN)
    if recipe is not None:
        values = read_recipe(recipe)
        parser.set_defaults({name: value for name, value in values.items() if name not in ("data", *without)})


def run_train(words: Sequence[str]) -> None:
    """``transxnet train``."""
    parser = train_parser(_value_of("--recipe", words))
    given = parser.parse_words(words)
    data, recipe, resume, task = (given.pop(name) for name in ("data", "recipe", "resume", "task"))
    overwrite, print_config = given.pop("overwrite"), given.pop("print_config")
    changed = {name: value for name, value in given.items() if name in parser.given}
    if print_config:
        import yaml

        from transxnet.tasks.task_configs import make_config

        values = make_config(data or "", recipe, task or ("classify" if data is None else None), **changed).to_dict()
        print(
            yaml.safe_dump({name: value for name, value in values.items() if name != "data"}, sort_keys=False), end=""
        )
        return
    from transxnet.tasks.train import train

    if resume is None:
        train(data, task=task, recipe=recipe, overwrite=overwrite, **changed)
        return
    beside = [f"--{name}" for name in changed]
    beside += [text for text in (data, task and "--task", recipe and "--recipe", overwrite and "--overwrite") if text]
    if beside:
        raise UserError(f"--resume goes on with a run as it was started; leave out {', '.join(beside)}.")
    train(resume=resume)


def eval_parser() -> Parser:
    """The options of ``eval``."""
    from transxnet.tasks.evaluate import evaluate

    parser = Parser("eval", "RUN [DATA] [options]", "How good is a trained model on images whose truth is known?")
    parser.add_argument("model", metavar="RUN", help=_MODEL)
    parser.add_argument(
        "data",
        metavar="DATA",
        nargs="?",
        help="images with labels, annotations or label maps, as the model needs; left out, or where it is what the run "
        "was trained on, the run's own held-out images",
    )
    parser.add_options(evaluate, ("file", "split", "batch_size", "workers", "out", "overwrite"))
    return parser


def predict_parser() -> Parser:
    """The options of ``predict``."""
    from transxnet.tasks.predict import predict

    parser = Parser(
        "predict",
        "RUN IMAGE... [options]",
        "What a trained model says about images: classes as CSV and JSON lines; boxes and masks in COCO's format of "
        "results, and drawn; label maps as indexed PNG, and drawn.",
    )
    parser.add_argument("model", metavar="RUN", help=_MODEL)
    parser.add_argument("images", metavar="IMAGE", nargs="+", help="files, folders and globs, any number")
    parser.add_options(predict, ("out", "top_k", "batch_size", "workers", "file", "overwrite"))
    return parser


def info_parser() -> Parser:
    """The options of ``info``."""
    from transxnet.analysis.cost import info
    from transxnet.analysis.dense_cost import dense_info

    parser = Parser(
        "info",
        "MODEL [options]",
        "Parameters, multiply-adds and stages of a model; or, with --task detect or segment, what a detector or "
        "segmenter on it takes, part by part.",
    )
    parser.add_argument("model", metavar="MODEL", help="name of one of our models, or of timm's")
    parser.add_argument("--task", type=Task, default="classify", help="what the model is to do")
    parser.add_options(info, ("img_size",), "classify")
    parser.add_options(dense_info, ("head", "size", "num_classes"), "detect and segment")
    return parser


def bench_parser() -> Parser:
    """The options of ``bench``."""
    from transxnet.analysis.speed import bench
    from transxnet.analysis.speed_models import COMPILE_MODES, WORDS

    parser = Parser(
        "bench",
        "MODEL... [options]",
        "How fast are models, and how much memory do they take? Each runs in a process of its own, in turns with the "
        "others, and is compared with the first.",
    )
    parser.add_argument(
        "models",
        metavar="MODEL",
        nargs="*",
        help="name of one of our models or timm's, or module:factory for your own. NAME@WORD,WORD changes settings for "
        f"this model alone: {', '.join(WORDS)}, compile=MODE, and arguments of the model as name=value",
    )
    parser.flags["compile"] = (*_SWITCH, *COMPILE_MODES)
    for title, names in _BENCH_TOPICS.items():
        parser.add_options(bench, names, title)
    return parser


def run_bench(words: Sequence[str]) -> None:
    """``transxnet bench``."""
    from transxnet.analysis.speed import bench
    from transxnet.analysis.speed_report import show

    result = bench(**bench_parser().parse_words(words))
    Console().print(show(result), highlight=False)
    if all(row.failure for row in result.rows):
        raise UserError("none of the models could be measured.")


def erf_parser() -> Parser:
    """The options of ``erf``."""
    from transxnet.analysis.erf import erf

    parser = Parser(
        "erf",
        "MODEL... --data IMAGES [options]",
        "How far from its centre does an image still decide what a network sees there? The gradient of the features at "
        "the centre, averaged over images, side by side on one scale, with the radii that hold 20, 50 and 99% of it.",
    )
    parser.add_argument(
        "models",
        metavar="MODEL",
        nargs="+",
        help="a run folder, or a model's name for its published weights. After @ come settings: file=PATH for weights "
        "on disk, untrained for random ones, arguments of the model as name=value. After a colon comes a place, by "
        "default the last stage: stage1 to stage4, idconv, osra or ste of the last D-Mixer, or a module's name",
    )
    parser.add_argument(
        "--data", metavar="IMAGES", nargs="+", required=True, help="files, folders and globs, without labels"
    )
    parser.add_options(erf, ("images", "size", "batch_size", "out", "overwrite"))
    return parser


def run_erf(words: Sequence[str]) -> None:
    """``transxnet erf``."""
    from transxnet.analysis.erf import erf

    erf(**erf_parser().parse_words(words))


def explain_parser() -> Parser:
    """The options of ``explain``."""
    from transxnet.analysis.explain import explain

    parser = Parser(
        "explain",
        "RUN IMAGE... [options]",
        "Which parts of images speak for a class? Grad-CAM at every stage and, in our networks, at both branches of "
        "the last D-Mixer and their fusion; of classifiers, detectors and segmenters.",
    )
    parser.add_argument("model", metavar="RUN", help=_MODEL + "; then, as of erf, @ with settings and a colon a place")
    parser.add_argument("images", metavar="IMAGE", nargs="+", help="files, folders and globs, any number")
    parser.add_options(explain, ("class_name", "out", "file", "overwrite"))
    return parser


def run_explain(words: Sequence[str]) -> None:
    """``transxnet explain``."""
    from transxnet.analysis.explain import explain

    explain(**explain_parser().parse_words(words))


def dynamics_parser() -> Parser:
    """The options of ``dynamics``."""
    from transxnet.analysis.dynamics import dynamics

    parser = Parser(
        "dynamics",
        "RUN IMAGE IMAGE... [options]",
        "How far do a network's kernels and attention go by the input? IDConv's kernels and OSRA's attention for "
        "images side by side, and how much they vary in every D-Mixer, from 0 (static) to 1.",
    )
    parser.add_argument("model", metavar="RUN", help=_MODEL + "; then, as of erf, @ with settings")
    parser.add_argument("images", metavar="IMAGE", nargs="+", help="files, folders and globs, two images or more")
    parser.add_options(dynamics, ("out", "file", "overwrite"))
    return parser


def run_dynamics(words: Sequence[str]) -> None:
    """``transxnet dynamics``."""
    from transxnet.analysis.dynamics import dynamics

    dynamics(**dynamics_parser().parse_words(words))


def ablate_parser(recipe: str | None = None) -> Parser:
    """The options of ``ablate``, with a recipe's values as defaults."""
    from transxnet.analysis.tables import TABLES
    from transxnet.tasks.ablate import ablate

    parser = Parser(
        "ablate",
        "TABLE --data DATA [options]\n       transxnet ablate --resume FOLDER",
        "Train variants of a model under equal conditions, each a run folder, measure their speed and memory, and put "
        "them into one table: as Markdown, CSV, JSON and a page. Every option of a training is taken.",
    )
    parser.add_argument("table", metavar="TABLE", nargs="?", help=f"of the paper: {', '.join(TABLES)}")
    parser.add_argument("--data", metavar="DATA", help="what to train on, as for transxnet train")
    parser.add_argument(
        "--rows",
        help="some of the rows by name, as in idconv,dyconv; a row of your own is an option of the model as in "
        "'idconv,kernel_sizes=(5,5,5,5)', several joined by +; by default all",
    )
    parser.add_argument(
        "--seeds",
        help="each row is trained once for each, as in 0,1,2; by default the recipe's, or 0; with --resume more",
    )
    parser.add_options(ablate, ("model", "out", "rounds", "resume"), "table")
    _add_training(parser, recipe, without=("seed", "out", "model"))
    return parser


def run_ablate(words: Sequence[str]) -> None:
    """``transxnet ablate``."""
    from transxnet.tasks.ablate import ablate

    parser = ablate_parser(_value_of("--recipe", words))
    given = parser.parse_words(words)
    table, data = given.pop("table"), given.pop("data")
    ablate(table, data, **{name: value for name, value in given.items() if name in parser.given})


def doctor_parser() -> Parser:
    """The options of ``doctor``."""
    from transxnet.doctor import doctor

    parser = Parser(
        "doctor",
        "[options]",
        "What this machine has, which implementation each operator of a network would take on it, and why not the "
        "others. TRANSXNET_OPS=auto, triton, cpu or reference in the environment forces a choice.",
    )
    parser.add_options(doctor, ("model", "mode", "size", "batch", "dtype", "device"))
    return parser


def run_doctor(words: Sequence[str]) -> None:
    """``transxnet doctor``."""
    from transxnet.doctor import doctor, show

    Console().print(show(doctor(**doctor_parser().parse_words(words))), highlight=False)


def run_eval(words: Sequence[str]) -> None:
    """``transxnet eval``."""
    from transxnet.tasks.evaluate import evaluate

    evaluate(**eval_parser().parse_words(words))


def run_predict(words: Sequence[str]) -> None:
    """``transxnet predict``."""
    from transxnet.tasks.predict import predict

    predict(**predict_parser().parse_words(words))


def run_info(words: Sequence[str]) -> None:
    """``transxnet info``."""
    from transxnet.analysis.cost import info
    from transxnet.analysis.dense_cost import dense_info, show

    given, console = info_parser().parse_words(words), Console()
    task, own = given.pop("task"), ("img_size",)
    strangers = [name for name in given if name != "model" and (name in own) != (task == "classify")]
    if wrong := [f"--{name}" for name in strangers if given.pop(name) is not None]:
        raise UserError(f"{', '.join(wrong)} does not go with --task {task}. See: transxnet info --help")
    if task != "classify":
        console.print(show(dense_info(task=task, **given)), highlight=False)
        return
    facts = info(**given)
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


COMMANDS: dict[str, Callable[[Sequence[str]], None]] = {
    "train": run_train,
    "eval": run_eval,
    "predict": run_predict,
    "info": run_info,
    "bench": run_bench,
    "erf": run_erf,
    "explain": run_explain,
    "dynamics": run_dynamics,
    "ablate": run_ablate,
    "doctor": run_doctor,
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


def _value_of(option: str, words: Sequence[str]) -> str | None:
    for i, word in enumerate(words):
        if word == option and i + 1 < len(words):
            return words[i + 1]
        if word.startswith(option + "="):
            return word.partition("=")[2]
    return None


def _say_error(error: Exception) -> None:
    console = Console(stderr=True)
    console.print("[bold red]error:[/bold red] ", end="")
    if isinstance(error, UserError):
        console.print(str(error), markup=False, highlight=False, soft_wrap=True)
        return
    last = traceback.extract_tb(error.__traceback__)[-1]
    where = f"in {last.name}, {last.filename}:{last.lineno}. See the whole way with --debug."
    console.print(f"{type(error).__name__}: {error}\n  {where}", markup=False, highlight=False, soft_wrap=True)


if __name__ == "__main__":
    sys.exit(main())
