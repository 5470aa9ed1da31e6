import math

import pytest
import torch
from lightning.pytorch import Trainer
from torch import nn
from torch.utils.data import DataLoader

import transxnet
from tests.helpers.class_folders import QUICK
from tests.helpers.dense_data import SEGMENT
from transxnet.runs.run_folder import Run
from transxnet.runs.task_configs import ClassifyConfig
from transxnet.training.classifier import Classifier
from transxnet.training.lightning_module import NonFiniteLoss, learning_rates
from transxnet.training.segmenter import Segmenter
from transxnet.training.train import train


def schedule(batches: int, **options) -> list[float]:
    """The learning rate of each update."""
    config = ClassifyConfig("photos", ema_decay=0.0, weight_decay=0.0, smoothing=0.0, **options)
    classifier = Classifier(nn.Sequential(nn.Flatten(), nn.Linear(12, 3)), 3, config)
    rates: list[float] = []
    step = classifier.optimizer_step

    def recorded(epoch, batch_idx, optimizer, closure):
        rates.append(optimizer.param_groups[-1]["lr"])
        step(epoch, batch_idx, optimizer, closure)

    classifier.optimizer_step = recorded
    data = [(torch.randn(3, 2, 2), i % 3, i) for i in range(2 * batches)]
    trainer = Trainer(
        max_epochs=config.epochs + config.cooldown_epochs, accumulate_grad_batches=config.accumulate,
        accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False, num_sanity_val_steps=0,
    )  # fmt: skip
    trainer.fit(classifier, DataLoader(data, 2), DataLoader(data, 2))
    assert learning_rates(config, batches // config.accumulate) == pytest.approx(rates)
    return rates


def test_learning_rate_warms_up_follows_cosine_and_cools_down():
    options = dict(lr=0.1, min_lr=0.001, warmup_lr=0.01, warmup_epochs=2, epochs=10, cooldown_epochs=2)
    rates = schedule(5, **options)
    assert len(rates) == 5 * 12
    assert rates[0] == pytest.approx(0.01, abs=1e-12)
    assert rates[5] == pytest.approx(0.01 + 0.09 * 5 / 10, abs=1e-9)
    cosine = [0.001 + 0.5 * 0.099 * (1 + math.cos(math.pi * t / 50)) for t in range(50)]
    assert rates[10:50] == pytest.approx(cosine[10:], abs=1e-9)  # the epochs include the warm-up
    assert max(rates) == rates[9] == pytest.approx(0.091, abs=1e-9)
    assert rates[50:] == pytest.approx([0.001] * 10, abs=1e-9)


def test_learning_rate_changes_per_accumulated_update():
    rates = schedule(8, lr=0.1, min_lr=0.0, warmup_lr=0.0, warmup_epochs=0, epochs=4, accumulate=4)
    assert len(rates) == 8
    assert rates == pytest.approx([0.05 * (1 + math.cos(math.pi * t / 8)) for t in range(8)], abs=1e-9)


@pytest.mark.long
def test_learning_rate_drops_tenfold_at_each_milestone(maps, tmp_path, quiet, monkeypatch):
    """COCO's published 12-epoch schedule: warm-up in the first, a tenth from the 9th, a hundredth from the 12th."""
    rates, step = [], Segmenter.optimizer_step

    def recorded(self, epoch, batch_idx, optimizer, *args, **kwargs):
        rates.append(optimizer.param_groups[-1]["lr"])
        step(self, epoch, batch_idx, optimizer, *args, **kwargs)

    monkeypatch.setattr(Segmenter, "optimizer_step", recorded)
    options = {
        **SEGMENT,
        "crop": 32,
        "epochs": 12,
        "val_every": 12,
        "ema_decay": 0.0,
        "milestones": "8,11",
        "warmup_epochs": 1.0,
    }
    run = train(maps, out=tmp_path / "run", lr=1e-2, warmup_lr=1e-3, console=quiet, **options)
    assert len(rates) == 36  # three updates per epoch
    assert rates[:3] == pytest.approx([1e-3, 4e-3, 7e-3], abs=1e-9)
    assert rates[3:] == pytest.approx([1e-2] * 21 + [1e-3] * 9 + [1e-4] * 3, abs=1e-9)
    assert run.read_config().milestones == "8,11"


def test_layer_decay_lowers_the_rate_of_earlier_layers():
    model = transxnet.create_model("transxnet_n", num_classes=3, img_size=32)
    classifier = Classifier(model, 3, ClassifyConfig("photos", lr=1e-3, epochs=2, warmup_epochs=0, layer_decay=0.5))
    classifier.trainer = type("T", (), {"estimated_stepping_batches": 8, "precision": "32-true"})()
    optimizer = classifier.configure_optimizers()["optimizer"]
    rate = {id(p): group["lr_scale"] for group in optimizer.param_groups for p in group["params"]}
    assert rate[id(model.head.fc.weight)] == 1
    assert rate[id(model.stages[0].patch_embed.conv.weight)] < rate[id(model.stages[3].patch_embed.conv.weight)] < 1
    assert len(rate) == len(list(model.parameters()))


def test_norms_and_biases_have_no_weight_decay():
    model = transxnet.create_model("transxnet_n", num_classes=3, img_size=32)
    classifier = Classifier(model, 3, ClassifyConfig("photos", lr=1e-3, epochs=2, warmup_epochs=0, weight_decay=0.3))
    classifier.trainer = type("T", (), {"estimated_stepping_batches": 8, "precision": "32-true"})()
    optimizer = classifier.configure_optimizers()["optimizer"]
    decay = {id(p): group["weight_decay"] for group in optimizer.param_groups for p in group["params"]}
    assert decay[id(model.head.fc.weight)] == 0.3
    assert decay[id(model.head.fc.bias)] == decay[id(model.norm.weight)] == 0


def test_averaged_weights_follow_with_warmup():
    model = nn.Linear(4, 2)
    classifier = Classifier(model, 2, ClassifyConfig("photos", ema_decay=0.9))
    first = model.weight.detach().clone()
    with torch.no_grad():
        model.weight += 1
    classifier.ema.update(model, step=3)
    decay = min(0.9, 1 - 3 ** (-2 / 3))  # at the third update
    torch.testing.assert_close(
        classifier.best_weights.weight, decay * first + (1 - decay) * model.weight, atol=1e-6, rtol=0
    )


def test_averaged_weights_need_no_gradient():
    classifier = Classifier(nn.Sequential(nn.Flatten(), nn.Linear(12, 3)), 3, ClassifyConfig("photos", ema_decay=0.9))
    classifier.model(torch.ones(2, 3, 2, 2)).sum().backward()
    waiting = [name for name, p in classifier.named_parameters() if p.requires_grad and p.grad is None]
    assert waiting == []


def test_divergence_stops_and_leaves_no_model(photos, tmp_path, console):
    with pytest.raises(NonFiniteLoss) as caught:
        train(photos, out=tmp_path / "run", lr=1e30, opt="sgd", warmup_epochs=0, console=console, **QUICK)
    assert "the loss became NaN or infinite at step" in str(caught.value)
    assert "--lr, now 1e+30" in str(caught.value)
    assert "No epoch was finished" in str(caught.value)
    run = Run(tmp_path / "run")
    assert not any(path.exists() for path in (run.weights_file, run.results_file, run.last_checkpoint))


@pytest.mark.parametrize("step", [6, 7], ids=["within the epoch", "by its last update"])
def test_divergence_keeps_and_names_the_last_good_checkpoint(photos, tmp_path, quiet, monkeypatch, step):
    """The second epoch ends with step 7, whose own loss is still finite."""
    whole = Classifier.optimizer_step

    def broken(self, *args, **kwargs):
        whole(self, *args, **kwargs)
        if self._step_number() == step:
            with torch.no_grad():
                next(self.model.parameters()).fill_(float("nan"))
                next(self.ema.module.parameters()).fill_(float("nan"))

    monkeypatch.setattr(Classifier, "optimizer_step", broken)
    with pytest.raises(NonFiniteLoss) as caught:
        train(photos, out=tmp_path / "run", lr=3e-3, ema_decay=0.9, console=quiet, **QUICK)
    run = Run(tmp_path / "run")
    assert f"--checkpoint {run.last_checkpoint}" in str(caught.value)
    state = torch.load(run.last_checkpoint, weights_only=True)
    assert state["global_step"] == 4
    assert all(tensor.isfinite().all() for tensor in state["state_dict"].values())
    assert [row["epoch"] for row in run.read_metrics()] == [1]
    assert not run.weights_file.exists()

    monkeypatch.setattr(Classifier, "optimizer_step", whole)
    fresh = train(photos, out=tmp_path / "again", checkpoint=run.last_checkpoint, lr=1e-4, console=quiet, **QUICK)
    assert fresh.report_file.is_file()


def test_logged_loss_is_the_mean_over_the_steps(photos, tmp_path, quiet, monkeypatch):
    losses, step = [], Classifier.training_step

    def recorded(self, batch, batch_idx):
        loss = step(self, batch, batch_idx)
        losses.append(loss.item())
        return loss

    monkeypatch.setattr(Classifier, "training_step", recorded)
    rows = train(photos, out=tmp_path / "run", console=quiet, **QUICK).read_metrics()
    assert rows[0]["train_loss"] == pytest.approx(sum(losses[:4]) / 4, abs=1e-6)
    assert rows[1]["train_loss"] == pytest.approx(sum(losses[4:]) / 4, abs=1e-6)
