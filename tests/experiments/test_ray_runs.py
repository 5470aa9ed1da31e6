import pytest

from transxnet.experiments.ray_runs import share_of_machine, train_on_ray
from transxnet.experiments.training_process import TrainingJob


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
def test_tasks_report_the_trainings_that_failed(tmp_path):
    pytest.importorskip("ray")
    pytest.importorskip("sklearn")
    options = {"img_size": 32, "epochs": 1, "limit": 40, "batch_size": 8, "device": "cpu", "workers": 0}
    jobs = [
        TrainingJob(str(tmp_path / data), {"data": data, **options}, str(tmp_path / f"{data}.log"), str(tmp_path))
        for data in ("missing", "digits")
    ]
    errors = dict(train_on_ray(jobs, 2))
    assert errors[0].startswith("'missing' is neither an existing folder nor a sample") and errors[1] is None
    assert (tmp_path / "digits" / "report.html").is_file()
