"""The folder of an ablation: what is to be trained alike, in run folders of its own, and what has come of it."""

import json
import statistics
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import yaml

from transxnet.ablation.tables import Ablation, Variant
from transxnet.benchmark.bench_report import FILES
from transxnet.models.model_spec import with_options
from transxnet.runs.load import load_model
from transxnet.runs.run_folder import Run
from transxnet.training.results import cost
from transxnet.utils.errors import UserError
from transxnet.utils.files import safe_file_name, write_atomic
from transxnet.utils.text_files import read_json, read_yaml

PLAN_FILE = "ablation.yaml"
SHOWN = {
    "classify": ("accuracy", "balanced_accuracy"),
    "detect": ("ap", "ap50"),
    "segment": ("miou", "pixel_accuracy"),
}
"""The figures of a task that tables show, the one to compare by first."""


@dataclass(frozen=True)
class AblationFolder:
    """What an ablation is to train, and where.

    Attributes:
        path: of the folder.
        ablation: the rows and the model that they are variants of.
        seeds: one training of each row for each.
        rounds: how often each row's turn comes when speed and memory are measured; 0 leaves that out.
        options: of all trainings, ``task`` and ``data`` among them, without ``model``, ``seed`` and ``out``.
        command: the shell command that makes this ablation again.
    """

    path: Path
    ablation: Ablation
    seeds: tuple[int, ...]
    rounds: int
    options: dict[str, Any]
    command: str

    def model(self, variant: Variant) -> str:
        """The name of a row's model, with its options."""
        return with_options(self.ablation.model, variant.options)

    def run(self, variant: Variant, seed: int) -> Run:
        """The run folder of a row and seed, there or not."""
        return Run(self.path / f"{variant.name}-seed{seed}")

    def finished(self, variant: Variant, seed: int) -> bool:
        """Whether a row and seed was trained to its end; the report is what a training writes last."""
        return self.run(variant, seed).report_file.is_file()

    def write(self) -> None:
        """Store what is to be trained."""
        content = {name: value for name, value in asdict(self).items() if name != "path"}
        plain = json.loads(json.dumps(content))  # tuples as lists, which YAML keeps readable
        write_atomic(self.path / PLAN_FILE, yaml.safe_dump(plain, sort_keys=False, allow_unicode=True, width=120))

    @classmethod
    def read(cls, path: str | Path) -> "AblationFolder":
        """What a folder's ablation was to train.

        Raises:
            UserError: there is none, or its file is damaged.
        """
        path = Path(path)
        file = path / PLAN_FILE
        if not file.is_file():
            raise UserError(f"{path} is no folder of an ablation: it has no {PLAN_FILE}.")
        try:
            content = read_yaml(file)
            table = content.pop("ablation")
            rows = [Variant(**{**row, "quotes": tuple(row["quotes"])}) for row in table.pop("variants")]
            seeds = tuple(content.pop("seeds"))
            for name in (f"{row.name}-seed{seed}" for row in rows for seed in seeds):
                if safe_file_name(name) != name:  # it is where the row's runs are written
                    raise ValueError(f"{name!r} is no name of a run folder in it")
            return cls(path=path, ablation=Ablation(**table, variants=tuple(rows)), seeds=seeds, **content)
        except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
            raise UserError(f"{file} is damaged, or not an ablation's: {error}") from error


@dataclass(frozen=True)
class RowResult:
    """What has come of one row.

    Attributes:
        variant: the row.
        model: name of the model, with its options.
        runs: its finished runs by seed.
        figures: of the held-out images, between 0 and 1, each with a value for each of ``runs``.
        parameters: of the model, or None before its first run is finished.
        multiply_adds: of convolutions and linear layers for one image, or None.
        images_per_second: median of the rounds, or None where it was not measured.
        peak_memory: bytes, or None.
    """

    variant: Variant
    model: str
    runs: dict[int, Run]
    figures: dict[str, list[float]]
    parameters: int | None = None
    multiply_adds: int | None = None
    images_per_second: float | None = None
    peak_memory: int | None = None

    def mean(self, figure: str) -> float | None:
        """Of the seeds, or None without one."""
        values = self.figures.get(figure)
        return statistics.mean(values) if values else None

    def deviation(self, figure: str) -> float | None:
        """The seeds' standard deviation, with n - 1 in the denominator; None for fewer than two."""
        values = self.figures.get(figure, [])
        return statistics.stdev(values) if len(values) > 1 else None


@dataclass(frozen=True)
class AblationResult:
    """What has come of an ablation so far.

    Attributes:
        folder: what was to be trained, and where it lies.
        rows: one for each variant, in order.
        figures: names of the figures that tables show, the one to compare by first.
        images: held-out images that the figures are of, or None before the first run is finished.
        size: height and width in pixels that multiply-adds, speed and memory are for, or None.
        notes: sentences on how the figures came about and what they can show.
        environment: versions and hardware of the first finished run.
        config: the options that all finished runs share.
    """

    folder: AblationFolder
    rows: list[RowResult]
    figures: tuple[str, ...]
    images: int | None
    size: tuple[int, int] | None
    notes: list[str]
    environment: dict[str, str]
    config: dict[str, Any]

    @property
    def finished(self) -> int:
        """Runs that were trained to their end."""
        return sum(len(row.runs) for row in self.rows)


def read_result(folder: AblationFolder, failures: Mapping[str, str]) -> AblationResult:
    """Put together what the finished runs and the benchmark in a folder say.

    Args:
        folder: of the ablation.
        failures: what went wrong with a run, by the run's name.

    Raises:
        UserError: one of their files is damaged.
    """
    bench = _read_bench(folder)
    rows, size, images = [], None, None
    configs: list[dict[str, Any]] = []
    environment: dict[str, str] = {}
    split = False
    for i, variant in enumerate(folder.ablation.variants):
        runs = {seed: folder.run(variant, seed) for seed in folder.seeds if folder.finished(variant, seed)}
        contents = [run.read_results() for run in runs.values()]
        images = contents[0]["images"] if contents and images is None else images
        figures = {
            name: [content[name] for content in contents]
            for name in (contents[0] if contents else ())
            if name not in ("images", "select")
        }
        row = RowResult(variant, folder.model(variant), runs, figures)
        for run in runs.values():
            configs.append(run.read_config().to_dict())
            environment = environment or run.read_environment()["environment"]
            split |= run.split_file.is_file()
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
    result = AblationResult(
        folder,
        rows,
        SHOWN[folder.options["task"]],
        images,
        size,
        [],
        environment,
        _shared(configs),
    )
    return replace(result, notes=[*_notes(result, configs, split, bench), *_failed(failures)])


def _read_bench(folder: AblationFolder) -> dict[str, Any] | None:
    """What was measured, if it was measured of these rows; raises UserError for a file that is damaged."""
    file = folder.path / FILES[0]
    if not file.is_file():
        return None
    try:
        content = read_json(file)
        return content if len(content["models"]) == len(folder.ablation.variants) else None
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise UserError(f"{file} is damaged, or not a benchmark's: {error}") from error


def _shared(configs: list[dict[str, Any]]) -> dict[str, Any]:
    """The options that have the same value in all runs."""
    first = configs[0] if configs else {}
    return {name: value for name, value in first.items() if all(config[name] == value for config in configs)}


def _notes(
    result: AblationResult, configs: list[dict[str, Any]], split: bool, bench: dict[str, Any] | None
) -> list[str]:
    count, figure = len(result.folder.seeds), result.figures[0]
    draws = "first weights, order and augmentation" + (", and which images are held out" if split else "")
    if count > 1:
        spread = f"± is the standard deviation over {count} seeds, with n - 1 in the denominator; a seed draws {draws}."
    else:
        spread = f"One seed, so no spread between seeds is known; a seed draws {draws}."
    notes = [spread]
    means = [mean for row in result.rows if (mean := row.mean(figure)) is not None]
    if figure == "accuracy" and means and result.images:
        middle = statistics.mean(means)
        half = 196 * (middle * (1 - middle) / result.images) ** 0.5
        notes.append(
            f"Apart from that, an accuracy near {middle:.1%} on {result.images:,} held-out images is uncertain by "
            f"{half:.1f} points either way (95%): much smaller differences between rows say little."
        )
    conditions = "Within a seed all rows have the same images, order, augmentation and schedule."
    other = sorted({name for config in configs for name in config} - set(result.config) - {"model", "seed"})
    if other:
        conditions = f"The conditions are not equal: the runs differ in {', '.join(other)}."
    notes.append(conditions)
    if bench:
        settings = bench["settings"]
        notes.append(
            f"Speed and memory: inference, {settings['size'][0]}x{settings['size'][1]}, batch {settings['batch']}, "
            f"{settings['dtype']}, {settings['device'].upper()}; the median of {bench['rounds']} "
            f"round{'s' * (bench['rounds'] != 1)} in turns."
        )
    return [*notes, result.folder.ablation.note] if result.folder.ablation.note else notes


def _failed(failures: Mapping[str, str]) -> list[str]:
    return [f"{name} came to no end: {why}" for name, why in failures.items()]
