"""Files as they are published train as they are: on a sensible loss of their own outputs, 20 steps, the loss falls."""
import os
import pathlib

import numpy as np
import pytest

import sardonyx as sx

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
MODELS = pathlib.Path(os.environ.get("SARDONYX_MODELS", ROOT / ".deps/models"))
STEPS = 20


def path_of(name):
    path = MODELS / name
    if not path.is_file():
        if os.environ.get("SARDONYX_REQUIRE_MODELS"):
            pytest.fail(f"{path} is missing")
        pytest.skip(f"{path} is missing: run tools/fetch_models")
    return path


def normal(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def train(name, x, y, loss, lr=1e-4, **options):
    """The losses of 20 steps on one batch."""
    trainer = sx.Trainer(path_of(name), loss=loss, optimizer=sx.optim.AdamW(lr=lr), threads=2, **options)
    target = y(trainer.predict(x)) if callable(y) else y
    losses = [trainer.step(x, target) for _ in range(STEPS)]
    assert np.isfinite(losses).all()
    assert np.mean(losses[-3:]) < losses[0], losses
    return trainer


def test_ppocr_direction():
    train("ppocr/ch_ppocr_mobile_v2.0_cls_infer.onnx", normal(8, 3, 48, 96), np.arange(8) % 2,
          sx.nn.NLLLoss(), lr=1e-4)


def test_ppocr_recognition():
    """Every frame is to be the same letter: the file ends in a Softmax, whose logarithm is the loss."""
    def target(outputs):
        wanted = np.zeros_like(outputs[0])
        wanted[..., 7] = 1
        return wanted
    train("ppocr/ch_PP-OCRv4_rec_infer.onnx", normal(2, 3, 48, 96), target, sx.nn.BCELoss(), lr=1e-3)


def test_ppocr_detection():
    train("ppocr/ch_PP-OCRv4_det_infer.onnx", normal(1, 3, 96, 96), lambda out: (out[0] > 0.3).astype(np.float32) * 0.5,
          sx.nn.BCELoss())


def test_nudenet_detector():
    train("nudenet/320n.onnx", np.abs(normal(1, 3, 320, 320)) % 1, lambda out: 0.9 * out[0],
          sx.nn.SmoothL1Loss())


def test_magika():
    rng = np.random.default_rng(0)
    session = sx.InferenceSession(path_of("magika/model.onnx"))
    value = session.get_inputs()[0]
    shape = [d if isinstance(d, int) else 4 for d in value.shape]
    x = rng.integers(0, 257, shape).astype(np.int32)

    def target(outputs):
        wanted = np.zeros_like(outputs[0])
        wanted[:, 3] = 1
        return wanted
    train("magika/model.onnx", x, target, sx.nn.BCELoss())


@pytest.mark.parametrize("name", ["silero_vad_op18_ifless.onnx", "silero_vad.onnx"])
def test_silero(name):
    session = sx.InferenceSession(path_of(f"silero_vad/{name}"))
    feeds = {"input": 0.1 * normal(4, 576), "state": np.zeros((2, 4, 128), np.float32)}
    if any(i.name == "sr" for i in session.get_inputs()):
        feeds["sr"] = np.array(16000, np.int64)
    train(f"silero_vad/{name}", feeds, lambda out: np.full_like(out[0], 0.8), sx.nn.BCELoss())


def test_minilm():
    session = sx.InferenceSession(path_of("minilm_int8/model.onnx"))
    rng = np.random.default_rng(0)
    feeds = {}
    for value in session.get_inputs():
        ids = rng.integers(1000, 2000, (2, 16)) if value.name == "input_ids" else np.zeros((2, 16), np.int64)
        feeds[value.name] = np.ones((2, 16), np.int64) if "mask" in value.name else ids
    train("minilm_int8/model.onnx", feeds, lambda out: 0.5 * out[0], sx.nn.MSELoss())
