"""Operators that view, copy, make or select elements, against numpy."""

import ml_dtypes
import numpy as np
import onnx
import pytest

import sardonyx as sx
from node_models import NUMBERS, STORAGE_DTYPES, assert_same, random_array, random_shape, run, some_constants

SEEDS = range(60)


def i64(values):
    return np.array(values, dtype=np.int64)


def random_input(seed, lowest=0, highest=5, **kwargs):
    rng = np.random.default_rng(seed)
    dtype = STORAGE_DTYPES[seed % len(STORAGE_DTYPES)]
    return rng, random_array(rng, dtype, random_shape(rng, int(rng.integers(lowest, highest + 1)), **kwargs))


def opset(x, low=22, high=25):
    """bfloat16 came late to some operators."""
    return high if x.dtype == ml_dtypes.bfloat16 else low


def check(op, inputs, want, rng=None, **attributes):
    constants = some_constants(rng, inputs) if rng else ()
    got = run(op, inputs, outputs=len(want), constants=constants, **attributes)
    for g, w in zip(got, want, strict=True):
        assert_same(g, w)


@pytest.mark.parametrize("seed", SEEDS)
def test_transpose(seed):
    rng, x = random_input(seed, largest=9)
    if x.ndim:
        perm = [int(p) for p in rng.permutation(x.ndim)]
        check("Transpose", [x], [x.transpose(perm)], perm=perm)
    check("Transpose", [x], [x.T])


@pytest.mark.parametrize("dtype", ["uint8", "float16", "float32", "float64", "complex128"])
@pytest.mark.parametrize(
    "shape,perm",
    [
        ((130, 70), (1, 0)),
        ((2, 33, 65, 3), (0, 3, 1, 2)),
        ((2, 3, 65, 33), (0, 2, 3, 1)),
        ((5, 64, 4, 8), (0, 2, 1, 3)),
        ((3, 17, 19, 2), (2, 1, 0, 3)),
        ((40, 1, 41, 5), (3, 1, 2, 0)),
        ((7, 300), (1, 0)),
        ((300, 7), (1, 0)),
        ((2, 2, 2, 2, 2, 2, 2, 2), (7, 5, 3, 1, 0, 2, 4, 6)),
    ],
)
def test_transpose_sizes(dtype, shape, perm):
    x = np.random.default_rng(1).integers(0, 200, shape).astype(dtype)
    check("Transpose", [x], [x.transpose(perm)], perm=list(perm))


@pytest.mark.parametrize("seed", SEEDS)
def test_reshape(seed):
    rng, x = random_input(seed)
    cuts = list(rng.permutation([d for n in x.shape for d in ((n,) if n < 4 or n % 2 else (2, n // 2))]))
    wanted = [int(c) for c in cuts]
    if x.size and wanted and rng.random() < 0.5:
        wanted[int(rng.integers(len(wanted)))] = -1
    check("Reshape", [x, i64(wanted)], [x.reshape(wanted)], rng, allowzero=int(0 in wanted))


def test_reshape_rules():
    x = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
    check("Reshape", [x, i64([0, -1])], [x.reshape(2, 12)])
    check("Reshape", [x, i64([-1, 0, 2])], [x.reshape(4, 3, 2)])
    check("Reshape", [x[:1, :1, :1], i64([])], [np.float32(0).reshape(())])
    empty = np.zeros((0, 3, 4), np.float32)
    check("Reshape", [empty, i64([0, -1])], [empty.reshape(0, 12)])
    check("Reshape", [empty, i64([0, 7])], [np.zeros((0, 7), np.float32)], allowzero=1)
    check("Reshape", [empty, i64([5, -1])], [np.zeros((5, 0), np.float32)])
    for shape, allowzero in (
        ([5, 5], 0),
        ([-1, 5], 0),
        ([-1, -1], 0),
        ([-2, 12], 0),
        ([2, 3, 4, 0], 0),
        ([0, -1], 1),
        ([0, 24], 1),
    ):
        with pytest.raises(sx.Error):
            run("Reshape", [x, i64(shape)], allowzero=allowzero)


def test_views():
    x = np.arange(12, dtype=np.int16).reshape(1, 3, 1, 4)
    for axis in range(-4, 5):
        check("Flatten", [x], [x.reshape(int(np.prod(x.shape[:axis])) if axis else 1, -1)], axis=axis)
    check("Squeeze", [x], [x.reshape(3, 4)])
    check("Squeeze", [x, i64([-2, 0])], [x.reshape(3, 4)])
    check("Squeeze", [x, i64([0])], [x.reshape(3, 1, 4)])
    check("Unsqueeze", [x, i64([-1, 0, 3])], [x.reshape(1, 1, 3, 1, 1, 4, 1)], opset=21)
    check("Identity", [x], [x])
    for bad in ([1], [4], [-5], [0, 0], [0, -4]):
        with pytest.raises(sx.Error):
            run("Squeeze", [x, i64(bad)])
    for bad in ([0, 0], [5], [-6], [0, -6]):
        with pytest.raises(sx.Error):
            run("Unsqueeze", [x, i64(bad)])
    with pytest.raises(sx.Error):
        run("Flatten", [x], axis=5)


@pytest.mark.parametrize("seed", SEEDS)
def test_concat(seed):
    rng, x = random_input(seed, lowest=1)
    axis = int(rng.integers(-x.ndim, x.ndim))
    parts = [x]
    for _ in range(int(rng.integers(0, 4))):
        shape = list(x.shape)
        shape[axis] = int(rng.integers(0, 5))
        parts.append(random_array(rng, x.dtype, tuple(shape)))
    check("Concat", parts, [np.concatenate(parts, axis)], axis=axis)


def test_concat_large():
    parts = [np.random.default_rng(i).random((64, 100 + i, 70), np.float32) for i in range(3)]
    check("Concat", parts, [np.concatenate(parts, 1)], axis=1)
    parts = [np.random.default_rng(i).random((500 + i, 700), np.float32) for i in range(3)]
    check("Concat", parts, [np.concatenate(parts, 0)], axis=0)


@pytest.mark.parametrize("seed", SEEDS)
def test_split(seed):
    rng, x = random_input(seed, lowest=1, largest=9)
    axis = int(rng.integers(-x.ndim, x.ndim))
    dim = x.shape[axis]
    count = int(rng.integers(1, 5))
    cuts = sorted(int(c) for c in rng.integers(0, dim + 1, count - 1))
    sizes = np.diff([0, *cuts, dim])
    check("Split", [x, i64(sizes)], np.split(x, cuts, axis), rng, axis=axis)
    chunk = -(-dim // count)
    check("Split", [x], np.split(x, [min(chunk * i, dim) for i in range(1, count)], axis), axis=axis, num_outputs=count)


def test_split_errors():
    x = np.zeros((6, 2), np.float32)
    for sizes in ([3, 4], [7, -1], [6]):
        with pytest.raises(sx.Error):
            run("Split", [x, i64(sizes)], outputs=2)
    with pytest.raises(sx.Error):
        run("Split", [x, i64([2**62, 2**62, 2**62])], outputs=3)


def spec_slice(x, starts, ends, axes, steps):
    """The specification's rule, which clamps a start before a backward walk where numpy finds nothing."""
    index = [slice(None)] * x.ndim
    for start, end, axis, step in zip(starts, ends, axes, steps):
        n = x.shape[axis]
        start, end = start + n if start < 0 else start, end + n if end < 0 else end
        if step > 0:
            picked = range(min(max(start, 0), n), min(max(end, 0), n), step)
        else:
            picked = range(min(max(start, 0), n - 1), min(max(end, -1), n - 1), step) if n else range(0)
        index[axis % x.ndim] = i64(list(picked))
    for axis, picked in enumerate(index):
        if not isinstance(picked, slice):
            x = np.take(x, picked, axis)
    return x


@pytest.mark.parametrize("seed", range(150))
def test_slice(seed):
    rng, x = random_input(seed, lowest=1, largest=12)
    count = int(rng.integers(1, x.ndim + 1))
    axes = [int(a) - (x.ndim if rng.random() < 0.5 else 0) for a in rng.permutation(x.ndim)[:count]]
    edge = [-(2**63), -(2**63) + 1, -1000, 2**63 - 1, 1000, 2**31 - 1]
    pick = lambda: int(rng.choice(edge)) if rng.random() < 0.25 else int(rng.integers(-15, 15))
    starts, ends = [pick() for _ in axes], [pick() for _ in axes]
    steps = [s or 1 for s in (int(rng.choice(edge)) if rng.random() < 0.15 else int(rng.integers(-4, 5)) for _ in axes)]
    check("Slice", [x, i64(starts), i64(ends), i64(axes), i64(steps)], [spec_slice(x, starts, ends, axes, steps)], rng)


def test_slice_forms():
    x = np.arange(60, dtype=np.float32).reshape(3, 4, 5)
    check("Slice", [x, i64([1, 0]), i64([3, 2])], [x[1:3, :2]])
    check(
        "Slice",
        [x, np.array([-1], np.int32), np.array([-100], np.int32), np.array([2], np.int32), np.array([-2], np.int32)],
        [x[:, :, ::-2]],
    )
    for starts, ends, axes, steps in (
        ([0], [1], [0], [0]),
        ([0], [1], [3], [1]),
        ([0], [1], [-4], [1]),
        ([0, 0], [1, 1], [0, -3], [1, 1]),
        ([0, 0], [1], [0], [1]),
    ):
        with pytest.raises(sx.Error):
            run("Slice", [x, i64(starts), i64(ends), i64(axes), i64(steps)])


@pytest.mark.parametrize("seed", SEEDS)
def test_expand(seed):
    rng, x = random_input(seed, zero=0.03)
    thin = x[(*(slice(0, 1) if n and rng.random() < 0.5 else slice(None) for n in x.shape), ...)]
    extra = list(random_shape(rng, int(rng.integers(0, 3))))
    shape = extra + [1 if rng.random() < 0.3 else n for n in x.shape]
    want = np.broadcast_to(thin, np.broadcast_shapes(thin.shape, tuple(shape)))
    check("Expand", [thin, i64(shape)], [want], rng)


def test_expand_errors():
    x = np.zeros((3, 1), np.float32)
    for shape in ([2, 4], [-1, 3], [2**40, 3, 2**40]):
        with pytest.raises(sx.Error):
            run("Expand", [x, i64(shape)])


@pytest.mark.parametrize("seed", SEEDS)
def test_tile(seed):
    rng, x = random_input(seed, largest=5)
    repeats = [int(r) for r in rng.integers(0 if rng.random() < 0.2 else 1, 4, x.ndim)]
    check("Tile", [x, i64(repeats)], [np.tile(x, repeats).reshape([n * r for n, r in zip(x.shape, repeats)])], rng)


def test_tile_errors():
    x = np.zeros((3, 2), np.float32)
    for repeats in ([2], [2, -1], [2**62, 2**62]):
        with pytest.raises(sx.Error):
            run("Tile", [x, i64(repeats)])


@pytest.mark.parametrize("dtype", STORAGE_DTYPES, ids=str)
@pytest.mark.parametrize("mode", ["DCR", "CRD"])
def test_depth_and_space(dtype, mode):
    rng = np.random.default_rng(3)
    for b in (1, 2, 3):
        n, c, h, w = 2, 3, 4, 5
        x = random_array(rng, dtype, (n, c * b * b, h, w))
        if mode == "DCR":
            want = x.reshape(n, b, b, c, h, w).transpose(0, 3, 4, 1, 5, 2)
        else:
            want = x.reshape(n, c, b, b, h, w).transpose(0, 1, 4, 2, 5, 3)
        want = want.reshape(n, c, h * b, w * b)
        check("DepthToSpace", [x], [want], blocksize=b, mode=mode, opset=13)
        check("SpaceToDepth", [want], [x], blocksize=b, mode=mode, opset=28)
    for shape, block in (
        ((1, 5, 2, 2), 2),
        ((1, 4, 2, 2), 0),
        ((1, 4, 2, 2), -1),
        ((1, 4, 2), 2),
        ((1, 4, 2, 2), 2**32),
    ):
        with pytest.raises(sx.Error):
            run("DepthToSpace", [random_array(rng, dtype, shape)], blocksize=block, opset=13)


@pytest.mark.parametrize("seed", SEEDS)
def test_shape_and_size(seed):
    rng, x = random_input(seed)
    start, end = (int(v) for v in rng.integers(-7, 8, 2))
    check("Shape", [x], [i64(x.shape[start:end])], opset=opset(x), start=start, end=end)
    check("Shape", [x], [i64(x.shape)], opset=opset(x))
    check("Size", [x], [np.int64(x.size)], opset=opset(x))


@pytest.mark.parametrize("dtype", [d for d in STORAGE_DTYPES if d.kind not in "cO"], ids=str)
def test_constant_of_shape(dtype):
    value = random_array(np.random.default_rng(5), dtype, (1,))
    for shape in ([], [3], [2, 0, 4], [300, 70]):
        proto = onnx.numpy_helper.from_array(value, "value")
        check("ConstantOfShape", [i64(shape)], [np.full(shape, value[0], dtype)], value=proto)
    check("ConstantOfShape", [i64([2, 2])], [np.zeros((2, 2), np.float32)])
    for shape in ([-1], [2**40, 2**40]):
        with pytest.raises(sx.Error):
            run("ConstantOfShape", [i64(shape)])


@pytest.mark.parametrize("dtype", ["float32", "float64", "int16", "int32", "int64"])
def test_range(dtype):
    for start, limit, delta in ((0, 10, 1), (10, 0, -3), (5, 5, 1), (5, 0, 1), (-3, 20, 7), (0, 10000, 3)):
        args = [np.array(v, dtype) for v in (start, limit, delta)]
        check("Range", args, [np.arange(start, limit, delta).astype(dtype)])
    if np.dtype(dtype).kind == "f":
        check("Range", [np.array(v, dtype) for v in (0.5, 2, 0.25)], [np.arange(0.5, 2, 0.25).astype(dtype)])
        for bad in ((0, np.inf, 1), (0, np.nan, 1), (0, 1, 0), (0, 1e300 if dtype == "float64" else 1e38, 1e-30)):
            with pytest.raises(sx.Error):
                run("Range", [np.array(v, dtype) for v in bad])
    else:
        info = np.iinfo(dtype)
        check(
            "Range",
            [np.array(v, dtype) for v in (info.min, info.max, info.max)],
            [np.array([info.min, -1, info.max - 1], dtype)],
        )
        with pytest.raises(sx.Error):
            run("Range", [np.array(v, dtype) for v in (0, 1, 0)])
    if dtype == "int64":
        with pytest.raises(sx.Error):
            run("Range", [i64(v) for v in (-(2**63), 2**63 - 1, 1)])


def test_eye_like():
    for dtype in [*NUMBERS, np.dtype(bool), np.dtype(ml_dtypes.bfloat16)]:
        x = np.zeros((3, 5), dtype)
        for k in (0, 1, -2, 4, 5, -3, 2**62, -(2**62), -(2**63)):
            want = np.zeros((3, 5), np.float32)
            if abs(k) < 6:
                want = np.eye(3, 5, k)
            check("EyeLike", [x], [want.astype(dtype)], k=k)
    check("EyeLike", [np.zeros((0, 4), np.float32)], [np.zeros((0, 4), np.int8)], dtype=onnx.TensorProto.INT8)
    with pytest.raises(sx.Error):
        run("EyeLike", [np.zeros((2, 2, 2), np.float32)])


@pytest.mark.parametrize("seed", SEEDS)
def test_trilu(seed):
    rng, x = random_input(seed, lowest=2)
    for upper in (0, 1):
        for k in (None, 0, int(rng.integers(-8, 8)), 2**63 - 1, -(2**63)):
            keep = np.ones(x.shape[-2:], bool)
            step = 0 if k is None else int(np.clip(k, -20, 20))
            keep = np.triu(keep, step) if upper else np.tril(keep, step)
            zero = "" if x.dtype == object else np.zeros((), x.dtype)
            want = np.where(np.broadcast_to(keep, x.shape), x, zero).astype(x.dtype)
            check("Trilu", [x] if k is None else [x, np.array(k, np.int64)], [want], rng, upper=upper)


@pytest.mark.parametrize("seed", SEEDS)
def test_center_crop_pad(seed):
    rng, x = random_input(seed, lowest=1)
    axes = [int(a) for a in rng.permutation(x.ndim)[: int(rng.integers(1, x.ndim + 1))]]
    sizes = [int(s) for s in rng.integers(0, 10, len(axes))]
    want = x
    for axis, size in zip(axes, sizes):
        n = want.shape[axis]
        if size <= n:
            want = np.take(want, range((n - size) // 2, (n - size) // 2 + size), axis)
        else:
            shape = list(want.shape)
            shape[axis] = size
            padded = np.full(shape, "" if x.dtype == object else 0, x.dtype)
            index = [slice(None)] * x.ndim
            index[axis] = slice((size - n) // 2, (size - n) // 2 + n)
            padded[tuple(index)] = want
            want = padded
    check("CenterCropPad", [x, i64(sizes)], [want], rng, axes=axes)


@pytest.mark.parametrize("seed", SEEDS)
def test_reverse_sequence(seed):
    rng, x = random_input(seed, lowest=2)
    time = int(rng.integers(0, 2))
    lengths = rng.integers(0, x.shape[time] + 1, x.shape[1 - time])
    want = x.copy()
    for b, n in enumerate(lengths):
        line = (slice(0, n), b) if time == 0 else (b, slice(0, n))
        want[line] = x[line][::-1]
    check("ReverseSequence", [x, i64(lengths)], [want], rng, time_axis=time, batch_axis=1 - time)


def test_reverse_sequence_errors():
    x = np.zeros((3, 2), np.float32)
    for lengths in ([4, 0], [-1, 0], [1]):
        with pytest.raises(sx.Error):
            run("ReverseSequence", [x, i64(lengths)])
    with pytest.raises(sx.Error):
        run("ReverseSequence", [x, i64([1, 1])], time_axis=0, batch_axis=0)


@pytest.mark.parametrize("seed", SEEDS)
def test_compress(seed):
    rng, x = random_input(seed, lowest=1)
    axis = int(rng.integers(-x.ndim, x.ndim))
    condition = rng.random(int(rng.integers(0, x.shape[axis] + 1))) < 0.5
    check("Compress", [x, condition], [np.compress(condition, x, axis)], rng, axis=axis)
    condition = rng.random(int(rng.integers(0, x.size + 1))) < 0.5
    check("Compress", [x, condition], [np.compress(condition, x)], rng)


def test_compress_errors():
    with pytest.raises(sx.Error):
        run("Compress", [np.zeros((2, 2), np.float32), np.array([False, False, True])], axis=0)
    with pytest.raises(sx.Error):
        run("Compress", [np.zeros((2, 2), np.float32), np.array([[True]])], axis=0)


@pytest.mark.parametrize("seed", SEEDS)
def test_non_zero(seed):
    rng, x = random_input(seed, lowest=1)
    if x.dtype != object:
        x = x * (rng.random(x.shape) < 0.6).astype(x.dtype)
        zero = x == 0
    else:
        x[rng.random(x.shape) < 0.5] = ""
        zero = x == ""
    check("NonZero", [x], [i64(np.argwhere(~zero)).T.reshape(x.ndim, -1)])


def test_non_zero_special():
    check("NonZero", [np.array([0.0, -0.0, np.nan, np.inf, 1e-45], np.float32)], [i64([[2, 3, 4]])])
    check("NonZero", [np.array([0, -0.0, 6e-8], np.float16)], [i64([[2]])])
    check("NonZero", [np.array(3, np.int32)], [np.zeros((0, 1), np.int64)])
    big = np.random.default_rng(0).random((300, 500)) < 0.1
    check("NonZero", [big], [np.argwhere(big).T])


@pytest.mark.parametrize(
    "name", ["float8_e4m3fn", "float8_e5m2", "float8_e8m0fnu", "float4_e2m1fn", "int4", "uint4", "int2"]
)
def test_narrow_types(name):
    dtype = np.dtype(getattr(ml_dtypes, name))
    x = np.random.default_rng(1).integers(0, 2, (3, 4, 5)).astype(np.float32).astype(dtype)  # 0 is NaN in e8m0

    def equal(got, want):
        return got.dtype == dtype and np.array_equal(got.astype(np.float32), want.astype(np.float32), equal_nan=True)

    assert equal(run("Transpose", [x], opset=25, perm=[2, 0, 1])[0], x.transpose(2, 0, 1))
    assert equal(run("Reshape", [x, i64([4, -1])], opset=25)[0], x.reshape(4, 15))
    assert equal(run("Unsqueeze", [x, i64([0])], opset=25)[0], x[None])
    assert equal(run("Identity", [x], opset=25)[0], x)
    if name not in ("float8_e8m0fnu",):
        assert equal(
            run("Pad", [x, i64([1, 0, 0, 0, 0, 2])], opset=25, mode="edge")[0],
            np.pad(x, [(1, 0), (0, 0), (0, 2)], "edge"),
        )
    assert run("Shape", [x], opset=25)[0].tolist() == [3, 4, 5]


def test_bad_attributes():
    x = np.zeros((2, 3), np.float32)
    for perm in ([0], [0, 0], [0, 2], [0, -1], [0, 1, 2]):
        with pytest.raises(sx.Error):
            run("Transpose", [x], perm=perm)
    for parts, axis in (([x, x], 2), ([x, x], -3), ([x, x[:1]], 1), ([x, x[0]], 0), ([x, x.astype(np.float64)], 0)):
        with pytest.raises(sx.Error):
            run("Concat", parts, axis=axis)
    with pytest.raises(sx.Error):
        run("Concat", [x])
    with pytest.raises(sx.Error):
        run("Trilu", [x[0]])
