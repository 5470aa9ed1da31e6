from pathlib import Path

import pytest

from transxnet.experiments import training_process


@pytest.fixture
def fake_training(monkeypatch):
    """Processes of trainings run ``tests/helpers/fake_training.py`` instead."""
    script = Path(__file__).parents[1] / "helpers" / "fake_training.py"
    monkeypatch.setattr(training_process, "WORKER", (str(script),))
