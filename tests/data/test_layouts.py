from rich.console import Console

from transxnet.data.layouts import layouts, show
from transxnet.data.recognize import TASKS


def test_every_format_has_a_row():
    rows = layouts()
    assert len(rows) == len(TASKS) + 1  # samples of two kinds
    (samples,) = (data for task, name, data in rows if (task, name) == ("classify", "sample"))
    assert samples.startswith("elpv or digits")  # other tests may register more
    assert {task for task, *_ in rows} == {"classify", "detect", "segment", "detect, segment"}


def test_table_shows_every_word_at_60_columns():
    console = Console(width=60, record=True, file=None)
    with console.capture() as captured:
        console.print(show(layouts()))
    shown = " ".join(captured.get().split())
    assert max(map(len, captured.get().splitlines())) <= 60
    for word in ("SegmentationClass/),", "photos/cat/*.jpg", "hfds/,", "annotation"):
        assert word in shown
