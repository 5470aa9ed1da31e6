import random

import numpy as np
import pytest
import torch

from transxnet.data.loading import samplers as module
from transxnet.data.loading.samplers import (
    AspectRatioSampler,
    EpochSampler,
    ShareSampler,
    WeightedSampler,
    seed_step,
    step_seed,
)


@pytest.fixture
def as_rank(monkeypatch):
    """Simulate one of several processes."""

    def pretend(rank: int, processes: int) -> None:
        monkeypatch.setattr(module, "world", lambda: (rank, processes))

    return pretend


def epoch(sampler: EpochSampler, number: int) -> list[tuple[int, int]]:
    sampler.set_epoch(number)
    return list(sampler)


def test_an_epoch_is_a_permutation():
    positions = [position for position, _ in epoch(EpochSampler(60, 10, seed=0), 0)]
    assert sorted(positions) == list(range(60))
    assert positions != list(range(60))


def test_epochs_and_runs_differ_and_are_reproducible():
    drawn = {(seed, number): epoch(EpochSampler(60, 10, seed), number) for seed in (0, 1) for number in (0, 1, 2)}
    assert len({tuple(items) for items in drawn.values()}) == 6
    one = EpochSampler(60, 10, seed=0)
    assert [epoch(one, number) for number in (2, 0, 1)] == [drawn[0, number] for number in (2, 0, 1)]


def test_each_image_of_each_epoch_has_its_own_seed():
    sampler = EpochSampler(100, 10, seed=0)
    seeds = [seed for number in range(5) for _, seed in epoch(sampler, number)]
    assert len(set(seeds)) == 500
    assert all(0 <= seed < 2**63 for seed in seeds)


def test_dropped_last_batch_differs_between_epochs():
    sampler = EpochSampler(25, 10, seed=0)
    epochs = [{position for position, _ in epoch(sampler, number)} for number in range(20)]
    assert {len(positions) for positions in epochs} == {20} == {len(sampler)}
    assert set.union(*epochs) == set(range(25))


@pytest.mark.parametrize("processes", [2, 3])
@pytest.mark.parametrize("size", [60, 61, 89])
def test_processes_share_an_epoch_in_whole_batches(size, processes, as_rank):
    shares = []
    for rank in range(processes):
        as_rank(rank, processes)
        sampler = EpochSampler(size, 10, seed=0)
        shares.append([position for position, _ in epoch(sampler, 4)])
        assert len(sampler) == len(shares[-1])
    assert {len(share) for share in shares} == {size // (10 * processes) * 10}
    together = [position for share in shares for position in share]
    assert len(set(together)) == len(together)


def test_processes_share_the_order_of_one():
    """At each step, n processes train on the images that one process with n times the batch size trains on."""
    one = epoch(EpochSampler(60, 20, seed=0), 1)
    with pytest.MonkeyPatch.context() as patch:
        shares = []
        for rank in range(2):
            patch.setattr(module, "world", lambda rank=rank: (rank, 2))
            shares.append(epoch(EpochSampler(60, 10, seed=0), 1))
    for step in range(3):
        both = shares[0][step * 10 : step * 10 + 10] + shares[1][step * 10 : step * 10 + 10]
        assert sorted(both) == sorted(one[step * 20 : step * 20 + 20])


@pytest.mark.parametrize("processes", [1, 2])
@pytest.mark.parametrize("batches_done", [0, 1, 2])
def test_resumed_epoch_draws_the_rest(batches_done, processes, as_rank):
    as_rank(processes - 1, processes)
    whole = EpochSampler(60 * processes + 3, 20, seed=0)
    resumed = EpochSampler(60 * processes + 3, 20, seed=0)
    resumed.resume(epoch=2, batches_done=batches_done)
    whole.set_epoch(2)
    assert list(resumed) == list(whole)[20 * batches_done :]  # also before set_epoch
    assert epoch(resumed, 2) == epoch(whole, 2)[20 * batches_done :]
    assert epoch(resumed, 3) == epoch(whole, 3)
    assert epoch(resumed, 1) == epoch(whole, 1)


def test_next_epoch_follows_a_complete_one():
    resumed = EpochSampler(65, 20, seed=0)
    resumed.resume(epoch=2, batches_done=3)
    assert list(resumed) == epoch(EpochSampler(65, 20, seed=0), 3)
    assert epoch(resumed, 4) == epoch(EpochSampler(65, 20, seed=0), 4)


@pytest.mark.parametrize("size", [0, 1, 7, 12])
@pytest.mark.parametrize("processes", [1, 2, 3])
def test_shares_cover_each_image_once(size, processes, as_rank):
    shares = []
    for rank in range(processes):
        as_rank(rank, processes)
        sampler = ShareSampler(size)
        shares.append(list(sampler))
        assert len(sampler) == len(shares[-1])
        assert shares[-1] == sorted(shares[-1])
    assert sorted(i for share in shares for i in share) == list(range(size))


def test_each_step_and_process_has_its_own_seed(as_rank):
    seeds = set()
    for rank in range(3):
        as_rank(rank, 3)
        seeds |= {step_seed(seed, step) for seed in range(3) for step in range(20)}
    assert len(seeds) == 180


def test_a_steps_randomness_follows_from_its_number():
    def draw(step):
        seed_step(0, step)
        return torch.rand(3).tolist(), np.random.rand(3).tolist()

    first = draw(5)
    random.random(), torch.rand(9), np.random.rand(9)
    assert draw(5) == first
    assert draw(6) != first


def test_one_process_is_the_whole_world():
    assert module.world() == (0, 1)


def sizes(wide: int, other: int) -> np.ndarray:
    """Random order; square images count as upright."""
    rows = np.array([(3, 4)] * wide + [(4, 3), (3, 3)] * (other // 2) + [(4, 3)] * (other % 2))
    return np.random.default_rng(0).permutation(rows)


def batches(items: list, size: int) -> list[list[int]]:
    return [[position for position, _ in items[i : i + size]] for i in range(0, len(items), size)]


def test_all_but_the_last_batches_have_one_orientation():
    given = sizes(61, 42)
    found = batches(epoch(AspectRatioSampler(given, 10, seed=0), 3), 10)
    kinds = [{bool(given[i, 1] > given[i, 0]) for i in batch} for batch in found]
    assert [len(batch) for batch in found] == [10] * 10
    assert {len(kind) for kind in kinds} == {1}
    assert sum(kind == {True} for kind in kinds) == 6
    assert kinds not in ([{False}] * 4 + [{True}] * 6, [{True}] * 6 + [{False}] * 4)
    given = sizes(65, 45)
    found = batches(epoch(AspectRatioSampler(given, 10, seed=0), 3), 10)
    assert [len({bool(given[i, 1] > given[i, 0]) for i in batch}) for batch in found] == [1] * 10 + [2]


def test_epoch_draws_each_image_once_and_all_images_in_time():
    drawn = AspectRatioSampler(sizes(17, 9), 4, seed=0)
    epochs = [[position for position, _ in epoch(drawn, number)] for number in range(30)]
    assert {len(positions) for positions in epochs} == {24} == {len(drawn)}
    assert all(len(set(positions)) == 24 for positions in epochs)
    assert set().union(*epochs) == set(range(26))


def test_grouped_epochs_differ_and_are_reproducible():
    def draw(seed: int, number: int):
        return tuple(epoch(AspectRatioSampler(sizes(30, 30), 10, seed), number))

    assert len({draw(seed, number) for seed in (0, 1) for number in (0, 1, 2)}) == 6
    assert draw(1, 2) == draw(1, 2)


def test_images_of_one_kind_come_as_without_grouping():
    for given in (sizes(50, 0), sizes(0, 50)):
        assert epoch(AspectRatioSampler(given, 8, seed=3), 2) == epoch(EpochSampler(50, 8, seed=3), 2)


@pytest.mark.parametrize("processes", [2, 3])
@pytest.mark.parametrize(("wide", "other"), [(30, 30), (41, 22), (60, 0), (5, 3)])
def test_processes_share_an_epoch_and_the_kind_of_each_step(wide, other, processes, as_rank):
    given, shares = sizes(wide, other), []
    for rank in range(processes):
        as_rank(rank, processes)
        drawn = AspectRatioSampler(given, 4, seed=0)
        shares.append([position for position, _ in epoch(drawn, 1)])
        assert len(drawn) == len(shares[-1])
    assert {len(share) for share in shares} == {len(given) // (4 * processes) * 4}
    together = [position for share in shares for position in share]
    assert len(set(together)) == len(together)
    steps = [[i for share in shares for i in share[at : at + 4]] for at in range(0, len(shares[0]), 4)]
    mixed = [step for step in steps if len({bool(given[i, 1] > given[i, 0]) for i in step}) > 1]
    assert len(mixed) <= 1
    assert mixed in ([], steps[-1:])


@pytest.mark.parametrize("processes", [1, 2])
@pytest.mark.parametrize("done", [0, 1, 3])
def test_a_resumed_grouped_epoch_draws_the_rest(done, processes, as_rank):
    as_rank(processes - 1, processes)
    given = sizes(40, 23)
    whole, resumed = (AspectRatioSampler(given, 4, seed=0) for _ in range(2))
    resumed.resume(epoch=2, batches_done=done)
    whole.set_epoch(2)
    assert list(resumed) == list(whole)[4 * done :]  # also before set_epoch
    assert epoch(resumed, 3) == epoch(whole, 3)


def test_fewer_images_than_a_batch_give_no_batch():
    assert epoch(AspectRatioSampler(sizes(2, 1), 4, seed=0), 0) == []


def test_weighted_sampler_draws_by_probability():
    probabilities = np.repeat([0.1 / 90, 0.9 / 10], [90, 10])
    sampler = WeightedSampler(probabilities, 10, seed=0)
    drawn = np.array([position for number in range(20) for position, _ in epoch(sampler, number)])
    assert len(drawn) == 2000
    assert (drawn >= 90).mean() == pytest.approx(0.9, abs=0.03)
    assert epoch(sampler, 3) == epoch(WeightedSampler(probabilities, 10, seed=0), 3) != epoch(sampler, 4)


def test_weighted_sampler_resumes_within_an_epoch():
    whole, resumed = (WeightedSampler(np.full(50, 0.02), 10, seed=0) for _ in range(2))
    resumed.resume(epoch=1, batches_done=2)
    assert list(resumed) == epoch(whole, 1)[20:]
