import sys
from types import SimpleNamespace

import pytest

from transxnet.utils.ray_cluster import alive_machines, ray_cluster


@pytest.fixture
def fake_ray(monkeypatch):
    """A package ray that records its calls."""
    calls = []
    nodes = [{"Resources": {"CPU": 4.0}, "Alive": True}, {"Resources": {"CPU": 9.0}, "Alive": False}]
    ray = SimpleNamespace(
        is_initialized=lambda: bool(calls) and calls[-1] != "shutdown",
        init=lambda **options: calls.append(options.get("address")),
        shutdown=lambda: calls.append("shutdown"),
        nodes=lambda: nodes,
    )
    monkeypatch.setitem(sys.modules, "ray", ray)
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    monkeypatch.setenv("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")
    return calls


def test_cluster_of_the_address_is_joined_else_a_local_one(fake_ray, monkeypatch):
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    with ray_cluster(), ray_cluster():
        assert fake_ray == ["local"]  # an existing connection is used
        assert alive_machines() == [{"CPU": 4.0}]
    assert fake_ray == ["local", "shutdown"]
    monkeypatch.setenv("RAY_ADDRESS", "auto")
    with ray_cluster():
        assert fake_ray[2:] == [None]
