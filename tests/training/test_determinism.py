"""Training runs that are bitwise reproducible."""

import os
import subprocess
import sys

import pytest
import torch
from safetensors.torch import load_file

from tests.helpers.class_folders import QUICK
from transxnet.runs.run_folder import Run
from transxnet.training.classifier import Classifier
from transxnet.training.determinism import deterministic
from transxnet.training.train import train
from transxnet.utils.errors import UserError

OPTIONS = dict(
    QUICK, model="transxnet_n", batch_size=16, lr=1e-3, deterministic=True, workers=2, mixup=0.3, drop_path_rate=0.3,
    ema_decay=0.9, color_jitter=0.4, random_erasing=0.3,
)  # fmt: skip


@pytest.mark.long
def test_two_runs_are_bitwise_equal(photos, tmp_path, quiet):
    one = train(photos, out=tmp_path / "one", console=quiet, **OPTIONS)
    words = [str(word) for name, value in OPTIONS.items() for word in (f"--{name}", str(value).lower())]
    command = [sys.executable, "-m", "transxnet", "train", str(photos), "--out", str(tmp_path / "other"), *words]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    done = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stderr[-3000:]
    other = Run(tmp_path / "other")
    mine, theirs = load_file(one.weights_file), load_file(other.weights_file)
    assert [name for name in mine if not torch.equal(mine[name], theirs[name])] == []
    rows = [[{k: v for k, v in row.items() if k != "seconds"} for row in run.read_metrics()] for run in (one, other)]
    assert rows[0] == rows[1]
    assert one.predictions_file.read_bytes() == other.predictions_file.read_bytes()


def test_nondeterministic_operator_is_refused_by_name(photos, tmp_path, quiet, monkeypatch):
    plain = Classifier.losses

    def losses(self, batch):
        torch.zeros(3).put_(torch.tensor([0, 0]), torch.ones(2))
        return plain(self, batch)

    monkeypatch.setattr(Classifier, "losses", losses)
    with pytest.raises(
        UserError, match=r"--deterministic is not supported here: put_ does not have a deterministic .*Remove"
    ):
        train(photos, out=tmp_path / "run", deterministic=True, console=quiet, **QUICK)
    assert not torch.are_deterministic_algorithms_enabled()
    assert train(photos, out=tmp_path / "other", console=quiet, **{**QUICK, "epochs": 1}).report_file.is_file()


def test_batch_size_trials_are_deterministic(photos, tmp_path, quiet, monkeypatch):
    """The trials are the first steps, so cuBLAS must be configured before them."""
    set_to = []

    def losses(self, batch):
        set_to.append(os.environ.get("CUBLAS_WORKSPACE_CONFIG"))
        torch.zeros(3).put_(torch.tensor([0, 0]), torch.ones(2))

    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG", raising=False)
    monkeypatch.setattr(Classifier, "losses", losses)
    options = {**QUICK, "batch_size": "auto", "deterministic": True}
    with pytest.raises(
        UserError, match=r"--deterministic is not supported here: put_ does not have a deterministic .*Remove"
    ):
        train(photos, out=tmp_path / "run", console=quiet, **options)
    assert set_to == [":4096:8"]
    assert not (tmp_path / "run").exists()


def test_previous_settings_are_restored(monkeypatch):
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG", raising=False)
    with deterministic(False):
        assert not torch.are_deterministic_algorithms_enabled()
    with deterministic(True):
        assert torch.are_deterministic_algorithms_enabled()
        assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":4096:8"
    assert not torch.are_deterministic_algorithms_enabled()
