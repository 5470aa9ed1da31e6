import json
import re

import pytest
import timm
import torch
from PIL import Image
from rich.console import Console
from torch import nn

import transxnet
from transxnet.benchmark.bench import Benchmark, bench
from transxnet.benchmark.bench_report import memory, show, spread
from transxnet.benchmark.interleaving import Row, Worker, get_ready, turns
from transxnet.benchmark.settings import PRESETS, Settings, parse_benchmark_model
from transxnet.benchmark.worker import Failure, Measurement, failure, make_step
from transxnet.cli import main
from transxnet.utils.errors import UserError

MINE = """
import os

from torch import nn


def tiny(features_only=False, width=8):
    stages = nn.Sequential(nn.Conv2d(3, width, 3, 2, 1), nn.GELU(), nn.Conv2d(width, width, 3, 2, 1))
    if features_only:
        return Stages(stages)
    return nn.Sequential(stages, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, 5))


class Stages(nn.Module):
    def __init__(self, stages):
        super().__init__()
        self.stages = stages

    def forward(self, x):
        return [x := stage(x) for stage in self.stages]


def broken():
    raise ValueError("no such thing\\nand more")


def forgetful():
    return Forgetful()


class Forgetful(nn.Module):
    "Runs three times: to the end of a warm-up at most."

    def __init__(self):
        super().__init__()
        self.layer, self.left = nn.Conv2d(3, 4, 1), 3

    def forward(self, x):
        if x.device.type != "meta":
            self.left -= 1
        if self.left < 0:
            raise RuntimeError("forgot how")
        return self.layer(x)


def killed():
    os.kill(os.getpid(), 9)
"""
SETTINGS = Settings(
    mode="infer",
    size=(32, 32),
    batch=2,
    dtype="float32",
    autocast=False,
    compile=None,
    channels_last=False,
    reparameterize=False,
    features=False,
    device="cpu",
)


def settings(**changes) -> Settings:
    return Settings(**{**vars(SETTINGS), **changes})


@pytest.fixture(scope="module")
def here(tmp_path_factory):
    """The current directory, with a module of the user's; one thread for the processes to come."""
    folder = tmp_path_factory.mktemp("here")
    (folder / "mine.py").write_text(MINE)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.syspath_prepend(folder)
        patch.setenv("OMP_NUM_THREADS", "1")
        yield folder


@pytest.fixture(scope="module")
def result(here) -> Benchmark:
    """Two models that work and one that stops working."""
    names = ["mine:tiny@width=4", "transxnet_n@channels_last,reparameterize,bfloat16", "mine:forgetful"]
    return bench(names, size=32, batch=2, rounds=3, seconds=1e-4, profile=True, device="cpu", output=here / "out")


@pytest.fixture
def asked(monkeypatch) -> list[Row]:
    """The rows that would be measured; nothing is."""
    rows: list[Row] = []

    def pretend(given, *others):
        rows.extend(given)
        for row in given:
            row.milliseconds = [1.0]

    monkeypatch.setattr("transxnet.benchmark.bench.measure", pretend)
    return rows


def text(result: Benchmark, width: int = 100) -> str:
    console = Console(width=width, force_terminal=False)
    with console.capture() as capture:
        console.print(show(result), highlight=False)
    return capture.get()


def test_a_benchmark_tells_speed_memory_and_cost(result):
    tiny, ours = result.rows[:2]
    assert tiny.failure is ours.failure is None
    assert tiny.facts.parameters == (27 * 4 + 4) + (36 * 4 + 4) + (4 * 5 + 5)
    assert tiny.facts.multiply_adds == 16 * 16 * 27 * 4 + 8 * 8 * 36 * 4 + 20
    for row in (tiny, ours):
        assert len(row.milliseconds) == 3
        assert row.iterations >= 1
        assert all(figure > 0 for figure in row.milliseconds)
        assert 1e8 < row.facts.idle_memory < row.peak_memory + 1e8 < 1e11
    assert result.speeds(tiny) == [1, 1, 1]
    assert result.speeds(ours) == [a / b for a, b in zip(tiny.milliseconds, ours.milliseconds, strict=True)]


def test_what_goes_wrong_with_one_model_is_its_row(result):
    forgetful = result.rows[2]
    assert forgetful.failure.reason == "RuntimeError: forgot how"
    assert "in forward" in forgetful.failure.details
    assert forgetful.facts.parameters == 16
    assert result.speeds(forgetful) == []


def test_a_profile_names_the_operators(result):
    tiny = result.rows[0].operators
    assert "aten::addmm" in {operator.name for operator in tiny}
    assert [operator.share for operator in tiny] == sorted((operator.share for operator in tiny), reverse=True)
    assert 0.5 < sum(operator.share for operator in tiny) <= 1 + 1e-9
    assert len(tiny) <= 12
    assert next(operator for operator in tiny if operator.name == "aten::addmm").calls == 1


def test_the_table_shows_every_model_in_100_columns(result):
    shown = text(result)
    assert max(map(len, shown.splitlines())) <= 100
    for words in (
        "inference, classifier, 32x32, batch 2",
        "median and range of 3 rounds",
        "bfloat16, eager, channels_last,",
        "reparameterized",
        "RuntimeError: forgot how",
        "aten::addmm",
        f"torch {result.environment['torch']}",
    ):
        assert words in shown
    assert re.search(r"mine:tiny \(width=4\) +[\d.,]+ +[\d.,]+ +1.00x +\d+ MB", shown)


def test_the_json_file_holds_every_round_and_the_environment(result, here):
    content = json.loads((here / "out" / "bench.json").read_text())
    assert content["command"].startswith("transxnet bench mine:tiny@width=4 transxnet_n@channels_last,reparameterize,")
    assert content["command"].endswith(f"--device cpu --rounds 3 --seconds 0.0001 --profile --output {here / 'out'}")
    assert content["environment"].keys() >= {"torch", "timm", "cpu", "python", "threads", "OMP_NUM_THREADS"}
    assert content["environment"]["threads"] == "1"
    assert content["settings"]["size"] == [32, 32]
    for entry, row in zip(content["models"], result.rows, strict=True):
        assert entry["milliseconds"] == row.milliseconds
        assert (entry["error"] is None) == (row.failure is None)
    ours, forgetful = content["models"][1:3]
    assert ours["settings"]["dtype"] == "bfloat16"
    assert ours["images_per_second"] == [2 / ms * 1e3 for ms in ours["milliseconds"]]
    assert ours["median"]["low"] <= ours["median"]["milliseconds"] <= ours["median"]["high"]
    assert ours["speeds"] == result.speeds(result.rows[1])
    assert content["models"][0]["operators"][0].keys() == {"name", "share", "milliseconds", "calls"}
    assert "speeds" not in forgetful
    assert forgetful["error"]["reason"] == "RuntimeError: forgot how"


def test_the_plot_is_a_picture(result, here):
    with Image.open(here / "out" / "bench.png") as picture:
        assert picture.format == "PNG"
        assert picture.mode == "RGBA"
        assert min(picture.size) > 200


def test_nothing_is_written_over_unasked(result, here):
    with pytest.raises(UserError, match=r"out holds bench.json and bench.png already. .* or --overwrite"):
        bench("mine:tiny", output=here / "out")
    with pytest.raises(UserError, match="is a file; --output names a folder"):
        bench("mine:tiny", output=here / "mine.py")


def test_the_command_measures_a_training_step_of_features(here, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "100")
    words = "bench transxnet_n@contiguous --mode train --features --size 32x64 --batch 2 --dtype bfloat16"
    assert main([*words.split(), "--channels-last", "--rounds=2", "--seconds", "1e-4", "--device=cpu"]) == 0
    out, err = capsys.readouterr()
    assert "training step, dense-prediction form, 32x64, batch 2" in out
    assert "bfloat16 autocast, eager, contiguous" in out
    assert err == ""


def test_where_no_model_works_the_command_fails(here, capsys):
    assert main(["bench", "mine:broken", "mine:killed", "--rounds", "1", "--device", "cpu"]) == 2
    out, err = capsys.readouterr()
    assert "ValueError: no such thing" in out
    assert "ended by signal 9" in re.sub(r"\s+", " ", out)
    assert err == "error: none of the models could be measured.\n"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("", "name the models to measure"),
        ("transxnet_x", "there is no model 'transxnet_x'. Did you mean 'transxnet_"),
        ("resnet18.a1_in2k", "resnet18 has no weights 'a1_in2k'"),
        ("nowhere:tiny", "the module 'nowhere' of 'nowhere:tiny' can't be imported: ModuleNotFoundError"),
        ("mine:tinny", "mine has no function 'tinny'. Did you mean 'tiny'"),
        ("mine:tiny@egaer", "'egaer' is no setting. Did you mean 'eager'"),
        ("mine:tiny@compile=fast", "compile must be a mode of torch.compile, got 'fast'"),
        ("transxnet_n --mode train --reparameterize", "the inference form can't be trained"),
        ("transxnet_n --autocast", "autocast changes nothing in float32"),
        ("transxnet_n --compile fast", "unrecognized arguments: fast."),
        ("transxnet_n --compile=fast", "compile must be a mode of torch.compile, got 'fast'"),
        (
            "transxnet_n --size big",
            "size must be a side in pixels or HEIGHTxWIDTH, such as 224 or 800x1280, got 'big'.",
        ),
        ("transxnet_n --size 0", "height must be a whole number of at least 1"),
        ("transxnet_n --batch 0", "batch must be a whole number of at least 1"),
        ("transxnet_n --rounds 0", "rounds must be a whole number of at least 1"),
        ("transxnet_n --seconds 0", "seconds must be a positive number, got 0.0."),
        ("transxnet_n --dtype float8", "dtype must be 'float32' or 'bfloat16' or 'float16', got 'float8'."),
        ("transxnet_n --mode test", "mode must be 'infer' or 'train', got 'test'."),
        ("--preset table13", "there is no preset 'table13'. Did you mean 'table12' or 'table11'"),
    ],
)
def test_a_wrong_setting_is_said_before_anything_is_measured(words, said, here, capsys):
    assert main(["bench", *words.split()]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert said in err


def test_wrong_settings_are_said_to_a_notebook_too():
    for wrong, said in [
        ({"mode": "test"}, "mode must be"),
        ({"dtype": "half"}, "dtype must be"),
        ({"device": "tpu"}, "dev"),
    ]:
        with pytest.raises(UserError, match=said):
            bench("transxnet_n", **wrong)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_missing_gpu_is_said():
    with pytest.raises(UserError, match="PyTorch finds no CUDA device here"):
        bench("transxnet_n", device="cuda")


def test_a_suffix_changes_the_settings_of_one_model():
    plain = parse_benchmark_model("transxnet_t", SETTINGS)
    assert (plain.label, plain.settings, plain.arguments) == ("transxnet_t", SETTINGS, {})
    ours = parse_benchmark_model("transxnet_t@compile,reparameterize,channels-last,bfloat16,autocast", SETTINGS)
    assert ours.settings == settings(
        compile="default", reparameterize=True, channels_last=True, dtype="bfloat16", autocast=True
    )
    assert parse_benchmark_model("transxnet_t@compile=max-autotune", SETTINGS).settings.compile == "max-autotune"
    back = parse_benchmark_model("transxnet_t@eager,original,contiguous,float32,cast", ours.settings)
    assert back.settings == SETTINGS
    kept = parse_benchmark_model("transxnet_t@drop_path_rate=0.1,token_mixer=sra,depths=(1,2,3,4),eager", SETTINGS)
    assert kept.arguments == {"drop_path_rate": 0.1, "token_mixer": "sra", "depths": (1, 2, 3, 4)}
    assert kept.label == "transxnet_t (drop_path_rate=0.1, token_mixer=sra, depths=(1, 2, 3, 4))"


@pytest.mark.parametrize(
    ("words", "modes"),
    [
        ("transxnet_n", [None]),
        ("transxnet_n --compile", ["default"]),
        ("--compile transxnet_n transxnet_t@eager", ["default", None]),
        ("--compile reduce-overhead transxnet_n", ["reduce-overhead"]),
        ("--compile=max-autotune transxnet_n", ["max-autotune"]),
        ("--compile false transxnet_n", [None]),
    ],
)
def test_compile_stands_alone_or_with_a_mode(words, modes, asked, capsys):
    assert main(["bench", *words.split(), "--device", "cpu"]) == 0
    assert [row.subject.settings.compile for row in asked] == modes


def test_every_round_begins_with_another_model():
    assert list(turns("abc", 4)) == [["a", "b", "c"], ["b", "c", "a"], ["c", "a", "b"], ["a", "b", "c"]]


class Pretender(Worker):
    """A worker without a process that writes down what it is asked for."""

    def __init__(self, name: str, log: list[str], fails: set[str], **changes):
        super().__init__(Row(parse_benchmark_model(name, settings(device="cuda", **changes))))
        self.name, self.log, self.fails = name, log, fails

    def start(self):
        self.log.append(f"{self.name} start")
        self.row.failure = self.row.facts = None

    def send(self, command, *arguments):
        self._asked = command

    def receive(self):
        if self.row.failure:
            return None
        self.log.append(f"{self.name} {self._asked}")
        if self._asked in self.fails:
            self.fails.remove(self._asked)
            self.row.failure = Failure("out of memory", "", out_of_memory=True)
            return None
        if self._asked == "build":
            self.row.facts = object()
        return 7


def test_on_a_gpu_models_compile_together_and_warm_up_alone_and_full_memory_means_another_try():
    log: list[str] = []
    workers = [
        Pretender("resnet18@compile", log, {"compile"}),
        Pretender("resnet34@eager", log, set()),
        Pretender("resnet50@compile=max-autotune", log, set()),
        Pretender("resnet26@compile", log, {"warm_up"}),
    ]
    get_ready(workers, 1.0, lambda words: None)
    assert [line.replace("@", " ").split()[0][6:] + " " + line.split()[1] for line in log] == [
        *("18 build", "34 build", "50 build", "26 build", "18 compile", "26 compile"),
        *("18 start", "18 build", "18 warm_up", "34 warm_up", "50 warm_up", "26 warm_up"),
    ]
    assert [worker.row.iterations for worker in workers] == [7, 7, 7, 0]


@pytest.mark.long
@pytest.mark.parametrize("mode", ["infer", "train"])
def test_compiled_models_are_measured(mode, here):
    result = bench(
        ["mine:tiny", "mine:tiny@compile"], mode=mode, size=32, batch=2, rounds=2, seconds=1e-4, device="cpu"
    )
    assert [row.failure for row in result.rows] == [None, None]
    assert "float32, compiled, contiguous" in text(result)


def test_table11_measures_the_models_that_the_text_names_and_timm_has(asked):
    result = bench("resnet18", preset="table11", device="cpu", mode="train")
    names = [row.subject.name for row in asked]
    assert names == [*PRESETS["table11"].models, "resnet18"]
    assert all(timm.is_model(name) for name in names)
    assert {row.subject.settings for row in asked} == {settings(mode="train", size=(224, 224), batch=128)}
    assert "body" in result.note
    assert "whose body we do not have" in text(result)


def test_table12_measures_the_six_token_mixers_at_any_size(asked):
    bench(preset="table12", batch=4, size=64, device="cpu")
    mixers = ["d_mixer", "sep_conv", "sra", "shifted_window", "mixing_block", "acmix"]
    assert [row.subject.arguments for row in asked] == [{"token_mixer": mixer} for mixer in mixers]
    assert {row.subject.settings for row in asked} == {settings(size=(64, 64), batch=4)}
    for row in asked:
        assert row.subject.create().eval()(torch.zeros(1, 3, 64, 64)).shape == (1, 1000)


@pytest.mark.parametrize("preset", PRESETS)
def test_a_preset_s_own_size_and_batch_are_the_defaults(preset, asked):
    bench(preset=preset, device="cpu")
    assert {row.subject.settings for row in asked} == {settings(size=(224, 224), batch=128)}


@pytest.mark.parametrize("features", [False, True])
def test_a_training_step_does_what_a_training_does(features, here):
    subject = parse_benchmark_model("transxnet_n@depths=(1,1,1,1)", settings(mode="train", features=features))
    torch.manual_seed(0)
    model = subject.create()
    model.load_state_dict(twin := {k: v.clone() for k, v in model.state_dict().items()})
    torch.manual_seed(1)
    step = make_step(model, subject.settings)
    for _ in range(2):
        step()

    other = subject.create().train()
    other.load_state_dict(twin)
    torch.manual_seed(1)
    images = torch.randn(2, 3, 32, 32)
    labels = torch.randint(1000, (2,))
    optimizer = torch.optim.AdamW(other.parameters(), lr=1e-4)
    for _ in range(2):
        out = other(images)
        loss = sum((o**2).mean() for o in out) if features else nn.functional.cross_entropy(out, labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    changed = 0
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(parameter, other.get_parameter(name), rtol=0, atol=1e-6, msg=name)
        changed += not torch.equal(parameter, twin[name])
        assert parameter.grad is None
    assert changed > 0.9 * len(list(model.parameters()))


@pytest.mark.parametrize(
    ("changes", "weights", "products"),
    [
        ({}, torch.float32, torch.float32),
        ({"dtype": "bfloat16"}, torch.bfloat16, torch.bfloat16),
        ({"dtype": "bfloat16", "autocast": True}, torch.float32, torch.bfloat16),
        ({"dtype": "bfloat16", "mode": "train"}, torch.float32, torch.bfloat16),
    ],
)
def test_a_dtype_means_cast_weights_in_inference_and_autocast_in_training(changes, weights, products, here):
    model = parse_benchmark_model("mine:tiny", settings(**changes)).create()
    seen = []
    model.register_forward_hook(lambda module, inputs, output: seen.append((inputs[0].dtype, output.dtype)))
    make_step(model, settings(**changes))()
    assert seen == [(weights, products)]
    assert model[0][0].weight.dtype == weights


def test_channels_last_holds_for_weights_and_images(here):
    model = parse_benchmark_model("mine:tiny", settings(channels_last=True)).create()
    seen = []
    model.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    make_step(model, settings(channels_last=True))()
    assert seen[0].is_contiguous(memory_format=torch.channels_last)
    assert model[0][0].weight.is_contiguous(memory_format=torch.channels_last)
    assert seen[0].std() > 0.5, "images are noise"


def test_a_classifier_is_made_for_the_size_and_a_backbone_stays_as_it_is():
    def keys(name: str, **changes) -> int:
        model = parse_benchmark_model(name, settings(**changes)).create()
        return model.stages[0].pos_bias.weight.shape[3]

    assert keys("transxnet_n") == 1
    assert keys("transxnet_n", size=(32, 64)) == 2
    assert keys("transxnet_n", features=True) == 49
    assert keys("transxnet_n@img_size=64") == 4
    swin = parse_benchmark_model("swin_tiny_patch4_window7_224", settings(features=True, size=(56, 112))).create()
    assert len(swin(torch.zeros(1, 3, 56, 112))) == 4


def test_only_our_own_networks_have_an_inference_form(here):
    for name in ("mine:tiny", "test_resnet"):
        with pytest.raises(UserError, match="only TransXNet has an inference form"):
            Measurement(parse_benchmark_model(name, settings(reparameterize=True))).build()


def test_a_model_is_measured_though_its_cost_is_unknown(here, monkeypatch):
    def refuse(*args):
        raise NotImplementedError

    monkeypatch.setattr("transxnet.benchmark.worker.count", refuse)
    facts = Measurement(parse_benchmark_model("mine:tiny", SETTINGS)).build()
    assert facts.multiply_adds is None
    assert facts.parameters > 0


def test_running_out_of_memory_is_said_in_three_words():
    assert failure(torch.OutOfMemoryError("CUDA out of memory. Tried to allocate")).reason == "out of memory"
    assert failure(MemoryError()).out_of_memory
    assert failure(RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried")).out_of_memory
    assert failure(ValueError("\n  first\nsecond")).reason == "ValueError: first"


def test_the_spread_leaves_out_the_outermost_tenths_of_many_rounds():
    assert spread([3.0, 1.0, 2.0]) == (2.0, 1.0, 3.0)
    assert spread([float(i) for i in range(11)]) == (5.0, 1.0, 9.0)


def test_memory_is_said_in_decimal_units():
    assert [memory(size) for size in (2_252_000_000, 85_400_000)] == ["2.25 GB", "85 MB"]


def test_the_function_is_offered_by_the_package():
    assert transxnet.bench is bench
