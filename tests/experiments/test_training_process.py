import os
import time

import pytest

from transxnet.experiments.training_process import TrainingJob, TrainingProcess


def make_job(folder, model):
    return TrainingJob(str(folder / model), {"model": model}, str(folder / f"{model}.log"), str(folder))


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ("good", None),
        ("nan", "the loss became NaN. Use --lr 0.1."),
        ("killed", "the process was killed by SIGKILL."),
    ],
)
def test_result_is_the_error_message_at_the_end_of_the_log(model, message, fake_training, tmp_path):
    assert TrainingProcess(make_job(tmp_path, model), {}).wait() == message
    assert (tmp_path / model / "report.html").is_file() == (message is None)


def test_interrupted_training_stops_after_it_has_saved(fake_training, tmp_path):
    process = TrainingProcess(make_job(tmp_path, "slow"), {})
    while not (tmp_path / "slow" / "pid").is_file():
        time.sleep(0.01)
    time.sleep(0.1)
    assert process.running and os.getsid(int((tmp_path / "slow" / "pid").read_text())) != os.getsid(0)
    process.interrupt()
    process.wait()
    assert not process.running and (tmp_path / "slow" / "config.yaml").is_file()
    process.interrupt()  # it has ended
