"""The table, the JSON file and the plot of a benchmark."""

import json
import re

from PIL import Image

from tests.helpers.benchmark_settings import shown_by
from transxnet.benchmark.bench_report import format_memory, median_and_range


def test_table_shows_all_models_in_100_columns(result):
    shown = shown_by(result)
    assert max(map(len, shown.splitlines())) <= 100
    for text in (
        "inference, classifier, 32x32, batch 2",
        "median and range of 3 rounds",
        "bfloat16, eager, channels_last,",
        "reparameterized",
        "RuntimeError: forgot how",
        "aten::addmm",
        f"torch {result.environment['torch']}",
    ):
        assert text in shown
    assert re.search(r"mine:tiny \(width=4\) +[\d.,]+ +[\d.,]+ +1.00x +[\d.]+ [MG]B", shown)


def test_json_has_all_rounds_and_the_environment(result, result_folder):
    content = json.loads((result_folder / "out" / "bench.json").read_text())
    assert content["command"].startswith("transxnet bench mine:tiny@width=4 transxnet_n@channels_last,reparameterize,")
    assert content["command"].endswith(
        f"--device cpu --rounds 3 --seconds 0.0001 --profile --out {result_folder / 'out'}"
    )
    assert content["environment"].keys() >= {"torch", "timm", "cpu", "python", "threads", "OMP_NUM_THREADS"}
    assert content["environment"]["threads"] == "1"
    assert content["settings"]["size"] == [32, 32]
    for entry, row in zip(content["models"], result.rows, strict=True):
        assert entry["milliseconds"] == row.milliseconds
        assert (entry["error"] is None) == (row.failure is None)
    ours, forgetful = content["models"][1:3]
    assert ours["settings"]["dtype"] == "bfloat16"
    assert ours["images_per_second"] == [2 / ms * 1e3 for ms in ours["milliseconds"]]
    assert ours["median"]["low"] <= ours["median"]["milliseconds"] <= ours["median"]["high"]
    assert ours["speeds"] == result.speeds(result.rows[1])
    assert content["models"][0]["operators"][0].keys() == {"name", "share", "milliseconds", "calls"}
    assert "speeds" not in forgetful
    assert forgetful["error"]["reason"] == "RuntimeError: forgot how"


def test_plot_is_a_png_image(result, result_folder):
    with Image.open(result_folder / "out" / "bench.png") as image:
        assert image.format == "PNG"
        assert image.mode == "RGBA"
        assert min(image.size) > 200


def test_range_of_many_rounds_excludes_outer_tenths():
    assert median_and_range([3.0, 1.0, 2.0]) == (2.0, 1.0, 3.0)
    assert median_and_range([float(i) for i in range(11)]) == (5.0, 1.0, 9.0)


def test_memory_is_formatted_in_decimal_units():
    assert [format_memory(size) for size in (2_252_000_000, 85_400_000)] == ["2.25 GB", "85 MB"]
