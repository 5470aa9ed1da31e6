"""The command ``ablate``: train variants of a model under equal conditions, and tabulate the results."""

import shlex
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from rich.console import Console

from transxnet.ablation.ablation_folder import AblationFolder
from transxnet.ablation.ablation_report import to_rich, write_tables
from transxnet.ablation.ablation_results import AblationResult, read_result
from transxnet.ablation.paper_tables import Ablation, find_table, split_rows
from transxnet.benchmark.bench import bench
from transxnet.benchmark.bench_report import FILES
from transxnet.experiments.experiment_folder import stored_data
from transxnet.experiments.train_runs import check_parallel, open_experiment, started_folder, train_runs
from transxnet.models.model_spec import parse_model_name, with_options
from transxnet.runs.config import TrainConfig
from transxnet.runs.load import load_model
from transxnet.runs.recipes import make_config
from transxnet.runs.run_folder import is_first_process
from transxnet.runs.task_configs import ClassifyConfig, DetectConfig, SegmentConfig
from transxnet.training.make_plan import check_model, check_names
from transxnet.utils.errors import UserError, check_at_least, check_resumed_alone
from transxnet.utils.progress import PLAIN
from transxnet.utils.quantities import format_count


def ablate(
    table: str | Ablation | None = None,
    data: str | Path | None = None,
    *,
    rows: str | Sequence[str] | None = None,
    seeds: str | int | Sequence[int] | None = None,
    model: str | None = None,
    out: str | Path | None = None,
    rounds: int | None = None,
    resume: str | Path | None = None,
    parallel: int | None = None,
    ray: bool = False,
    task: str | None = None,
    recipe: str | Path | None = None,
    console: Console | None = None,
    **options: Any,
) -> AblationResult:
    """Train variants of a model under equal conditions, benchmark them, and write a table of the results.

    Each row and seed is a run of :func:`~transxnet.training.train.train` in ``OUT/ROW-seedSEED``. For the same seed,
    all rows use the same images, split, order, augmentation and schedule. The table is written after each run to
    ``table.md``, ``table.csv``, ``table.json`` and ``table.html``. A row whose loss becomes non-finite stays blank,
    with a note. At the end :func:`~transxnet.benchmark.bench.bench` measures speed and memory; in a script it needs
    ``if __name__ == "__main__":``.

    Args:
        table: table6 to table10 of the paper, or your own :class:`~transxnet.ablation.paper_tables.Ablation`.
        data: data to train on, as for ``train``.
        rows: names of the table's rows to train, separated by commas; a row of your own is a model option given as
            option=value, several joined by +. By default all rows.
        seeds: integers, separated by commas; each row is trained once per seed. By default the recipe's seed, or 0.
            With ``resume``, additional seeds.
        model: model to vary; by default transxnet_t, for table6 transxnet_swin_style, regardless of the recipe.
        out: folder of the runs and the table; by default runs/ablate-TABLE-DATA-NUMBER.
        rounds: interleaved rounds to measure speed and memory, by default 9; 0 skips the benchmark. With ``resume`` it
            may be changed, to measure later on an idle machine.
        resume: folder of an ablation to resume; finished runs are kept, an interrupted run is resumed.
        parallel: number of runs to train at the same time, each in a process of its own with its share of the CPU
            threads, and its own GPU as far as there are several; by default one run after another.
        ray: train the runs on a Ray cluster: the one at RAY_ADDRESS, or else one on this machine only; ``parallel`` is
            then the number on each machine, by default one per GPU, or one.
        task: task to train for, as for ``train``.
        recipe: recipe of the runs, as for ``train``.
        console: console to print to; by default standard output.
        **options: training options, as for ``train``.

    Returns:
        The rows with their metrics, cost, speed and memory.

    Raises:
        UserError: a table, row, seed, option or the data is invalid; checked before training.
        Interrupted: stopped by the user or the system; the finished work is kept.
    """
    console = console or Console()
    check_parallel(parallel, ray)
    if resume is not None:
        named = dict(table=table, data=data, rows=rows, model=model, out=out, task=task, recipe=recipe)
        check_resumed_alone("ablation", "--seeds, --rounds, --parallel and --ray", named, options)
        folder = AblationFolder.read(resume)
        if rounds is not None:
            check_at_least(0, rounds=rounds)
            folder = replace(folder, rounds=rounds)
        if seeds is not None:
            folder = replace(folder, seeds=tuple(dict.fromkeys([*folder.seeds, *_parse_seeds(seeds)])))
    else:
        folder = started_folder(AblationFolder) or _plan(
            table, data, rows, seeds, model, out, 9 if rounds is None else rounds, task, recipe, options
        )
    with open_experiment(folder):
        return _run(folder, console, parallel, ray)


def _plan(
    table: str | Ablation | None,
    data: str | Path | None,
    rows: str | Sequence[str] | None,
    seeds: str | int | Sequence[int] | None,
    model: str | None,
    out: str | Path | None,
    rounds: int,
    task: str | None,
    recipe: str | Path | None,
    options: dict[str, Any],
) -> AblationFolder:
    """Check all arguments before the first run, and return the settings."""
    if table is None:
        raise UserError("no table given. Accepted: table6, table7, table8, table9, table10.")
    ablation = find_table(table) if isinstance(table, str) else table
    ablation = ablation.choose(split_rows(rows) if isinstance(rows, str) else rows)
    if model is not None:
        ablation = replace(ablation, model=model)
    if data is None:
        raise UserError("no data given. Use --data with a folder, or with a sample such as elpv or digits.")
    if "seed" in options:
        raise UserError(f"ablate does not accept seed, got {options['seed']}. Use --seeds.")
    check_at_least(0, rounds=rounds)
    config = make_config(data, recipe, task, **{**options, "model": ablation.model})
    if not config.val_fraction:
        raise UserError("ablate compares validation metrics. Use a --val-fraction greater than 0.")
    numbers = (config.seed,) if seeds is None else _parse_seeds(seeds)
    names = [with_options(ablation.model, variant.options) for variant in ablation.variants]
    for name in names:
        check_names(config.replace(model=name))
        check_model(name)
    path = AblationFolder.choose_path(out, f"ablate-{ablation.name}", data)
    values = config.replace(data=stored_data(data)).to_dict()
    kept = {name: value for name, value in values.items() if name not in ("model", "seed", "out")}
    command = _command(config, ablation, rows, numbers, rounds)
    return AblationFolder(path, ablation, numbers, rounds, kept, command)


def _parse_seeds(seeds: str | int | Sequence[int]) -> tuple[int, ...]:
    values = seeds.split(",") if isinstance(seeds, str) else [seeds] if isinstance(seeds, int) else seeds
    try:
        numbers = tuple(int(value) for value in values)
    except (TypeError, ValueError):
        numbers = ()
    if not numbers or min(numbers) < 0 or len(set(numbers)) < len(numbers):
        raise UserError(f"seeds must be distinct integers of at least 0, such as 0,1,2, got {seeds!r}.")
    return numbers


def _run(folder: AblationFolder, console: Console, parallel: int | None, ray: bool) -> AblationResult:
    rows, seeds, first = len(folder.ablation.variants), len(folder.seeds), is_first_process()
    console.print(f"{folder.ablation.title}: {rows} rows, {format_count(seeds, 'seed')}", **PLAIN)
    console.print(f"folder {folder.path}", **PLAIN)
    failures = train_runs(
        folder,
        console,
        lambda failures: write_tables(read_result(folder, failures)),
        parallel=parallel,
        ray=ray,
    )
    if first and folder.rounds and folder.num_finished() and not (folder.path / FILES[0]).is_file():
        _benchmark(folder)
    result = read_result(folder, failures)
    if first:
        write_tables(result)
        console.print(to_rich(result), highlight=False)
        console.print(f"\ntable       {folder.path / 'table.html'}, .md, .csv and .json", **PLAIN)
    return result


def _benchmark(folder: AblationFolder) -> None:
    """Measure speed and memory of all rows, interleaved, with the training settings."""
    variants = folder.ablation.variants
    run = next(folder.run(v, seed) for seed in folder.seeds for v in variants if folder.finished(v, seed))
    config = run.read_config()
    names: list[str] = [parse_model_name(folder.model(variant)).untagged_name for variant in variants]
    settings: dict[str, Any] = {"features": True, "batch_size": 1}
    if isinstance(config, ClassifyConfig):
        classes = len(load_model(run.path).class_names)
        names = [with_options(name, f"num_classes={classes}") for name in names]
        settings = {"img_size": config.img_size}
    elif isinstance(config, DetectConfig):
        assert config.min_size is not None
        settings["img_size"] = (config.min_size, round(1.6 * config.min_size))
    elif isinstance(config, SegmentConfig):
        settings["img_size"] = config.crop
    device: Any = "cpu" if config.device == "cpu" else "auto"
    bench(names, device=device, rounds=folder.rounds, out=folder.path, overwrite=True, **settings)


def _command(
    config: TrainConfig, ablation: Ablation, rows: str | Sequence[str] | None, seeds: Sequence[int], rounds: int
) -> str:
    """Return the shell command that repeats this ablation."""
    arguments = ["transxnet", "ablate", ablation.name, "--data", config.data, "--model", ablation.model]
    arguments += ["--seeds", ",".join(map(str, seeds))]
    if rows is not None:
        arguments += ["--rows", rows if isinstance(rows, str) else ",".join(rows)]
    if rounds != 9:
        arguments += ["--rounds", str(rounds)]
    return shlex.join([*arguments, *config.to_arguments(exclude=("model", "seed"))])
