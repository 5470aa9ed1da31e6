"""The parser of all commands: options from a function's parameters, and errors in one sentence."""

import argparse
import copy
import inspect
import re
import sys
from collections.abc import Callable, Collection, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Literal, NoReturn

from jsonargparse import ArgumentParser, DefaultHelpFormatter

from transxnet.utils.errors import UserError
from transxnet.utils.option_names import as_option, nearest_option

Task = Literal["classify", "detect", "segment"]

MODEL = (
    "a run folder, or the name of a model with published weights, such as transxnet_t.in1k; for a published detector "
    "or segmenter, transxnet_t with --file"
)
"""Help text for commands that take a trained model."""

SWITCH = ("true", "false")
"""Values that may follow a flag, which is true without a value."""

_METAVARS = {"int": "N", "int | None": "N", "float": "X", "float | None": "X"}


def with_hyphens(action: argparse.Action) -> argparse.Action:
    """Return a copy of an argument with hyphens in its name."""
    shown = copy.copy(action)
    shown.option_strings = [as_option(name[2:]) if name.startswith("--") else name for name in action.option_strings]
    return shown


class Help(DefaultHelpFormatter):
    """Help formatter that shows options with hyphens, and defaults but no types."""

    def _format_action_invocation(self, action: argparse.Action) -> str:
        return super()._format_action_invocation(with_hyphens(action))

    def _get_help_string(self, action: argparse.Action) -> str:
        text = re.sub(r"(?<!\.)\.$", "", (action.help or "").replace("``", ""))
        plain = not action.option_strings or action.default is None or action.default is False
        return (
            text
            if plain or "by default" in text or action.default == argparse.SUPPRESS
            else f"{text} (default: %(default)s)"
        )


class _FullHelp(argparse.Action):
    """Print the help with all options and exit."""

    def __call__(self, parser: argparse.ArgumentParser, *_: Any) -> NoReturn:
        assert isinstance(parser, Parser)
        print(parser.format_full_help(), end="")
        parser.exit()


class Parser(ArgumentParser):
    """Argument parser that raises UserError with a one-line message.

    Args:
        command: name of the command.
        usage: arguments as shown in the help.
        description: description in the help.
        renamed: former names of options, and their names today.
        common: options in the short help; by default all are shown.
    """

    def __init__(
        self,
        command: str,
        usage: str,
        description: str,
        renamed: Mapping[str, str] = MappingProxyType({}),
        common: Collection[str] = (),
    ):
        super().__init__(
            prog=f"transxnet {command}",
            usage=f"transxnet {command} {usage}",
            description=description,
            formatter_class=Help,
            print_config=None,
        )
        self.flags: dict[str, Collection[str]] = {}  # options whose value is optional, with the accepted values
        self.given: set[str] = set()  # options given on the command line
        self._renamed, self._common = renamed, common
        shown = "show all options and exit" if common else argparse.SUPPRESS
        self.add_argument("--help_all", action=_FullHelp, nargs=0, default=argparse.SUPPRESS, help=shown)
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
        """Parse the options by name; ``--batch_size`` means ``--batch-size``, and ``--flag`` means ``--flag true``."""
        known = [option for action in self._actions for option in action.option_strings]
        options = list(words[: words.index("--")] if "--" in words else words)
        for i, word in enumerate(options):
            if not word.startswith("--"):
                continue
            name, equals, value = word.partition("=")
            name = name[2:].replace("-", "_")
            if new := self._renamed.get(name):
                print(f"note: {as_option(name)} is now {as_option(new)}", file=sys.stderr)
                name = new
            if f"--{name}" not in known:
                if name in [action.dest for action in self._actions]:
                    raise UserError(f"{name.upper()} is given without an option name: {self.usage}")
                raise UserError(
                    f"{self.prog} has no option {as_option(name)}.{nearest_option(name, known)} "
                    f"See: {self.prog} --{'help-all' if self._common else 'help'}"
                )
            if name in self.flags and not equals and not set(options[i + 1 : i + 2]) & set(self.flags[name]):
                equals, value = "=", "true"
            options[i] = f"--{name}{equals}{value}"
            self.given.add(name)
        given = self.parse_args([*options, *words[len(options) :]]).as_dict()
        given.pop("debug")
        given.pop("help_all", None)
        return given

    def format_help(self, *arguments: Any) -> str:
        """Return the help: with common options, only those, and how to see all."""
        if not self._common:
            return super().format_help(*arguments)
        hidden = [a for a in self._actions if a.option_strings and a.dest not in (*self._common, "help", "help_all")]
        texts = [action.help for action in hidden]
        try:
            for action in hidden:
                action.help = argparse.SUPPRESS
            return super().format_help(*arguments)
        finally:
            for action, text in zip(hidden, texts, strict=True):
                action.help = text

    def format_full_help(self) -> str:
        """Return the help with all options."""
        return super().format_help()

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
        name = as_option(wrong[1]) if f"--{wrong[1]}" in self._option_string_actions else wrong[1].upper()
        return f"{name} must be {' or '.join(expected)}, got {wrong[2]!r}." if expected else message


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
