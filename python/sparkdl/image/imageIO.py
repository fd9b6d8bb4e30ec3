"""The names users know: `from sparkdl.image import imageIO`."""

from sparkdl.image.conversion import (
    PIL_decode,
    PIL_decode_and_resize,
    PIL_to_imageStruct,
    createResizeImageUDF,
    fixColorChannelOrdering,
    imageArrayToStruct,
    imageStructToArray,
    imageStructToPIL,
)
from sparkdl.image.reading import filesToDF, readImages, readImagesWithCustomFn
from sparkdl.image.schema import (
    ImageType,
    columnSchema,
    imageSchema,
    imageTypeByName,
    imageTypeByOrdinal,
    imageTypes,
)

__all__ = [
    "ImageType",
    "PIL_decode",
    "PIL_decode_and_resize",
    "PIL_to_imageStruct",
    "columnSchema",
    "createResizeImageUDF",
    "filesToDF",
    "fixColorChannelOrdering",
    "imageArrayToStruct",
    "imageSchema",
    "imageStructToArray",
    "imageStructToPIL",
    "imageTypeByName",
    "imageTypeByOrdinal",
    "imageTypes",
    "readImages",
    "readImagesWithCustomFn",
]
