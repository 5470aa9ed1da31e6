import pytest

from tests.experiments.test_training_process import make_job
from transxnet.experiments.ray_runs import share_of_machine, train_on_ray


@pytest.mark.parametrize(
    ("machines", "parallel", "cpu_only", "share"),
    [
        ([{"CPU": 16.0}, {"CPU": 12.0}], None, False, (12, 0)),
        ([{"CPU": 16.0}, {"CPU": 12.0}], 5, False, (2, 0)),
        ([{"CPU": 2.0}], 4, False, (1, 0)),
        ([{"CPU": 4.0}, {"CPU": 32.0, "GPU": 8.0}], None, False, (4, 1.0)),
        ([{"CPU": 4.0}, {"CPU": 32.0, "GPU": 2.0}], 4, False, (8, 0.5)),
        ([{"CPU": 4.0}, {"CPU": 32.0, "GPU": 8.0}], None, True, (4, 0)),
    ],
)
def test_share_of_the_smallest_machine_with_a_gpu(machines, parallel, cpu_only, share):
    assert share_of_machine(machines, parallel, cpu_only) == share


@pytest.mark.long
def test_tasks_report_the_trainings_that_failed(fake_training, tmp_path):
    pytest.importorskip("ray")
    jobs = [make_job(tmp_path, model) for model in ("nan", "a")]
    assert dict(train_on_ray(jobs, 2)) == {0: "the loss became NaN. Use --lr 0.1.", 1: None}
