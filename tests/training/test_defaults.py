import pytest

from transxnet.runs.recipes import make_config
from transxnet.runs.task_configs import ClassifyConfig
from transxnet.training.defaults import Choices, processes
from transxnet.training.plan import make_plan
from transxnet.utils.errors import UserError


def settle(size: int, **options):
    choices = Choices(ClassifyConfig("photos", accelerator="cpu", **options))
    choices.choose_common(size, lambda config, most, usual: (min(most, 64), "it fits"))
    return choices.config, choices.said


def test_every_open_option_is_filled_in_and_every_choice_is_said():
    config, choices = settle(1000)
    chosen = {"batch_size", "epochs", "lr", "warmup_epochs", "ema_decay", "workers", "precision"}
    assert {sentence.split()[0] for sentence in choices} == chosen
    assert all(getattr(config, name) is not None for name in chosen)
    assert (config.batch_size, config.epochs, config.precision) == (32, 100, "32-true")


def test_so_are_those_that_follow_from_a_classifier_and_its_images(photos, quiet):
    plan = make_plan(ClassifyConfig(str(photos), model="test_resnet", accelerator="cpu"), quiet)
    chosen = {
        "img_size", "crop_pct", "hflip", "drop_path_rate", "batch_size", "epochs", "lr", "warmup_epochs", "ema_decay",
        "workers", "precision",
    }  # fmt: skip
    assert {sentence.split()[0] for sentence in plan.choices} == chosen
    assert all(getattr(plan.config, name) is not None for name in chosen)


def test_what_is_given_is_kept_and_not_said():
    config, choices = settle(1000, lr=0.5, epochs=3, ema_decay=0.0)
    assert (config.lr, config.epochs, config.ema_decay) == (0.5, 3, 0.0)
    assert not {"lr", "epochs", "ema_decay"} & {sentence.split()[0] for sentence in choices}


@pytest.mark.parametrize(("size", "batch"), [(1000, 32), (100, 8), (9, 2), (2, 2)])
def test_few_images_make_small_batches(size, batch):
    assert settle(size)[0].batch_size == batch


def test_the_largest_batch_that_fits_is_asked_for_and_the_rate_follows_it():
    config, choices = settle(1000, batch_size="auto")
    assert config.batch_size == 64
    assert "batch_size 64: it fits" in choices
    assert config.lr == pytest.approx(5e-4, abs=1e-12)
    assert settle(100, batch_size="auto")[0].batch_size == 12
    with pytest.raises(UserError, match=r"batch_size auto is found by one process alone.*--devices 1"):
        settle(1000, batch_size="auto", devices=2)


def test_the_rate_follows_the_images_of_an_update_and_fine_tuning_takes_a_tenth():
    assert settle(1000, batch_size=64, accumulate=4)[0].lr == pytest.approx(1e-3, abs=1e-12)
    assert settle(1000, batch_size=64)[0].lr == pytest.approx(5e-4, abs=1e-12)
    tuned, choices = settle(1000, batch_size=64, accumulate=4, pretrained=True)
    assert tuned.lr == pytest.approx(1e-4, abs=1e-12)
    assert any("a tenth to fine-tune" in sentence for sentence in choices)
    assert not any("fine-tune" in sentence for sentence in settle(1000)[1])


def test_a_batch_larger_than_the_data_is_refused_with_one_that_fits():
    with pytest.raises(UserError, match=r"batch_size 64 is more than the 40 training images. Give --batch_size 4"):
        settle(40, batch_size=64)


def test_every_process_needs_a_batch():
    with pytest.raises(UserError, match=r"batch_size 16 on each of 4 processes is more than the 40 training images"):
        settle(40, batch_size=16, devices=4)


@pytest.mark.parametrize(
    ("devices", "nodes", "count"),
    [("auto", 1, 1), (1, 1, 1), ("2", 3, 6), ("0,1", 1, 2), ("[0, 1, 2]", 1, 3), (-1, 1, 1)],
)
def test_processes_are_counted_from_devices_and_nodes(devices, nodes, count):
    assert processes(ClassifyConfig("photos", accelerator="cpu", devices=devices, num_nodes=nodes)) == count


@pytest.mark.parametrize(
    ("options", "flags"),
    [
        ({}, [False] * 4),
        (dict(grad_checkpointing=True), [True] * 4),
        (dict(checkpointed_stages=1), [True] + [False] * 3),
    ],
)
@pytest.mark.parametrize("task", ["classify", "detect", "segment"])
def test_stages_are_checkpointed_as_asked(photos, squares, maps, quiet, task, options, flags):
    data, size = {
        "classify": (photos, dict(img_size=32)),
        "detect": (squares, dict(min_size=32)),
        "segment": (maps, dict(crop=32)),
    }[task]
    small = dict(model="transxnet_n@depths=(1,1,1,1)", batch_size=2, workers=0, accelerator="cpu")
    network = make_plan(make_config(data, **small, **size, **options), quiet).model
    body = network if task == "classify" else network.backbone.body
    assert [stage.grad_checkpointing for stage in body.stages] == flags
