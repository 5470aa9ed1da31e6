"""Two processes that share the held-out images say the same of them as one."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import validating
from dense_data import DETECT, SEGMENT

from transxnet.tasks.evaluate import evaluate
from transxnet.tasks.run import Run


def spawn(*words: object, cwd: Path) -> None:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    command = [sys.executable, *map(str, words)]
    done = subprocess.run(command, env=environment, cwd=cwd, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stderr[-3000:]


@pytest.mark.parametrize("kind", ["finding_run", "maps_run", pytest.param("masks_run", marks=pytest.mark.long)])
def test_the_figures_are_those_of_one_process_though_one_has_more_images(kind, request, squares, tmp_path, quiet):
    run: Run = request.getfixturevalue(kind)
    if kind == "masks_run":  # has but one image held out
        run = Run(Path(shutil.copytree(run.path, tmp_path / "run")))
        run.write_config(run.read_config().replace(data=str(squares)))
    out = tmp_path / "figures.json"
    spawn(validating.__file__, run.path, 2, out, cwd=tmp_path)
    figures = json.loads(out.read_text())
    assert figures == pytest.approx(validating.validate(run, 1), abs=1e-6)
    evaluation = evaluate(run.path, workers=0, console=quiet)
    assert len(evaluation) == 3
    main = "miou" if kind == "maps_run" else "ap50"
    assert figures[f"val_{main}"] == pytest.approx(evaluation.metrics()[main], abs=1e-6)
    assert kind == "masks_run" or figures[f"val_{main}"] > 0


@pytest.mark.long
@pytest.mark.parametrize("task", ["detect", "segment"])
def test_two_processes_train_together_and_evaluate_all_of_the_held_out_images(task, squares, maps, tmp_path):
    data, options = (squares, DETECT) if task == "detect" else (maps, SEGMENT)
    options = {**options, "devices": 2, "strategy": "ddp", "batch_size": 1, "out": "run"}
    words = [word for name, value in options.items() for word in (f"--{name}", value)]
    spawn("-m", "transxnet", "train", data, *words, cwd=tmp_path)
    run = Run(tmp_path / "run")
    results = json.loads(run.results_file.read_text())
    assert results["images"] == 3
    rows = run.read_metrics()
    assert [row["step"] for row in rows] == [3, 6]
    figure = "ap" if task == "detect" else "miou"
    assert results[figure] == pytest.approx(max(row[f"val_{figure}"] for row in rows), abs=1e-6)
