"""The parser of all commands: options from a function's parameters, and errors in one sentence."""

import argparse
import inspect
import re
from collections.abc import Callable, Collection, Sequence
from typing import Any, Literal, NoReturn

from jsonargparse import ArgumentParser, DefaultHelpFormatter

from transxnet.utils.errors import UserError, nearest

Task = Literal["classify", "detect", "segment"]

MODEL = (
    "a run folder, or the name of a model with published weights, such as transxnet_t.in1k; for a published detector "
    "or segmenter, transxnet_t with --file"
)
"""Help text for commands that take a trained model."""

SWITCH = ("true", "false")
"""Values that may follow a flag, which is true without a value."""

_METAVARS = {"int": "N", "int | None": "N", "float": "X", "float | None": "X"}


class Help(DefaultHelpFormatter):
    """Help formatter that shows defaults but no types."""

    def _get_help_string(self, action: argparse.Action) -> str:
        text = re.sub(r"(?<!\.)\.$", "", (action.help or "").replace("``", ""))
        plain = not action.option_strings or action.default is None or action.default is False
        return text if plain or action.default == argparse.SUPPRESS else f"{text} (default: %(default)s)"


class Parser(ArgumentParser):
    """Argument parser that raises UserError with a one-line message."""

    def __init__(self, command: str, usage: str, description: str):
        super().__init__(
            prog=f"transxnet {command}",
            usage=f"transxnet {command} {usage}",
            description=description,
            formatter_class=Help,
            print_config=None,
        )
        self.flags: dict[str, Collection[str]] = {}  # options whose value is optional, with the accepted values
        self.given: set[str] = set()  # options given on the command line
        self.add_argument("--debug", action="store_true", help="show the full traceback of an error")

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        """Raise UserError with a readable message."""
        raise UserError(f"{self._in_words(message)} See: {self.prog} --help") from ex

    def add_options(self, source: Callable, names: Collection[str], title: str | None = None) -> None:
        """Add parameters of a function or a dataclass as options, with its docstring as help."""
        parameters = inspect.signature(source).parameters
        place = self if title is None else self.add_argument_group(title)
        add = place.add_class_arguments if inspect.isclass(source) else place.add_function_arguments
        add(source, as_group=False, skip={name for name in parameters if name not in names})
        self.flags |= {name: SWITCH for name in names if parameters[name].annotation in (bool, bool | None)}
        for action in self._actions:
            if action.dest in self.flags:
                action.metavar = "[true|false]" if self.flags[action.dest] is SWITCH else "[MODE]"
            elif action.option_strings and action.dest in names and action.metavar is None:
                annotation = inspect.formatannotation(parameters[action.dest].annotation)
                if not annotation.startswith("Literal"):
                    action.metavar = _METAVARS.get(annotation, action.dest.rpartition("_")[2].upper())

    def parse_words(self, words: Sequence[str]) -> dict[str, Any]:
        """Parse the options by name; ``--batch-size`` means ``--batch_size``, and ``--flag`` means ``--flag true``."""
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
        """Rewrite jsonargparse's messages on wrong types and missing arguments as one sentence."""
        if missing := re.fullmatch(r"the following arguments are required: (.+)", message):
            shown = {action.dest: str(action.metavar or action.dest) for action in self._actions}
            return f"missing: {', '.join(shown.get(name, name) for name in missing[1].split(', '))}."
        wrong = re.match(r"""Parser key "(.+?)":.*(?:Given value|Got value): ([^\n]*)""", message, re.DOTALL)
        if not wrong:
            return message if message.endswith(".") else f"{message}."
        choices = re.search(r"Literal\[(.+?)\]", message)
        kinds = {"'int'": "an integer", "'float'": "a number", "'bool'": "true or false"}
        expected = [words for kind, words in kinds.items() if kind in message][:1]
        expected += choices[1].split(", ") if choices else []
        return f"{wrong[1]} must be {' or '.join(expected)}, got {wrong[2]!r}." if expected else message


def value_of(option: str, words: Sequence[str]) -> str | None:
    """Return the last value of an option, before the arguments are parsed."""
    value = None
    for i, word in enumerate(words):
        if word == "--":
            break
        if word == option and i + 1 < len(words):
            value = words[i + 1]
        elif word.startswith(option + "="):
            value = word.partition("=")[2]
    return value
