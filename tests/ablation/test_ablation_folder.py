from pathlib import Path

import pytest

from transxnet.ablation.ablation_folder import AblationFolder
from transxnet.ablation.paper_tables import TABLES, Ablation, Variant
from transxnet.utils.errors import UserError

MINE = Ablation("mine", "Mine", "transxnet_n", (Variant("a", "A", "dpe=false", ("Sec. IV-D: “a”",)),))


def make_folder(path: Path, ablation: Ablation = MINE) -> AblationFolder:
    return AblationFolder(path, ablation, (0, 3), 9, {"task": "classify", "data": "digits", "lr": 1e-3}, "a command")


@pytest.mark.parametrize("ablation", [MINE, *TABLES.values()], ids=lambda ablation: ablation.name)
def test_settings_are_read_as_they_were_written(tmp_path, ablation):
    folder = make_folder(tmp_path, ablation)
    folder.write()
    assert AblationFolder.read(tmp_path) == folder


def test_runs_are_finished_once_they_have_a_report(tmp_path):
    folder = make_folder(tmp_path)
    (variant,) = folder.ablation.variants
    assert folder.model(variant) == "transxnet_n@dpe=false"
    assert (folder.num_runs, folder.num_finished()) == (2, 0)
    assert folder.run(variant, 3).path == tmp_path / "a-seed3"
    (tmp_path / "a-seed3").mkdir()
    assert not folder.finished(variant, 3)
    (tmp_path / "a-seed3" / "report.html").touch()
    assert folder.finished(variant, 3) and not folder.finished(variant, 0)
    assert folder.num_finished() == 1


@pytest.mark.parametrize("text", ["", "[]", "seeds: 0", "ablation: 1\nseeds: [0]"])
def test_damaged_settings_are_an_error(tmp_path, text):
    with pytest.raises(UserError, match=r"is not the folder of an ablation: ablation\.yaml is missing"):
        AblationFolder.read(tmp_path)
    (tmp_path / AblationFolder.PLAN_FILE).write_text(text)
    with pytest.raises(UserError, match=r"ablation\.yaml is damaged or not part of an ablation"):
        AblationFolder.read(tmp_path)
