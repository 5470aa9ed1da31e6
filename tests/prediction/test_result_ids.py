import pytest

from tests.helpers.annotated import image, write_coco, write_image
from transxnet.prediction.result_ids import ResultIds, find_result_ids

CLASSES, IDS = ["ant", "dog"], [1, 3]


def write(root, part: str, ids, categories=((8, "dog"), (1, "cat"))):
    entries = [image(number) for number in ids]
    names = [dict(id=number, name=name) for number, name in categories]
    write_coco(root / part / "annotations.json", entries, [], names, image_folder=root / part)


def test_ids_are_those_of_the_annotation_file(tmp_path):
    write(tmp_path, ".", [7, 20])
    write_image(tmp_path / "other.png")
    ids = find_result_ids([tmp_path], CLASSES, IDS)
    assert ids.category_ids == [9, 8]  # the file uses 1 for another class
    assert ids.image_id(str(tmp_path / "20.png"), 1) == 20
    assert ids.image_id(str(tmp_path / "other.png"), 3) == 23


def test_relative_paths_are_the_same_images(tmp_path, monkeypatch):
    write(tmp_path, "data", [7])
    monkeypatch.chdir(tmp_path)
    assert find_result_ids(["data"], CLASSES, IDS).image_id("data/7.png", 1) == 7


def test_files_of_several_sets_are_used_if_they_agree(tmp_path):
    write(tmp_path, "train", [1, 2])
    write(tmp_path, "val", [3])
    ids = find_result_ids([tmp_path], CLASSES, IDS)
    assert [ids.image_id(str(tmp_path / name), 9) for name in ("train/2.png", "val/3.png")] == [2, 3]


@pytest.mark.parametrize(("ids", "categories"), [([2], ((8, "dog"), (1, "cat"))), ([3], ((1, "dog"), (8, "cat")))])
def test_ambiguous_ids_are_not_used(ids, categories, tmp_path):
    write(tmp_path, "train", [1, 2])
    write(tmp_path, "val", ids, categories)
    assert find_result_ids([tmp_path], CLASSES, IDS) == ResultIds(IDS)


def test_other_inputs_are_numbered(tmp_path):
    (tmp_path / "instances.json").write_text("{")
    path = write_image(tmp_path / "1.png")
    for inputs in ([tmp_path], [path], ["*.png"]):
        ids = find_result_ids(inputs, CLASSES, IDS)
        assert (ids.category_ids, ids.image_id(str(path), 1)) == (IDS, 1)
