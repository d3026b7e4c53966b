"""Normalizations against numpy in f64, onnxruntime and onnx.reference, on random configurations."""

import ml_dtypes
import numpy as np
import onnx
import pytest

import oracle
import sardonyx as sx
from oracle import assert_close, check, model, ort, ours, reference

FLOATS = [np.float32, np.float64, np.float16, ml_dtypes.bfloat16]


def single(value):
    """A float attribute as a file holds it."""
    return float(np.float32(value))


def f64(value):
    return value.astype(np.float64)


def normal(rng, dims, dtype):
    return (rng.standard_normal(dims) * 2 + 0.5).astype(dtype)


def column(vector, rank):
    return f64(vector).reshape(-1, *[1] * (rank - 2))


def batch_norm(x, scale, bias, mean, variance, epsilon):
    if x.ndim == 1:
        return (f64(x) - f64(mean)) / np.sqrt(f64(variance) + single(epsilon)) * f64(scale) + f64(bias)
    c = lambda v: column(v, x.ndim)
    return (f64(x) - c(mean)) / np.sqrt(c(variance) + single(epsilon)) * c(scale) + c(bias)


SHAPES = [(4, 3, 8, 9), (1, 70, 5), (130, 65), (3, 2, 2, 2, 3), (2, 5, 1, 1), (300, 3), (2, 3, 64, 63)]


@pytest.mark.parametrize("dims", SHAPES)
@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("parameters", [None, np.float32])
def test_batch_normalization(dims, dtype, parameters):
    rng = np.random.default_rng(0)
    c = dims[1]
    p = parameters or dtype
    feeds = dict(x=normal(rng, dims, dtype), s=normal(rng, c, p), b=normal(rng, c, p), m=normal(rng, c, p), v=rng.random(c).astype(p))
    want = batch_norm(*feeds.values(), epsilon=1e-3).astype(dtype)
    check("BatchNormalization", feeds, [want], epsilon=1e-3, constants=("s", "b", "m", "v"))


@pytest.mark.parametrize("dims", SHAPES)
@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("parameters", [None, np.float32])
def test_batch_normalization_training(dims, dtype, parameters):
    rng = np.random.default_rng(1)
    c = dims[1]
    p = parameters or dtype
    feeds = dict(x=normal(rng, dims, dtype), s=normal(rng, c, p), b=normal(rng, c, p), m=normal(rng, c, p), v=rng.random(c).astype(p))
    axes = (0, *range(2, len(dims)))
    mean, variance = f64(feeds["x"]).mean(axes), f64(feeds["x"]).var(axes)
    want = [batch_norm(feeds["x"], feeds["s"], feeds["b"], mean, variance, 1e-5).astype(dtype),
            (f64(feeds["m"]) * single(0.8) + mean * (1 - single(0.8))).astype(p), (f64(feeds["v"]) * single(0.8) + variance * (1 - single(0.8))).astype(p)]
    check("BatchNormalization", feeds, want, outputs=3, training_mode=1, momentum=0.8, tolerance=None if dtype != np.float32 else 5e-5)


def test_batch_normalization_one_dimension():
    rng = np.random.default_rng(2)
    feeds = dict(x=normal(rng, 9, np.float32), s=normal(rng, 1, np.float32), b=normal(rng, 1, np.float32),
                 m=normal(rng, 1, np.float32), v=np.ones(1, np.float32))
    check("BatchNormalization", feeds, [batch_norm(*feeds.values(), epsilon=1e-5).astype(np.float32)])


def layer_norm(x, scale, bias, axis, epsilon):
    axes = tuple(range(axis % x.ndim, x.ndim))
    mean = f64(x).mean(axes, keepdims=True)
    inverse = 1 / np.sqrt(f64(x).var(axes, keepdims=True) + single(epsilon))
    y = (f64(x) - mean) * inverse * f64(scale)
    return y if bias is None else y + f64(bias), mean, inverse


@pytest.mark.parametrize("seed", range(60))
@pytest.mark.parametrize("dtype", FLOATS)
def test_layer_normalization(seed, dtype):
    rng = np.random.default_rng(seed)
    dims = [int(d) for d in rng.choice([1, 3, 8, 17, 70], int(rng.integers(1, 5)))]
    axis = int(rng.integers(-len(dims), len(dims)))
    normalized = dims[axis % len(dims):]
    kind = rng.choice(["plain", "plain", "scalar", "full", "partial"])
    shape = dict(plain=normalized, scalar=[1], full=dims, partial=[1 if rng.random() < 0.5 else d for d in normalized])[kind]
    feeds = dict(x=normal(rng, dims, dtype), s=normal(rng, shape, dtype), b=normal(rng, shape, dtype) if seed % 3 else None)
    y, mean, inverse = layer_norm(feeds["x"], feeds["s"], feeds["b"], axis, 1e-5)
    wants = seed % 4
    want = [y.astype(dtype), mean.astype(np.float32), inverse.astype(np.float32)][:1 + min(wants, 2)]
    # One element has no deviation: what is left is noise around the bias.
    check("LayerNormalization", feeds, want, outputs=len(want), axis=axis, epsilon=1e-5, constants=("s", "b") if seed % 2 else (),
          tolerance=1e-4 if dtype == np.float32 else 1e-6 if dtype == np.float64 else None)


def test_layer_normalization_bfloat16_statistics():
    x = np.random.default_rng(0).standard_normal([5, 16]).astype(ml_dtypes.bfloat16)
    s = np.ones(16, ml_dtypes.bfloat16)
    _, mean, inverse = layer_norm(x, s, None, -1, 1e-5)
    for options in oracle.kernels():
        got = ours(model("LayerNormalization", dict(x=x, s=s), 3, stash_type=16), dict(x=x, s=s), **options)
        assert_close(got[1], mean.astype(ml_dtypes.bfloat16))
        assert_close(got[2], inverse.astype(ml_dtypes.bfloat16))


@pytest.mark.parametrize("seed", range(12))
def test_layer_normalization_ort(seed):
    rng = np.random.default_rng(seed)
    dims = [int(d) for d in rng.choice([2, 5, 33], 3)]
    axis = int(rng.integers(-3, 3))
    feeds = dict(x=normal(rng, dims, np.float32), s=normal(rng, dims[axis % 3:], np.float32), b=normal(rng, dims[axis % 3:], np.float32))
    check("LayerNormalization", feeds, ort, outputs=3, axis=axis, opset=17, tolerance=1e-4)


@pytest.mark.parametrize("op", ["LayerNormalization", "InstanceNormalization", "GroupNormalization", "BatchNormalization"])
def test_far_from_zero(op):
    """A variance taken as E[x^2] - E[x]^2 would be noise here."""
    rng = np.random.default_rng(0)
    x = (rng.standard_normal([3, 4, 500]) + 4096).astype(np.float32)
    c = 500 if op == "LayerNormalization" else 4
    feeds = dict(x=x, s=np.ones(c, np.float32), b=np.zeros(c, np.float32))
    attributes = dict(num_groups=2) if op == "GroupNormalization" else {}
    if op == "LayerNormalization":
        want = layer_norm(x, feeds["s"], feeds["b"], -1, 1e-5)[0]
    elif op == "BatchNormalization":
        feeds.update(m=np.zeros(4, np.float32), v=np.ones(4, np.float32))
        want = (f64(x) - f64(x).mean((0, 2), keepdims=True)) / np.sqrt(f64(x).var((0, 2), keepdims=True) + single(1e-5))
        got = ours(model(op, feeds, 3, training_mode=1), feeds)[0]
        return assert_close(got, want.astype(np.float32), 1e-3)
    else:
        g = f64(x).reshape(3, 2 if attributes else 4, -1)
        want = ((g - g.mean(-1, keepdims=True)) / np.sqrt(g.var(-1, keepdims=True) + single(1e-5))).reshape(x.shape)
    check(op, feeds, [want.astype(np.float32)], tolerance=1e-3, **attributes)


@pytest.mark.parametrize("x_dtype,s_dtype", [(a, b) for a in FLOATS for b in FLOATS])
def test_rms_normalization(x_dtype, s_dtype):
    rng = np.random.default_rng(3)
    for dims, axis in (((4, 33), -1), ((2, 3, 5), 1), ((7,), 0), ((2, 1, 300), 2)):
        feeds = dict(x=normal(rng, dims, x_dtype), s=normal(rng, dims[axis:], s_dtype))
        axes = tuple(range(axis % len(dims), len(dims)))
        y = f64(feeds["x"]) / np.sqrt((f64(feeds["x"]) ** 2).mean(axes, keepdims=True) + single(1e-6)) * f64(feeds["s"])
        check("RMSNormalization", feeds, [y.astype(s_dtype)], opset=23, axis=axis, epsilon=1e-6)


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("dims", [(2, 3, 5, 7), (1, 8, 40), (3, 2, 1), (2, 2, 4, 4, 4), (2, 3, 64, 65)])
def test_instance_normalization(dims, dtype):
    rng = np.random.default_rng(4)
    feeds = dict(x=normal(rng, dims, dtype), s=normal(rng, dims[1], dtype), b=normal(rng, dims[1], dtype))
    x, axes = f64(feeds["x"]), tuple(range(2, len(dims)))
    y = (x - x.mean(axes, keepdims=True)) / np.sqrt(x.var(axes, keepdims=True) + single(1e-3))
    y = y * column(feeds["s"], len(dims)) + column(feeds["b"], len(dims))
    check("InstanceNormalization", feeds, [y.astype(dtype)], epsilon=1e-3, tolerance=1e-4 if dtype == np.float32 else None)


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("dims,groups", [((2, 6, 5, 7), 3), ((2, 6, 5, 7), 6), ((2, 6, 5, 7), 1), ((3, 32, 9), 8), ((4, 12), 4), ((1, 4, 2, 3, 4), 2)])
def test_group_normalization(dims, groups, dtype):
    rng = np.random.default_rng(5)
    feeds = dict(x=normal(rng, dims, dtype), s=normal(rng, dims[1], dtype), b=normal(rng, dims[1], dtype))
    x = f64(feeds["x"]).reshape(dims[0], groups, -1)
    y = ((x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + single(1e-5))).reshape(dims)
    y = y * column(feeds["s"], len(dims)) + column(feeds["b"], len(dims))
    check("GroupNormalization", feeds, [y.astype(dtype)], num_groups=groups, tolerance=1e-4 if dtype == np.float32 else None)


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("p", [1, 2])
@pytest.mark.parametrize("dims,axis", [((4, 33), -1), ((4, 33), 0), ((2, 5, 70), 1), ((2, 3, 4, 5), -2), ((9,), 0), ((1, 300, 3), 1)])
def test_lp_normalization(dims, axis, p, dtype):
    x = normal(np.random.default_rng(6), dims, dtype)
    x[tuple(slice(0, 1) if i != axis % len(dims) else slice(None) for i in range(len(dims)))] = 0
    norm = (np.abs(f64(x)) ** p).sum(axis, keepdims=True) ** (1 / p)
    check("LpNormalization", dict(x=x), [np.where(norm == 0, 0, f64(x) / np.where(norm == 0, 1, norm)).astype(dtype)], axis=axis, p=p)


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("size,beta", [(1, 0.75), (3, 0.75), (4, 0.75), (5, 0.5), (5, 0.75), (40, 0.75), (2, 1.3)])
@pytest.mark.parametrize("dims", [(2, 7, 5, 9), (1, 3, 40), (3, 5)])
def test_lrn(dims, size, beta, dtype):
    x = normal(np.random.default_rng(7), dims, dtype)
    sums = np.zeros(dims)
    for c in range(dims[1]):
        low, high = max(0, c - (size - 1) // 2), min(dims[1] - 1, c + -(-(size - 1) // 2))
        sums[:, c] = (f64(x)[:, low:high + 1] ** 2).sum(1)
    want = f64(x) / (1.5 + single(0.2) / size * sums) ** single(beta)
    check("LRN", dict(x=x), [want.astype(dtype)], size=size, alpha=0.2, beta=beta, bias=1.5)


def test_lrn_ort():
    x = normal(np.random.default_rng(8), (2, 9, 6, 7), np.float32)
    check("LRN", dict(x=x), ort, size=5, alpha=0.01, opset=13)


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("dims,axes", [((3, 4, 5, 6), None), ((3, 4, 5, 6), [2, 3]), ((3, 4, 5, 6), [0]), ((3, 4, 5, 6), [0, 1, 2, 3]),
                                       ((3, 4, 5, 6), [1]), ((3, 4, 5, 6), [0, 2]), ((3, 4, 5, 6), [-1]), ((130, 70), [0]), ((6, 5), [0, -1])])
def test_mean_variance_normalization(dims, axes, dtype):
    x = normal(np.random.default_rng(9), dims, dtype)
    over = (0, 2, 3) if axes is None else tuple(axes)
    want = (f64(x) - f64(x).mean(over, keepdims=True)) / (f64(x).std(over, keepdims=True) + 1e-9)
    check("MeanVarianceNormalization", dict(x=x), [want.astype(dtype)], tolerance=1e-4 if dtype == np.float32 else None,
          **({} if axes is None else dict(axes=axes)))


@pytest.mark.parametrize("op,want", [("LayerNormalization", 1), ("RMSNormalization", 1), ("LpNormalization", 1), ("InstanceNormalization", 1)])
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_nan_and_infinity_stay_in_their_group(op, want, bad):
    x = np.random.default_rng(10).standard_normal([1, 4, 40]).astype(np.float32)
    x[0, 1, 7] = bad
    n = 4 if op == "InstanceNormalization" else 40
    feeds = dict(x=x, s=np.ones(n, np.float32), b=np.zeros(n, np.float32))
    if op != "LayerNormalization" and op != "InstanceNormalization":
        del feeds["b"]
    if op == "LpNormalization":
        del feeds["s"]
    for options in oracle.kernels():
        y = ours(model(op, feeds, opset=23), feeds, **options)[0]
        assert np.isnan(y[0, want, 7]) and np.isfinite(y[0, [0, 2, 3]]).all()
        if np.isnan(bad):
            assert np.isnan(y[0, want]).all()


@pytest.mark.parametrize("op,dims,feeds,attributes", [
    ("LayerNormalization", (0, 5), dict(s=5, b=5), {}), ("LayerNormalization", (3, 0), dict(s=0, b=0), {}),
    ("RMSNormalization", (0, 5), dict(s=5), {}), ("BatchNormalization", (0, 3, 4), dict(s=3, b=3, m=3, v=3), {}),
    ("BatchNormalization", (2, 3, 0), dict(s=3, b=3, m=3, v=3), {}), ("BatchNormalization", (2, 0, 4), dict(s=0, b=0, m=0, v=0), {}),
    ("InstanceNormalization", (0, 3, 4), dict(s=3, b=3), {}), ("InstanceNormalization", (2, 3, 0), dict(s=3, b=3), {}),
    ("GroupNormalization", (2, 4, 0), dict(s=4, b=4), dict(num_groups=2)), ("LpNormalization", (0, 3), {}, {}),
    ("LpNormalization", (3, 0), {}, {}), ("LRN", (2, 0, 3, 3), {}, dict(size=3)), ("MeanVarianceNormalization", (0, 2, 3, 4), {}, {})])
def test_empty(op, dims, feeds, attributes):
    arrays = dict(x=np.ones(dims, np.float32), **{name: np.ones(n, np.float32) for name, n in feeds.items()})
    for dtype in (np.float32, np.float64, np.float16):
        typed = {name: value.astype(dtype) for name, value in arrays.items()}
        for options in oracle.kernels():
            y = ours(model(op, typed, opset=23, **attributes), typed, **options)[0]
            assert y.shape == dims and y.dtype == dtype


ONES = lambda *dims: np.ones(dims, np.float32)


@pytest.mark.parametrize("op,feeds,attributes", [
    ("LayerNormalization", dict(x=ONES(2, 5), s=ONES(4)), {}), ("LayerNormalization", dict(x=ONES(2, 5), s=ONES(5), b=ONES(3)), {}),
    ("LayerNormalization", dict(x=ONES(2, 5), s=ONES(5)), dict(axis=2)), ("LayerNormalization", dict(x=ONES(2, 5), s=ONES(5)), dict(axis=-3)),
    ("LayerNormalization", dict(x=ONES(2, 5), s=ONES(3, 2, 5)), {}), ("LayerNormalization", dict(x=ONES(2, 5), s=ONES(5)), dict(stash_type=7)),
    ("RMSNormalization", dict(x=ONES(2, 5), s=ONES(4)), {}), ("RMSNormalization", dict(x=ONES(2, 5), s=ONES(5)), dict(axis=5)),
    ("BatchNormalization", dict(x=ONES(2, 3, 4), s=ONES(3), b=ONES(3), m=ONES(2), v=ONES(3)), {}),
    ("BatchNormalization", dict(x=ONES(2, 3, 4), s=ONES(4), b=ONES(3), m=ONES(3), v=ONES(3)), {}),
    ("InstanceNormalization", dict(x=ONES(2, 3, 4), s=ONES(2), b=ONES(3)), {}), ("InstanceNormalization", dict(x=ONES(3), s=ONES(3), b=ONES(3)), {}),
    ("GroupNormalization", dict(x=ONES(2, 6, 4), s=ONES(6), b=ONES(6)), dict(num_groups=4)),
    ("GroupNormalization", dict(x=ONES(2, 6, 4), s=ONES(6), b=ONES(6)), dict(num_groups=0)),
    ("GroupNormalization", dict(x=ONES(2, 6, 4), s=ONES(6), b=ONES(6)), dict(num_groups=-2)),
    ("GroupNormalization", dict(x=ONES(2, 6, 4), s=ONES(3), b=ONES(6)), dict(num_groups=3)),
    ("LpNormalization", dict(x=ONES(2, 3)), dict(p=3)), ("LpNormalization", dict(x=ONES(2, 3)), dict(axis=2)),
    ("LRN", dict(x=ONES(2, 3, 4)), dict(size=0)), ("LRN", dict(x=ONES(2, 3, 4)), dict(size=-1)), ("LRN", dict(x=ONES(2)), dict(size=1)),
    ("MeanVarianceNormalization", dict(x=ONES(2, 3)), dict(axes=[2])), ("MeanVarianceNormalization", dict(x=ONES(2, 3)), {})])
def test_bad(op, feeds, attributes):
    with pytest.raises((sx.InputError, sx.ModelError)):
        ours(model(op, feeds, opset=23, **attributes), feeds)
