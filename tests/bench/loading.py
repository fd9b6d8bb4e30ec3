"""From InceptionV3 in a `.keras` file to the first prediction: ours beside `keras.models.load_model`.

Each way runs in fresh processes, turn by turn; printed are the medians of the seconds without imports, and of
the peak memory of the process with and without them.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

ROUNDS = 5

SAVE = """
import sys, keras
keras.applications.InceptionV3(weights=None).save(sys.argv[1])
"""

COMMON = """
import io, resource, sys, time
import numpy as np
from PIL import Image
picture = np.random.default_rng(3).integers(0, 256, (299, 299, 3), dtype=np.uint8)
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
"""

OURS = (
    COMMON
    + """
import pyarrow as pa
from sparkdl import _engine, _native
_native.load_tensorflow([("tensorflowPath", ""), ("tensorflowClasspath", ""), ("python", sys.executable)])
file = io.BytesIO()
Image.fromarray(picture).save(file, "PNG")
batch = pa.record_batch([pa.array([file.getvalue()], pa.binary())], ["content"])
before, began = peak(), time.perf_counter()
_engine.convert_keras(sys.argv[1], sys.argv[2], "InceptionV3")
options = {
    "model": sys.argv[2], "task": "predictions", "pooling": "avg", "topK": "5", "labels": "",
    "scaleHint": "SCALE_AREA_AVERAGING", "resizeMode": "stretch", "maxPixels": "89478485",
    "applyExifOrientation": "false", "fastDecode": "false", "threads": "2",
}
result = pa.record_batch(_native.Model(list(options.items())).run(batch))
assert result.column("error").null_count == 1
print(time.perf_counter() - began, peak(), peak() - before)
"""
)

KERAS = (
    COMMON
    + """
import keras
before, began = peak(), time.perf_counter()
model = keras.models.load_model(sys.argv[1], compile=False)
floats = keras.applications.inception_v3.preprocess_input(picture[None].astype("float32"))
scores = model.predict(floats, verbose=0)
assert scores.shape == (1, 1000)
print(time.perf_counter() - began, peak(), peak() - before)
"""
)


def main() -> None:
    os.environ["KERAS_BACKEND"] = "tensorflow"
    with tempfile.TemporaryDirectory() as folder:
        file, bundle = Path(folder) / "inception.keras", Path(folder) / "inception.sparkdl"
        subprocess.run([sys.executable, "-c", SAVE, str(file)], check=True, stderr=subprocess.DEVNULL)
        found: dict[str, list[list[float]]] = {"ours": [], "keras": []}
        for _ in range(ROUNDS):
            for name, script in (("ours", OURS), ("keras", KERAS)):
                command = [sys.executable, "-c", script, str(file), str(bundle)]
                done = subprocess.run(command, check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
                found[name].append([float(value) for value in done.stdout.split()[-3:]])
                bundle.unlink(missing_ok=True)
        size = file.stat().st_size / 2**20
    print(f"InceptionV3 from .keras ({size:.0f} MiB) to the first prediction, {ROUNDS} fresh processes each")
    medians = {
        name: [statistics.median(values) for values in zip(*runs, strict=True)]
        for name, runs in found.items()
    }
    for name, (seconds, whole, above) in medians.items():
        print(f"  {name:6} {seconds:6.2f} s, peak {whole:6.0f} MiB, {above:6.0f} MiB above the imports")
    ratios = [theirs / ours for ours, theirs in zip(medians["ours"], medians["keras"], strict=True)]
    print(f"  keras / ours: {ratios[0]:.2f} in time, {ratios[1]:.2f} in memory")


if __name__ == "__main__":
    main()
