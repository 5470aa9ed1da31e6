"""The commands with training options: ``train``, ``pretrain``, ``ablate`` and ``study``."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, get_args

from transxnet.cli.command import Command, load
from transxnet.cli.parser import Parser, Task, value_of
from transxnet.utils.errors import UserError

if TYPE_CHECKING:
    from transxnet.runs.recipes import Recipe

_TITLES = {
    "classify": "classification only",
    "detect": "detection only",
    "segment": "segmentation only",
    "pretrain": "pretraining",
}


@dataclass(frozen=True)
class TrainingCommand(Command):
    """A command with training options.

    Attributes:
        tasks: tasks that the command trains.
        excluded: training options that the command does not have.
        leading: names of the arguments that are passed by position.
    """

    tasks: tuple[str, ...] = get_args(Task)
    excluded: tuple[str, ...] = ()
    leading: tuple[str, ...] = ("data",)
    renamed: Mapping[str, str] = field(default_factory=lambda: {"accelerator": "device"})

    @property
    def only_task(self) -> str | None:
        """The task of a command that trains one only, which has no option for it."""
        return self.tasks[0] if len(self.tasks) == 1 else None

    def parser(self, recipe: "Recipe | None" = None) -> Parser:
        """Build the parser, with a recipe's values as defaults."""
        from transxnet.runs.config import TrainConfig
        from transxnet.runs.recipes import recipe_names
        from transxnet.runs.task_configs import CONFIGS

        parser = super().parser()
        if self.only_task is None:
            parser.add_argument(
                "--task",
                type=Task | None,
                default=None,
                help="task to train; by default the recipe's, or detected from the data",
            )
        recipes = f"{', '.join(recipe_names())}, or a YAML file" if self.only_task is None else "a YAML file"
        parser.add_argument("--recipe", help=f"recipe whose values become the defaults: {recipes}")
        for topic, names in TrainConfig.TOPICS.items():
            parser.add_options(TrainConfig, [name for name in names if name not in self.excluded], topic)
        if self.only_task is not None:
            own_defaults = CONFIGS[self.only_task]
            parser.set_defaults({name: getattr(own_defaults, name) for name in ("val_fraction", "select")})
        added: set[str] = set()
        for task in self.tasks:
            own = CONFIGS[task].OWN
            parser.add_options(CONFIGS[task], [name for name in own if name not in added], _TITLES[task])
            added |= set(own)
        if recipe is not None:
            skipped = ("data", *self.excluded)
            parser.set_defaults({name: value for name, value in recipe.values.items() if name not in skipped})
        return parser

    def run(self, words: Sequence[str]) -> None:
        """Read the recipe once, if one is given, parse the arguments and call the function."""
        from transxnet.runs.recipes import read_recipe

        name = value_of("--recipe", words)
        recipe = None if name is None else read_recipe(name)
        if recipe is not None and recipe.task not in self.tasks:
            raise UserError(f"recipe {name} is for task {recipe.task!r}. Accepted: {', '.join(self.tasks)}.")
        parser = self.parser(recipe)
        self.call(parser, parser.parse_words(words) | {"recipe": recipe})

    def call(self, parser: Parser, given: dict[str, Any]) -> None:
        """Call the function with the given options only; the others have its defaults, or the recipe's values."""
        leading = [given.pop(name) for name in self.leading]
        load(self.function)(*leading, **{name: value for name, value in given.items() if name in parser.given})


class TrainCommand(TrainingCommand):
    """A command that trains one run, and can also print its configuration."""

    def call(self, parser: Parser, given: dict[str, Any]) -> None:
        """Train, resume, or print the configuration."""
        if given.pop("print_config"):
            self._print_config(parser, given)
        else:
            super().call(parser, given)

    def _print_config(self, parser: Parser, given: dict[str, Any]) -> None:
        import yaml

        from transxnet.runs.recipes import make_config

        data, recipe, task = (given.pop(name, None) for name in ("data", "recipe", "task"))
        changed = {name: given[name] for name in given if name in parser.given - {"resume", "overwrite", "dry_run"}}
        task = self.only_task or task or ("classify" if data is None else None)
        values = make_config(data or "", recipe, task, **changed).to_dict()
        values.pop("data")
        print(yaml.safe_dump(values, sort_keys=False), end="")
