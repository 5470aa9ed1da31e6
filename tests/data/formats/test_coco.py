"""Annotation files against pycocotools, and every kind of invalid file."""

import json

import numpy as np
import pytest

from tests.helpers.annotated import CATEGORIES, box, image, write_coco, write_image
from transxnet.data.formats.coco import read_coco
from transxnet.data.formats.coco_folders import find_coco
from transxnet.data.formats.findings import Findings, Problem
from transxnet.data.reading.masks import encode_mask
from transxnet.utils.errors import UserError

POLYGON = [[4, 5, 14.5, 5, 14, 13.25, 4, 12], [20, 20, 30, 20, 25, 29]]


def read(root, *, masks=False):
    findings = Findings()
    part = find_coco(root).train
    return read_coco(part, findings, masks=masks), findings


def write(root, images, annotations, categories=CATEGORIES):
    write_coco(root / "annotations.json", images, annotations, categories, image_folder=root)


def test_boxes_and_masks_match_pycocotools(tmp_path):
    coco = pytest.importorskip("pycocotools.coco")
    generator = np.random.default_rng(0)
    images = [image(number, int(w), int(h)) for number, (w, h) in enumerate(generator.integers(20, 90, (12, 2)), 5)]
    annotations = []
    for number in range(40):
        where = images[generator.integers(11)]  # the last one stays empty
        mask = np.zeros((where["height"], where["width"]), bool)
        top, left = generator.integers(0, 15, 2)
        mask[top : top + 8, left : left + 9] = generator.random(mask[top : top + 8, left : left + 9].shape) < 0.7
        lengths = encode_mask(mask)
        if number % 4 == 0:
            segmentation = (generator.random((2, 10)) * 18).tolist()
        elif number % 4 == 1:
            counts = np.diff(np.flatnonzero(np.diff(np.r_[2, mask.T.ravel(), 2])), prepend=0)
            lead = [] if not mask[0, 0] else [0]
            segmentation = {"size": lengths["size"], "counts": [*lead, *counts[counts > 0].tolist()]}
        else:
            segmentation = lengths
        values = (float(left), float(top), 5.5, 4.25)
        category = CATEGORIES[generator.integers(3)]["id"]
        crowd = int(number % 7 == 0)
        annotations.append(
            box(100 + number, where["id"], values, category, segmentation=segmentation, iscrowd=crowd, area=number + 1)
        )
    write(tmp_path, images, annotations)
    found, findings = read(tmp_path, masks=True)
    assert not findings.places
    truth = coco.COCO(str(tmp_path / "annotations.json"))
    assert found.class_names == ["ant", "dog", "cat"]
    assert found.category_ids == [1, 3, 7]
    assert [found.image_id(i) for i in range(len(found))] == [entry["id"] for entry in images]
    for position, entry in enumerate(images):
        expected = truth.loadAnns(truth.getAnnIds(imgIds=entry["id"]))
        target = found.target(position, masks=True)
        assert found.own_sizes[position].tolist() == [entry["height"], entry["width"]]
        assert target["image_id"] == entry["id"]
        assert len(target["boxes"]) == len(expected)
        assert [found.category_ids[label - 1] for label in target["labels"]] == [a["category_id"] for a in expected]
        assert target["iscrowd"].tolist() == [a["iscrowd"] for a in expected]
        assert target["area"].tolist() == [a["area"] for a in expected]
        for theirs, corners, mask in zip(expected, target["boxes"].tolist(), target["masks"].numpy(), strict=True):
            x, y, width, height = theirs["bbox"]
            assert corners == [x, y, x + width, y + height]
            assert (mask == truth.annToMask(theirs)).all()
    assert len(found.target(11)["boxes"]) == 0


def test_names_with_folders_and_backslashes_are_found(tmp_path):
    (tmp_path / "images").mkdir()
    entries = [
        image(1, file_name="a/1.png"),
        image(2, file_name="b\\2.png"),
        image(3, file_name="C:\\data\\3.png"),
        image(4, file_name=str(tmp_path / "elsewhere" / "4.png")),
    ]
    write_coco(tmp_path / "annotations.json", entries, [])
    for name in ("images/a/1.png", "images/b/2.png", "images/3.png", "elsewhere/4.png"):
        write_image(tmp_path / name)
    found, findings = read(tmp_path)
    assert not findings.places
    assert found.own_names == ["a/1.png", "b/2.png", "3.png", "4.png"]


def test_sizes_that_are_not_given_are_looked_up(tmp_path):
    entries = [image(1), image(2), image(3)]
    del entries[0]["width"], entries[1]["height"]
    entries[2]["width"] = 0
    write_coco(tmp_path / "annotations.json", entries, [])
    for number in (1, 2, 3):
        write_image(tmp_path / f"{number}.png", 20 + number, 10)
    assert read(tmp_path)[0].own_sizes.tolist() == [[10, 21], [10, 22], [10, 23]]


def test_missing_images_and_their_objects_are_skipped(tmp_path):
    write(tmp_path, [image(1), image(2)], [box(1, 1), box(2, 2)])
    (tmp_path / "1.png").unlink()
    found, findings = read(tmp_path)
    assert found.own_names == ["2.png"]
    assert len(found.target(0)["boxes"]) == 1
    assert findings.places == {Problem.IMAGE_MISSING: ["annotations.json: image 1 (1.png)"]}
    assert findings.images == 2


def test_error_without_any_image_names_the_searched_folders(tmp_path):
    write_coco(tmp_path / "annotations.json", [image(1)], [])
    with pytest.raises(
        UserError, match=r"none of the 1 images of .*annotations\.json was found:\n1 image is missing:\n.*1\.png"
    ):
        read(tmp_path)


def test_objects_without_image_are_skipped(tmp_path):
    write(tmp_path, [image(1)], [box(1, 1), box(2, 99)])
    found, findings = read(tmp_path)
    assert len(found.objects.boxes) == 1
    assert findings.places == {Problem.STRAY_ANNOTATION: ["annotations.json: annotation 2 of image 99 (unknown)"]}


def test_problems_are_reported_with_file_and_ids(tmp_path):
    write(tmp_path, [image(1)], [box(11, 1, (0, 0, -1, 5)), box(12, 1, (35, 0, 20, 5)), box(12, 1), box(13, 1, None)])
    _, findings = read(tmp_path)
    where = "annotations.json: annotation {} of image 1 (1.png): "
    assert findings.places == {
        Problem.BOX_EMPTY: [where.format(11) + "[0, 0, -1, 5]"],
        Problem.BOX_OUTSIDE: [where.format(12) + "[35, 0, 20, 5] in 40x30"],
        Problem.MASK_BROKEN: [where.format(13) + "the segmentation is missing"],
        Problem.DUPLICATE_ANNOTATION: ["annotations.json: id 12, 2 times"],
    }
    assert findings.objects == 4


@pytest.mark.parametrize(
    ("images", "annotations", "categories", "problem", "place"),
    [
        ([image(1)], [box(5, 1, category=4)], CATEGORIES, Problem.UNKNOWN_CATEGORY,
         "annotation 5 of image 1 (1.png): category 4"),
        ([image(1), image(1)], [], CATEGORIES, Problem.DUPLICATE_IMAGE, "image 1 (1.png)"),
        ([image(1)], [], [*CATEGORIES, dict(id=3, name="x")], Problem.DUPLICATE_CATEGORY, "category 3 (x)"),
        ([image(1)], [], [*CATEGORIES, dict(id=4, name="dog")], Problem.DUPLICATE_CATEGORY, "category 4 (dog)"),
        ([image(1), dict(id=2)], [], CATEGORIES, Problem.ENTRY_BROKEN, "images[1]: 'file_name' is missing"),
        ([image(1), image("2")], [], CATEGORIES, Problem.ENTRY_BROKEN, "images[1]: 'id' is '2'; accepted: an integer"),
        ([image(1)], [7], CATEGORIES, Problem.ENTRY_BROKEN, "annotations[0] is 7"),
        ([image(1)], [dict(id=1, image_id=1)], CATEGORIES, Problem.ENTRY_BROKEN,
         "annotations[0]: 'category_id' is missing"),
        ([image(1)], [], [dict(id=1)], Problem.ENTRY_BROKEN, "categories[0]: 'name' is missing"),
    ],
)  # fmt: skip
def test_ambiguous_annotations_are_refused(images, annotations, categories, problem, place, tmp_path):
    write_coco(tmp_path / "annotations.json", images, annotations, categories)
    write_image(tmp_path / "1.png")
    _, findings = read(tmp_path)
    assert findings.places == {problem: [f"annotations.json: {place}"]}
    with pytest.raises(UserError, match="the annotations contain errors"):
        findings.refuse()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"images": [],\n "annotations": [}', r"Expecting value at line 2, column 18, near '.*\"annotations\": \[\}'"),
        ('{"images": []}', "missing list 'annotations' and 'categories'"),
        ('{"images": {}, "annotations": [], "categories": []}', "missing list 'images'"),
        ('{"images": [], "annotations": [], "categories": [1]}', "list images is empty"),
        ('{"images": [1], "annotations": [], "categories": []}', "list categories is empty"),
        ('{"images": ' + "[" * 100_000, "nested too deeply"),
        ("", "Expecting value at line 1, column 1"),
        ('{"images": "\udcff"}', "not UTF-8: byte 0xff at position 12"),
    ],
)
def test_a_file_without_annotations_is_refused_with_the_place(text, message, tmp_path):
    (tmp_path / "instances.json").write_text(text, errors="surrogateescape")
    found, findings = read(tmp_path)
    assert found is None
    with pytest.raises(UserError, match=rf"instances\.json: .*{message}"):
        findings.refuse()


def test_missing_masks_are_an_error(tmp_path):
    write(tmp_path, [image(1)], [box(1, 1), box(2, 1, segmentation=[])])
    assert len(read(tmp_path)[0].objects.boxes) == 2
    with pytest.raises(UserError, match=r"has boxes but no .*masks.*--head retinanet"):
        read(tmp_path, masks=True)


def test_masks_of_another_size_are_skipped(tmp_path):
    wrong = encode_mask(np.ones((40, 30)))
    write(tmp_path, [image(1)], [box(1, 1, segmentation=POLYGON), box(2, 1, segmentation=wrong)])
    found, findings = read(tmp_path, masks=True)
    assert len(found.objects.boxes) == 1
    assert findings.places[Problem.MASK_BROKEN] == [
        "annotations.json: annotation 2 of image 1 (1.png): the mask has size [40, 30], the image [30, 40]"
    ]


def test_one_class_and_images_without_objects(tmp_path):
    write(tmp_path, [image(1), image(2)], [box(1, 2, category=9)], [dict(id=9, name="only")])
    found, findings = read(tmp_path)
    assert found.class_names == ["only"]
    assert [len(found.target(i)["boxes"]) for i in range(2)] == [0, 1]
    assert found.target(1)["labels"].tolist() == [1]
    assert not findings.places


def test_byte_order_mark_is_accepted(tmp_path):
    write(tmp_path, [image(1)], [])
    path = tmp_path / "annotations.json"
    path.write_text(json.dumps(json.loads(path.read_text())), encoding="utf-8-sig")
    assert len(read(tmp_path)[0]) == 1


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16", "utf-32"])
def test_other_encodings_of_unicode_are_read(encoding, tmp_path):
    write(tmp_path, [image(1)], [], [dict(id=1, name="Kätzchen")])
    path = tmp_path / "annotations.json"
    content = json.dumps(json.loads(path.read_text()), ensure_ascii=False, indent=1)
    path.write_bytes(content.replace("\n", "\r\n").encode(encoding))
    assert read(tmp_path)[0].class_names == ["Kätzchen"]


def test_other_encodings_are_refused_with_the_byte(tmp_path):
    write(tmp_path, [image(1)], [])
    path = tmp_path / "annotations.json"
    path.write_bytes(path.read_bytes().replace(b"dog", b"d\xf6g"))
    _, findings = read(tmp_path)
    with pytest.raises(UserError, match=r"its encoding is not UTF-8: byte 0xf6 at position \d+; save"):
        findings.refuse()


@pytest.mark.parametrize("key", ["id", "file_name", "image_id", "category_id", "iscrowd"])
def test_value_of_another_type_is_refused(key, tmp_path):
    images, annotations = [image(1), image(2)], [box(1, 1), box(2, 1)]
    (images if key in images[1] else annotations)[1][key] = ["x"]
    write_coco(tmp_path / "annotations.json", images, annotations)
    write_image(tmp_path / "1.png")
    write_image(tmp_path / "2.png")
    _, findings = read(tmp_path)
    (place,) = findings.places[Problem.ENTRY_BROKEN]
    assert f"'{key}' is ['x']; accepted: " in place


def test_numbers_may_be_text_or_whole_floats(tmp_path):
    images = [image(1), image(2, id=2.0)]
    objects = [box(1.0, 1.0, ("4", "5", "10", "8"), 7.0, iscrowd="0", area="60"), box(2, 2, iscrowd="1")]
    write(tmp_path, images, objects, [dict(id=7.0, name=0), dict(id=3, name=1)])
    found, findings = read(tmp_path)
    assert not findings.places
    assert (found.class_names, found.category_ids) == (["1", "0"], [3, 7])
    assert [found.image_id(i) for i in range(2)] == [1, 2]
    assert found.objects.boxes[0].tolist() == [4, 5, 14, 13]
    assert found.objects.crowd.tolist() == [False, True]
    assert found.objects.areas[0] == 60


def test_folders_that_are_missing_are_not_replaced(tmp_path):
    names = ["cam1/1.png", "cam2/1.png", "cam2/2.png", "3.png"]
    write_coco(tmp_path / "annotations.json", [image(i, file_name=name) for i, name in enumerate(names, 1)], [])
    for name in ("1.png", "2.png", "3.png"):
        write_image(tmp_path / name)
    found, findings = read(tmp_path)
    assert found.own_names == ["2.png", "3.png"]
    assert findings.places == {
        Problem.IMAGE_MISSING: [
            f"annotations.json: image {i} ({names[i - 1]}): 1.png without its folder is the file of several images"
            for i in (1, 2)
        ]
    }
    write_image(tmp_path / "cam1/1.png")
    (tmp_path / "1.png").unlink()
    found, findings = read(tmp_path)
    assert found.own_names == ["cam1/1.png", "2.png", "3.png"]
    assert findings.places == {Problem.IMAGE_MISSING: ["annotations.json: image 2 (cam2/1.png)"]}


def test_images_with_the_same_file_are_refused(tmp_path):
    write_coco(tmp_path / "annotations.json", [image(1), image(2, file_name="./1.png")], [])
    write_image(tmp_path / "1.png")
    _, findings = read(tmp_path)
    assert findings.places == {Problem.DUPLICATE_FILE: ["annotations.json: image 2 (./1.png)"]}


def test_urls_name_the_images_below_the_folder(tmp_path):
    names = ["https://host/b/a%20b.png", "/data/local-files/?d=images%2Fc%20d.png"]
    write_coco(tmp_path / "result.json", [image(i, file_name=name) for i, name in enumerate(names, 1)], [])
    for name in ("a b.png", "c d.png"):
        write_image(tmp_path / "images" / name)
    found, findings = read(tmp_path)
    assert (found.own_names, findings.places) == (["a b.png", "c d.png"], {})
