"""Every model of models/zoo against onnxruntime, at several input shapes, and two models quantized and one
converted to half precision on the way; each at every stage and with each pass left out, at the first of its shapes; and
what convert writes of each, run by onnxruntime. The models come from tools/fetch_models; one that is not there is
skipped, or is a failure when SARDONYX_REQUIRE_MODELS is set."""
import functools
import itertools
import os
import pathlib
import tempfile

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from PIL import Image

import sardonyx as sx
import variants

ROOT = pathlib.Path(__file__).resolve().parents[2]
MODELS = pathlib.Path(os.environ.get("SARDONYX_MODELS") or
                      pathlib.Path(os.environ.get("SARDONYX_DEPS") or ROOT / ".deps") / "models")
TOLERANCE = 1e-3
LOW_PRECISION = 2e-2  # int8 and f16
SILERO = "silero_vad/silero_vad"


def file_of(name):
    path = MODELS / name
    if not path.is_file():
        message = f"{path} is not there: run tools/fetch_models"
        if os.environ.get("SARDONYX_REQUIRE_MODELS"):
            pytest.fail(message)
        pytest.skip(message)
    return path


def reference_session(path):
    options = ort.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = 2
    return ort.InferenceSession(str(path), options)


@functools.cache
def sessions(path):
    """(name, session) of each that must agree, so that the cases of a model also test changing shapes: onnxruntime
    on the file first, then ours, then onnxruntime on what ours writes of the file."""
    found = [("onnxruntime", reference_session(path)), ("sardonyx", sx.InferenceSession(str(path)))]
    with tempfile.TemporaryDirectory() as folder:
        for optimize in (False, True):
            written = os.path.join(folder, "written.onnx")
            sx.convert(str(path), written, optimize=optimize)
            onnx.checker.check_model(written, full_check=True)
            found.append((f"onnxruntime of convert(optimize={optimize})", reference_session(written)))
    return found


varied = set()  # the models that have run in all variants


def compare(path, feeds, tolerance=TOLERANCE, parts=None, measure=np.max):
    """Runs all; each output (or each part of it) must agree to `tolerance` of its own largest value, in the
    worst element or by another measure. Returns onnxruntime's outputs by name."""
    (_, reference), *others = sessions(path)
    names = [output.name for output in reference.get_outputs()]
    expected = dict(zip(names, reference.run(None, feeds)))
    variant = [] if path in varied else variants.sessions(str(path))
    varied.add(path)
    for engine, session in itertools.chain(others, variant):
        assert [output.name for output in session.get_outputs()] == names
        got = dict(zip(names, session.run(None, feeds)))
        for name in names:
            a, b, label = got[name], expected[name], f"{engine}: {name}"
            assert a.shape == b.shape, f"{label}: expected shape {b.shape}, got {a.shape}"
            assert a.dtype == b.dtype, f"{label}: expected {b.dtype}, got {a.dtype}"
            for x, y in zip(parts(a), parts(b)) if parts else [(a, b)]:
                x, y = x.astype(np.float64), y.astype(np.float64)
                finite = np.isfinite(y)
                assert np.array_equal(x[~finite], y[~finite], equal_nan=True), f"{label}: NaN or infinity elsewhere"
                scale = max(np.max(np.abs(y[finite]), initial=0), 1e-3)
                error = measure(np.abs(x - y)[finite]) / scale if finite.any() else 0
                assert error <= tolerance, f"{label}: expected within {tolerance:g} of {scale:.4g}, off by {error:.3g}"
    return expected


def random(*key):
    return np.random.default_rng(key)


@functools.cache
def photograph(name):
    return Image.open(file_of(f"sklearn/{name}.jpg")).convert("RGB")


def pictures(count, height, width, mean=0.5, deviation=0.5):
    """[count, 3, height, width]: pieces of real photographs."""
    planes = []
    for index in range(count):
        image = photograph(("china", "flower")[index % 2])
        left, top = 40 * index % 200, 30 * index % 150
        piece = image.crop((left, top, left + 400, top + 260)).resize((width, height))
        planes.append((np.asarray(piece, np.float32) / 255 - mean) / deviation)
    return np.ascontiguousarray(np.stack(planes).transpose(0, 3, 1, 2), dtype=np.float32)


def voice(count, samples, seed):
    """[count, samples] of a buzz with noise, in the range of speech."""
    rng = random(count, samples, seed)
    time = np.arange(samples) / 16000
    pitch = rng.uniform(90, 240, (count, 1))
    tone = sum(np.sin(2 * np.pi * pitch * harmonic * time) / harmonic for harmonic in range(1, 12))
    return (0.2 * tone + 0.02 * rng.standard_normal((count, samples))).astype(np.float32)


@pytest.mark.parametrize("batch", [1, 2, 7])
def test_magika(batch):
    content = random(batch).integers(0, 257, (batch, 2048)).astype(np.int32)
    content[0, :1024] = np.frombuffer((b"#include <vector>\nint main() { return 0; }\n" * 30)[:1024], np.uint8)
    content[0, 1024:] = 256
    compare(file_of("magika/model.onnx"), {"bytes": content})


@pytest.mark.parametrize("shape", [(1, 64, 96), (2, 160, 224), (1, 320, 256), (1, 32, 32)], ids=str)
def test_text_detection(shape):
    compare(file_of("ppocr/ch_PP-OCRv4_det_infer.onnx"), {"x": pictures(*shape)})


@pytest.mark.parametrize("batch, width", [(1, 160), (2, 320), (6, 200), (1, 48)])
def test_text_recognition(batch, width):
    compare(file_of("ppocr/ch_PP-OCRv4_rec_infer.onnx"), {"x": pictures(batch, 48, width)})


@pytest.mark.parametrize("batch", range(1, 7))
def test_text_direction(batch):
    compare(file_of("ppocr/ch_ppocr_mobile_v2.0_cls_infer.onnx"), {"x": pictures(batch, 48, 192)})


# Samples of one step: a window and the end of the one before.
SAMPLES = {8000: 256 + 32, 16000: 512 + 64}


@pytest.mark.parametrize("variant, rate, batch", [
    ("", 8000, 1), ("", 8000, 3), ("", 16000, 1), ("", 16000, 3),
    ("_op18_ifless", 8000, 1), ("_op18_ifless", 8000, 3), ("_op18_ifless", 16000, 1), ("_op18_ifless", 16000, 3),
    ("_16k_op15", 16000, 1), ("_16k_op15", 16000, 2), ("_16k_op15", 16000, 5),
    ("_half", 16000, 1), ("_half", 16000, 2), ("_half", 16000, 5),
    ("_openvino_16k", 16000, 1)])  # the last has batch 1 written into it
def test_speech(variant, rate, batch):
    path = file_of(f"{SILERO}{variant}.onnx")
    takes_rate = any(i.name == "sr" for i in sessions(path)[0][1].get_inputs())
    state = np.zeros((2, batch, 128), np.float32)
    for step in range(3):
        feeds = {"input": voice(batch, SAMPLES[rate], step), "state": state}
        if takes_rate:
            feeds["sr"] = np.array(rate, np.int64)
        state = compare(path, feeds)["stateN"]


@pytest.mark.parametrize("length", [1, 4, 11])
def test_speech_sequence(length):
    state = {"h": np.zeros((1, 1, 128), np.float32), "c": np.zeros((1, 1, 128), np.float32)}
    for step in range(2):
        outputs = compare(file_of(f"{SILERO}_16k_sequence.onnx"), {"input": voice(length, 576, step), **state})
        state = {"h": outputs["hn"], "c": outputs["cn"]}


@pytest.mark.parametrize("shape", [(1, 320, 320), (2, 320, 320), (1, 256, 416), (3, 96, 64)], ids=str)
def test_detector(shape):
    compare(file_of("nudenet/320n.onnx"), {"images": pictures(*shape, mean=0, deviation=1)},
            parts=lambda output: (output[:, :4], output[:, 4:]))  # pixels, probabilities


def sentences(batch, length):
    rng = random(batch, length)
    ids = rng.integers(1000, 29000, (batch, length))
    ids[:, 0], ids[:, -1] = 101, 102
    mask = np.ones((batch, length), np.int64)
    for row in range(1, batch):
        mask[row, max(2, length - 3 * row):] = 0
    return {"input_ids": ids * mask, "attention_mask": mask, "token_type_ids": np.zeros_like(mask)}


@pytest.mark.parametrize("batch, length", [(1, 3), (1, 16), (2, 33), (4, 128)])
def test_sentence_embedding(batch, length):
    compare(file_of("minilm_int8/model.onnx"), sentences(batch, length))


@pytest.fixture(scope="module")
def float_minilm(tmp_path_factory):
    """The sentence model with its int8 weights multiplied out to f32."""
    path = tmp_path_factory.mktemp("minilm") / "minilm_f32.onnx"
    options = ort.SessionOptions()
    options.log_severity_level = 3
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_BASIC
    options.optimized_model_filepath = str(path)
    ort.InferenceSession(str(file_of("minilm_int8/model.onnx")), options)
    return path


@pytest.fixture(scope="module")
def dynamically_quantized(float_minilm):
    """DynamicQuantizeLinear and MatMulInteger: (the first layer, the whole model)."""
    from onnxruntime.quantization import QuantType, quantize_dynamic
    model = onnx.load(float_minilm)
    norms = [node.output[0] for node in model.graph.node if node.op_type == "LayerNormalization"]
    layer = float_minilm.with_name("layer.onnx")
    # One follows the embedding, two make a layer.
    onnx.utils.extract_model(str(float_minilm), str(layer), [i.name for i in model.graph.input], [norms[2]],
                             check_model=False)
    paths = []
    for source in (layer, float_minilm):
        paths.append(source.with_name(f"dynamic_{source.name}"))
        quantize_dynamic(str(source), str(paths[-1]), weight_type=QuantType.QUInt8, op_types_to_quantize=["MatMul"])
    return paths


@pytest.mark.parametrize("batch, length", [(1, 8), (2, 33), (3, 64)])
def test_dynamically_quantized_layer(dynamically_quantized, batch, length):
    compare(dynamically_quantized[0], sentences(batch, length))


@pytest.mark.parametrize("batch, length", [(1, 8), (2, 33), (3, 64)])
def test_dynamically_quantized_model(dynamically_quantized, batch, length):
    # One activation that rounds to the other of two 8-bit steps is magnified by the layers after it, to 6 % of
    # the largest value in single elements between onnxruntime with and without its optimizations.
    compare(dynamically_quantized[1], sentences(batch, length), LOW_PRECISION, measure=np.mean)


@pytest.fixture(scope="module")
def statically_quantized(tmp_path_factory):
    """QuantizeLinear and DequantizeLinear pairs around the convolutions."""
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

    class Calibration(CalibrationDataReader):
        def __init__(self):
            self.batches = iter([{"x": pictures(count, 48, 192)} for count in (1, 2, 4)])

        def get_next(self):
            return next(self.batches, None)

    path = tmp_path_factory.mktemp("static") / "direction_int8.onnx"
    quantize_static(str(file_of("ppocr/ch_ppocr_mobile_v2.0_cls_infer.onnx")), str(path), Calibration(),
                    quant_format=QuantFormat.QDQ, activation_type=QuantType.QUInt8, weight_type=QuantType.QInt8,
                    op_types_to_quantize=["Conv", "MatMul"])
    return path


@pytest.mark.parametrize("batch", [1, 2, 5])
def test_statically_quantized(statically_quantized, batch):
    compare(statically_quantized, {"x": pictures(batch, 48, 192)}, LOW_PRECISION)


@pytest.fixture(scope="module")
def half_precision(tmp_path_factory):
    from onnxruntime.transformers.float16 import convert_float_to_float16
    path = tmp_path_factory.mktemp("half") / "direction_f16.onnx"
    model = onnx.load(file_of("ppocr/ch_ppocr_mobile_v2.0_cls_infer.onnx"))
    onnx.save(convert_float_to_float16(model, keep_io_types=False, disable_shape_infer=True), path)
    return path


@pytest.mark.parametrize("batch", [1, 2, 5])
def test_half_precision(half_precision, batch):
    compare(half_precision, {"x": pictures(batch, 48, 192).astype(np.float16)}, LOW_PRECISION)


def test_every_model_is_tested():
    """Each .onnx of the list is named above."""
    import json
    text = pathlib.Path(__file__).read_text()
    for package in json.loads((ROOT / "models/zoo/models.json").read_text())["packages"]:
        for entry in package["files"]:
            if entry["file"].endswith(".onnx"):
                name = entry["file"].removeprefix("silero_vad").removesuffix(".onnx")
                assert name in text, f"{package['name']}/{entry['file']} has no test"
