"""A command of the command line: its parser, and the function that it calls."""

import importlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, get_args

from rich.console import Console

from transxnet.cli.parser import SWITCH, Parser
from transxnet.cli.source_signature import read_signature, read_value


def load(path: str) -> Any:
    """Import an object by its path ``"package.module:name"``."""
    module, _, name = path.partition(":")
    return getattr(importlib.import_module(module), name)


@dataclass(frozen=True)
class Options:
    """Parameters of a function that become options, with its docstring as help.

    Attributes:
        names: names of the parameters.
        title: title of their group in the help; by default they are not grouped.
        source: path of the function; by default that of the command.
    """

    names: tuple[str, ...]
    title: str | None = None
    source: str = ""


@dataclass(frozen=True)
class Command:
    """A command of ``transxnet``. Objects given by path are imported when the command runs.

    Attributes:
        name: name of the command.
        synopsis: arguments as shown in the list of commands.
        summary: description in the list of commands.
        usage: arguments as shown in the help of the command.
        description: description in the help of the command.
        function: path of the function that the command calls.
        arguments: additional arguments: name or --name, and keyword arguments of ``add_argument``.
        options: options from the parameters of functions.
        option_words: options whose value is optional, and the path of a Literal or tuple of the accepted values.
        renamed: former names of options, and their names today.
        common: options in the short help; by default the help shows all.
        show: path of a function that turns the result into a rich renderable; by default the function itself prints.
    """

    name: str
    synopsis: str
    summary: str
    usage: str
    description: str
    function: str
    arguments: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    options: tuple[Options, ...] = ()
    option_words: Mapping[str, str] = field(default_factory=dict)
    renamed: Mapping[str, str] = field(default_factory=dict)
    common: tuple[str, ...] = ()
    show: str = ""

    def parser(self) -> Parser:
        """Build the parser."""
        parser = Parser(self.name, self.usage, self.description, self.renamed, self.common)
        for name, keywords in self.arguments.items():
            parser.add_argument(name, **keywords)
        for option, path in self.option_words.items():
            found = read_value(path)
            parser.flags[option] = (*SWITCH, *(get_args(found) or found))
        for group in self.options:
            function = read_signature(group.source or self.function, group.names)
            parser.add_options(function, group.names, group.title)
        return parser

    def run(self, words: Sequence[str]) -> None:
        """Parse the arguments, call the function and print its result."""
        parser = self.parser()
        self.call(parser, parser.parse_words(words))

    def call(self, parser: Parser, given: dict[str, Any]) -> None:
        """Call the function and print its result.

        Args:
            parser: parser of the arguments.
            given: values by name, including defaults.
        """
        result = load(self.function)(**given)
        if self.show:
            Console().print(load(self.show)(result), highlight=False)
