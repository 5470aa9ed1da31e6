"""Result files of an analysis: written completely and read back."""

import csv
import json

from matplotlib.figure import Figure
from PIL import Image

from transxnet.analysis.result_files import write_results

NAMES = ("a.png", "a.csv", "a.json")


def test_results_round_trip(tmp_path):
    rows = [{"name": 'x, "y"', "value": 1.5}, {"name": "ü", "value": 2}]
    paths = write_results(tmp_path / "new" / "out", NAMES, Figure(figsize=(1, 1)), rows, {"label": "net"})
    assert [path.name for path in paths] == list(NAMES)
    assert sorted(path.name for path in (tmp_path / "new" / "out").iterdir()) == sorted(NAMES)
    assert Image.open(paths[0]).format == "PNG"
    read = list(csv.DictReader(paths[1].open(encoding="utf-8")))
    assert [(row["name"], float(row["value"])) for row in read] == [('x, "y"', 1.5), ("ü", 2)]
    record = json.loads(paths[2].read_text())
    assert record["label"] == "net"
    assert "torch" in record["environment"]
