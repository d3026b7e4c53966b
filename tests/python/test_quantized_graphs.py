"""Quantized models: what is computed together (elementwise operators, residuals, dynamic quantization), and whole
graphs. As test_fusion_quantization.py."""

import numpy as np
import onnx.helper as oh
import pytest

import sardonyx as sx
from quantized_model import FUSIONS, S8, U8, VNNI, Model, check, conv, expected, weights
from test_fusion import operators


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


@pytest.mark.parametrize("zero", [0, 77, 128, 255])
def test_dynamic_quantization_with_unsigned_weights(zero):
    m = Model()
    rng = np.random.default_rng(0)
    q, scale, x_zero = m.op("DynamicQuantizeLinear", m.input(rng.standard_normal((20, 64)).astype(np.float32)), outputs=3)
    w = rng.integers(0, 256, (64, 96)).astype(U8)
    sums = m.op("MatMulInteger", q, m.constant(w), x_zero, m.constant(zero, U8))
    model = m.build(m.op("Mul", m.op("Cast", sums, to=1), scale))
    check(model, m.feeds)
    assert not VNNI or "onednn-fused" in sx.InferenceSession(model).plan(m.feeds)


@pytest.mark.parametrize("zero, x_type", [(128, U8), (100, U8)], ids=str)
def test_integer_operators_of_the_file(zero, x_type):
    """QLinearConv and QLinearMatMul as a file has them, with unsigned weights."""
    m = Model()
    rng, info = np.random.default_rng(0), np.iinfo(x_type)
    x = m.input(rng.integers(info.min, info.max + 1, (1, 16, 8, 8)).astype(x_type))
    scalars = [m.constant(0.02, np.float32), m.constant(3, x_type)]
    w = m.constant(rng.integers(0, 256, (24, 16, 3, 3)), U8)
    y = m.op("QLinearConv", x, *scalars, w, m.constant(0.01, np.float32), m.constant(zero, U8),
             m.constant(0.3, np.float32), m.constant(7, x_type), m.constant(rng.integers(-999, 999, 24), np.int32))
    z = m.op("QLinearMatMul", y, m.constant(0.3, np.float32), m.constant(7, x_type),
             m.constant(rng.integers(0, 256, (6, 40)), U8), m.constant(0.01, np.float32), m.constant(zero, U8),
             m.constant(0.9, np.float32), m.constant(9, x_type))
    check(m.build(y, z), m.feeds)


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
    assert not VNNI or (found["QLinearConv"] == 3 and found["MatMulInteger"] == 1), found
    want, = expected(model, m.feeds)
    truth, = expected((tmp_path / "float.onnx").read_bytes(), m.feeds)
    noise = np.abs(want - truth).max()
    for disabled in ([], ["epilogues"], ["layouts"]):
        got, = sx.InferenceSession(model, disabled_passes=disabled).run(None, m.feeds)
        assert np.abs(got - want).max() <= 0.5 * noise
