"""Draws labelled pictures whose kind shows in shape and texture only: colours, place, size, turn and
noise are random.

A picture is a function of its kind and its seed, so the same call draws the same pixels again. Run as a
script: `python drawn_pictures.py FOLDER --per-kind 60 --seed 1` writes
`FOLDER/<kind>/<kind>-<seed>-<number>.jpg`.
"""

from __future__ import annotations

import argparse
import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

SCALE = 2  # drawn larger, then reduced: smooth edges
Mask = Image.Image
Rng = np.random.Generator


def _polygon(mask: Mask, radii: Sequence[float], rng: Rng) -> None:
    """A closed line through points at `radii` of the half size, in equal steps of the angle."""
    width, height = mask.size
    half = min(width, height) * rng.uniform(0.22, 0.42)
    centre = np.array([width, height]) * rng.uniform(0.38, 0.62, 2)
    angles = rng.uniform(0, 2 * np.pi) + np.arange(len(radii)) * 2 * np.pi / len(radii)
    stretch = rng.uniform(0.8, 1.0)
    points = [
        (float(centre[0] + half * r * np.cos(a)), float(centre[1] + stretch * half * r * np.sin(a)))
        for r, a in zip(radii, angles, strict=True)
    ]
    ImageDraw.Draw(mask).polygon(points, fill=255)


def _circle(mask: Mask, rng: Rng) -> None:
    _polygon(mask, [1.0] * 72, rng)


def _ring(mask: Mask, rng: Rng) -> None:
    state = rng.bit_generator.state
    _polygon(mask, [1.0] * 72, rng)
    rng.bit_generator.state = state
    hole = Image.new("L", mask.size)
    _polygon(hole, [0.55] * 72, rng)
    mask.paste(0, mask=hole)


def _triangle(mask: Mask, rng: Rng) -> None:
    _polygon(mask, [1.15] * 3, rng)


def _square(mask: Mask, rng: Rng) -> None:
    _polygon(mask, [1.1] * 4, rng)


def _star(mask: Mask, rng: Rng) -> None:
    _polygon(mask, [1.2, 0.5] * 5, rng)


def _cross(mask: Mask, rng: Rng) -> None:
    arm, corner = 1.1, 0.36
    radii = [arm, arm, corner] * 4
    width, height = mask.size
    half = min(width, height) * rng.uniform(0.24, 0.42)
    centre = np.array([width, height]) * rng.uniform(0.38, 0.62, 2)
    turn = rng.uniform(0, 2 * np.pi)
    steps = np.array([-0.25, 0.25, np.pi / 4])
    angles = np.concatenate([steps + quarter * np.pi / 2 for quarter in range(4)]) + turn
    points = [
        (float(centre[0] + half * r * np.cos(a)), float(centre[1] + half * r * np.sin(a)))
        for r, a in zip(radii, angles, strict=True)
    ]
    ImageDraw.Draw(mask).polygon(points, fill=255)


def _turned_grid(mask: Mask, rng: Rng) -> tuple[np.ndarray, np.ndarray]:
    """Coordinates in waves of a random length, turned by a random angle."""
    width, height = mask.size
    y, x = np.mgrid[0:height, 0:width].astype(np.float64)
    angle, length = rng.uniform(0, np.pi), min(width, height) * rng.uniform(0.12, 0.24)
    u = (x * np.cos(angle) + y * np.sin(angle)) / length + rng.uniform()
    v = (y * np.cos(angle) - x * np.sin(angle)) / length + rng.uniform()
    return u, v


def _fill(mask: Mask, inside: np.ndarray) -> None:
    mask.paste(Image.fromarray(inside.astype(np.uint8) * 255))


def _stripes(mask: Mask, rng: Rng) -> None:
    u, _ = _turned_grid(mask, rng)
    _fill(mask, u % 1 < rng.uniform(0.3, 0.6))


def _waves(mask: Mask, rng: Rng) -> None:
    u, v = _turned_grid(mask, rng)
    _fill(mask, (u + 0.45 * np.sin(v * 2.2)) % 1 < rng.uniform(0.3, 0.6))


def _checks(mask: Mask, rng: Rng) -> None:
    u, v = _turned_grid(mask, rng)
    _fill(mask, (np.floor(1.4 * u) + np.floor(1.4 * v)) % 2 == 0)


def _dots(mask: Mask, rng: Rng) -> None:
    u, v = _turned_grid(mask, rng)
    radius = rng.uniform(0.28, 0.4)
    _fill(mask, (u % 1 - 0.5) ** 2 + (v % 1 - 0.5) ** 2 < radius**2)


KINDS: dict[str, Callable[[Mask, Rng], None]] = {
    "circle": _circle,
    "ring": _ring,
    "triangle": _triangle,
    "square": _square,
    "star": _star,
    "cross": _cross,
    "stripes": _stripes,
    "waves": _waves,
    "checks": _checks,
    "dots": _dots,
}


def _shade(size: tuple[int, int], rng: Rng) -> np.ndarray:
    """A random colour that drifts over the picture, with soft clouds in it: float64 in 0…255."""
    width, height = size
    corners = rng.uniform(20, 235, 3) + rng.normal(0, 16, (2, 2, 3))
    coarse = corners[np.ix_([0, 0, 1, 1], [0, 0, 1, 1])] + rng.normal(0, 10, (4, 4, 3))
    tile = Image.fromarray(np.clip(coarse, 0, 255).astype(np.uint8))
    return np.asarray(tile.resize((width, height), Image.Resampling.BICUBIC), dtype=np.float64)


def draw(kind: str, seed: int) -> Image.Image:
    """One RGB picture of a kind, 120 to 200 points a side."""
    digest = hashlib.sha256(f"{kind}/{seed}".encode()).digest()
    rng = np.random.default_rng(int.from_bytes(digest[:8], "big"))
    width, height = (int(side) for side in rng.integers(120, 201, 2))
    mask = Image.new("L", (width * SCALE, height * SCALE))
    KINDS[kind](mask, rng)
    soft = mask.resize((width, height), Image.Resampling.BOX)
    soft = soft.filter(ImageFilter.GaussianBlur(float(rng.uniform(0, 1.5))))
    opacity = np.asarray(soft, dtype=np.float64)[..., None] / 255

    ground, figure = _shade((width, height), rng), _shade((width, height), rng)
    while np.abs(ground.mean((0, 1)) - figure.mean((0, 1))).max() < 40:
        figure = _shade((width, height), rng)
    if rng.uniform() < 0.5:
        opacity = 1 - opacity if kind in ("stripes", "waves", "checks", "dots") else opacity
    pixels = ground * (1 - opacity) + figure * opacity + rng.normal(0, rng.uniform(4, 22), (height, width, 3))
    return _scratched(Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8)), rng)


def _scratched(picture: Image.Image, rng: Rng) -> Image.Image:
    """A few lines of random colours across the picture, which mean nothing."""
    pen = ImageDraw.Draw(picture)
    for _ in range(int(rng.integers(0, 6))):
        ends = rng.uniform(0, 1, 4) * np.array([*picture.size, *picture.size])
        colour = tuple(int(level) for level in rng.integers(0, 256, 3))
        pen.line([float(end) for end in ends], fill=colour, width=int(rng.integers(1, 4)))
    return picture


def write_pictures(folder: Path, kinds: Sequence[str], per_kind: int, seed: int) -> None:
    """Writes `per_kind` JPEG files of each kind in a sub-folder named after it; files that are there
    stay.
    """
    for kind in kinds:
        (folder / kind).mkdir(parents=True, exist_ok=True)
        for number in range(per_kind):
            path = folder / kind / f"{kind}-{seed}-{number:03d}.jpg"
            if not path.exists():
                draw(kind, seed * 1_000_000 + number).save(path, quality=88)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--per-kind", type=int, default=60)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    write_pictures(arguments.folder, list(KINDS), arguments.per_kind, arguments.seed)
