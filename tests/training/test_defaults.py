import pytest
import torch

from transxnet.runs.task_configs import ClassifyConfig
from transxnet.training.defaults import DefaultsResolver
from transxnet.training.distributed import Hardware
from transxnet.utils.errors import UserError


def resolve(images: int, processes: int = 1, **options):
    defaults = DefaultsResolver(ClassifyConfig("photos", **options), Hardware("cpu", processes))
    defaults.resolve_common(images, lambda config, limit, default: (min(limit, 64), "it fits"))
    return defaults.config, defaults.choices


def test_null_options_are_resolved_and_recorded():
    config, choices = resolve(1000)
    chosen = {"batch_size", "epochs", "lr", "warmup_epochs", "ema_decay", "workers", "precision"}
    assert {sentence.split()[0] for sentence in choices} == chosen
    assert all(getattr(config, name) is not None for name in chosen)
    assert (config.batch_size, config.epochs, config.precision) == (32, 100, "32-true")


def test_matrix_units_of_a_cpu_compute_in_bfloat16(monkeypatch):
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: True)
    config, choices = resolve(1000)
    assert config.precision == "bf16-mixed"
    assert "precision bf16-mixed (this CPU has matrix units for bfloat16)" in choices
    assert resolve(1000, precision="32-true")[0].precision == "32-true"


def test_given_options_stay_and_are_not_recorded():
    config, choices = resolve(1000, lr=0.5, epochs=3, ema_decay=0.0)
    assert (config.lr, config.epochs, config.ema_decay) == (0.5, 3, 0.0)
    assert not {"lr", "epochs", "ema_decay"} & {sentence.split()[0] for sentence in choices}


@pytest.mark.parametrize(("size", "batch"), [(1000, 32), (100, 8), (9, 2), (2, 2)])
def test_small_data_gets_a_small_batch_size(size, batch):
    assert resolve(size)[0].batch_size == batch


def test_batch_size_auto_takes_the_largest_that_fits():
    config, choices = resolve(1000, batch_size="auto")
    assert config.batch_size == 64
    assert "batch_size 64 (it fits)" in choices
    assert config.lr == pytest.approx(5e-4, abs=1e-12)
    assert resolve(100, batch_size="auto")[0].batch_size == 12
    with pytest.raises(UserError, match=r"batch_size auto needs a single process, got .*--devices 1"):
        resolve(1000, batch_size="auto", processes=2)


def test_learning_rate_scales_with_batch_and_fine_tuning():
    assert resolve(1000, batch_size=64, accumulate=4)[0].lr == pytest.approx(1e-3, abs=1e-12)
    assert resolve(1000, batch_size=64)[0].lr == pytest.approx(5e-4, abs=1e-12)
    tuned, choices = resolve(1000, batch_size=64, accumulate=4, pretrained=True)
    assert tuned.lr == pytest.approx(1e-4, abs=1e-12)
    assert any("divided by 10 for fine-tuning" in sentence for sentence in choices)
    assert not any("fine-tune" in sentence for sentence in resolve(1000)[1])


def test_learning_rate_is_not_divided_after_pretraining(tmp_path):
    (tmp_path / "config.yaml").write_text("task: pretrain\ndata: photos\n")
    tuned, choices = resolve(1000, batch_size=64, accumulate=4, checkpoint=str(tmp_path))
    assert tuned.lr == pytest.approx(1e-3, abs=1e-12)
    assert any("not divided, since the pretraining had no labels" in sentence for sentence in choices)
    (tmp_path / "config.yaml").write_text("task: classify\ndata: photos\n")
    assert resolve(1000, batch_size=64, accumulate=4, checkpoint=str(tmp_path))[0].lr == pytest.approx(1e-4, abs=1e-12)


def test_learning_rate_is_not_divided_for_a_linear_probe():
    options = dict(batch_size=64, accumulate=4, pretrained=True, freeze="backbone")
    assert resolve(1000, **options)[0].lr == pytest.approx(1e-3, abs=1e-12)
    assert resolve(1000, **options, freeze_epochs=5)[0].lr == pytest.approx(1e-4, abs=1e-12)


def test_batch_size_above_the_data_is_refused():
    with pytest.raises(
        UserError, match=r"batch_size 64 is more than the number of training images, 40. Use --batch-size 4"
    ):
        resolve(40, batch_size=64)


def test_batch_size_of_all_processes_must_fit_the_data():
    with pytest.raises(UserError, match=r"batch_size 16 on 4 processes is more than the number of training images, 40"):
        resolve(40, batch_size=16, processes=4)


def test_precision_and_batch_size_follow_the_device(monkeypatch):
    monkeypatch.setattr("torch.cuda.is_bf16_supported", lambda: False)
    defaults = DefaultsResolver(ClassifyConfig("photos"), Hardware("cuda", 1))
    defaults.resolve_common(10_000, lambda config, limit, default: (0, ""))
    assert (defaults.config.precision, defaults.config.batch_size) == ("16-mixed", 128)
    monkeypatch.setattr("torch.cuda.is_bf16_supported", lambda: True)
    defaults = DefaultsResolver(ClassifyConfig("photos"), Hardware("cuda", 1))
    defaults.resolve_common(10_000, lambda config, limit, default: (0, ""))
    assert defaults.config.precision == "bf16-mixed"
