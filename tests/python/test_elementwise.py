"""Elementwise operators against numpy: every dtype, NaN and infinity, broadcasting, integer edges."""

import itertools
import math

import ml_dtypes
import numpy as np
import pytest
from onnx import helper

import sardonyx as sx
from single_node import TensorProto, onnx_type, reference, run, run_one

BF16 = np.dtype(ml_dtypes.bfloat16)
FLOATS = [np.dtype(t) for t in ("float32", "float64", "float16")] + [BF16]
INTS = [np.dtype(t) for t in ("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64")]
SPECIAL = [0.0, -0.0, 1.0, -1.0, 0.5, 2.5, -3.75, 7.0, 1e-3, 60000.0, np.inf, -np.inf, np.nan]
dtypes = pytest.mark.parametrize("dtype", FLOATS + INTS, ids=str)


@pytest.fixture(autouse=True)
def quiet():
    with np.errstate(all="ignore"):
        yield


def wide(dtype):
    return np.float32 if dtype in (np.float16, BF16) else dtype


def values(dtype):
    if dtype in FLOATS:
        rng = np.random.default_rng(1)
        return np.concatenate([SPECIAL, rng.normal(0, 3, 300), rng.normal(0, 100, 40)]).astype(dtype)
    info = np.iinfo(dtype)
    rng = np.random.default_rng(1)
    edge = [info.min, info.min + 1, 0, 1, 2, 3, info.max - 1, info.max] + (
        [-1, -2, -7] if info.min < 0 else [7, 8]
    )
    return np.concatenate([np.array(edge, dtype), rng.integers(info.min, info.max, 64, dtype, endpoint=True)])


def pairs(dtype):
    v = values(dtype)[:40]
    a, b = np.meshgrid(v, v, indexing="ij")
    return a.copy(), b.copy()


def ulps(dtype):
    return {np.float32: 2.0**-23, np.float64: 2.0**-52, np.float16: 2.0**-10}.get(dtype.type, 2.0**-7)


def assert_close(got, want, dtype, tolerance=0.0):
    """Equal, NaN and infinities included, or within `tolerance` units in the last place."""
    assert got.dtype == dtype and got.shape == want.shape
    g, w = got.astype(np.float64), want.astype(dtype).astype(np.float64)
    exact = want.astype(np.float64)
    tiny = {np.float32: 1e-44, np.float64: 0, np.float16: 1e-7}.get(dtype.type, 1e-40)
    with np.errstate(all="ignore"):
        ok = (
            (g == w)
            | (np.isnan(g) & np.isnan(w))
            | (np.abs(g - exact) <= tolerance * ulps(dtype) * np.abs(exact) + tiny)
        )
    ok &= np.isnan(g) == np.isnan(w)
    assert ok.all(), [(g.ravel()[i], w.ravel()[i], i) for i in np.flatnonzero(~ok.ravel())[:5]]


ARITHMETIC = {"Add": np.add, "Sub": np.subtract, "Mul": np.multiply, "Max": np.maximum, "Min": np.minimum}


@dtypes
@pytest.mark.parametrize("op", ARITHMETIC)
def test_arithmetic(op, dtype):
    a, b = pairs(dtype)
    want = ARITHMETIC[op](a.astype(wide(dtype)), b.astype(wide(dtype))).astype(dtype)
    got = run_one(op, a, b)
    assert_close(got, want, dtype) if dtype in FLOATS else np.testing.assert_array_equal(got, want)


@dtypes
def test_div(dtype):
    a, b = pairs(dtype)
    got = run_one("Div", a, b)
    if dtype in FLOATS:
        return assert_close(got, (a.astype(wide(dtype)) / b.astype(wide(dtype))).astype(dtype), dtype)
    info = np.iinfo(dtype)
    for x, y, q in zip(a.ravel().tolist(), b.ravel().tolist(), got.ravel().tolist()):
        want = 0 if y == 0 else abs(x) // abs(y) * (1 if (x < 0) == (y < 0) else -1)
        assert q == (info.min if want > info.max else want), (x, y)


@dtypes
@pytest.mark.parametrize("fmod", [0, 1])
def test_mod(dtype, fmod):
    a, b = pairs(dtype)
    got = run_one("Mod", a, b, fmod=fmod)
    if dtype in FLOATS:
        want = (np.fmod if fmod else np.mod)(a.astype(wide(dtype)), b.astype(wide(dtype))).astype(dtype)
        return assert_close(got, want, dtype)
    for x, y, r in zip(a.ravel().tolist(), b.ravel().tolist(), got.ravel().tolist()):
        truncated = abs(x) % abs(y) * (1 if x >= 0 else -1) if y else 0
        assert r == (0 if y == 0 else truncated if fmod else x % y), (x, y)


@pytest.mark.parametrize("base", FLOATS + [np.dtype("int32"), np.dtype("int64")], ids=str)
@pytest.mark.parametrize("exponent", FLOATS + INTS, ids=str)
def test_pow(base, exponent):
    if exponent in INTS:
        e = np.array([0, 1, 2, 3, 7], exponent)
        if np.iinfo(exponent).min < 0:
            e = np.concatenate([e, np.array([-1, -2], exponent)])
    else:
        e = np.array([0, 0.5, 1, 2, 3, -1, -2.5, np.nan, np.inf, -np.inf], exponent)
    b = (
        np.array([0, 1, -1, 2, -3, 10], base)
        if base in INTS
        else np.array([0, -0.0, 1, -1, 2, 0.3, -2.5, np.inf, -np.inf, np.nan], base)
    )
    b, e = (x.copy() for x in np.meshgrid(b, e, indexing="ij"))
    got = run_one("Pow", b, e)
    if base in INTS and exponent in INTS:
        for x, p, r in zip(b.ravel().tolist(), e.ravel().tolist(), got.ravel().tolist()):
            assert r == (x**p if p >= 0 else int(x**p) if abs(x) == 1 else 0)
    elif base in FLOATS:
        want = np.power(b.astype(np.float64), e.astype(np.float64))
        assert_close(got, want, base, 1.5)


def test_pow_integers_are_exact_and_wrap():
    got = run_one("Pow", np.array([3, -3, 7, 2], np.int64), np.array([39, 39, 22, 64], np.int64))
    assert got.tolist() == [3**39, -(3**39), 7**22, 0]
    assert run_one("Pow", np.array([3], np.int32), np.array([2**63 + 1], np.uint64)).tolist() == [3]


@pytest.mark.parametrize("power", [-1.0, 1.0, 2.0, 3.0, 0.5])
def test_pow_constant_exponent(power):
    x = values(np.dtype("float32"))
    got = run("Pow", [x, np.float32(power).reshape(())], [TensorProto.FLOAT], constants=[1])[0]
    assert_close(got, np.power(x.astype(np.float64), np.full(x.shape, power)), x.dtype, 1.5)


UNARY = {
    "Neg": np.negative,
    "Abs": np.abs,
    "Sign": np.sign,
    "Reciprocal": lambda x: 1 / x,
    "Sqrt": np.sqrt,
    "Exp": np.exp,
    "Log": np.log,
    "Ceil": np.ceil,
    "Floor": np.floor,
    "Round": np.rint,
    "Sin": np.sin,
    "Cos": np.cos,
    "Tan": np.tan,
    "Asin": np.arcsin,
    "Acos": np.arccos,
    "Atan": np.arctan,
    "Sinh": np.sinh,
    "Cosh": np.cosh,
    "Tanh": np.tanh,
    "Asinh": np.arcsinh,
    "Acosh": np.arccosh,
    "Atanh": np.arctanh,
    "Erf": np.vectorize(math.erf, otypes=[np.float64]),
}


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
@pytest.mark.parametrize("op", UNARY)
def test_unary(op, dtype):
    x = values(dtype)
    if op == "Erf":
        want = np.array([math.erf(v) for v in x.astype(np.float64)])
    else:
        want = UNARY[op](x.astype(np.float64))
    assert_close(run_one(op, x), want, dtype, {np.float32: 3, np.float64: 2}.get(dtype.type, 1.01))


@pytest.mark.parametrize(
    "op,names", [("Neg", "int8 int16 int32 int64"), ("Abs", ""), ("Sign", ""), ("BitwiseNot", "")]
)
def test_unary_integers(op, names):
    for dtype in [np.dtype(n) for n in names.split()] or INTS:
        x = values(dtype)
        want = {"Neg": np.negative, "Abs": np.abs, "Sign": np.sign, "BitwiseNot": np.invert}[op](x)
        np.testing.assert_array_equal(run_one(op, x), want)


@pytest.mark.parametrize("op", ["Exp", "Log", "Tanh", "Erf", "Sqrt"])
def test_vector_functions_everywhere(op):
    """The vector loops over floats of every size, against double, with lengths that end inside a vector."""
    x = (
        np.random.default_rng(0)
        .integers(0, 2**32, 300_007, dtype=np.uint64)
        .astype(np.uint32)
        .view(np.float32)
    )
    exact = np.vectorize(math.erf)(x.astype(np.float64)) if op == "Erf" else UNARY[op](x.astype(np.float64))
    assert_close(run_one(op, x), exact, x.dtype, 3)


COMPARE = {
    "Equal": np.equal,
    "Greater": np.greater,
    "GreaterOrEqual": np.greater_equal,
    "Less": np.less,
    "LessOrEqual": np.less_equal,
}


@dtypes
@pytest.mark.parametrize("op", COMPARE)
def test_compare(op, dtype):
    a, b = pairs(dtype)
    np.testing.assert_array_equal(run_one(op, a, b, out=TensorProto.BOOL), COMPARE[op](a, b))


def test_equal_of_bool_and_text():
    a, b = np.array([True, False, True]), np.array([True, True, False])
    assert run_one("Equal", a, b).tolist() == [True, False, False]
    s, t = np.array(["a", "Ä", ""], dtype=object), np.array(["a", "A", ""], dtype=object)
    assert run_one("Equal", s, t, out=TensorProto.BOOL).tolist() == [True, False, True]
    assert (
        run_one("Equal", s.reshape(3, 1), t, out=TensorProto.BOOL).tolist() == (s.reshape(3, 1) == t).tolist()
    )


def test_logic():
    a, b = np.array([[True], [False]]), np.array([True, False])
    for op, f in (("And", np.logical_and), ("Or", np.logical_or), ("Xor", np.logical_xor)):
        np.testing.assert_array_equal(run_one(op, a, b), f(a, b))
    np.testing.assert_array_equal(run_one("Not", a), ~a)


@pytest.mark.parametrize("dtype", INTS, ids=str)
def test_bits(dtype):
    a, b = pairs(dtype)
    for op, f in (
        ("BitwiseAnd", np.bitwise_and),
        ("BitwiseOr", np.bitwise_or),
        ("BitwiseXor", np.bitwise_xor),
    ):
        np.testing.assert_array_equal(run_one(op, a, b), f(a, b))


@pytest.mark.parametrize("dtype", INTS, ids=str)
@pytest.mark.parametrize("direction", ["LEFT", "RIGHT"])
def test_shift(dtype, direction):
    width, low = dtype.itemsize * 8, np.iinfo(dtype).min
    amounts = [0, 1, 3, width - 1, width, width + 1, 100] + ([-1, low] if low < 0 else [np.iinfo(dtype).max])
    a, b = (v.copy() for v in np.meshgrid(values(dtype), np.array(amounts, dtype), indexing="ij"))
    got = run_one("BitShift", a, b, direction=direction)
    for x, n, r in zip(a.ravel().tolist(), b.ravel().tolist(), got.ravel().tolist()):
        if n < 0 or n >= width:
            want = -1 if direction == "RIGHT" and x < 0 else 0
        else:
            want = x >> n if direction == "RIGHT" else x << n
        want &= (1 << width) - 1
        assert r & ((1 << width) - 1) == want, (x, n)


def test_is_nan_and_is_inf():
    for dtype in FLOATS + [
        np.dtype(getattr(ml_dtypes, n))
        for n in ("float8_e4m3fn", "float8_e4m3fnuz", "float8_e5m2", "float8_e5m2fnuz")
    ]:
        x = np.array([0, 1, -1, np.inf, -np.inf, np.nan], np.float32).astype(dtype)
        f = x.astype(np.float32)
        np.testing.assert_array_equal(run_one("IsNaN", x, out=TensorProto.BOOL), np.isnan(f))
        for negative, positive in itertools.product([0, 1], [0, 1]):
            got = run_one(
                "IsInf", x, out=TensorProto.BOOL, detect_negative=negative, detect_positive=positive
            )
            want = np.isposinf(f) * bool(positive) | np.isneginf(f) * bool(negative)
            np.testing.assert_array_equal(got, want)


SHAPES = [
    ((), ()),
    ((1,), ()),
    ((5,), ()),
    ((), (4, 3)),
    ((3,), (4, 3)),
    ((4, 1), (4, 3)),
    ((4, 1), (1, 3)),
    ((2, 3, 4), (3, 1)),
    ((2, 1, 4, 1), (3, 1, 5)),
    ((1, 1, 1), (2, 3, 4)),
    ((2, 3, 4, 5), (1, 3, 1, 1)),
    ((2, 1, 1, 5), (2, 3, 4, 5)),
    ((0,), ()),
    ((0, 3), (3,)),
    ((2, 0, 1), (1, 4)),
    ((1, 70_001), (2, 1)),
    ((300, 257), (257,)),
    ((300, 257), (300, 1)),
    ((2, 1, 2, 1, 2, 1, 2, 1, 2), (1, 2, 1, 2, 1, 2, 1, 2, 1)),
    ((40, 1, 50), (40, 60, 1)),
]


@pytest.mark.parametrize("shapes", SHAPES, ids=str)
@pytest.mark.parametrize("dtype", [np.dtype("float32"), np.dtype("float16"), np.dtype("int64")], ids=str)
def test_broadcasting(shapes, dtype):
    rng = np.random.default_rng(0)
    a, b = ((rng.normal(0, 50, s)).astype(dtype) for s in shapes)
    a, b = np.asarray(a), np.asarray(b)
    for x, y in ((a, b), (b, a)):
        for op, f in (("Add", np.add), ("Sub", np.subtract)):
            want = f(x.astype(wide(dtype)), y.astype(wide(dtype))).astype(dtype)
            np.testing.assert_array_equal(run_one(op, x, y), want)
        np.testing.assert_array_equal(run_one("Less", x, y, out=TensorProto.BOOL), x < y)
        c = rng.integers(0, 2, shapes[0]).astype(bool)
        np.testing.assert_array_equal(
            run("Where", [np.asarray(c), x, y], [onnx_type(dtype)])[0], np.where(c, x, y)
        )
        got = run_one("Sum" if dtype != np.int64 else "Max", x, y, x)
        f = (lambda p, q, r: p + q + r) if dtype != np.int64 else (lambda p, q, r: np.maximum(p, q))
        np.testing.assert_array_equal(
            got, f(x.astype(wide(dtype)), y.astype(wide(dtype)), x.astype(wide(dtype))).astype(dtype)
        )


def test_shapes_that_do_not_fit():
    with pytest.raises(Exception):
        run_one("Add", np.zeros((2, 3), np.float32), np.zeros((2, 4), np.float32))


@pytest.mark.parametrize(
    "dtype",
    [
        np.dtype(t)
        for t in (
            "bool",
            "int8",
            "uint8",
            "int16",
            "float16",
            "int32",
            "float32",
            "int64",
            "float64",
            "complex64",
            "complex128",
        )
    ]
    + [BF16, np.dtype(object)],
    ids=str,
)
def test_where(dtype):
    c = np.array([[True, False, True], [False, False, True]])
    if dtype == object:
        x, y = np.array([["a", "b", "c"]], dtype=object), np.array([["x"], ["y"]], dtype=object)
    else:
        x, y = np.array([[1, 0, 3]]).astype(dtype), np.array([[0], [1]]).astype(dtype)
    got = run("Where", [c, x, y], [onnx_type(dtype)])[0]
    np.testing.assert_array_equal(got, np.where(c, x, y))


@dtypes
def test_clip(dtype):
    x = values(dtype)
    low, high = (np.array(v).astype(dtype) for v in ((-1.5, 2.5) if dtype in FLOATS else (2, 5)))
    for a, b in ((low, high), (low, None), (None, high), (None, None), (high, low)):
        want = x
        if a is not None:
            want = np.maximum(want, a)
        if b is not None:
            want = np.minimum(want, b)
        got = run("Clip", [x, a, b], [onnx_type(dtype)])[0]
        assert got.dtype == dtype
        np.testing.assert_array_equal(got.astype(wide(dtype)), want.astype(wide(dtype)))


def test_clip_nan_bound():
    x = np.array([1, 2, np.nan], np.float32)
    for bounds in ((np.float32(np.nan), None), (None, np.float32(np.nan))):
        got = run("Clip", [x] + [None if b is None else np.asarray(b) for b in bounds], [TensorProto.FLOAT])[
            0
        ]
        assert np.isnan(got).all()


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
@pytest.mark.parametrize("count", [1, 2, 3, 7])
def test_variadic(dtype, count):
    rng = np.random.default_rng(count)
    shapes = [(4, 1, 700), (3, 1), (4, 3, 700), (), (1,), (700,), (4, 3, 1)][:count]
    xs = [np.asarray(rng.normal(0, 2, s)).astype(dtype) for s in shapes]
    xs[0].ravel()[:3] = [np.nan, np.inf, -np.inf]
    w = np.float32 if dtype != np.float64 else np.float64
    total = xs[0].astype(w)
    for x in xs[1:]:
        total = total + x.astype(w)
    assert_close(run_one("Sum", *xs), total.astype(dtype), dtype)
    assert_close(run_one("Mean", *xs), (total / w(count)).astype(dtype), dtype)
    for op, f in (("Max", np.maximum), ("Min", np.minimum)):
        want = xs[0].astype(w)
        for x in xs[1:]:
            want = f(want, x.astype(w))
        assert_close(run_one(op, *xs), want.astype(dtype), dtype)


@pytest.mark.parametrize("op", ["CumSum", "CumProd"])
@pytest.mark.parametrize("exclusive,reverse", [(0, 0), (0, 1), (1, 0), (1, 1)])
def test_scan(op, exclusive, reverse):
    rng = np.random.default_rng(0)
    f, start = (np.cumsum, 0) if op == "CumSum" else (np.cumprod, 1)
    for dtype in FLOATS + [np.dtype(t) for t in ("int32", "int64", "uint32", "uint64")]:
        for shape, axis in (
            ((7,), 0),
            ((3, 4, 5), 1),
            ((3, 4, 5), -1),
            ((2, 100, 70), 1),
            ((0, 3), 0),
            ((2, 3, 0), 1),
        ):
            x = (
                rng.normal(0, 1.2, shape).astype(dtype)
                if dtype in FLOATS
                else rng.integers(0, 9, shape).astype(dtype)
            )
            w = np.float64 if dtype in FLOATS else dtype
            y = np.flip(x, axis) if reverse else x
            with np.errstate(all="ignore"):
                want = f(y.astype(w), axis=axis, dtype=w)
            if exclusive and x.shape[axis] > 0:
                want = np.roll(want, 1, axis)
                np.moveaxis(want, axis, 0)[0] = start
            want = np.flip(want, axis) if reverse else want
            got = run(op, [x, np.array(axis)], [onnx_type(dtype)], exclusive=exclusive, reverse=reverse)[0]
            if dtype in FLOATS:
                assert_close(got, want, dtype, 1.01)
            else:
                np.testing.assert_array_equal(got, want)


def test_scan_refuses_axes():
    for axis in (3, -4):
        with pytest.raises(Exception):
            run("CumSum", [np.zeros((1, 2, 3), np.float32), np.array(axis)], [TensorProto.FLOAT])


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
def test_det(dtype):
    rng = np.random.default_rng(0)
    for shape in ((1, 1), (2, 2), (5, 3, 3), (2, 0, 4, 4), (3, 6, 6)):
        x = rng.normal(0, 1, shape).astype(dtype)
        want = np.linalg.det(x.astype(np.float64))
        assert_close(run_one("Det", x), np.asarray(want), dtype, 40 if dtype == np.float64 else 1.5)
    assert run_one("Det", np.zeros((0, 0), dtype)).astype(float) == 1
    assert run_one("Det", np.array([[0, 1], [0, 2]], dtype)).astype(float) == 0
    with pytest.raises(Exception):
        run_one("Det", np.zeros((2, 3), dtype))


@pytest.mark.parametrize("seed", range(40))
def test_chains_in_shared_memory(seed):
    """Random graphs, in which outputs may be written over inputs, give what numpy gives step by step."""
    rng = np.random.default_rng(seed)
    unary = {
        "Relu": lambda x: np.maximum(x, 0),
        "Neg": np.negative,
        "Abs": np.abs,
        "Floor": np.floor,
        "Identity": np.copy,
    }
    binary = {"Add": np.add, "Sub": np.subtract, "Max": np.maximum, "Min": np.minimum, "Sum": np.add}
    shapes = [(6, 5, 40), (5, 40), (40,), (5, 1), (6, 1, 1), ()]
    arrays = {f"x{i}": rng.integers(-50, 50, shape).astype(np.float32) for i, shape in enumerate(shapes)}
    feeds, nodes = dict(arrays), []
    for step in range(25):
        names = list(arrays)[-8:]
        a, b, c = rng.choice(names, 3)
        out, kind = f"y{step}", rng.integers(4)
        if kind == 0:
            op = str(rng.choice(list(unary)))
            nodes.append(helper.make_node(op, [a], [out]))
            arrays[out] = unary[op](arrays[a])
        elif kind == 3:
            nodes.append(helper.make_node("Less", [a, b], [out + "c"]))
            nodes.append(helper.make_node("Where", [out + "c", c, a], [out]))
            arrays[out] = np.where(arrays[a] < arrays[b], arrays[c], arrays[a])
        else:
            op = str(rng.choice(list(binary)))
            nodes.append(helper.make_node(op, [a, b], [out]))
            arrays[out] = binary[op](arrays[a], arrays[b])
    wanted = [f"y{i}" for i in (24, 23, int(rng.integers(22)))]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info(n, 1, v.shape) for n, v in feeds.items()],
        [helper.make_tensor_value_info(n, 1, None) for n in wanted],
    )
    session = sx.InferenceSession(helper.make_model(graph).SerializeToString())
    for _ in range(2):
        for name, got in zip(wanted, session.run(None, feeds)):
            np.testing.assert_array_equal(got, arrays[name])


@pytest.mark.parametrize("op,count", [("Add", 2), ("Mul", 2), ("Relu", 1), ("Exp", 1), ("Max", 3)])
def test_results_do_not_depend_on_threads(op, count):
    xs = [np.random.default_rng(i).normal(0, 1, (513, 1031)).astype(np.float32) for i in range(count)]
    one = run(op, xs, [TensorProto.FLOAT], session={"threads": 1})[0]
    two = run(op, xs, [TensorProto.FLOAT], session={"threads": 2})[0]
    np.testing.assert_array_equal(one, two)
    np.testing.assert_allclose(one, reference(op, xs, [TensorProto.FLOAT])[0], rtol=1e-6)
