"""Non-finite updates are skipped completely and counted; too many of them stop the training."""

import itertools
import math

import pytest
import torch
from lightning.pytorch.strategies import SingleDeviceStrategy

from tests.helpers.class_folders import QUICK
from transxnet.training.classifier import Classifier
from transxnet.training.lightning_module import NonFiniteLoss
from transxnet.training.nonfinite import BufferSnapshot, is_finite_update
from transxnet.training.train import train

STEPS = 4
"""Batches per epoch of the image data set."""


@pytest.fixture
def poison(monkeypatch):
    """Make the losses of some steps non-finite, including the network's activations."""
    plain = Classifier.losses

    def at(*steps: int, where: str = "input") -> None:
        def losses(self, batch):
            if self._step_number() not in steps:
                return plain(self, batch)
            if where == "input":
                return plain(self, (batch[0] * float("inf"), *batch[1:]))
            parameter = next(self.model.parameters())
            return {"loss": plain(self, batch)["loss"] + Spoil.apply(parameter)}

        monkeypatch.setattr(Classifier, "losses", losses)

    return at


class Spoil(torch.autograd.Function):
    """Zero, with an infinite gradient."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x.new_zeros(())

    @staticmethod
    def backward(ctx, grad):
        return torch.full_like(ctx.saved_tensors[0], float("inf"))


@pytest.fixture
def states(monkeypatch) -> list[dict[str, torch.Tensor]]:
    """Record all tensors of the training module after each optimizer step, including the EMA weights."""
    kept = []
    whole = Classifier.optimizer_step

    def recorded(self, *args, **kwargs):
        whole(self, *args, **kwargs)
        kept.append({name: tensor.clone() for name, tensor in self.state_dict().items()})

    monkeypatch.setattr(Classifier, "optimizer_step", recorded)
    return kept


@pytest.mark.parametrize("where", ["input", "gradient"])
def test_nonfinite_step_is_skipped_and_counted(photos, tmp_path, console, poison, states, where):
    poison(2, where=where)
    run = train(photos, out=tmp_path / "run", lr=3e-3, ema_decay=0.9, console=console, **QUICK)
    changed = [
        [name for name in after if not torch.equal(before[name], after[name])]
        for before, after in itertools.pairwise(states)
    ]
    assert changed[1] == []  # the third step equals the second
    assert all(changed[i] for i in (0, *range(2, 2 * STEPS - 1)))
    assert all(tensor.isfinite().all() for tensor in states[-1].values())
    rows = run.read_metrics()
    assert [row["skipped"] for row in rows] == [1, 0]
    assert [row["step"] for row in rows] == [STEPS, 2 * STEPS]
    assert all(math.isfinite(value) for row in rows for value in row.values())
    assert "1 non-finite update skipped" in console.file.getvalue()


def test_nonfinite_step_of_another_process_is_skipped(photos, tmp_path, quiet, monkeypatch, states):
    asked = []

    def reduce(self, decision, all=True):
        asked.append(decision)
        return decision and len(asked) != 2

    monkeypatch.setattr(SingleDeviceStrategy, "reduce_boolean_decision", reduce)
    run = train(photos, out=tmp_path / "run", lr=3e-3, console=quiet, **{**QUICK, "epochs": 1})
    assert asked == [True] * STEPS
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])
    assert any(not torch.equal(states[1][name], states[2][name]) for name in states[0])
    assert run.read_metrics()[0]["skipped"] == 1


def test_mean_loss_excludes_skipped_updates(photos, tmp_path, quiet, monkeypatch, poison):
    poison(1)
    losses, step = [], Classifier.training_step
    monkeypatch.setattr(Classifier, "training_step", lambda s, b, i: (losses.append(step(s, b, i)), losses[-1])[1])
    run = train(photos, out=tmp_path / "run", lr=3e-3, console=quiet, **{**QUICK, "epochs": 1})
    made = [loss.item() for i, loss in enumerate(losses) if i != 1]
    assert run.read_metrics()[0]["train_loss"] == pytest.approx(sum(made) / 3, abs=1e-6)


def test_nonfinite_batch_skips_the_accumulated_update(photos, tmp_path, quiet, poison, states):
    poison(2)
    run = train(photos, out=tmp_path / "run", lr=3e-3, accumulate=2, console=quiet, **{**QUICK, "epochs": 1})
    assert len(states) == 2
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])
    assert run.read_metrics()[0]["skipped"] == 1


def test_too_many_skipped_updates_in_a_row_stop(photos, tmp_path, quiet, poison):
    poison(1, 2, 4, 5, 6, 7)
    with pytest.raises(NonFiniteLoss, match=r"step 6 \(epoch 2\)\. 3 consecutive updates were skipped\..*--clip-grad"):
        train(photos, out=tmp_path / "run", lr=3e-3, max_skipped=2, console=quiet, **QUICK)


def test_epoch_without_updates_stops(photos, tmp_path, quiet, poison):
    poison(*range(STEPS, 2 * STEPS))
    with pytest.raises(
        NonFiniteLoss, match=r"All updates of the epoch were skipped\. This epoch is not saved.*last\.ckpt"
    ):
        train(photos, out=tmp_path / "run", lr=3e-3, console=quiet, **QUICK)


def test_any_nonfinite_value_makes_the_update_nonfinite():
    weights = [torch.ones(3, requires_grad=True), torch.ones(2, requires_grad=True), torch.ones(1, requires_grad=True)]
    optimizer = torch.optim.SGD(weights, 0.1)
    assert is_finite_update(optimizer, [torch.zeros(())])  # no gradients
    weights[0].grad, weights[1].grad = torch.full((3,), 1e15), torch.tensor([0.0, -1.0])
    assert is_finite_update(optimizer, [torch.zeros(()), torch.ones(())])
    assert not is_finite_update(optimizer, [torch.zeros(()), torch.tensor(float("nan"))])
    for bad in ("nan", "inf", "-inf"):
        weights[1].grad = torch.tensor([0.0, float(bad)])
        assert not is_finite_update(optimizer, [torch.zeros(())])


def test_snapshot_restores_buffers_in_place():
    norm = torch.nn.BatchNorm1d(2)
    kept = BufferSnapshot(norm)
    norm(torch.randn(4, 2))
    kept.save()
    good = {name: buffer.clone() for name, buffer in norm.named_buffers()}
    norm(torch.full((4, 2), float("inf")))
    assert norm.running_mean.isinf().all()
    kept.restore()
    assert all(torch.equal(buffer, good[name]) for name, buffer in norm.named_buffers())
    BufferSnapshot(torch.nn.Linear(2, 2)).restore()
