"""A command: its parser, and the call of the function that it stands for."""

import importlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, get_args

from rich.console import Console

from transxnet.cli.parser import SWITCH, Parser


def load(path: str) -> Any:
    """Import what ``"package.module:name"`` names."""
    module, _, name = path.partition(":")
    return getattr(importlib.import_module(module), name)


@dataclass(frozen=True)
class Options:
    """Parameters of a function that become options, described by its docstring.

    Attributes:
        names: of the parameters.
        title: heading in the help; by default they are among the ungrouped ones.
        source: the function's path; by default the command's own.
    """

    names: tuple[str, ...]
    title: str | None = None
    source: str = ""


@dataclass(frozen=True)
class Command:
    """One command of ``transxnet``. What paths name is imported when the command runs.

    Attributes:
        name: of the command.
        synopsis: its arguments in the list of commands.
        summary: its line in the list of commands.
        usage: its arguments in its own help.
        description: in its own help.
        function: path of the function that it calls.
        arguments: added by hand: the name, or --name, and keyword arguments of ``add_argument``.
        options: from parameters.
        option_words: options that may stand alone, and the path of a Literal or tuple of the words that may follow.
        show: path of a function from the result to what rich prints; by default the function reports by itself.
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
    show: str = ""

    def parser(self) -> Parser:
        """Build the parser."""
        parser = Parser(self.name, self.usage, self.description)
        for name, keywords in self.arguments.items():
            parser.add_argument(name, **keywords)
        for option, path in self.option_words.items():
            found = load(path)
            parser.flags[option] = (*SWITCH, *(get_args(found) or found))
        for group in self.options:
            parser.add_options(load(group.source or self.function), group.names, group.title)
        return parser

    def run(self, words: Sequence[str]) -> None:
        """Parse the words, call the function, and print its result."""
        parser = self.parser()
        self.call(parser, parser.parse_words(words))

    def call(self, parser: Parser, given: dict[str, Any]) -> None:
        """Call the function, and print its result.

        Args:
            parser: that parsed.
            given: values by name, defaults among them.
        """
        result = load(self.function)(**given)
        if self.show:
            Console().print(load(self.show)(result), highlight=False)
