"""Recipes: YAML files of training options, and configurations made from them."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from transxnet.runs.config import TrainConfig
from transxnet.runs.task_configs import config_from_dict, only_task_with
from transxnet.utils.errors import UserError, nearest
from transxnet.utils.text_files import read_yaml

RECIPES = Path(__file__).parent.parent / "recipes"


@dataclass(frozen=True)
class Recipe:
    """A recipe that was read.

    Attributes:
        name: as the user gave it.
        values: the options that it sets, ``task`` among them.
    """

    name: str
    values: dict[str, Any]

    @property
    def task(self) -> str:
        """The task that it trains."""
        return str(self.values["task"])


def make_config(
    data: str | Path, recipe: str | Path | Recipe | None = None, task: str | None = None, **options: Any
) -> TrainConfig:
    """Create a configuration from a recipe's values and options that override them.

    The task is the given one, the recipe's, the only one of detection and segmentation that has all of these options,
    or the one that the data is for; the first of these that applies.

    Raises:
        UserError: an unknown recipe, task or option, an option of another task, a value out of range, or data that does
            not exist where it must tell the task.
    """
    values: dict[str, Any] = {"task": task}
    if recipe is not None:
        recipe = recipe if isinstance(recipe, Recipe) else read_recipe(recipe)
        if task not in (None, recipe.task):
            raise UserError(
                f"the recipe {recipe.name} is for the task {recipe.task!r}, and the task to train is {task!r}."
            )
        values = recipe.values
    return config_from_dict({**values, **options, "data": str(data)})


def recipe_names() -> list[str]:
    """Names of the recipes that come with the package."""
    return sorted(path.stem for path in RECIPES.glob("*.yaml"))


def recipe_path(recipe: str | Path) -> Path:
    """Find a recipe's file: one of the package by name, or the user's by path.

    Raises:
        UserError: it does not exist.
    """
    for path in (RECIPES / f"{recipe}.yaml", Path(recipe)):
        if path.is_file():
            return path
    names = recipe_names()
    raise UserError(
        f"there is no recipe {str(recipe)!r}.{nearest(str(recipe), names)} "
        f"Accepted: {', '.join(names)}, or a YAML file."
    )


def read_recipe(recipe: str | Path) -> Recipe:
    """Read a recipe; one that neither names a task nor has options of a single task is for classification.

    Raises:
        UserError: no such recipe, not YAML, or options that do not exist.
    """
    path = recipe_path(recipe)
    try:
        values = read_yaml(path) or {}
    except (ValueError, OSError) as error:
        raise UserError(f"{path} is not a YAML file of options: {error}") from error
    if not isinstance(values, dict):
        raise UserError(f"{path} must hold lines of 'option: value', got a {type(values).__name__}.")
    try:
        values = {"task": only_task_with({k: v for k, v in values.items() if k != "task"}) or "classify", **values}
        config = config_from_dict({"data": "", **values}).to_dict()
    except UserError as error:
        raise UserError(f"in {path}: {error}") from error
    return Recipe(str(recipe), {name: config[name] for name in values})
