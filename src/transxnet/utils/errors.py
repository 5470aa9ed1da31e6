"""Errors that a user can fix, and helpers for their messages."""

import difflib
import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager

from transxnet.utils.option_names import as_option

_FLAGS = (
    "autocast", "deterministic", "embed", "features", "grad-checkpointing", "int8", "measure", "overwrite",
    "pretrained", "ray", "reparameterize", "skip-empty", "zero-is-ignored",
)  # fmt: skip
"""Options without a value that messages recommend."""

_POSITIONAL = ("data", "table")

_in_command = False


@contextmanager
def command_line(active: bool = True) -> Iterator[None]:
    """Show advice as options of the command line; elsewhere it is shown as arguments in Python."""
    global _in_command
    before, _in_command = _in_command, active
    try:
        yield
    finally:
        _in_command = before


def by_interface(command: str, python: str) -> str:
    """Return the advice for the interface in use, where the two differ by more than the spelling of options."""
    return command if _in_command else python


def advice(text: str) -> str:
    """Return a text that recommends options, as the interface in use spells them.

    On the command line the text stays as it is. In Python, ``--overwrite`` becomes ``overwrite=True``,
    ``--batch-size 2`` becomes ``batch_size=2``, ``--file a.pth`` becomes ``file='a.pth'``, ``--out`` becomes ``out``,
    ``transxnet train --resume runs/one`` becomes ``transxnet.train(resume='runs/one')``, and
    ``transxnet train --help`` becomes ``help(transxnet.train)``.
    """
    if _in_command:
        return text
    text = re.sub(r"transxnet (\w+) --help", r"help(transxnet.\1)", text)
    text = re.sub(r"transxnet (\w+) --resume (.+?)(?=[.,;]?(?:\s|$))", r"transxnet.\1(resume='\2')", text)
    value = r"(\d[\w-]*(?:\.\w+)?|[A-Z]{2,}(?:\.\w+)?)|([^\s,;'\"()]*[/.][^\s,;'\"()]*\w)"
    return re.sub(rf"(?<![\w-])--([a-z][a-z0-9-]*)(?: (?:{value}))?", _as_argument, text)


def _as_argument(match: re.Match[str]) -> str:
    option, value, path = match.groups()
    name = option.replace("-", "_")
    value = value or (repr(path) if path else None)
    if option in _FLAGS:
        return f"{name}=True" + (f" {value}" if value else "")
    return f"{name}={value}" if value else name


class UserError(Exception):
    """The input is invalid. The message states the value received, the accepted values and the next step.

    Messages recommend options of the command line; in Python :func:`advice` turns them into arguments.
    """

    exit_status = 2

    def __str__(self) -> str:
        return advice(super().__str__())


class Interrupted(UserError):
    """The user or the system interrupted the command."""

    exit_status = 130


def nearest(name: str, known: Iterable[str], count: int = 3) -> str:
    """Return `` Did you mean ...?`` with the known names closest to this one, or "" if none is close."""
    close = difflib.get_close_matches(name, list(known), n=count, cutoff=0.5)
    return f" Did you mean {' or '.join(repr(c) for c in close)}?" if close else ""


def check_at_least(minimum: int, **values: int) -> None:
    """Raise UserError for the first of the named values that is below the minimum."""
    for name, value in values.items():
        if value < minimum:
            raise UserError(f"{name} must be an integer of at least {minimum}, got {value}.")


def check_resumed_alone(what: str, accepted: str, named: Mapping[str, object], options: Iterable[str]) -> None:
    """Raise UserError if options are given beside ``resume`` that have no effect then.

    Args:
        what: what is resumed.
        accepted: the options it takes.
        named: other arguments with their values; None and False are as good as not given.
        options: names of further options that are given.
    """
    given = [(name, value) for name, value in named.items() if value is not None and value is not False]
    others = [str(value) if name in _POSITIONAL else as_option(name) for name, value in given]
    if others := [*others, *map(as_option, options)]:
        raise UserError(
            f"--resume uses the options of the {what} and accepts no others but {accepted}. Remove {', '.join(others)}."
        )


def check_one_of(accepted: Collection[str], **values: str) -> None:
    """Raise UserError for the first of the named values that is not among the accepted ones."""
    for name, value in values.items():
        if value not in accepted:
            raise UserError(f"{name} must be {' or '.join(map(repr, accepted))}, got {value!r}.")
