"""The accepted layouts of DATA, as a table."""

from rich.markup import escape
from rich.table import Table

from transxnet.data.formats.timm_readers import PREFIXES
from transxnet.data.recognize import ACCEPTED, TASKS
from transxnet.data.samples.builtin_samples import DENSE_SAMPLES, SAMPLES

_NAMES = {"coco": "COCO", "voc": "Pascal VOC", "yolo": "YOLO"}


def layouts() -> list[tuple[str, str, str]]:
    """List the accepted layouts of DATA: task, name, and what DATA is."""
    rows = [(TASKS[name], _NAMES.get(name, name), accepted) for name, accepted in ACCEPTED.items()]
    rows.append((TASKS["reader"], "timm reader", f"a name that starts with {', '.join(f'{p}/' for p in PREFIXES)}"))
    rows.append((TASKS["sample"], "sample", " or ".join(SAMPLES)))
    rows.append(("detect, segment", "sample", " or ".join(DENSE_SAMPLES)))
    return rows


def show(rows: list[tuple[str, str, str]]) -> Table:
    """Format the layouts for a terminal."""
    table = Table("task", "layout", "DATA", box=None, pad_edge=False, padding=(0, 2, 1, 0))
    for row in sorted(rows):
        table.add_row(*map(escape, row))
    return table
