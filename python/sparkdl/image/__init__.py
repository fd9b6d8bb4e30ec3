"""Pictures in DataFrames: reading them, and going between Spark's image struct, arrays and Pillow."""

from sparkdl.image import imageIO

__all__ = ["imageIO"]
