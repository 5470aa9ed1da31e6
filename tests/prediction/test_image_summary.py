import io
import re

import pytest
from rich.console import Console

from transxnet.prediction.image_summary import ImageSummary, PredictionSummary
from transxnet.prediction.predict import predict


def printed(*images: ImageSummary, counted: str = "predicted classes") -> list[str]:
    console = Console(file=io.StringIO(), width=80)
    summary = PredictionSummary()
    for image in images:
        summary.add(image)
    summary.print(console, counted)
    return console.file.getvalue().splitlines()


def test_first_images_and_the_counts_are_printed():
    images = [ImageSummary(f"a/{i}.png", "cat 90.0%", ["cat"]) for i in range(8)]
    images[1] = ImageSummary("a/100.png", "dog [x] 51.0%", ["dog [x]"])
    images[2] = ImageSummary("a/2.png", error="cannot identify image file")
    assert printed(*images) == [
        "  0.png    cat 90.0%",
        "  100.png  dog [x] 51.0%",
        "  2.png    cannot be read: cannot identify image file",
        "  3.png    cat 90.0%",
        "  4.png    cat 90.0%",
        "  and 3 more images",
        "predicted classes: 6 cat, 1 dog [x]",
    ]


def test_only_the_most_frequent_classes_are_counted():
    images = [ImageSummary(f"{i}.png", classes=[f"c{j}" for j in range(i, 7)]) for i in range(7)]
    assert printed(*images)[-1] == "predicted classes: 7 c6, 6 c5, 5 c4, 4 c3, 3 c2, and 2 other classes"


def test_one_image_has_no_counts():
    assert printed(ImageSummary("a.png", "no objects")) == ["  a.png  no objects"]


@pytest.mark.parametrize(
    ("kind", "line"),
    [
        ("photos_run", r"000.png +\w+ \d+\.\d%, \w+ \d+\.\d%, \w+ \d+\.\d%"),
        ("finding_run", r"000.png +(\d+ \w+(, \d+ \w+)*|no objects)"),
        ("maps_run", r"000.png +class \d: \d+% of the pixels(, class \d: \d+%)*"),
    ],
)
def test_predict_prints_what_it_predicted(kind, line, image_folder, tmp_path, request, console):
    predict(request.getfixturevalue(kind).path, image_folder, out=tmp_path / "out", workers=0, console=console)
    assert re.search(line, console.file.getvalue())
