import sys
from dataclasses import replace

import pytest

from transxnet.cli.command import Command, Options, load
from transxnet.utils.errors import UserError

HERE = '''
def scale(image: str, factor: float = 2.0, mode: str | bool = False) -> str:
    """Scale.

    Args:
        image: a file.
        factor: of the sides.
        mode: of the interpolation.
    """
    return f"{image} {factor} {mode}"


def shout(result: str) -> str:
    return result.upper()


MODES = ("nearest", "bicubic")
'''
COMMAND = Command(
    name="scale",
    synopsis="IMAGE",
    summary="larger",
    usage="IMAGE [options]",
    description="Scale an image.",
    function="here:scale",
    arguments={"image": dict(metavar="IMAGE", help="a file")},
    options=(Options(("factor",)), Options(("mode",), "interpolation")),
    option_words={"mode": "here:MODES"},
    show="here:shout",
)


@pytest.fixture(autouse=True)
def _here(monkeypatch, tmp_path):
    """Make the functions of the command importable, as the module ``here``."""
    (tmp_path / "here.py").write_text(HERE)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "here", raising=False)


def test_path_names_an_object_of_a_module():
    assert load("pathlib:Path").__name__ == "Path"


@pytest.mark.parametrize(
    ("words", "printed"),
    [
        ("a.png", "A.PNG 2.0 FALSE"),
        ("--factor 3 a.png", "A.PNG 3.0 FALSE"),
        ("--mode a.png", "A.PNG 2.0 TRUE"),
        ("a.png --mode bicubic", "A.PNG 2.0 BICUBIC"),
    ],
)
def test_function_is_called_and_its_result_is_printed(words, printed, capsys):
    COMMAND.run(words.split())
    assert capsys.readouterr().out == f"{printed}\n"


def test_function_reports_by_itself_without_show(capsys):
    replace(COMMAND, show="").run(["a.png"])
    assert capsys.readouterr().out == ""


def test_missing_argument_is_named():
    with pytest.raises(UserError, match=r"missing: IMAGE\. See: transxnet scale --help"):
        COMMAND.run([])


def test_help_has_the_options_under_their_titles():
    text = COMMAND.parser().format_help()
    assert text.startswith("usage: transxnet scale IMAGE [options]\n\nScale an image.")
    assert "--factor" in text.partition("interpolation:")[0]
    assert "--mode" in text.partition("interpolation:")[2]
