import pytest

from transxnet import create_model
from transxnet.runs.recipes import make_config
from transxnet.training.make_plan import make_plan


@pytest.mark.parametrize(
    ("options", "flags"),
    [
        ({}, [False] * 4),
        (dict(grad_checkpointing=True), [True] * 4),
        (dict(checkpointed_stages=1), [True] + [False] * 3),
    ],
)
@pytest.mark.parametrize("task", ["classify", "detect", "segment"])
def test_gradient_checkpointing_of_the_given_stages(photos, squares, maps, quiet, task, options, flags):
    data, size = {
        "classify": (photos, dict(img_size=32)),
        "detect": (squares, dict(min_size=32)),
        "segment": (maps, dict(crop=32)),
    }[task]
    small = dict(model="transxnet_n@depths=(1,1,1,1)", batch_size=2, workers=0, device="cpu")
    network = make_plan(make_config(data, **small, **size, **options), quiet).model
    body = network if task == "classify" else network.backbone.body
    assert [stage.grad_checkpointing for stage in body.stages] == flags


def test_description_builds_the_model_again(photos, quiet):
    model = "transxnet_n@depths=(1,1,1,1)"
    plan = make_plan(make_config(photos, model=model, img_size=32, device="cpu", task="classify"), quiet)
    description = plan.description()
    assert description["architecture"] == "transxnet_n"
    assert description["class_names"] == ["blue", "green", "red"]
    again = create_model("transxnet_n", num_classes=3, **description["model_args"])
    again.load_state_dict(plan.model.state_dict())
