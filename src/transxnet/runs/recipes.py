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
    """A parsed recipe.

    Attributes:
        name: name or path, as the user gave it.
        values: the options that it sets, including ``task``.
    """

    name: str
    values: dict[str, Any]

    @property
    def task(self) -> str:
        """Task of the recipe."""
        return str(self.values["task"])


def make_config(
    data: str | Path, recipe: str | Path | Recipe | None = None, task: str | None = None, **options: Any
) -> TrainConfig:
    """Create a configuration from a recipe's values and options that override them.

    The task is the first that applies: the given one; the recipe's; the only one of detection and segmentation that has
    all of these options; the one that the data is for.

    Raises:
        UserError: a recipe, task or option is unknown, an option belongs to another task, a value is out of range, or
            the task must be recognized from data that does not exist.
    """
    values: dict[str, Any] = {"task": task}
    if recipe is not None:
        recipe = recipe if isinstance(recipe, Recipe) else read_recipe(recipe)
        if task not in (None, recipe.task):
            raise UserError(f"recipe {recipe.name} is for task {recipe.task!r}, got task {task!r}.")
        values = recipe.values
    return config_from_dict({**values, **options, "data": str(data)})


def recipe_names() -> list[str]:
    """List the names of the recipes that come with the package."""
    return sorted(path.stem for path in RECIPES.glob("*.yaml"))


def recipe_path(recipe: str | Path) -> Path:
    """Return the file of a recipe: one of the package by name, or any by path.

    Raises:
        UserError: the recipe does not exist.
    """
    for path in (RECIPES / f"{recipe}.yaml", Path(recipe)):
        if path.is_file():
            return path
    names = recipe_names()
    raise UserError(
        f"unknown recipe {str(recipe)!r}.{nearest(str(recipe), names)} Accepted: {', '.join(names)}, or a YAML file."
    )


def read_recipe(recipe: str | Path) -> Recipe:
    """Read a recipe. Without a task or options of a single task it is for classification.

    Raises:
        UserError: the recipe does not exist, is not YAML, or has unknown options.
    """
    path = recipe_path(recipe)
    try:
        values = read_yaml(path) or {}
    except (ValueError, OSError) as error:
        raise UserError(f"{path} is not a YAML file of options: {error}") from error
    if not isinstance(values, dict):
        raise UserError(f"{path} must contain lines of the form 'option: value', got a {type(values).__name__}.")
    try:
        values = {"task": only_task_with({k: v for k, v in values.items() if k != "task"}) or "classify", **values}
        config = config_from_dict({"data": "", **values}).to_dict()
    except UserError as error:
        raise UserError(f"in {path}: {error}") from error
    return Recipe(str(recipe), {name: config[name] for name in values})
