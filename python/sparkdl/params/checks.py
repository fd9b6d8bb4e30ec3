"""What values params take: each function makes the converter of a param, or is one."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from typing import Any

from pyspark.ml.param import TypeConverters

from sparkdl.exceptions import SparkDLValueError


def choice(param: str, words: tuple[str, ...]) -> Callable[[Any], str]:
    def convert(value: Any) -> str:
        word = TypeConverters.toString(value)
        if word not in words:
            known = ", ".join(f'"{known}"' for known in words)
            raise SparkDLValueError(f'{param} must be one of {known} but was "{word}".')
        return word

    return convert


def at_least(param: str, least: int) -> Callable[[Any], int]:
    def convert(value: Any) -> int:
        number = TypeConverters.toInt(value)
        if number < least:
            raise SparkDLValueError(f"{param} must be at least {least} but was {number}.")
        return number

    return convert


def not_empty(param: str) -> Callable[[Any], str]:
    def convert(value: Any) -> str:
        text = TypeConverters.toString(value)
        if not text:
            raise SparkDLValueError(f"{param} must not be empty.")
        return text

    return convert


def digest(value: Any) -> str:
    text = TypeConverters.toString(value)
    if not re.fullmatch("[0-9A-Fa-f]{64}", text):
        raise SparkDLValueError(f'expectedSha256 must be 64 hex digits but was "{text}".')
    return text


def size(value: Any) -> list[int]:
    sides = TypeConverters.toListInt(value)
    if len(sides) != 2 or min(sides) < 1:
        raise SparkDLValueError(
            f"inputSize must be two numbers of at least 1, height and width, but was {sides}."
        )
    return sides


def loader(value: Any) -> Any:
    if callable(value) or (isinstance(value, str) and re.fullmatch(r"[\w.]+:[\w.]+", value)):
        return value
    raise SparkDLValueError(
        'imageLoader must be a function of a URI, or its importable name "module:function", '
        f"but was {value!r}."
    )


def is_keras_model(value: Any) -> bool:
    """Whether this is a live `keras.Model`; Keras itself is not imported for the question."""
    keras = sys.modules.get("keras")
    return keras is not None and isinstance(value, keras.Model)


def file_or_model(param: str) -> Callable[[Any], Any]:
    def convert(value: Any) -> Any:
        return value if is_keras_model(value) else not_empty(param)(value)

    return convert
