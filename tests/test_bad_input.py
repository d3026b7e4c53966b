"""Models and feeds that do not fit end in a typed error that says which node, what, what was expected and what was
found; never in a crash, a hang, or memory that is not there. (Damaged files: tests/onnx_import/test_damaged.py.)"""

import resource
import time

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper, parser

import sardonyx as sx

OPSET = onnx.defs.onnx_opset_version()


def f32(*shape):
    return np.arange(np.prod(shape, dtype=int), dtype=np.float32).reshape(shape)


def i64(*values):
    return np.array(values, np.int64)


def node_model(op, inputs, outputs=1, constants=True, name="n", domain="", opset=OPSET, **attributes):
    """A model of one node named `name`. `constants`: shapes are declared and integers are initializers, so that
    inference sees the mistake; otherwise only the kernel can."""
    names = ["" if x is None else f"x{i}" for i, x in enumerate(inputs)]
    made = [f"y{i}" for i in range(outputs)]
    tensors = [numpy_helper.from_array(x, n) for n, x in zip(names, inputs)
               if x is not None and constants and x.dtype.kind in "ib"]
    held = {t.name for t in tensors}
    fed = {n: x for n, x in zip(names, inputs) if x is not None and n not in held}
    graph = helper.make_graph(
        [helper.make_node(op, names, made, name=name, domain=domain, **attributes)], "g",
        [helper.make_tensor_value_info(n, helper.np_dtype_to_tensor_dtype(x.dtype) if x.dtype.kind != "O" else TensorProto.STRING,
                                       x.shape if constants else None) for n, x in fed.items()],
        [onnx.ValueInfoProto(name=y) for y in made], tensors)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid(domain, opset)])
    return model.SerializeToString(), fed


def run_node(op, inputs, **options):
    model, feeds = node_model(op, inputs, **options)
    return sx.InferenceSession(model).run(None, feeds)


def text_session(text, **options):
    return sx.InferenceSession(parser.parse_model(text).SerializeToString(), **options)


X = f32(1, 4, 8, 8)
W = f32(4, 4, 3, 3)
HUGE = 1 << 40

# Nodes that cannot be run: (operator, inputs, attributes).
BAD_NODES = {
    "conv stride 0": ("Conv", [X, W], {"strides": [0, 1]}),
    "conv stride below 0": ("Conv", [X, W], {"strides": [-1, 1]}),
    "conv dilation 0": ("Conv", [X, W], {"dilations": [0, 0]}),
    "conv group 0": ("Conv", [X, W], {"group": 0}),
    "conv group -1": ("Conv", [X, W], {"group": -1}),
    "conv group that does not divide": ("Conv", [X, W], {"group": 3}),
    "conv kernel 0": ("Conv", [X, f32(4, 4, 0, 3)], {}),
    "conv kernel_shape that W contradicts": ("Conv", [X, W], {"kernel_shape": [5, 5]}),
    "conv one stride of two": ("Conv", [X, W], {"strides": [1]}),
    "conv too few pads": ("Conv", [X, W], {"pads": [1, 1]}),
    "conv pads past int64": ("Conv", [X, W], {"pads": [2**62] * 4}),
    "conv channels": ("Conv", [X, f32(4, 3, 3, 3)], {}),
    "conv rank 1": ("Conv", [f32(4), W], {}),
    "conv kernel larger than the input": ("Conv", [f32(1, 4, 2, 2), W], {}),
    "conv unknown auto_pad": ("Conv", [X, W], {"auto_pad": "LEFT"}),
    "conv bias": ("Conv", [X, W, f32(3)], {}),
    "conv transpose stride 0": ("ConvTranspose", [X, W], {"strides": [0, 0]}),
    "conv transpose dilation 0": ("ConvTranspose", [X, W], {"dilations": [0, 1]}),
    "conv transpose group 0": ("ConvTranspose", [X, W], {"group": 0}),
    "conv transpose channels": ("ConvTranspose", [X, f32(3, 4, 3, 3)], {}),
    "conv transpose pads past the output": ("ConvTranspose", [X, W], {"pads": [99] * 4}),
    "max pool kernel 0": ("MaxPool", [X], {"kernel_shape": [0, 2]}),
    "max pool kernel below 0": ("MaxPool", [X], {"kernel_shape": [-2, 2]}),
    "max pool stride 0": ("MaxPool", [X], {"kernel_shape": [2, 2], "strides": [0, 0]}),
    "max pool dilation 0": ("MaxPool", [X], {"kernel_shape": [2, 2], "dilations": [0, 0]}),
    "max pool one kernel of two": ("MaxPool", [X], {"kernel_shape": [2]}),
    "average pool kernel 0": ("AveragePool", [X], {"kernel_shape": [2, 0]}),
    "average pool stride 0": ("AveragePool", [X], {"kernel_shape": [2, 2], "strides": [0, 1]}),
    "average pool rank 2": ("AveragePool", [f32(2, 2)], {"kernel_shape": [2, 2]}),
    "lp pool stride 0": ("LpPool", [X], {"kernel_shape": [2, 2], "strides": [0, 1]}),
    "lp pool p 0": ("LpPool", [X], {"kernel_shape": [2, 2], "p": 0}),
    "max unpool stride 0": ("MaxUnpool", [f32(1, 1, 2, 2), np.zeros((1, 1, 2, 2), np.int64)], {"kernel_shape": [2, 2], "strides": [0, 0]}),
    "max unpool index out of range": ("MaxUnpool", [f32(1, 1, 2, 2), np.full((1, 1, 2, 2), 99)], {"kernel_shape": [2, 2], "strides": [2, 2]}),
    "lrn size 0": ("LRN", [X], {"size": 0}),
    "softmax axis": ("Softmax", [X], {"axis": 4}),
    "softmax axis below": ("LogSoftmax", [X], {"axis": -5}),
    "concat axis": ("Concat", [X, X], {"axis": 7}),
    "concat of other dims": ("Concat", [X, f32(1, 4, 8, 7)], {"axis": 1}),
    "concat of other ranks": ("Concat", [X, f32(4)], {"axis": 0}),
    "gather index": ("Gather", [X, i64(9)], {"axis": 1}),
    "gather index below": ("Gather", [X, i64(-9)], {"axis": 1}),
    "gather axis": ("Gather", [X, i64(0)], {"axis": 4}),
    "gather elements index": ("GatherElements", [f32(2, 2), np.array([[0, 5], [0, 0]])], {}),
    "gather nd index": ("GatherND", [f32(2, 2), np.array([[0, 5]])], {}),
    "gather nd too many indices": ("GatherND", [f32(2, 2), np.array([[0, 0, 0]])], {}),
    "gather nd batch_dims": ("GatherND", [f32(2, 2), np.array([[0, 0]])], {"batch_dims": 5}),
    "scatter elements index": ("ScatterElements", [f32(2, 2), np.array([[0, 5]]), f32(1, 2)], {}),
    "scatter elements reduction": ("ScatterElements", [f32(2, 2), np.array([[0, 1]]), f32(1, 2)], {"reduction": "sub"}),
    "scatter nd index": ("ScatterND", [f32(4), np.array([[9]]), f32(1)], {}),
    "scatter nd updates": ("ScatterND", [f32(4), np.array([[1]]), f32(3)], {}),
    "transpose twice the same": ("Transpose", [X], {"perm": [0, 1, 1, 2]}),
    "transpose out of range": ("Transpose", [X], {"perm": [0, 1, 2, 4]}),
    "transpose too short": ("Transpose", [X], {"perm": [0, 1]}),
    "reshape count": ("Reshape", [X, i64(3, 5)], {}),
    "reshape two -1": ("Reshape", [X, i64(-1, -1)], {}),
    "reshape -2": ("Reshape", [X, i64(-2, 128)], {}),
    "reshape 0 without a dim": ("Reshape", [f32(4), i64(4, 0)], {}),
    "reshape overflow": ("Reshape", [X, i64(2**62, 4, 4)], {}),
    "squeeze of 4": ("Squeeze", [X, i64(1)], {}),
    "squeeze axis": ("Squeeze", [X, i64(4)], {}),
    "unsqueeze axis": ("Unsqueeze", [X, i64(9)], {}),
    "unsqueeze twice": ("Unsqueeze", [X, i64(0, 0)], {}),
    "flatten axis": ("Flatten", [X], {"axis": 5}),
    "reduce axis": ("ReduceSum", [X, i64(4)], {}),
    "argmax axis": ("ArgMax", [X], {"axis": -5}),
    "argmax of nothing": ("ArgMax", [f32(0, 2)], {"axis": 0}),
    "reduce axis below": ("ReduceMean", [X, i64(-9)], {}),
    "slice step 0": ("Slice", [X, i64(0), i64(2), i64(1), i64(0)], {}),
    "slice axis": ("Slice", [X, i64(0), i64(2), i64(4)], {}),
    "slice axis twice": ("Slice", [X, i64(0, 0), i64(2, 2), i64(1, 1)], {}),
    "slice lengths": ("Slice", [X, i64(0, 0), i64(2), i64(1)], {}),
    "split sum": ("Split", [X, i64(1, 2)], {"axis": 1}),
    "split below 0": ("Split", [X, i64(5, -1)], {"axis": 1}),
    "split num_outputs": ("Split", [X], {"axis": 1, "num_outputs": 0}),
    "split axis": ("Split", [X], {"axis": 9, "num_outputs": 2}),
    "pad lengths": ("Pad", [X, i64(1, 1)], {}),
    "pad below the size": ("Pad", [X, i64(0, 0, -9, 0, 0, 0, 0, 0)], {}),
    "pad reflect too far": ("Pad", [f32(0, 2), i64(1, 0, 1, 0)], {"mode": "reflect"}),
    "pad mode": ("Pad", [X, i64(0, 0, 0, 0, 0, 0, 0, 0)], {"mode": "mirror"}),
    "pad axes": ("Pad", [X, i64(1, 1), None, i64(8)], {}),
    "tile repeats": ("Tile", [X, i64(1, 1)], {}),
    "tile below 0": ("Tile", [X, i64(1, 1, 1, -1)], {}),
    "expand": ("Expand", [X, i64(3, 1)], {}),
    "expand below 0": ("Expand", [f32(1), i64(-3)], {}),
    "constant of shape below 0": ("ConstantOfShape", [i64(-1)], {}),
    "range step 0": ("Range", [np.int64(0), np.int64(5), np.int64(0)], {}),
    "one hot depth": ("OneHot", [i64(0, 1), i64(-3), i64(0, 1)], {}),
    "one hot axis": ("OneHot", [i64(0, 1), i64(3), i64(0, 1)], {"axis": 9}),
    "one hot values": ("OneHot", [i64(0, 1), i64(3), i64(0)], {}),
    "top k": ("TopK", [X, i64(99)], {"axis": 1}),
    "top k below 0": ("TopK", [X, i64(-1)], {"axis": 1}),
    "eye like rank": ("EyeLike", [X], {}),
    "depth to space": ("DepthToSpace", [X], {"blocksize": 3}),
    "depth to space 0": ("DepthToSpace", [X], {"blocksize": 0}),
    "space to depth": ("SpaceToDepth", [X], {"blocksize": 3}),
    "space to depth -1": ("SpaceToDepth", [X], {"blocksize": -1}),
    "matmul": ("MatMul", [f32(2, 3), f32(4, 5)], {}),
    "matmul scalar": ("MatMul", [f32(), f32(4, 5)], {}),
    "gemm": ("Gemm", [f32(2, 3), f32(4, 5)], {}),
    "gemm bias": ("Gemm", [f32(2, 3), f32(3, 5), f32(4)], {}),
    "add": ("Add", [f32(2, 3), f32(4)], {}),
    "where": ("Where", [np.array([True, False]), f32(3), f32(3)], {}),
    "resize without sizes": ("Resize", [X], {}),
    "resize scale 0": ("Resize", [X, None, np.array([1, 1, 0, 1], np.float32)], {}),
    "resize sizes": ("Resize", [X, None, None, i64(1, 4, -2, 8)], {}),
    "resize mode": ("Resize", [X, None, None, i64(1, 4, 2, 8)], {"mode": "best"}),
    "batch norm": ("BatchNormalization", [X, f32(3), f32(4), f32(4), f32(4)], {}),
    "layer norm axis": ("LayerNormalization", [X, f32(8)], {"axis": 6}),
    "layer norm scale": ("LayerNormalization", [X, f32(7)], {"axis": -1}),
    "group norm": ("GroupNormalization", [X, f32(4), f32(4)], {"num_groups": 3}),
    "group norm 0": ("GroupNormalization", [X, f32(4), f32(4)], {"num_groups": 0}),
    "lstm without hidden_size": ("LSTM", [f32(2, 1, 3), f32(1, 16, 3), f32(1, 16, 4)], {"hidden_size": -4}),
    "lstm weights": ("LSTM", [f32(2, 1, 3), f32(1, 15, 3), f32(1, 16, 4)], {"hidden_size": 4}),
    "gru direction": ("GRU", [f32(2, 1, 3), f32(1, 12, 3), f32(1, 12, 4)], {"hidden_size": 4, "direction": "up"}),
    "rnn activation": ("RNN", [f32(2, 1, 3), f32(1, 4, 3), f32(1, 4, 4)], {"hidden_size": 4, "activations": ["Nope"]}),
    "quantize axis": ("QuantizeLinear", [X, f32(4), np.zeros(4, np.uint8)], {"axis": 9}),
    "quantize block": ("QuantizeLinear", [X, f32(1, 4, 8, 3)], {"axis": 3, "block_size": 5}),
    "dequantize scale": ("DequantizeLinear", [np.zeros((2, 3), np.int8), f32(4)], {"axis": 1}),
    "cumsum axis": ("CumSum", [f32(2, 2), np.array(5, np.int64)], {}),
    "trilu of rank 1": ("Trilu", [f32(3)], {}),
    "einsum": ("Einsum", [f32(2, 2)], {"equation": "ij->ijk"}),
    "einsum dims": ("Einsum", [f32(2, 2), f32(3, 3)], {"equation": "ij,jk->ik"}),
    "einsum terms": ("Einsum", [f32(2, 2)], {"equation": "ij,jk->ik"}),
    "cast to nothing": ("Cast", [X], {"to": 99}),
    "cast without to": ("Cast", [X], {}),
    "bit shift": ("BitShift", [np.array([1], np.uint8), np.array([1], np.uint8)], {"direction": "UP"}),
    "hardmax axis": ("Hardmax", [X], {"axis": 4}),
    "dft axis": ("DFT", [f32(1, 4, 1), None, np.array(9, np.int64)], {}),
    "stft step 0": ("STFT", [f32(1, 16, 1), np.array(0, np.int64), None, np.array(4, np.int64)], {}),
    "mel bins": ("MelWeightMatrix", [np.int64(-1), np.int64(8), np.int64(8000), np.float32(0), np.float32(100)], {}),
    "hann below 0": ("HannWindow", [np.array(-3, np.int64)], {}),
    "roi align output 0": ("RoiAlign", [X, f32(1, 4), i64(0)], {"output_height": 0}),
    "roi align batch": ("RoiAlign", [X, f32(1, 4), i64(7)], {}),
    "nms boxes": ("NonMaxSuppression", [f32(1, 3, 3), f32(1, 1, 3)], {}),
    "grid sample": ("GridSample", [X, f32(1, 2, 2, 3)], {}),
    "center crop pad": ("CenterCropPad", [X, i64(-3)], {"axes": [2]}),
    "col2im": ("Col2Im", [f32(1, 5, 5), i64(5, 5), i64(0, 1)], {}),
    "nll weights": ("NegativeLogLikelihoodLoss", [f32(2, 3), i64(0, 9)], {}),
    "unique axis": ("Unique", [X], {"axis": 5}),
    "compress axis": ("Compress", [X, np.array([True])], {"axis": 4}),
    "det": ("Det", [f32(2, 3)], {}),
    "reverse sequence": ("ReverseSequence", [f32(2, 2), i64(9, 1)], {}),
    "reverse sequence axes": ("ReverseSequence", [f32(2, 2), i64(1, 1)], {"batch_axis": 0, "time_axis": 0}),
    "attention": ("Attention", [f32(1, 2, 3, 4), f32(1, 2, 3, 5), f32(1, 2, 3, 4)], {}),
    "rotary": ("RotaryEmbedding", [f32(1, 2, 3, 3), f32(1, 3, 2), f32(1, 3, 2)], {}),
}


def check_error(error, op, name="n"):
    """The message names the node, and the parts say what, and what was expected or found."""
    assert f"'{name}'" in error.node and op in error.node, str(error)
    assert error.what, str(error)
    assert error.expected or error.got, str(error)
    assert error.node in str(error)


@pytest.mark.parametrize("constants", [True, False], ids=["initializers", "feeds"])
@pytest.mark.parametrize("case", BAD_NODES, ids=[c.replace(" ", "_") for c in BAD_NODES])
def test_node_that_cannot_be_run(case, constants):
    op, inputs, attributes = BAD_NODES[case]
    inputs = [None if x is None else np.asarray(x) for x in inputs]
    with pytest.raises((sx.InputError, sx.ModelError, sx.LimitError, sx.UnsupportedError)) as caught:
        run_node(op, inputs, constants=constants, outputs=2 if op in ("Split", "TopK") else 1, **attributes)
    check_error(caught.value, op)


# Types that the operator's schema does not allow: (operator, inputs, attributes).
BAD_TYPES = {
    "add of floats and integers": ("Add", [f32(2), i64(1, 2)], {}),
    "add of strings": ("Add", [np.array(["a"], object)] * 2, {}),
    "matmul of bool": ("MatMul", [np.ones((2, 2), bool)] * 2, {}),
    "where without a condition": ("Where", [f32(2), f32(2), f32(2)], {}),
    "gather by floats": ("Gather", [f32(3), f32(1)], {}),
    "reshape to floats": ("Reshape", [f32(4), f32(2)], {}),
    "conv with half a weight": ("Conv", [X, W.astype(np.float16)], {}),
    "concat of two types": ("Concat", [f32(2), i64(1, 2)], {"axis": 0}),
    "not of floats": ("Not", [f32(2)], {}),
}


@pytest.mark.parametrize("case", BAD_TYPES, ids=[c.replace(" ", "_") for c in BAD_TYPES])
def test_types_that_an_operator_does_not_take(case):
    op, inputs, attributes = BAD_TYPES[case]
    with pytest.raises(sx.ModelError, match="type of input .*tensor") as caught:
        run_node(op, inputs, constants=False, **attributes)
    check_error(caught.value, op)


@pytest.mark.parametrize("node", ["If (x) <then_branch = t () => (float[1] a) { a = Identity (x) }, else_branch = e () => (float[1] b) { b = Identity (x) }>",
                                  "Loop (x, , x) <body = b (int64 i, bool go, float[1] s) => (bool on, float[1] t) { on = Identity (go) t = Neg (s) }>"],
                         ids=["if", "loop"])
def test_a_condition_or_trip_count_of_floats(node):
    with pytest.raises(sx.ModelError, match="type of input"):
        text_session('<ir_version: 8, opset_import: ["" : 18]> g (float[1] x) => (float[1] y) { y = ' + node + " }")


# Terabytes out of a few bytes: (operator, inputs, attributes).
TOO_LARGE = {
    "constant of shape": ("ConstantOfShape", [i64(HUGE)], {}),
    "constant of shape past int64": ("ConstantOfShape", [i64(2**62, 2**62)], {}),
    "constant of shape past int64 in bytes": ("ConstantOfShape", [i64(2**62)], {}),
    "expand": ("Expand", [f32(1), i64(HUGE)], {}),
    "tile": ("Tile", [f32(4), i64(HUGE)], {}),
    "tile past int64": ("Tile", [f32(4), i64(2**62)], {}),
    "range": ("Range", [np.array(0, np.int64), np.array(HUGE, np.int64), np.array(1, np.int64)], {}),
    "range past int64": ("Range", [np.array(-2**63, np.int64), np.array(2**63 - 1, np.int64), np.array(1, np.int64)], {}),
    "resize sizes": ("Resize", [f32(1, 1, 2, 2), None, None, i64(1, 1, 2**21, 2**21)], {}),
    "resize scales": ("Resize", [f32(1, 1, 2, 2), None, np.array([1, 1, 2e6, 2e6], np.float32)], {}),
    "pad": ("Pad", [f32(4), i64(0, HUGE)], {}),
    "pad past int64": ("Pad", [f32(4), i64(2**63 - 1, 2**63 - 1)], {}),
    "one hot": ("OneHot", [i64(0), i64(HUGE), i64(0, 1)], {}),
    "conv pads": ("Conv", [f32(1, 1, 2, 2), f32(1, 1, 1, 1)], {"pads": [2**20] * 4}),
    "conv transpose strides": ("ConvTranspose", [f32(1, 1, 2, 2), f32(1, 1, 1, 1)], {"strides": [2**21, 2**21]}),
    "max pool pads": ("AveragePool", [f32(1, 1, 2, 2)], {"kernel_shape": [2**21, 2**21], "pads": [2**21 - 1] * 4}),
    "random": ("RandomNormal", [], {"shape": [HUGE]}),
    "hann window": ("HannWindow", [np.array(HUGE, np.int64)], {}),
    "center crop pad": ("CenterCropPad", [f32(2), i64(HUGE)], {}),
    "col2im": ("Col2Im", [f32(1, 1, 1), i64(2**21, 2**21), i64(1, 1)], {}),
    "mel": ("MelWeightMatrix", [np.int64(2**20), np.int64(2**21), np.int64(8000), np.float32(0), np.float32(100)], {}),
    "roi align": ("RoiAlign", [f32(1, 1, 4, 4), f32(1, 4), i64(0)], {"output_height": 2**20, "output_width": 2**20}),
    "affine grid": ("AffineGrid", [f32(1, 2, 3), i64(1, 1, 2**20, 2**20)], {}),
    "outer product": ("MatMul", [np.zeros((2**21, 0), np.float32), np.zeros((0, 2**21), np.float32)], {}),
    "outer product of four": ("Einsum", [np.zeros((2**11, 1), np.float32)] * 4, {"equation": "ax,bx,cx,dx->abcd"}),
    "dft": ("DFT", [f32(1, 4, 1), np.array(HUGE, np.int64)], {}),
    "expand of strings": ("Expand", [np.array(["a"], object), i64(HUGE)], {}),
}


def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


@pytest.mark.parametrize("constants", [True, False], ids=["initializers", "feeds"])
@pytest.mark.parametrize("case", TOO_LARGE, ids=[c.replace(" ", "_") for c in TOO_LARGE])
def test_outputs_of_terabytes_are_refused_before_they_are_made(case, constants):
    op, inputs, attributes = TOO_LARGE[case]
    inputs = [None if x is None else np.asarray(x) for x in inputs]
    begin, before = time.monotonic(), peak()
    with pytest.raises((sx.LimitError, sx.InputError, sx.ModelError)) as caught:  # ModelError: inference overflows
        run_node(op, inputs, constants=constants, **attributes)
    check_error(caught.value, op)
    assert time.monotonic() - begin < 20
    assert peak() - before < 1 << 30


def test_unknown_operators_are_listed_at_once_with_their_versions():
    graph = helper.make_graph(
        [helper.make_node("Foo", ["x"], ["a"], name="first"), helper.make_node("Bar", ["a"], ["b"], domain="my.own"),
         helper.make_node("LayerNormalization", ["b", "x"], ["y"])], "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [2])], [onnx.ValueInfoProto(name="y")])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13), helper.make_opsetid("my.own", 7)])
    with pytest.raises(sx.UnsupportedError) as caught:
        sx.InferenceSession(model.SerializeToString())
    for part in ("Foo", "my.own", "Bar", "LayerNormalization", "13", "7"):
        assert part in str(caught.value)


ADD = """<ir_version: 8, opset_import: ["" : 18]>
    g (float[n, 3] image, int64[k] mask, string[1] label, bool flag) => (float[n, 3] y, string[1] l, int64[k] m, bool f) {
      y = Add (image, image)
      l = Identity (label)
      m = Identity (mask)
      f = Identity (flag)
    }"""
GOOD = {"image": f32(2, 3), "mask": i64(1, 2), "label": np.array(["a"], object), "flag": np.array(True)}


def test_the_good_feeds_are_good():
    np.testing.assert_array_equal(text_session(ADD).run(None, GOOD)[0], 2 * f32(2, 3))


BAD_FEEDS = {
    "missing": ({"mask": None}, "mask.*int64"),
    "misspelt": ({"imgae": f32(2, 3)}, "did you mean 'image'"),
    "unknown": ({"completely": f32(2, 3)}, "one of.*'image'"),
    "dtype": ({"image": np.zeros((2, 3))}, r"image.*float.*double"),
    "integers for floats": ({"image": np.zeros((2, 3), np.int64)}, "image"),
    "rank": ({"image": f32(3)}, "rank 2.*rank 1"),
    "scalar": ({"image": np.float32(1)}, "rank 2.*rank 0"),
    "dim": ({"image": f32(2, 4)}, "dim 1: expected 3, got 4"),
    "numbers for strings": ({"label": f32(1)}, "label"),
    "a list for a tensor": ({"image": [f32(2, 3)]}, "image"),
    "a dict for a tensor": ({"image": {"a": 1.0}}, "image"),
    "None for a tensor": ({"image": ...}, "image"),
}


@pytest.mark.parametrize("change,message", BAD_FEEDS.values(), ids=BAD_FEEDS)
def test_feeds_that_do_not_fit(change, message):
    session = text_session(ADD)
    feeds = {**GOOD, **change}
    feeds = {k: None if v is ... else v for k, v in feeds.items() if v is not None}
    with pytest.raises(sx.InputError, match=message):
        session.run(None, feeds)
    session.run(None, GOOD)


@pytest.mark.parametrize("value", [object(), np.array([object()], object), np.zeros(2, "datetime64[s]"), np.zeros(2, [("a", "f4")]),
                                   {1, 2}, lambda: 0, 1 + 2j], ids=lambda v: type(v).__name__)
def test_values_that_no_tensor_can_hold(value):
    with pytest.raises((sx.InputError, TypeError, ValueError)):
        text_session(ADD).run(None, {**GOOD, "image": value})


@pytest.mark.parametrize("names", [["z"], ["y", "image"], [""]])
def test_outputs_that_do_not_exist(names):
    with pytest.raises(sx.InputError, match="output"):
        text_session(ADD).run(names, GOOD)


@pytest.mark.parametrize("image", [f32(4, 6)[::2, ::2], f32(3, 2).T, np.asfortranarray(f32(2, 3)), f32(2, 3)[::-1, ::-1],
                                   np.broadcast_to(f32(3), (2, 3))], ids=["strided", "transposed", "fortran", "reversed", "broadcast"])
def test_feeds_that_are_not_contiguous(image):
    np.testing.assert_array_equal(text_session(ADD).run(None, {**GOOD, "image": image})[0], image + image)


def test_feeds_without_elements():
    got = text_session(ADD).run(None, {**GOOD, "image": f32(0, 3), "mask": i64()})
    assert got[0].shape == (0, 3) and got[2].shape == (0,)


# What a model of no elements does: the outputs have numpy's shapes.
@pytest.mark.parametrize("op,inputs,attributes,shape", [
    ("MatMul", [f32(0, 3), f32(3, 4)], {}, (0, 4)),
    ("MatMul", [f32(2, 0), f32(0, 4)], {}, (2, 4)),
    ("Conv", [f32(0, 4, 8, 8), W], {}, (0, 4, 6, 6)),
    ("MaxPool", [f32(0, 4, 8, 8)], {"kernel_shape": [2, 2]}, (0, 4, 7, 7)),
    ("Softmax", [f32(0, 4)], {}, (0, 4)),
    ("Softmax", [f32(4, 0)], {}, (4, 0)),
    ("Transpose", [f32(0, 4)], {"perm": [1, 0]}, (4, 0)),
    ("ReduceSum", [f32(0, 4), i64(0)], {"keepdims": 0}, (4,)),
    ("Concat", [f32(0, 4), f32(2, 4)], {"axis": 0}, (2, 4)),
    ("Gather", [f32(3, 4), i64()], {}, (0, 4)),
    ("Tile", [f32(3), i64(0)], {}, (0,)),
    ("LSTM", [f32(0, 1, 3), f32(1, 16, 3), f32(1, 16, 4)], {"hidden_size": 4}, (0, 1, 1, 4)),
    ("LayerNormalization", [f32(0, 4), f32(4)], {}, (0, 4)),
    ("Resize", [f32(0, 1, 2, 2), None, None, i64(0, 1, 4, 4)], {}, (0, 1, 4, 4)),
], ids=lambda v: v if isinstance(v, str) else "")
def test_nodes_without_elements(op, inputs, attributes, shape):
    try:
        assert run_node(op, inputs, **attributes)[0].shape == shape
    except (sx.InputError, sx.ModelError, sx.UnsupportedError) as error:
        check_error(error, op)


@pytest.mark.parametrize("option", [{"threads": -1}, {"precision": "low"}, {"optimize": "some"}, {"providers": []}, {"providers": ["tpu"]},
                                    {"disabled_passes": ["none"]}, {"nonsense": 1}], ids=str)
def test_options_that_do_not_exist(option):
    with pytest.raises(sx.InputError):
        text_session(ADD, **option)


@pytest.mark.parametrize("source", [b"", b"\x00", b"\x08", "no/such/file.onnx", "/"], ids=["empty", "zero", "cut", "missing", "folder"])
def test_sources_that_are_no_model(source):
    with pytest.raises((sx.ModelError, sx.FileError)) as caught:
        sx.InferenceSession(source)
    assert caught.value.what
