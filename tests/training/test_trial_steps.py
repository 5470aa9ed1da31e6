"""A few training steps before a training."""

import pytest
import torch

from transxnet.runs.task_configs import ClassifyConfig
from transxnet.training.make_plan import make_plan
from transxnet.training.trial_steps import run_steps


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
def test_trial_steps_leave_the_model_as_it_is(photos, quiet, precision):
    plan = make_plan(ClassifyConfig(str(photos), model="test_resnet", img_size=32, precision=precision), quiet)
    before = {name: tensor.clone() for name, tensor in plan.model.state_dict().items()}
    (images, labels, _), steps = run_steps(plan, 4, torch.device("cpu"), count=3)
    assert images.shape == (4, 3, 32, 32) and labels.shape == (4,)
    assert len(steps) == 3 and all(loss > 0 and seconds > 0 for loss, seconds in steps)
    assert all(torch.equal(before[name], tensor) for name, tensor in plan.model.state_dict().items())
