import pytest

import transxnet
from transxnet.cli import main
from transxnet.utils.errors import UserError


def test_compare_writes_a_page_and_keeps_it(whole, tmp_path, monkeypatch, quiet, capsys):
    monkeypatch.chdir(tmp_path)
    runs = [str(whole.folder.path / name) for name in ("test_resnet-fold1-seed0", "test_vit-fold1-seed0")]
    assert main(["compare", *runs, "--resamples", "100"]) == 0
    assert "compare/compare.html" in capsys.readouterr().out
    first = (tmp_path / "compare" / "compare.html").read_bytes()
    transxnet.compare(runs, resamples=100, out="again", console=quiet)
    assert (tmp_path / "again" / "compare.html").read_bytes() == first
    with pytest.raises(UserError, match=r"already contains compare\.html"):
        transxnet.compare(runs, resamples=100, out="again", console=quiet)
    assert transxnet.compare(runs, resamples=100, out=None, console=quiet).paired is not None


def test_wrong_arguments_of_compare_are_errors(tmp_path, quiet):
    with pytest.raises(UserError, match="resamples must be an integer of at least 100, got 9"):
        transxnet.compare(["a", "b"], resamples=9, out=None, console=quiet)
    with pytest.raises(UserError, match="nowhere is not a run folder"):
        transxnet.compare(["nowhere", "b"], out=None, console=quiet)
