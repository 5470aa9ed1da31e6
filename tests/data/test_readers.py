"""Data sets by timm's reader names, on shards and parquet files that the tests make."""

import gzip
import io
import os
import sys
import warnings
from importlib.util import find_spec
from itertools import count, islice

import numpy as np
import pytest
import timm
from lightning.pytorch import LightningModule, Trainer
from packaging import version
from PIL import Image
from torchvision.transforms.functional import pil_to_tensor

from tests.helpers.shards import write_shard, write_shards
from transxnet.data import readers, sampler, shard_files, sources
from transxnet.data.images import UnreadableImage
from transxnet.data.module import ClassificationData, evaluation_loader, make_loader
from transxnet.data.readers import Stream, is_reader_name, open_reader
from transxnet.data.shards import read_shards
from transxnet.data.sources import open_evaluation, open_source
from transxnet.utils.errors import UserError

NUMBERS = ["0", "1", "2"]
"""Names of three classes that have none."""

OLD_READERS = version.parse(timm.__version__) < version.parse("1.0.31")
UNNAMED = pytest.mark.skipif(OLD_READERS, reason="timm's older reader opens no Hugging Face labels without names")


def encode(image: Image.Image, form: str = "PNG", **options) -> bytes:
    file = io.BytesIO()
    image.save(file, form, **options)
    return file.getvalue()


def solid(value: int) -> bytes:
    return encode(Image.new("RGB", (4, 4), (value, value, value)))


def first_value(picture: Image.Image):
    """A transform that keeps what tells one solid picture from another."""
    return pil_to_tensor(picture)[0, 0, 0]


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        ("hfds/timm/mini-imagenet", True),
        ("wds//shards", True),
        ("TFDS/mnist", True),
        ("hfds", False),
        ("photos/hfds", False),
        ("wdsx/a", False),
        ("", False),
    ],
)
def test_a_reader_name_is_known_by_its_prefix(data, expected):
    assert is_reader_name(data) is expected


@pytest.mark.parametrize("data", ["hfds/a/b", "wds/{folder}", "tfds/a"])
def test_a_missing_package_is_named_with_the_way_to_get_it(data, tmp_path, monkeypatch):
    prefix = data.partition("/")[0]
    package, install = readers._PACKAGES[prefix]
    monkeypatch.setitem(sys.modules, package, None)  # as if it were not installed
    with pytest.raises(UserError) as raised:
        open_reader(data.format(folder=tmp_path), "train", None)
    assert f"needs the package {package}. Install it with: pip install " in str(raised.value)
    assert install in str(raised.value)
    assert ("transxnet[readers]" in install) == (prefix != "tfds")  # the extra does not bring TensorFlow


@pytest.fixture
def shards(tmp_path):
    """Make a folder of shards, picture i solid in the value i and of class i % 3, with timm's _info.json."""
    pytest.importorskip("webdataset")

    def make(**splits: list[int]) -> str:
        values = count()
        pictures = {
            split: [[(solid(value), value % 3) for value in islice(values, length)] for length in lengths]
            for split, lengths in splits.items()
        }
        return write_shards(tmp_path, pictures)

    return make


def stream(data: str, split: str, size: int) -> Stream:
    """Shards read from front to back, as TensorFlow's data sets are, which the tests lack."""
    return Stream(data, split, size, NUMBERS)


def test_shards_are_a_set_of_the_given_number_of_classes(shards):
    source = open_source(shards(train=[5, 4], validation=[3]), num_classes=3)
    assert not source.split_made
    assert (len(source.train), len(source.val)) == (9, 3)
    assert source.train.own_names[4:6] == ["pets-train-0000/00004", "pets-train-0001/00005"]
    assert source.val.own_labels.tolist() == [0, 1, 2]
    assert source.class_names == ["0", "1", "2"]


def test_shards_without_a_number_of_classes_are_an_error(shards):
    with pytest.raises(UserError, match=r"does not say which classes it has\. Give their number with --num_classes"):
        open_source(shards(train=[5], validation=[3]))


@pytest.mark.parametrize("workers", [0, 1, 2])
@pytest.mark.parametrize("lengths", [[5, 4], [7], [5, 5], [1, 9, 2]])
@pytest.mark.parametrize("streamed", [False, True])
def test_evaluation_gives_every_sample_once(shards, lengths, workers, streamed):
    data = shards(validation=lengths)
    images = stream(data, "validation", sum(lengths)) if streamed else open_reader(data, "validation", NUMBERS)
    values, labels, numbers = [], [], []
    for image, label, number in evaluation_loader(images, first_value, 4, workers):
        values += image.tolist()
        labels += label.tolist()
        numbers += number.tolist()
    assert sorted(values) == list(range(sum(lengths)))
    assert labels == [value % 3 for value in values]
    assert len(set(numbers)) == len(numbers)
    if workers < 2 or not streamed:
        assert values == numbers == sorted(values)


def test_evaluation_does_not_claim_a_length_that_it_may_not_keep(shards):
    """Lightning stops at the claimed length; a stream of 5 and 5 on two workers makes four batches of 4, not three."""
    images = stream(shards(validation=[5, 5]), "validation", 10)
    loader = evaluation_loader(images, first_value, 4, workers=2)
    with pytest.raises(TypeError):
        len(loader)
    assert len(list(loader)) == 4
    seen = Seen()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Lightning's advice
        Trainer(accelerator="cpu", logger=False, enable_progress_bar=False).validate(seen, loader, verbose=False)
    assert sorted(seen.values) == list(range(10))


class Seen(LightningModule):
    """Remembers what it was validated on."""

    def __init__(self):
        super().__init__()
        self.values = []

    def validation_step(self, batch, _):
        self.values += batch[0].tolist()


@pytest.mark.parametrize("workers", [0, 1, 2])
def test_a_stream_gives_every_sample_in_whole_batches_of_another_order_each_epoch(shards, workers, recwarn):
    images = stream(shards(train=[6, 6]), "train", 12)
    loader = make_loader(images.training_dataset(first_value, 4, workers, seed=0), 4, workers, drop_last=True)
    epochs = []
    for _ in range(3):
        batches = list(loader)
        assert len(batches) == len(loader) == (4 if workers == 2 else 3)
        assert all(len(label) == 4 for _, label, _ in batches)
        epochs.append([value for image, _, _ in batches for value in image.tolist()])
        assert [label for _, labels, _ in batches for label in labels.tolist()] == [v % 3 for v in epochs[-1]]
        assert set(epochs[-1]) == set(range(12))
    assert epochs[0] != epochs[1] != epochs[2]
    assert not [w for w in recwarn if "IterableDataset" in str(w.message)]


def drawn(loader) -> list[int]:
    return [value for image, _, _ in loader for value in image.tolist()]


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("lengths", [[13], [1, 9, 2, 1]])
def test_an_epoch_of_shards_is_every_sample_once_over_all_processes_and_workers(shards, lengths, workers, monkeypatch):
    source = open_source(shards(train=lengths, validation=[2]), num_classes=3)
    epochs = []
    for epoch in range(4):
        together = []
        for rank in range(3):
            monkeypatch.setattr(sampler, "world", lambda rank=rank: (rank, 3))
            loader = ClassificationData(source, first_value, first_value, 2, workers, seed=0).train_dataloader()
            loader.sampler.set_epoch(epoch)
            together += drawn(loader)
        assert len(together) == len(set(together)) == 12  # of 13, whole batches on each process
        epochs.append(together)
    assert len({tuple(epoch) for epoch in epochs}) == 4
    assert set.union(*map(set, epochs)) == set(range(13))


@pytest.mark.parametrize("lengths", [[7], [1, 4, 2]])
def test_an_evaluation_of_shards_is_every_sample_once_over_all_processes(shards, lengths, monkeypatch):
    images = open_reader(shards(validation=lengths), "validation", NUMBERS)
    together = []
    for rank in range(3):
        monkeypatch.setattr(sampler, "world", lambda rank=rank: (rank, 3))
        together += drawn(evaluation_loader(images, first_value, 2, 0))
    assert sorted(together) == list(range(7))


def test_an_interrupted_epoch_of_shards_goes_on_with_the_next_batch(shards):
    source = open_source(shards(train=[9, 1, 14], validation=[2]), num_classes=3)
    whole, resumed = (ClassificationData(source, first_value, first_value, 4, 0, seed=5) for _ in range(2))
    resumed.load_state_dict({"epoch": 1, "batches_done": 2})
    loaders = whole.train_dataloader(), resumed.train_dataloader()
    for loader in loaders:
        loader.sampler.set_epoch(1)
    assert drawn(loaders[1]) == drawn(loaders[0])[8:]


def test_a_stream_s_shuffle_follows_from_the_seed_and_the_epoch(shards):
    """The shards' order is timm's seeded shuffle; samples are shuffled within a buffer, here of one."""
    images = stream(shards(train=[1] * 40), "train", 40)

    def order(first_epoch: int, epochs: int) -> list[list[int]]:
        dataset = images.training_dataset(first_value, 4, 0, seed=5, first_epoch=first_epoch)
        dataset.dataset.reader.sample_shuffle_size = dataset.dataset.reader.sample_initial_size = 1
        return [[int(value) for value, _, _ in dataset] for _ in range(epochs)]

    three = order(0, 3)
    assert all(sorted(epoch) == list(range(40)) for epoch in three)
    assert three[0] != three[1] != three[2] != three[0]
    assert order(1, 2) == three[1:]


def test_pictures_in_shards_come_out_as_those_of_files(shards, tmp_path):
    data = shards(validation=[5])
    exif = Image.Exif()
    exif[0x0112] = 6
    items = {
        "0.png": encode(Image.fromarray(np.full((4, 4), 128 * 257, dtype=np.uint16))),
        "1.png": encode(Image.new("RGBA", (4, 4), (0, 0, 0, 0))),
        "2.jpg": encode(Image.new("RGB", (8, 4), (10, 10, 10)), "JPEG", exif=exif),
        "3.webp": encode(Image.new("RGB", (8, 4), (20, 20, 20)), "WEBP", lossless=True, exif=exif),
        "4.png": encode(Image.new("L", (8, 4), 30), exif=exif),
    }
    labels = {f"{i}.cls": b"0" for i in range(5)}
    write_shard(tmp_path / "pets-validation-0000.tar", dict(sorted((items | labels).items())))
    images = open_reader(data, "validation", NUMBERS)
    shown = [pil_to_tensor(images.picture(i)) for i in range(5)]
    assert [tuple(image.shape) for image in shown] == [(3, 4, 4), (3, 4, 4), (3, 8, 4), (3, 8, 4), (3, 8, 4)]
    assert [int(image[0, 0, 0]) for image in shown] == [128, 255, 10, 20, 30]


def test_streams_that_do_not_know_their_classes_are_evaluated_under_the_models(monkeypatch):
    monkeypatch.setattr(sources, "open_reader", lambda data, split, names: Stream(data, split, 4, names))
    images = open_evaluation("tfds/pets", ["cat", "dog", "fox"])
    assert isinstance(images, Stream)
    assert images.class_names == ["cat", "dog", "fox"]


def test_shards_are_evaluated_under_the_models_class_names(shards):
    data = shards(validation=[4])
    images = open_evaluation(data, ["cat", "dog", "fox"])
    assert images.class_names == ["cat", "dog", "fox"]
    assert images.own_labels.tolist() == [0, 1, 2, 0]


def test_an_unknown_split_of_shards_is_an_error(shards):
    with pytest.raises(UserError, match=r"split 'test'.*validation.*--val_split"):
        open_reader(shards(validation=[1]), "test", NUMBERS)


def test_a_folder_that_is_not_there_is_an_error(tmp_path):
    with pytest.raises(UserError, match=r"there is no folder .*gone.*Accepted: wds/FOLDER"):
        open_reader(f"wds/{tmp_path}/gone", "train", NUMBERS)


def test_a_folder_without_a_description_is_an_error(tmp_path):
    pytest.importorskip("webdataset")
    with pytest.raises(UserError, match=r"cannot open .*split 'train'"):
        open_reader(f"wds/{tmp_path}", "train", NUMBERS)


def test_a_shard_that_is_not_there_is_an_error(shards, tmp_path):
    data = shards(train=[2, 2, 2])
    os.remove(tmp_path / "pets-train-0001.tar")
    with pytest.raises(UserError, match=r"1 of 3 shards of .* are not there, pets-train-0001\.tar first"):
        open_reader(data, "train", NUMBERS)


@pytest.mark.parametrize(
    "fault", ["cut off", "compressed", "no label", "no number", "class 7", "class 2^64", "another length"]
)
def test_a_shard_that_is_wrong_is_named(shards, tmp_path, fault):
    data = shards(train=[2, 2])
    path = tmp_path / "pets-train-0001.tar"
    whole = path.read_bytes()
    if fault == "cut off":
        path.write_bytes(whole[:1500])
    if fault == "compressed":
        path.write_bytes(gzip.compress(whole))
    labels = {
        "no label": {},
        "no number": {"a.cls": b"cat"},
        "class 7": {"a.cls": b"7"},
        "class 2^64": {"a.cls": b"%d" % 2**64},
    }
    if fault in labels:
        write_shard(path, {"a.jpg": solid(0), **labels[fault], "b.jpg": solid(1), "b.cls": b"1"})
    if fault == "another length":
        write_shard(path, {"a.jpg": solid(0), "a.cls": b"0"})
    said = {
        "no label": "no class number a.cls beside it",
        "class 7": r"pets-train-0001/a has the class 7\. Accepted: 0 to 2",
        "class 2^64": r"'a\.cls' has 20 bytes, and a class number takes at most 18",
        "another length": r"holds 1 images, and its _info\.json says 2",
    }
    with pytest.raises(UserError, match=said.get(fault, r"pets-train-0001\.tar")):
        open_reader(data, "train", NUMBERS)


@pytest.mark.parametrize("fault", ["cut between files", "a damaged header"])
def test_a_shard_that_lost_images_is_an_error_though_nobody_knows_how_many_it_had(tmp_path, fault):
    path = tmp_path / "a.tar"
    write_shard(path, {f"{i}.{ending}": b"1" for i in range(3) for ending in ("cls", "png")})
    assert len(read_shards([path], ["a", "b"])) == 3
    whole = path.read_bytes()
    end = 4 * 1024  # of the second image: each file is a block of header and one of content
    path.write_bytes(whole[:end] + (b"x" * 512 + whole[end + 512 :] if fault == "a damaged header" else b""))
    with pytest.raises(UserError, match=r"a\.tar cannot be read to its end: .* byte 4,096"):
        read_shards([path], ["a", "b"])


def test_a_picture_in_a_shard_that_is_too_large_is_unreadable(tmp_path, monkeypatch):
    write_shard(tmp_path / "a.tar", {"a.cls": b"1", "a.png": solid(1)})
    images = read_shards([tmp_path / "a.tar"], ["a", "b"])
    images.picture(0)
    monkeypatch.setattr(shard_files, "MAX_BYTES", 4)
    with pytest.raises(UnreadableImage, match="bytes are more than 4"):
        images.picture(0)


def test_other_files_in_shards_are_passed_over_and_keys_may_have_folders(shards, tmp_path):
    data = shards(train=[2])
    items = {
        "x/a.json": b"{}", "x/a.CLS": b"9", "x/a.cls": b"2", "x/a.seg.png": solid(3), "x/a.jpeg": solid(1),
        "y/a.jpg": solid(2), "y/a.cls": b"1", "z.cls": b"0",
    }  # fmt: skip
    write_shard(tmp_path / "pets-train-0000.tar", items)
    images = open_reader(data, "train", NUMBERS)
    assert images.own_names == ["pets-train-0000/x/a", "pets-train-0000/y/a"]
    assert images.own_labels.tolist() == [2, 1]
    assert [np.asarray(images.picture(i))[0, 0, 0] for i in range(2)] == [1, 2]
    os.remove(tmp_path / "pets-train-0000.tar")
    with pytest.raises(UnreadableImage, match="No such file"):
        images.picture(0)


@pytest.fixture
def parquet(tmp_path, monkeypatch):
    """Make a data set of parquet files that the datasets library opens without a network."""
    datasets = pytest.importorskip("datasets")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    datasets.disable_progress_bars()

    def make(
        labels: dict[str, list], kind="classes", pictures=None, column="label", names=("dog", "cat", "fox")
    ) -> str:
        classes = datasets.ClassLabel(names=list(names))
        for split, values in labels.items():
            content = pictures or [solid(10 * i) for i in range(len(values))]
            table = datasets.Dataset.from_dict(
                {"image": [c and {"bytes": c, "path": None} for c in content], column: values},
                features=datasets.Features(
                    {"image": datasets.Image(), column: classes if kind == "classes" else datasets.Value(kind)}
                ),
            )
            (tmp_path / "pets").mkdir(exist_ok=True)
            table.to_parquet(tmp_path / "pets" / f"{split}-00000-of-00001.parquet")
        return f"hfds/{tmp_path}/pets"

    yield make
    datasets.enable_progress_bars()


def test_hugging_face_data_is_a_set_in_its_own_order_of_classes(parquet):
    source = open_source(parquet({"train": [0, 1, 2, 1], "validation": [2, 0]}))
    assert source.class_names == ["dog", "cat", "fox"]
    assert source.train.own_labels.tolist() == [0, 1, 2, 1]
    assert source.val.own_labels.tolist() == [2, 0]
    assert source.val.own_names == ["validation/0", "validation/1"]
    assert [np.asarray(source.train.picture(i))[0, 0].tolist() for i in (3, 1)] == [[30] * 3, [10] * 3]
    assert not source.split_made


@pytest.mark.parametrize("workers", [0, 2])
def test_hugging_face_data_gives_every_sample_once(parquet, workers):
    images = open_reader(parquet({"validation": [0, 1, 2, 1, 0]}), "validation", None)
    batches = list(evaluation_loader(images, first_value, 2, workers))
    assert [value for image, _, _ in batches for value in image.tolist()] == [0, 10, 20, 30, 40]
    assert [label for _, labels, _ in batches for label in labels.tolist()] == [0, 1, 2, 1, 0]


def test_hugging_face_classes_are_matched_by_name(parquet):
    images = open_evaluation(parquet({"validation": [0, 1, 2]}), ["cat", "dog", "emu", "fox"])
    assert images.class_names == ["cat", "dog", "emu", "fox"]
    assert images.own_labels.tolist() == [1, 0, 3]


def test_classes_that_are_digits_are_matched_by_name_as_all_others(parquet):
    data = parquet({"validation": [0, 1, 2]}, names=["0", "1", "2"])
    assert open_evaluation(data, ["2", "0", "1"]).own_labels.tolist() == [1, 2, 0]
    with pytest.raises(UserError, match="do not match those of the model"):
        open_evaluation(data, ["dog", "cat", "fox"])


@UNNAMED
def test_hugging_face_numbers_without_names_are_the_models_classes(parquet):
    images = open_evaluation(parquet({"validation": [0, 2, 1]}, kind="int64"), ["cat", "dog", "fox"])
    assert images.class_names == ["cat", "dog", "fox"]
    assert images.own_labels.tolist() == [0, 2, 1]


def test_hugging_face_pictures_come_out_as_those_of_files(parquet):
    wide = encode(Image.fromarray(np.full((4, 4), 128 * 257, dtype=np.uint16)))
    images = open_reader(parquet({"train": [0, 1, 2]}, pictures=[wide, b"no picture", None]), "train", None)
    assert np.asarray(images.picture(0))[0, 0].tolist() == [128] * 3
    with pytest.raises(UnreadableImage, match="not an image file"):
        images.picture(1)
    with pytest.raises(UnreadableImage, match="holds no picture here"):
        images.picture(2)


@UNNAMED
def test_numbers_without_names_need_their_count(parquet):
    data = parquet({"train": [0, 3, 1]}, kind="int64")
    with pytest.raises(UserError, match="--num_classes"):
        open_reader(data, "train", None)
    assert open_reader(data, "train", [*NUMBERS, "3"]).class_names == ["0", "1", "2", "3"]
    with pytest.raises(UserError, match=r"go from 0 to 3\. Accepted: 0 to 2, for 3 classes"):
        open_reader(data, "train", NUMBERS)


def test_a_split_without_labels_is_an_error(parquet):
    with pytest.raises(UserError, match=r"'test', go from -1 to -1\. Accepted: 0 to 2.*Choose a split with labels"):
        open_reader(parquet({"test": [-1, -1]}), "test", None)


@UNNAMED
def test_labels_that_are_text_are_an_error(parquet):
    with pytest.raises(UserError, match=r"not class numbers: \['cat', 'dog'\].*Cast the column to datasets.ClassLabel"):
        open_reader(parquet({"train": ["cat", "dog"]}, kind="string"), "train", NUMBERS[:2])


def test_a_data_set_without_labels_is_an_error(parquet):
    with pytest.raises(UserError, match=r"has the columns 'image', 'kind'\. Accepted: a data set with 'label'"):
        open_reader(parquet({"train": [0, 1]}, column="kind"), "train", None)


def test_an_unknown_split_is_an_error_with_those_that_exist(parquet):
    with pytest.raises(UserError, match=r"split 'validation'.*\['train'\].*--val_split"):
        open_source(parquet({"train": [0, 1, 2]}))


def test_a_data_set_that_is_not_there_is_an_error(parquet, tmp_path):
    with pytest.raises(UserError, match=r"timm's reader cannot open 'hfds/.*nothing'"):
        open_reader(f"hfds/{tmp_path}/nothing", "train", None)


@pytest.mark.skipif(find_spec("tensorflow_datasets") is not None, reason="TensorFlow Datasets is installed")
def test_tensorflow_data_needs_tensorflow():
    with pytest.raises(
        UserError, match=r"tfds/mnist needs the package tensorflow_datasets. .*: pip install tensorflow "
    ):
        open_reader("tfds/mnist", "train", None)
