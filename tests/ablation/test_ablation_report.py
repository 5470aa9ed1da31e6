import csv
import json
import math
import re

import pytest

from tests.helpers.ablation_options import SMALL, read_table
from tests.helpers.html_page import Page
from transxnet.models.create import create_model
from transxnet.models.model_spec import with_options


def read_results(path, name):
    return json.loads((path / name / "results.json").read_text())


def test_tables_agree_with_the_runs(whole):
    path = whole.folder.path
    for row in read_table(path)["rows"]:
        contents = [read_results(path, row["runs"][seed]) for seed in ("0", "3")]
        for name, found in row["metrics"].items():
            a, b = (content[name] for content in contents)
            assert found["values"] == [a, b]
            assert found["mean"] == pytest.approx((a + b) / 2, abs=1e-12)
            assert found["std"] == pytest.approx(abs(a - b) / math.sqrt(2), abs=1e-12)  # sample std of two values
        model = create_model(
            with_options(f"transxnet_n@{SMALL}", f"local_conv={row['row']}"), num_classes=3, img_size=32
        )
        assert row["parameters"] == sum(p.numel() for p in model.parameters())
        assert row["images_per_second"] is None
    with (path / "table.csv").open() as file:
        lines = {line["row"]: line for line in csv.DictReader(file)}
    shown = (path / "table.md").read_text()
    for row in read_table(path)["rows"]:
        accuracy = row["metrics"]["accuracy"]
        assert float(lines[row["row"]]["accuracy_mean"]) == accuracy["mean"]
        assert float(lines[row["row"]]["accuracy_std"]) == accuracy["std"]
        assert (lines[row["row"]]["n"], lines[row["row"]]["images_per_second"]) == ("2", "")
        cell = f"{100 * accuracy['mean']:.1f} ± {100 * accuracy['std']:.1f}%"
        assert re.search(rf"\| {row['label']} .* {re.escape(cell)} \|", shown)
    assert "standard deviation over 2 seeds, with n - 1" in shown
    assert "Within a seed, all rows use the same images, order, augmentation and schedule" in shown


def test_page_has_links_and_quotes_of_the_paper(whole):
    text = (whole.folder.path / "table.html").read_text()
    page = Page(text)
    assert ("href", "idconv-seed3/report.html") in page.attributes
    assert "IDConv exceeds DyConv by 0.2% top-1 accuracy" in page.text["paper"]
    assert len(page.ids) == len(set(page.ids))
    assert not re.search(r'(?:src|href)="https?:', text)
