import numpy as np
import pytest

from tests.helpers.annotated import write_image, write_map
from transxnet.data.formats.findings import Findings, Problem
from transxnet.data.formats.label_map_checks import read_label_maps
from transxnet.data.formats.label_maps import find_label_maps
from transxnet.utils.errors import UserError


def values(*numbers: int, kind=np.uint8) -> np.ndarray:
    """A label map with one row for each number."""
    return np.repeat(np.array(numbers, kind)[:, None], 5, axis=1)


def write(root, maps: dict[str, np.ndarray], part: str = ""):
    for stem, content in maps.items():
        write_map(root / "masks" / part / f"{stem}.png", content, image_path=root / "images" / part / f"{stem}.jpg")
    return root


def read(root, **options):
    findings = Findings()
    return *read_label_maps(find_label_maps(root)[:2], findings, **options), findings


def test_plain_maps_have_their_classes_by_number(tmp_path):
    write(tmp_path, {"a": values(0, 2, 255), "b": values(1, 1)})
    train, val, findings = read(tmp_path)
    assert val is None
    assert train.class_names == ["0", "1", "2"]
    assert train.own_names == ["a.jpg", "b.jpg"]
    assert train.labels(0)[:, 0].tolist() == [0, 2, 255]
    assert train.labels(1)[:, 0].tolist() == [1, 1]
    assert train.labels(0).dtype == np.uint8
    assert train.image(0).size == (5, 3)
    assert not findings.places


def test_names_come_from_a_file(tmp_path):
    write(tmp_path, {"a": values(0, 1)})
    (tmp_path / "classes.txt").write_text("road\nsky\ntree")
    train, _, findings = read(tmp_path)
    assert train.class_names == ["road", "sky", "tree"]
    assert not findings.places


def test_zero_is_ignored_on_request(tmp_path):
    write(tmp_path, {"a": values(0, 1, 3, 255)})
    train, _, findings = read(tmp_path, zero_is_ignored=True)
    assert train.class_names == ["1", "2", "3"]
    assert train.labels(0)[:, 0].tolist() == [255, 0, 2, 255]
    assert not findings.places


def test_zero_is_ignored_in_ade20k(tmp_path):
    table = "Idx\tRatio\tTrain\tVal\tName\n" + "".join(f"{i}\t0.1\t1\t1\tclass{i}, other\n" for i in range(1, 151))
    (tmp_path / "objectInfo150.txt").write_text(table)
    for part in ("training", "validation"):
        for kind in ("images", "annotations"):
            (tmp_path / kind / part).mkdir(parents=True)
        write_map(
            tmp_path / f"annotations/{part}/a.png", values(0, 1, 150), image_path=tmp_path / f"images/{part}/a.jpg"
        )
    train, val, findings = read(tmp_path)
    assert len(train.class_names) == 150
    assert train.class_names[-1] == "class150"
    assert val.labels(0)[:, 0].tolist() == [255, 0, 149]
    assert not findings.places
    train, _, findings = read(tmp_path, zero_is_ignored=False)
    assert findings.count(Problem.LABEL_BEYOND) == 2


def test_values_beyond_the_classes_are_refused_with_the_file(tmp_path):
    write(tmp_path, {"a": values(0, 1), "b": values(0, 2, 7, 255)})
    (tmp_path / "classes.txt").write_text("road\nsky")
    _, _, findings = read(tmp_path)
    assert findings.places == {
        Problem.LABEL_BEYOND: ["b.png: value 2, 7; accepted: 0 to 1 for 2 classes, and 255 for 'ignore'"]
    }
    with pytest.raises(UserError, match="use --zero-is-ignored; binary"):
        findings.refuse()


def test_values_only_in_the_validation_set_are_out_of_range(tmp_path):
    write(tmp_path, {"a": values(0, 3)}, "train")
    write(tmp_path, {"b": values(0, 4)}, "val")
    train, val, findings = read(tmp_path)
    assert train.class_names == val.class_names == ["0", "1", "2", "3"]
    assert findings.places[Problem.LABEL_BEYOND] == [
        "b.png: value 4; accepted: 0 to 3 for 4 classes, and 255 for 'ignore'"
    ]


def test_values_wider_than_bytes_are_out_of_range(tmp_path):
    write(tmp_path, {"a": values(0, 1, kind=np.uint16), "b": values(0, 300, kind=np.uint16)})
    train, _, findings = read(tmp_path)
    assert train.labels(0)[:, 0].tolist() == [0, 1]
    assert findings.places[Problem.LABEL_BEYOND][0].startswith("b.png: value 300;")


def test_black_and_white_masks_are_two_classes(tmp_path):
    write(tmp_path, {"a": values(0, 255), "b": values(0, 0)})
    train, _, findings = read(tmp_path)
    assert train.class_names == ["background", "foreground"]
    assert train.labels(0)[:, 0].tolist() == [0, 1]
    assert findings.notes() == ["1 value is used as class 1 (the label maps contain only 0 and 255): 255"]
    findings.refuse()
    (tmp_path / "classes.txt").write_text("sky\ncloud")
    assert read(tmp_path)[0].class_names == ["sky", "cloud"]
    (tmp_path / "classes.txt").write_text("sky\ncloud\nroad")
    assert read(tmp_path)[0].labels(0)[:, 0].tolist() == [0, 255]


def test_one_class_with_the_rest_ignored(tmp_path):
    write(tmp_path, {"a": values(0, 1)})
    train, _, findings = read(tmp_path, zero_is_ignored=True)
    assert train.class_names == ["1"]
    assert train.labels(0)[:, 0].tolist() == [255, 0]
    assert not findings.places


def test_mismatched_or_unreadable_pairs_are_skipped(tmp_path):
    write(tmp_path, {"a": values(0, 1), "b": values(0, 1), "c": values(0, 1), "d": values(0, 1)})
    write_image(tmp_path / "images/b.jpg", 6, 2)
    (tmp_path / "images/c.jpg").write_text("not an image")
    (tmp_path / "masks/d.png").write_bytes((tmp_path / "masks/d.png").read_bytes()[:40])
    done = []
    train, _, findings = read(tmp_path, progress=done.append)
    assert train.own_names == ["a.jpg"]
    assert findings.places == {
        Problem.MAP_SIZE: ["b.png: label map 5x2, image 6x2"],
        Problem.IMAGE_UNREADABLE: ["c.jpg: not an image, or an unsupported format"],
        Problem.MAP_UNREADABLE: findings.places[Problem.MAP_UNREADABLE],
    }
    assert findings.places[Problem.MAP_UNREADABLE][0].startswith("d.png: ")
    assert done == [1, 2, 3, 4]


def test_more_classes_than_labels_are_an_error(tmp_path):
    write(tmp_path, {"a": values(0, 1)})
    (tmp_path / "classes.txt").write_text("\n".join(f"class {i}" for i in range(256)))
    with pytest.raises(UserError, match=r"has 256 classes\. Accepted: at most 255"):
        read(tmp_path)


def test_maps_without_names_use_the_model_s_classes(tmp_path):
    write(tmp_path, {"a": values(0, 1)})
    assert read(tmp_path, class_names=["road", "sky", "tree"])[0].class_names == ["road", "sky", "tree"]


@pytest.mark.parametrize(
    ("found", "advice"),
    [
        ((0, 3, 17, 60, 130, 251, 255), "Threshold binary masks"),
        ((0, 128, 255), "Threshold binary masks"),
        ((0, 38, 75), "Convert the maps"),
        (tuple(range(255)), "Convert the maps"),
    ],
)
def test_values_that_are_no_class_indices_are_refused(found, advice, tmp_path):
    write(tmp_path, {"a": values(*found), "b": values(0, 0)})
    between = [value for value in found if 0 < value < 255]
    with pytest.raises(UserError, match=rf"values of 1 of 2 label maps .* {between[0]}.*{advice}.*classes\.txt"):
        read(tmp_path)


def test_few_classes_with_gaps_are_class_indices(tmp_path):
    write(tmp_path, {"a": values(0, 5, 19, 255)})
    assert len(read(tmp_path)[0].class_names) == 20


def test_rotated_maps_name_the_exif_orientation(tmp_path):
    write(tmp_path, {"a": values(0, 1)})
    write_image(tmp_path / "images/a.jpg", 2, 5)
    assert read(tmp_path)[2].places[Problem.MAP_SIZE] == [
        "a.png: label map 5x2, image 2x5; rotate it as the image's EXIF orientation rotates the image"
    ]


COLORS = np.array([[0, 0, 0], [176, 112, 32], [1, 1, 1]], np.uint8)


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("labelmap.txt", "# label:color_rgb:parts:actions\nsky:0,0,0::\ndog:176,112,32::\ncat:1,1,1::\n"),
        ("class_dict.csv", "name,r,g,b\nsky,0,0,0\ndog,176,112,32\ncat,1,1,1\n"),
    ],
)
def test_colors_are_read_by_their_table(file, content, tmp_path):
    write(tmp_path, {"a": values(0, 2), "b": COLORS[values(0, 1)]})
    (tmp_path / file).write_text(content)
    train, _, findings = read(tmp_path)
    assert train.class_names == ["sky", "dog", "cat"]
    assert [train.labels(i)[:, 0].tolist() for i in range(2)] == [[0, 2], [0, 1]]
    assert not findings.places


def test_unknown_colors_are_refused_with_the_file(tmp_path):
    write(tmp_path, {"a": np.uint8([[[0, 0, 0], [9, 8, 7]]])})
    (tmp_path / "colors.csv").write_text("name,r,g,b\nsky,0,0,0\n")
    assert read(tmp_path)[2].places == {Problem.UNKNOWN_COLOR: ["a.png: (9, 8, 7); accepted: those of colors.csv"]}


def test_colors_without_a_table_are_refused(tmp_path):
    write(tmp_path, {"a": COLORS[values(0, 1)]})
    assert "labelmap.txt or classes.csv" in read(tmp_path)[2].places[Problem.MAP_UNREADABLE][0]
