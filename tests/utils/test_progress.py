import io
import re

from rich.console import Console

from transxnet.utils.progress import long_progress


def test_long_progress_prints_lines_without_terminal():
    console = Console(file=io.StringIO())
    with long_progress(console, "predicting", 2000, 500, "images", seconds=0) as advance:
        advance(500)
        advance(1250)
    (line,) = console.file.getvalue().splitlines()
    assert re.fullmatch(r"predicting: 1,250 of 2,000 images, [\d,.]+ images/s, \d+:\d\d:\d\d left", line)


def test_long_progress_lines_are_a_minute_apart():
    console = Console(file=io.StringIO())
    with long_progress(console, "predicting", 10, 0, "images") as advance:
        advance(5)
    assert console.file.getvalue() == ""


def test_long_progress_shows_a_bar_with_rate_on_terminal():
    console = Console(file=io.StringIO(), force_terminal=True, width=120)
    with long_progress(console, "predicting", 10, 0, "images") as advance:
        for done in range(1, 11):
            advance(done)
    assert re.search(r"10/10.*images/s", console.file.getvalue())
