"""The connection to a Ray cluster, or to one of this machine only."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def ray_cluster() -> Iterator[None]:
    """Join the cluster of RAY_ADDRESS, or else start one on this machine; an existing connection is kept and used."""
    if "ray" in sys.modules and sys.modules["ray"].is_initialized():
        yield
        return
    _connect()
    try:
        yield
    finally:
        sys.modules["ray"].shutdown()


def alive_machines() -> list[dict[str, float]]:
    """Return the resources of each machine of the connected cluster."""
    import ray

    return [node["Resources"] for node in ray.nodes() if node["Alive"]]


def _connect() -> None:
    """Connect; a cluster on this machine listens on loopback only."""
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": "warning"}
    joins = bool(os.environ.get("RAY_ADDRESS"))
    if not joins:
        # Read when Ray is imported. The second has it listen on loopback, as it always does on Windows and macOS.
        os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
        os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"
    import ray

    if joins:
        ray.init(**quiet)
    else:
        ray.init(address="local", include_dashboard=False, **quiet)
