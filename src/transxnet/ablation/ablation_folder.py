"""The folder of an ablation: its settings, and a run folder for each row and seed."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from transxnet.ablation.paper_tables import Ablation, Variant
from transxnet.experiments.experiment_folder import ExperimentFolder, PlannedRun, is_finished
from transxnet.models.model_spec import with_options
from transxnet.runs.run_folder import Run


@dataclass(frozen=True)
class AblationFolder(ExperimentFolder):
    """The settings of an ablation, and its folder.

    Attributes:
        path: path of the folder.
        ablation: the rows, and the model that they are variants of.
        seeds: random seeds; each row is trained once per seed.
        rounds: rounds of the benchmark of speed and memory; 0 skips it.
        options: options of all runs, including ``task`` and ``data``, without ``model``, ``seed`` and ``out``.
        command: shell command that repeats this ablation.
    """

    COMMAND = "ablate"
    KIND = "an ablation"
    PLAN_FILE = "ablation.yaml"

    ablation: Ablation
    seeds: tuple[int, ...]
    rounds: int
    options: dict[str, Any]
    command: str

    def model(self, variant: Variant) -> str:
        """Return the name of a row's model, with its options."""
        return with_options(self.ablation.model, variant.options)

    def run(self, variant: Variant, seed: int) -> Run:
        """Return the run folder of a row and seed, which may not exist yet."""
        return Run(self.path / f"{variant.name}-seed{seed}")

    def finished(self, variant: Variant, seed: int) -> bool:
        """Return whether the run of a row and seed is finished."""
        return is_finished(self.run(variant, seed))

    @property
    def planned_runs(self) -> list[PlannedRun]:
        """The runs of all rows for the first seed, then for the next."""
        rows, seeds = self.ablation.variants, self.seeds
        return [
            PlannedRun(
                self.run(variant, seed),
                f"row {j} of {len(rows)}, seed {i} of {len(seeds)}: {variant.label}, seed {seed}",
                {**self.options, "model": self.model(variant), "seed": seed},
            )
            for i, seed in enumerate(seeds, 1)
            for j, variant in enumerate(rows, 1)
        ]

    @classmethod
    def from_plain(cls, path: Path, content: dict[str, Any]) -> Self:
        """Create the settings from the content of their file."""
        table = content.pop("ablation")
        rows = [Variant(**{**row, "quotes": tuple(row["quotes"])}) for row in table.pop("variants")]
        seeds = tuple(content.pop("seeds"))
        return cls(path=path, ablation=Ablation(**table, variants=tuple(rows)), seeds=seeds, **content)
