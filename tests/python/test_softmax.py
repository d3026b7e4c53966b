"""Softmax and LogSoftmax against f64 numpy: every axis, dtype, infinities, empty dimensions."""

import numpy as np
import pytest

import sardonyx as sx
from nodes import BF16, assert_close, run

TOLERANCE = {np.dtype("float32"): 1e-6, np.dtype("float64"): 1e-14, np.dtype("float16"): 1e-3, BF16: 8e-3}
dtypes = pytest.mark.parametrize("dtype", TOLERANCE, ids=str)


def expected(x, axis, log):
    x = x.astype(np.float64)
    with np.errstate(all="ignore"):
        shifted = x - x.max(axis, keepdims=True)
        total = np.exp(shifted).sum(axis, keepdims=True)
        return shifted - np.log(total) if log else np.exp(shifted) / total


@dtypes
@pytest.mark.parametrize("op", ["Softmax", "LogSoftmax"])
def test_axes(op, dtype):
    rng = np.random.default_rng(0)
    for shape in [
        (7,),
        (1, 1),
        (3, 5),
        (2, 16),
        (4, 33),
        (2, 3, 65),
        (3, 9, 4),
        (2, 130, 70),
        (2, 3, 4, 5),
        (1, 1000),
    ]:
        x = rng.normal(0, 4, shape).astype(dtype)
        for axis in range(-len(shape), len(shape)):
            got = run(op, [x], [dtype], axis=axis)[0]
            assert got.dtype == dtype
            assert_close(
                got,
                expected(x, axis, op == "LogSoftmax"),
                TOLERANCE[dtype] * (4 if op == "LogSoftmax" else 1),
            )


@dtypes
@pytest.mark.parametrize("op", ["Softmax", "LogSoftmax"])
def test_special_values(op, dtype):
    rows = [
        [1, np.inf, 2],
        [np.inf, np.inf, 0],
        [-np.inf, -np.inf, -np.inf],
        [np.nan, 1, 2],
        [3, -np.inf, 1],
        [1e4, 1e4, -1e4],
    ]
    for wide in (1, 20):
        x = np.array(rows).repeat(wide, 1).astype(dtype)
        want = expected(x, 1, op == "LogSoftmax")
        assert_close(run(op, [x], [dtype], axis=1)[0], want, 1e-2)
        assert_close(run(op, [x.T.copy()], [dtype], axis=0)[0], want.T, 1e-2)


@pytest.mark.parametrize("op", ["Softmax", "LogSoftmax"])
def test_empty(op):
    for shape in [(0, 3), (3, 0), (2, 0, 4)]:
        for axis in range(len(shape)):
            assert run(op, [np.zeros(shape, np.float32)], [np.float32], axis=axis)[0].shape == shape


@pytest.mark.parametrize("axis", [2, -3])
def test_bad_axis(axis):
    with pytest.raises(sx.Error):
        run("Softmax", [np.ones((2, 3), np.float32)], [np.float32], axis=axis)
