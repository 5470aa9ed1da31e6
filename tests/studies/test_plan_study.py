import shlex

import pytest

from tests.helpers.study_data import OPTIONS
from transxnet.cli.command_table import COMMANDS
from transxnet.studies.plan_study import open_images, plan_study


def plan(data, console, **changes):
    own = dict(folds=2, seeds=1, metric=None, test=None, resamples=100, out=None)
    rest = {name: value for name, value in OPTIONS.items() if name not in (*own, "models")}
    own = {name: changes.pop(name, value) for name, value in own.items()}
    recipe = changes.pop("recipe", None)
    return plan_study(data, ["test_resnet"], None, None, recipe, rest | changes, console, **own)[0]


def test_ranking_metric_and_positive_class_depend_on_the_classes(cells, photos, quiet):
    two, three = plan(cells, quiet), plan(photos, quiet)
    assert (two.metric, two.positive, two.positive_index) == ("auroc", "defect", 0)
    assert (three.metric, three.positive, three.positive_index) == ("accuracy", None, None)
    assert plan(cells, quiet, positive="intact", metric="mcc").positive == "intact"


def test_all_runs_have_the_positive_class_of_the_study(cells, tmp_path, quiet):
    assert {run.options["positive"] for run in plan(cells, quiet).planned_runs} == {"defect"}
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text("task: classify\npositive: intact\n")
    assert {run.options["positive"] for run in plan(cells, quiet, recipe=recipe).planned_runs} == {"intact"}


def test_seeds_count_from_the_seed(cells, quiet):
    folder = plan(cells, quiet, seeds=3, seed=5)
    assert (folder.seeds, folder.fold_seed) == ((5, 6, 7), 5)


def test_limit_is_the_number_of_images_of_the_study(cells, quiet):
    folder = plan(cells, quiet, limit=20)
    assert len(open_images(folder.config, quiet)) == 20
    assert "limit" not in folder.planned_runs[0].options


def test_folds_divide_all_images_for_arms_of_a_fraction(cells, quiet):
    folder = plan(cells, quiet, train_fraction=0.5)
    assert len(open_images(folder.config, quiet)) == len(open_images(plan(cells, quiet).config, quiet))
    assert folder.planned_runs[0].options["train_fraction"] == 0.5


def test_command_repeats_the_study(cells, quiet):
    folder = plan(cells, quiet, metric="mcc", smoothing=0.3, seed=2)
    words = shlex.split(folder.command)
    assert words[:2] == ["transxnet", "study"]
    parser = COMMANDS["study"].parser()
    given = parser.parse_words(words[2:])
    given = {name: value for name, value in given.items() if name in parser.given or name == "data"}
    again = plan_study(
        given.pop("data"), given.pop("models"), None, None, None,
        {name: value for name, value in given.items() if name not in ("folds", "seeds", "metric", "resamples")},
        quiet, folds=given["folds"], seeds=given["seeds"], metric=given["metric"], test=None,
        resamples=given["resamples"], out=None,
    )[0]  # fmt: skip
    assert again == folder


@pytest.mark.parametrize("console", [None])
def test_images_are_opened_without_a_split(whole, console):
    images = open_images(whole.folder.config, console, check_images=False)
    assert images.own_names == whole.folds.names
