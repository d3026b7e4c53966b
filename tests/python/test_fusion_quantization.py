"""Models between QuantizeLinear and DequantizeLinear: what runs on integers gives what onnxruntime gives for the file
as it is, operator by operator in float, within one step of the output; with the fusions left out too."""

import pathlib

import ml_dtypes
import numpy as np
import onnx
import onnx.helper as oh
import onnx.numpy_helper
import onnxruntime
import pytest

import sardonyx as sx
from test_fusion import operators

FUSIONS = ("quantized_movement", "quantize_pairs", "quantized_conv", "quantized_matmul")
U8, S8 = np.uint8, np.int8
VNNI = "avx512_vnni" in pathlib.Path("/proc/cpuinfo").read_text()


class Model:
    """A graph under construction; values are names."""

    def __init__(self, opset=17):
        self.opset, self.nodes, self.constants, self.inputs, self.outputs = opset, [], [], [], []
        self.feeds, self.count = {}, 0

    def name(self):
        self.count += 1
        return f"v{self.count}"

    def constant(self, value, dtype=None):
        name = self.name()
        array = np.asarray(value, dtype)
        if array.dtype in (np.dtype(ml_dtypes.int4), np.dtype(ml_dtypes.float8_e4m3fn)):
            tensor = oh.make_tensor(name, oh.np_dtype_to_tensor_dtype(array.dtype), array.shape,
                                    array.astype(np.float32).ravel())
        else:
            tensor = onnx.numpy_helper.from_array(array, name)
        self.constants.append(tensor)
        return name

    def op(self, kind, *inputs, outputs=1, **attributes):
        names = [self.name() for _ in range(outputs)]
        self.nodes.append(oh.make_node(kind, [i or "" for i in inputs], names, **attributes))
        return names[0] if outputs == 1 else names

    def input(self, value):
        name = self.name()
        self.inputs.append(oh.make_tensor_value_info(name, oh.np_dtype_to_tensor_dtype(value.dtype), value.shape))
        self.feeds[name] = value
        return name

    def quantize(self, x, scale, zero, dtype=U8, **attributes):
        return self.op("QuantizeLinear", x, self.constant(scale, np.float32), self.constant(zero, dtype), **attributes)

    def dequantize(self, x, scale, zero=None, dtype=U8, **attributes):
        zero = None if zero is None else self.constant(zero, dtype)
        return self.op("DequantizeLinear", x, self.constant(scale, np.float32), *[zero] * (zero is not None),
                       **attributes)

    def bytes(self, shape, scale, zero, dtype=U8, seed=0):
        """A dequantized input of random integers."""
        info, rng = np.iinfo(dtype), np.random.default_rng((seed, *shape))
        return self.dequantize(self.input(rng.integers(info.min, info.max + 1, shape).astype(dtype)), scale, zero,
                               dtype)

    def pair(self, x, scale, zero, dtype=U8):
        return self.dequantize(self.quantize(x, scale, zero, dtype), scale, zero, dtype)

    def build(self, *outputs):
        infos = [oh.make_empty_tensor_value_info(o) for o in outputs]
        graph = oh.make_graph(self.nodes, "g", self.inputs, infos, self.constants)
        model = oh.make_model(graph, opset_imports=[oh.make_opsetid("", self.opset)], ir_version=10)
        model = onnx.shape_inference.infer_shapes(model)
        types = {v.name: v for v in model.graph.value_info}
        for info in model.graph.output:
            if info.name in types:
                info.CopyFrom(types[info.name])
        return model.SerializeToString()


def expected(model, feeds):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"]).run(None, feeds)


def close(got, want, steps):
    assert len(got) == len(want)
    for g, w in zip(got, want):
        assert g.dtype == w.dtype and g.shape == w.shape
        if g.dtype == np.float32:
            np.testing.assert_allclose(g, w, rtol=1e-5, atol=1e-5 * np.abs(w[np.isfinite(w)]).max(initial=1e-3))
        else:
            assert np.abs(g.astype(np.int64) - w.astype(np.int64)).max(initial=0) <= steps


def check(model, feeds, steps=1):
    want = expected(model, feeds)
    for disabled in ([], ["epilogues"], ["layouts"], list(FUSIONS), [*FUSIONS, "epilogues"]):
        close(sx.InferenceSession(model, disabled_passes=disabled, threads=2).run(None, feeds), want, steps)
    close(sx.InferenceSession(model, optimize="none").run(None, feeds), want, steps)


def becomes(model, feeds, steps=1, **counts):
    """The operators that run, by count, and the results."""
    found = operators(model)
    assert {name: found.get(name, 0) for name in counts} == counts, found
    check(model, feeds, steps)


def stays(model, feeds, steps=1):
    assert operators(model) == operators(model, *FUSIONS)
    check(model, feeds, steps)


def weights(shape, channels=None, dtype=S8, zero=0, seed=1):
    """Integers, scales, zero points."""
    rng, info = np.random.default_rng((seed, *shape)), np.iinfo(dtype)
    low, high = (info.min + 1, info.max) if zero == 0 else (zero - 100, min(zero + 100, info.max))
    w = rng.integers(low, high + 1, shape).astype(dtype)
    if channels is None:
        return w, np.float32(0.01), np.array(zero, dtype)
    return w, rng.uniform(0.005, 0.02, channels).astype(np.float32), np.full(channels, zero, dtype)


def conv(m, x, x_scale, w_shape, per_channel=True, w_dtype=S8, w_zero=0, bias="int32", **attributes):
    w, w_scale, w_zeros = weights(w_shape, w_shape[0] if per_channel else None, w_dtype, w_zero)
    axis = dict(axis=0) if per_channel else {}
    inputs = [x, m.dequantize(m.constant(w), w_scale, w_zeros, w_dtype, **axis)]
    if bias:
        b = np.random.default_rng(2).integers(-3000, 3000, w_shape[0]).astype(np.int32)
        b_scale = np.float32(x_scale) * w_scale
        if bias == "float":
            inputs.append(m.constant((b * b_scale).astype(np.float32)))
        else:
            b_scale = b_scale * np.float32(2 if bias == "other scale" else 1)
            inputs.append(m.dequantize(m.constant(b), b_scale, np.zeros_like(b_scale, np.int32), np.int32, **axis))
    return m.op("Conv", *inputs, **attributes)


CONVOLUTIONS = {
    "3x3": ((2, 16, 9, 11), (24, 16, 3, 3), dict(pads=[1, 1, 1, 1])),
    "1x1": ((1, 32, 7, 7), (16, 32, 1, 1), {}),
    "odd channels": ((1, 5, 8, 8), (7, 5, 3, 3), dict(pads=[0, 1, 2, 1], strides=[2, 1])),
    "depthwise": ((1, 24, 10, 10), (24, 1, 5, 5), dict(pads=[2, 2, 2, 2], group=24)),
    "depthwise of few channels": ((1, 3, 10, 10), (3, 1, 3, 3), dict(group=3, strides=[2, 2])),
    "groups": ((1, 16, 8, 8), (32, 4, 3, 3), dict(group=4, dilations=[2, 2], pads=[2, 2, 2, 2])),
    "one dimension": ((2, 8, 30), (12, 8, 5), dict(pads=[2, 2])),
    "three dimensions": ((1, 8, 5, 6, 7), (8, 8, 3, 3, 3), dict(auto_pad="SAME_UPPER")),
    "one pixel": ((1, 64, 1, 1), (16, 64, 1, 1), {}),
}


@pytest.mark.parametrize("x_type, x_zero, y_type, y_zero", [(U8, 0, U8, 0), (U8, 131, U8, 117), (S8, 0, S8, 0),
                                                            (S8, -7, S8, 11), (U8, 128, S8, -3)], ids=str)
@pytest.mark.parametrize("case", CONVOLUTIONS)
def test_conv(case, x_type, x_zero, y_type, y_zero):
    shape, w_shape, attributes = CONVOLUTIONS[case]
    m = Model()
    y = conv(m, m.bytes(shape, 0.02, x_zero, x_type), 0.02, w_shape, **attributes)
    model = m.build(m.quantize(y, 0.1, y_zero, y_type))
    becomes(model, m.feeds, QLinearConv=1, Conv=0, DequantizeLinear=0, QuantizeLinear=0)


@pytest.mark.parametrize("change", [dict(per_channel=False), dict(bias=None), dict(bias="float"),
                                    dict(bias="other scale"), dict(w_dtype=U8, w_zero=128),
                                    dict(w_dtype=U8, w_zero=120, per_channel=False), dict(w_dtype=S8, w_zero=5)],
                         ids=str)
@pytest.mark.parametrize("opset", [13, 19, 21])
def test_conv_forms(change, opset):
    m = Model(opset)
    y = conv(m, m.bytes((1, 16, 8, 8), 0.02, 100), 0.02, (8, 16, 3, 3), **change)
    becomes(m.build(m.quantize(y, 0.1, 100)), m.feeds, QLinearConv=1, Conv=0, DequantizeLinear=0)


def test_conv_of_opset_10():
    m = Model(10)
    y = conv(m, m.bytes((1, 16, 8, 8), 0.02, 100), 0.02, (8, 16, 3, 3), per_channel=False)
    becomes(m.build(m.quantize(y, 0.1, 100)), m.feeds, QLinearConv=1, Conv=0)


def test_weights_that_do_not_fit_eight_bits_when_centred():
    m = Model()
    w = np.random.default_rng(0).integers(0, 256, (8, 16, 3, 3)).astype(U8)
    w[0, 0, 0, 0] = 255
    y = m.op("Conv", m.bytes((1, 16, 8, 8), 0.02, 100), m.dequantize(m.constant(w), 0.01, 20))
    becomes(m.build(m.quantize(y, 0.3, 100)), m.feeds, QLinearConv=0, Conv=1)


def test_bias_that_integers_cannot_give():
    m = Model()
    w, scale, zeros = weights((8, 16, 1, 1), 8)
    y = m.op("Conv", m.bytes((1, 16, 4, 4), 1000, 100), m.dequantize(m.constant(w), scale, zeros, S8, axis=0),
             m.constant(np.linspace(-7, 7, 8), np.float32))
    becomes(m.build(m.quantize(y, 0.5, 100)), m.feeds, QLinearConv=0, ConvInteger=1)


@pytest.mark.parametrize("bounds, y_zero, gone", [(None, 0, True), (None, 3, False), ((0.0, 30.0), 0, True),
                                                  ((0.0, 6.0), 0, False), ((0.5, 30.0), 0, False)], ids=str)
def test_relu_and_clip(bounds, y_zero, gone):
    m = Model()
    y = conv(m, m.bytes((1, 16, 8, 8), 0.02, 100), 0.02, (8, 16, 3, 3))
    y = m.op("Clip", y, *(m.constant(b, np.float32) for b in bounds)) if bounds else m.op("Relu", y)
    becomes(m.build(m.quantize(y, 0.1, y_zero)), m.feeds, QLinearConv=int(gone), ConvInteger=int(not gone),
            Relu=int(not gone and not bounds), Clip=int(not gone and bool(bounds)))


@pytest.mark.parametrize("after", ["nothing", "Relu", "HardSwish", "Sigmoid"])
def test_conv_to_float(after):
    m = Model()
    y = conv(m, m.bytes((1, 16, 8, 8), 0.02, 100), 0.02, (8, 16, 3, 3))
    y = y if after == "nothing" else m.op(after, y)
    becomes(m.build(y), m.feeds, ConvInteger=1, Conv=0)


def test_conv_with_a_float_reader_and_two_quantizers():
    m = Model()
    y = conv(m, m.bytes((1, 16, 8, 8), 0.02, 100), 0.02, (8, 16, 3, 3))
    model = m.build(m.op("Relu", y), m.quantize(y, 0.1, 100), m.quantize(y, 0.2, 0, S8))
    becomes(model, m.feeds, ConvInteger=1, Conv=0, QLinearConv=0)


def test_outputs_in_the_middle():
    m = Model()
    x = m.bytes((1, 16, 8, 8), 0.02, 100)
    y = conv(m, x, 0.02, (16, 16, 1, 1))
    q = m.quantize(y, 0.1, 100)
    d = m.dequantize(q, 0.1, 100)
    z = m.quantize(conv(m, d, 0.1, (8, 16, 1, 1)), 0.5, 10)
    becomes(m.build(q, d, z), m.feeds, steps=8, QLinearConv=2, Conv=0)


PRODUCTS = [((7, 40), (40, 24)), ((2, 3, 9, 32), (32, 48)), ((2, 3, 9, 32), (2, 3, 32, 16)), ((5, 1, 9, 32), (3, 32, 8)),
            ((64,), (64, 80)), ((1, 256), (256, 100)), ((3, 5), (5, 2))]


@pytest.mark.parametrize("types", [(U8, 121, S8, 0, U8, 9), (S8, 3, S8, -9, S8, 5), (U8, 0, U8, 117, S8, 0),
                                   (S8, 0, U8, 128, U8, 128)], ids=str)
@pytest.mark.parametrize("a, b", PRODUCTS, ids=str)
@pytest.mark.parametrize("constant", [False, True])
def test_matmul(a, b, types, constant):
    a_type, a_zero, b_type, b_zero, y_type, y_zero = types
    for to_float in (False, True):
        m = Model()
        left = m.bytes(a, 0.02, a_zero, a_type)
        if constant:
            w, scale, zeros = weights(b, b[-1] if len(b) == 2 else None, b_type, b_zero)
            right = m.dequantize(m.constant(w), scale, zeros, b_type, **(dict(axis=1) if len(b) == 2 else {}))
        else:
            right = m.bytes(b, 0.01, b_zero, b_type, seed=1)
        y = m.op("MatMul", left, right)
        model = m.build(y if to_float else m.quantize(y, 0.2, y_zero, y_type))
        becomes(model, m.feeds, MatMul=0, **{"MatMulInteger" if to_float else "QLinearMatMul": 1})


@pytest.mark.parametrize("rows", [False, True])
@pytest.mark.parametrize("bias", [None, "float", "int32", "one"])
@pytest.mark.parametrize("per_channel", [False, True])
def test_gemm(rows, bias, per_channel):
    for to_float in (False, True):
        m = Model()
        w, scale, zeros = weights((30, 64) if rows else (64, 30), 30 if per_channel else None)
        inputs = [m.bytes((5, 64), 0.02, 100),
                  m.dequantize(m.constant(w), scale, zeros, S8, **(dict(axis=1 - rows) if per_channel else {}))]
        b = np.random.default_rng(0).integers(-3000, 3000, 30).astype(np.int32)
        if bias == "int32":
            b_scale = np.float32(0.02) * scale
            inputs.append(m.dequantize(m.constant(b), b_scale, np.zeros_like(b_scale, np.int32), np.int32,
                                       **(dict(axis=0) if per_channel else {})))
        elif bias:
            inputs.append(m.constant([0.7] if bias == "one" else b / 1000, np.float32))
        y = m.op("Gemm", *inputs, transB=int(rows))
        model = m.build(y if to_float else m.quantize(y, 0.1, 117))
        becomes(model, m.feeds, MatMulInteger=1, Gemm=0)


@pytest.mark.parametrize("change", [dict(transA=1), dict(alpha=0.5), dict(beta=2.0)], ids=str)
def test_gemm_that_stays(change):
    m = Model()
    w, scale, zeros = weights((16, 30))
    y = m.op("Gemm", m.bytes((16, 16), 0.02, 100), m.dequantize(m.constant(w), scale, zeros, S8),
             m.constant(np.linspace(-1, 1, 30), np.float32), **change)
    becomes(m.build(m.quantize(y, 0.1, 117)), m.feeds, MatMulInteger=0, Gemm=1)


def test_a_column_of_biases_stays():
    m = Model()
    w, scale, zeros = weights((16, 5))
    y = m.op("Gemm", m.bytes((5, 16), 0.02, 100), m.dequantize(m.constant(w), scale, zeros, S8),
             m.constant(np.linspace(-9, 9, 5)[:, None], np.float32))
    becomes(m.build(m.quantize(y, 0.1, 117)), m.feeds, MatMulInteger=0, Gemm=1)


def test_transposed_weights():
    m = Model()
    w, scale, zeros = weights((30, 64), 30)
    turned = m.op("Transpose", m.dequantize(m.constant(w), scale, zeros, S8, axis=0), perm=[1, 0])
    y = m.op("MatMul", m.bytes((5, 64), 0.02, 100), turned)
    becomes(m.build(m.quantize(y, 0.1, 117)), m.feeds, QLinearMatMul=1, MatMul=0, Transpose=0)


def other_types():
    """What has no 8-bit form: (name, x and w as floats)."""
    rng = np.random.default_rng(0)

    def simple(dtype, opset=21):
        m = Model(opset)
        x = m.pair(m.input(rng.standard_normal((4, 32)).astype(np.float32)), 0.05, 0, dtype)
        w = m.dequantize(m.constant(rng.integers(-7, 7, (32, 16)).astype(dtype)), 0.03, 0, dtype)
        return m, x, w

    yield "int16", *simple(np.int16)
    m, _, w = simple(np.int16)
    yield "16-bit weights", m, m.pair(m.input(rng.standard_normal((4, 32)).astype(np.float32)), 0.05, 0), w
    yield "int4", *simple(ml_dtypes.int4)
    yield "float8", *simple(ml_dtypes.float8_e4m3fn)
    m = Model(21)
    w = m.op("DequantizeLinear", m.constant(rng.integers(-100, 100, (32, 16)), S8),
             m.constant(rng.uniform(0.01, 0.02, (4, 16)), np.float32), axis=0, block_size=8)
    yield "blocks", m, m.bytes((4, 32), 0.05, 100), w
    m = Model(21)
    w = m.dequantize(m.constant(rng.integers(-100, 100, (32, 16)), S8), rng.uniform(0.01, 0.02, 32), axis=0)
    yield "a scale for each row", m, m.bytes((4, 32), 0.05, 100), w
    m = Model(21)
    w = m.dequantize(m.constant(rng.integers(-100, 100, (32, 16)), S8), 0.02)
    x = m.dequantize(m.input(rng.integers(0, 255, (4, 32)).astype(U8)), rng.uniform(0.01, 0.02, 32),
                     np.full(32, 100), axis=1)
    yield "a scale for each column of activations", m, x, w
    m = Model(21)
    w = m.dequantize(m.constant(rng.integers(-100, 100, (32, 16)), S8), 0.02)
    x = m.op("DequantizeLinear", m.input(rng.integers(0, 255, (4, 32)).astype(U8)), m.input(np.array(0.03, np.float32)))
    yield "a scale that is an input", m, x, w
    m = Model(21)
    w = m.dequantize(m.constant(rng.integers(-100, 100, (32, 16)), S8), np.float32(1e-42))
    yield "a denormal scale", m, m.bytes((4, 32), 0.05, 100), w


@pytest.mark.parametrize("case", list(other_types()), ids=lambda c: c[0])
def test_what_stays(case):
    _, m, x, w = case
    y = m.quantize(m.op("MatMul", x, w), 0.1, 100)
    model = m.build(y)
    found = operators(model)
    assert found.get("MatMul") == 1 and "QLinearMatMul" not in found and "MatMulInteger" not in found
    close(sx.InferenceSession(model).run(None, m.feeds), expected(model, m.feeds), 1)


# Operators that move elements

SHAPE = (2, 4, 6, 6)
MOVERS = {
    "MaxPool": lambda m, x: m.op("MaxPool", x, kernel_shape=[3, 3], pads=[1, 1, 1, 1], strides=[2, 2]),
    "Reshape": lambda m, x: m.op("Reshape", x, m.constant([2, -1], np.int64)),
    "Transpose": lambda m, x: m.op("Transpose", x, perm=[0, 2, 3, 1]),
    "Flatten": lambda m, x: m.op("Flatten", x),
    "Unsqueeze": lambda m, x: m.op("Unsqueeze", x, m.constant([1], np.int64)),
    "Slice": lambda m, x: m.op("Slice", x, m.constant([1], np.int64), m.constant([-1], np.int64),
                               m.constant([2], np.int64)),
    "Gather": lambda m, x: m.op("Gather", x, m.constant([[2, 0]], np.int64), axis=1),
    "Expand": lambda m, x: m.op("Expand", x, m.constant([3, 2, 4, 6, 6], np.int64)),
    "Tile": lambda m, x: m.op("Tile", x, m.constant([1, 2, 1, 1], np.int64)),
    "Resize": lambda m, x: m.op("Resize", x, "", m.constant([1, 1, 2, 2], np.float32), mode="nearest"),
    "DepthToSpace": lambda m, x: m.op("DepthToSpace", x, blocksize=2),
    "SpaceToDepth": lambda m, x: m.op("SpaceToDepth", x, blocksize=2),
}


@pytest.mark.parametrize("same", [True, False])
@pytest.mark.parametrize("dtype, zero", [(U8, 17), (S8, -5)], ids=str)
@pytest.mark.parametrize("case", MOVERS)
def test_movers(case, dtype, zero, same):
    m = Model()
    moved = MOVERS[case](m, m.bytes(SHAPE, 0.05, zero, dtype))
    model = m.build(m.op("Identity", m.quantize(moved, 0.05 if same else 0.03, zero, dtype)), moved)
    check(model, m.feeds, steps=0)
    single = m.build(m.op("Relu", m.dequantize(m.quantize(moved, 0.05, zero, dtype), 0.05, zero, dtype)))
    found = operators(single)
    assert found.get("QuantizeLinear", 0) == 0 and found[case] == 1, found
    check(single, m.feeds, steps=0)


def test_linear_resize_stays():
    m = Model()
    y = m.op("Resize", m.bytes(SHAPE, 0.05, 17), "", m.constant([1, 1, 2, 2], np.float32), mode="linear")
    becomes(m.build(m.quantize(y, 0.05, 17)), m.feeds, DequantizeLinear=1, QuantizeLinear=1)


def test_split():
    m = Model()
    parts = m.op("Split", m.bytes(SHAPE, 0.05, 17), m.constant([1, 3], np.int64), outputs=2, axis=1)
    model = m.build(*(m.quantize(m.op("Relu", m.pair(part, 0.05, 17)), 0.05, 17) for part in parts))
    becomes(model, m.feeds, steps=0, Split=1, DequantizeLinear=2, QuantizeLinear=2)


@pytest.mark.parametrize("scales", [(0.05, 0.05, 0.05), (0.05, 0.02, 0.05), (0.01, 0.02, 0.05)], ids=str)
def test_concat(scales):
    m = Model()
    parts = [m.bytes((2, 3 + i, 4), s, 17, seed=i) for i, s in enumerate(scales[:2])]
    joined = m.op("Concat", *parts, axis=1)
    model = m.build(m.quantize(joined, scales[2], 17))
    becomes(model, m.feeds, steps=0, Concat=1, QuantizeLinear=sum(s != scales[2] for s in scales[:2]))
    becomes(m.build(m.op("Exp", joined)), m.feeds, Concat=1, DequantizeLinear=1 + (scales[0] != scales[1]))


def test_concat_with_a_float():
    m = Model()
    joined = m.op("Concat", m.bytes((2, 3, 4), 0.05, 17), m.input(np.ones((2, 3, 4), np.float32)), axis=1)
    stays(m.build(m.quantize(joined, 0.05, 17)), m.feeds)


def test_a_pair_that_changes_nothing():
    m = Model()
    x = m.input(np.arange(256, dtype=U8))
    again = m.quantize(m.dequantize(x, 0.1, 7), 0.1, 7)
    check(m.build(again), m.feeds, steps=0)
    becomes(m.build(m.op("DequantizeLinear", again, m.constant(0.3, np.float32))), m.feeds, steps=0, QuantizeLinear=0)


# Elementwise operators: one pass over the integers

UNARY = {
    "Sigmoid": lambda m, x: m.op("Sigmoid", x),
    "HardSwish in pieces": lambda m, x: m.op("Mul", x, m.pair(m.op("HardSigmoid", x), 1 / 255, 0)),
    "several roundings": lambda m, x: m.op("Div", m.pair(m.op("Add", m.pair(m.op("Mul", x, m.constant([1.7], np.float32)),
                                                                    0.03, 99), m.constant(0.4, np.float32)), 0.06, 3, S8),
                                           m.constant(1.3, np.float32)),
    "LeakyRelu": lambda m, x: m.op("LeakyRelu", x, alpha=0.1),
    "Tanh": lambda m, x: m.op("Tanh", x),
    "requantized": lambda m, x: x,
}


@pytest.mark.parametrize("x_type, x_zero, y_type, y_zero", [(U8, 100, S8, 7), (S8, -7, U8, 131), (U8, 0, U8, 0)], ids=str)
@pytest.mark.parametrize("case", UNARY)
def test_tables(case, x_type, x_zero, y_type, y_zero):
    m = Model()
    info = np.iinfo(x_type)
    codes = np.concatenate([np.arange(info.min, info.max + 1), np.arange(info.min, info.min + 77)]).astype(x_type)
    x = m.dequantize(m.input(codes), 0.04, x_zero, x_type)
    model = m.build(m.quantize(UNARY[case](m, x), 0.02, y_zero, y_type))
    together, apart = (sx.InferenceSession(model, disabled_passes=d) for d in ([], ["epilogues"]))
    np.testing.assert_array_equal(together.run(None, m.feeds)[0], apart.run(None, m.feeds)[0])
    plan = together.plan(m.feeds)
    assert "chain" in plan and "1 kernels" in plan, plan
    check(model, m.feeds)


BINARY = {
    "same shape": ((2, 5, 7, 9), (2, 5, 7, 9)),
    "a number for each channel": ((2, 5, 7, 9), (1, 5, 1, 1)),
    "a number for each channel, first": ((1, 5, 1, 1), (2, 5, 7, 9)),
    "last axis": ((3, 1000), (1000,)),
    "both grow": ((3, 1), (1, 8)),
}


@pytest.mark.parametrize("op", ["Add", "Mul", "Sub", "Max"])
@pytest.mark.parametrize("case", BINARY)
def test_binary(case, op):
    left, right = BINARY[case]
    for x_type, y_type in ((U8, U8), (S8, U8), (U8, S8)):
        m = Model()
        a, b = m.bytes(left, 0.04, 7, x_type), m.bytes(right, 0.07, -9 if y_type is S8 else 120, y_type, seed=1)
        model = m.build(m.quantize(m.op(op, a, b), 0.1, 100))
        together, apart = (sx.InferenceSession(model, disabled_passes=d) for d in ([], ["epilogues"]))
        np.testing.assert_array_equal(together.run(None, m.feeds)[0], apart.run(None, m.feeds)[0])
        check(model, m.feeds)


def test_float_operands_with_nan_and_infinity():
    """They saturate as in QuantizeLinear alone: NaN to the smallest integer."""
    m = Model()
    odd = np.array([np.nan, np.inf, -np.inf, 1e30, -1e30, 0, 0.5, 3e38] * 9, np.float32)
    x = m.op("Add", m.input(odd), m.constant([0.25], np.float32))
    other = m.op("Mul", m.op("Relu", m.input(odd[::-1].copy())), m.bytes(odd.shape, 0.1, 3))
    model = m.build(m.quantize(x, 0.1, 3), m.quantize(other, 0.1, 3, S8))
    got = sx.InferenceSession(model).run(None, m.feeds)
    for g, w in zip(got, sx.InferenceSession(model, optimize="none").run(None, m.feeds)):
        np.testing.assert_array_equal(g, w)
    assert got[0][:3].tolist() == [0, 255, 0]


def test_shared_dequantized_value():
    """Read by a convolution, by two sums, by an average in float, and given out."""
    m = Model()
    x = m.bytes((1, 16, 8, 8), 0.02, 100)
    a = m.pair(conv(m, x, 0.02, (16, 16, 1, 1)), 0.1, 117)
    first = m.pair(m.op("Add", a, x), 0.1, 100)
    second = m.quantize(m.op("Relu", m.op("Add", first, x)), 0.1, 0)
    average = m.op("GlobalAveragePool", x)
    check(m.build(second, average, m.op("Mul", first, average), x), m.feeds, steps=2)


@pytest.mark.parametrize("relu", [False, True])
@pytest.mark.parametrize("types", [(U8, 117, U8, 13, U8, 0), (S8, 5, S8, 0, S8, -3), (U8, 3, S8, 2, U8, 128)], ids=str)
@pytest.mark.parametrize("product", ["Conv", "MatMul"])
def test_residual(product, types, relu):
    y_type, y_zero, r_type, r_zero, z_type, z_zero = types
    m = Model()
    if product == "Conv":
        y = conv(m, m.bytes((2, 16, 8, 8), 0.02, 100), 0.02, (32, 16, 3, 3), pads=[1, 1, 1, 1])
        residual = m.bytes((2, 32, 8, 8), 0.05, r_zero, r_type, seed=4)
    else:
        w, scale, zeros = weights((64, 48), 48)
        y = m.op("MatMul", m.bytes((9, 64), 0.02, 100),
                 m.dequantize(m.constant(w), scale, zeros, S8, axis=1))
        bias = m.dequantize(m.constant(np.arange(48), S8), 0.1)
        y = m.op("Add", m.pair(y, 0.1, 99), bias)
        residual = m.bytes((9, 48), 0.05, r_zero, r_type, seed=4)
    z = m.op("Add", m.pair(y, 0.1, y_zero, y_type), residual)
    z = m.op("Relu", z) if relu else z
    model = m.build(m.quantize(z, 0.07, z_zero, z_type))
    check(model, m.feeds, steps=2)
    if VNNI:
        plan = sx.InferenceSession(model).plan(m.feeds)
        assert "chain" not in plan and "onednn-fused" in plan, plan


def test_scalar_functions_behind_a_conv_keep_their_table():
    m = Model()
    y = conv(m, m.bytes((1, 16, 8, 8), 0.02, 100), 0.02, (16, 16, 3, 3))
    model = m.build(m.quantize(m.op("Sigmoid", m.pair(y, 0.1, 117)), 1 / 256, 0))
    check(model, m.feeds)


def test_shapes_that_only_the_run_knows():
    m = Model()
    x = m.bytes((1, 6, 8), 0.02, 100)
    kept = m.op("Compress", x, m.input(np.array([1, 0, 1, 1, 0, 1], bool)), axis=1)
    y = m.op("Add", m.pair(kept, 0.02, 100), m.dequantize(m.constant(np.arange(8), U8), 0.1, 3))
    check(m.build(m.quantize(m.op("Relu", y), 0.03, 0)), m.feeds)


def test_dequantized_value_in_a_body():
    m = Model()
    x = m.bytes((4, 8), 0.02, 100)
    inner = oh.make_graph([oh.make_node("Relu", [x], ["t"])], "then", [], [oh.make_empty_tensor_value_info("t")])
    other = oh.make_graph([oh.make_node("Neg", [x], ["e"])], "else", [], [oh.make_empty_tensor_value_info("e")])
    y = m.op("If", m.input(np.array(True)), then_branch=inner, else_branch=other)
    check(m.build(m.quantize(m.op("Add", y, x), 0.05, 9)), m.feeds)


# Dynamic quantization

@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("per_channel", [False, True])
@pytest.mark.parametrize("after", ["nothing", "Relu", "residual"])
def test_dynamic_quantization(bias, per_channel, after):
    m = Model()
    rng = np.random.default_rng(0)
    x = rng.standard_normal((6, 20, 64)).astype(np.float32)
    q, scale, zero = m.op("DynamicQuantizeLinear", m.input(x), outputs=3)
    w, w_scale, w_zero = weights((64, 96), 96 if per_channel else None)
    sums = m.op("MatMulInteger", q, m.constant(w), zero, m.constant(w_zero))
    y = m.op("Mul", m.op("Cast", sums, to=1), m.op("Mul", scale, m.constant(w_scale)))
    if bias:
        y = m.op("Add", m.constant(rng.standard_normal(96), np.float32), y)
    if after == "Relu":
        y = m.op("Relu", y)
    if after == "residual":
        y = m.op("Add", y, m.input(rng.standard_normal((6, 20, 96)).astype(np.float32)))
    model = m.build(y)
    check(model, m.feeds)
    if VNNI:
        plan = sx.InferenceSession(model).plan(m.feeds)
        assert "onednn-fused" in plan and "Cast" not in [line.split()[0] for line in plan.splitlines() if line], plan


def test_dynamic_quantization_of_nan():
    m = Model()
    x = np.ones((8, 64), np.float32)
    x[3, 5] = np.nan
    q, scale, zero = m.op("DynamicQuantizeLinear", m.input(x), outputs=3)
    w, w_scale, _ = weights((64, 96))
    sums = m.op("MatMulInteger", q, m.constant(w), zero)
    y = m.op("Mul", m.op("Cast", sums, to=1), m.op("Mul", scale, m.constant(w_scale)))
    model = m.build(m.op("Relu", y))
    for disabled in ([], ["epilogues"]):
        assert np.isnan(sx.InferenceSession(model, disabled_passes=disabled).run(None, m.feeds)[0]).all()


# Whole graphs

def random_graph(seed):
    """A graph of quantized operators on images, of a handful of layers. The scales are such that a step of an input
    comes out as at most about one step: differences do not grow much."""
    rng = np.random.default_rng(seed)
    m = Model(int(rng.choice([13, 17, 21])))
    dtype = [U8, S8][rng.integers(2)]
    zero = lambda: int(rng.integers(0, 256) if dtype is U8 else rng.integers(-128, 128))
    first = zero()
    values = [(m.bytes((2, 8, 8, 8), 0.05, first, dtype), 0.05, first)]
    for _ in range(rng.integers(3, 9)):
        x, s, z = values[rng.integers(max(0, len(values) - 3), len(values))]
        kind = rng.choice(["conv", "depthwise", "add", "mul", "act", "pool", "concat", "transpose", "scalar"])
        new, y_zero = s, zero()
        if kind in ("conv", "depthwise"):
            shape = (8, 1, 3, 3) if kind == "depthwise" else (8, 8, 1, 1) if rng.random() < 0.5 else (8, 8, 3, 3)
            w, w_scale, w_zero = weights(shape, 8, seed=seed)
            new = float(s * (np.abs(w.astype(np.float64)).reshape(8, -1).sum(1) * w_scale).max())
            pads = [1] * 4 if shape[2] == 3 else [0] * 4
            b = rng.integers(-500, 500, 8).astype(np.int32)
            y = m.op("Conv", x, m.dequantize(m.constant(w), w_scale, w_zero, S8, axis=0),
                     m.dequantize(m.constant(b), np.float32(s) * w_scale, np.zeros(8, np.int32), np.int32, axis=0),
                     pads=pads, group=8 if kind == "depthwise" else 1)
            y = m.op("Relu", y) if rng.random() < 0.4 else y
        elif kind == "add":
            other, t, _ = values[rng.integers(len(values))]
            y, new = m.op("Add", x, other), float(s + t)
        elif kind == "mul":
            y, new = m.op("Mul", x, m.op("HardSigmoid", x)), 2 * s
        elif kind == "act":
            names = ["Sigmoid", "Tanh", "Relu"] + ["HardSwish"] * (m.opset > 13)
            y = m.op(str(rng.choice(names)), x)
        elif kind == "pool":
            y = m.op("MaxPool", x, kernel_shape=[3, 3], pads=[1] * 4)
            new, y_zero = s, z
        elif kind == "concat":
            half = m.op("Split", x, m.constant([4, 4], np.int64), outputs=2, axis=1)
            y = m.op("Concat", *half[::-1], axis=1)
            new, y_zero = (s, z) if rng.random() < 0.5 else (1.1 * s, y_zero)
        elif kind == "transpose":
            y = m.op("Transpose", m.pair(m.op("Transpose", x, perm=[0, 2, 3, 1]), s, z, dtype), perm=[0, 3, 1, 2])
            y_zero = z
        else:
            y = m.op("Add", x, m.constant(rng.standard_normal((8, 1, 1)), np.float32))
        new = float(np.float32(new))
        values.append((m.pair(y, new, y_zero, dtype), new, y_zero))
    outputs = [m.quantize(values[-1][0], values[-1][1], values[-1][2], dtype)]
    if rng.random() < 0.5:
        outputs.append(values[rng.integers(1, len(values))][0])
    return m, m.build(*dict.fromkeys(outputs)), values


@pytest.mark.parametrize("seed", range(60))
def test_random_graphs(seed):
    m, model, values = random_graph(seed)
    want = expected(model, m.feeds)
    step = {name: scale for name, scale, _ in values}
    names = [o.name for o in sx.InferenceSession(model).get_outputs()]
    exact = sx.InferenceSession(model, disabled_passes=[*FUSIONS, "epilogues"]).run(None, m.feeds)
    for disabled in ([], ["epilogues"], ["layouts"], ["quantized_conv"]):
        got = sx.InferenceSession(model, disabled_passes=disabled).run(None, m.feeds)
        for name, g, w, e in zip(names, got, want, exact):
            unit = step.get(name, 1)
            assert g.dtype == w.dtype and g.shape == w.shape
            assert np.abs(g.astype(np.float64) - w).max() <= 3.01 * unit, (name, disabled)
            assert np.mean(np.abs(g.astype(np.float64) - e) > 0.5 * unit) < 0.05, (name, disabled)


@pytest.mark.parametrize("activations", ["u8", "s8"])
@pytest.mark.parametrize("per_channel", [False, True])
def test_onnxruntime_quantize_static(tmp_path, activations, per_channel):
    quantization = pytest.importorskip("onnxruntime.quantization")
    rng = np.random.default_rng(0)

    def f32(*shape):
        return (rng.standard_normal(shape) / np.sqrt(np.prod(shape[1:]))).astype(np.float32)

    m = Model()
    x = m.input(rng.standard_normal((1, 3, 32, 32)).astype(np.float32))
    y = m.op("Relu", m.op("Conv", x, m.constant(f32(16, 3, 3, 3)), m.constant(f32(16, 1)[:, 0]), strides=[2, 2]))
    z = m.op("Conv", y, m.constant(f32(16, 1, 3, 3)), pads=[1, 1, 1, 1], group=16)
    y = m.op("Relu", m.op("Add", y, z))
    gate = m.op("HardSigmoid", m.op("Conv", m.op("GlobalAveragePool", y), m.constant(f32(16, 16, 1, 1))))
    y = m.op("MaxPool", m.op("Mul", y, gate), kernel_shape=[3, 3], strides=[2, 2])
    y = m.op("Flatten", m.op("Concat", y, m.op("Sigmoid", y), axis=1))
    y = m.op("Gemm", y, m.constant(f32(20, 32 * 49)), m.constant(f32(20, 1)[:, 0]), transB=1)
    (tmp_path / "float.onnx").write_bytes(m.build(y))
    samples = iter([m.feeds, {x: 0.7 * m.feeds[x]}, {x: 1.1 * m.feeds[x]}])

    class Reader(quantization.CalibrationDataReader):
        def get_next(self):
            return next(samples, None)

    kind = {"u8": quantization.QuantType.QUInt8, "s8": quantization.QuantType.QInt8}[activations]
    quantization.quantize_static(tmp_path / "float.onnx", tmp_path / "qdq.onnx", Reader(), per_channel=per_channel,
                                 quant_format=quantization.QuantFormat.QDQ, activation_type=kind,
                                 weight_type=quantization.QuantType.QInt8)
    model = (tmp_path / "qdq.onnx").read_bytes()
    found = operators(model)
    assert found["QLinearConv"] == 3 and found["MatMulInteger"] == 1, found
    want, = expected(model, m.feeds)
    truth, = expected((tmp_path / "float.onnx").read_bytes(), m.feeds)
    noise = np.abs(want - truth).max()
    for disabled in ([], ["epilogues"], ["layouts"]):
        got, = sx.InferenceSession(model, disabled_passes=disabled).run(None, m.feeds)
        assert np.abs(got - want).max() <= 0.5 * noise
