"""The HTML report of a training run: one self-contained page that needs neither network nor script to be read."""

import base64
import io
import json
import math
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from matplotlib import style
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator, PercentFormatter
from PIL import Image

from transxnet.tasks.evaluation import Evaluation

MATRIX_CLASSES = 25  # with more, a confusion matrix is no longer read cell by cell
CONFUSED_PAIRS = 20
MISTAKES = 12
LONG_RUN = 60  # epochs; dashes would drown in the noise of longer lines
THUMBNAIL = 192  # px

# Matplotlib draws with these stand-ins; the page's style sheet says what they look like, in light and in dark.
_COLOURS = {
    "ink": ("#010101", "currentColor"),
    "paper": ("#010102", "var(--paper)"),
    "line": ("#010103", "var(--line)"),
    "muted": ("#010104", "var(--muted)"),
    "blue": ("#010105", "var(--blue)"),
    "orange": ("#010106", "var(--orange)"),
    "green": ("#010107", "var(--green)"),
}
_DASHES = {"solid": (), "dashed": (6, 2), "dotted": (1.5, 2)}


@dataclass(frozen=True)
class Report:
    """Everything the page shows.

    Attributes:
        title: What ran on what, such as "transxnet_n on elpv".
        command: The shell command that reproduces the run.
        config: The resolved options; nested mappings are shown with dotted names.
        environment: Versions, hardware, commit; a "date" among them also stands in the header.
        choices: Sentences: what was chosen automatically and why, and what the reader should know.
        history: A row an epoch: epoch, step, lr, train_loss, val_loss, val_accuracy, val_balanced_accuracy, val_f1 and
            seconds (the epoch's duration). Any of them may be missing or NaN.
        evaluation: The classifier's answers on held-out images.
        image: Gives the picture of held-out image i; an OSError becomes a placeholder.
        model: Facts about the model, by their names.
    """

    title: str
    command: str
    config: Mapping[str, object]
    environment: Mapping[str, str]
    choices: Sequence[str]
    history: Sequence[Mapping[str, float]]
    evaluation: Evaluation
    image: Callable[[int], Image.Image]
    model: Mapping[str, str]


def render(report: Report) -> str:
    """The page as HTML; the same report always gives the same text."""
    evaluation = report.evaluation
    metrics = evaluation.metrics()
    environment = Environment(
        loader=PackageLoader("transxnet"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["percent"] = _percent
    return environment.get_template("report.html.jinja").render(
        report=report,
        date=next((value for key, value in report.environment.items() if key.lower() == "date"), None),
        images=len(evaluation.labels),
        metrics=metrics,
        tiles=_tiles(report, metrics),
        charts=_charts(report.history, metrics["majority"]),
        dashes=_DASHES,
        confusion=_confusion(evaluation),
        classes=_classes(evaluation),
        mistakes=_mistakes(report),
        wrong=int((evaluation.predictions != evaluation.labels).sum()),
        calibration=_calibration(evaluation),
        config=list(_flat(report.config)),
    )


def write_report(report: Report, path: Path) -> Path:
    """Write the page to ``path``, whole or not at all, and return the path."""
    page = render(report)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        temporary.write_text(page, encoding="utf-8")
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    return path


def _tiles(report: Report, metrics: Mapping[str, float]) -> list[tuple[str, str, list[str]]]:
    """The headline figures: (label, value, notes)."""
    labels = report.evaluation.labels
    commonest = report.evaluation.class_names[int(np.bincount(labels).argmax())]
    low, high = _wilson(metrics["accuracy"], len(labels))
    gain = 100 * (metrics["accuracy"] - metrics["majority"])
    baseline = f"{abs(gain):.1f} points {'above' if gain >= 0 else 'below'} always answering “{commonest}”"
    notes = [f"{baseline} ({_percent(metrics['majority'])})", f"95% interval {_percent(low)} to {_percent(high)}"]
    tiles = [("Accuracy", _percent(metrics["accuracy"]), notes)]
    for label, name, note in [
        ("Balanced accuracy", "balanced_accuracy", "recall, mean over classes"),
        ("F1 (macro)", "f1", "mean over classes"),
        ("Weighted accuracy", "weighted_accuracy", "each image counts as far as its label is trusted"),
        ("Top-5 accuracy", "top5_accuracy", "true class among the first five"),
    ]:
        if name in metrics:
            tiles.append((label, _percent(metrics[name]), [note]))
    seconds = _column(report.history, "seconds")
    if np.isfinite(seconds).any():
        epochs = f"{len(seconds)} epoch{'' if len(seconds) == 1 else 's'}"
        tiles.append(("Training time", _duration(np.nansum(seconds)), [epochs]))
    return tiles


@dataclass(frozen=True)
class _Line:
    """One line of a chart, and its key."""

    column: str
    label: str
    colour: str
    dash: str = "solid"


@dataclass(frozen=True)
class _Chart:
    title: str
    svg: Markup
    keys: tuple[_Line, ...]
    colour: str
    best: str


_LOSS = (_Line("val_loss", "held-out", "blue"), _Line("train_loss", "training", "orange", "dashed"))
_SCORES = (
    _Line("val_accuracy", "accuracy", "blue"),
    _Line("val_balanced_accuracy", "balanced accuracy", "orange", "dashed"),
    _Line("val_f1", "F1", "green", "dotted"),
)
_RATE = (_Line("lr", "learning rate", "blue"),)
_MAJORITY = _Line("", "commonest class", "muted", "dashed")


def _charts(history: Sequence[Mapping[str, float]], majority: float) -> list[_Chart]:
    """Loss, scores and learning rate over the epochs; what was not recorded is left out."""
    epochs = _column(history, "epoch")
    epochs = np.where(np.isfinite(epochs), epochs, np.arange(1, len(epochs) + 1))
    charts = []
    for title, lines in [("Loss", _LOSS), ("Scores on held-out images", _SCORES), ("Learning rate", _RATE)]:
        columns = {line: _column(history, line.column) for line in lines}
        columns = {line: values for line, values in columns.items() if np.isfinite(values).any()}
        if columns:
            with _look():
                charts.append(_chart(title, epochs, columns, majority if lines is _SCORES else None))
    return charts


def _chart(title: str, epochs: np.ndarray, columns: Mapping[_Line, np.ndarray], majority: float | None) -> _Chart:
    """The lines, with a ring around the best point of the first."""
    figure, axes = _axes()
    if len(epochs) > LONG_RUN:
        columns = {replace(line, dash="solid"): values for line, values in columns.items()}
    for order, (line, values) in enumerate(columns.items()):
        known = np.isfinite(values)
        (drawn,) = axes.plot(epochs[known], values[known], color=_ink(line.colour), zorder=3 - order / 10)
        drawn.set(linewidth=1.2 if len(epochs) > LONG_RUN else 1.8, marker="o" if known.sum() == 1 else "")
        if _DASHES[line.dash]:
            drawn.set_dashes(_DASHES[line.dash])
    first, values = next(iter(columns.items()))
    lowest = "loss" in first.column
    best = int(np.nanargmin(values) if lowest else np.nanargmax(values))
    (ring,) = axes.plot(epochs[best], values[best], "o", markersize=8, color=_ink("paper"), zorder=4, clip_on=False)
    ring.set(markeredgecolor=_ink(first.colour), markeredgewidth=2)
    value = f"{values[best]:.3g}" if majority is None else _percent(values[best])
    keys = tuple(columns) if len(columns) > 1 or majority is not None else ()
    if majority is not None:
        axes.axhline(majority, color=_ink("muted"), linewidth=1, dashes=_DASHES["dashed"], zorder=1)
        axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
        keys += (_MAJORITY,)
    else:
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.set_xlabel("epoch")
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True, min_n_ticks=1))
    if epochs.min() == epochs.max():
        axes.set_xlim(epochs[0] - 0.5, epochs[0] + 0.5)
    if first.column == "lr":
        axes.set_ylim(bottom=0)
    axes.yaxis.set_major_locator(MaxNLocator(5))
    which = f"lowest {first.label} loss" if lowest else f"highest {first.label}"
    note = f"{which} {value}, epoch {epochs[best]:g}"
    return _Chart(title, _svg(figure, title.split()[0].lower(), title), keys, first.colour, note)


def _calibration(evaluation: Evaluation, bins: int = 10) -> dict[str, object]:
    """How often the classifier is right (y) when it is so sure (x), in bins of equal width; Guo et al. 2017."""
    sure = evaluation.probabilities.max(axis=1).astype(np.float64)
    right = (evaluation.predictions == evaluation.labels).astype(np.float64)
    index = np.minimum((sure * bins).astype(int), bins - 1)
    counts = np.bincount(index, minlength=bins)
    used = counts > 0
    confidence = np.bincount(index, sure, bins)[used] / counts[used]
    accuracy = np.bincount(index, right, bins)[used] / counts[used]
    share = counts[used] / counts.sum()
    with _look():
        figure, axes = _axes(height=3.9)
        axes.plot([0, 1], [0, 1], color=_ink("muted"), linewidth=1, dashes=_DASHES["dashed"])
        axes.plot(confidence, accuracy, color=_ink("blue"), linewidth=1)
        axes.scatter(confidence, accuracy, 12 + 350 * share, color=_ink("blue"), edgecolor=_ink("paper"), zorder=3)
        axes.set(xlim=(0, 1.04), ylim=(-0.04, 1.04), xlabel="how sure the model was", ylabel="how often it was right")
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_formatter(PercentFormatter(1, decimals=0))
        svg = _svg(figure, "calibration", "How often the model was right against how sure it was")
    error = float((share * np.abs(accuracy - confidence)).sum())
    return {"svg": svg, "error": error, "sure": sure.mean()}


def _look() -> AbstractContextManager[None]:
    """The charts' style, apart from what the user's own matplotlib settings say."""
    ink, line = _ink("ink"), _ink("line")
    settings = {
        "svg.fonttype": "none", "svg.hashsalt": "transxnet", "font.size": 11.5, "lines.linewidth": 1.8,
        "axes.edgecolor": ink, "axes.labelcolor": ink, "text.color": ink, "xtick.color": ink, "ytick.color": ink,
        "axes.grid": True, "axes.grid.axis": "y", "grid.color": line, "axes.axisbelow": True, "ytick.major.size": 0,
        "axes.spines.top": False, "axes.spines.right": False, "axes.spines.left": False,
    }  # fmt: skip
    return style.context(["default", settings])


def _axes(height: float = 3.1) -> tuple[Figure, Axes]:
    """Axes 360 units wide, as wide as a telephone, so that their text is never much smaller than the page's."""
    figure = Figure(figsize=(5, height), layout="constrained")
    return figure, figure.add_subplot()


def _ink(name: str) -> str:
    return _COLOURS[name][0]


def _svg(figure: Figure, name: str, label: str) -> Markup:
    """The figure as an inline element whose colours are the page's and whose ids are its own."""
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", transparent=True)
    text = buffer.getvalue()
    text = re.sub(r"<metadata>.*?</metadata>", "", text[text.index("<svg") :], flags=re.DOTALL)
    view_box = re.search(r'viewBox="[^"]*"', text)
    assert view_box is not None
    text = re.sub(r"<svg[^>]*>", f'<svg {view_box[0]} role="img" aria-label="{label}">', text, count=1)
    text = re.sub(r'(\bid="|url\(#|xlink:href="#)', rf"\g<1>{name}-", text)
    for drawn, shown in _COLOURS.values():
        text = text.replace(drawn, shown)
    return Markup(text)


def _confusion(evaluation: Evaluation) -> dict[str, list]:
    """Rows of (class, cells of (count, share of the row)); or with many classes the pairs confused most often."""
    counts, names = evaluation.confusion, evaluation.class_names
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    if len(names) <= MATRIX_CLASSES:
        rows = zip(names, counts.tolist(), shares.tolist(), strict=True)
        return {"rows": [(name, list(zip(row, share, strict=True))) for name, row, share in rows], "pairs": []}
    true, said = np.nonzero(counts * ~np.eye(len(names), dtype=bool))
    order = np.lexsort((-shares[true, said], -counts[true, said]))[:CONFUSED_PAIRS]
    pairs = [(names[i], names[j], int(counts[i, j]), float(shares[i, j])) for i, j in np.c_[true, said][order]]
    return {"rows": [], "pairs": pairs}


def _classes(evaluation: Evaluation) -> list[tuple[str, float, float, float, int]]:
    """(name, precision, recall, f1, support) of each class, commonest first."""
    figures = evaluation.per_class()
    columns = [figures[name].tolist() for name in ("precision", "recall", "f1", "support")]
    return sorted(zip(evaluation.class_names, *columns, strict=True), key=lambda row: (-row[-1], row[0]))


def _mistakes(report: Report) -> list[dict[str, object]]:
    """What the cards show of the wrong answers given with the greatest certainty."""
    evaluation = report.evaluation
    labels, answers, weights = evaluation.labels, evaluation.predictions, evaluation.weights
    return [
        {
            "name": evaluation.names[i],
            "thumbnail": _thumbnail(report.image, i),
            "true": evaluation.class_names[labels[i]],
            "true_probability": float(evaluation.probabilities[i, labels[i]]),
            "said": evaluation.class_names[answers[i]],
            "said_probability": float(evaluation.probabilities[i, answers[i]]),
            "weight": 1.0 if weights is None else float(weights[i]),
        }
        for i in evaluation.worst_mistakes(MISTAKES).tolist()
    ]


def _thumbnail(image: Callable[[int], Image.Image], index: int) -> str | None:
    """The picture as a data URL, or None where it can't be read."""
    try:
        picture = image(index).convert("RGB")
    except OSError:
        return None
    picture.thumbnail((THUMBNAIL, THUMBNAIL))
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=85)
    return f"data:image/jpeg;base64,{base64.b64encode(buffer.getvalue()).decode()}"


def _flat(config: Mapping[str, object], prefix: str = "") -> Iterator[tuple[str, str]]:
    """(dotted name, value as one would type it)."""
    for key, value in config.items():
        if isinstance(value, Mapping) and value:
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", json.dumps(value) if value is None or isinstance(value, bool) else str(value)


def _column(history: Sequence[Mapping[str, float]], name: str) -> np.ndarray:
    """(epochs,) values, NaN where missing or infinite."""
    values = np.array([math.nan if row.get(name) is None else row[name] for row in history], dtype=np.float64)
    return np.where(np.isfinite(values), values, np.nan)


def _wilson(share: float, count: int, z: float = 1.96) -> tuple[float, float]:
    """95 % score interval of a share seen among ``count`` (Wilson 1927)."""
    centre = (share + z * z / (2 * count)) / (1 + z * z / count)
    half = z * math.sqrt(share * (1 - share) / count + (z / (2 * count)) ** 2) / (1 + z * z / count)
    return max(0.0, centre - half), min(1.0, centre + half)


def _percent(share: float) -> str:
    return f"{100 * share:.1f}%"


def _duration(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {rest:02d} s"
