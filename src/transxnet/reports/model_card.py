"""The model card of a run: README.md with its metrics, data and use, in the format of the Hugging Face Hub."""

from collections.abc import Mapping
from typing import Any

from huggingface_hub import EvalResult, ModelCardData

from transxnet.metrics.metric_names import METRIC_NAMES, format_metric
from transxnet.runs.run_folder import Run
from transxnet.runs.task_configs import DetectConfig
from transxnet.utils.quantities import format_count
from transxnet.utils.text_files import read_json

_PIPELINES = {"classify": "image-classification", "detect": "object-detection", "segment": "image-segmentation"}
_PRIVATE = ("logger", "workers", "device", "devices", "num_nodes", "strategy", "checkpoint", "out")
"""Options that say nothing about the model, or may contain a path."""


def model_card(run: Run, repo: str | None = None) -> str:
    """Write the model card of a finished run, from the files in its folder.

    Args:
        run: the run.
        repo: repository on the Hub, as OWNER/NAME, that the example loads from; by default this folder.

    Raises:
        UserError: the run is not finished, or a file is damaged.
    """
    config, results = run.read_config(), run.results
    data = config.data.rstrip("/").rpartition("/")[2]
    figures = {name: results[name] for name in METRIC_NAMES if name in results}
    validated = f"On {format_count(results['images'], 'validation image')}."
    if results["select"] == "best":
        validated += " The saved epoch was selected on these images, so the metrics are optimistic."
    if not results["images"]:
        validated = "Not validated: all images were used for training."
    name = run.path.resolve().name
    pipeline = _PIPELINES[config.task]
    front = ModelCardData(
        library_name="timm" if config.task == "classify" else "transxnet",
        pipeline_tag=pipeline,
        tags=["transxnet", pipeline],
        model_name=name,
        eval_results=[
            EvalResult(
                task_type=pipeline,
                dataset_type="custom",
                dataset_name=data,
                dataset_split="validation",
                metric_type=metric,
                metric_value=round(value, 4),
                metric_name=METRIC_NAMES[metric].strip(),
            )
            for metric, value in figures.items()
        ]
        or None,
    )
    head = f" with the head {config.head}" if isinstance(config, DetectConfig) else ""
    options = " ".join(config.to_arguments(exclude=_PRIVATE))
    classes = read_json(run.model_file)["class_names"]
    shown = ", ".join(classes[:20]) + (", ..." if len(classes) > 20 else "")
    return "\n".join(
        [
            f"---\n{front.to_yaml()}\n---",
            f"# {name}",
            f"{config.model}{head}, trained on {data} with [transxnet](https://arxiv.org/abs/2310.19380).",
            f"## Metrics\n\n{validated}\n",
            *_table(results),
            f"## Classes\n\n{format_count(len(classes), 'class', 'classes')}: {shown}",
            f"## Use\n\n```python\n{_example(config.task, repo)}\n```",
            f"## Training\n\n```sh\ntransxnet train DATA {options}\n```",
            "Versions: " + ", ".join(f"{key} {value}" for key, value in run.read_environment()["environment"].items()),
            "",
        ]
    ).replace("\n#", "\n\n#")


def _table(results: Mapping[str, Any]) -> list[str]:
    """Return the rows of a table of metrics, with a column for the test images if there are any."""
    columns = {"validation": results, **({"test": results["test"]} if "test" in results else {})}
    names = [name for name in METRIC_NAMES if any(name in values for values in columns.values())]
    cells = [[format_metric(name, of[name]) if name in of else "" for of in columns.values()] for name in names]
    head = ["| metric | " + " | ".join(columns) + " |", "|---|" + "---|" * len(columns)]
    rows = [f"| {METRIC_NAMES[name].strip()} | {' | '.join(row)} |" for name, row in zip(names, cells, strict=True)]
    return [*head, *rows] if names else []


def _example(task: str, repo: str | None) -> str:
    if task == "classify" and repo is not None:
        return f'import timm\nimport transxnet\n\nmodel = timm.create_model("hf-hub:{repo}", pretrained=True)'
    if repo is not None:
        return (
            "import transxnet\nfrom huggingface_hub import snapshot_download\n\n"
            f'model = transxnet.load(snapshot_download("{repo}"))\nprint(model.predict("image.jpg"))'
        )
    return 'import transxnet\n\nmodel = transxnet.load(".")  # this folder\nprint(model.predict("image.jpg"))'
