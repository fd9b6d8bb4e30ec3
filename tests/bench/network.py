"""The benchmark's network, MobileNetV2 with seeded weights: as a Keras file, as our bundle and as ONNX."""

import sys
from pathlib import Path

import keras
import numpy as np
import onnx_network
import onnxruntime

import sparkdl


def seeded() -> keras.Model:
    """Kernels scaled by their true fan-in, batch norms calibrated: activations neither vanish nor explode."""
    keras.utils.set_random_seed(7)
    model = keras.applications.MobileNetV2(weights=None)
    rng = np.random.default_rng(7)
    for layer in model.layers:
        name = type(layer).__name__
        if name in {"Conv2D", "DepthwiseConv2D"}:
            shape = layer.kernel.shape
            fan_in = shape[0] * shape[1] * (1 if name == "DepthwiseConv2D" else shape[2])
            layer.kernel.assign(rng.normal(0, np.sqrt(2 / fan_in), shape))
        if name == "BatchNormalization":
            layer.momentum = 0.0
    pictures = rng.uniform(-1, 1, (16, 1, 1, 3)) * 0.5 + rng.uniform(-1, 1, (16, 224, 224, 3)) * 0.5
    for _ in range(3):
        model(pictures.astype(np.float32), training=True)
    return model


def check_onnx(model: keras.Model, path: Path) -> None:
    pictures = np.random.default_rng(3).uniform(-1, 1, (4, 224, 224, 3)).astype(np.float32)
    expected = model.predict(pictures, verbose=0)
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    (found,) = session.run(None, {"image": pictures})
    difference = float(np.abs(found - expected).max() / np.abs(expected).max())
    if difference > 1e-4:
        raise ValueError(f"the ONNX graph differs from Keras by {difference:.2g}")


def main() -> None:
    folder = Path(sys.argv[1])
    model = seeded()
    model.save(folder / "network.keras")
    onnx_network.write(model, folder / "network.onnx")
    check_onnx(model, folder / "network.onnx")
    sparkdl.export("MobileNetV2", folder / "network.sparkdl", weights=model)


if __name__ == "__main__":
    main()
