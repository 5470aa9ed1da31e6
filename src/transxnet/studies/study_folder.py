"""The folder of a study: its plan, the folds, and a run folder for each arm, fold and seed."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from transxnet.experiments.experiment_folder import ExperimentFolder, PlannedRun
from transxnet.runs.config import TrainConfig
from transxnet.runs.recipes import make_config
from transxnet.runs.run_folder import Run
from transxnet.studies.arms import Arm
from transxnet.studies.folds import split_path


@dataclass(frozen=True)
class StudyFolder(ExperimentFolder):
    """The plan of a study, and its folder.

    Attributes:
        path: path of the folder.
        data: training data.
        task: "classify", "detect" or "segment".
        arms: what is compared.
        folds: number of outer folds.
        seeds: random seeds; each arm is trained once per fold and seed.
        fold_seed: seed of the folds and of their validation parts.
        limit: largest number of images, evenly spaced, or None.
        class_names: names of the classes.
        positive: name of the positive class of two; None for more classes.
        metric: metric by which the arms are ranked.
        resamples: number of bootstrap resamples.
        test: further test data, or None.
        command: shell command that repeats this study.
    """

    COMMAND = "study"
    KIND = "a study"
    PLAN_FILE = "study.yaml"

    data: str
    task: str
    arms: tuple[Arm, ...]
    folds: int
    seeds: tuple[int, ...]
    fold_seed: int
    limit: int | None
    class_names: tuple[str, ...]
    positive: str | None
    metric: str
    resamples: int
    test: str | None
    command: str

    @property
    def config(self) -> TrainConfig:
        """The options of the first arm; those on the images and their labels are the same for all arms."""
        return make_config(self.data, None, self.task, seed=self.fold_seed, limit=self.limit, **self.arms[0].options)

    def run(self, arm: Arm, fold: int, seed: int) -> Run:
        """Return the run folder of an arm, fold and seed, which may not exist yet."""
        return Run(self.path / f"{arm.file_name}-fold{fold}-seed{seed}")

    def runs_of(self, arm: Arm) -> list[Run]:
        """Return the run folders of an arm, by seed and then by fold."""
        return [self.run(arm, fold, seed) for seed in self.seeds for fold in range(1, self.folds + 1)]

    @property
    def masks(self) -> bool:
        """Whether all arms are detectors that predict masks."""
        return all(arm.options.get("head") == "maskrcnn" for arm in self.arms)

    @property
    def positive_index(self) -> int | None:
        """Index of the positive class."""
        return None if self.positive is None else self.class_names.index(self.positive)

    @property
    def planned_runs(self) -> list[PlannedRun]:
        """The runs of all arms for the first seed and fold, then for the next fold, and so on."""
        return [
            PlannedRun(
                self.run(arm, fold, seed),
                f"arm {k} of {len(self.arms)}, fold {fold} of {self.folds}, seed {i} of {len(self.seeds)}: {arm.name}",
                {
                    **arm.options,
                    "data": self.data,
                    "task": self.task,
                    "seed": seed,
                    "split_file": str(split_path(self.path, fold)),
                    **({} if self.positive is None else {"positive": self.positive}),
                },
            )
            for i, seed in enumerate(self.seeds, 1)
            for fold in range(1, self.folds + 1)
            for k, arm in enumerate(self.arms, 1)
        ]

    @classmethod
    def from_plain(cls, path: Path, content: dict[str, Any]) -> Self:
        """Create the plan from the content of its file."""
        arms = tuple(Arm(**arm) for arm in content.pop("arms"))
        seeds, class_names = tuple(content.pop("seeds")), tuple(content.pop("class_names"))
        return cls(path=path, arms=arms, seeds=seeds, class_names=class_names, **content)
