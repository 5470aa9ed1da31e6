import os
import signal
import threading
import time

import pytest
import torch

from tests.experiments.test_training_process import make_job
from transxnet.experiments.parallel_runs import split_machine, train_in_processes


def test_failed_trainings_do_not_stop_the_others(fake_training, tmp_path):
    jobs = [make_job(tmp_path, model) for model in ("killed", "nan", "a", "b")]
    found = dict(train_in_processes(jobs, 2))
    assert found[0] == "the process was killed by SIGKILL." and found[1].startswith("the loss became NaN")
    assert found[2] is found[3] is None


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signal_stops_all_trainings_and_starts_no_other(number, fake_training, tmp_path):
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # it is ignored in background processes
    folders = [tmp_path / "first", tmp_path / "second"]
    for folder in folders:
        folder.mkdir()

    def send_when_started():
        while not all((folder / "slow" / "pid").is_file() for folder in folders):
            time.sleep(0.01)
        time.sleep(0.1)
        os.kill(os.getpid(), number)

    threading.Thread(target=send_when_started).start()
    with pytest.raises(KeyboardInterrupt):
        list(
            train_in_processes([make_job(folders[0], "slow"), make_job(folders[1], "slow"), make_job(tmp_path, "a")], 2)
        )
    assert all((folder / "slow" / "config.yaml").is_file() for folder in folders)
    assert not (tmp_path / "a").exists()
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
    signal.signal(signal.SIGINT, before)


def test_threads_are_shared_and_gpus_taken_in_turn(monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 8)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    assert split_machine(3) == [{"OMP_NUM_THREADS": "2"}] * 3
    assert split_machine(9) == [{"OMP_NUM_THREADS": "1"}] * 9
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert [each["CUDA_VISIBLE_DEVICES"] for each in split_machine(3)] == ["0", "1", "0"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "5,GPU-7")
    assert [each["CUDA_VISIBLE_DEVICES"] for each in split_machine(2)] == ["5", "GPU-7"]
    monkeypatch.setenv("OMP_NUM_THREADS", "4")
    assert split_machine(2)[0]["OMP_NUM_THREADS"] == "4"
