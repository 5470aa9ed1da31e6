from pathlib import Path

import pytest

from tests.helpers.annotated import image, write_coco, write_image
from transxnet.data.formats.coco_folders import find_coco
from transxnet.utils.errors import UserError


def write(root: Path, *names: str, image_folder: str | None = None) -> None:
    for name in names:
        write_coco(root / name, [image(1)], [], image_folder=None if image_folder is None else root / image_folder)


def found(root: Path) -> list[tuple[str, str] | None]:
    """Annotation file and image folder of each split, relative to the root."""
    parts = find_coco(root)[:2]
    return [
        None
        if part is None
        else (
            part.annotations.relative_to(root).as_posix(),
            part.image_folder(["1.png"]).relative_to(root).as_posix(),
        )
        for part in parts
    ]


def test_coco_itself(tmp_path):
    for part in ("train2017", "val2017"):
        write(tmp_path, f"annotations/instances_{part}.json", image_folder=part)
        write(tmp_path, f"annotations/captions_{part}.json", f"annotations/person_keypoints_{part}.json")
    assert found(tmp_path) == [
        ("annotations/instances_train2017.json", "train2017"),
        ("annotations/instances_val2017.json", "val2017"),
    ]


def test_coco_with_its_images_in_images(tmp_path):
    write(tmp_path, "annotations/instances_train2017.json", image_folder="images/train2017")
    assert found(tmp_path) == [("annotations/instances_train2017.json", "images/train2017"), None]


def test_year_with_existing_images_is_chosen(tmp_path):
    write(tmp_path, "annotations/instances_train2014.json")
    write(tmp_path, "annotations/instances_train2017.json", image_folder="train2017")
    assert found(tmp_path)[0] == ("annotations/instances_train2017.json", "train2017")
    write_image(tmp_path / "train2014" / "1.png")
    with pytest.raises(UserError, match=r"instances_train2014\.json, instances_train2017\.json"):
        find_coco(tmp_path)


@pytest.mark.parametrize(("val", "name"), [("valid", "_annotations.coco.json"), ("val", "annotations.json")])
def test_annotations_next_to_the_images_of_each_part(val, name, tmp_path):
    write(tmp_path, f"train/{name}", image_folder="train")
    write(tmp_path, f"{val}/{name}", image_folder=val)
    assert found(tmp_path) == [(f"train/{name}", "train"), (f"{val}/{name}", val)]


def test_parts_with_a_folder_of_images_each(tmp_path):
    write(tmp_path, "train/annotations.json", image_folder="train/images")
    assert found(tmp_path) == [("train/annotations.json", "train/images"), None]


@pytest.mark.parametrize(
    ("file", "image_folder"),
    [
        ("annotations.json", "images"),
        ("annotations.json", "."),
        ("annotations/all.coco.json", "images"),
        ("labels.json", "data"),
        ("result.json", "images"),
        ("instances_default.json", "images"),
    ],
)
def test_one_file_for_all(file, image_folder, tmp_path):
    write(tmp_path, file, image_folder=image_folder)
    assert found(tmp_path) == [(file, image_folder), None]


def test_a_file_for_each_part_over_one_folder(tmp_path):
    write(
        tmp_path,
        "annotations_train.json",
        "annotations_validation.json",
        "annotations_test.json",
        image_folder="images",
    )
    assert found(tmp_path) == [("annotations_train.json", "images"), ("annotations_validation.json", "images")]


def test_an_annotation_file_itself(tmp_path):
    write(tmp_path, "boxes/train.json", image_folder="images")
    part, other, _ = find_coco(tmp_path / "boxes/train.json")
    assert part.image_folder(["1.png"]) == tmp_path / "images"
    assert other is None


def test_validation_set_alone(tmp_path):
    write(tmp_path, "annotations/instances_val2017.json", image_folder="val2017")
    assert found(tmp_path) == [None, ("annotations/instances_val2017.json", "val2017")]


def test_validation_and_test_sets_alone_have_no_training_set(tmp_path):
    write(tmp_path, "val.json", "test.json", image_folder="images")
    assert found(tmp_path) == [None, ("val.json", "images")]


def test_several_files_without_a_part_are_an_error(tmp_path):
    write(tmp_path, "instances_a.json", "instances_b.json")
    with pytest.raises(UserError, match=r"several annotation files: instances_a\.json, instances_b\.json\. Accepted"):
        find_coco(tmp_path)


@pytest.mark.parametrize("text", ['{"a": 1}', "[1, 2]", '{"0": "cat"}', ""])
@pytest.mark.parametrize("name", ["labels.json", "data.json", "train.json", "annotations.json", "config.json"])
def test_other_json_files_are_ignored(name, text, tmp_path):
    (tmp_path / name).write_text(text)
    assert not any(find_coco(tmp_path))
    assert not any(find_coco(tmp_path / name))


def test_a_broken_annotation_file_is_still_one(tmp_path):
    write(tmp_path, "annotations/instances_train.json")
    (tmp_path / "annotations/instances_train.json").write_text('{"images": [')
    assert find_coco(tmp_path)[0] is not None


def test_missing_folder_returns_none(tmp_path):
    assert not any(find_coco(tmp_path / "nowhere"))
    assert not any(find_coco(tmp_path))


@pytest.mark.parametrize(
    "name", ["labels_my-project_2026-01-01.json", "export.json", "boxes.JSON", "vott-json-export.json"]
)
def test_files_of_any_name_are_recognized_by_their_lists(name, tmp_path):
    write(tmp_path, name, image_folder="images")
    assert found(tmp_path) == [(name, "images"), None]
    assert find_coco(tmp_path / name).train is not None


def test_large_file_is_recognized_by_its_start(tmp_path):
    write_coco(tmp_path / "export.json", [image(number) for number in range(2000)], [])
    assert (tmp_path / "export.json").stat().st_size > 1 << 16
    assert find_coco(tmp_path).train is not None


def test_truncated_file_of_any_name_is_still_one(tmp_path):
    (tmp_path / "export.json").write_text('{"info": {}, "images": [{"id": 1, "file')
    assert find_coco(tmp_path).train is not None


def test_images_without_annotations_are_not_coco(tmp_path):
    (tmp_path / "images.json").write_text('{"categories": [], "images": [{"id": 1, "file_name": "1.png"}]}')
    assert not any(find_coco(tmp_path))


@pytest.mark.parametrize(
    "names",
    [("Train", "Valid", "Test"), ("training", "dev", "testing"), ("TRAIN", "holdout", "TEST")],
)
def test_folders_of_the_parts_have_any_common_name(names, tmp_path):
    for name in names:
        write(tmp_path, f"{name}/_annotations.coco.json", image_folder=name)
    parts = find_coco(tmp_path)
    assert [part.annotations.parent.name for part in parts] == list(names)
    assert all(part.image_folder(["1.png"]) == tmp_path / name for part, name in zip(parts, names, strict=True))


def test_files_of_the_parts_have_any_common_name(tmp_path):
    names = ("Boxes_Train", "boxes-Validation", "boxes.TEST2")
    for name in names:
        write(tmp_path, f"Annotations/{name}.json", image_folder="Images")
    parts = find_coco(tmp_path)
    assert [part.annotations.stem for part in parts] == list(names)
    assert parts.val.image_folder(["1.png"]) == tmp_path / "Images"


def test_test_set_chooses_nothing(tmp_path):
    write(tmp_path, "train.json", "test.json", image_folder="images")
    parts = find_coco(tmp_path)
    assert (parts.train.name, parts.val, parts.test.name) == ("train.json", None, "test.json")
    (tmp_path / "train.json").unlink()
    assert [part and part.name for part in find_coco(tmp_path)] == [None, None, "test.json"]
