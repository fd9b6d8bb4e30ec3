"""Between Spark's image struct, numpy arrays and Pillow. Structs and their arrays are BGR(A), Pillow is
RGB(A).
"""

from __future__ import annotations

from collections.abc import Callable
from io import BytesIO
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from pyspark.sql import Row

from sparkdl.exceptions import SparkDLValueError
from sparkdl.image.schema import ImageType, columnSchema, imageTypeByOrdinal, imageTypes

if TYPE_CHECKING:
    from PIL import Image

Pixels = NDArray[Any]


def imageArrayToStruct(imgArray: Pixels, origin: str = "") -> Row:
    """A row of the image schema from `[height, width, channels]`, uint8 or float32, BGR(A) or grey.

    A leading dimension of 1 is dropped.
    """
    if imgArray.ndim == 4:
        if imgArray.shape[0] != 1:
            raise SparkDLValueError(
                f"The first dimension of a 4-d image array must be 1, but the shape is {imgArray.shape}."
            )
        imgArray = imgArray[0]
    imageType = _array_type(imgArray)
    height, width, channels = imgArray.shape
    values = (origin, height, width, channels, imageType.ord, bytearray(imgArray.tobytes()))
    return Row(**dict(zip(columnSchema.names, values, strict=True)))


def imageStructToArray(imageRow: Row) -> Pixels:
    """`[height, width, channels]` in the struct's own order, BGR(A) or grey. It may share memory with the
    row.
    """
    imageType = imageTypeByOrdinal(imageRow.mode)
    shape = (imageRow.height, imageRow.width, imageRow.nChannels)
    needed = int(np.prod(shape)) * np.dtype(imageType.dtype).itemsize
    if imageRow.nChannels != imageType.nChannels or len(imageRow.data) != needed:
        raise SparkDLValueError(
            f"The image says {shape} of type {imageType.name}, which is {needed} bytes, "
            f"but has {len(imageRow.data)} bytes."
        )
    pixels: Pixels = np.ndarray(shape, imageType.dtype, imageRow.data)
    return pixels


def imageStructToPIL(imageRow: Row) -> Image.Image:
    """A Pillow image of mode L, RGB or RGBA. Float structs are refused: Pillow has no such colour images."""
    from PIL import Image

    imageType = imageTypeByOrdinal(imageRow.mode)
    if imageType.dtype != "uint8":
        raise SparkDLValueError(
            f"Cannot make a Pillow image of type {imageType.name}: it must be a uint8 type."
        )
    pixels = swapped(imageStructToArray(imageRow))
    return Image.fromarray(pixels[..., 0] if imageType.nChannels == 1 else pixels)


def PIL_to_imageStruct(img: Image.Image) -> Pixels:
    """The array of a Pillow image as `imageArrayToStruct` takes it: BGR, BGRA or grey.

    The name is the original's, though an array is returned. Modes that the image schema does not have are
    converted: 1 and LA to grey, palettes and CMYK and the like to RGB, palettes with transparency to
    RGBA. 16-bit greys lose their low byte.
    """
    if img.mode.startswith("I;16"):
        high: Pixels = (np.asarray(img) >> 8).astype(np.uint8)
        return high[..., None]
    return swapped(np.atleast_3d(np.asarray(img.convert(_pillow_mode(img)))))


def PIL_decode(raw_bytes: bytes) -> Pixels:
    """An encoded file to an array by Pillow, for `readImagesWithCustomFn`."""
    from PIL import Image

    return PIL_to_imageStruct(Image.open(BytesIO(raw_bytes)))


def PIL_decode_and_resize(size: tuple[int, int]) -> Callable[[bytes], Pixels]:
    """Like `PIL_decode`, resized by Pillow's default filter. `size` is Pillow's: (width, height)."""

    def decode(raw_bytes: bytes) -> Pixels:
        from PIL import Image

        return PIL_to_imageStruct(Image.open(BytesIO(raw_bytes)).resize(size))

    return decode


def fixColorChannelOrdering(currentOrder: str, imgAry: Pixels) -> Pixels:
    """Pixels of order RGB, BGR or L to the BGR or grey of the image schema. A fourth channel stays the
    last.
    """
    if currentOrder == "RGB":
        return swapped(imgAry)
    if currentOrder == "BGR":
        return imgAry
    if currentOrder == "L":
        if imgAry.shape[-1] != 1:
            raise SparkDLValueError(f"Channel order L needs one channel, but the shape is {imgAry.shape}.")
        return imgAry
    raise SparkDLValueError(f"Unknown channel order {currentOrder}. Known orders: RGB, BGR, L.")


def createResizeImageUDF(size: tuple[int, int]) -> Callable[..., Any]:
    """A function of columns: `df.select(createResizeImageUDF((height, width))("image"))`.

    Resizes natively by the box filter, as the stages' default does. Null and Spark's invalid-image row
    stay what they are; a struct whose data do not fit its size becomes null.
    """
    if len(size) != 2 or not all(isinstance(side, int) and side > 0 for side in size):
        raise SparkDLValueError(f"The new size must be (height, width), both at least 1, but was {size}.")
    from sparkdl.image.reading import resize_function

    return resize_function(size[0], size[1])


def _array_type(pixels: Pixels) -> ImageType:
    if pixels.ndim != 3:
        raise SparkDLValueError(f"An image array must be [height, width, channels], but was {pixels.shape}.")
    for imageType in imageTypes:
        if (imageType.dtype, imageType.nChannels) == (pixels.dtype.name, pixels.shape[2]):
            return imageType
    raise SparkDLValueError(
        f"An image array must be uint8 or float32 with 1, 3 or 4 channels, "
        f"but was {pixels.dtype.name} with {pixels.shape[2]}."
    )


def _pillow_mode(img: Image.Image) -> str:
    if img.mode in ("L", "RGB", "RGBA", "F"):
        return img.mode
    if img.mode in ("1", "LA", "La"):
        return "L"
    return "RGBA" if "transparency" in img.info or img.mode in ("PA", "RGBa") else "RGB"


def swapped(pixels: Pixels) -> Pixels:
    """Red and blue exchanged; grey and alpha as they are."""
    channels = pixels.shape[-1]
    if channels == 1:
        return pixels
    swapped: Pixels = np.ascontiguousarray(pixels[..., [2, 1, 0, *range(3, channels)]])
    return swapped
