"""Small photographs for the benchmark: seeded crops of pictures that scikit-image and scikit-learn ship."""

import functools
import io
import multiprocessing
import statistics
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import skimage.data
from PIL import Image
from sklearn.datasets import load_sample_images

SIDES = (320, 500)
KILOBYTES = (30, 80)
FILES = 8


@functools.cache
def sources() -> list[np.ndarray]:
    """Photographs that are in the wheels themselves: nothing is fetched."""
    shipped = [skimage.data.astronaut(), skimage.data.coffee(), skimage.data.chelsea(), skimage.data.rocket()]
    return shipped + list(load_sample_images().images)


def photograph(index: int) -> bytes:
    """One jittered crop, enlarged where the source is small, with a little grain as a sensor leaves it."""
    rng = np.random.default_rng([20260101, index])
    shipped = sources()
    picture = shipped[index % len(shipped)]
    height, width = (int(side) for side in rng.integers(SIDES[0], SIDES[1] + 1, 2))
    zoom = max(height / picture.shape[0], width / picture.shape[1]) * rng.uniform(1.0, 1.3)
    size = (max(width, int(picture.shape[1] * zoom)), max(height, int(picture.shape[0] * zoom)))
    enlarged = Image.fromarray(picture).resize(size, Image.Resampling.LANCZOS)
    left = int(rng.integers(0, size[0] - width + 1))
    top = int(rng.integers(0, size[1] - height + 1))
    pixels = np.asarray(enlarged.crop((left, top, left + width, top + height)), np.float32)
    pixels = pixels * rng.uniform(0.8, 1.2, 3) + rng.normal(0, rng.uniform(2, 7), pixels.shape)
    if rng.random() < 0.5:
        pixels = pixels[:, ::-1]
    encoded = io.BytesIO()
    quality = int(rng.integers(82, 93))
    Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8)).save(encoded, "JPEG", quality=quality)
    return encoded.getvalue()


def check(photos: list[bytes]) -> dict[str, float]:
    """The medians of what was made, which must lie where the benchmark says they do."""
    sizes = [Image.open(io.BytesIO(photo)).size for photo in photos]
    medians = {
        "kilobytes": statistics.median(len(photo) / 1000 for photo in photos),
        "width": statistics.median(width for width, _ in sizes),
        "height": statistics.median(height for _, height in sizes),
    }
    for name, (low, high) in {"kilobytes": KILOBYTES, "width": SIDES, "height": SIDES}.items():
        if not low <= medians[name] <= high:
            raise ValueError(f"the photographs' median {name} is {medians[name]:.0f}, not in {low}…{high}")
    return medians


def write(folder: Path, count: int) -> dict[str, float]:
    """Writes `parquet/` (path, content) in files of equal size and the same pictures under `files/`."""
    with multiprocessing.Pool() as pool:
        photos = pool.map(photograph, range(count))
    medians = check(photos)
    (folder / "parquet").mkdir(parents=True, exist_ok=True)
    (folder / "files").mkdir(exist_ok=True)
    names = [f"{index:05d}.jpg" for index in range(count)]
    for name, photo in zip(names, photos, strict=True):
        (folder / "files" / name).write_bytes(photo)
    for part in range(FILES):
        table = pa.table({"path": names[part::FILES], "content": pa.array(photos[part::FILES], pa.binary())})
        pq.write_table(table, folder / "parquet" / f"part-{part}.parquet", compression="none")
    return medians
