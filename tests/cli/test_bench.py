"""sardonyx bench --per-op, and run --profile."""

import json

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from command import sardonyx


@pytest.fixture
def looping(tmp_path):
    """A product in each of 5 turns, and one outside."""
    weights = numpy_helper.from_array(np.full((64, 64), 0.01, np.float32), "w")
    body = helper.make_graph(
        [helper.make_node("Identity", ["go"], ["again"]), helper.make_node("MatMul", ["state", "w"], ["next"])], "body",
        [helper.make_tensor_value_info("turn", TensorProto.INT64, []), helper.make_tensor_value_info("go", TensorProto.BOOL, []),
         helper.make_tensor_value_info("state", TensorProto.FLOAT, [64, 64])],
        [helper.make_tensor_value_info("again", TensorProto.BOOL, []),
         helper.make_tensor_value_info("next", TensorProto.FLOAT, [64, 64])])
    graph = helper.make_graph(
        [helper.make_node("Loop", ["turns", "", "x"], ["z"], body=body), helper.make_node("MatMul", ["z", "w"], ["y"])],
        "g", [helper.make_tensor_value_info("x", TensorProto.FLOAT, [64, 64])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [64, 64])],
        [weights, numpy_helper.from_array(np.array(5), "turns")])
    path = tmp_path / "looping.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8), path)
    return path


def test_table_of_kernels(looping):
    done = sardonyx("bench", looping, "-n", 3, "--per-op", "--json", "--threads", 1)
    assert done.returncode == 0, done.stderr
    rows = json.loads(done.stdout)["operators"]
    calls = {row["operator"]: row["calls"] for row in rows}
    assert calls == {"Loop": 1, "MatMul": 6}
    # The time of a body is not that of its Loop as well.
    assert sum(row["share"] for row in rows) == pytest.approx(1)
    product = next(row for row in rows if row["operator"] == "MatMul")
    assert product["gflop_per_s"] == pytest.approx(6 * 2 * 64**3 / (product["ms"] * 1e6), rel=1e-3)
    assert product["gb_per_s"] == pytest.approx(6 * 3 * 4 * 64**2 / (product["ms"] * 1e6), rel=1e-3)
    assert "gflop_per_s" not in next(row for row in rows if row["operator"] == "Loop")
    text = sardonyx("bench", looping, "-n", 3, "--per-op")
    assert "GFLOP/s" in text.stdout and "ms in kernels" in text.stdout


def test_trace(looping, tmp_path):
    done = sardonyx("run", looping, "--profile", tmp_path / "trace.json")
    assert done.returncode == 0, done.stderr
    trace = json.loads((tmp_path / "trace.json").read_text())
    assert [event["name"] for event in trace["traceEvents"]] == ["MatMul"] * 5 + ["Loop", "MatMul"]
    for event in trace["traceEvents"]:
        assert event["ph"] == "X" and event["dur"] >= 0 and {"node", "kernel", "inputs", "outputs", "bytes"} <= event["args"].keys()
    loop = trace["traceEvents"][5]
    for inner in trace["traceEvents"][:5]:
        assert loop["ts"] <= inner["ts"] and inner["ts"] + inner["dur"] <= loop["ts"] + loop["dur"]
