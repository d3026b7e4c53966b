"""Models of old opsets mean what their opset says: against ONNX Runtime on the unconverted file where it
takes it (opset 7 and later), else against numpy."""

import numpy as np
import pytest
from onnx import TensorProto, helper

from upgrade_models import KNOWLEDGE, check, floats, make_model, run, run_node, run_ort

FLOAT, INT64, BOOL = TensorProto.FLOAT, TensorProto.INT64, TensorProto.BOOL

knowledge = pytest.mark.parametrize("knowledge", KNOWLEDGE)


# --- broadcasting until opset 6 ---------------------------------------------------------------------------

BROADCASTS = [
    # shape of B, axis, shape of B as numpy has to see it next to A of (2, 3, 4, 5)
    ((), None, ()),
    ((1, 1), None, (1, 1)),
    ((5,), None, (5,)),
    ((4, 5), None, (4, 5)),
    ((3, 4), 1, (3, 4, 1)),
    ((2,), 0, (2, 1, 1, 1)),
    ((3,), 1, (3, 1, 1)),
    ((3,), -3, (3, 1, 1)),
    ((5,), -1, (5,)),
    ((2, 3, 4, 5), 0, (2, 3, 4, 5)),
    ((1,), 1, (1,)),
]
ARITHMETIC = {"Add": np.add, "Sub": np.subtract, "Mul": np.multiply, "Div": np.divide}


@knowledge
@pytest.mark.parametrize("shape,axis,seen", BROADCASTS)
@pytest.mark.parametrize("op", ARITHMETIC)
@pytest.mark.parametrize("opset", [1, 6])
def test_arithmetic_broadcast(opset, op, shape, axis, seen, knowledge):
    a, b = floats(2, 3, 4, 5), floats(*shape, seed=1) + 3
    attributes = {"broadcast": 1} | ({} if axis is None else {"axis": axis})
    if opset == 1:
        attributes["consumed_inputs"] = [0, 0]
    ours = run_node(op, [a, b], opset, knowledge=knowledge, **attributes)
    check(ours, [ARITHMETIC[op](a, np.reshape(b, seen))])


@knowledge
@pytest.mark.parametrize("op,function", [
    ("And", np.logical_and), ("Or", np.logical_or), ("Xor", np.logical_xor), ("Equal", np.equal),
    ("Greater", np.greater), ("Less", np.less), ("Pow", np.power)])
@pytest.mark.parametrize("opset", [1, 6])
def test_logic_broadcast(opset, op, function, knowledge):
    a, b = floats(2, 3, 4), floats(3, seed=1)
    if op in ("And", "Or", "Xor"):
        a, b = a > 0, b > 0
    elif op == "Equal":
        a, b = (a > 0).astype(np.int32), (b > 0).astype(np.int32)
    elif op == "Pow":
        a = np.abs(a)
    types = [FLOAT if op == "Pow" else BOOL]
    ours = run_node(op, [a, b], opset, knowledge=knowledge, types=types, broadcast=1, axis=1)
    check(ours, [function(a, b[:, None])])


@knowledge
@pytest.mark.parametrize("shape", [(3,), (1,), (3, 1, 1)])
@pytest.mark.parametrize("opset", [1, 6])
def test_prelu_slope_of_channels(opset, shape, knowledge):
    x, slope = floats(2, 3, 4, 5), floats(*shape, seed=1)
    expected = np.where(x < 0, x * slope.reshape(-1, 1, 1), x)
    check(run_node("PRelu", [x, slope], opset, knowledge=knowledge), [expected])


def test_prelu_of_matrix():
    x, slope = floats(4, 3), floats(3, seed=1)
    check(run_node("PRelu", [x, slope], 6, knowledge="rank unknown"), [np.where(x < 0, x * slope, x)])


@pytest.mark.parametrize("opset", [1, 6])
def test_gemm_broadcast(opset):
    a, b, c = floats(3, 4), floats(5, 4, seed=1), floats(5, seed=2)
    ours = run_node("Gemm", [a, b, c], opset, broadcast=1, transB=1, alpha=0.5, beta=2.0)
    check(ours, [0.5 * a @ b.T + 2 * c])


def test_axis_that_does_not_fit_is_refused():
    with pytest.raises(Exception, match="axis"):
        run_node("Add", [floats(2, 3), floats(3, seed=1)], 6, broadcast=1, axis=2)


# --- attributes that became inputs, and defaults that changed ---------------------------------------------

@pytest.mark.parametrize("to,dtype", [("INT64", np.int64), ("FLOAT", np.float32), ("DOUBLE", np.float64),
                                      ("BOOL", np.bool_), ("UINT8", np.uint8), ("FLOAT16", np.float16)])
def test_cast_to_name(to, dtype):
    x = np.array([0, 1.5, 100], np.float32)
    ours = run_node("Cast", [x], 1, types=[helper.np_dtype_to_tensor_dtype(np.dtype(dtype))], to=to)
    check(ours, [x.astype(dtype)])


@knowledge
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("limits", [{}, {"min": -0.5}, {"max": 0.25}, {"min": -0.5, "max": 0.25}])
@pytest.mark.parametrize("opset", [1, 6])
def test_clip(opset, limits, dtype, knowledge):
    x = floats(3, 4, dtype=dtype)
    expected = np.clip(x, limits.get("min", -np.inf), limits.get("max", np.inf)).astype(dtype)
    check(run_node("Clip", [x], opset, knowledge=knowledge, **limits), [expected])


def test_selu_defaults():
    x = floats(100) * 5
    def selu(alpha, gamma):
        return (gamma * np.where(x > 0, x, alpha * np.exp(x.astype(np.float64)) - alpha)).astype(np.float32)
    check(run_node("Selu", [x], 1), [selu(1.6732, 1.0507)], 1e-6)
    check(run_node("Selu", [x], 6), [selu(1.67326319, 1.05070102)], 1e-6)


@knowledge
@pytest.mark.parametrize("axis", [None, 0, 1, 2, 3, -1, -2, -4])
@pytest.mark.parametrize("op", ["Softmax", "LogSoftmax", "Hardmax"])
@pytest.mark.parametrize("opset", [1, 11])
def test_softmax_flattens(opset, op, axis, knowledge):
    x = floats(2, 3, 4, 5)
    attributes = {} if axis is None else {"axis": axis}
    first = (1 if axis is None else axis) % 4
    flat = x.reshape(int(np.prod(x.shape[:first])), -1).astype(np.float64)
    soft = np.exp(flat) / np.exp(flat).sum(1, keepdims=True)
    result = {"Softmax": soft, "LogSoftmax": np.log(soft),
              "Hardmax": flat.argmax(1)[:, None] == np.arange(flat.shape[1])}[op]
    ours = run_node(op, [x], opset, knowledge=knowledge, **attributes)
    check(ours, [result.reshape(x.shape).astype(np.float32)])


@pytest.mark.parametrize("op", [
    "ReduceL1", "ReduceL2", "ReduceLogSum", "ReduceLogSumExp", "ReduceMax", "ReduceMean", "ReduceMin",
    "ReduceProd", "ReduceSum", "ReduceSumSquare"])
@pytest.mark.parametrize("opset,axes", [
    (1, None), (1, [1]), (7, [0, 2]), (11, [-1]), (12, [1, -1]), (12, None)])
@pytest.mark.parametrize("keepdims", [0, 1, None])
def test_reduce(op, opset, axes, keepdims):
    x = np.abs(floats(2, 3, 4)) + 0.5
    given = {"axes": axes, "keepdims": keepdims}
    attributes = {name: value for name, value in given.items() if value is not None}
    ours, theirs = run_node(op, [x], max(opset, 7), ort=True, **attributes)
    check(ours, theirs)
    check(run_node(op, [x], opset, **attributes), theirs)


@pytest.mark.parametrize("op", ["ReduceLogSum", "ReduceLogSumExp"])
def test_reduce_log_of_integers(op):
    x = np.arange(1, 7, dtype=np.int32).reshape(2, 3)
    inner = np.exp(x.astype(np.float64)) if op == "ReduceLogSumExp" else x
    expected = np.log(inner.sum(1, keepdims=True)).astype(np.int32)
    check(run_node(op, [x], 13, types=[TensorProto.INT32], axes=[1]), [expected])


def test_erf_of_integers():
    x = np.array([-7, -1, 0, 1, 7], np.int64)
    check(run_node("Erf", [x], 9), [np.array([-1, 0, 0, 0, 1], np.int64)])


@knowledge
def test_squeeze_and_unsqueeze(knowledge):
    x = floats(1, 3, 1, 4)
    check(run_node("Squeeze", [x], 1, knowledge=knowledge, axes=[0]), [x[0]])
    check(run_node("Squeeze", [x], 11, knowledge=knowledge, axes=[-2]), [x[:, :, 0]])
    check(run_node("Squeeze", [x], 1, knowledge=knowledge), [x[0, :, 0]])
    check(run_node("Unsqueeze", [x], 1, knowledge=knowledge, axes=[0, 5]), [x[None, ..., None]])
    check(run_node("Unsqueeze", [x], 11, knowledge=knowledge, axes=[-1, 1]), [x[:, None, ..., None]])


@knowledge
def test_reshape_of_opset_1(knowledge):
    x = floats(2, 3, 4)
    ours = run_node("Reshape", [x], 1, knowledge=knowledge, shape=[0, -1], consumed_inputs=[0])
    check(ours, [x.reshape(2, 12)])


@knowledge
@pytest.mark.parametrize("opset", [1, 9])
def test_slice(opset, knowledge):
    x = floats(4, 5, 6)
    ours = run_node("Slice", [x], opset, knowledge=knowledge, starts=[1, -3], ends=[1000, -1], axes=[0, 2])
    check(ours, [x[1:, :, -3:-1]])
    check(run_node("Slice", [x], opset, knowledge=knowledge, starts=[1, 0], ends=[3, 2]), [x[1:3, 0:2]])


@knowledge
def test_split(knowledge):
    x = floats(2, 6)
    parts = np.split(x, [1, 3], 1)
    sizes = np.array([1, 2, 3], np.int64)
    check(run_node("Split", [x, sizes.astype(np.float32)], 1, 3, fixed=(1,), axis=1), parts)
    check(run_node("Split", [x], 1, 3, knowledge=knowledge, axis=1, split=[1, 2, 3]), parts)
    check(run_node("Split", [x], 2, 3, knowledge=knowledge, axis=1, split=[1, 2, 3]), parts)
    check(run_node("Split", [x], 11, 3, knowledge=knowledge, axis=-1, split=[1, 2, 3]), parts)
    check(run_node("Split", [x, sizes], 13, 3, knowledge=knowledge, axis=1), parts)
    check(run_node("Split", [x], 2, 2, knowledge=knowledge), np.split(x, 2))
    check(run_node("Split", [x], 13, 3, knowledge=knowledge, axis=1), np.split(x, 3, 1))


def test_concat_default_axis():
    a, b = floats(2, 3), floats(2, 1, seed=1)
    check(run_node("Concat", [a, b], 1), [np.concatenate([a, b], 1)])


@knowledge
@pytest.mark.parametrize("axis", [0, 1, 2])
def test_tile_along_an_axis(axis, knowledge):
    x = floats(2, 3, 4)
    repeats = [1, 1, 1]
    repeats[axis] = 3
    ours = run_node("Tile", [x, np.float32(3), np.float32(axis)], 1, knowledge=knowledge)
    check(ours, [np.tile(x, repeats)])


@knowledge
@pytest.mark.parametrize("mode", ["constant", "reflect", "edge"])
@pytest.mark.parametrize("opset,name", [(1, "paddings"), (2, "pads"), (10, "pads")])
def test_pad(opset, name, mode, knowledge):
    x = floats(3, 4)
    constant = mode == "constant"
    expected = np.pad(x, [(1, 0), (2, 1)], mode, **({"constant_values": 2.5} if constant else {}))
    attributes = {name: [1, 2, 0, 1], "mode": mode} | ({"value": 2.5} if constant else {})
    check(run_node("Pad", [x], opset, knowledge=knowledge, **attributes), [expected])


def test_pad_cuts():
    x = floats(3, 4)
    check(run_node("Pad", [x], 2, pads=[-1, 0, 0, -2]), [x[1:, :-2]])


@knowledge
@pytest.mark.parametrize("opset", [1, 10])
def test_top_k(opset, knowledge):
    x = floats(3, 7)
    order = np.argsort(-x, 1, kind="stable")[:, :4]
    inputs, attributes = ([x], {"k": 4}) if opset == 1 else ([x, np.array([4], np.int64)], {})
    ours = run_node("TopK", inputs, opset, 2, knowledge=knowledge, types=[FLOAT, INT64], **attributes)
    check(ours, [np.take_along_axis(x, order, 1), order])


@pytest.mark.parametrize("dtype", [np.int64, np.int32, np.float32, np.uint8])
def test_one_hot_of_numbers_outside(dtype):
    indices = np.array([0, 2, 3, 200, -1 if dtype != np.uint8 else 255], dtype)
    expected = np.where(indices.astype(np.int64)[:, None] == np.arange(3), 7, 4).astype(np.float32)
    depth, values = np.array([3], np.int64), np.array([4, 7], np.float32)
    check(run_node("OneHot", [indices, depth, values], 9, types=[FLOAT]), [expected])
    expected[4, 2] = 7 if dtype != np.uint8 else 4
    check(run_node("OneHot", [indices, depth, values], 11, types=[FLOAT]), [expected])


@pytest.mark.parametrize("opset", [9, 10])
def test_scatter(opset):
    x, indices, updates = floats(3, 4), np.array([[1, 3], [0, 2]], np.int64), floats(2, 2, seed=1)
    ours, theirs = run_node("Scatter", [x, indices, updates], opset, ort=True, axis=1)
    check(ours, theirs)


@pytest.mark.parametrize("shape", [(), (1,)])
def test_quantize_with_one_scale(shape):
    x = floats(2, 3, 4) * 10
    scale, zero = np.full(shape, 0.5, np.float32), np.full(shape, 3, np.uint8)
    ours, theirs = run_node("QuantizeLinear", [x, scale, zero], 10, types=[TensorProto.UINT8], ort=True)
    check(ours, theirs)
    check(*run_node("DequantizeLinear", [theirs[0], scale, zero], 10, types=[FLOAT], ort=True))


@knowledge
@pytest.mark.parametrize("axis", [None, 0, 1, 2, -2])
def test_dft_axis(axis, knowledge):
    x = floats(2, 3, 4, 1)
    attributes = {} if axis is None else {"axis": axis}
    transform = np.fft.fft(x[..., 0], axis=1 if axis is None else axis if axis >= 0 else axis + 1)
    expected = np.stack([transform.real, transform.imag], -1).astype(np.float32)
    check(run_node("DFT", [x], 17, knowledge=knowledge, **attributes), [expected])


def test_dft_keeps_its_length_and_direction():
    x = floats(2, 6, 2)
    signal = x[..., 0] + 1j * x[..., 1]
    transform = np.fft.ifft(signal, 4, axis=1)
    expected = np.stack([transform.real, transform.imag], -1).astype(np.float32)
    check(run_node("DFT", [x, np.array(4, np.int64)], 17, inverse=1, axis=1), [expected])


@pytest.mark.parametrize("direction", [0, 1])
def test_label_encoder_of_opset_1(direction):
    classes = ["cat", "dog", "cow", "dog"]
    model_of = dict(opset=9, domain="ai.onnx.ml", domains=[("ai.onnx.ml", 1)], ort=True)
    if direction == 0:
        x = np.array([["dog", "cow"], ["eel", "cat"]], object)
        ours, theirs = run_node("LabelEncoder", [x], types=[INT64], classes_strings=classes,
                                default_int64=-7, **model_of)
        check(ours, theirs)
        assert ours[0].tolist() == [[3, 2], [-7, 0]]
    else:
        x = np.array([[3, 0], [4, -1]], np.int64)
        ours, theirs = run_node("LabelEncoder", [x], types=[TensorProto.STRING], classes_strings=classes,
                                default_string="none", **model_of)
        check(ours, theirs)
        assert ours[0].tolist() == [["dog", "cat"], ["none", "none"]]


# --- recurrent operators ----------------------------------------------------------------------------------

@pytest.mark.parametrize("op,gates,opsets", [("RNN", 1, (1, 6)), ("GRU", 3, (1, 3, 6)), ("LSTM", 4, (1, 6))])
@pytest.mark.parametrize("direction", ["forward", "bidirectional"])
def test_recurrent(op, gates, opsets, direction):
    ways, hidden = (2 if direction == "bidirectional" else 1), 4
    x = floats(5, 2, 3)
    w, r = floats(ways, gates * hidden, 3, seed=1), floats(ways, gates * hidden, hidden, seed=2)
    b = floats(ways, 2 * gates * hidden, seed=3)
    attributes = dict(hidden_size=hidden, direction=direction)
    _, theirs = run_node(op, [x, w, r, b], 7, 2, ort=True, **attributes)
    for opset in opsets:
        check(run_node(op, [x, w, r, b], opset, 2, output_sequence=1, **attributes), theirs, 1e-4)


def test_gru_with_the_misspelt_direction():
    x, w, r = floats(5, 2, 3), floats(1, 12, 3, seed=1), floats(1, 12, 4, seed=2)
    _, theirs = run_node("GRU", [x, w, r], 7, 2, ort=True, hidden_size=4)
    check(run_node("GRU", [x, w, r], 1, 2, hidden_size=4, direction="foward"), theirs, 1e-4)


# --- scopes -----------------------------------------------------------------------------------------------

@knowledge
def test_function_of_another_opset(knowledge):
    nodes = [helper.make_node("Add", ["x", "b"], ["sum"], broadcast=1, axis=1),
             helper.make_node("Softmax", ["sum"], ["y"])]
    function = helper.make_function("old", "Shift", ["x", "b"], ["y"], nodes, [helper.make_opsetid("", 6)])
    x, b = floats(2, 3, 4), floats(3, seed=1)
    model = make_model([helper.make_node("Shift", ["x", "b"], ["s"], domain="old"),
                        helper.make_node("Softmax", ["s"], ["y"])], {"x": x, "b": b}, {"y": FLOAT}, 17,
                       domains=[("old", 1)], functions=[function], knowledge=knowledge)

    def softmax(value, axes):
        power = np.exp(value.astype(np.float64))
        return power / power.sum(axes, keepdims=True)
    expected = softmax(softmax(x + b[:, None], (1, 2)), 2).astype(np.float32)
    check(run(model, {"x": x, "b": b}), [expected])


def branch(name, node):
    return helper.make_graph([node], name, [], [helper.make_tensor_value_info(name, FLOAT, None)])


@knowledge
@pytest.mark.parametrize("flag", [True, False])
def test_bodies_are_upgraded(flag, knowledge):
    x, b = floats(2, 3, 4), floats(3, seed=1)
    then = branch("t", helper.make_node("Add", ["x", "b"], ["t"], broadcast=1, axis=1))
    other = branch("e", helper.make_node("Clip", ["x"], ["e"], min=-0.1))
    node = helper.make_node("If", ["c"], ["y"], then_branch=then, else_branch=other)
    feeds = {"c": np.array(flag), "x": x, "b": b}
    model = make_model([node], feeds, {"y": FLOAT}, 6, knowledge=knowledge)
    check(run(model, feeds), [x + b[:, None] if flag else np.maximum(x, np.float32(-0.1))])


def test_loop_of_opset_1():
    body = helper.make_graph(
        [helper.make_node("Identity", ["cond"], ["cond_out"]),
         helper.make_node("Add", ["v", "b"], ["v_out"], broadcast=1, axis=0),
         helper.make_node("ReduceSum", ["v_out"], ["s"], axes=[1], keepdims=0)], "body",
        [helper.make_tensor_value_info("i", INT64, []), helper.make_tensor_value_info("cond", BOOL, []),
         helper.make_tensor_value_info("v", FLOAT, [2, 3])],
        [helper.make_tensor_value_info("cond_out", BOOL, []),
         helper.make_tensor_value_info("v_out", FLOAT, [2, 3]),
         helper.make_tensor_value_info("s", FLOAT, [2])])
    node = helper.make_node("Loop", ["n", "", "v0"], ["v_end", "sums"], body=body)
    v, b = floats(2, 3), floats(2, seed=1)
    feeds = {"n": np.array(3, np.int64), "v0": v, "b": b}
    model = make_model([node], feeds, {"v_end": FLOAT, "sums": FLOAT}, 6)
    steps = [v + b[:, None] * (i + 1) for i in range(3)]
    check(run(model, feeds), [steps[-1], np.stack([s.sum(1) for s in steps])])


def test_newer_model_is_left_alone():
    x = floats(2, 3, 4)
    power = np.exp(x.astype(np.float64))
    check(run_node("Softmax", [x], 13), [(power / power.sum(-1, keepdims=True)).astype(np.float32)])


@pytest.mark.parametrize("opset", range(1, 29))
def test_a_small_network_at_every_opset(opset):
    x, w, b = floats(4, 3), floats(3, 5, seed=1), floats(5, seed=2)
    legacy = {"broadcast": 1} if opset < 7 else {}
    nodes = [helper.make_node("Gemm", ["x", "w", "b"], ["h"], **legacy),
             helper.make_node("Relu", ["h"], ["r"]),
             helper.make_node("Softmax", ["r"], ["y"], axis=1)]
    model = make_model(nodes, {"x": x}, {"y": FLOAT}, opset, constants={"w": w, "b": b})
    power = np.exp(np.maximum(x.astype(np.float64) @ w + b, 0))
    check(run(model, {"x": x}), [(power / power.sum(1, keepdims=True)).astype(np.float32)])
    if 7 <= opset <= 26:
        check(run(model, {"x": x}), run_ort(model, {"x": x}))
