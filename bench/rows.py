"""The models that bench/models.py measures, and the input of each."""
import dataclasses
import os
import pathlib
import typing

import numpy as np

ROOT = pathlib.Path(__file__).resolve().parent.parent
DEPS = pathlib.Path(os.environ.get("SARDONYX_DEPS") or ROOT / ".deps")
FETCHED = pathlib.Path(os.environ.get("SARDONYX_MODELS") or DEPS / "models")
EXPORTED = pathlib.Path(os.environ.get("SARDONYX_BENCH_MODELS") or DEPS / "bench_models")


class Missing(Exception):
    """What a row needs is not on this machine."""


@dataclasses.dataclass
class Row:
    """One line of the table. `inputs` gives {name: array}, `expected` the outputs by name that another program
    has computed from them, if there are any; both raise Missing. `dimensions` names the model's symbolic
    dimensions, as some engines want to know them when they load it."""
    name: str
    model: pathlib.Path
    inputs: typing.Callable[[], dict]
    dimensions: dict
    expected: typing.Callable[[], dict] = dict
    source: str = "tools/fetch_models"

    def path(self):
        return present(self.model, self.source)


def present(path, source):
    if not path.is_file():
        raise Missing(f"{path} is not there: run {source}")
    return path


def exported(name):
    def arrays(prefix):
        with np.load(present(EXPORTED / f"{name}.npz", "bench/export_models.py")) as file:
            return {key.removeprefix(prefix): file[key] for key in file.files if key.startswith(prefix)}

    return Row(name, EXPORTED / f"{name}.onnx", lambda: arrays("input."),
               {"batch": 8 if name == "lstm" else 1}, lambda: arrays("output."), "bench/export_models.py")


def pictures(name, count, height, width, mean, deviation):
    """{name: [count, 3, height, width]}: pieces of a photograph."""
    try:
        from PIL import Image
    except ImportError as error:
        raise Missing(f"{error}: the pictures need Pillow") from error
    with Image.open(present(FETCHED / "sklearn/china.jpg", "tools/fetch_models")) as file:
        photograph = file.convert("RGB")
    planes = []
    for index in range(count):
        left, top = 40 * index, 30 * index
        piece = photograph.crop((left, top, left + 400, top + 260)).resize((width, height))
        planes.append((np.asarray(piece, np.float32) / 255 - mean) / deviation)
    return {name: np.ascontiguousarray(np.stack(planes).transpose(0, 3, 1, 2), np.float32)}


def sentence():
    ids = np.random.default_rng(0).integers(1000, 29000, (1, 128))
    ids[:, 0], ids[:, -1] = 101, 102  # [CLS], [SEP]
    return {"input_ids": ids, "attention_mask": np.ones_like(ids), "token_type_ids": np.zeros_like(ids)}


def content():
    """The first and last 1024 bytes of a file."""
    data = (ROOT / "LICENSE").read_bytes()
    return {"bytes": np.frombuffer(data[:1024] + data[-1024:], np.uint8).astype(np.int32)[None]}


def voice():
    """A window of 512 samples after the last 64 of the one before: a buzz with noise. The state is that of a
    network that has heard something."""
    rng = np.random.default_rng(0)
    time = np.arange(576) / 16000
    tone = sum(np.sin(2 * np.pi * 140 * harmonic * time) / harmonic for harmonic in range(1, 12))
    samples = (0.2 * tone + 0.02 * rng.standard_normal(576)).astype(np.float32)[None]
    state = (0.1 * rng.standard_normal((2, 1, 128))).astype(np.float32)
    return {"input": samples, "state": state, "sr": np.array(16000, np.int64)}


ROWS = [
    *map(exported, ("resnet50", "mobilenet_v3_large", "efficientnet_b0", "vit_b_16", "convnext_tiny", "bert",
                    "lstm")),
    Row("ppocr_detection", FETCHED / "ppocr/ch_PP-OCRv4_det_infer.onnx",
        lambda: pictures("x", 1, 640, 640, 0.5, 0.5),
        {"p2o.DynamicDimension.0": 1, "p2o.DynamicDimension.1": 640, "p2o.DynamicDimension.2": 640}),
    Row("ppocr_recognition", FETCHED / "ppocr/ch_PP-OCRv4_rec_infer.onnx",
        lambda: pictures("x", 6, 48, 320, 0.5, 0.5),
        {"p2o.DynamicDimension.0": 6, "?": 48, "p2o.DynamicDimension.1": 320}),
    Row("yolov8n", FETCHED / "nudenet/320n.onnx", lambda: pictures("images", 1, 320, 320, 0, 1),
        {"batch": 1, "height": 320, "width": 320}),
    Row("minilm_int8", FETCHED / "minilm_int8/model.onnx", sentence, {"batch": 1, "sequence": 128}),
    Row("magika", FETCHED / "magika/model.onnx", content, {"unk__214": 1}),
    # Of this model's exports, the only one with the sampling rate as an input that every engine reads.
    Row("silero_vad", FETCHED / "silero_vad/silero_vad_op18_ifless.onnx", voice, {"batch": 1, "sequence": 576}),
]
# Those that bench/quantize_models.py quantizes.
QUANTIZED = ("resnet50", "mobilenet_v3_large", "bert", "ppocr_detection", "ppocr_recognition", "yolov8n")


def quantized_rows(folder):
    """Of the models that bench/quantize_models.py wrote into a folder."""
    rows = {row.name: row for row in ROWS}
    return [dataclasses.replace(rows[path.name.split(".")[0]], name=path.name.removesuffix(".onnx"), model=path,
                                expected=dict, source="bench/quantize_models.py")
            for path in sorted(folder.glob("*.onnx"))]
