"""What a finished training leaves: its weights, figures, predictions and report."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rich.console import Console
from torch import Tensor

from transxnet.analysis.cost import Cost, count
from transxnet.data.image_set import ImageSet
from transxnet.data.images import UnreadableImage
from transxnet.data.sources import Source
from transxnet.files import write_whole
from transxnet.models.checkpoints import read_checkpoint
from transxnet.report import Report, write_report
from transxnet.tasks.callbacks import EpochLog
from transxnet.tasks.classify import Classifier
from transxnet.tasks.config import TrainConfig
from transxnet.tasks.evaluation import Evaluation, write_evaluation
from transxnet.tasks.inference import evaluate_model
from transxnet.tasks.progress import progress_bar
from transxnet.tasks.run import Run, load_trained
from transxnet.tasks.weights import kept_weights


def chosen_weights(run: Run, classifier: Classifier) -> dict[str, Tensor]:
    """The weights of the best or the last epoch, averaged where an average was kept."""
    if classifier.config.select == "last":
        return classifier.best_weights.state_dict()
    return kept_weights(read_checkpoint(run.best_checkpoint)["state_dict"])


def write_results(run: Run, config: TrainConfig, source: Source, log: EpochLog, console: Console) -> None:
    """Evaluate what was kept, store the figures and write the report."""
    trained = load_trained(run.path)
    assert config.batch_size is not None and config.workers is not None
    with progress_bar(console, "evaluating", len(source.val)) as advance:
        evaluation = evaluate_model(
            trained.model,
            source.val,
            trained.preprocessing.transform(),
            config.batch_size,
            config.workers,
            None,
            advance,
        )
    figures = evaluation.metrics()
    write_whole(
        run.results_file, json.dumps({"images": len(evaluation.labels), "select": config.select, **figures}, indent=2)
    )
    write_evaluation(run.predictions_file, evaluation)
    size = trained.preprocessing.img_size
    cost = count(trained.model.cpu(), size, size)
    write_report(_report(run, config, source, log, evaluation, cost), run.report_file)
    show_figures(console, figures, len(evaluation.labels))
    console.print(
        f"run folder  {run.path}\nreport      {run.report_file}", highlight=False, markup=False, soft_wrap=True
    )


def _report(run: Run, config: TrainConfig, source: Source, log: EpochLog, evaluation: Evaluation, cost: Cost) -> Report:
    stored = run.read_environment()
    assert config.img_size is not None
    return Report(
        title=f"{config.model} on {Path(config.data).name}",
        command=stored["command"],
        config=config.to_dict(),
        environment=stored["environment"],
        choices=stored["choices"],
        history=log.rows,
        evaluation=evaluation,
        image=_picture_by_order(source.val),
        model={
            "Model": config.model,
            "Parameters": f"{cost.parameters / 1e6:.2f} M",
            "Multiply-adds": f"{cost.multiply_adds / 1e9:.2f} G at {config.img_size}x{config.img_size}",
            "Training images": f"{len(source.train):,}",
            "Held-out images": f"{len(source.val):,}",
            "Weights kept": f"{config.select} epoch" + (", averaged" if config.ema_decay else ""),
        },
    )


def _picture_by_order(images: Any) -> Callable[[int], Any]:
    def picture(index: int) -> Any:
        if not isinstance(images, ImageSet):
            raise OSError("a stream does not keep its images")
        try:
            return images.picture(index)
        except UnreadableImage as error:
            raise OSError(str(error)) from error

    return picture


def show_figures(console: Console, figures: dict[str, float], images: int) -> None:
    """Print an evaluation's figures."""
    names = {
        "accuracy": "accuracy",
        "majority": "  always the commonest class",
        "balanced_accuracy": "balanced accuracy",
        "f1": "F1, mean of the classes",
        "top5_accuracy": "top-5 accuracy",
        "weighted_accuracy": "accuracy, weighted by the labels' certainty",
    }
    console.print(f"\non {images:,} images", highlight=False, soft_wrap=True)
    for name, text in names.items():
        if name in figures:
            console.print(f"  {text:<46}{figures[name]:>7.2%}", highlight=False, soft_wrap=True)
