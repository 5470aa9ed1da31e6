import gc
import io
import os

import pytest
from PIL import Image
from torch.utils.data import DataLoader

from tests.helpers.shards import write_shard
from transxnet.data.datasets.unlabeled_dataset import UnlabeledDataset
from transxnet.data.reading import image_search
from transxnet.data.reading.image_search import ImageList
from transxnet.data.reading.tar_shards import shard_images


@pytest.mark.parametrize("workers", [0, 1, 3])
def test_images_are_searched_for_once_by_all_processes(tmp_path, monkeypatch, workers):
    members = [(os.fsdecode(b"%d-\xff.png" % i), encoded(i)) for i in range(7)]
    path = str(write_shard(tmp_path / "a.tar", members))
    Image.new("L", (1, 1), 7).save(tmp_path / "7.png")

    def noted(path: str, *extensions):
        with (tmp_path / "searches").open("a") as file:
            file.write("x")  # in any process
        return shard_images(path, *extensions)

    monkeypatch.setattr(image_search, "shard_images", noted)
    sources = ImageList([path, tmp_path / "7.png"])
    Image.new("L", (1, 1), 8).save(tmp_path / "8.png")  # added after the search
    assert len(sources) == 8
    dataset = UnlabeledDataset(sources, lambda image: image.getpixel((0, 0))[0], 2)
    for _ in range(2):
        found = list(DataLoader(dataset, 2, num_workers=workers, collate_fn=list))
        names, values, errors = zip(*(item for batch in found for item in batch), strict=True)
        assert list(names) == [f"{path}!{name}" for name, _ in members] + [str(tmp_path / "7.png")]
        assert list(values) == list(range(8))
        assert not any(errors)
    assert (tmp_path / "searches").read_text() == "x"
    kept = sources._path
    assert os.path.exists(kept)
    del sources, dataset
    gc.collect()
    assert not os.path.exists(kept)


def encoded(value: int) -> bytes:
    file = io.BytesIO()
    Image.new("L", (1, 1), value).save(file, "PNG")
    return file.getvalue()
