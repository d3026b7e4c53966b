"""Quantized operators against ONNX's reference, and exact integers where that is not exact."""

import ml_dtypes
import numpy as np
import pytest

from single_node import TensorProto, onnx_type, reference, run, run_one
from test_elementwise import quiet  # noqa: F401

BF16 = np.dtype(ml_dtypes.bfloat16)
E8M0 = np.dtype(ml_dtypes.float8_e8m0fnu)
INT_TARGETS = [
    np.dtype(t)
    for t in (
        np.uint8,
        np.int8,
        np.uint16,
        np.int16,
        ml_dtypes.uint4,
        ml_dtypes.int4,
        ml_dtypes.uint2,
        ml_dtypes.int2,
    )
]
FLOAT_TARGETS = [
    np.dtype(getattr(ml_dtypes, n))
    for n in (
        "float8_e4m3fn",
        "float8_e4m3fnuz",
        "float8_e5m2",
        "float8_e5m2fnuz",
        "float4_e2m1fn",
        "float6_e2m3fn",
        "float6_e3m2fn",
    )
]
RAW = {1: np.uint8, 2: np.uint16}


def same(got, want):
    """Equal, element types included."""
    assert got.dtype == want.dtype and got.shape == want.shape
    np.testing.assert_array_equal(got.astype(np.float64), want.astype(np.float64))


# Shape of x, axis, block size, shape of the scale.
LAYOUTS = [
    ((5, 7), 1, 0, ()),
    ((5, 7), 1, 0, (1,)),
    ((5, 7), 1, 0, (7,)),
    ((5, 7), 0, 0, (5,)),
    ((5, 7), -1, 0, (7,)),
    ((2, 3, 4, 5), 1, 0, (3,)),
    ((2, 3, 4, 5), 3, 0, (5,)),
    ((2, 3, 4, 5), -4, 0, (2,)),
    ((4, 6), 1, 2, (4, 3)),
    ((4, 6), 0, 2, (2, 6)),
    ((2, 8, 3), 1, 4, (2, 2, 3)),
    ((3, 70), 1, 32, (3, 3)),
    ((2, 7), 1, 3, (2, 3)),
    ((0, 7), 1, 0, (7,)),
    ((), 1, 0, ()),
]


def expand(scale, shape, axis, block):
    """The scale of every element."""
    if scale.size == 1 and scale.ndim <= 1:
        return np.broadcast_to(scale.reshape(()), shape)
    if block:
        index = np.minimum(np.arange(shape[axis]) // block, scale.shape[axis] - 1)
        return np.take(scale, index, axis)
    view = [1] * len(shape)
    view[axis] = shape[axis]
    return np.broadcast_to(scale.reshape(view), shape)


def quantized(values, zero, dtype):
    """round(values) + zero, saturated."""
    info = ml_dtypes.iinfo(dtype)
    total = np.rint(values.astype(np.float64)) + zero.astype(np.float64)
    return np.clip(total, int(info.min), int(info.max)).astype(np.int64).astype(dtype)


@pytest.mark.parametrize("layout", LAYOUTS, ids=str)
@pytest.mark.parametrize("to", INT_TARGETS, ids=str)
def test_quantize_integers(layout, to):
    shape, axis, block, scale_shape = layout
    rng = np.random.default_rng(0)
    x = np.asarray(rng.normal(0, 8, shape)).astype(np.float32)
    scale = np.asarray(rng.uniform(0.05, 2, scale_shape)).astype(np.float32)
    info = ml_dtypes.iinfo(to)
    zero = np.asarray(
        rng.integers(max(int(info.min), -20), min(int(info.max), 20), scale_shape, endpoint=True)
    ).astype(to)
    s = expand(scale, shape, axis, block)
    want = quantized(x / s, expand(zero.astype(np.int32), shape, axis, block), to)
    attributes = {"axis": axis, "block_size": block}
    same(run("QuantizeLinear", [x, scale, zero], [onnx_type(to)], **attributes)[0], want)
    same(
        run("QuantizeLinear", [x, scale, None], [onnx_type(to)], output_dtype=onnx_type(to), **attributes)[0],
        quantized(x / s, np.zeros(()), to),
    )


@pytest.mark.parametrize("to", FLOAT_TARGETS, ids=str)
@pytest.mark.parametrize("saturate", [0, 1])
def test_quantize_floats(to, saturate):
    x = np.concatenate(
        [np.random.default_rng(0).normal(0, 100, 500), [0, -0.0, 1e9, -1e9, np.inf, -np.inf]]
    ).astype(np.float32)
    scale = np.asarray(0.75, np.float32)
    want = reference(
        "QuantizeLinear", [x, scale], [onnx_type(to)], output_dtype=onnx_type(to), saturate=saturate
    )[0]
    got = run("QuantizeLinear", [x, scale], [onnx_type(to)], output_dtype=onnx_type(to), saturate=saturate)[0]
    np.testing.assert_array_equal(got.view(np.uint8), want.view(np.uint8))


@pytest.mark.parametrize(
    "x_type", [np.dtype(np.float32), np.dtype(np.float16), BF16, np.dtype(np.int32)], ids=str
)
@pytest.mark.parametrize("scale_type", [np.dtype(np.float32), np.dtype(np.float16), BF16, E8M0], ids=str)
def test_quantize_precision(x_type, scale_type):
    """The type of the scale, or the attribute, decides in which precision the division is."""
    rng = np.random.default_rng(0)
    x = rng.normal(0, 40, 999).astype(x_type)
    scale = np.asarray(0.5 if scale_type == E8M0 else 0.3).astype(scale_type)
    for precision in (None, np.dtype(np.float32), np.dtype(np.float16), BF16):
        at = precision or (np.dtype(np.float32) if scale_type == E8M0 else scale_type)
        if at == np.float32:
            q = x.astype(np.float32) / scale.astype(np.float32)
        else:
            q = (
                x.astype(np.float32).astype(at).astype(np.float32)
                / scale.astype(np.float32).astype(at).astype(np.float32)
            ).astype(at)
        attributes = {"precision": onnx_type(precision)} if precision else {}
        got = run("QuantizeLinear", [x, scale, np.asarray(3, np.int8)], [TensorProto.INT8], **attributes)[0]
        same(got, quantized(q, np.asarray(3), np.dtype(np.int8)))


def test_quantize_special_values():
    x = np.array([np.nan, np.inf, -np.inf, 0.5, 1.5, 2.5, -0.5, 1e30], np.float32)
    for length in (8, 3):  # vectors and their ends
        got = run_one(
            "QuantizeLinear",
            np.tile(x, length),
            np.asarray(1, np.float32),
            np.asarray(7, np.uint8),
            out=TensorProto.UINT8,
        )
        assert got.tolist() == [0, 255, 0, 7, 9, 9, 7, 255] * length
    got = run_one(
        "QuantizeLinear",
        np.array([2**31 - 1, -(2**31), 6], np.int32),
        np.asarray(4, np.int32),
        np.asarray(0, np.int16),
        out=TensorProto.INT16,
    )
    assert got.tolist() == [32767, -32768, 2]


@pytest.mark.parametrize("layout", LAYOUTS, ids=str)
@pytest.mark.parametrize("source", INT_TARGETS + [np.dtype(np.int32)] + FLOAT_TARGETS, ids=str)
def test_dequantize(layout, source):
    shape, axis, block, scale_shape = layout
    rng = np.random.default_rng(0)
    x = (
        np.asarray(rng.integers(-8, 8, shape))
        .astype(np.float32 if source in FLOAT_TARGETS else np.int32)
        .astype(source)
    )
    scale = np.asarray(rng.uniform(0.05, 2, scale_shape)).astype(np.float32)
    zero = (
        None
        if source in FLOAT_TARGETS or source == np.int32
        else np.asarray(rng.integers(0, 2, scale_shape)).astype(source)
    )
    difference = x.astype(np.float64) - (
        0 if zero is None else expand(zero.astype(np.float64), shape, axis, block)
    )
    want = difference.astype(np.float32) * expand(scale, shape, axis, block)
    same(
        run("DequantizeLinear", [x, scale, zero], [TensorProto.FLOAT], axis=axis, block_size=block)[0],
        np.asarray(want),
    )


@pytest.mark.parametrize("scale_type", [np.dtype(np.float32), np.dtype(np.float16), BF16, E8M0], ids=str)
def test_dequantize_output_type(scale_type):
    x = np.arange(-128, 128).astype(np.int8)
    scale = np.asarray(0.5 if scale_type == E8M0 else 0.3).astype(scale_type)
    exact = (x.astype(np.float32) - 5) * scale.astype(np.float32)
    for to in (np.dtype(np.float32), np.dtype(np.float16), BF16):
        got = run(
            "DequantizeLinear",
            [x, scale, np.asarray(5, np.int8)],
            [onnx_type(to)],
            output_dtype=onnx_type(to),
        )[0]
        same(got, exact.astype(to))
    if scale_type != E8M0:
        same(
            run("DequantizeLinear", [x, scale, np.asarray(5, np.int8)], [onnx_type(scale_type)])[0],
            exact.astype(scale_type),
        )


def test_wrong_scales_are_refused():
    x = np.zeros((4, 6), np.float32)
    for scale_shape, attributes in (
        ((5,), {}),
        ((4, 3), {}),
        ((4, 3), {"block_size": 4}),
        ((6,), {"axis": 2}),
        ((2, 3), {"block_size": 2}),
    ):
        with pytest.raises(Exception):
            run("QuantizeLinear", [x, np.ones(scale_shape, np.float32)], [TensorProto.UINT8], **attributes)


@pytest.mark.parametrize(
    "x",
    [
        np.array([0, 2, -3, -2.5, 1.34, 0.5], np.float32),
        np.array([-1, -2.1, -1.3, -2.5, -3.34, -4], np.float32),
        np.array([[1, 2.1, 1.3], [2.5, 3.34, 4]], np.float32),
        np.zeros(5, np.float32),
        np.random.default_rng(0).normal(3, 20, (77, 1003)).astype(np.float32),
    ],
    ids=lambda x: str(x.shape),
)
def test_dynamic_quantize(x):
    types = [TensorProto.UINT8, TensorProto.FLOAT, TensorProto.UINT8]
    for got, want in zip(
        run("DynamicQuantizeLinear", [x], types), reference("DynamicQuantizeLinear", [x], types)
    ):
        same(got, want)


def test_dynamic_quantize_survives_anything():
    for x in ([np.nan, 1], [np.inf, 1], [-np.inf, np.inf], []):
        run(
            "DynamicQuantizeLinear",
            [np.array(x, np.float32)],
            [TensorProto.UINT8, TensorProto.FLOAT, TensorProto.UINT8],
        )


def integers(rng, dtype, shape):
    info = np.iinfo(dtype)
    return rng.integers(info.min, info.max, shape, dtype, endpoint=True)


def exact_matmul(a, b, a_zero, b_zero):
    total = np.matmul(a.astype(np.int64) - a_zero, b.astype(np.int64) - b_zero)
    return (
        (total & 0xFFFFFFFF).astype(np.uint32).view(np.int32)
        if total.ndim
        else np.int64(total).astype(np.int32)
    )


BYTES = [np.uint8, np.int8]
PRODUCTS = [
    ((3, 5), (5, 4)),
    ((5,), (5, 4)),
    ((3, 5), (5,)),
    ((5,), (5,)),
    ((64, 700), (700, 33)),
    ((1, 4096), (4096, 65)),
    ((2, 3, 40, 50), (50, 60)),
    ((2, 3, 40, 50), (3, 50, 60)),
    ((3, 40, 50), (2, 1, 50, 60)),
    ((40, 50), (3, 50, 60)),
    ((0, 5), (5, 4)),
    ((3, 0), (0, 4)),
    ((2, 1, 33, 129), (1, 3, 129, 17)),
]


@pytest.mark.parametrize("shapes", PRODUCTS, ids=str)
@pytest.mark.parametrize("a_type", BYTES)
@pytest.mark.parametrize("b_type", BYTES)
def test_matmul_integer(shapes, a_type, b_type):
    rng = np.random.default_rng(0)
    a, b = integers(rng, a_type, shapes[0]), integers(rng, b_type, shapes[1])
    a_zero, b_zero = integers(rng, a_type, ()), integers(rng, b_type, ())
    for zeros in ((None, None), (a_zero, None), (None, b_zero), (a_zero, b_zero)):
        inputs = [a, b] + [None if z is None else np.asarray(z) for z in zeros]
        want = exact_matmul(a, b, *[0 if z is None else np.int64(z) for z in zeros])
        for constants in ((), [1]):
            got = run("MatMulInteger", inputs, [TensorProto.INT32], constants)[0]
            np.testing.assert_array_equal(got, want)
    if len(shapes[0]) < 2 or len(shapes[1]) < 2:
        return
    rows, columns = integers(rng, a_type, shapes[0][-2]), integers(rng, b_type, shapes[1][-1])
    for constants in ((), [1]):
        got = run("MatMulInteger", [a, b, rows, columns], [TensorProto.INT32], constants)[0]
        np.testing.assert_array_equal(
            got, exact_matmul(a, b, rows.astype(np.int64)[:, None], columns.astype(np.int64))
        )
    rows = integers(rng, a_type, shapes[0][:-1] + (1,))
    columns = integers(rng, b_type, shapes[1][:-2] + (1, shapes[1][-1]))
    got = run("MatMulInteger", [a, b, rows, columns], [TensorProto.INT32], [1])[0]
    np.testing.assert_array_equal(got, exact_matmul(a, b, rows.astype(np.int64), columns.astype(np.int64)))


def requantized(sums, scale, zero, dtype):
    info = np.iinfo(dtype)
    return np.clip(np.rint(sums.astype(np.float32) * scale) + zero, info.min, info.max).astype(dtype)


@pytest.mark.parametrize("shapes", [s for s in PRODUCTS if len(s[0]) > 1 and len(s[1]) > 1], ids=str)
@pytest.mark.parametrize(
    "types", [(np.uint8, np.uint8, np.uint8), (np.int8, np.int8, np.int8), (np.uint8, np.int8, np.uint8)]
)
@pytest.mark.parametrize("scale_type", [np.dtype(np.float32), np.dtype(np.float16), BF16], ids=str)
def test_qlinear_matmul(shapes, types, scale_type):
    rng = np.random.default_rng(0)
    a, b = integers(rng, types[0], shapes[0]), integers(rng, types[1], shapes[1])
    k = shapes[0][-1]
    a_zero, b_zero, y_zero = (np.asarray(integers(rng, t, ())) for t in types)
    y_scale = np.asarray(2.0 * max(k, 1) ** 0.5).astype(scale_type)
    for lines in (False, True):
        a_scale = np.asarray(rng.uniform(0.02, 0.03, shapes[0][-2] if lines else ())).astype(scale_type)
        b_scale = np.asarray(rng.uniform(0.02, 0.03, shapes[1][-1] if lines else ())).astype(scale_type)
        if lines:
            a_zero, b_zero = integers(rng, types[0], a_scale.shape), integers(rng, types[1], b_scale.shape)
        sa, za = (
            (v.reshape(-1, 1) if lines else v) for v in (a_scale.astype(np.float32), a_zero.astype(np.int64))
        )
        sums = exact_matmul(a, b, za, b_zero.astype(np.int64))
        want = requantized(
            sums,
            sa * b_scale.astype(np.float32) / y_scale.astype(np.float32),
            y_zero.astype(np.float32),
            types[2],
        )
        for constants in ((), [3]):
            got = run(
                "QLinearMatMul",
                [a, a_scale, a_zero, b, b_scale, b_zero, y_scale, y_zero],
                [onnx_type(types[2])],
                constants,
            )[0]
            same(got, want)


def test_qlinear_matmul_float8():
    rng = np.random.default_rng(0)
    f8 = np.dtype(ml_dtypes.float8_e4m3fn)
    a, b = (rng.normal(0, 2, s).astype(np.float32).astype(f8) for s in ((6, 20), (20, 7)))
    scale, zero = np.asarray(0.5, np.float32), np.asarray(0).astype(np.float32).astype(f8)
    want = (a.astype(np.float64) @ b.astype(np.float64) * 0.5).astype(np.float32).astype(f8)
    same(run("QLinearMatMul", [a, scale, zero, b, scale, zero, scale, zero], [onnx_type(f8)])[0], want)


def exact_conv(x, w, x_zero, w_zero, strides, pads, dilations, group):
    """The convolution in exact integers; the padding holds the zero point."""
    rank = x.ndim - 2
    x = x.astype(np.int64) - x_zero
    w = w.astype(np.int64) - np.reshape(w_zero, (-1,) + (1,) * (rank + 1))
    x = np.pad(x, [(0, 0), (0, 0)] + list(zip(pads[:rank], pads[rank:])))
    extent = [(k - 1) * d + 1 for k, d in zip(w.shape[2:], dilations)]
    out = [(x.shape[2 + i] - extent[i]) // strides[i] + 1 for i in range(rank)]
    y = np.zeros((x.shape[0], w.shape[0], *out), np.int64)
    cin, cout = w.shape[1], w.shape[0] // group
    for g in range(group):
        for tap in np.ndindex(*w.shape[2:]):
            window = tuple(
                slice(t * d, t * d + (o - 1) * s + 1, s) for t, d, o, s in zip(tap, dilations, out, strides)
            )
            part = x[(slice(None), slice(g * cin, (g + 1) * cin)) + window]
            y[:, g * cout : (g + 1) * cout] += np.einsum(
                "nc...,mc->nm...", part, w[(slice(g * cout, (g + 1) * cout), slice(None)) + tap]
            )
    return y


# x, w, strides, pads, dilations, group
CONVOLUTIONS = [
    ((1, 1, 3, 3), (1, 1, 2, 2), [1, 1], [0] * 4, [1, 1], 1),
    ((2, 3, 9, 11), (8, 3, 3, 3), [1, 1], [1] * 4, [1, 1], 1),
    ((1, 16, 8, 8), (32, 16, 1, 1), [1, 1], [0] * 4, [1, 1], 1),
    ((1, 16, 9, 10), (32, 16, 3, 3), [2, 2], [1, 2, 0, 1], [1, 1], 1),
    ((1, 12, 9, 9), (8, 6, 3, 3), [1, 1], [2] * 4, [2, 2], 2),
    ((1, 8, 7, 7), (8, 1, 3, 3), [1, 1], [1] * 4, [1, 1], 8),
    ((1, 600, 5, 5), (7, 600, 3, 3), [1, 1], [1] * 4, [1, 1], 1),
    ((2, 3, 20), (5, 3, 4), [3], [2, 1], [2], 1),
    ((1, 4, 5, 6, 7), (6, 4, 2, 3, 3), [1, 2, 1], [1] * 6, [1, 1, 1], 1),
    ((1, 2, 1, 1), (2, 2, 1, 1), [10, 10], [5, 5, 0, 0], [1, 1], 1),
    ((0, 3, 5, 5), (4, 3, 3, 3), [1, 1], [0] * 4, [1, 1], 1),
    ((1, 2, 4, 3, 3, 3), (2, 2, 2, 2, 2, 2), [1] * 4, [0] * 8, [1] * 4, 1),
]


@pytest.mark.parametrize("case", CONVOLUTIONS, ids=lambda c: str(c[:2]))
@pytest.mark.parametrize("x_type", BYTES)
@pytest.mark.parametrize("w_type", BYTES)
def test_conv_integer(case, x_type, w_type):
    x_shape, w_shape, strides, pads, dilations, group = case
    rng = np.random.default_rng(0)
    x, w = integers(rng, x_type, x_shape), integers(rng, w_type, w_shape)
    attributes = {"strides": strides, "pads": pads, "dilations": dilations, "group": group}
    symmetric = np.asarray(128 if w_type == np.uint8 else 0, w_type)
    for x_zero in (None, np.asarray(integers(rng, x_type, ()))):
        for w_zero in (None, symmetric, integers(rng, w_type, w_shape[0])):
            want = exact_conv(
                x,
                w,
                0 if x_zero is None else np.int64(x_zero),
                0 if w_zero is None else w_zero.astype(np.int64),
                strides,
                pads,
                dilations,
                group,
            )
            for constants in ([1], [1, 3]) if w_zero is not None else ((), [1]):
                got = run(
                    "ConvInteger", [x, w, x_zero, w_zero], [TensorProto.INT32], constants, **attributes
                )[0]
                np.testing.assert_array_equal(got, want)


@pytest.mark.parametrize("case", CONVOLUTIONS, ids=lambda c: str(c[:2]))
@pytest.mark.parametrize(
    "types",
    [
        (np.uint8, np.uint8, np.uint8),
        (np.int8, np.int8, np.int8),
        (np.uint8, np.int8, np.uint8),
        (np.int8, np.uint8, np.uint8),
    ],
)
def test_qlinear_conv(case, types):
    x_shape, w_shape, strides, pads, dilations, group = case
    rng = np.random.default_rng(0)
    x, w = integers(rng, types[0], x_shape), integers(rng, types[1], w_shape)
    x_zero, y_zero = np.asarray(integers(rng, types[0], ())), np.asarray(integers(rng, types[2], ()))
    bias = rng.integers(-9999, 9999, w_shape[0], np.int32)
    attributes = {"strides": strides, "pads": pads, "dilations": dilations, "group": group}
    symmetric = np.asarray(128 if types[1] == np.uint8 else 0, types[1])
    for channels in (False, True):
        x_scale = np.asarray(0.03, np.float32)
        y_scale = np.asarray(0.1 * np.prod(w_shape[1:]) ** 0.5, np.float32)
        w_scale = np.asarray(rng.uniform(0.01, 0.02, w_shape[0] if channels else ())).astype(np.float32)
        for w_zero in (symmetric, np.asarray(integers(rng, types[1], w_shape[0] if channels else ()))):
            if channels:
                w_zero = np.broadcast_to(w_zero, (w_shape[0],)).copy()
            for b in (None, bias):
                view = (-1,) + (1,) * (len(x_shape) - 2)
                sums = exact_conv(
                    x, w, np.int64(x_zero), w_zero.astype(np.int64), strides, pads, dilations, group
                )
                sums = (sums + (0 if b is None else b.reshape(view))).astype(np.int32)
                want = requantized(
                    sums,
                    (x_scale * w_scale / y_scale).reshape(view) if channels else x_scale * w_scale / y_scale,
                    y_zero.astype(np.float32),
                    types[2],
                )
                got = run(
                    "QLinearConv",
                    [x, x_scale, x_zero, w, w_scale, w_zero, y_scale, y_zero, b],
                    [onnx_type(types[2])],
                    [3, 5],
                    **attributes,
                )[0]
                same(got, want)


def test_conv_auto_pad():
    rng = np.random.default_rng(0)
    x, w = integers(rng, np.uint8, (1, 2, 5, 6)), integers(rng, np.int8, (3, 2, 3, 2))
    got = run(
        "ConvInteger",
        [x, w, np.asarray(9, np.uint8)],
        [TensorProto.INT32],
        [1],
        auto_pad="SAME_UPPER",
        strides=[2, 2],
    )[0]
    np.testing.assert_array_equal(got, exact_conv(x, w, 9, 0, [2, 2], [1, 0, 1, 0], [1, 1], 1))


@pytest.mark.parametrize(
    "attributes",
    [
        {"group": 0},
        {"group": 2},
        {"strides": [0, 1]},
        {"dilations": [0, 1]},
        {"pads": [1, 1]},
        {"kernel_shape": [3, 3]},
        {"pads": [-1, 0, 0, 0]},
    ],
    ids=str,
)
def test_conv_refuses(attributes):
    with pytest.raises(Exception):
        run(
            "ConvInteger",
            [np.zeros((1, 3, 5, 5), np.uint8), np.zeros((4, 3, 2, 2), np.uint8)],
            [TensorProto.INT32],
            **attributes,
        )
