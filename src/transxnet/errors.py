"""Errors that a user can mend, and how they are worded."""

import difflib
from collections.abc import Iterable


class UserError(Exception):
    """Something about the input is wrong: the message says what came, what is accepted and the next step."""


def nearest(name: str, known: Iterable[str], count: int = 3) -> str:
    """`` Did you mean ...?`` with the known names closest to this one, or nothing if none is close."""
    close = difflib.get_close_matches(name, list(known), n=count, cutoff=0.5)
    return f" Did you mean {' or '.join(repr(c) for c in close)}?" if close else ""
