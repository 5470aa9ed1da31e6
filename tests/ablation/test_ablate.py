import shutil

import pytest

import transxnet
from tests.helpers.ablation_options import OPTIONS, read_table
from transxnet.ablation.ablate import ablate
from transxnet.cli import main
from transxnet.experiments import train_runs
from transxnet.runs.run_folder import Run
from transxnet.training.callbacks import GracefulStop
from transxnet.training.lightning_module import NonFiniteLoss
from transxnet.utils.errors import Interrupted, UserError

RUNS = ["dwconv-seed0", "dwconv-seed3", "idconv-seed0", "idconv-seed3"]


def test_folder_has_ordinary_runs_and_the_tables(whole):
    path = whole.folder.path
    assert sorted(entry.name for entry in path.iterdir() if entry.is_dir()) == RUNS
    assert {entry.name for entry in path.iterdir() if entry.is_file()} == {
        "ablation.yaml", "table.md", "table.csv", "table.json", "table.html",
    }  # fmt: skip
    for name in RUNS:
        assert Run.open(path / name).report_file.is_file()


def test_rows_get_the_same_batches_in_the_same_order(whole, batches):
    names = [whole.folder.model(variant) for variant in whole.folder.ablation.variants]
    for seed in (0, 3):
        assert batches[names[0], seed] == batches[names[1], seed]
    assert batches[names[0], 0] != batches[names[0], 3]
    configs = [Run(whole.folder.path / f"{row}-seed3").read_config().to_dict() for row in ("dwconv", "idconv")]
    assert {name for name in configs[0] if configs[0][name] != configs[1][name]} == {"model"}


@pytest.mark.long
def test_resume_gives_the_table_of_an_uninterrupted_ablation(whole, data, tmp_path, quiet, monkeypatch):
    first, started = tmp_path / "ablation", []

    def stop(self, trainer, training, batch, batch_idx):
        started.append((training.config.model, training.config.seed, batch_idx))
        if (training.config.seed, batch_idx) == (3, 0):
            self._handle(2, None)  # as Ctrl-C does

    monkeypatch.setattr(GracefulStop, "on_train_batch_start", stop)
    with pytest.raises(Interrupted, match=rf"2 of 4 runs finished.*transxnet ablate --resume {first}"):
        ablate("table7", data, out=first, console=quiet, **OPTIONS)
    monkeypatch.setattr(GracefulStop, "on_train_batch_start", lambda self, *step: started.append(step[1].config.seed))
    before, each = len(started), sum(seed == 0 for _, seed, _ in started) // 2
    assert [row["n"] for row in read_table(first)["rows"]] == [1, 1]
    assert read_table(first)["rows"][0]["metrics"]["accuracy"]["std"] is None
    ablate(resume=first, console=quiet)
    assert set(started[before:]) == {3}  # the finished runs are not trained again
    assert len(started) - before == 2 * each - 1  # the interrupted run only trains its remaining steps
    mine, theirs = read_table(first), read_table(whole.folder.path)
    assert mine["rows"] == theirs["rows"]
    assert mine["config"] == theirs["config"]


def test_added_seeds_are_trained_and_nonfinite_rows_stay_blank(whole, tmp_path, console, monkeypatch):
    path = tmp_path / "ablation"
    shutil.copytree(whole.folder.path, path)
    asked = []

    def diverge(**options):
        asked.append((options["model"], options["seed"]))
        raise NonFiniteLoss("the loss became NaN or infinite.")

    monkeypatch.setattr(train_runs, "train", diverge)
    result = ablate(resume=path, seeds=[3, 4], console=console)
    assert [seed for _, seed in asked] == [4, 4]
    assert result.folder.seeds == (0, 3, 4)
    assert any("dwconv-seed4 failed: the loss became NaN or infinite" in note for note in result.notes)
    printed = console.file.getvalue()
    assert "row 1 of 2, seed 2 of 3: DWConv, seed 3, already finished" in printed
    assert "row 2 of 2, seed 3 of 3: IDConv, seed 4" in printed
    shutil.rmtree(path / "dwconv-seed0")
    shutil.rmtree(path / "dwconv-seed3")
    blank = ablate(resume=path, console=console).rows[0]
    assert (blank.mean("accuracy"), blank.std("accuracy"), blank.parameters) == (None, None, None)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("", "no table given. Accepted: table6"),
        ("table77 --data digits", "unknown table 'table77'. Did you mean 'table7'"),
        ("table7", "no data given. Use --data"),
        ("table7 --data digits --rows idcnv", "table7 has no row 'idcnv'. Did you mean 'idconv'"),
        ("table7 --data digits --rows idconv,idconv", "row 'idconv' is given twice"),
        ("table7 --data digits --rows ffn_scale=(3,)", "has no option 'ffn_scale'. Did you mean 'ffn_scales'"),
        ("table9 --data digits --rows attn_ratio=0.3", "Nearest accepted: 1/4 or 3/8"),
        ("table6 --data digits --model transxnet_t", "transxnet_t has no option 'token_mixer'"),
        ("table7 --data digits --model transxnet_t@local_conv=dwconv", "sets local_conv twice"),
        ("table7 --data digits --model transxnet_q", "unknown model 'transxnet_q'. Did you mean"),
        ("table7 --data digits --seeds 0,x", "seeds must be distinct integers of at least 0, such as 0,1,2, got"),
        ("table7 --data digits --seeds 1,1", "seeds must be distinct integers"),
        ("table7 --data digits --seed 1", "has no option --seed. Did you mean --seeds"),
        ("table7 --data digits --epoch 1", "has no option --epoch. Did you mean --epochs"),
        ("table7 --data digits --rounds -1", "rounds must be an integer of at least 0"),
        ("--resume nowhere", "nowhere is not the folder of an ablation: ablation.yaml is missing"),
        ("table7 --resume nowhere", "accepts no others but --seeds, --rounds, --parallel and --ray. Remove table7."),
    ],
)
def test_wrong_arguments_are_errors_before_any_training(arguments, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["ablate", *arguments.split()]) == 2
    assert message in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_existing_ablation_or_files_are_not_overwritten(whole, data, tmp_path):
    with pytest.raises(UserError, match=r"already contains an ablation. Resume it with --resume"):
        transxnet.ablate("table7", data, out=whole.folder.path)
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=r"is not empty. Choose another --out"):
        transxnet.ablate("table7", data, out=tmp_path)
    with pytest.raises(UserError, match=r"does not accept seed, got 1\. Use --seeds"):
        transxnet.ablate("table7", data, seed=1)
    with pytest.raises(UserError, match=r"ablate compares validation metrics\. Use a --val-fraction greater than 0"):
        transxnet.ablate("table7", data, val_fraction=0)
    with pytest.raises(UserError, match="unknown option 'epoch'"):
        transxnet.ablate("table7", data, epoch=1)
