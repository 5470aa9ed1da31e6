import pytest

from tests.helpers.annotated import voc_object, write_image, write_voc
from transxnet.data.formats.findings import Findings, Problem
from transxnet.data.formats.voc import find_voc, read_voc
from transxnet.utils.errors import UserError


def read(root):
    findings = Findings()
    return *read_voc(find_voc(root)[:2], findings), findings


def lists(root, **stems: str) -> None:
    folder = root / "ImageSets" / "Main"
    folder.mkdir(parents=True)
    for name, text in stems.items():
        (folder / f"{name}.txt").write_text(text)


def test_pixels_count_from_one_with_both_ends(tmp_path):
    write_voc(tmp_path, "b", voc_object("cat", (1, 1, 40, 30)), voc_object("ant", (5, 6, 5, 8), difficult=1))
    write_voc(tmp_path, "a")
    train, val, findings = read(tmp_path)
    assert val is None
    assert train.own_names == ["a.jpg", "b.jpg"]
    assert train.class_names == ["ant", "cat"]
    assert train.category_ids == [1, 2]
    target = train.target(1)
    assert target["boxes"].tolist() == [[0, 0, 40, 30], [4, 5, 5, 8]]
    assert target["labels"].tolist() == [2, 1]
    assert target["iscrowd"].tolist() == [0, 1]
    assert target["area"].tolist() == [1200, 3]
    assert target["image_id"] == 2
    assert train.target(1, crowds=False)["labels"].tolist() == [2]
    assert len(train.target(0)["boxes"]) == 0
    assert not findings.places


def test_zero_as_first_pixel_is_accepted(tmp_path):
    write_voc(tmp_path, "a", voc_object("cat", (0, 0, 39.5, 29)))
    train, _, findings = read(tmp_path)
    assert train.target(0)["boxes"].tolist() == [[0, 0, 39.5, 29]]
    assert not findings.places


@pytest.mark.parametrize(
    ("names", "parts"),
    [
        (dict(train="a\nb\n", val="c\n", trainval="a\nb\nc"), (["a", "b"], ["c"])),
        (dict(trainval="a\nb", test="c"), (["a", "b"], None)),
        (dict(trainval="a\nb", val="b"), (["a"], ["b"])),
        (dict(Train="a\r\nb\r\n", Validation="c\n", TEST="a"), (["a", "b"], ["c"])),
        (dict(training="a", dev="b"), (["a"], ["b"])),
        (dict(default="a"), (["a", "b", "c"], None)),
        (dict(trainval="a\nb\nc"), (["a", "b", "c"], None)),
        (dict(val="b"), (None, ["b"])),
        (dict(train="a  1\nb -1\n\na 1", val="c 1"), (["a", "b"], ["c"])),
        ({}, (["a", "b", "c"], None)),
    ],
)
def test_lists_are_the_parts(names, parts, tmp_path):
    for stem in "abc":
        write_voc(tmp_path, stem, voc_object("cat", (1, 1, 4, 3)))
    lists(tmp_path, **names)
    assert tuple(None if part is None else part.stems for part in find_voc(tmp_path)[:2]) == parts


@pytest.mark.parametrize("folder", ["VOC2007", "VOCdevkit/VOC2012"])
def test_a_year_below_the_root(folder, tmp_path):
    (tmp_path / folder).mkdir(parents=True)
    write_voc(tmp_path / folder, "a")
    assert find_voc(tmp_path)[0].root == tmp_path / folder
    (tmp_path / "VOCdevkit/VOC2042").mkdir(parents=True)
    write_voc(tmp_path / "VOCdevkit/VOC2042", "a")
    with pytest.raises(UserError, match=r"several years: .*VOC2042"):
        find_voc(tmp_path)


def test_both_parts_have_the_same_classes(tmp_path):
    write_voc(tmp_path, "a", voc_object("dog", (1, 1, 4, 3)))
    write_voc(tmp_path, "b", voc_object("cat", (1, 1, 4, 3)))
    lists(tmp_path, train="a", val="b")
    train, val, _ = read(tmp_path)
    assert train.class_names == val.class_names == ["cat", "dog"]
    assert (train.target(0)["labels"].tolist(), val.target(0)["labels"].tolist()) == ([2], [1])


def test_a_list_of_classes_is_binding(tmp_path):
    write_voc(tmp_path, "a", voc_object("dog", (1, 1, 4, 3)), voc_object("dgo", (1, 1, 4, 3)))
    (tmp_path / "classes.txt").write_text("person\ndog")
    train, _, findings = read(tmp_path)
    assert train.class_names == ["person", "dog"]
    assert train.target(0)["labels"].tolist() == [2]
    assert findings.places == {Problem.UNKNOWN_CATEGORY: ["a.xml: object 2: category 'dgo'"]}


def test_problems_are_reported_with_the_file(tmp_path):
    write_voc(
        tmp_path,
        "a",
        voc_object("cat", (5, 5, 4, 9)),
        voc_object("cat", (5, 5, 60, 9)),
        voc_object("cat", (5, "x", 6, 9)),
        voc_object("", (5, 5, 6, 9)),
        "<object><name>cat</name></object>",
    )
    write_voc(tmp_path, "b")
    (tmp_path / "JPEGImages/b.jpg").unlink()
    lists(tmp_path, train="a\nb\nc")
    train, _, findings = read(tmp_path)
    assert train.own_names == ["a.jpg"]
    assert train.target(0)["boxes"].tolist() == [[4, 4, 40, 9]]
    assert findings.places == {
        Problem.NO_ANNOTATION: ["c: c.xml is missing"],
        Problem.IMAGE_MISSING: ["b.xml: missing: JPEGImages/b.*"],
        Problem.BOX_EMPTY: ["a.xml: object 1: [4.0, 4.0, 0.0, 5.0]"],
        Problem.BOX_OUTSIDE: ["a.xml: object 2: [4.0, 4.0, 56.0, 5.0] in 40x30"],
        Problem.BOX_BROKEN: [
            "a.xml: object 3: [5.0, None, 6.0, 9.0]",
            "a.xml: object 5: [None, None, None, None]",
        ],
        Problem.ENTRY_BROKEN: ["a.xml: object 4: not one <name>"],
    }
    assert findings.images == 3


def test_invalid_xml_is_refused(tmp_path):
    write_voc(tmp_path, "a")
    (tmp_path / "Annotations/a.xml").write_text("<annotation><object></annotation>")
    _, _, findings = read(tmp_path)
    with pytest.raises(UserError, match=r"a\.xml: mismatched tag: line 1, column 22"):
        findings.refuse()


def test_images_that_are_all_missing_are_an_error(tmp_path):
    write_voc(tmp_path, "a")
    (tmp_path / "JPEGImages/a.jpg").unlink()
    with pytest.raises(UserError, match="none of the images"):
        read(tmp_path)


def test_a_size_that_is_not_given_is_looked_up(tmp_path):
    write_voc(tmp_path, "a")
    path = tmp_path / "Annotations/a.xml"
    path.write_text(path.read_text().replace("<width>40</width>", "<width>0</width>"))
    assert read(tmp_path)[0].own_sizes.tolist() == [[30, 40]]


def test_other_layout_returns_none(tmp_path):
    assert not any(find_voc(tmp_path))
    write_voc(tmp_path, "a")
    (tmp_path / "Annotations/a.xml").unlink()
    assert not any(find_voc(tmp_path))


def test_test_list_is_the_test_set(tmp_path):
    for stem in "abc":
        write_voc(tmp_path, stem)
    lists(tmp_path, train="a", val="b", Test="c")
    assert find_voc(tmp_path).test.stems == ["c"]


def test_each_box_of_an_object_is_an_object(tmp_path):
    second = "<bndbox><xmin>5</xmin><ymin>5</ymin><xmax>8</xmax><ymax>9</ymax></bndbox></object>"
    write_voc(tmp_path, "a", voc_object("cat", (1, 1, 4, 3), 1).replace("</object>", second))
    train, _, findings = read(tmp_path)
    assert train.target(0)["boxes"].tolist() == [[0, 0, 4, 3], [4, 4, 8, 9]]
    assert train.target(0)["iscrowd"].tolist() == [1, 1]
    assert (findings.objects, findings.places) == (2, {})


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        ("</name>", "</name><name>dog</name>", Problem.ENTRY_BROKEN),
        ("<xmin>1</xmin>", "<xmin>1</xmin><xmin>2</xmin>", Problem.BOX_BROKEN),
        ("<difficult>0", "<difficult>perhaps", Problem.ENTRY_BROKEN),
    ],
)
def test_ambiguous_elements_are_reported(old, new, problem, tmp_path):
    write_voc(tmp_path, "a", voc_object("cat", (1, 1, 4, 3)).replace(old, new), voc_object("cat", (1, 1, 4, 3)))
    _, _, findings = read(tmp_path)
    assert list(findings.places) == [problem]


def move(root, xml: str, images: str, *stems: str) -> None:
    """Move files of Pascal VOC's layout to other folders."""
    for stem in stems:
        for old, new in (
            (root / f"Annotations/{stem}.xml", root / xml),
            (root / f"JPEGImages/{stem}.jpg", root / images),
        ):
            new.mkdir(parents=True, exist_ok=True)
            old.rename(new / old.name)
    for name in ("Annotations", "JPEGImages"):
        if not any((root / name).iterdir()):
            (root / name).rmdir()


@pytest.mark.parametrize(
    ("xml", "images"),
    [(".", "."), ("annotations", "images"), ("images", "images"), ("labels", "Images"), ("xml", "img")],
)
def test_other_folders_of_one_set(xml, images, tmp_path):
    for stem in "ab":
        write_voc(tmp_path, stem, voc_object("cat", (1, 1, 4, 3)))
    move(tmp_path, xml, images, "a", "b")
    (train, val, findings) = read(tmp_path)
    assert (train.own_names, val, findings.places) == (["a.jpg", "b.jpg"], None, {})


@pytest.mark.parametrize(
    "folders",
    [
        "{}",
        "{}/images {}/annotations",
        "images/{} annotations/{}",
        "JPEGImages/{} Annotations/{}",
        "{}/images {}/images",
    ],
)
def test_other_folders_of_several_sets(folders, tmp_path):
    for stem in "abc":
        write_voc(tmp_path, stem, voc_object(f"class {stem}", (1, 1, 4, 3)))
    for part, stem in (("train", "a"), ("Valid", "b"), ("test", "c")):
        images, xml = (folders.format(part, part).split() * 2)[:2]
        move(tmp_path, xml, images, stem)
    parts = find_voc(tmp_path)
    findings = Findings()
    sets = read_voc(parts, findings)
    assert [images.own_names for images in sets] == [["a.jpg"], ["b.jpg"], ["c.jpg"]]
    assert sets[0].class_names == ["class a", "class b", "class c"]
    assert not findings.places


def test_folders_below_both_are_part_of_the_name(tmp_path):
    for stem in "ab":
        write_voc(tmp_path, stem, voc_object("cat", (1, 1, 4, 3)))
    move(tmp_path, "Annotations/cam1", "JPEGImages/cam1", "a")
    assert read(tmp_path)[0].own_names == ["b.jpg", "cam1/a.jpg"]


def test_images_of_equal_name_are_distinguished_by_the_file(tmp_path):
    write_voc(tmp_path, "a", voc_object("cat", (1, 1, 4, 3)))
    write_image(tmp_path / "JPEGImages/a.png")
    findings = Findings()
    with pytest.raises(UserError, match="none of the images"):
        read_voc(find_voc(tmp_path), findings)
    assert findings.places == {Problem.IMAGE_MISSING: ["a.xml: <filename> does not match JPEGImages/a.*"]}
    path = tmp_path / "Annotations/a.xml"
    path.write_text(path.read_text().replace("<annotation>", "<annotation><filename>a.png</filename>"))
    assert read(tmp_path)[0].own_names == ["a.png"]


def test_other_xml_files_are_not_voc(tmp_path):
    write_image(tmp_path / "a.jpg")
    (tmp_path / "annotations.xml").write_text('<?xml version="1.0"?><annotations><image/></annotations>')
    assert not any(find_voc(tmp_path))
