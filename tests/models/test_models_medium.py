"""Every model of models/zoo at precision "medium": how far its outputs are from those at "highest", which test_models.py
holds against onnxruntime. Bounds are some twice what was measured on a CPU with bf16; elsewhere the distance is 0."""
import functools

import numpy as np
import pytest

import sardonyx as sx
from test_models import SILERO, file_of, pictures, sentences, voice

# Root mean square of the difference, relative to that of the output.
BOUNDS = {
    "magika/model.onnx": 0.015,
    "ppocr/ch_PP-OCRv4_det_infer.onnx": 0.14,  # a picture that is black but for the edges of letters
    "ppocr/ch_PP-OCRv4_rec_infer.onnx": 0.06,
    "ppocr/ch_ppocr_mobile_v2.0_cls_infer.onnx": 0.03,
    "nudenet/320n.onnx": 0.01,
    "minilm_int8/model.onnx": 0.03,
    f"{SILERO}.onnx": 0.025,
    f"{SILERO}_half.onnx": 0.025,
    f"{SILERO}_op18_ifless.onnx": 0.025,
    f"{SILERO}_16k_op15.onnx": 0.025,
    f"{SILERO}_openvino_16k.onnx": 0.025,
}


def feeds_of(name, batch):
    if name.startswith("magika"):
        return {"bytes": np.random.default_rng(batch).integers(0, 257, (batch, 2048)).astype(np.int32)}
    if name.startswith("ppocr"):
        height, width = (640, 640) if "det" in name else (48, 192)
        return {"x": pictures(batch, height, width)}
    if name.startswith("nudenet"):
        return {"images": pictures(batch, 320, 320, mean=0, deviation=1)}
    if name.startswith("minilm"):
        return sentences(batch, 32)
    return {"input": voice(batch, 576, 3)}


@functools.cache
def session(name, precision):
    return sx.InferenceSession(str(file_of(name)), precision=precision)


def with_states(name, feeds):
    """The inputs that a model of speech has besides the samples."""
    for value in session(name, "highest").get_inputs():
        if value.name in feeds:
            continue
        dims = [d if isinstance(d, int) and d > 0 else len(feeds["input"]) for d in value.shape]
        feeds[value.name] = (np.array(16000, np.int64) if value.name == "sr" else
                             (0.1 * np.random.default_rng(0).standard_normal(dims)).astype(np.float32))
    return feeds


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("name", BOUNDS)
def test_medium(name, batch):
    if "openvino" in name and batch != 1:
        pytest.skip("this file is for a batch of 1")
    feeds = with_states(name, feeds_of(name, batch))
    for got, expected in zip(session(name, "medium").run(None, feeds), session(name, "highest").run(None, feeds), strict=True):
        assert got.dtype == expected.dtype and got.shape == expected.shape
        if not np.issubdtype(expected.dtype, np.floating):
            continue
        got, expected = got.astype(np.float64), expected.astype(np.float64)
        scale = np.sqrt(np.mean(expected**2))
        assert scale > 0 and np.isfinite(got).all()
        distance = np.sqrt(np.mean((got - expected)**2)) / scale
        assert distance < BOUNDS[name]
