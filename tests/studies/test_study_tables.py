import csv
import json

import pytest
from rich.console import Console

from transxnet.metrics.publication_metrics import PUBLICATION_METRICS
from transxnet.studies.paired_comparison import Estimate
from transxnet.studies.study_tables import escape_latex, format_estimate, format_p, to_rich


def test_csv_and_json_agree_with_the_results(whole):
    path = whole.folder.path
    content = json.loads((path / "study.json").read_text())
    with (path / "study.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["arm"] for row in rows] == [arm["arm"] for arm in content["arms"]] == ["test_resnet", "test_vit"]
    for row, arm in zip(rows, content["arms"], strict=True):
        assert list(arm["metrics"]) == list(PUBLICATION_METRICS)
        for name, found in arm["metrics"].items():
            estimate = whole.estimates[row["arm"]][name]
            assert (found["value"], found["low"], found["high"]) == (estimate.value, estimate.low, estimate.high)
            assert float(row[name]) == estimate.value
            assert float(row[f"{name}_std_seeds"]) == pytest.approx(found["std_seeds"])
        assert [(run["fold"], run["seed"]) for run in arm["runs"]] == [(1, 0), (2, 0), (1, 1), (2, 1)]
    assert content["best"] == whole.best
    assert len(content["comparisons"]) == 2 and content["test"]["images"] == 8


def test_latex_has_a_column_for_each_arm(whole):
    text = (whole.folder.path / "study.tex").read_text()
    assert r"\begin{tabular}{lcc}" in text
    assert r" & test\_resnet & test\_vit \\" in text
    value = whole.estimates["test_resnet"]["auroc"]
    assert f"AUROC & {value.value:.3f} ({value.low:.3f} to {value.high:.3f})" in text
    assert "2-fold cross-validation" in text and r"95\%" in text


def test_latex_has_the_differences_from_the_best_arm(whole):
    text = (whole.folder.path / "study.tex").read_text()
    assert f"Differences from {escape_latex(whole.best)}, with" in text
    for each in whole.comparisons:
        end = rf"& {each.test} & {escape_latex(format_p(each.adjusted))} \\"
        row = next(line for line in text.splitlines() if line.endswith(end))
        assert f"${each.difference.value:+.3f}$ (${each.difference.low:+.3f}$ to " in row


def test_special_characters_of_latex_are_escaped():
    assert escape_latex(r"a_b & 5% {x}\y ~^#$ < >") == (
        r"a\_b \& 5\% \{x\}\textbackslash{}y \textasciitilde{}\textasciicircum{}\#\$ \textless{} \textgreater{}"
    )


def test_numbers_are_formatted():
    assert format_estimate(Estimate(0.91234, 0.8, float("nan"))) == "0.912 (0.800 to n/a)"
    assert (format_p(0.0004), format_p(0.0314)) == ("< 0.001", "0.031")


def test_terminal_shows_arms_with_intervals_below_the_values_and_comparisons(whole):
    console = Console(width=80)
    with console.capture() as capture:
        console.print(to_rich(whole))
    lines = capture.get().splitlines()
    (row,) = (number for number, line in enumerate(lines) if line.startswith("test_resnet"))
    value, interval = format_estimate(whole.estimates["test_resnet"]["auroc"]).removesuffix(")").split(" (")
    assert value in lines[row] and interval in lines[row + 1]
    assert f"minus {whole.best}" in capture.get()
