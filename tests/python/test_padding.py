"""Pad in its modes, against numpy."""

import numpy as np
import pytest

import sardonyx as sx
from node_models import STORAGE_DTYPES, assert_same, random_array, random_shape, run, run_ort, some_constants


def i64(values):
    return np.array(values, dtype=np.int64)


def source(o, before, n, mode):
    """The element of an axis of n that output position o shows, None for the constant."""
    i = o - before
    if 0 <= i < n:
        return i
    if mode == "constant":
        return None
    if mode == "edge":
        return min(max(i, 0), n - 1)
    if mode == "wrap":
        return i % n
    period = max(2 * (n - 1), 1)
    return min(i % period, period - i % period) if n > 1 else 0


def pad_axis(x, axis, before, after, mode, value):
    if mode != "constant":  # negative pads crop first
        index = [slice(None)] * x.ndim
        index[axis] = slice(max(-before, 0), x.shape[axis] + min(after, 0))
        x = x[tuple(index)]
        before, after = max(before, 0), max(after, 0)
    n = x.shape[axis]
    picked = [source(o, before, n, mode) for o in range(n + before + after)]
    lines = [np.full_like(np.take(x, [0], axis), value) if p is None else np.take(x, [p], axis) for p in picked]
    if not lines:
        return np.take(x, [], axis)
    return np.concatenate(lines, axis)


@pytest.mark.parametrize("mode", ["constant", "reflect", "edge", "wrap"])
@pytest.mark.parametrize("seed", range(60))
def test_pad(seed, mode):
    rng = np.random.default_rng(seed)
    dtype = STORAGE_DTYPES[seed % len(STORAGE_DTYPES)]
    x = random_array(rng, dtype, random_shape(rng, int(rng.integers(1, 5)), zero=0, largest=6))
    axes = [int(a) for a in rng.permutation(x.ndim)[: int(rng.integers(1, x.ndim + 1))]]
    far = rng.random() < 0.3
    pads = [[int(p) for p in rng.integers(-2 if x.shape[a] > 4 else 0, 15 if far else 4, 2)] for a in axes]
    value = random_array(rng, dtype, ()) if mode == "constant" and rng.random() < 0.7 else None
    want = x
    for axis, (before, after) in zip(axes, pads):
        constant = ("" if x.dtype == object else 0) if value is None else value.item() if x.dtype == object else value
        want = pad_axis(want, axis, before, after, mode, constant)
    negative = rng.random() < 0.5
    operands = [
        x,
        i64([b for b, _ in pads] + [a for _, a in pads]),
        value,
        i64([a - x.ndim if negative else a for a in axes]),
    ]
    constants = [i for i in some_constants(rng, operands) if operands[i] is not None]
    got = run(
        "Pad",
        operands,
        mode=mode,
        constants=constants,
        opset=25 if x.dtype.name == "bfloat16" or mode == "wrap" else 21,
    )
    assert_same(got[0], want)


def test_pad_of_nothing():
    x = np.zeros((0, 3), np.float32)
    assert_same(run("Pad", [x, i64([2, 1, 1, 0])])[0], np.zeros((3, 4), np.float32))
    assert_same(run("Pad", [x, i64([0, 1, 0, 1])], mode="edge")[0], np.zeros((0, 5), np.float32))
    for mode in ("edge", "reflect", "wrap"):
        with pytest.raises(sx.Error):
            run("Pad", [x, i64([1, 0, 0, 0])], mode=mode, opset=21)


def test_pad_large_matches_onnxruntime():
    x = np.random.default_rng(0).random((2, 16, 60, 70), np.float32)
    for mode in ("constant", "reflect", "edge"):
        inputs = [x, i64([0, 0, 3, 3, 0, 0, 3, 3])]
        assert_same(run("Pad", inputs, mode=mode)[0], run_ort("Pad", inputs, mode=mode)[0])


@pytest.mark.parametrize("pads", [[-4, 0], [0, -4], [-2, -2], [2**62, 2**62], [-(2**63), 2**63 - 1], [2**40, 2**61]])
@pytest.mark.parametrize("mode", ["constant", "edge"])
def test_pad_errors(pads, mode):
    with pytest.raises(sx.Error):
        run("Pad", [np.zeros(3, np.float32), i64(pads)], mode=mode)


def test_pad_bad_operands():
    x = np.zeros((3, 3), np.float32)
    for operands, attributes in (
        ([x, i64([1, 1])], {}),
        ([x, i64([1, 1]), None, i64([2])], {}),
        ([x, i64([1, 1, 1, 1]), None, i64([0, -2])], {}),
        ([x, i64([1, 1, 1, 1])], {"mode": "mirror"}),
        ([x, i64([1, 1, 1, 1]), np.zeros(2, np.float32)], {}),
    ):
        with pytest.raises(sx.Error):
            run("Pad", operands, opset=21, **attributes)
