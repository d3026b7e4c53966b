"""Files of which large tensors are read only when they are needed, from 32 MB on."""

import os
import subprocess
import sys

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import sardonyx as sx
from import_models import FLOAT, INT64, graph, info, model

node = helper.make_node
ROWS, COLUMNS, WIDE = 5000, 500, 12_000  # 10 MB, 24 MB
rng = np.random.default_rng(5)
TABLE = rng.standard_normal((ROWS, COLUMNS)).astype(np.float32)
WEIGHTS = (rng.standard_normal((COLUMNS, WIDE)) / 20).astype(np.float32)
FILTERS = (rng.standard_normal((64, 64, 3, 3)) / 20).astype(np.float32)
MASK = rng.random(WIDE * 8) < 0.5
CODES = rng.integers(0, 16, 200_000).astype(np.uint8)


def raw(name, array, dtype=None, data=None):
    tensor = TensorProto(name=name, data_type=dtype or helper.np_dtype_to_tensor_dtype(array.dtype), dims=array.shape)
    tensor.raw_data = array.tobytes() if data is None else data
    return tensor


def large_model(shift=0, as_attributes=False):
    """`shift` moves all tensors of the file, so that each is found at every alignment."""
    tensors = [raw("table", TABLE), raw("weights", WEIGHTS), raw("filters", FILTERS),
               raw("mask", MASK, TensorProto.BOOL, MASK.astype(np.uint8).tobytes()),
               raw("codes", CODES, TensorProto.UINT4, (CODES[::2] | CODES[1::2] << 4).tobytes())]
    nodes = [node("Constant", [], [t.name], value=t) for t in tensors] if as_attributes else []
    nodes += [node("Gather", ["table", "rows"], ["g"]), node("MatMul", ["g", "weights"], ["y"]),
              node("Conv", ["image", "filters"], ["z"], pads=[1] * 4),
              node("Cast", ["mask"], ["m"], to=TensorProto.INT64), node("ReduceSum", ["m"], ["count"], keepdims=0),
              node("Cast", ["codes"], ["c"], to=TensorProto.INT64), node("ReduceSum", ["c"], ["sum"], keepdims=0)]
    outputs = [info("y", FLOAT, ("n", WIDE)), info("z", FLOAT, None), info("count", INT64, ()), info("sum", INT64, ())]
    g = graph(nodes, [info("rows", INT64, ("n",)), info("image", FLOAT, (1, 64, "h", "w"))], outputs,
              [] if as_attributes else tensors)
    return model(g, opset=23, ir=10), "x" * shift


def write(path, made):
    m, padding = made
    # A field in front of the graph: fields of one message may stand in any order.
    head = onnx.ModelProto(producer_name="p" + padding).SerializeToString()
    with open(path, "wb") as file:
        file.write(head + m.SerializeToString())
    assert os.path.getsize(path) > 32 << 20
    return str(path)


def feeds(n=3, size=8):
    rows = np.arange(n, dtype=np.int64) * 7 % ROWS
    return {"rows": rows, "image": np.random.default_rng(n).standard_normal((1, 64, size, size)).astype(np.float32)}


def check(session, given):
    y, z, count, total = session.run(None, given)
    expected = TABLE[given["rows"]].astype(np.float64) @ WEIGHTS
    np.testing.assert_allclose(y, expected, atol=1e-4 * np.abs(expected).max())
    image = np.pad(given["image"][0].astype(np.float64), ((0, 0), (1, 1), (1, 1)))
    size = given["image"].shape[-1]
    filtered = sum(np.einsum("oi,ihw->ohw", FILTERS[:, :, i, j], image[:, i:i + size, j:j + size])
                   for i in range(3) for j in range(3))
    np.testing.assert_allclose(z[0], filtered, atol=1e-4 * np.abs(filtered).max())
    assert count == MASK.sum() and total == CODES.sum(dtype=np.int64)


@pytest.mark.parametrize("as_attributes", [False, True])
@pytest.mark.parametrize("shift", range(4))
def test_at_every_alignment(tmp_path, shift, as_attributes):
    session = sx.InferenceSession(write(tmp_path / "large.onnx", large_model(shift, as_attributes)))
    for n, size in ((3, 8), (40, 8), (1, 5)):
        check(session, feeds(n, size))
    plain = sx.InferenceSession(str(tmp_path / "large.onnx"), optimize="none", prefer_kernel="ref")
    check(plain, feeds())


MEMORY = """
import sys
import numpy as np
import sardonyx as sx

def memory():
    with open("/proc/self/status") as file:
        fields = dict(line.split(":") for line in file)
    return [int(fields[name].split()[0]) * 1024 for name in ("RssAnon", "RssFile", "VmHWM")]

def run(path):
    session = sx.InferenceSession(path, threads=1)
    loaded = memory()
    session.run(None, {"rows": np.arange(3), "image": np.zeros((1, 64, 8, 8), np.float32)})
    return session, loaded, memory()

run(sys.argv[1])  # what libraries take once
before = memory()
session, loaded, ran = run(sys.argv[2])
for now in loaded, ran:
    print(*(n - b for n, b in zip(now, before)))
"""


def test_weights_are_not_in_memory_twice(tmp_path):
    small = large_model()[0]
    small.graph.initializer[0].CopyFrom(raw("table", TABLE[:10]))
    small.graph.initializer[1].CopyFrom(raw("weights", WEIGHTS[:, :64].copy()))
    small.graph.output[0].CopyFrom(info("y", FLOAT, ("n", 64)))
    onnx.save(small, tmp_path / "small.onnx")
    path = write(tmp_path / "large.onnx", large_model())
    done = subprocess.run([sys.executable, "-c", MEMORY, tmp_path / "small.onnx", path], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    loaded, ran = [[int(n) for n in line.split()] for line in done.stdout.splitlines()]
    slack = 8 << 20
    assert loaded[0] < slack and loaded[1] < slack, "loading copies no weights, and keeps none of the file"
    kept = TABLE.nbytes + WEIGHTS.nbytes + FILTERS.nbytes
    assert ran[0] < kept + slack and ran[1] < slack, "weights are kept in one form"
    # While it is packed, the largest is there twice more: in the file, and at an address that suits its type.
    assert ran[2] < kept + 2 * WEIGHTS.nbytes + slack


def test_a_file_that_is_replaced_is_still_there(tmp_path):
    path = write(tmp_path / "large.onnx", large_model())
    session = sx.InferenceSession(path)
    (tmp_path / "other").write_bytes(b"another file")
    os.replace(tmp_path / "other", path)
    check(session, feeds())


@pytest.mark.parametrize("change", ["truncated", "overwritten"])
def test_a_file_that_is_written_to_is_an_error(tmp_path, change):
    path = write(tmp_path / "large.onnx", large_model())
    session = sx.InferenceSession(path)
    with open(path, "r+b") as file:
        if change == "truncated":
            file.truncate(1000)
        else:
            file.seek(20 << 20)
            file.write(b"\0" * 4096)
    with pytest.raises(sx.FileError, match="large.onnx.*written to since"):
        session.run(None, feeds())


def test_a_file_written_to_after_its_weights_were_read(tmp_path):
    path = write(tmp_path / "large.onnx", large_model())
    session = sx.InferenceSession(path)
    check(session, feeds())
    with open(path, "wb"):
        pass
    check(session, feeds())


def test_damaged(tmp_path):
    """A file that is read in parts is refused with the words that the same bytes are refused with."""
    path = write(tmp_path / "large.onnx", large_model())
    with open(path, "rb") as file:
        data = bytearray(file.read())
    random = np.random.default_rng(1)
    refused = 0
    for turn in range(16):
        changed = bytearray(data)
        at = int(random.integers(0, 300)) * (1 if turn % 2 else -1)
        changed[at] ^= 1 << int(random.integers(0, 8))
        if turn == 0:
            changed = changed[:33 << 20]
        with open(path, "wb") as file:
            file.write(changed)
        outcomes = []
        for source in (path, bytes(changed)):
            try:
                sx.InferenceSession(source)
                outcomes.append("loaded")
            except sx.Error as error:
                outcomes.append((type(error), error.what, error.expected, error.got))
        assert outcomes[0] == outcomes[1]
        refused += outcomes[0] != "loaded"
    assert refused > 3


def test_a_wrong_length_is_refused(tmp_path):
    m, padding = large_model()
    tensor = m.graph.initializer[1]
    tensor.raw_data = tensor.raw_data[:-4]
    with pytest.raises(sx.ModelError, match=f"tensor 'weights' raw_data: expected {WEIGHTS.nbytes} bytes.*{WEIGHTS.nbytes - 4}"):
        sx.InferenceSession(write(tmp_path / "short.onnx", (m, padding)))


def test_written_again(tmp_path):
    path = write(tmp_path / "large.onnx", large_model(1))
    sx.convert(path, path)  # over itself
    m = onnx.load(path)
    arrays = {t.name: t for t in m.graph.initializer}
    np.testing.assert_array_equal(numpy_helper.to_array(arrays["weights"]), WEIGHTS)
    check(sx.InferenceSession(path), feeds())
