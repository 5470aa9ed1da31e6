"""Terminal output of the main commands, kept as text at two widths.

After an intended change, ``python -m tests.helpers.golden_output`` rewrites the files; their diff shows a reviewer what
users will see.
"""

import contextlib
import io
import os
import re
import tempfile
from pathlib import Path

from transxnet.cli import main
from transxnet.cli.command_table import COMMANDS

FOLDER = Path(__file__).parents[1] / "cli" / "golden"
WIDTHS = (80, 120)

TRAIN = (
    "train digits --model test_resnet --limit 60 --batch-size 8 --epochs 2 --workers 0 --device cpu "
    "--precision 32-true --out run"
)
OUTPUTS: dict[str, tuple[str, ...]] = {
    "help": ("--help",),
    **{f"help-{name}": (f"{name} --help",) for name in COMMANDS},
    "layouts": ("layouts",),
    "info": ("info transxnet_t", "info transxnet_t --task detect --head maskrcnn"),
    "errors": (
        "train nophotos",
        "train digits --learning-rate 1",
        "train digits --epochs many",
        "predict",
        "eval runs/nothing",
        "bench transxnet_t --size 64 --rounds 0",
        "explane runs/one",
    ),
    "train": (TRAIN, "eval run"),
}
"""Commands by the name of the file with their output."""


def output_of(name: str, width: int) -> str:
    """Run the commands in an empty folder, and return what they print; numbers that vary are replaced by #."""
    text = io.StringIO()
    before, columns = os.getcwd(), os.environ.get("COLUMNS")
    with tempfile.TemporaryDirectory() as empty:
        os.chdir(empty)
        os.environ["COLUMNS"] = str(width)
        try:
            with contextlib.redirect_stdout(text), contextlib.redirect_stderr(text):
                for words in OUTPUTS[name]:
                    text.write(f"$ transxnet {words}\n")
                    with contextlib.suppress(SystemExit):
                        main(words.split())
                    text.write("\n")
        finally:
            os.chdir(before)
            os.environ.pop("COLUMNS")
            if columns is not None:
                os.environ["COLUMNS"] = columns
    shown = text.getvalue()
    if name == "train":
        shown = re.sub(r" *-?\d+\.\d+%| -?\d+\.\d+", " #", shown)
        shown = re.sub(r"[\d,]+ resamples", "# resamples", shown)
        shown = re.sub(r"\d+ s\b|\d+ min \d+ s", "# s", shown)
        shown = re.sub(r"(workers) \d+", r"\1 #", shown)
    return re.sub(r" +$", "", shown, flags=re.MULTILINE)


def rewrite() -> None:
    """Rewrite the files."""
    FOLDER.mkdir(exist_ok=True)
    for path in FOLDER.glob("*.txt"):
        path.unlink()
    for name in OUTPUTS:
        for width in WIDTHS:
            (FOLDER / f"{name}-{width}.txt").write_text(output_of(name, width), encoding="utf-8")


if __name__ == "__main__":
    rewrite()
