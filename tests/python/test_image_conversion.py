"""Array, struct and Pillow: the helpers of `sparkdl.image.imageIO`."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image
from pyspark.sql import Row

from sparkdl import SparkDLValueError
from sparkdl.image import imageIO

NEEDED = "An image array must be uint8 or float32 with 1, 3 or 4 channels"
COLOUR = np.arange(2 * 3 * 3, dtype=np.uint8).reshape(2, 3, 3)


@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("dtype", ["uint8", "float32"])
def test_an_array_survives_the_way_through_a_struct(channels: int, dtype: str) -> None:
    array = np.random.default_rng(0).uniform(0, 255, (5, 7, channels)).astype(dtype)
    struct = imageIO.imageArrayToStruct(array, origin="here")
    assert struct.__fields__ == imageIO.columnSchema.names
    assert (struct.origin, struct.height, struct.width, struct.nChannels) == ("here", 5, 7, channels)
    assert imageIO.imageTypeByOrdinal(struct.mode).dtype == dtype
    np.testing.assert_array_equal(imageIO.imageStructToArray(struct), array)


def test_a_leading_dimension_of_one_is_dropped_and_any_other_refused() -> None:
    assert imageIO.imageArrayToStruct(COLOUR[None]) == imageIO.imageArrayToStruct(COLOUR)
    with pytest.raises(SparkDLValueError, match=r"must be 1, but the shape is \(2, 2, 3, 3\)\."):
        imageIO.imageArrayToStruct(np.stack([COLOUR, COLOUR]))


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (COLOUR[0], "An image array must be [height, width, channels], but was (3, 3)."),
        (COLOUR.astype(np.float64), f"{NEEDED}, but was float64 with 3."),
        (COLOUR[..., :2], f"{NEEDED}, but was uint8 with 2."),
    ],
)
def test_arrays_that_are_no_pictures_are_refused(array: np.ndarray, message: str) -> None:
    with pytest.raises(SparkDLValueError) as caught:
        imageIO.imageArrayToStruct(array)
    assert str(caught.value) == message


def test_a_struct_whose_data_do_not_fit_is_refused() -> None:
    struct = Row(origin="", height=2, width=2, nChannels=3, mode=16, data=b"123")
    message = r"says \(2, 2, 3\) of type CV_8UC3, which is 12 bytes, but has 3 bytes"
    with pytest.raises(SparkDLValueError, match=message):
        imageIO.imageStructToArray(struct)


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA"])
def test_a_pillow_image_survives_the_way_through_a_struct(mode: str) -> None:
    channels = {"L": (), "RGB": (3,), "RGBA": (4,)}[mode]
    pixels = np.random.default_rng(1).integers(0, 256, (6, 5, *channels), dtype=np.uint8)
    struct = imageIO.imageArrayToStruct(imageIO.PIL_to_imageStruct(Image.fromarray(pixels)))
    image = imageIO.imageStructToPIL(struct)
    assert image.mode == mode
    np.testing.assert_array_equal(np.asarray(image), pixels)


def test_structs_are_blue_first_with_alpha_last() -> None:
    red = Image.new("RGBA", (1, 1), (255, 10, 20, 128))
    assert imageIO.PIL_to_imageStruct(red).tolist() == [[[20, 10, 255, 128]]]


@pytest.mark.parametrize(("mode", "channels"), [("1", 1), ("LA", 1), ("P", 3), ("CMYK", 3), ("I;16", 1)])
def test_other_modes_of_pillow_become_grey_or_colour(mode: str, channels: int) -> None:
    array = imageIO.PIL_to_imageStruct(Image.new(mode, (4, 3)))
    assert (array.shape, array.dtype) == ((3, 4, channels), np.uint8)


def test_a_float_struct_makes_no_pillow_image() -> None:
    struct = imageIO.imageArrayToStruct(COLOUR.astype(np.float32))
    message = "Cannot make a Pillow image of type CV_32FC3: it must be a uint8 type"
    with pytest.raises(SparkDLValueError, match=message):
        imageIO.imageStructToPIL(struct)


def test_pillow_decodes_files_and_resizes_by_width_and_height() -> None:
    file = io.BytesIO()
    Image.fromarray(COLOUR).save(file, "PNG")
    np.testing.assert_array_equal(imageIO.PIL_decode(file.getvalue())[..., ::-1], COLOUR)
    assert imageIO.PIL_decode_and_resize((8, 4))(file.getvalue()).shape == (4, 8, 3)


def test_channel_orders_become_that_of_the_struct() -> None:
    np.testing.assert_array_equal(imageIO.fixColorChannelOrdering("RGB", COLOUR), COLOUR[..., ::-1])
    np.testing.assert_array_equal(imageIO.fixColorChannelOrdering("BGR", COLOUR), COLOUR)
    np.testing.assert_array_equal(imageIO.fixColorChannelOrdering("L", COLOUR[..., :1]), COLOUR[..., :1])
    with pytest.raises(SparkDLValueError, match=r"Channel order L needs one channel, but .* is \(2, 3, 3\)"):
        imageIO.fixColorChannelOrdering("L", COLOUR)
    with pytest.raises(SparkDLValueError, match=r"Unknown channel order HSV\. Known orders: RGB, BGR, L"):
        imageIO.fixColorChannelOrdering("HSV", COLOUR)


def test_image_types_are_found_by_name_and_by_ordinal() -> None:
    expected = {"CV_8UC1": 0, "CV_32FC1": 5, "CV_8UC3": 16, "CV_32FC3": 21, "CV_8UC4": 24, "CV_32FC4": 29}
    assert {t.name: t.ord for t in imageIO.imageTypes} == expected
    for name, ordinal in expected.items():
        assert imageIO.imageTypeByName(name) is imageIO.imageTypeByOrdinal(ordinal)
    assert imageIO.imageTypeByName("CV_32FC3") == ("CV_32FC3", 21, 3, "float32")
    with pytest.raises(SparkDLValueError, match=r"Unknown image mode -1\. Known modes: 0 \(CV_8UC1\), "):
        imageIO.imageTypeByOrdinal(-1)
    with pytest.raises(SparkDLValueError, match=r"Unknown image type CV_8UC2\. Known types: CV_8UC1, "):
        imageIO.imageTypeByName("CV_8UC2")


@pytest.mark.parametrize("size", [(0, 5), (5,), (2.5, 3), (3, -1)])
def test_a_size_that_is_none_is_refused(size: tuple[int, int]) -> None:
    with pytest.raises(SparkDLValueError) as caught:
        imageIO.createResizeImageUDF(size)
    assert str(caught.value) == f"The new size must be (height, width), both at least 1, but was {size}."
