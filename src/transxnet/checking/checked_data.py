"""Open the images that ``check`` looks at, in the sets of a training."""

from typing import NamedTuple

from rich.console import Console

from transxnet.checking.all_images import AllImages
from transxnet.checking.check_findings import DataFinding, Kind
from transxnet.checking.model_errors import is_run_of
from transxnet.data.datasets.image_collection import ImageCollection
from transxnet.data.formats.exclusions import read_exclusions
from transxnet.data.formats.parts import Parts
from transxnet.data.open_data import DataSource, open_data
from transxnet.runs.run_folder import Run
from transxnet.runs.trained_models import TrainedClassifier
from transxnet.runs.training_data import check_progress, open_run_data, run_config
from transxnet.utils.errors import UserError


class CheckedData(NamedTuple):
    """Images in the sets of a training.

    Attributes:
        source: the opened data.
        images: all images, also those that the run of the model excluded.
        excluded: those as findings.
        split_options: the options by which ``transxnet train`` makes the same split.
    """

    source: DataSource
    images: AllImages
    excluded: list[DataFinding]
    split_options: tuple[str, ...]


def open_checked_data(
    data: str,
    task: str | None,
    trained: TrainedClassifier | None,
    channels: int | None,
    val_fraction: float | None,
    seed: int | None,
    console: Console,
) -> CheckedData:
    """Open DATA with the split of the model, if it is a run on this data, else with that of a training.

    Raises:
        UserError: the data cannot be opened, is read as a stream, or a split is requested beside that of the model.
    """
    if trained is not None and trained.run is not None and is_run_of(trained, data):
        for name, value in (("--val-fraction", val_fraction), ("--seed", seed)):
            if value is not None:
                raise UserError(f"{trained.name} has a split already, got {name} {value:g}. Remove {name} or --model.")
        return _of_run(trained.run, data, console)
    source = open_data(
        data,
        task,
        val_fraction=0.2 if val_fraction is None else val_fraction,
        seed=seed or 0,
        channels=channels,
        check_images=False,
        progress=check_progress(console),
    )
    options: list[str] = []
    if source.split_made:
        given = {"--val-fraction": val_fraction, "--seed": seed}
        options = [word for name, value in given.items() if value is not None for word in (name, f"{value:g}")]
        source.notes.append("the data has no validation set: split as by transxnet train with equal options")
    images = _all_images(source, Parts(source.train, source.val, source.test))
    return CheckedData(source, images, [], tuple(options))


def _of_run(run: Run, data: str, console: Console) -> CheckedData:
    config = run_config(run, data)
    source = open_run_data(config, console, run.stored_split, check_images=False)
    images = _all_images(source, source.undrawn or Parts(source.train, source.val, source.test))
    options = ("--split-file", str(run.split_file)) if source.split_made else ()
    if source.split_made:
        source.notes.append(f"the data has no validation set: split as by {run.path}")
    excluded = []
    if config.exclude is not None:
        exclusions = read_exclusions(config.exclude)
        for first, (part, own) in zip(images.first.tolist(), images.sets.items(), strict=False):
            excluded += [
                DataFinding(Kind.EXCLUDED, (first + i,), "", (first + i,))
                for i, name in enumerate(own.own_names)
                if exclusions.has(name, part)
            ]
    return CheckedData(source, images, excluded, options)


def _all_images(source: DataSource, parts: Parts) -> AllImages:
    if not all(part is None or isinstance(part, ImageCollection) for part in parts):
        raise UserError(
            f"{source.recognition.data} is read as a stream, which cannot be checked. Accepted: images in files, or a "
            "sample."
        )
    return AllImages({name: part for name, part in parts._asdict().items() if part is not None and len(part)})
