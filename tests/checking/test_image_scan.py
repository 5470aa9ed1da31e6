"""The facts about each image: size, mode, digest, thumbnail, and the reason of a failure."""

import numpy as np
from PIL import Image

from tests.helpers.planted_problems import texture
from transxnet.checking.image_scan import SIDE, scan_images
from transxnet.data.datasets.image_collection import FileImages, ImageCollection


def test_scan_records_sizes_modes_pixels_and_faults(tmp_path):
    texture(0).save(tmp_path / "a.png")
    texture(0).save(tmp_path / "b.bmp")
    Image.new("L", (30, 20), 200).save(tmp_path / "c.png")
    (tmp_path / "d.png").write_bytes(b"")
    paths = [str(tmp_path / name) for name in ("a.png", "b.bmp", "c.png", "d.png")]
    sets = [ImageCollection(FileImages(part), part, ["x"]) for part in (paths[:1], paths[1:])]
    done = []
    scan = scan_images(sets, done.append)
    assert done == [1, 2, 3, 4]
    assert scan.sizes.tolist() == [[96, 96], [96, 96], [30, 20], [0, 0]]
    assert scan.modes == ["RGB", "RGB", "L", ""]
    assert scan.digests[0] == scan.digests[1] != scan.digests[2]
    assert scan.readable.tolist() == [True, True, True, False]
    assert scan.faults == {3: "the file is empty"}
    assert scan.thumbnails.shape == (4, SIDE, SIDE)
    assert (scan.thumbnails[2] == 200).all()
    assert np.array_equal(scan.thumbnails[0], scan.thumbnails[1])


def test_digest_depends_on_the_shape(tmp_path):
    for name, size in (("a", (20, 30)), ("b", (30, 20))):
        Image.new("RGB", size, "red").save(tmp_path / f"{name}.png")
    paths = [str(tmp_path / name) for name in ("a.png", "b.png")]
    scan = scan_images([ImageCollection(FileImages(paths), paths, ["x"])], lambda done: None)
    assert scan.digests[0] != scan.digests[1]
