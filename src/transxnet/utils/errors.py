"""Errors that a user can fix, and helpers for their messages."""

import difflib
from collections.abc import Collection, Iterable


class UserError(Exception):
    """The input is invalid. The message states the value received, the accepted values and the next step."""

    exit_status = 2


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


def check_one_of(accepted: Collection[str], **values: str) -> None:
    """Raise UserError for the first of the named values that is not among the accepted ones."""
    for name, value in values.items():
        if value not in accepted:
            raise UserError(f"{name} must be {' or '.join(map(repr, accepted))}, got {value!r}.")
