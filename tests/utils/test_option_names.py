import pytest

from transxnet.utils.option_names import SYNONYMS, as_option, nearest_option

KNOWN = ["lr", "opt", "devices", "device", "batch_size", "epochs", "img_size", "grad_checkpointing", "recipe"]


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ("--learning-rate", "--lr"),
        ("--learning_rate", "--lr"),
        ("--lerning-rate", "--lr"),
        ("--optimizer", "--opt"),
        ("--gpus", "--devices"),
        ("--gpu", "--device"),
        ("--imgsz", "--img-size"),
        ("--batch", "--batch-size"),
        ("epoch", "--epochs"),
        ("--grad_checkpoint", "--grad-checkpointing"),
        ("--config", "--recipe"),
    ],
)
def test_nearest_option_is_suggested_by_meaning_or_spelling(given, meant):
    assert nearest_option(given, KNOWN) == f" Did you mean {meant}?"


@pytest.mark.parametrize("given", ["--patience", "--zzz", "--conf", "--"])
def test_no_option_is_suggested_if_none_is_near(given):
    assert nearest_option(given, KNOWN) == ""


def test_names_become_options():
    assert as_option("batch_size") == "--batch-size"


def test_synonyms_lead_to_options_that_exist():
    from transxnet.cli.command_table import COMMANDS

    options = {action.dest for command in COMMANDS.values() for action in command.parser()._actions}
    assert {word for words in SYNONYMS.values() for word in words} <= options
    assert not SYNONYMS.keys() & options
