import numpy as np
import pytest

from transxnet.data import aspect_sampler, sampler
from transxnet.data.aspect_sampler import AspectRatioSampler
from transxnet.data.sampler import EpochSampler


@pytest.fixture
def as_rank(monkeypatch):
    """Pretend to be one of several processes."""

    def pretend(rank: int, processes: int) -> None:
        for module in (sampler, aspect_sampler):
            monkeypatch.setattr(module, "world", lambda: (rank, processes))

    return pretend


def sizes(wide: int, other: int) -> np.ndarray:
    """Mixed by chance; the square count with the upright."""
    rows = np.array([(3, 4)] * wide + [(4, 3), (3, 3)] * (other // 2) + [(4, 3)] * (other % 2))
    return np.random.default_rng(0).permutation(rows)


def epoch(drawn: EpochSampler, number: int) -> list[tuple[int, int]]:
    drawn.set_epoch(number)
    return list(drawn)


def batches(items: list, size: int) -> list[list[int]]:
    return [[position for position, _ in items[i : i + size]] for i in range(0, len(items), size)]


def test_batches_are_of_one_kind_but_for_the_last_ones():
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


def test_an_epoch_draws_each_image_once_and_every_image_in_time():
    drawn = AspectRatioSampler(sizes(17, 9), 4, seed=0)
    epochs = [[position for position, _ in epoch(drawn, number)] for number in range(30)]
    assert {len(positions) for positions in epochs} == {24} == {len(drawn)}
    assert all(len(set(positions)) == 24 for positions in epochs)
    assert set().union(*epochs) == set(range(26))


def test_epochs_and_runs_differ_and_come_again():
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
def test_a_resumed_epoch_draws_what_is_left_of_it(done, processes, as_rank):
    as_rank(processes - 1, processes)
    given = sizes(40, 23)
    whole, resumed = (AspectRatioSampler(given, 4, seed=0) for _ in range(2))
    resumed.resume(epoch=2, batches_done=done)
    whole.set_epoch(2)
    assert list(resumed) == list(whole)[4 * done :]  # also before it is told the epoch
    assert epoch(resumed, 3) == epoch(whole, 3)


def test_fewer_images_than_a_batch_are_none():
    assert epoch(AspectRatioSampler(sizes(2, 1), 4, seed=0), 0) == []
