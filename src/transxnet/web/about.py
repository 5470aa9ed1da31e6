"""What the page says of its model before any picture came."""

from pathlib import Path

from transxnet.data.formats.class_alignment import in_words
from transxnet.metrics.metric_names import METRIC_NAMES
from transxnet.reports.formatting import percent
from transxnet.runs.load import TrainedDetector, TrainedModel, TrainedSegmenter
from transxnet.utils.errors import UserError
from transxnet.utils.text_files import read_json

NAMED = 8
"""More classes than these are counted, not named."""

_MAIN_FIGURES = ("accuracy", "ap", "miou")


def title(trained: TrainedModel) -> str:
    """Model and data of a run, or a published model's name."""
    if trained.run is None:
        return trained.name
    config = trained.run.read_config()
    return f"{config.model} on {Path(config.data).name}"


def subtitle(trained: TrainedModel) -> str:
    """What it tells apart and, of a run, how well."""
    kind = "Detector" if isinstance(trained, TrainedDetector) else "Classifier"
    kind = "Segmenter" if isinstance(trained, TrainedSegmenter) else kind
    names = [in_words(name) for name in trained.class_names]
    listed = f": {', '.join(names)}" if len(names) <= NAMED else ""
    return f"{kind} of {len(names):,} class{'' if len(names) == 1 else 'es'}{listed}. {_quality(trained)}".strip()


def _quality(trained: TrainedModel) -> str:
    """The main figure on the held-out images, where the run has stored one."""
    if trained.run is None or not trained.run.results_file.is_file():
        return ""
    try:
        figures = read_json(trained.run.results_file)
        name = next(name for name in _MAIN_FIGURES if name in figures)
        said = METRIC_NAMES[name][:1].upper() + METRIC_NAMES[name][1:]
        return f"{said}: {percent(figures[name])} on {figures['images']:,} held-out images."
    except StopIteration:
        return ""
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{trained.run.results_file} is damaged: {error}") from error
