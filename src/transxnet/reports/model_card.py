"""The model card of a run: README.md with its metrics, data and use, in the format of the Hugging Face Hub."""

from collections.abc import Mapping
from typing import Any

from huggingface_hub import EvalResult, ModelCardData

from transxnet.metrics.metric_names import METRIC_NAMES, format_metric
from transxnet.runs.run_folder import Run
from transxnet.runs.task_configs import DetectConfig
from transxnet.utils.quantities import format_count
from transxnet.utils.text_files import read_json

_PIPELINES = {
    "classify": "image-classification",
    "detect": "object-detection",
    "segment": "image-segmentation",
    "pretrain": "image-feature-extraction",
}
_PRIVATE = ("logger", "workers", "device", "devices", "num_nodes", "strategy", "checkpoint", "out")
"""Options that say nothing about the model, or may contain a path."""
_OUTPUTS = {"multilabel": ("label", "labels"), "regression": ("target", "targets")}
"""Nouns of what a model predicts, if these are not classes."""


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
    validated = f"On {format_count(results['images'], 'validation image')}."
    if config.selects_by_validation:
        validated += " They selected the saved weights, so the metrics are optimistic."
    if not results["images"]:
        validated = "Not validated: all images were used for training."
    if "test" in results:
        validated += f" The {format_count(results['test']['images'], 'test image')} selected nothing."
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
                dataset_split=split,
                metric_type=metric,
                metric_value=round(value, 4),
                metric_name=METRIC_NAMES[metric].strip(),
            )
            for split, values in _sets(results).items()
            for metric, value in values.items()
        ]
        or None,
    )
    head = f" with the head {config.head}" if isinstance(config, DetectConfig) else ""
    versions = ", ".join(f"{key} {value}" for key, value in run.read_environment()["environment"].items())
    options = " ".join(config.to_arguments(exclude=_PRIVATE))
    classes = read_json(run.model_file)["class_names"]
    output = _OUTPUTS.get(config.predicted, ("class", "classes"))
    shown = ", ".join(classes[:20]) + (", ..." if len(classes) > 20 else "")
    return "\n".join(
        [
            f"---\n{front.to_yaml()}\n---",
            f"# {name}",
            f"{config.model}{head}, trained on {data} with [transxnet](https://arxiv.org/abs/2310.19380).",
            f"## Metrics\n\n{validated}\n",
            *_table(results),
            *([f"## {output[1].capitalize()}\n\n{format_count(len(classes), *output)}: {shown}"] if classes else []),
            f"## Use\n\n```python\n{_example(config.task, repo)}\n```",
            f"## Training\n\n```sh\ntransxnet {config.command} DATA {options}\n```",
            f"\nVersions: {versions}",
            "",
        ]
    ).replace("\n#", "\n\n#")


def _sets(results: Mapping[str, Any]) -> dict[str, dict[str, float]]:
    """Return the metrics of the validation images, and of the test images if there are any."""
    sets = {"validation": results, **({"test": results["test"]} if "test" in results else {})}
    return {split: {name: values[name] for name in METRIC_NAMES if name in values} for split, values in sets.items()}


def _table(results: Mapping[str, Any]) -> list[str]:
    """Return the rows of a table of metrics, with a column for each set of images."""
    sets = _sets(results)
    names = [name for name in METRIC_NAMES if any(name in values for values in sets.values())]
    cells = [[format_metric(name, of[name]) if name in of else "" for of in sets.values()] for name in names]
    head = ["| metric | " + " | ".join(sets) + " |", "|---|" + "---:|" * len(sets)]
    rows = [f"| {METRIC_NAMES[name].strip()} | {' | '.join(row)} |" for name, row in zip(names, cells, strict=True)]
    return [*head, *rows] if names else []


def _example(task: str, repo: str | None) -> str:
    use = 'features = model.embed("image.jpg")' if task == "pretrain" else 'print(model.predict("image.jpg"))'
    if task == "classify" and repo is not None:
        return f'import timm\nimport transxnet\n\nmodel = timm.create_model("hf-hub:{repo}", pretrained=True)'
    if repo is not None:
        return (
            "import transxnet\nfrom huggingface_hub import snapshot_download\n\n"
            f'model = transxnet.load(snapshot_download("{repo}"))\n{use}'
        )
    return f'import transxnet\n\nmodel = transxnet.load(".")  # this folder\n{use}'
