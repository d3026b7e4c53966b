"""Reductions against numpy: every dtype, every place of the axes, empty sets, NaN and infinity, long sums."""

import itertools

import numpy as np
import pytest

import sardonyx as sx
from nodes import BF16, assert_close, run

FLOATS = [np.dtype(t) for t in ("float32", "float64", "float16")] + [BF16]
INTS = [np.dtype(t) for t in ("int32", "int64", "uint32", "uint64")]
TOLERANCE = {np.dtype("float32"): 1e-6, np.dtype("float64"): 1e-13, np.dtype("float16"): 2e-3, BF16: 2e-2}
OPS = [
    "ReduceSum",
    "ReduceMean",
    "ReduceMax",
    "ReduceMin",
    "ReduceProd",
    "ReduceL1",
    "ReduceL2",
    "ReduceSumSquare",
    "ReduceLogSum",
    "ReduceLogSumExp",
]


@pytest.fixture(autouse=True)
def quiet():
    with np.errstate(all="ignore"):
        yield


def expected(op, x, axes, keepdims):
    axes = None if axes is None else tuple(axes)
    if x.dtype.kind not in "iu":
        x = x.astype(np.float64)
    f = {
        "ReduceSum": lambda: np.sum(x, axes, x.dtype, keepdims=keepdims),
        "ReduceMean": lambda: np.mean(x, axes, keepdims=keepdims),
        "ReduceMax": lambda: np.max(x, axes, keepdims=keepdims),
        "ReduceMin": lambda: np.min(x, axes, keepdims=keepdims),
        "ReduceProd": lambda: np.prod(x, axes, x.dtype, keepdims=keepdims),
        "ReduceL1": lambda: np.sum(np.abs(x), axes, x.dtype, keepdims=keepdims),
        "ReduceL2": lambda: np.sqrt(np.sum(np.square(x), axes, keepdims=keepdims)),
        "ReduceSumSquare": lambda: np.sum(np.square(x), axes, x.dtype, keepdims=keepdims),
        "ReduceLogSum": lambda: np.log(np.sum(x, axes, keepdims=keepdims)),
        "ReduceLogSumExp": lambda: np.log(np.sum(np.exp(x), axes, keepdims=keepdims)),
    }
    return f[op]()


def reduce(op, x, axes, keepdims=1, **attributes):
    inputs = [x] if axes is None else [x, np.array(axes, np.int64)]
    return run(
        op, inputs, [x.dtype], constants=() if axes is None else (1,), keepdims=keepdims, **attributes
    )[0]


SHAPES = [
    ((5, 7, 33), [(0,), (1,), (2,), (0, 1), (0, 2), (1, 2), (0, 1, 2), (-1,), (-3, -1)]),
    ((1, 600), [(0,), (1,), (0, 1)]),
    ((300, 3), [(0,), (1,)]),
    ((2, 3, 4, 5), [(0, 2), (1, 3), (0, 3), (1, 2), (0, 1, 3), (3,)]),
    ((130,), [(0,)]),
    ((3, 1100, 2), [(1,), (0, 1)]),
    ((4, 700), [(0,)]),
    ((), [()]),
]


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
@pytest.mark.parametrize("op", OPS)
def test_floats(op, dtype):
    rng = np.random.default_rng(0)
    for shape, all_axes in SHAPES:
        x = rng.uniform(0.9, 1.1, shape) if op == "ReduceProd" else rng.normal(2, 1, shape)
        if op == "ReduceLogSum":
            x = np.abs(x)
        x = np.asarray(x).astype(dtype)
        for axes, keepdims in itertools.product([None] + all_axes, (0, 1)):
            if axes == ():
                continue
            want = expected(op, x, axes, bool(keepdims))
            got = reduce(op, x, axes, keepdims)
            assert got.dtype == dtype
            assert_close(got, want, TOLERANCE[dtype] * (10 if op == "ReduceProd" else 1))


@pytest.mark.parametrize("dtype", INTS, ids=str)
@pytest.mark.parametrize("op", OPS[:8])
def test_ints(op, dtype):
    rng = np.random.default_rng(1)
    x = rng.integers(0 if dtype.kind == "u" else -9, 9, (6, 5, 7)).astype(dtype)
    if op == "ReduceProd":
        x = np.clip(x, 1, 2).astype(dtype)
    for axes in [None, (0,), (1,), (2,), (0, 2), (1, 2)]:
        got = reduce(op, x, axes, 0)
        want = expected(op, x.astype(np.int64), axes, False)
        np.testing.assert_array_equal(got, np.trunc(want).astype(dtype))


@pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.bool_])
@pytest.mark.parametrize("op", ["ReduceMax", "ReduceMin"])
def test_small_ints_and_bool(op, dtype):
    x = np.random.default_rng(2).integers(0, 2 if dtype is np.bool_ else 100, (9, 40)).astype(dtype)
    for axes in [None, (0,), (1,)]:
        want = (np.max if op == "ReduceMax" else np.min)(x, axes)
        np.testing.assert_array_equal(reduce(op, x, axes, 0), want)


def test_integers_wrap():
    x = np.array([2**31 - 1, 1], np.int32)
    assert reduce("ReduceSum", x, (0,), 0) == np.int32(-(2**31))
    # The mean itself fits.
    assert reduce("ReduceMean", np.array([2**31 - 1, 2**31 - 1], np.int32), (0,), 0) == 2**31 - 1


@pytest.mark.parametrize("dtype", FLOATS + INTS, ids=str)
def test_empty_sets(dtype):
    x = np.zeros((2, 0, 3), dtype)
    want = {"ReduceSum": 0, "ReduceProd": 1, "ReduceL1": 0, "ReduceL2": 0, "ReduceSumSquare": 0}
    if dtype in FLOATS:
        want |= {
            "ReduceMax": -np.inf,
            "ReduceMin": np.inf,
            "ReduceLogSum": -np.inf,
            "ReduceLogSumExp": -np.inf,
            "ReduceMean": np.nan,
        }
    else:
        want |= {"ReduceMax": np.iinfo(dtype).min, "ReduceMin": np.iinfo(dtype).max}
    for op, value in want.items():
        np.testing.assert_array_equal(
            reduce(op, x, (1,), 0).astype(np.float64), np.full((2, 3), value, np.float64)
        )
        assert reduce(op, x, (0,), 0).shape == (0, 3)


def test_empty_set_of_bool():
    x = np.zeros((0, 2), np.bool_)
    assert not reduce("ReduceMax", x, (0,), 0).any()
    assert reduce("ReduceMin", x, (0,), 0).all()


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
@pytest.mark.parametrize("op", OPS)
def test_nan_and_infinity(op, dtype):
    for n in (1, 5, 16, 40, 200):
        for special in ([np.nan], [np.inf], [-np.inf], [np.inf, -np.inf], [np.nan, np.inf]):
            for place in (0, n // 2, max(n - 2, 0)):
                x = np.linspace(0.5, 1.5, n).astype(dtype)
                x[place : place + len(special)] = special[: len(x[place : place + len(special)])]
                for view, axes in (
                    (x, (0,)),
                    (x[:, None].repeat(3, 1), (0,)),
                    (x[:, None].repeat(40, 1), (0,)),
                ):
                    assert_close(
                        reduce(op, view, axes, 0), expected_special(op, view, axes), TOLERANCE[dtype] * 4
                    )


def expected_special(op, x, axes):
    if op != "ReduceLogSumExp":
        return expected(op, x, axes, False)
    top = np.max(x.astype(np.float64), axes)
    return np.where(np.isfinite(top), expected(op, x, axes, False), top)


@pytest.mark.parametrize("op", OPS)
def test_noop_with_empty_axes(op):
    x = np.array([[0.5, -2.0], [3.0, 1.0]], np.float32)
    want = {
        "ReduceL1": np.abs(x),
        "ReduceL2": np.abs(x),
        "ReduceSumSquare": x * x,
        "ReduceLogSum": np.log(x),
    }.get(op, x)
    for axes in (None, ()):
        assert_close(reduce(op, x, axes, noop_with_empty_axes=1), want, 1e-6)


def test_log_sum_exp_of_large_numbers():
    x = np.array([[1000.0, 1000.0], [-1000.0, -1000.0]], np.float32)
    np.testing.assert_allclose(
        reduce("ReduceLogSumExp", x, (1,), 0), [1000 + np.log(2), -1000 + np.log(2)], rtol=1e-6
    )
    np.testing.assert_allclose(
        reduce("ReduceLogSumExp", x.T.copy(), (0,), 0), [1000 + np.log(2), -1000 + np.log(2)], rtol=1e-6
    )


@pytest.mark.parametrize(
    "shape,axis", [((3_000_000,), 0), ((2, 1_500_000), 1), ((400_000, 7), 0), ((200_000, 3, 2), 0)]
)
def test_long_sums_keep_their_precision(shape, axis):
    x = (np.random.default_rng(3).uniform(0, 1, shape) + 100).astype(np.float32)
    want = np.sum(x, axis, np.float64)
    np.testing.assert_allclose(reduce("ReduceSum", x, (axis,), 0), want, rtol=1e-7)


def test_axes_as_a_feed_change_the_shape():
    x = np.ones((2, 3, 4), np.float32)
    for axes in ((0,), (1, 2), (-1,)):
        got = run("ReduceSum", [x, np.array(axes, np.int64)], [np.float32], keepdims=0)[0]
        np.testing.assert_array_equal(got, x.sum(axes))


@pytest.mark.parametrize("axes", [(3,), (-4,), (2**40,)])
def test_bad_axes(axes):
    with pytest.raises(sx.Error):
        reduce("ReduceSum", np.ones((2, 3, 4), np.float32), axes)
