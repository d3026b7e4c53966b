"""Models between QuantizeLinear and DequantizeLinear: what runs on integers gives what onnxruntime gives for the file
as it is, operator by operator in float, within one step of the output; with the fusions left out too."""

import json
import os
import subprocess
import sys

import ml_dtypes
import numpy as np
import pytest

import sardonyx as sx
from quantized_model import FUSIONS, S8, U8, VNNI, Model, becomes, check, close, conv, expected, stays, weights
from test_fusion import operators


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


def test_processors_without_instructions_for_integers(tmp_path):
    """There the operators stay f32: plain loops over integers would be slower."""
    m = Model()
    y = conv(m, m.bytes((1, 16, 8, 8), 0.02, 100), 0.02, (8, 16, 3, 3))
    (tmp_path / "m.onnx").write_bytes(m.build(m.quantize(y, 0.1, 100)))
    program = f"import sardonyx, json; print(json.dumps(sardonyx.inspect({str(tmp_path / 'm.onnx')!r})['operators']))"
    for isa, op in [("AVX2", "Conv"), *[("ALL", "QLinearConv")] * VNNI]:
        done = subprocess.run([sys.executable, "-c", program], env={**os.environ, "ONEDNN_MAX_CPU_ISA": isa},
                              capture_output=True, text=True, check=True)
        assert json.loads(done.stdout)["cpu"].get(op) == 1, (isa, done.stdout)
