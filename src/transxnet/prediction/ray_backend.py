"""Predicting on a cluster: Ray Data hands the pieces of the work to actors, and starts anew those that die."""

import logging
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from transxnet.prediction.classifier_backends import load_predictor
from transxnet.prediction.parquet_rows import predict_pieces
from transxnet.prediction.work_folder import Work
from transxnet.utils.errors import UserError

MAX_BLOCKS = 10_000
"""Ray Data plans block by block; more than this many take it longer than they bring."""


def predict_on_ray(model: str | Path, file: str | Path | None, work: Work, workers: int) -> Iterator[int]:
    """Do the pieces of the work that are not done; as they come in, the number of images in each.

    Args:
        model: as :func:`transxnet.predict` takes it.
        file: likewise.
        work: in a folder that all machines share, as they do the model and the images.
        workers: processes that decode, for each actor.

    Raises:
        UserError: no machine of the cluster has the CPUs that an actor asks for.
    """
    pieces = work.to_do()
    if not pieces:
        return
    own = not _is_connected()
    if own:
        _connect()
    import ray.data

    logging.getLogger("ray.data").setLevel(logging.ERROR)  # below that it speaks of its own progress, and ours is shown
    try:
        gpus = ray.cluster_resources().get("GPU", 0) >= 1
        num_cpus, num_gpus = 1 + workers, 1 if gpus else 0
        data = ray.data.from_items(
            [{"piece": piece} for piece in pieces], override_num_blocks=min(len(pieces), MAX_BLOCKS)
        )
        data.context.enable_progress_bars = data.context.print_on_execution_start = False
        if hasattr(data.context, "execution_no_progress_timeout_s"):
            data.context.execution_no_progress_timeout_s = -1  # a piece may take a slow machine an hour
        done = data.map_batches(
            _Actor,
            batch_size=1,
            compute=ray.data.ActorPoolStrategy(min_size=1, max_size=min(len(pieces), _room(num_cpus, num_gpus))),
            fn_constructor_args=(_everywhere(model), None if file is None else _everywhere(file), work, workers),
            num_cpus=num_cpus,
            num_gpus=num_gpus,
        )
        for row in done.iter_rows():
            yield int(row["images"])
    finally:
        if own:
            ray.shutdown()


class _Actor:
    """A process with the model that does pieces. One that is started anew finds what was done before it."""

    def __init__(self, model: str, file: str | None, work: Work, workers: int):
        self.predictor = load_predictor(model, file)
        if self.predictor.fingerprint != work.job.weights:
            raise UserError(
                f"{model} on {os.uname().nodename} has other weights than where the prediction was started, or other "
                "class names or preprocessing."
            )
        self.work, self.workers = work, workers

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        pieces = [int(piece) for piece in batch["piece"]]
        left = [piece for piece in pieces if not self.work.piece_file(piece).exists()]
        for _ in predict_pieces(self.predictor, self.work, left, self.workers):
            pass
        return {"images": [self.work.pieces[piece][1] for piece in pieces]}


def _is_connected() -> bool:
    return "ray" in sys.modules and sys.modules["ray"].is_initialized()


def _connect() -> None:
    """Join the cluster that RAY_ADDRESS names, or else start one of this machine alone that listens on loopback."""
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


def _room(num_cpus: int, num_gpus: int) -> int:
    """How many actors the cluster has room for."""
    import ray

    machines = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    room = 0
    for machine in machines:
        by_cpu = int(machine.get("CPU", 0) // num_cpus)
        room += min(by_cpu, int(machine.get("GPU", 0))) if num_gpus else by_cpu
    if not room:
        most = max(int(machine.get("CPU", 0)) for machine in machines)
        raise UserError(
            f"an actor asks for {num_cpus} CPUs ({num_cpus - 1} of them to decode), and no machine of the cluster has "
            f"more than {most}. Give a smaller --workers."
        )
    return room


def _everywhere(path: str | Path) -> str:
    """A path as processes in other folders find it, or the name of a model as it is."""
    return os.path.abspath(path) if os.path.exists(path) else str(path)
