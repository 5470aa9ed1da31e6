import pytest
import torch
from torchvision import tv_tensors

from transxnet.data.loading.opencv_resize import opencv_resize

IMAGE = [[0, 37, 74, 111, 148], [185, 222, 3, 40, 77], [114, 151, 188, 225, 6], [43, 80, 117, 154, 191]]

BY_OPENCV = {
    (7, 3): [
        [12, 74, 136], [78, 49, 110], [184, 8, 70], [162, 96, 72], [121, 183, 86], [81, 142, 143], [55, 117, 179]
    ],
    (5, 9): [
        [0, 12, 33, 53, 74, 94, 115, 136, 148],
        [130, 142, 162, 103, 24, 45, 65, 86, 98],
        [150, 162, 182, 146, 96, 116, 122, 72, 42],
        [93, 105, 125, 146, 167, 187, 188, 109, 61],
        [43, 55, 76, 96, 117, 138, 158, 179, 191],
    ],
}  # fmt: skip
"""By size, ``cv2.resize(IMAGE, (width, height), interpolation=cv2.INTER_LINEAR)`` of opencv-python-headless 4.14.0."""


@pytest.mark.parametrize("size", BY_OPENCV)
def test_result_equals_opencv(size):
    image = torch.tensor([IMAGE, IMAGE[::-1]], dtype=torch.uint8)
    resized = opencv_resize(image, size)
    assert resized.dtype == torch.uint8
    assert resized.shape == (2, *size)
    assert resized[0].tolist() == BY_OPENCV[size]


@pytest.mark.parametrize("size", [(5, 7), (1, 1), (333, 1), (64, 48), (700, 20)])
def test_result_is_within_one_level_of_exact_interpolation(size):
    image = torch.randint(256, (3, 33, 48), dtype=torch.uint8)
    exact = torch.nn.functional.interpolate(image[None].double(), size, mode="bilinear", align_corners=False)[0]
    assert (opencv_resize(image, size).double() - exact).abs().max() <= 1


def test_own_size_keeps_the_image_and_single_pixels_fill_it():
    image = torch.randint(256, (3, 9, 13), dtype=torch.uint8)
    assert torch.equal(opencv_resize(tv_tensors.Image(image), (9, 13)), image)
    assert torch.equal(opencv_resize(image[:, :1, :1], (4, 5)), image[:, :1, :1].expand(3, 4, 5))
