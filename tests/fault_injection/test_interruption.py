"""Trainings killed at chosen and at random points end bitwise like an uninterrupted training."""

import random

import pytest

from tests.fault_injection.runs import KINDS, Server, Whole, differences, finish, forget
from transxnet.runs.run_folder import Run

pytestmark = pytest.mark.long

CHAINS = {
    "classify": [
        ("half", 2, "KILL"),  # config.yaml of the new run
        ("update", 2, "KILL"),  # nothing is saved yet
        ("epoch", 0, "KILL"),  # metrics.csv has a row that no checkpoint has yet
        ("validation", 0, "TERM"),
        ("moved", 0, "KILL"),  # last.ckpt was moved to previous.ckpt, the new one is not in place yet
        ("step", 2, "TERM"),
        ("half", 2, "KILL"),  # best.ckpt or last.ckpt of the second epoch
        ("flushed", 2, "KILL"),
        ("validation", 1, "KILL"),
        ("results", 0, "KILL"),
    ],
    "classify, shards": [("step", 1, "KILL"), ("validation", 0, "TERM"), ("moved", 0, "KILL"), ("step", 2, "TERM")],
    "detect": [("validation", 0, "KILL"), ("step", 1, "TERM"), ("half", 1, "KILL"), ("validation", 1, "TERM")],
    "segment": [("step", 1, "TERM"), ("moved", 0, "KILL"), ("epoch", 0, "KILL"), ("validation", 0, "TERM")],
}
"""Faults injected into one run, one after each resumption."""

PLAIN = ("classify", "detect", "segment")
STATUS = {"KILL": -9, "TERM": 130}
POINTS = ("half", "flushed", "moved", "written")


def outcome(server: Server, whole: Whole, out, tried, fault: str) -> list[str]:
    """Resume to the end and return the differences from the uninterrupted run."""
    ended = finish(server, whole, out)
    wrong = differences(Run(out), whole.run) if ended.status == 0 else [ended.output[-2000:]]
    tried(whole.kind, fault, "the same, bitwise" if not wrong else "NOT THE SAME")
    return wrong


@pytest.mark.parametrize("kind", CHAINS)
def test_repeatedly_interrupted_run_is_bitwise_the_same(server, whole, out, tried, kind):
    of = whole(kind)
    for point, number, what in CHAINS[kind]:
        trap = {"point": point, "number": number, "what": what}
        begun = (out / "config.yaml").is_file()
        ended = server.resume(out, trap=trap) if begun else server.train(of.data, out, KINDS[kind], trap=trap)
        assert ended.status == STATUS[what], (trap, ended.output[-3000:])
        if what == "TERM":
            assert "saved in" in ended.output
    assert outcome(server, of, out, tried, f"{len(CHAINS[kind])} interruptions in a row") == []


def test_run_survives_a_kill_at_a_random_time(server, whole, out, tried):
    of, dice, killed = whole("classify"), random.Random(0), 0
    for share in (0.9, 0.6, 0.4, 0.2):  # this training may be faster than the uninterrupted one
        after = of.begins + share * dice.random() * (of.seconds - of.begins)
        ended = server.train(of.data, out, KINDS[of.kind], signal="KILL", after=after)
        assert ended.status in (-9, 0)
        if ended.status == -9:
            assert outcome(server, of, out, tried, "KILL at a random time") == []
            killed += 1
        forget(out)
        if killed == 2:
            break
    assert killed


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("point", ["step", "update", "validation", "validated", "epoch", "results", *POINTS])
@pytest.mark.parametrize("what", ["KILL", "TERM"])
def test_run_survives_a_signal_at_every_point(server, whole, out, tried, kind, point, what):
    """Send a signal each time execution reaches the point, until a training ends before that.

    A case takes seconds, so every occurrence is tried only for kills of the plain trainings, else every fourth.
    """
    of, wrong, number = whole(kind), {}, 0
    every = 1 if what == "KILL" and kind in PLAIN else 4
    ended = None
    while ended is None or ended.status != 0:
        trap = {"point": point, "number": number, "what": what}
        ended = server.train(of.data, out, KINDS[kind], trap=trap)
        if ended.status == 0 and what == "KILL":
            break  # the point is not reached that often; a training asked to stop may have finished
        assert ended.status in (STATUS[what], -15, 0), ended.output[-3000:]
        if found := outcome(server, of, out, tried, f"{what} at: {point}"):
            wrong[number] = found
        forget(out)
        number += every
    assert number > 0
    assert wrong == {}


@pytest.mark.parametrize("kind", KINDS)
def test_run_survives_repeated_signals_at_random_times(server, whole, out, tried, kind):
    """Up to three kills in a row, at random times from a fixed seed."""
    of, wrong, dice, stopped = whole(kind), {}, random.Random(kind), 0
    for case in range(10):
        for _ in range(dice.randint(1, 3)):
            begun, after = (out / "config.yaml").is_file(), dice.uniform(of.begins * 0.8, of.seconds * 1.1)
            more = {"signal": dice.choice(["KILL", "KILL", "TERM"]), "after": after}
            ended = server.resume(out, **more) if begun else server.train(of.data, out, KINDS[kind], **more)
            assert ended.status in (-9, -15, 130, 0), ended.output[-3000:]
            stopped += ended.status != 0
        if found := outcome(server, of, out, tried, "KILL or TERM at random times, up to 3 in a row"):
            wrong[case] = found
        forget(out)
    assert wrong == {}
    assert stopped >= 5
