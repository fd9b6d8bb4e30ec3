"""Reading pictures: `imageIO.readImages` and its relatives."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pyspark.sql import functions as F

from sparkdl import SparkDLValueError
from sparkdl.image import imageIO

FIELDS = ["origin", "height", "width", "nChannels", "mode", "data"]


def smooth(height: int, width: int, channels: int) -> np.ndarray:
    """A picture without hard edges, which JPEG keeps well."""
    y, x = np.mgrid[0:height, 0:width]
    planes = [127 + 120 * np.sin(y / (5 + k) + k) * np.cos(x / (7 - k)) for k in range(channels)]
    return np.stack(planes, -1).astype(np.uint8)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Grey, RGB and RGBA, lossless and JPEG, a name that URLs escape, two files that are no pictures."""
    Image.fromarray(smooth(20, 31, 3)).save(tmp_path / "colour.png")
    Image.fromarray(smooth(21, 17, 4)).save(tmp_path / "alpha.png")
    Image.fromarray(smooth(9, 40, 1)[..., 0]).save(tmp_path / "grey.png")
    Image.fromarray(smooth(33, 18, 3)).save(tmp_path / "old.bmp")
    Image.fromarray(smooth(64, 48, 3)).save(tmp_path / "a name, 50% [é]+&.jpg", quality=90)
    Image.fromarray(smooth(40, 40, 1)[..., 0]).save(tmp_path / "grey.jpg", quality=90)
    few = Image.fromarray(smooth(11, 23, 3)).quantize(8)
    few.save(tmp_path / "opaque.gif")
    few.save(tmp_path / "transparent.gif", transparency=3)
    (tmp_path / "text.jpg").write_text("no picture at all")
    whole = (tmp_path / "a name, 50% [é]+&.jpg").read_bytes()
    (tmp_path / "truncated.jpg").write_bytes(whole[: len(whole) // 2])
    return tmp_path


def rows_by_name(frame: Any) -> dict[str, Any]:
    return {row.image.origin.rsplit("/", 1)[1]: row.image for row in frame.collect()}


def test_the_schema_is_that_of_sparks_image_source(spark: Any, folder: Path) -> None:
    read = imageIO.readImages(str(folder))
    assert read.schema == spark.read.format("image").load(str(folder)).schema
    assert read.schema == imageIO.imageSchema


def test_metadata_and_pixels_equal_sparks_image_source(spark: Any, folder: Path) -> None:
    (folder / "truncated.jpg").unlink()  # Spark fills up what is missing; we do not
    ours = rows_by_name(imageIO.readImages(str(folder)))
    sparks = rows_by_name(spark.read.format("image").load(str(folder)))
    assert len(ours) == 9
    for name, expected in sparks.items():
        found = ours.pop(name)
        assert found[:5] == expected[:5], name
        levels = (np.frombuffer(image.data, np.uint8).astype(int) for image in (found, expected))
        difference = np.abs(np.subtract(*levels))
        assert difference.max(initial=0) <= (1 if name.endswith(".jpg") else 0), name
    assert ours == {}


def test_a_text_file_and_a_truncated_picture_are_invalid_image_rows(spark: Any, folder: Path) -> None:
    images = rows_by_name(imageIO.readImages(str(folder)))
    for name in ("text.jpg", "truncated.jpg"):
        origin = f"file://{folder}/{name}"
        assert tuple(images[name]) == (origin, -1, -1, -1, -1, b"")


def test_dropInvalid_leaves_out_what_cannot_be_decoded(spark: Any, folder: Path) -> None:
    images = rows_by_name(imageIO.readImages(str(folder), dropInvalid=True))
    assert len(images) == 8
    assert {"text.jpg", "truncated.jpg"}.isdisjoint(images)


def test_globs_lists_and_single_files_are_read(spark: Any, folder: Path) -> None:
    assert imageIO.readImages(f"{folder}/*.png").count() == 3
    assert imageIO.readImages(str(folder / "grey.png")).count() == 1
    assert imageIO.readImages([f"{folder}/*.png", str(folder / "old.bmp")]).count() == 4


def test_sub_folders_are_read_when_asked_for(spark: Any, folder: Path) -> None:
    (folder / "below").mkdir()
    (folder / "colour.png").rename(folder / "below" / "colour.png")
    assert imageIO.readImages(str(folder)).count() == 9
    assert imageIO.readImages(str(folder), recursive=True).count() == 10


def test_columns_of_partitioned_folders_follow_the_image(spark: Any, tmp_path: Path) -> None:
    for kind in ("rose", "tulip"):
        (tmp_path / f"a kind.of={kind}").mkdir()
        Image.fromarray(smooth(8, 8, 3)).save(tmp_path / f"a kind.of={kind}" / "one.png")
    read = imageIO.readImages(str(tmp_path))
    assert read.columns == ["image", "a kind.of"]
    assert sorted(row["a kind.of"] for row in read.collect()) == ["rose", "tulip"]


def test_a_sample_is_the_same_each_time_and_other_files_are_not_opened(spark: Any, tmp_path: Path) -> None:
    for number in range(40):
        Image.fromarray(smooth(8, 8, 3)).save(tmp_path / f"{number}.png")
    sample = imageIO.readImages(str(tmp_path), sampleRatio=0.5, seed=3)
    names = set(rows_by_name(sample))
    assert 8 <= len(names) <= 32
    assert set(rows_by_name(imageIO.readImages(str(tmp_path), sampleRatio=0.5, seed=3))) == names
    assert set(rows_by_name(imageIO.readImages(str(tmp_path), sampleRatio=0.5, seed=4))) != names
    listed = imageIO.readImages(str(tmp_path), sampleRatio=0.5, seed=3)
    assert len(listed.schema) == 1
    for path in tmp_path.iterdir():
        if path.name not in names:
            path.unlink()
    assert set(rows_by_name(listed)) == names


def test_numPartitions_spreads_the_pictures(spark: Any, tmp_path: Path) -> None:
    for number in range(12):
        Image.fromarray(smooth(8, 8, 3)).save(tmp_path / f"{number}.png")
    read = imageIO.readImages(str(tmp_path), numPartitions=3)
    assert read.select(F.spark_partition_id()).distinct().count() == 3


def test_large_pictures_are_invalid_beyond_maxPixels(spark: Any, folder: Path) -> None:
    images = rows_by_name(imageIO.readImages(f"{folder}/*.png", maxPixels=400))
    assert {name: image.mode for name, image in images.items()} == {
        "colour.png": -1,
        "alpha.png": 24,
        "grey.png": 0,
    }


def test_exif_orientation_is_applied_when_asked_for(spark: Any, tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(smooth(16, 40, 3)).save(tmp_path / "turned.jpg", exif=exif)
    as_stored = imageIO.readImages(str(tmp_path)).first().image
    turned = imageIO.readImages(str(tmp_path), applyExifOrientation=True).first().image
    assert (as_stored.height, as_stored.width) == (16, 40)
    assert (turned.height, turned.width) == (40, 16)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"sampleRatio": 0}, "sampleRatio must be above 0 and at most 1 but was 0."),
        ({"sampleRatio": 1.5}, "sampleRatio must be above 0 and at most 1 but was 1.5."),
        ({"numPartitions": -1}, "numPartitions must be at least 0 but was -1."),
        ({"maxPixels": 0}, "maxPixels must be at least 1 but was 0."),
    ],
)
def test_wrong_arguments_are_refused(
    spark: Any, tmp_path: Path, arguments: dict[str, Any], message: str
) -> None:
    (tmp_path / "one.txt").write_text("")
    with pytest.raises(SparkDLValueError) as caught:
        imageIO.readImages(str(tmp_path), **arguments)
    assert str(caught.value) == message
    assert caught.value.kind == "InvalidArgument"


def test_an_empty_folder_gives_no_rows(spark: Any, tmp_path: Path) -> None:
    assert imageIO.readImages(str(tmp_path)).collect() == []


def test_filesToDF_gives_paths_and_bytes(spark: Any, folder: Path) -> None:
    files = imageIO.filesToDF(spark, f"{folder}/*.png", numPartitions=2)
    assert files.columns == ["filePath", "fileData"]
    found = {row.filePath: bytes(row.fileData) for row in files.collect()}
    assert found == {f"file:{path}": path.read_bytes() for path in folder.glob("*.png")}


def test_a_function_of_the_users_own_decodes(spark: Any, folder: Path) -> None:
    read = imageIO.readImagesWithCustomFn(str(folder), imageIO.PIL_decode, numPartition=2)
    assert read.schema == imageIO.imageSchema
    images = [row.image for row in read.collect()]
    assert sum(image is None for image in images) == 2, "what the function raises on is null"
    by_name = {image.origin.rsplit("/", 1)[1]: image for image in images if image}
    colour = imageIO.imageStructToArray(by_name["colour.png"])[..., ::-1]
    np.testing.assert_array_equal(colour, smooth(20, 31, 3))
    assert imageIO.imageStructToArray(by_name["grey.png"]).shape == (9, 40, 1)


def test_resizing_makes_the_size_and_keeps_invalid_rows(spark: Any, folder: Path) -> None:
    resize = imageIO.createResizeImageUDF((6, 10))
    read = imageIO.readImages(str(folder))
    missing = read.limit(1).select(F.lit(None).cast(imageIO.columnSchema).alias("image"))
    images = [row[0] for row in read.union(missing).select(resize("image")).collect()]
    sizes = sorted((image.height, image.width) for image in images if image)
    assert sizes == [(-1, -1)] * 2 + [(6, 10)] * 8
    assert images.count(None) == 1
    colour = next(image for image in images if image and image.origin.endswith("colour.png"))
    expected = np.asarray(Image.fromarray(smooth(20, 31, 3)).resize((10, 6), Image.Resampling.BOX), int)
    assert np.abs(imageIO.imageStructToArray(colour)[..., ::-1] - expected).max() <= 1
