import numpy as np
import pytest

from tests.helpers.annotated import write_image, write_map
from transxnet.data.formats.findings import Findings, Problem
from transxnet.data.formats.label_maps import ENDINGS, find_label_maps, is_ade20k, pair_up

MAP = np.zeros((3, 4), np.uint8)


def write(root, images: str, maps: str, *stems: str) -> None:
    for stem in stems:
        write_map(root / maps / f"{stem}.png", MAP, image_path=root / images / f"{stem}.jpg")


def found(root):
    """Relative paths of the images and label maps of each split."""
    parts = []
    for part in find_label_maps(root)[:2]:
        pairs = None if part is None else pair_up(part, Findings())
        parts.append(pairs and [(a.relative_to(root).as_posix(), b.relative_to(root).as_posix()) for a, b in pairs])
        assert part is None or part.count() == len(pairs)
    return parts


@pytest.mark.parametrize(
    ("images", "maps"),
    [
        ("images", "annotations"),
        ("images", "masks"),
        ("Images", "label_maps"),
        ("image", "mask"),
        ("img_dir", "ann_dir"),
        ("leftImg8bit", "gtFine"),
        ("Original", "Ground Truth"),
    ],
)
@pytest.mark.parametrize(("train", "val"), [("training", "validation"), ("train", "val")])
def test_parts_below_the_folders(images, maps, train, val, tmp_path):
    write(tmp_path, f"{images}/{train}", f"{maps}/{train}", "a", "deep/b")
    write(tmp_path, f"{images}/{val}", f"{maps}/{val}", "c")
    write(tmp_path, f"{images}/test", f"{maps}/test", "d")
    assert find_label_maps(tmp_path).test.maps == tmp_path / maps / "test"
    assert found(tmp_path) == [
        [
            (f"{images}/{train}/a.jpg", f"{maps}/{train}/a.png"),
            (f"{images}/{train}/deep/b.jpg", f"{maps}/{train}/deep/b.png"),
        ],
        [(f"{images}/{val}/c.jpg", f"{maps}/{val}/c.png")],
    ]


def test_parts_above_the_folders(tmp_path):
    write(tmp_path, "train/images", "train/masks", "a")
    write(tmp_path, "valid/images", "valid/masks", "b")
    assert found(tmp_path) == [
        [("train/images/a.jpg", "train/masks/a.png")],
        [("valid/images/b.jpg", "valid/masks/b.png")],
    ]
    assert {part.root for part in find_label_maps(tmp_path)[:2]} == {tmp_path}


@pytest.mark.parametrize("ending", ["annot", "_labels", "-masks"])
def test_parts_next_to_their_label_maps(ending, tmp_path):
    for name in ("train", "Val", "test"):
        write(tmp_path, name, name + ending, "a")
    assert found(tmp_path) == [[("train/a.jpg", f"train{ending}/a.png")], [("Val/a.jpg", f"Val{ending}/a.png")]]
    assert find_label_maps(tmp_path).test.images == tmp_path / "test"


def test_no_parts(tmp_path):
    write(tmp_path, "images", "masks", "a", "b")
    assert found(tmp_path) == [[("images/a.jpg", "masks/a.png"), ("images/b.jpg", "masks/b.png")], None]


def test_the_lists_of_pascal_voc(tmp_path):
    write(tmp_path, "VOC2012/JPEGImages", "VOC2012/SegmentationClass", "a", "b")
    write_image(tmp_path / "VOC2012/JPEGImages/unlabelled.jpg")
    assert [names and len(names) for names in found(tmp_path)] == [2, None]
    lists = tmp_path / "VOC2012/ImageSets/Segmentation"
    lists.mkdir(parents=True)
    (lists / "train.txt").write_text("b\n")
    (lists / "val.txt").write_text("a\n")
    assert found(tmp_path) == [
        [("VOC2012/JPEGImages/b.jpg", "VOC2012/SegmentationClass/b.png")],
        [("VOC2012/JPEGImages/a.jpg", "VOC2012/SegmentationClass/a.png")],
    ]


@pytest.mark.parametrize("ending", [*ENDINGS, ".jpg", ".jpg_mask"])
def test_label_maps_may_have_name_suffixes(ending, tmp_path):
    write_map(tmp_path / f"masks/a{ending}.png", MAP, image_path=tmp_path / "images/a.jpg")
    assert found(tmp_path)[0] == [("images/a.jpg", f"masks/a{ending}.png")]


def test_cityscapes_pairs_are_found(tmp_path):
    stem = "train/bonn/bonn_0"
    for kind in ("labelTrainIds", "labelIds", "color"):
        write_map(tmp_path / f"gtFine/{stem}_gtFine_{kind}.png", MAP)
    write_image(tmp_path / f"leftImg8bit/{stem}_leftImg8bit.png", 4, 3)
    assert found(tmp_path)[0] == [(f"leftImg8bit/{stem}_leftImg8bit.png", f"gtFine/{stem}_gtFine_labelTrainIds.png")]
    findings = Findings()
    pair_up(find_label_maps(tmp_path).train, findings)
    assert not findings.places


def test_composed_and_decomposed_names_are_equal(tmp_path):
    write_map(tmp_path / "masks/cafe\u0301.png", MAP, image_path=tmp_path / "images/caf\xe9.jpg")
    assert found(tmp_path)[0] == [("images/caf\xe9.jpg", "masks/cafe\u0301.png")]


def test_names_without_any_pair_show_the_accepted_endings(tmp_path):
    write_map(tmp_path / "masks/x1.png", MAP, image_path=tmp_path / "images/a.jpg")
    findings = Findings()
    assert pair_up(find_label_maps(tmp_path).train, findings) == []
    assert findings.places[Problem.NO_ANNOTATION] == [
        f"a.jpg: masks/a.png is missing; found: x1, accepted endings: {', '.join(ENDINGS[1:])}"
    ]


def test_folders_of_lossy_masks_are_label_maps(tmp_path):
    write_image(tmp_path / "images/a.jpg")
    write_image(tmp_path / "masks/a.jpg")
    findings = Findings()
    assert pair_up(find_label_maps(tmp_path).train, findings) == []
    assert findings.places == {Problem.MAP_LOSSY: ["a.jpg; accepted: .png, .bmp, .tif, .tiff"]}


def test_images_without_a_map_and_lossy_maps_are_reported(tmp_path):
    write(tmp_path, "images", "masks", "a")
    write_image(tmp_path / "images/b.png")
    write_image(tmp_path / "images/c.png")
    write_image(tmp_path / "masks/c.jpg")
    write_map(tmp_path / "masks/nobodys.png", MAP)
    findings = Findings()
    pairs = pair_up(find_label_maps(tmp_path)[0], findings)
    assert [image.name for image, _ in pairs] == ["a.jpg"]
    assert findings.places == {
        Problem.NO_ANNOTATION: ["b.png: masks/b.png is missing"],
        Problem.MAP_LOSSY: ["c.jpg; accepted: .png, .bmp, .tif, .tiff"],
        Problem.STRAY_MAP: ["nobodys.png"],
    }
    assert findings.images == 3


def test_missing_listed_images_are_reported(tmp_path):
    write(tmp_path, "JPEGImages", "SegmentationClass", "a")
    (tmp_path / "ImageSets/Segmentation").mkdir(parents=True)
    (tmp_path / "ImageSets/Segmentation/train.txt").write_text("a\nb")
    findings = Findings()
    assert len(pair_up(find_label_maps(tmp_path)[0], findings)) == 1
    assert findings.places == {Problem.IMAGE_MISSING: ["b: listed, but not in JPEGImages/"]}


def test_text_files_with_boxes_are_not_label_maps(tmp_path):
    write_image(tmp_path / "images/a.jpg")
    (tmp_path / "labels").mkdir()
    (tmp_path / "labels/a.txt").write_text("0 0.5 0.5 0.1 0.1")
    assert not any(find_label_maps(tmp_path))
    assert not any(find_label_maps(tmp_path / "nowhere"))


def test_ade20k_is_known_by_its_name_and_its_table(tmp_path):
    assert not is_ade20k(tmp_path)
    (tmp_path / "ADEChallengeData2016").mkdir()
    assert is_ade20k(tmp_path / "ADEChallengeData2016")
    (tmp_path / "objectInfo150.txt").touch()
    assert is_ade20k(tmp_path)
