"""What becomes of pictures on their way into a model."""

from __future__ import annotations

from typing import Any, TypeVar

from pyspark.ml.param import Param, Params, TypeConverters

from sparkdl.params.checks import at_least, choice, loader, size

SCALE_HINTS = (
    "SCALE_AREA_AVERAGING",
    "SCALE_SMOOTH",
    "SCALE_DEFAULT",
    "SCALE_FAST",
    "SCALE_REPLICATE",
    "SCALE_BILINEAR",
    "SCALE_BICUBIC",
    "SCALE_TF_BILINEAR",
)
DEFAULT_MAX_PIXELS = 89_478_485
"""The limit from which Pillow warns of a decompression bomb."""

P = TypeVar("P", bound=Params)


class HasScaleHint(Params):
    """The filter that resizes pictures."""

    scaleHint: Param[str] = Param(
        Params._dummy(),
        "scaleHint",
        "filter that resizes pictures: SCALE_AREA_AVERAGING, SCALE_SMOOTH (box); SCALE_DEFAULT, SCALE_FAST, "
        "SCALE_REPLICATE (nearest); SCALE_BILINEAR, SCALE_BICUBIC (as Pillow); "
        "SCALE_TF_BILINEAR (as tf.image.resize)",
        choice("scaleHint", SCALE_HINTS),
    )

    def __init__(self) -> None:
        super().__init__()
        self._setDefault(scaleHint="SCALE_AREA_AVERAGING")

    def getScaleHint(self) -> str:
        """The filter that resizes pictures to the size of the model's input."""
        return self.getOrDefault(self.scaleHint)

    def setScaleHint(self: P, value: str) -> P:
        """Sets the filter that resizes pictures to the size of the model's input."""
        return self._set(scaleHint=value)


class HasResizeMode(Params):
    """What becomes of a picture whose sides are not in the ratio of the model's input."""

    resizeMode: Param[str] = Param(
        Params._dummy(),
        "resizeMode",
        'how a picture fills the model\'s input: "stretch", "crop" (resize the short side, cut the centre), '
        'or "pad" (resize the long side, black bars)',
        choice("resizeMode", ("stretch", "crop", "pad")),
    )

    def __init__(self) -> None:
        super().__init__()
        self._setDefault(resizeMode="stretch")

    def getResizeMode(self) -> str:
        """`"stretch"`, `"crop"` or `"pad"`."""
        return self.getOrDefault(self.resizeMode)

    def setResizeMode(self: P, value: str) -> P:
        """Sets `"stretch"`, `"crop"` (short side, centre cut) or `"pad"` (long side, black bars)."""
        return self._set(resizeMode=value)


class HasPictureOptions(Params):
    """How encoded pictures are decoded."""

    maxPixels: Param[int] = Param(
        Params._dummy(),
        "maxPixels",
        "most pixels (width times height) a picture may have; larger ones are invalid (at least 1)",
        at_least("maxPixels", 1),
    )
    applyExifOrientation: Param[bool] = Param(
        Params._dummy(),
        "applyExifOrientation",
        "whether the orientation in a picture's EXIF data is applied",
        TypeConverters.toBoolean,
    )
    fastDecode: Param[bool] = Param(
        Params._dummy(),
        "fastDecode",
        "whether JPEG pictures much larger than needed may be decoded at reduced size: "
        "faster, a little less exact",
        TypeConverters.toBoolean,
    )

    def __init__(self) -> None:
        super().__init__()
        self._setDefault(maxPixels=DEFAULT_MAX_PIXELS, applyExifOrientation=False, fastDecode=False)

    def getMaxPixels(self) -> int:
        """Most pixels (width times height) a picture may have."""
        return self.getOrDefault(self.maxPixels)

    def setMaxPixels(self: P, value: int) -> P:
        """Sets the most pixels (width times height) of a picture; larger ones are invalid."""
        return self._set(maxPixels=value)

    def getApplyExifOrientation(self) -> bool:
        """Whether the orientation in a picture's EXIF data is applied."""
        return self.getOrDefault(self.applyExifOrientation)

    def setApplyExifOrientation(self: P, value: bool) -> P:
        """Sets whether the orientation in EXIF data is applied. Spark's image source and Keras do not."""
        return self._set(applyExifOrientation=value)

    def getFastDecode(self) -> bool:
        """Whether JPEG may be decoded at reduced size."""
        return self.getOrDefault(self.fastDecode)

    def setFastDecode(self: P, value: bool) -> P:
        """Sets whether JPEG much larger than needed may be decoded at 1/2, 1/4 or 1/8 of its size."""
        return self._set(fastDecode=value)


class HasChannelOrder(Params):
    """The order in which a model takes the channels of pictures."""

    channelOrder: Param[str] = Param(
        Params._dummy(),
        "channelOrder",
        'order of the channels that the model takes: "RGB", "BGR", or "L" (one, grey)',
        choice("channelOrder", ("RGB", "BGR", "L")),
    )

    def __init__(self) -> None:
        super().__init__()
        self._setDefault(channelOrder="RGB")

    def getChannelOrder(self) -> str:
        """`"RGB"`, `"BGR"` or `"L"`."""
        return self.getOrDefault(self.channelOrder)

    def setChannelOrder(self: P, value: str) -> P:
        """Sets `"RGB"`, `"BGR"` or, for a model of one channel, `"L"`.

        Where it is not set, a model of one channel gets `"L"`, and preprocessing `"caffe"` means `"BGR"`, as
        in Keras.
        """
        return self._set(channelOrder=value)


class HasPreprocessing(Params):
    """What becomes of pixels before the model sees them."""

    preprocessing: Param[str] = Param(
        Params._dummy(),
        "preprocessing",
        'what becomes of pixels (0 to 255) before the model sees them: "none", "tf" (to -1 ... 1), "caffe" '
        "(ImageNet's mean subtracted), or \"torch\" (to 0 ... 1, then ImageNet's mean and deviation)",
        choice("preprocessing", ("none", "tf", "caffe", "torch")),
    )

    def __init__(self) -> None:
        super().__init__()
        self._setDefault(preprocessing="none")

    def getPreprocessing(self) -> str:
        """`"none"`, `"tf"`, `"caffe"` or `"torch"`."""
        return self.getOrDefault(self.preprocessing)

    def setPreprocessing(self: P, value: str) -> P:
        """Sets what becomes of pixels (0 to 255): `"none"`, or what Keras' `preprocess_input` calls `"tf"`,
        `"caffe"` or `"torch"`.
        """
        return self._set(preprocessing=value)


class HasInputSize(Params):
    """The size of a model's pictures."""

    inputSize: Param[list[int]] = Param(
        Params._dummy(),
        "inputSize",
        "height and width to which pictures are resized, in pixels; the model's own when unset",
        size,
    )

    def getInputSize(self) -> list[int]:
        """Height and width, in pixels."""
        return self.getOrDefault(self.inputSize)

    def setInputSize(self: P, value: list[int]) -> P:
        """Sets height and width in pixels, for a model that takes pictures of any size."""
        return self._set(inputSize=value)


class HasImageLoader(Params):
    """A function of the caller's that reads pictures; Python alone has it."""

    imageLoader: Param[Any] = Param(
        Params._dummy(),
        "imageLoader",
        "function that takes a URI and gives the picture as the model takes it: an array [height, width, "
        "channels] or [1, height, width, channels], RGB; or its importable name (module:function)",
        loader,
    )

    def getImageLoader(self) -> Any:
        """The function, or its importable name."""
        return self.getOrDefault(self.imageLoader)

    def setImageLoader(self: P, value: Any) -> P:
        """Sets a function from a URI to an array `[height, width, channels]` (or with a leading 1), RGB, as
        the model takes it: nothing is resized or normalised, numbers become float32.

        It runs in the workers, one call at a time; where it raises or gives None, the row is invalid. Or its
        importable name, `"module:function"`, which is also what a saved stage holds.
        """
        return self._set(imageLoader=value)
