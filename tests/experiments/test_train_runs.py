import os

import pytest

from tests.helpers.small_experiment import SmallExperiment
from transxnet.experiments import train_runs as module
from transxnet.experiments.train_runs import check_parallel, open_experiment, started_folder, train_runs
from transxnet.runs.run_folder import Run
from transxnet.training.lightning_module import NonFiniteLoss
from transxnet.utils.errors import Interrupted, UserError
from transxnet.utils.locks import FolderInUse


@pytest.fixture
def trained(monkeypatch):
    """The calls of ``train``, which only writes the files of a finished run."""
    calls = []

    def train(**options):
        calls.append({name: value for name, value in options.items() if name != "console"})
        run = Run(options.get("out") or options["resume"])
        if options.get("model") == "nan":
            raise NonFiniteLoss("the loss became NaN.")
        run.path.mkdir(exist_ok=True)
        run.report_file.touch()

    monkeypatch.setattr(module, "train", train)
    return calls


def test_finished_runs_are_skipped_and_begun_ones_resumed(tmp_path, trained, console):
    folder = SmallExperiment(tmp_path, ("a", "b", "c"))
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    (tmp_path / "a" / "report.html").touch()
    (tmp_path / "b" / "config.yaml").touch()
    assert train_runs(folder, console) == {}
    assert trained == [{"resume": tmp_path / "b"}, {"out": tmp_path / "c", "model": "c"}]
    assert "run a, already finished" in console.file.getvalue()


def test_nonfinite_runs_are_reported_and_the_others_trained(tmp_path, trained, console):
    seen = []
    folder = SmallExperiment(tmp_path, ("nan", "b"))
    failures = train_runs(folder, console, lambda failures: seen.append(dict(failures)))
    assert failures == {"nan": "the loss became NaN."}
    assert seen == [failures, failures]
    assert folder.num_finished() == 1
    assert "row left blank: the loss became NaN." in console.file.getvalue()


def test_interrupted_experiment_names_the_command_to_resume(tmp_path):
    folder = SmallExperiment(tmp_path / "new", ("a", "b"))
    with (
        pytest.raises(Interrupted, match=rf"0 of 2 runs finished. Resume with: transxnet small --resume {folder.path}"),
        open_experiment(folder),
    ):
        raise KeyboardInterrupt
    assert SmallExperiment.read(folder.path) == folder


def test_open_experiment_is_locked_and_known_to_started_processes(tmp_path):
    folder = SmallExperiment(tmp_path / "new", ("a",))
    assert started_folder(SmallExperiment) is None
    with open_experiment(folder):
        assert started_folder(SmallExperiment) == folder
        with pytest.raises(FolderInUse), open_experiment(folder):
            pass
    assert not [name for name in os.environ if name.startswith("TRANSXNET_EXPERIMENT")]


def test_parallel_runs_are_reported_in_planned_order(tmp_path, fake_training, console):
    seen = []
    folder = SmallExperiment(tmp_path, ("killed", "nan", "b", "c"))
    (tmp_path / "c").mkdir()
    (tmp_path / "c" / "report.html").touch()
    failures = train_runs(folder, console, lambda failures: seen.append(dict(failures)), parallel=2)
    assert list(failures) == ["killed", "nan"] and seen[-1] == failures
    printed = console.file.getvalue()
    assert f"1 of 4 runs finished, logs in {tmp_path / 'logs'}" in printed
    assert "2 of 4 runs finished after" in printed and ": run b" in printed
    assert f"failed: run nan\n  the loss became NaN. Use --lr 0.1.\n  log: {tmp_path / 'logs' / 'nan.log'}" in printed
    assert "run c" not in printed
    seen.clear()
    assert list(train_runs(folder, console, parallel=1)) == ["killed", "nan"]  # tried again
    assert not seen


def test_number_of_parallel_runs_is_at_least_one():
    check_parallel(None, False)
    with pytest.raises(UserError, match="parallel must be an integer of at least 1, got 0"):
        check_parallel(0, False)
