"""Charts show the recorded values in the colors of the page."""

import math
import re
from dataclasses import replace

import numpy as np
import pytest

from tests.helpers.classifier_report import sample_history, sample_report
from tests.helpers.html_page import Page
from transxnet.reports import render
from transxnet.reports.charts import (
    Line,
    Plot,
    chart_axes,
    chart_style,
    css_color,
    figure_svg,
    history_charts,
    history_column,
    percent_axis,
)


def test_charts_use_the_colors_of_the_page():
    text = render(sample_report())
    drawn = re.findall(r"(?:stroke|fill): (#[0-9a-f]{3,6})", text)
    assert drawn == []
    charts = re.findall(r"<figure>.*?</figure>", text, flags=re.DOTALL)
    assert len(charts) == 6  # three curves over the epochs, ROC, precision-recall and calibration
    for chart in charts:
        assert "stroke: var(--blue)" in chart and "currentColor" in chart
        assert not re.search(r"#0101\d\d", chart)


@pytest.mark.parametrize("epochs", [1, 300])
def test_short_and_long_histories(epochs):
    page = Page(render(sample_report(epochs=epochs)))
    assert f"{epochs} epoch{'s' if epochs > 1 else ''}" in page.text["dd"]
    assert page.text["curves"].count("lowest validation loss") == 1


def test_columns_without_values_are_skipped():
    rows = [{"epoch": 1, "train_loss": 0.5}, {"epoch": 2, "train_loss": math.nan}, {"epoch": 3, "train_loss": 0.25}]
    page = Page(render(replace(sample_report(), history=rows)))
    assert "lowest training loss 0.25, epoch 3" in page.text["curves"]
    assert "Learning rate" not in page.text["curves"]
    assert "Training time" not in page.text["dt"]
    page = Page(render(replace(sample_report(), history=[])))
    assert "No epochs were recorded." in page.text["curves"]


def test_best_epoch_ignores_nan_and_infinity():
    rows = sample_history(4)
    rows[0]["val_accuracy"], rows[1]["val_accuracy"], rows[2]["val_loss"] = math.inf, 0.99, math.nan
    page = Page(render(replace(sample_report(), history=rows)))
    assert "highest accuracy 99.0%, epoch 2" in page.text["curves"]
    assert "lowest validation loss 0.29, epoch 4" in page.text["curves"]


def test_history_column_is_nan_where_missing_or_infinite():
    values = history_column([{"a": 1.5}, {"a": math.inf}, {}, {"a": None}, {"a": -2}], "a")
    np.testing.assert_array_equal(values, [1.5, np.nan, np.nan, np.nan, -2])


def test_best_point_of_a_loss_is_the_lowest():
    history = [{"epoch": 3, "val_loss": 0.5, "val_f1": 0.2}, {"epoch": 4, "val_loss": 0.25, "val_f1": 0.1}]
    plots = [Plot("Loss", (Line("val_loss", "a", "blue"),)), Plot("F1", (Line("val_f1", "b", "green"),), None, True)]
    loss, f1 = history_charts(history, plots)
    assert (loss.best, loss.color, loss.legend) == ("lowest a loss 0.25, epoch 4", "blue", ())
    assert (f1.best, f1.color) == ("highest b 20.0%, epoch 3", "green")


def test_baseline_is_drawn_and_in_the_legend():
    history = [{"epoch": 1, "val_f1": 0.5}, {"epoch": 2, "val_f1": 0.9}]
    plot = Plot("F1", (Line("val_f1", "F1", "blue"),), ("always", 0.75), in_percent=True)
    (chart,) = history_charts(history, [plot])
    assert [line.label for line in chart.legend] == ["F1", "always"]
    (without,) = history_charts(history, [replace(plot, baseline=None)])
    assert chart.svg.count("var(--muted)") == without.svg.count("var(--muted)") + 1


def test_svg_ids_have_the_name_of_the_chart():
    with chart_style():
        figure, axes = chart_axes()
        axes.plot([0, 1], [0, 1], "o", color=css_color("orange"))
        svg = figure_svg(figure, "mine", "A label")
    ids = re.findall(r'\bid="([^"]*)"', svg)
    assert ids and all(name.startswith("mine-") for name in ids)
    assert 'aria-label="A label"' in svg and "var(--orange)" in svg and "<metadata" not in svg


@pytest.mark.parametrize(("high", "label"), [(1.0, "50%"), (0.02, "0.50%")])
def test_percent_axis_has_decimals_only_for_narrow_ranges(high, label):
    _, axes = chart_axes()
    axes.set_ylim(0, high)
    percent_axis(axes.yaxis)
    assert axes.yaxis.get_major_formatter()(0.5 if high == 1 else 0.005) == label


def test_hovering_shows_the_values_of_the_nearest_epoch():
    history = [{"epoch": i, "val_loss": 1 / i, "train_loss": 2.0 / i} for i in (1, 2, 4)]
    plot = Plot("Loss", (Line("val_loss", "validation", "blue"), Line("train_loss", "training", "orange")))
    (chart,) = history_charts(history, [plot])
    bands = re.findall(
        r'<rect class="hover" x="([\d.]+)" y=.*? width="([\d.]+)".*?><title>(.*?)</title>', chart.svg, re.S
    )
    texts = [text for *_, text in bands]
    assert texts == [f"epoch {i}\nvalidation {1 / i:.3g}\ntraining {2 / i:.3g}" for i in (1, 2, 4)]
    (x1, width1), (x2, width2), (x3, width3) = ((float(x), float(width)) for x, width, _ in bands)
    assert (x1 + width1, x2 + width2) == pytest.approx((x2, x3), abs=0.1)
    # The axis has margins of m; the bands end in the middle between the epochs: m + 0.5, 0.5 + 1 and 1 + m wide.
    assert (width3 - width1) * 3 == pytest.approx(width2, abs=0.5)


def test_hover_text_is_escaped():
    with chart_style():
        figure, axes = chart_axes()
        axes.plot([0, 1], [0, 1])
        svg = figure_svg(figure, "mine", "A label", axes, [(0.5, "<script>")])
    assert "<title>&lt;script&gt;</title>" in svg


def test_chart_over_steps():
    (chart,) = history_charts(
        [{"step": 1, "lr": 0.1}, {"step": 50, "lr": 0.2}],
        [Plot("Learning rate", (Line("lr", "rate", "blue"),), x="step")],
    )
    assert chart.best == "highest rate 0.2, step 50"
