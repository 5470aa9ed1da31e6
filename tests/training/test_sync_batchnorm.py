"""BatchNorm across processes against plain BatchNorm over the whole batch."""

import copy
import multiprocessing
import traceback
from pathlib import Path

import cloudpickle
import pytest
import torch
import torch.distributed as dist
from timm.layers import BatchNormAct2d
from torch import nn

import transxnet
from transxnet.training.sync_batchnorm import BatchNormSync, SyncedBatchNorm
from transxnet.utils.errors import UserError

SHARES = ([0, 2, 5], [0, 1, 2, 4, 5])
"""Uneven splits of 5 images for two and for four processes."""


def in_processes(work, shares, folder: Path) -> None:
    """Run ``work(rank, first, last)`` in one process per share; each must finish."""
    # Forks of a process without threads: autograd refuses to work in those of one whose engine has started threads.
    server = multiprocessing.get_context("forkserver")
    server.set_forkserver_preload(["transxnet.training.sync_batchnorm"])
    answers, store = server.SimpleQueue(), f"file://{folder}/store"
    children = [
        server.Process(target=begin, args=(cloudpickle.dumps(work), shares, rank, store, answers), daemon=True)
        for rank in range(len(shares) - 1)
    ]
    for child in children:
        child.start()
    assert [answers.get() for _ in children] == [""] * len(children)
    for child in children:
        child.join()


def begin(work, shares, rank, store, answers):
    try:
        torch.set_num_threads(1)
        dist.init_process_group("gloo", init_method=store, rank=rank, world_size=len(shares) - 1)
        cloudpickle.loads(work)(rank, shares[rank], shares[rank + 1])
        dist.barrier()
        dist.destroy_process_group()
        answers.put("")
    except BaseException:
        answers.put(traceback.format_exc())


def layers() -> dict[str, nn.Module]:
    torch.manual_seed(0)
    made = {
        "plain": nn.BatchNorm2d(3),
        "without weights": nn.BatchNorm2d(3, affine=False),
        "mean of all": nn.BatchNorm2d(3, momentum=None),
        "no statistics": nn.BatchNorm2d(3, track_running_stats=False),
        "with activation": BatchNormAct2d(3, act_layer=nn.PReLU),
    }
    for norm in made.values():
        for parameter in norm.parameters():
            nn.init.normal_(parameter)
    return made


@pytest.mark.parametrize("shares", SHARES, ids=["two", "four"])
def test_synced_batchnorm_equals_the_whole_batch(shares, tmp_path):
    x, weight = torch.randn(5, 3, 4, 4) * 3 + 70, torch.randn(5, 3, 4, 4)

    def work(rank, first, last):
        for name, plain in layers().items():
            synced, whole, part = SyncedBatchNorm(copy.deepcopy(plain)), x.clone().requires_grad_(), slice(first, last)
            own = x[part].clone().requires_grad_()
            for _ in range(2):  # two updates of the running statistics
                truth, out = plain(whole), synced(own)
            (truth * weight).sum().backward()
            (out * weight[part]).sum().backward()
            same(name, out, truth[part])
            same(name, own.grad, whole.grad[part])
            for mine, theirs in zip(synced.parameters(), plain.parameters(), strict=True):
                dist.all_reduce(mine.grad)
                same(name, mine.grad, theirs.grad, 1e-3)
            for mine, theirs in zip(synced.buffers(), plain.buffers(), strict=True):
                same(name, mine, theirs)
            assert list(synced.state_dict()) == list(plain.state_dict())
            if plain.track_running_stats:
                same(name, synced.eval()(own), plain.eval()(whole)[part])

    in_processes(work, shares, tmp_path)


def same(name, mine, theirs, atol=1e-4):
    torch.testing.assert_close(mine, theirs, atol=atol, rtol=0, msg=lambda text: f"{name}: {text}")


def test_one_image_per_process_is_a_batch(tmp_path):
    """As in IDConv, which normalizes a 1x1 map."""
    x = torch.randn(2, 3, 1, 1)

    def work(rank, first, last):
        synced, plain = SyncedBatchNorm(nn.BatchNorm2d(3)), nn.BatchNorm2d(3)
        same("1x1", synced(x[first:last]), plain(x)[first:last])

    in_processes(work, [0, 1, 2], tmp_path)
    with pytest.raises(ValueError, match="Expected more than 1 value per channel when training"):
        SyncedBatchNorm(nn.BatchNorm2d(3))(x[:1])


def test_half_precision_is_normalized_in_single():
    torch.manual_seed(0)
    x = (torch.randn(4, 3, 8, 8) * 200 + 300).half()
    out = SyncedBatchNorm(nn.BatchNorm2d(3))(x)
    assert out.dtype == torch.float16
    same("half", out.float(), nn.BatchNorm2d(3)(x.float()), 4e-3)


def test_network_is_converted_and_reverted_with_its_state():
    model = transxnet.create_model("transxnet_n", num_classes=3, img_size=32).double().train()
    kept = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    kinds = [type(module) for module in model.modules()]
    plugin = BatchNormSync(gpu=False)
    synced = plugin.apply(model)
    assert sum(isinstance(m, SyncedBatchNorm) for m in synced.modules()) == kinds.count(nn.BatchNorm2d) > 50
    assert list(synced.state_dict()) == list(kept)
    images = torch.randn(6, 3, 32, 32, dtype=torch.float64)
    twin = plugin.revert(copy.deepcopy(synced))
    outputs = synced(images), twin(images)
    same("network", *outputs, 1e-9)
    for output in outputs:
        output.square().sum().backward()
    for mine, theirs in zip(synced.parameters(), twin.parameters(), strict=True):
        same("gradient", mine.grad, theirs.grad, 1e-6)
    back = plugin.revert(synced)
    assert [type(module) for module in back.modules()] == kinds
    for name, tensor in back.state_dict().items():
        same(name, tensor, twin.state_dict()[name], 1e-9)
    assert not torch.equal(back.state_dict()["stages.0.patch_embed.bn.running_mean"],
                           kept["stages.0.patch_embed.bn.running_mean"])  # fmt: skip


def test_conversion_for_gpus_keeps_activations():
    """PyTorch's own conversion drops the activation of timm's BatchNormAct2d."""
    norm = nn.Sequential(BatchNormAct2d(3))
    (converted,) = BatchNormSync(gpu=True).apply(norm)
    assert isinstance(converted, nn.SyncBatchNorm)
    assert isinstance(converted.act, nn.ReLU)


def test_other_batchnorm_classes_are_refused():
    class Own(nn.BatchNorm2d):
        pass

    with pytest.raises(UserError, match=r"cannot synchronize Own over processes\. Accepted: .*--devices 1"):
        BatchNormSync(gpu=False).apply(nn.Sequential(Own(3)))
