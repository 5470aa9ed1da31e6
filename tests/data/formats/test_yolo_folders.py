import pytest

from tests.helpers.annotated import write_image
from transxnet.data.formats.findings import Findings
from transxnet.data.formats.yolo_folders import find_yolo
from transxnet.utils.errors import UserError

ROW = "0 0.5 0.5 0.2 0.2\n"


def write(root, *pairs: str) -> None:
    """Write images, and their label files after a space."""
    for pair in pairs:
        image, _, label = pair.partition(" ")
        write_image(root / image)
        if label:
            (root / label).parent.mkdir(parents=True, exist_ok=True)
            (root / label).write_text(ROW)


def found(root) -> list[list[str] | None]:
    """Names of the images of each set."""
    return [
        None if part is None else [path.relative_to(root).as_posix() for path in part.images(Findings())]
        for part in find_yolo(root)
    ]


@pytest.mark.parametrize(
    ("images", "labels"),
    [
        ("images/{}", "labels/{}"),
        ("{}/images", "{}/labels"),
        ("{}", "{}"),
        ("{}", "{}/labels"),
        ("Images/{}", "Labels/{}"),
        ("obj_{}_data", "obj_{}_data"),
    ],
)
@pytest.mark.parametrize("names", [("train", "val", "test"), ("Training", "valid", "Testing")])
def test_folders_of_the_sets(images, labels, names, tmp_path):
    for name in names:
        write(tmp_path, f"{images.format(name)}/1.png {labels.format(name)}/1.txt", f"{images.format(name)}/2.png")
    assert found(tmp_path) == [[f"{images.format(name)}/{number}.png" for number in (1, 2)] for name in names]


@pytest.mark.parametrize(
    ("images", "labels"), [("images/", "labels/"), ("", ""), ("", "labels/"), ("images/", "images/")]
)
def test_one_set(images, labels, tmp_path):
    write(tmp_path, f"{images}1.png {labels}1.txt", f"{images}2.png")
    assert found(tmp_path) == [[f"{images}1.png", f"{images}2.png"], None, None]


def test_lists_of_images(tmp_path):
    write(tmp_path, "obj_train_data/a/1.png obj_train_data/a/1.txt", "obj_train_data/2.png obj_train_data/2.txt")
    (tmp_path / "train.txt").write_text("data/obj_train_data/a/1.png\n\n")
    (tmp_path / "Valid.txt").write_text("/home/x/obj_train_data/2.png\r\n")
    assert found(tmp_path) == [["obj_train_data/a/1.png"], ["obj_train_data/2.png"], None]


@pytest.mark.parametrize(
    "yaml",
    [
        "train: ../train/images\nval: ../valid/images\ntest: ../test/images\n",  # Roboflow
        "path: .\ntrain: train/images\nval: [valid/images]\n",
        "path: ../datasets/mine\ntrain: ./train\nval: valid\n",
        "train: /content/mine/train/images/\nvalidation: C:\\x\\valid\\images\n",
        "path: .\ntrain: train.txt\nval: valid.txt\n",  # CVAT
        "",
    ],
)
def test_data_yaml_names_the_sets(yaml, tmp_path):
    root = tmp_path / "mine"
    for part in ("train", "valid"):
        write(root, f"{part}/images/1.png {part}/labels/1.txt")
        (root / f"{part}.txt").write_text(f"./{part}/images/1.png\n")
    (root / "data.yaml").write_text(yaml + "names: {0: a}\n")
    assert found(root) == [["train/images/1.png"], ["valid/images/1.png"], None]
    assert find_yolo(root / "data.yaml")[:2] == find_yolo(root)[:2] or not yaml


def test_missing_folder_in_data_yaml_is_an_error(tmp_path):
    write(tmp_path, "train/images/1.png train/labels/1.txt")
    (tmp_path / "data.yaml").write_text("train: train/images\nval: minival\nnames: [a]\n")
    with pytest.raises(UserError, match=r"data\.yaml names 'minival' for 'val', which does not exist\. Accepted"):
        find_yolo(tmp_path)


def test_training_images_are_no_validation_images(tmp_path):
    write(tmp_path, "images/1.png labels/1.txt")
    (tmp_path / "data.yaml").write_text("train: images\nval: images\nnames: [a]\n")
    assert found(tmp_path) == [["images/1.png"], None, None]


@pytest.mark.parametrize("text", ["names: [a", "a: b: c"])
def test_damaged_data_yaml_is_an_error(text, tmp_path):
    write(tmp_path, "images/1.png labels/1.txt")
    (tmp_path / "data.yaml").write_text(text)
    with pytest.raises(UserError, match=r"cannot read .*data\.yaml"):
        find_yolo(tmp_path)


def test_other_text_files_are_no_labels(tmp_path):
    write(tmp_path, "cat/1.png cat/1.txt", "dog/2.png")
    (tmp_path / "cat/1.txt").write_text("0 a photograph of a cat")
    (tmp_path / "data.yaml").write_text("train: cat\nnames: [cat, dog]\n")
    assert not any(find_yolo(tmp_path))
    assert not any(find_yolo(tmp_path / "nowhere"))
    assert not any(find_yolo(tmp_path / "cat/1.png"))
