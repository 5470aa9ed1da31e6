"""Progress output: a bar on a terminal; otherwise nothing, or a line a minute for long tasks."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.text import Text

PLAIN: dict[str, Any] = {"highlight": False, "markup": False, "soft_wrap": True}
"""Arguments of ``Console.print`` for text with file names: no markup, no line breaks."""


class _Rate(ProgressColumn):
    """Progress column with the items per second."""

    def __init__(self, unit: str):
        super().__init__()
        self.unit = unit

    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        return Text("" if speed is None else f"{speed:,.1f} {self.unit}/s")


def progress_display(console: Console, *columns: ProgressColumn) -> Progress:
    """Create progress bars for a terminal; further columns stand before the remaining time."""
    first = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    shown = (*first, *columns, TimeRemainingColumn())
    return Progress(*shown, console=console, transient=True, disable=not console.is_terminal)


@contextmanager
def progress_bar(console: Console, text: str, total: int | None) -> Iterator[Callable[[int], None]]:
    """Show a progress bar that disappears when done.

    Yields:
        A function that takes the number of items done so far.
    """
    with progress_display(console) as progress:
        task = progress.add_task(text, total=total)
        yield lambda done: progress.update(task, completed=done)


@contextmanager
def long_progress(
    console: Console, text: str, total: int, done: int, unit: str, seconds: float = 60
) -> Iterator[Callable[[int], None]]:
    """Show the progress of a task of hours: a bar with the rate, or without a terminal a line at intervals.

    Args:
        console: console to print to.
        text: description of the task.
        total: total number of items.
        done: number of items done before.
        unit: name of the items, in the plural.
        seconds: interval between lines.

    Yields:
        A function that takes the number of items done so far, including those done before.
    """
    start = last_line = time.monotonic()
    with progress_display(console, _Rate(unit)) as progress:
        task = progress.add_task(text, total=total, completed=done)

        def advance(now_done: int) -> None:
            nonlocal last_line
            progress.update(task, completed=now_done)
            now = time.monotonic()
            if console.is_terminal or now - last_line < seconds or now_done == done:
                return
            last_line, rate = now, (now_done - done) / max(now - start, 1e-9)
            left = timedelta(seconds=round((total - now_done) / rate))
            console.print(
                f"{text}: {now_done:,} of {total:,} {unit}, {rate:,.1f} {unit}/s, {left} left", highlight=False
            )

        yield advance
