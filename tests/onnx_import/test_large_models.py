"""Models past the 2 GB of a protobuf message, and models with data beside them in several threads at once."""

import threading

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper

import sardonyx as sx
from import_models import FLOAT, INT64, graph, info, model

node = helper.make_node
ROWS, COLUMNS = 600_000, 1000  # 2.4 GB
# The rows that are not zero: the first, one past 2 GiB, and the last.
VALUES = {0: 1.5, 540_000: -2.0, ROWS - 1: 7.25}


def external(name, dims, location, **entries):
    tensor = TensorProto(name=name, data_type=FLOAT, dims=list(dims), data_location=TensorProto.EXTERNAL)
    for key, value in {"location": location, **entries}.items():
        tensor.external_data.add(key=key, value=str(value))
    return tensor


def private_memory():
    with open("/proc/self/status") as f:
        return next(int(line.split()[1]) * 1024 for line in f if line.startswith("RssAnon"))


def test_past_two_gigabytes(tmp_path):
    weights = tmp_path / "weights.bin"
    with open(weights, "wb") as f:
        f.truncate(ROWS * COLUMNS * 4)  # holes take no disk
        for row, value in VALUES.items():
            f.seek((row * COLUMNS + 5) * 4)
            f.write(np.float32(value).tobytes())
    nodes = [node("Gather", ["table", "rows"], ["g"]), node("Identity", ["g"], ["m"]),
             node("ReduceSum", ["m", "axes"], ["y"], keepdims=0)]
    m = model(graph(nodes, [info("rows", INT64, ("n",))], [info("y", FLOAT, ("n",))],
                    [external("table", (ROWS, COLUMNS), "weights.bin"), helper.make_tensor("axes", INT64, [1], [1])]))
    (tmp_path / "model.onnx").write_bytes(m.SerializeToString())
    rows = np.array([*VALUES, 1], np.int64)
    expected = [*VALUES.values(), 0]

    before = private_memory()
    session = sx.InferenceSession(str(tmp_path / "model.onnx"))
    np.testing.assert_array_equal(session.run(None, {"rows": rows})[0], expected)
    assert private_memory() - before < 256 << 20, "weights are mapped, not copied"

    for optimize in (False, True):
        written = tmp_path / f"written{optimize}.onnx"
        sx.convert(str(tmp_path / "model.onnx"), str(written), optimize=optimize)
        assert written.stat().st_size < 1 << 20
        onnx.checker.check_model(str(written), full_check=True)
        options = onnxruntime.SessionOptions()
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        reference = onnxruntime.InferenceSession(str(written), options, providers=["CPUExecutionProvider"])
        np.testing.assert_array_equal(reference.run(None, {"rows": rows})[0], expected)
        del reference
        np.testing.assert_array_equal(sx.InferenceSession(str(written)).run(None, {"rows": rows})[0], expected)
        for file in tmp_path.glob(f"{written.name}*"):
            file.unlink()


def test_models_with_data_beside_them_in_threads(tmp_path):
    """Two models of the same file names in two folders; each thread loads and runs both, again and again."""
    size, sources = 4096, []
    for k in range(2):
        folder = tmp_path / str(k)
        folder.mkdir()
        (folder / "weights.bin").write_bytes(np.full(size, k + 1, np.float32).tobytes())
        m = model(graph([node("Mul", ["x", "w"], ["y"])], [info("x", FLOAT, (size,))], [info("y", FLOAT, (size,))],
                        [external("w", (size,), "weights.bin")]))
        (folder / "model.onnx").write_bytes(m.SerializeToString())
        sources.append(str(folder / "model.onnx"))
    shared = [sx.InferenceSession(source) for source in sources]
    failures = []

    def work(seed):
        try:
            for turn in range(40):
                k = (turn + seed) % 2
                x = np.full(size, seed * 100 + turn, np.float32)
                for session in (shared[k], sx.InferenceSession(sources[k])):
                    np.testing.assert_array_equal(session.run(None, {"x": x})[0], x * (k + 1))
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures, failures[0]
