import subprocess
import sys
import warnings

import pytest
from lightning.pytorch import LightningModule, Trainer
from torch.utils.data import DataLoader, Dataset

from tests.helpers.shards import (
    NUMBERS,
    drawn,
    first_value,
    stream_of_shards,
)
from transxnet.data.formats.timm_readers import open_reader
from transxnet.data.loading import samplers
from transxnet.data.loading.loaders import (
    evaluation_loader,
    explain_worker_errors,
    explained,
    make_loader,
)
from transxnet.utils.errors import UserError


@pytest.mark.parametrize("workers", [0, 1, 2])
@pytest.mark.parametrize("lengths", [[5, 4], [7], [5, 5], [1, 9, 2]])
@pytest.mark.parametrize("streamed", [False, True])
def test_evaluation_gives_every_sample_once(shards, lengths, workers, streamed):
    data = shards(validation=lengths)
    images = (
        stream_of_shards(data, "validation", sum(lengths)) if streamed else open_reader(data, "validation", NUMBERS)
    )
    values, labels, numbers = [], [], []
    for image, label, number in evaluation_loader(images.evaluation_dataset(first_value), 4, workers):
        values += image.tolist()
        labels += label.tolist()
        numbers += number.tolist()
    assert sorted(values) == list(range(sum(lengths)))
    assert labels == [value % 3 for value in values]
    assert len(set(numbers)) == len(numbers)
    if workers < 2 or not streamed:
        assert values == numbers == sorted(values)


def test_evaluation_loader_of_a_stream_has_no_length(shards):
    """Lightning stops at the reported length; a stream of 5 and 5 on two workers gives four batches of 4, not three."""
    images = stream_of_shards(shards(validation=[5, 5]), "validation", 10)
    loader = evaluation_loader(images.evaluation_dataset(first_value), 4, workers=2)
    with pytest.raises(TypeError):
        len(loader)
    assert len(list(loader)) == 4
    seen = Seen()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Lightning's advice
        Trainer(accelerator="cpu", logger=False, enable_progress_bar=False).validate(seen, loader, verbose=False)
    assert sorted(seen.values) == list(range(10))


class Seen(LightningModule):
    """Records the validation batches."""

    def __init__(self):
        super().__init__()
        self.values = []

    def validation_step(self, batch, _):
        self.values += batch[0].tolist()


@pytest.mark.parametrize("workers", [0, 1, 2])
def test_stream_is_reshuffled_in_full_batches_each_epoch(shards, workers, recwarn):
    images = stream_of_shards(shards(train=[6, 6]), "train", 12)
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


@pytest.mark.parametrize("lengths", [[7], [1, 4, 2]])
def test_processes_share_the_evaluation_of_shards(shards, lengths, monkeypatch):
    images = open_reader(shards(validation=lengths), "validation", NUMBERS)
    together = []
    for rank in range(3):
        monkeypatch.setattr(samplers, "world", lambda rank=rank: (rank, 3))
        together += drawn(evaluation_loader(images.evaluation_dataset(first_value), 2, 0))
    assert sorted(together) == list(range(7))


@pytest.mark.parametrize("workers", [0, 2])
def test_hugging_face_data_gives_every_sample_once(parquet, workers):
    images = open_reader(parquet({"validation": [0, 1, 2, 1, 0]}), "validation", None)
    batches = list(evaluation_loader(images.evaluation_dataset(first_value), 2, workers))
    assert [value for image, _, _ in batches for value in image.tolist()] == [0, 10, 20, 30, 40]
    assert [label for _, labels, _ in batches for label in labels.tolist()] == [0, 1, 2, 1, 0]


@pytest.mark.parametrize(
    "text",
    [
        "Caught RuntimeError in a worker.\nunable to allocate shared memory(shm) for file </torch_1>",
        "DataLoader worker (pid 7) is killed by signal: Bus error.",
    ],
)
def test_full_shared_memory_names_workers(text):
    with pytest.raises(UserError, match=r"/dev/shm is too small\. Use --workers 0"), explain_worker_errors():
        raise RuntimeError(text)


def test_other_errors_of_workers_are_unchanged():
    with pytest.raises(RuntimeError, match="another error"), explain_worker_errors():
        raise RuntimeError("another error")


def test_batches_are_explained_one_by_one():
    class Failing(Dataset):
        def __len__(self) -> int:
            return 2

        def __getitem__(self, index: int) -> int:
            if index:
                raise RuntimeError("unable to allocate shared memory(shm)")
            return index

    batches = explained(DataLoader(Failing(), batch_size=None))
    assert next(batches) == 0
    with pytest.raises(UserError, match="/dev/shm"):
        next(batches)


def test_script_that_leaves_a_loop_early_ends():
    """Workers ignore the signal by which Python ends them at exit."""
    script = (
        "from transxnet.data.loading.loaders import make_loader\n"
        "loader = make_loader(list(range(8)), 2, workers=1)\n"
        "batches = iter(loader)\n"
        "print(next(batches))\n"
    )
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120)
    assert (ended.returncode, ended.stderr) == (0, "") and "tensor([0, 1])" in ended.stdout
