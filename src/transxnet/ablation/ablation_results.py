"""The results of an ablation: metrics, cost, speed and memory of each row, read from its run folders."""

import statistics
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from transxnet.ablation.ablation_folder import AblationFolder
from transxnet.ablation.paper_tables import Variant
from transxnet.benchmark.bench_report import FILES
from transxnet.experiments.experiment_folder import merge_environments, shared_options
from transxnet.metrics.metric_names import METRIC_NAMES
from transxnet.runs.load import load_model
from transxnet.runs.run_folder import Run
from transxnet.training.results import cost
from transxnet.utils.errors import UserError
from transxnet.utils.quantities import format_count
from transxnet.utils.text_files import read_json

TABLE_METRICS = {
    "classify": ("accuracy", "balanced_accuracy"),
    "detect": ("ap", "ap50"),
    "segment": ("miou", "pixel_accuracy"),
}
"""The metrics of a task in the tables; the first is the main one."""


@dataclass(frozen=True)
class RowResult:
    """The results of one row.

    Attributes:
        variant: the row.
        model: name of the model, with its options.
        runs: finished runs by seed.
        metrics: validation metrics, 0 to 1, each with one value per run in ``runs``.
        parameters: number of parameters, or None before a run is finished.
        multiply_adds: MACs of convolutions and linear layers for one image, or None.
        images_per_second: median of the rounds, or None if not measured.
        peak_memory: peak memory in bytes, or None.
    """

    variant: Variant
    model: str
    runs: dict[int, Run]
    metrics: dict[str, list[float]]
    parameters: int | None = None
    multiply_adds: int | None = None
    images_per_second: float | None = None
    peak_memory: int | None = None

    def mean(self, metric: str) -> float | None:
        """Return the mean over the seeds, or None without a finished run."""
        values = self.metrics.get(metric)
        return statistics.mean(values) if values else None

    def std(self, metric: str) -> float | None:
        """Return the standard deviation over the seeds, with n - 1 in the denominator; None for fewer than two."""
        values = self.metrics.get(metric, [])
        return statistics.stdev(values) if len(values) > 1 else None


@dataclass(frozen=True)
class AblationResult:
    """The results of an ablation so far.

    Attributes:
        folder: folder of the ablation.
        rows: one per variant, in order.
        metrics: names of the metrics in the tables; the first is the main one.
        images: size of the validation set, or None before a run is finished.
        size: input height and width in pixels for MACs, speed and memory, or None.
        notes: sentences on how the results were measured and what they can show.
        environment: versions, hardware and precision of the finished runs, with all values where they differ.
        config: options with the same value in all finished runs.
    """

    folder: AblationFolder
    rows: list[RowResult]
    metrics: tuple[str, ...]
    images: int | None
    size: tuple[int, int] | None
    notes: list[str]
    environment: dict[str, str]
    config: dict[str, Any]

    @property
    def num_finished(self) -> int:
        """Number of finished runs."""
        return sum(len(row.runs) for row in self.rows)


def read_result(folder: AblationFolder, failures: Mapping[str, str]) -> AblationResult:
    """Read the results of the finished runs and of the benchmark.

    Args:
        folder: folder of the ablation.
        failures: error messages of failed runs, by name of the run.

    Raises:
        UserError: a file is damaged.
    """
    bench = _read_bench(folder)
    rows, size, images = [], None, None
    finished: list[Run] = []
    for i, variant in enumerate(folder.ablation.variants):
        runs = {seed: folder.run(variant, seed) for seed in folder.seeds if folder.finished(variant, seed)}
        contents = [run.read_results() for run in runs.values()]
        images = contents[0]["images"] if contents and images is None else images
        metrics = {
            name: [content[name] for content in contents]
            for name in METRIC_NAMES
            if contents and all(name in content for content in contents)
        }
        row = RowResult(variant, folder.model(variant), runs, metrics)
        finished += runs.values()
        if runs:
            first = next(iter(runs.values()))
            trained = load_model(first.path)
            parameters, multiply_adds, size = cost(first.read_config(), trained.model, len(trained.class_names))
            row = replace(row, parameters=parameters, multiply_adds=multiply_adds)
        if bench and not bench["models"][i]["error"]:
            entry = bench["models"][i]
            rate = bench["settings"]["batch"] / entry["median"]["milliseconds"] * 1e3
            row = replace(row, images_per_second=rate, peak_memory=entry["peak_memory"])
        rows.append(row)
    metrics_shown = TABLE_METRICS[folder.options["task"]]
    configs = [run.read_config().to_dict() for run in finished]
    split = any(run.split_file.is_file() for run in finished)
    environment = merge_environments(finished)
    result = AblationResult(folder, rows, metrics_shown, images, size, [], environment, shared_options(configs))
    failed = [f"{name} failed: {error}" for name, error in failures.items()]
    return replace(result, notes=[*_notes(result, configs, split, bench), *failed])


def _read_bench(folder: AblationFolder) -> dict[str, Any] | None:
    """Read the benchmark of these rows, or return None; raises UserError if its file is damaged."""
    file = folder.path / FILES[0]
    if not file.is_file():
        return None
    try:
        content = read_json(file)
        return content if len(content["models"]) == len(folder.ablation.variants) else None
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise UserError(f"{file} is damaged or not part of a benchmark: {error}") from error


def _notes(
    result: AblationResult, configs: list[dict[str, Any]], split: bool, bench: dict[str, Any] | None
) -> list[str]:
    count, metric = len(result.folder.seeds), result.metrics[0]
    determined = "initial weights, order" + (", augmentation and the validation set" if split else " and augmentation")
    if count > 1:
        variation = f"± is the standard deviation over {count} seeds, with n - 1 in the denominator."
    else:
        variation = "One seed: the variation between seeds is unknown."
    notes = [f"{variation} A seed determines {determined}."]
    means = [value for row in result.rows if (value := row.mean(metric)) is not None]
    if metric == "accuracy" and means and result.images:
        mean = statistics.mean(means)
        half = 196 * (mean * (1 - mean) / result.images) ** 0.5
        notes.append(
            f"The 95% interval of an accuracy near {mean:.1%} on {result.images:,} validation images is {half:.1f} "
            "points either way: much smaller differences between rows mean little."
        )
    conditions = "Within a seed, all rows use the same images, order, augmentation and schedule."
    other = sorted({name for config in configs for name in config} - set(result.config) - {"model", "seed"})
    if other:
        conditions = f"The conditions are not equal: the runs differ in {', '.join(other)}."
    notes.append(conditions)
    if bench:
        settings = bench["settings"]
        notes.append(
            f"Speed and memory: inference, {settings['size'][0]}x{settings['size'][1]}, batch {settings['batch']}, "
            f"{settings['dtype']}, {settings['device'].upper()}; median of "
            f"{format_count(bench['rounds'], 'interleaved round')}."
        )
    return [*notes, result.folder.ablation.note] if result.folder.ablation.note else notes
