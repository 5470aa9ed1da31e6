"""Train the runs of an experiment as tasks on a Ray cluster."""

import time
from collections.abc import Generator, Mapping, Sequence

from transxnet.experiments.parallel_runs import POLL_INTERVAL, stop_processes, terminate_as_interrupt
from transxnet.experiments.training_process import TrainingJob, TrainingProcess
from transxnet.utils.ray_cluster import alive_machines, ray_cluster


def train_on_ray(jobs: Sequence[TrainingJob], parallel: int | None) -> Generator[tuple[int, str | None], None, None]:
    """Train runs on all machines of the cluster; Ray restarts the training of a machine that is lost.

    Args:
        jobs: the trainings, with paths on a file system that all machines share.
        parallel: number of trainings at the same time on each machine; by default one per GPU, or one.

    Yields:
        The number of each training that has ended, with its error message if it has failed.

    Raises:
        KeyboardInterrupt: a signal has stopped the trainings.
    """
    with ray_cluster(), terminate_as_interrupt():
        import ray

        cpu_only = all(job.options.get("device") == "cpu" for job in jobs)
        cpus, gpus = share_of_machine(alive_machines(), parallel, cpu_only)
        task = ray.remote(_train).options(num_cpus=cpus, num_gpus=gpus)
        numbers = {task.remote(job): number for number, job in enumerate(jobs)}
        try:
            while numbers:
                (done,), _ = ray.wait(list(numbers))
                number = numbers.pop(done)
                try:
                    yield number, ray.get(done)
                except ray.exceptions.RayError as error:  # such as a working directory that a machine does not have
                    yield number, str(error).strip().splitlines()[-1]
        finally:
            for each in numbers:
                ray.cancel(each)
            if numbers:
                ray.wait(list(numbers), num_returns=len(numbers))


def share_of_machine(
    machines: Sequence[Mapping[str, float]], parallel: int | None, cpu_only: bool
) -> tuple[int, float]:
    """Return the CPUs and GPUs of a training, so that this many fit on the smallest machine.

    Args:
        machines: resources of each machine; those without a GPU do not count if others have some.
        parallel: number of trainings per machine, or None for one per GPU.
        cpu_only: whether no training uses a GPU.
    """
    with_gpu = [] if cpu_only else [machine for machine in machines if machine.get("GPU", 0) >= 1]
    used = with_gpu or [machine for machine in machines if machine.get("CPU", 0) >= 1]
    gpus = min(int(machine["GPU"]) for machine in with_gpu) if with_gpu else 0
    cpus = min(int(machine["CPU"]) for machine in used)
    count = parallel or max(1, gpus)
    return max(1, cpus // count), min(1.0, gpus / count)


def _train(job: TrainingJob) -> str | None:
    """Train a run in a process of this machine, and return its error message if it has failed."""
    process = TrainingProcess(job, {})
    try:
        while process.running:  # Ray does not interrupt a call that blocks
            time.sleep(POLL_INTERVAL)
        return process.wait()
    except KeyboardInterrupt:  # the experiment was interrupted
        stop_processes([process])
        raise
