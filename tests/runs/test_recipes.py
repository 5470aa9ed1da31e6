import pytest

from transxnet.runs.recipes import make_config, read_recipe, recipe_names
from transxnet.utils.errors import UserError


def test_given_options_override_the_recipe(tmp_path):
    recipe = tmp_path / "mine.yaml"
    recipe.write_text("lr: 1e-3\nepochs: 7\npretrained: true\n")
    config = make_config("photos", recipe, epochs=9)
    assert (config.lr, config.epochs, config.pretrained) == (1e-3, 9, True)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("epochs: ten\n", "mine.yaml: epochs must be an integer, got 'ten'"),
        ("epoch: 10\n", "mine.yaml: unknown option 'epoch'.*--epochs"),
        ("- 1\n- 2\n", "must contain lines of the form 'option: value', got a list"),
        ("a: b: c\n", "is not a YAML file of options"),
        ("5: 3\n", "unknown option 5"),
    ],
)
def test_bad_recipe_error_names_the_file(tmp_path, content, message):
    recipe = tmp_path / "mine.yaml"
    recipe.write_text(content)
    with pytest.raises(UserError, match=message):
        read_recipe(recipe)


def test_unknown_recipe_error_suggests_the_nearest():
    with pytest.raises(UserError, match=r"unknown recipe 'demmo'. Did you mean 'demo'"):
        read_recipe("demmo")


@pytest.mark.parametrize("name", recipe_names())
def test_packaged_recipes_hold_valid_options(name):
    assert make_config("photos", name).to_dict().items() >= read_recipe(name).values.items()


def test_recipe_that_was_read_is_not_read_again(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("epochs: 7\nhead: maskrcnn\n")
    recipe = read_recipe(path)
    path.unlink()
    config = make_config("photos", recipe, lr=1e-3)
    assert (config.task, config.epochs, config.lr) == ("detect", 7, 1e-3)
    with pytest.raises(UserError, match=r"mine\.yaml is for task 'detect', got task 'segment'"):
        make_config("photos", recipe, task="segment")
