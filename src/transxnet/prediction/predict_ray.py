"""Classify on a Ray cluster: Ray Data distributes the chunks to actors, and restarts actors that die."""

import logging
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from transxnet.prediction.loaded_model import open_model
from transxnet.prediction.parquet_chunks import predict_chunks
from transxnet.prediction.work_folder import WorkFolder
from transxnet.utils.errors import UserError
from transxnet.utils.ray_cluster import alive_machines, ray_cluster

MAX_BLOCKS = 10_000
"""Maximum number of Ray Data blocks; with more, planning takes longer than it saves."""


def predict_on_ray(
    model: str | Path, file: str | Path | None, device: str, work: WorkFolder, workers: int
) -> Iterator[int]:
    """Classify the pending chunks; yields the number of images of each finished chunk.

    Args:
        model: as for :func:`transxnet.predict`.
        file: as for :func:`transxnet.predict`.
        device: as for :func:`transxnet.predict`; the actors use GPUs with auto and cuda.
        work: work folder on a file system that all machines share, like the model and the images.
        workers: number of data loading processes per actor.

    Raises:
        UserError: no machine of the cluster has the CPUs that an actor needs.
    """
    chunks = work.pending()
    if not chunks:
        return
    with ray_cluster():
        yield from _predict(model, file, device, work, workers, chunks)


def _predict(
    model: str | Path, file: str | Path | None, device: str, work: WorkFolder, workers: int, chunks: list[int]
) -> Iterator[int]:
    import ray.data

    logging.getLogger("ray.data").setLevel(logging.ERROR)  # below that it shows its own progress next to ours
    gpus = device.startswith(("auto", "cuda")) and ray.cluster_resources().get("GPU", 0) >= 1
    num_cpus, num_gpus = 1 + workers, 1 if gpus else 0
    data = ray.data.from_items([{"chunk": chunk} for chunk in chunks], override_num_blocks=min(len(chunks), MAX_BLOCKS))
    data.context.enable_progress_bars = data.context.print_on_execution_start = False
    if hasattr(data.context, "execution_no_progress_timeout_s"):
        data.context.execution_no_progress_timeout_s = -1  # a chunk may take a slow machine an hour
    done = data.map_batches(
        _Actor,
        batch_size=1,
        compute=ray.data.ActorPoolStrategy(min_size=1, max_size=min(len(chunks), _max_actors(num_cpus, num_gpus))),
        fn_constructor_args=(_absolute(model), None if file is None else _absolute(file), device, work, workers),
        num_cpus=num_cpus,
        num_gpus=num_gpus,
    )
    for row in done.iter_rows():
        yield int(row["images"])


class _Actor:
    """Ray actor that classifies chunks with its copy of the model. After a restart it skips finished chunks."""

    def __init__(self, model: str, file: str | None, device: str, work: WorkFolder, workers: int):
        classifier = open_model(model, file, device.partition(":")[0])  # Ray shows the actor one GPU, number 0
        if classifier.fingerprint != work.settings.weights:
            raise UserError(
                f"{model} on {os.uname().nodename} differs in weights, class names or preprocessing from the machine "
                "where the prediction was started. Copy the same model to all machines."
            )
        self.classifier, self.work, self.workers = classifier.with_options(tta=work.settings.tta), work, workers

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        chunks = [int(chunk) for chunk in batch["chunk"]]
        pending = [chunk for chunk in chunks if not self.work.chunk_file(chunk).exists()]
        for _ in predict_chunks(self.classifier, self.work, pending, self.workers):
            pass
        return {"images": [self.work.chunks[chunk][1] for chunk in chunks]}


def _max_actors(num_cpus: int, num_gpus: int) -> int:
    """Return the number of actors that fit on the CPUs and GPUs of the cluster."""
    machines, actors = alive_machines(), 0
    for machine in machines:
        by_cpu = int(machine.get("CPU", 0) // num_cpus)
        actors += min(by_cpu, int(machine.get("GPU", 0))) if num_gpus else by_cpu
    if not actors:
        most = max(int(machine.get("CPU", 0)) for machine in machines)
        raise UserError(
            f"an actor needs {num_cpus} CPUs ({num_cpus - 1} of them to decode), but no machine of the cluster has "
            f"more than {most}. Use a smaller --workers."
        )
    return actors


def _absolute(path: str | Path) -> str:
    """An absolute path for processes in other folders, or the name of a model unchanged."""
    return os.path.abspath(path) if os.path.exists(path) else str(path)
