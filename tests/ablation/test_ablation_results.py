import json
import shutil

import pytest

from transxnet.ablation.ablate import ablate
from transxnet.runs.run_folder import Run
from transxnet.utils.errors import UserError


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("dwconv-seed0/results.json", "is damaged,? or not part of a run"),
        ("bench.json", "is damaged or not part of a benchmark"),
    ],
)
@pytest.mark.parametrize("text", ["{", "[]", "{}", "[" * 100_000])
def test_damaged_result_files_are_errors(whole, tmp_path, quiet, name, reason, text):
    path = shutil.copytree(whole.folder.path, tmp_path / "copy")
    (path / name).write_text(text)
    with pytest.raises(UserError, match=rf"{name} {reason}: "):
        ablate(resume=path, console=quiet)


def test_unequal_conditions_are_noted(whole, tmp_path, console, monkeypatch):
    path = tmp_path / "ablation"
    shutil.copytree(whole.folder.path, path)
    run = Run(path / "idconv-seed3")
    run.write_config(run.read_config().replace(lr=1e-4))
    result = ablate(resume=path, console=console)
    assert "The conditions are not equal: the runs differ in lr." in result.notes


def test_tables_state_the_hardware_of_all_runs(whole, tmp_path, console):
    path = shutil.copytree(whole.folder.path, tmp_path / "ablation")
    file = path / "idconv-seed3" / "environment.json"
    stored = json.loads(file.read_text())
    stored["environment"]["cpu"] = "another CPU"
    file.write_text(json.dumps(stored))
    result = ablate(resume=path, console=console)
    assert result.environment == {**whole.environment, "cpu": f"{whole.environment['cpu']} and another CPU"}
    assert "date" not in result.environment
    assert "and another CPU" in (path / "table.html").read_text()


@pytest.mark.long
def test_speed_and_memory_are_measured_and_shown(whole, tmp_path, console):
    path = tmp_path / "ablation"
    shutil.copytree(whole.folder.path, path)
    result = ablate(resume=path, rounds=1, console=console)
    measured = json.loads((path / "bench.json").read_text())
    assert [model["arguments"]["local_conv"] for model in measured["models"]] == ["'dwconv'", "'idconv'"]
    for row, model in zip(result.rows, measured["models"], strict=True):
        assert row.images_per_second == pytest.approx(16e3 / model["milliseconds"][0])
        assert row.peak_memory == model["peak_memory"]
        assert row.parameters == model["facts"]["parameters"]
    assert measured["settings"]["size"] == [32, 32]
    assert any("batch 16, float32, CPU; median of 1 interleaved round" in note for note in result.notes)
