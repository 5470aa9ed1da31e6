import csv
import json
import math
import re
import shutil

import pytest
import torch

import transxnet
from tests.helpers.class_folders import write_photos
from tests.helpers.html_page import Page
from transxnet.ablation import ablate as module
from transxnet.ablation.ablate import ablate
from transxnet.ablation.tables import TABLES, Ablation, Variant
from transxnet.cli import main
from transxnet.models.create import create_model
from transxnet.models.model_spec import with_options
from transxnet.runs.run_folder import Run
from transxnet.training.callbacks import GracefulStop
from transxnet.training.lightning_module import NonFiniteLoss, TrainingModule
from transxnet.utils.errors import Interrupted, UserError

SMALL = "depths=(1,1,1,1),embed_dims=(16,16,32,32),num_heads=(1,1,2,2)"
ALIKE = dict(
    model=f"transxnet_n@{SMALL}", rows="dwconv,idconv", seeds="0,3", rounds=0, img_size=32, batch_size=8, epochs=1,
    workers=0, accelerator="cpu", lr=3e-3,
)  # fmt: skip
RUNS = ["dwconv-seed0", "dwconv-seed3", "idconv-seed0", "idconv-seed3"]


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_photos(tmp_path_factory.mktemp("data") / "photos", 9)


@pytest.fixture(scope="module")
def batches():
    """The positions of each training batch, by the model that was trained and its seed."""
    return {}


@pytest.fixture(scope="module")
def whole(data, batches, quiet, tmp_path_factory):
    """An ablation that nothing interrupted."""
    record = TrainingModule.training_step

    def step(self, batch, batch_idx):
        drawn = (batch[2].tolist(), batch[0].sum().item())
        batches.setdefault((self.config.model, self.config.seed), []).append(drawn)
        return record(self, batch, batch_idx)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(TrainingModule, "training_step", step)
        return ablate("table7", data, out=tmp_path_factory.mktemp("ablation") / "whole", console=quiet, **ALIKE)


def table(path):
    return json.loads((path / "table.json").read_text())


def results(path, name):
    return json.loads((path / name / "results.json").read_text())


def test_the_folder_holds_ordinary_runs_and_the_table(whole):
    path = whole.folder.path
    assert sorted(entry.name for entry in path.iterdir() if entry.is_dir()) == RUNS
    assert {entry.name for entry in path.iterdir() if entry.is_file()} == {
        "ablation.yaml", "table.md", "table.csv", "table.json", "table.html",
    }  # fmt: skip
    for name in RUNS:
        assert Run.open(path / name).report_file.is_file()


def test_the_tables_agree_with_the_runs(whole):
    path = whole.folder.path
    for row in table(path)["rows"]:
        contents = [results(path, row["runs"][seed]) for seed in ("0", "3")]
        for figure, found in row["figures"].items():
            a, b = (content[figure] for content in contents)
            assert found["values"] == [a, b]
            assert found["mean"] == pytest.approx((a + b) / 2, abs=1e-12)
            assert found["std"] == pytest.approx(abs(a - b) / math.sqrt(2), abs=1e-12)  # of two, with n - 1
        model = create_model(
            with_options(f"transxnet_n@{SMALL}", f"local_conv={row['row']}"), num_classes=3, img_size=32
        )
        assert row["parameters"] == sum(p.numel() for p in model.parameters())
        assert row["images_per_second"] is None
    with (path / "table.csv").open() as file:
        lines = {line["row"]: line for line in csv.DictReader(file)}
    shown = (path / "table.md").read_text()
    for row in table(path)["rows"]:
        accuracy = row["figures"]["accuracy"]
        assert float(lines[row["row"]]["accuracy_mean"]) == accuracy["mean"]
        assert float(lines[row["row"]]["accuracy_std"]) == accuracy["std"]
        assert (lines[row["row"]]["n"], lines[row["row"]]["images_per_second"]) == ("2", "")
        cell = f"{100 * accuracy['mean']:.1f} ± {100 * accuracy['std']:.1f}%"
        assert re.search(rf"\| {row['label']} .* {re.escape(cell)} \|", shown)
    assert "standard deviation over 2 seeds, with n - 1" in shown
    assert "Within a seed all rows have the same images, order, augmentation and schedule" in shown


def test_the_page_shows_the_table_and_what_the_paper_says(whole):
    text = (whole.folder.path / "table.html").read_text()
    page = Page(text)
    assert ("href", "idconv-seed3/report.html") in page.attributes
    assert "IDConv exceeds DyConv by 0.2% top-1 accuracy" in page.text["paper"]
    assert len(page.ids) == len(set(page.ids))
    assert not re.search(r'(?:src|href)="https?:', text)


def test_rows_get_the_same_batches_in_the_same_order(whole, batches):
    names = [whole.folder.model(variant) for variant in whole.folder.ablation.variants]
    for seed in (0, 3):
        assert batches[names[0], seed] == batches[names[1], seed]
    assert batches[names[0], 0] != batches[names[0], 3]
    configs = [Run(whole.folder.path / f"{row}-seed3").read_config().to_dict() for row in ("dwconv", "idconv")]
    assert {name for name in configs[0] if configs[0][name] != configs[1][name]} == {"model"}


def test_an_interrupted_ablation_gives_the_table_of_an_uninterrupted_one(whole, data, tmp_path, quiet, monkeypatch):
    first, started = tmp_path / "ablation", []

    def stop(self, trainer, training, batch, batch_idx):
        started.append((training.config.model, training.config.seed, batch_idx))
        if (training.config.seed, batch_idx) == (3, 0):
            self._handle(2, None)  # as Ctrl-C does

    monkeypatch.setattr(GracefulStop, "on_train_batch_start", stop)
    with pytest.raises(Interrupted, match=rf"2 of 4 runs finished.*transxnet ablate --resume {first}"):
        ablate("table7", data, out=first, console=quiet, **ALIKE)
    monkeypatch.setattr(GracefulStop, "on_train_batch_start", lambda self, *step: started.append(step[1].config.seed))
    before, each = len(started), sum(seed == 0 for _, seed, _ in started) // 2
    assert [row["n"] for row in table(first)["rows"]] == [1, 1]
    assert table(first)["rows"][0]["figures"]["accuracy"]["std"] is None
    ablate(resume=first, console=quiet)
    assert set(started[before:]) == {3}  # the finished runs are not trained again
    assert len(started) - before == 2 * each - 1  # and of the interrupted one only what was left
    mine, theirs = table(first), table(whole.folder.path)
    assert mine["rows"] == theirs["rows"]
    assert mine["config"] == theirs["config"]


def test_seeds_are_added_and_a_row_whose_loss_is_no_number_stays_blank(whole, tmp_path, console, monkeypatch):
    path = tmp_path / "ablation"
    shutil.copytree(whole.folder.path, path)
    asked = []

    def diverge(data, **options):
        asked.append((options["model"], options["seed"]))
        raise NonFiniteLoss("the loss is not finite any more.")

    monkeypatch.setattr(module, "train", diverge)
    result = ablate(resume=path, seeds=[3, 4], console=console)
    assert [seed for _, seed in asked] == [4, 4]
    assert result.folder.seeds == (0, 3, 4)
    assert any("dwconv-seed4 came to no end: the loss is not finite" in note for note in result.notes)
    said = console.file.getvalue()
    assert "row 1 of 2, seed 2 of 3: DWConv, seed 3, is finished" in said
    assert "row 2 of 2, seed 3 of 3: IDConv, seed 4" in said
    shutil.rmtree(path / "dwconv-seed0")
    shutil.rmtree(path / "dwconv-seed3")
    blank = ablate(resume=path, console=console).rows[0]
    assert (blank.mean("accuracy"), blank.deviation("accuracy"), blank.parameters) == (None, None, None)


@pytest.mark.parametrize("name", ["dwconv-seed0/results.json", "bench.json"])
@pytest.mark.parametrize("text", ["{", "[]", "{}", "[" * 100_000])
def test_damaged_figures_are_said(whole, tmp_path, quiet, name, text):
    path = shutil.copytree(whole.folder.path, tmp_path / "copy")
    (path / name).write_text(text)
    with pytest.raises(UserError, match=rf"{name} is damaged, or not a \w+'s: "):
        ablate(resume=path, console=quiet)


def test_unequal_conditions_are_said(whole, tmp_path, console, monkeypatch):
    path = tmp_path / "ablation"
    shutil.copytree(whole.folder.path, path)
    run = Run(path / "idconv-seed3")
    run.write_config(run.read_config().replace(lr=1e-4))
    result = ablate(resume=path, console=console)
    assert "The conditions are not equal: the runs differ in lr." in result.notes


def test_speed_and_memory_are_measured_in_turns(whole, tmp_path, console):
    path = tmp_path / "ablation"
    shutil.copytree(whole.folder.path, path)
    result = ablate(resume=path, rounds=1, console=console)
    measured = json.loads((path / "bench.json").read_text())
    assert [model["arguments"]["local_conv"] for model in measured["models"]] == ["'dwconv'", "'idconv'"]
    for row, model in zip(result.rows, measured["models"], strict=True):
        assert row.images_per_second == pytest.approx(16e3 / model["milliseconds"][0])
        assert row.peak_memory == model["peak_memory"]
        assert row.parameters == model["facts"]["parameters"]
    assert measured["settings"]["size"] == [32, 32]
    assert any("batch 16, float32, CPU; the median of 1 round in turns" in note for note in result.notes)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("", "name the table to make"),
        ("table77 --data digits", "there is no table 'table77' to ablate. Did you mean 'table7'"),
        ("table7", "name the data to train on with --data"),
        ("table7 --data digits --rows idcnv", "table7 has no row 'idcnv'. Did you mean 'idconv'"),
        ("table7 --data digits --rows idconv,idconv", "the row 'idconv' is named twice"),
        ("table7 --data digits --rows ffn_scale=(3,)", "has no option 'ffn_scale'. Did you mean 'ffn_scales'"),
        ("table9 --data digits --rows attn_ratio=0.3", "The nearest that work: 1/4 or 3/8"),
        ("table6 --data digits --model transxnet_t", "transxnet_t has no option 'token_mixer'"),
        ("table7 --data digits --model transxnet_t@local_conv=dwconv", "sets local_conv twice"),
        ("table7 --data digits --model transxnet_q", "no model 'transxnet_q'. Did you mean"),
        ("table7 --data digits --seeds 0,x", "seeds must be different whole numbers from 0 up, such as 0,1,2, got"),
        ("table7 --data digits --seeds 1,1", "seeds must be different whole numbers"),
        ("table7 --data digits --seed 1", "has no option '--seed'"),
        ("table7 --data digits --epoch 1", "has no option '--epoch'. Did you mean '--epochs'"),
        ("table7 --data digits --rounds -1", "rounds must be a whole number of at least 0"),
        ("--resume nowhere", "nowhere is no folder of an ablation: it has no ablation.yaml"),
        ("table7 --resume nowhere", "give nothing beside it but --seeds"),
    ],
)
def test_what_is_wrong_is_said_before_anything_is_trained(words, said, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["ablate", *words.split()]) == 2
    assert said in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_a_folder_in_use_is_left_alone(whole, data, tmp_path):
    with pytest.raises(UserError, match=r"holds an ablation already. Go on with it by --resume"):
        transxnet.ablate("table7", data, out=whole.folder.path)
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=r"is not empty. Choose another --out"):
        transxnet.ablate("table7", data, out=tmp_path)
    with pytest.raises(UserError, match=r"Give --seeds"):
        transxnet.ablate("table7", data, seed=1)
    with pytest.raises(UserError, match="no option 'epoch'"):
        transxnet.ablate("table7", data, epoch=1)


@pytest.mark.parametrize("name", TABLES)
def test_the_rows_of_the_tables_can_be_made_and_differ(name):
    found = TABLES[name]
    costs = set()
    for variant in found.variants:
        with torch.device("meta"):
            model = create_model(with_options(found.model, variant.options))
        costs.add(sum(p.numel() for p in model.parameters()))
    assert len(costs) == len(found.variants)
    if found.model == "transxnet_t":
        assert 12_834_808 in costs  # the paper's own choice is one of the rows


def test_rows_of_one_s_own():
    chosen = TABLES["table9"].choose(["0.5", "attn_ratio=(0.25,0.25,0.5,0.75)+dpe=false"])
    own = chosen.variants[1]
    assert own == Variant(
        "attn_ratio=0.25,0.25,0.5,0.75-dpe=false",
        "attn_ratio=(0.25,0.25,0.5,0.75), dpe=false",
        "attn_ratio=(0.25,0.25,0.5,0.75),dpe=false",
    )
    mine = Ablation("mine", "Mine", "transxnet_n", (Variant("a", "A", "dpe=false"),))
    assert mine.choose(None) == mine
