"""The results of ``check``: on the terminal, as a page, as JSON, and as a table of images to exclude."""

import csv
import io
import json
import shlex
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from PIL import ImageDraw
from rich.console import Console

from transxnet.checking.all_images import AllImages
from transxnet.checking.check_findings import DataFinding, Kind, by_kind
from transxnet.data.reading.image_decoding import UnreadableImage
from transxnet.reports.formatting import data_url
from transxnet.reports.html_page import load_template
from transxnet.utils.environment import collect_environment
from transxnet.utils.files import write_atomic
from transxnet.utils.progress import PLAIN
from transxnet.utils.quantities import format_count

FIXES = "fixes.csv"
FILES = ("check.html", "check.json", FIXES)
COLUMNS = ("image", "set", "problem", "action", "detail", "label")

_SHOWN = 12  # findings of each kind on the page
_IMAGES = 6  # images of a finding on the page
_SIDE = 256  # px of a thumbnail
_ORANGE = (196, 81, 10)  # as --orange in templates/report.css


@dataclass(frozen=True)
class CheckResult:
    """What was found in labeled data.

    Attributes:
        data: the data, as given.
        class_names: names of the classes.
        images: number of images in each set.
        counts: number of images or objects of each class in each set; empty for values and label maps.
        sizes: number of images of each (width, height), most frequent first.
        modes: number of images of each of Pillow's modes, most frequent first.
        findings: all findings, most important kinds first.
        notes: messages about the data.
        all_images: the images.
        split_made: whether training makes the split, so that images of one name are in one set.
        split_options: the options by which it makes the same one.
    """

    data: str
    class_names: list[str]
    images: dict[str, int]
    counts: dict[str, list[int]]
    sizes: dict[tuple[int, int], int]
    modes: dict[str, int]
    findings: list[DataFinding]
    notes: list[str]
    all_images: AllImages = field(repr=False)
    split_made: bool = False
    split_options: tuple[str, ...] = ()

    def of(self, kind: str) -> list[DataFinding]:
        """Return the findings of a kind, by its key, such as "exact_leak"."""
        return [finding for finding in self.findings if finding.kind.key == kind]

    def next_command(self, folder: Path) -> str | None:
        """Return the command that trains without the images to exclude, for results in a folder.

        None if no finding is about an image, so that none can be excluded.
        """
        if not any(finding.images for finding in self.findings):
            return None
        return shlex.join(["transxnet", "train", self.data, "--exclude", str(folder / FIXES), *self.split_options])

    @property
    def size_range(self) -> str:
        """Smallest and largest size, as text."""
        if not self.sizes:
            return "no readable image"
        by_area = sorted(self.sizes, key=lambda size: size[0] * size[1])
        first, last = (f"{width}x{height}" for width, height in (by_area[0], by_area[-1]))
        return first if first == last else f"{first} to {last}, {len(self.sizes):,} sizes"


def tally(values: Sequence[Any]) -> dict[Any, int]:
    """Return the number of each value, most frequent first."""
    return dict(Counter(values).most_common())


def print_summary(result: CheckResult, console: Console) -> None:
    """Print counts and the number of findings of each kind, with the first."""
    sets = ", ".join(f"{name} {count:,}" for name, count in result.images.items())
    modes = ", ".join(f"{mode} {count:,}" for mode, count in result.modes.items())
    console.print(
        f"{result.data}: {sets} images of {format_count(len(result.class_names), 'class', 'classes')}", **PLAIN
    )
    console.print(f"  sizes   {result.size_range}", **PLAIN)
    console.print(f"  modes   {modes}", **PLAIN)
    for note in result.notes:
        console.print(f"  {note}", **PLAIN)
    found = by_kind(result.findings)
    for kind, findings in found.items():
        first = _place(result, findings[0])
        console.print(f"{len(findings):7,}  {kind.title}, first: {first}", **PLAIN)
    if not found:
        console.print("no problems found", **PLAIN)


def write_results(result: CheckResult, folder: Path) -> list[Path]:
    """Write page, JSON and table; return their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    contents: dict[str, Callable[[], str]] = {
        "check.html": lambda: to_html(result, folder),
        "check.json": lambda: json.dumps(to_dict(result), indent=2) + "\n",
        FIXES: lambda: to_csv(result),
    }
    for name, make in contents.items():
        write_atomic(folder / name, make())
    return [folder / name for name in FILES]


def to_dict(result: CheckResult) -> dict[str, Any]:
    """Return the results as plain data."""
    images = result.all_images
    return {
        "data": result.data,
        "images": result.images,
        "class_names": result.class_names,
        "counts": result.counts,
        "sizes": [[*size, count] for size, count in result.sizes.items()],
        "modes": result.modes,
        "notes": result.notes,
        "findings": [
            {
                "kind": finding.kind.key,
                "detail": finding.detail,
                "images": [
                    {"image": images.name(n), "set": images.set_name(n), "action": finding.action(n)}
                    for n in finding.images
                ],
                "boxes": [list(box) for box in finding.boxes],
            }
            for finding in result.findings
        ],
        "environment": collect_environment(),
    }


def to_csv(result: CheckResult) -> str:
    """Return one row for each image of each finding. The set is empty if it is not part of the data."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    images = result.all_images
    for finding in result.findings:
        for n in finding.images:
            part = "" if result.split_made else images.set_name(n)
            row = (images.name(n), part, finding.kind.key, finding.action(n), finding.detail, images.label(n))
            writer.writerow(row)
    return text.getvalue()


def to_html(result: CheckResult, folder: Path) -> str:
    """Return a self-contained page, for results in a folder."""
    found = by_kind(result.findings)
    tables = [(name, [counts[i] for counts in result.counts.values()]) for i, name in enumerate(result.class_names)]
    most = max((max(values) for values in result.counts.values() if values), default=0)
    return load_template("check.html.jinja").render(
        result=result,
        total=sum(result.images.values()),
        sections=[
            (kind, len(findings), [_card(result, finding) for finding in findings[:_SHOWN]])
            for kind, findings in found.items()
        ],
        classes=tables if result.counts else [],
        most=max(1, most),
        sizes=list(result.sizes.items())[:10],
        tiles=_tiles(result, found),
        command=result.next_command(folder),
    )


def _tiles(result: CheckResult, found: dict[Kind, list[DataFinding]]) -> Iterator[tuple[str, str, str]]:
    """Iterate over (label, value, note) of the headline numbers."""
    sets = ", ".join(f"{count:,} {name}" for name, count in result.images.items())
    yield "Images", f"{sum(result.images.values()):,}", sets
    groups = {
        "Leaks": (Kind.EXACT_LEAK, Kind.NEAR_LEAK, Kind.GROUP_LEAK),
        "Label conflicts": (Kind.EXACT_CONFLICT, Kind.NEAR_CONFLICT),
        "Duplicates in one set": (Kind.EXACT_DUPLICATE, Kind.NEAR_DUPLICATE),
        "Likely label errors": (Kind.LABEL_ERROR,),
        "Suspicious boxes": (Kind.BOX_OUTSIDE, Kind.BOX_DUPLICATE, Kind.BOX_TINY, Kind.BOX_HUGE),
        "Unreadable": (Kind.UNREADABLE,),
    }
    for label, kinds in groups.items():
        counts = [(kind, len(found[kind])) for kind in kinds if kind in found]
        if counts:
            note = ", ".join(f"{count:,} {kind.key.replace('_', ' ')}" for kind, count in counts) if kinds[1:] else ""
            yield label, f"{sum(count for _, count in counts):,}", note


def _card(result: CheckResult, finding: DataFinding) -> dict[str, Any]:
    """Return the card of a finding: its first images, with their labels and actions."""
    images = result.all_images
    shown = finding.images[:_IMAGES]
    return {
        "name": ", ".join(images.name(n) for n in shown) + (", ..." if len(finding.images) > len(shown) else ""),
        "note": finding.detail,
        "panels": [(_caption(images, finding, n), _thumbnail(images, finding, n)) for n in shown],
    }


def _caption(images: AllImages, finding: DataFinding, number: int) -> str:
    words = (images.set_name(number), images.label(number), finding.action(number))
    return ", ".join(word for word in words if word)


def _thumbnail(images: AllImages, finding: DataFinding, number: int) -> str | None:
    try:
        image = images.image(number)
    except UnreadableImage:
        return None
    drawing, width = ImageDraw.Draw(image), max(1, round(max(image.size) / _SIDE * 2))
    for box in finding.boxes:
        drawing.rectangle(box, outline=_ORANGE, width=width)
    return data_url(image, _SIDE)


def _place(result: CheckResult, finding: DataFinding) -> str:
    """Return the first images of a finding and its description, as text."""
    images = result.all_images
    names = [f"{images.set_name(n)} {images.name(n)}" for n in finding.images[:2]]
    return ": ".join(word for word in (" = ".join(names), finding.detail) if word)
