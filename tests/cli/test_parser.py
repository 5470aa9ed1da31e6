import re

import pytest
import yaml

from tests.helpers.command_line import invoke
from transxnet.cli import main
from transxnet.cli.command_table import COMMANDS
from transxnet.cli.parser import Parser, value_of
from transxnet.runs.task_configs import config_from_dict
from transxnet.utils.errors import UserError


@pytest.mark.parametrize("command", list(COMMANDS))
@pytest.mark.parametrize("width", ["80", "120"])
def test_help_describes_each_option_without_types(command, width, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", width)
    with pytest.raises(SystemExit, match="0"):
        main([command, "--help"])
    text = capsys.readouterr().out
    assert text.startswith(f"usage: transxnet {command} ")
    assert not re.search(r"type:|Union|null|<class|``|None", text)
    assert max(map(len, text.splitlines())) <= int(width)
    for option in re.findall(r"^  (--\w+.*)$", text, re.MULTILINE):
        after = text[text.index(option) + len(option.split("  ")[0]) :]
        assert re.match(r"\s+\w", after), f"{option} has no description"


@pytest.mark.parametrize(
    ("words", "name", "value"),
    [
        ("--batch-size 8", "batch_size", 8),
        ("--batch-size=8", "batch_size", 8),
        ("--batch-size auto", "batch_size", "auto"),
        ("--deterministic --lr 1", "deterministic", True),
        ("--lr 1e-3", "lr", 1e-3),
        ("--compile", "compile", True),
        ("--compile true", "compile", True),
        ("--compile=false", "compile", False),
        ("--out 5", "out", "5"),
        ("--out 1e3", "out", "1e3"),
        ("--out null", "out", None),
        ("--checkpoint a-b/c-d", "checkpoint", "a-b/c-d"),
        ("--devices 2", "devices", "2"),
        ("--devices 0,1", "devices", "0,1"),
    ],
)
def test_option_values_have_the_types_of_the_parameters(words, name, value, here, capsys):
    status, out, _ = invoke(capsys, "train", "digits", *words.split(), "--print-config")
    assert status == 0
    assert getattr(config_from_dict({"data": "", **yaml.safe_load(out)}), name) == value


def test_flag_does_not_take_the_next_argument(run, photos, here, capsys):
    assert main(["predict", "--workers", "0", "--overwrite", str(run), str(photos / "dark" / "0.png")]) == 0
    assert main(["predict", str(run), str(photos / "dark" / "0.png"), "--workers", "0", "--overwrite"]) == 0
    assert main(["predict", str(run), str(photos / "dark" / "0.png"), "--workers", "0"]) == 0
    assert (here / "predictions-2" / "predictions.csv").is_file()


def test_arguments_after_two_dashes_are_files(run, photos, here, capsys):
    (here / "--my-photo.png").write_bytes((photos / "dark" / "0.png").read_bytes())
    assert main(["predict", "--workers", "0", str(run), "--", "--my-photo.png"]) == 0
    assert "--my-photo.png" in (here / "predictions" / "predictions.csv").read_text()


def describe(size: int, name: str = "a", fast: bool = False, kind: str | None = None):
    """Describe.

    Args:
        size: in pixels.
        name: of it.
        fast: or not.
        kind: of which.
    """


def test_function_parameters_become_options():
    parser = Parser("describe", "[options]", "Describe.")
    parser.add_options(describe, ("size", "fast", "kind"), "what")
    parser.flags["kind"] = ("true", "false", "large")
    assert parser.parse_words(["--size", "3", "--fast", "--kind"]) == {"size": 3, "fast": True, "kind": "true"}
    assert parser.given == {"size", "fast", "kind"}
    assert parser.parse_words(["--size=4", "--kind", "large"]) == {"size": 4, "fast": False, "kind": "large"}
    with pytest.raises(UserError, match=r"transxnet describe has no option --naem. See: transxnet describe --help"):
        parser.parse_words(["--naem", "b"])
    assert re.search(r"what:\n +--size N +in pixels\n", parser.format_help())


@pytest.mark.parametrize(
    ("words", "value"),
    [
        ("--recipe demo", "demo"),
        ("--lr 1 --recipe=demo digits", "demo"),
        ("--recipe a --recipe b", "b"),
        ("-- --recipe demo", None),
        ("--recipe", None),
        ("--recipes demo", None),
    ],
)
def test_value_is_found_before_parsing(words, value):
    assert value_of("--recipe", words.split()) == value
