"""The public API of the package as plain data.

After an intended change, ``python -m tests.helpers.public_api`` rewrites ``public.json``; its diff shows a reviewer
what users will notice.
"""

import inspect
import json
from dataclasses import fields
from pathlib import Path
from typing import Any

import timm

import transxnet
from transxnet.cli.command_table import COMMANDS
from transxnet.runs import run_folder
from transxnet.runs.load import FORMAT
from transxnet.runs.recipes import recipe_names
from transxnet.runs.task_configs import CONFIGS

STORED = Path(__file__).parents[1] / "api" / "public.json"


def public() -> dict[str, Any]:
    """Names, signatures, commands, options, recipes, models, and the files of a run folder."""
    return {
        "functions and classes": {name: _signature(getattr(transxnet, name)) for name in sorted(transxnet.__all__)},
        "layers and heads": _all_of("layers", "heads"),
        "models": sorted(timm.list_models("transxnet_*")),
        "commands": {name: _options(name) for name in sorted(COMMANDS)},
        "options of a training": {
            task: {field.name: field.default for field in fields(config) if field.name != "data"}
            for task, config in sorted(CONFIGS.items())
        },
        "recipes": recipe_names(),
        "run folder": {"format": FORMAT, "files": sorted(run_folder._OWN)},
    }


def _signature(thing: Any) -> list[str] | str:
    """Parameters with their defaults, or the description of a value that is not a function."""
    if not callable(thing):
        return type(thing).__name__
    if inspect.isclass(thing) and issubclass(thing, Exception):
        return [base.__name__ for base in thing.__mro__[1:-1]]
    stars = {inspect.Parameter.VAR_POSITIONAL: "*", inspect.Parameter.VAR_KEYWORD: "**"}
    told, keyword_only = [], False
    for parameter in inspect.signature(thing).parameters.values():
        if parameter.kind is inspect.Parameter.KEYWORD_ONLY and not keyword_only:
            told.append("*")
            keyword_only = True
        default = "" if parameter.default is parameter.empty else f" = {_shown(parameter.default)}"
        told.append(stars.get(parameter.kind, "") + parameter.name + default)
    return told


def _shown(default: Any) -> str:
    return default.__name__ if inspect.isclass(default) or inspect.isfunction(default) else repr(default)


def _all_of(*modules: str) -> dict[str, list[str]]:
    found = {}
    for name in modules:
        module = __import__(f"transxnet.{name}", fromlist=["__all__"])
        found[name] = sorted(module.__all__)
    return found


def _options(command: str) -> list[str]:
    """The arguments of a command: options as they are, positional arguments in capitals."""
    actions = COMMANDS[command].parser()._actions
    words = [action.option_strings or [str(action.metavar or action.dest)] for action in actions]
    return sorted(word for group in words for word in group)


if __name__ == "__main__":
    STORED.write_text(json.dumps(public(), indent=1) + "\n", encoding="utf-8")
