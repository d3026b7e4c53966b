"""What profiles say of kernels. The numbers of operations are worked out by hand from the shapes."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import sardonyx as sx
from nodes import Node

F, U8, I8 = np.float32, np.uint8, np.int8
ZERO, ONE = np.zeros((), U8), np.ones((), F)


def ones(*dims, dtype=F):
    return np.ones(dims, dtype)


def events(model, feeds, **options):
    session = sx.InferenceSession(model, profile=True, **options)
    session.run(None, feeds)
    return session.profile()["traceEvents"]


# (operator, inputs, number of outputs, attributes, operations)
COUNTED = {
    "conv": ("Conv", [ones(1, 3, 8, 8), ones(4, 3, 3, 3)], 1, {"pads": [1] * 4}, 2 * (4 * 8 * 8) * (3 * 3 * 3)),
    "conv of a stride": ("Conv", [ones(2, 3, 9), ones(5, 3, 3)], 1, {"strides": [2]}, 2 * (2 * 5 * 4) * 9),
    "conv, depthwise": ("Conv", [ones(1, 4, 5, 5), ones(4, 1, 3, 3)], 1, {"group": 4}, 2 * (4 * 3 * 3) * 9),
    "conv transpose": ("ConvTranspose", [ones(1, 2, 3, 3), ones(2, 5, 2, 2)], 1, {"strides": [2, 2]}, 2 * 18 * 20),
    "conv of integers": ("ConvInteger", [ones(1, 3, 4, dtype=U8), ones(2, 3, 2, dtype=U8)], 1, {}, 2 * (2 * 3) * 6),
    "quantized conv": ("QLinearConv", [ones(1, 3, 4, dtype=U8), ONE, ZERO, ones(2, 3, 2, dtype=U8), ONE, ZERO, ONE,
                                       ZERO], 1, {}, 2 * (2 * 3) * 6),
    "deformed conv": ("DeformConv", [ones(1, 1, 3, 3), ones(2, 1, 2, 2), np.zeros((1, 8, 2, 2), F)], 1, {}, 2 * 8 * 4),
    "product": ("MatMul", [ones(3, 4, 5), ones(5, 6)], 1, {}, 2 * (3 * 4 * 6) * 5),
    "product, broadcast": ("MatMul", [ones(4, 5), ones(3, 5, 6)], 1, {}, 2 * (3 * 4 * 6) * 5),
    "product of a row": ("MatMul", [ones(5), ones(5, 6)], 1, {}, 2 * 6 * 5),
    "product of vectors": ("MatMul", [ones(7), ones(7)], 1, {}, 14),
    "product of integers": ("MatMulInteger", [ones(2, 3, dtype=U8), ones(3, 4, dtype=I8)], 1, {}, 2 * 8 * 3),
    "quantized product": ("QLinearMatMul", [ones(2, 3, dtype=U8), ONE, ZERO, ones(3, 4, dtype=U8), ONE, ZERO, ONE, ZERO],
                          1, {}, 2 * 8 * 3),
    "gemm": ("Gemm", [ones(4, 5), ones(5, 6), ones(6)], 1, {}, 2 * (4 * 6) * 5),
    "gemm, turned": ("Gemm", [ones(5, 4), ones(6, 5)], 1, {"transA": 1, "transB": 1}, 2 * (4 * 6) * 5),
    "einsum": ("Einsum", [ones(2, 3), ones(3, 4)], 1, {"equation": "ij, jk -> ik"}, 2 * (2 * 3 * 4)),
    "rnn": ("RNN", [ones(6, 2, 3), ones(1, 4, 3), ones(1, 4, 4)], 1, {"hidden_size": 4}, 2 * 12 * (12 + 16)),
    "gru": ("GRU", [ones(6, 2, 3), ones(1, 12, 3), ones(1, 12, 4)], 1, {"hidden_size": 4}, 2 * 12 * (36 + 48)),
    "lstm": ("LSTM", [ones(6, 2, 3), ones(1, 16, 3), ones(1, 16, 4)], 1, {"hidden_size": 4}, 2 * 12 * (48 + 64)),
    "lstm, both ways": ("LSTM", [ones(6, 2, 3), ones(2, 16, 3), ones(2, 16, 4)], 1,
                        {"hidden_size": 4, "direction": "bidirectional"}, 2 * 2 * 12 * (48 + 64)),
    "attention": ("Attention", [ones(1, 2, 3, 4), ones(1, 2, 5, 4), ones(1, 2, 5, 6)], 1, {},
                  2 * (2 * 3) * 5 * (4 + 6)),
    "attention, heads joined and shared": ("Attention", [ones(1, 3, 16), ones(1, 5, 8), ones(1, 5, 4)], 1,
                                           {"q_num_heads": 4, "kv_num_heads": 2}, 2 * (4 * 3) * 5 * (4 + 2)),
    "attention, after past keys": ("Attention", [ones(1, 2, 1, 4), ones(1, 2, 1, 4), ones(1, 2, 1, 4), None,
                                                 ones(1, 2, 7, 4), ones(1, 2, 7, 4)], 3, {}, 2 * 2 * 8 * (4 + 4)),
}


@pytest.mark.parametrize("case", COUNTED)
@pytest.mark.parametrize("options", [{}, {"optimize": "none"}], ids=["planned", "as upgraded"])
def test_operations(case, options):
    op, inputs, outputs, attributes, expected = COUNTED[case]
    out = {"ConvInteger": np.int32, "MatMulInteger": np.int32, "QLinearConv": U8, "QLinearMatMul": U8}.get(op, F)
    node = Node(op, inputs, [out] * outputs, **attributes)
    found = [e for e in events(node.model.SerializeToString(), node.feeds, **options) if e["name"] == op]
    assert [e["args"]["flops"] for e in found] == [expected]
    assert found[0]["args"]["gflop_per_s"] == pytest.approx(expected / max(1, 1000 * found[0]["dur"]), rel=0.01)
    assert sx.inspect(node.model.SerializeToString())["flops"] == expected


def test_an_operator_that_moves_data_has_bytes():
    node = Node("Relu", [ones(5, 7)], [F])
    (event,) = events(node.model.SerializeToString(), node.feeds)
    args = event["args"]
    assert "flops" not in args and args["bytes"] == 2 * 4 * 35 and args["kernel"] and "Relu" in args["node"]
    assert args["inputs"] == "float[5, 7]" == args["outputs"]
    assert args["gb_per_s"] == pytest.approx(280 / (1000 * event["dur"]), rel=0.01)


def test_what_is_computed_along_is_named_and_not_counted():
    """Dims are ONNX's also where the tensors lie channels last."""
    graph = helper.make_graph(
        [helper.make_node("Conv", ["x", "w"], ["c"], pads=[1] * 4), helper.make_node("Add", ["c", "r"], ["s"]),
         helper.make_node("Relu", ["s"], ["a"]), helper.make_node("Conv", ["a", "w2"], ["y"])], "g",
        [helper.make_tensor_value_info(n, TensorProto.FLOAT, d) for n, d in
         (("x", (1, 16, 12, 10)), ("r", (1, 32, 12, 10)))],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, (1, 16, 12, 10))],
        [numpy_helper.from_array(ones(32, 16, 3, 3), "w"), numpy_helper.from_array(ones(16, 32, 1, 1), "w2")])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8).SerializeToString()
    first, second = [e["args"] for e in events(model, {"x": ones(1, 16, 12, 10), "r": ones(1, 32, 12, 10)})
                     if e["name"] == "Conv"]
    assert first["kernel"].endswith("+Add+Relu") and first["flops"] == 2 * (32 * 120) * (16 * 9)
    assert first["inputs"] == "float[1, 16, 12, 10] float[32, 16, 3, 3] float[1, 32, 12, 10]"
    assert first["outputs"] == second["inputs"].split("] ")[0] + "]" == "float[1, 32, 12, 10]"
    assert second["flops"] == 2 * (16 * 120) * 32
