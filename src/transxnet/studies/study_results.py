"""The results of a study: a row for each arm with intervals, and paired comparisons with the best arm."""

from dataclasses import dataclass
from typing import Any

from transxnet.studies.fold_results import ArmResult
from transxnet.studies.folds import Folds
from transxnet.studies.paired_comparison import ArmComparison, Estimate
from transxnet.studies.study_folder import StudyFolder


@dataclass(frozen=True)
class ExternalResult:
    """The results on further test data.

    Attributes:
        data: the data.
        images: number of images.
        groups: number of groups, or None without groups.
        rows: of each arm, by its name, the estimate of each metric, and the standard deviation over the models.
    """

    data: str
    images: int
    groups: int | None
    rows: dict[str, dict[str, tuple[Estimate, float | None]]]


@dataclass(frozen=True)
class StudyResult:
    """The results of a study.

    Attributes:
        folder: folder of the study.
        folds: its images and outer folds.
        arms: results of the finished arms.
        estimates: of each arm, the metrics of its pooled out-of-fold predictions.
        best: name of the best arm; None before an arm is finished.
        comparisons: the other arms compared with it.
        environment: versions, hardware and precision of the runs; all values where runs differ.
        config: options with the same value in all arms.
        failures: error messages of failed runs, by name of the run.
        external: results on further test data, or None.
    """

    folder: StudyFolder
    folds: Folds
    arms: list[ArmResult]
    estimates: dict[str, dict[str, Estimate]]
    best: str | None
    comparisons: list[ArmComparison]
    environment: dict[str, str]
    config: dict[str, Any]
    failures: dict[str, str]
    external: ExternalResult | None = None

    @property
    def metrics(self) -> list[str]:
        """Names of the metrics, in the order of the tables."""
        return list(next(iter(self.estimates.values())))

    def of(self, name: str) -> ArmResult:
        """Return the results of an arm."""
        return next(result for result in self.arms if result.arm.name == name)
