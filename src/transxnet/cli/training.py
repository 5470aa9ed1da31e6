"""The commands that train: ``train`` and ``ablate``."""

from collections.abc import Collection, Sequence

from transxnet.cli.parser import Parser, Task, value_of
from transxnet.utils.errors import UserError


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


def run_train(words: Sequence[str]) -> None:
    """``transxnet train``."""
    parser = train_parser(value_of("--recipe", words))
    given = parser.parse_words(words)
    data, recipe, resume, task = (given.pop(name) for name in ("data", "recipe", "resume", "task"))
    overwrite, print_config = given.pop("overwrite"), given.pop("print_config")
    changed = {name: value for name, value in given.items() if name in parser.given}
    if print_config:
        import yaml

        from transxnet.runs.task_configs import make_config

        values = make_config(data or "", recipe, task or ("classify" if data is None else None), **changed).to_dict()
        print(
            yaml.safe_dump({name: value for name, value in values.items() if name != "data"}, sort_keys=False), end=""
        )
        return
    from transxnet.training.train import train

    if resume is None:
        train(data, task=task, recipe=recipe, overwrite=overwrite, **changed)
        return
    beside = [f"--{name}" for name in changed]
    beside += [text for text in (data, task and "--task", recipe and "--recipe", overwrite and "--overwrite") if text]
    if beside:
        raise UserError(f"--resume goes on with a run as it was started; leave out {', '.join(beside)}.")
    train(resume=resume)


def ablate_parser(recipe: str | None = None) -> Parser:
    """The options of ``ablate``, with a recipe's values as defaults."""
    from transxnet.ablation.ablate import ablate
    from transxnet.ablation.paper_tables import TABLES

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
    from transxnet.ablation.ablate import ablate

    parser = ablate_parser(value_of("--recipe", words))
    given = parser.parse_words(words)
    table, data = given.pop("table"), given.pop("data")
    ablate(table, data, **{name: value for name, value in given.items() if name in parser.given})


def _add_training(parser: Parser, recipe: str | None, without: Collection[str] = ()) -> None:
    """The task, the recipe, and the options of a training but for some, with the recipe's values as defaults."""
    from transxnet.runs.config import TrainConfig
    from transxnet.runs.task_configs import CONFIGS, read_recipe, recipe_names

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
