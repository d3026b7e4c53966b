"""Poolings against onnxruntime, onnx.reference and numpy, on random configurations."""

import ml_dtypes
import numpy as np
import pytest

import oracle
import sardonyx as sx
from oracle import check, model, ort, ours, reference


def random_pool(seed):
    rng = np.random.default_rng(seed)
    rank = int(rng.choice([1, 2, 2, 2, 3]))
    kernel = [int(k) for k in rng.integers(1, 6, rank)]
    auto_pad = str(rng.choice(["NOTSET", "NOTSET", "NOTSET", "SAME_UPPER", "SAME_LOWER", "VALID"]))
    # onnxruntime refuses windows with gaps between them where it chooses the padding.
    strides = [min(int(s), k) if "SAME" in auto_pad else int(s) for s, k in zip(rng.integers(1, 4, rank), kernel)]
    dilations = [int(d) for d in rng.choice([1, 1, 1, 2], rank)] if auto_pad == "NOTSET" else [1] * rank
    extent = [(k - 1) * d + 1 for k, d in zip(kernel, dilations)]
    spatial = [int(e + rng.integers(0, 40)) for e in extent]
    attributes = dict(kernel_shape=kernel, strides=strides, dilations=dilations)
    if auto_pad == "NOTSET":
        # Narrower than the kernel: onnxruntime refuses more.
        attributes["pads"] = [int(rng.integers(0, k)) for k in kernel + kernel]
        attributes["ceil_mode"] = int(rng.random() < 0.4)
    else:
        attributes["auto_pad"] = auto_pad
    x = rng.standard_normal([int(rng.integers(1, 3)), int(rng.integers(1, 5)), *spatial])
    return x, attributes


def windows(x, attributes, kind, p=2, count_include_pad=0):
    """A pooling by its definition, for explicit padding and f64."""
    kernel, strides, dilations, pads = (attributes[name] for name in ("kernel_shape", "strides", "dilations", "pads"))
    rank = len(kernel)
    out = []
    for i in range(rank):
        length = x.shape[2 + i] + pads[i] + pads[rank + i] - (kernel[i] - 1) * dilations[i] - 1
        n = (-(-length // strides[i]) if attributes["ceil_mode"] else length // strides[i]) + 1
        if attributes["ceil_mode"] and (n - 1) * strides[i] >= x.shape[2 + i] + pads[i]:
            n -= 1
        out.append(n)
    y = np.empty([*x.shape[:2], *out])
    for o in np.ndindex(*out):
        index, padded = [], 1
        for i in range(rank):
            at = o[i] * strides[i] - pads[i] + np.arange(kernel[i]) * dilations[i]
            padded *= (at < x.shape[2 + i] + pads[rank + i]).sum()
            index.append(at[(at >= 0) & (at < x.shape[2 + i])])
        values = x[(slice(None), slice(None), *np.ix_(*index))].reshape(*x.shape[:2], -1)
        if kind == "max":
            y[(..., *o)] = values.max(-1)
        elif kind == "average":
            y[(..., *o)] = values.sum(-1) / (padded if count_include_pad else values.shape[-1])
        else:
            y[(..., *o)] = (np.abs(values) ** p).sum(-1) ** (1 / p)
    return y


@pytest.mark.parametrize("seed", range(120))
def test_max_pool(seed):
    x, attributes = random_pool(seed)
    check("MaxPool", dict(x=x.astype(np.float32)), ort, **attributes)


@pytest.mark.parametrize("seed", range(200, 240))
def test_max_pool_indices(seed):
    x, attributes = random_pool(seed)
    check("MaxPool", dict(x=x.astype(np.float32)), ort, outputs=2, storage_order=seed % 2, **attributes)


@pytest.mark.parametrize("dtype", [np.int8, np.uint8])
@pytest.mark.parametrize("seed", range(300, 315))
def test_max_pool_integers(seed, dtype):
    x, attributes = random_pool(seed)
    check("MaxPool", dict(x=(x * 60 + (60 if dtype == np.uint8 else 0)).astype(dtype)), ort, **attributes)


@pytest.mark.parametrize("seed", range(400, 460))
def test_average_pool(seed):
    x, attributes = random_pool(seed)
    include = seed % 2
    if attributes.get("ceil_mode"):
        want = [windows(x, attributes, "average", count_include_pad=include).astype(np.float32)]
        check("AveragePool", dict(x=x.astype(np.float32)), want, count_include_pad=include, **attributes)
    else:
        check("AveragePool", dict(x=x.astype(np.float32)), ort, count_include_pad=include, **attributes)


@pytest.mark.parametrize("seed", range(500, 560))
def test_lp_pool(seed):
    x, attributes = random_pool(seed)
    p = 1 + seed % 4
    if "pads" not in attributes:
        check("LpPool", dict(x=x.astype(np.float32)), ort, p=p, **attributes)
    else:
        check("LpPool", dict(x=x.astype(np.float32)), [windows(x, attributes, "lp", p).astype(np.float32)], p=p, **attributes)


@pytest.mark.parametrize("op", ["MaxPool", "AveragePool", "LpPool"])
@pytest.mark.parametrize("dtype", [np.float64, np.float16, ml_dtypes.bfloat16])
@pytest.mark.parametrize("seed", range(600, 610))
def test_other_dtypes(op, dtype, seed):
    x, attributes = random_pool(seed)
    attributes.pop("auto_pad", None)
    attributes.setdefault("pads", [0] * (2 * len(attributes["kernel_shape"])))
    attributes.setdefault("ceil_mode", 0)
    x = x.astype(dtype)
    want = windows(x.astype(np.float64), attributes, {"MaxPool": "max", "AveragePool": "average", "LpPool": "lp"}[op])
    check(op, dict(x=x), [want.astype(dtype)], **attributes)


@pytest.mark.parametrize("op,f", [("GlobalAveragePool", lambda x, a: x.mean(axis=a, keepdims=True)),
                                  ("GlobalMaxPool", lambda x, a: x.max(axis=a, keepdims=True)),
                                  ("GlobalLpPool", lambda x, a: np.sqrt((x * x).sum(axis=a, keepdims=True)))])
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.float16, ml_dtypes.bfloat16])
@pytest.mark.parametrize("spatial", [(7, 7), (1, 1), (33,), (5, 6, 7), (61, 83)])
def test_global(op, f, dtype, spatial):
    x = np.random.default_rng(0).standard_normal([3, 5, *spatial]).astype(dtype)
    want = f(x.astype(np.float64), tuple(range(2, x.ndim))).astype(dtype)
    check(op, dict(x=x), [want])


def test_global_lp_pool_p():
    x = np.random.default_rng(0).standard_normal([2, 3, 9, 4]).astype(np.float32)
    for p in (1, 3):
        want = (np.abs(x.astype(np.float64)) ** p).sum((2, 3), keepdims=True) ** (1 / p)
        check("GlobalLpPool", dict(x=x), [want.astype(np.float32)], p=p)


@pytest.mark.parametrize("op", ["MaxPool", "AveragePool", "LpPool"])
@pytest.mark.parametrize("stride", [1, 2, 3])
def test_nan_and_infinity_stay_in_their_windows(op, stride):
    rng = np.random.default_rng(stride)
    x = rng.standard_normal([1, 2, 19, 37])
    x[0, 0, 3, 5], x[0, 0, 10, 20], x[0, 1, 0, 0], x[0, 1, 18, 36], x[0, 1, 9, 9] = np.nan, np.inf, -np.inf, np.nan, -np.inf
    attributes = dict(kernel_shape=[3, 3], strides=[stride] * 2, dilations=[1, 1], pads=[1, 1, 1, 1], ceil_mode=0)
    want = windows(x, attributes, {"MaxPool": "max", "AveragePool": "average", "LpPool": "lp"}[op])
    for dtype in (np.float32, np.float64, np.float16):
        check(op, dict(x=x.astype(dtype)), [want.astype(dtype)], tolerance=1e-2 if dtype == np.float16 else None, **attributes)


def test_max_pool_of_minus_infinity():
    x = np.full([1, 1, 4, 4], -np.inf, np.float32)
    for options in oracle.kernels():
        y = ours(model("MaxPool", dict(x=x), kernel_shape=[2, 2]), dict(x=x), **options)[0]
        assert np.isneginf(y).all()


def test_max_pool_index_of_nan():
    x = np.array([[[1, np.nan, 3, np.nan]]], np.float32)
    y, i = ours(model("MaxPool", dict(x=x), 2, kernel_shape=[4]), dict(x=x))
    assert np.isnan(y).all() and i.ravel().tolist() == [1]


@pytest.mark.parametrize("op", ["MaxPool", "AveragePool", "LpPool"])
@pytest.mark.parametrize("dims,want", [([0, 2, 5, 5], (0, 2, 4, 4)), ([2, 0, 5, 5], (2, 0, 4, 4)), ([2, 2, 0, 5], (2, 2, 0, 4))])
def test_empty(op, dims, want):
    x = np.ones(dims, np.float32)
    for options in oracle.kernels():
        assert ours(model(op, dict(x=x), kernel_shape=[2, 2]), dict(x=x), **options)[0].shape == want


@pytest.mark.parametrize("op", ["MaxPool", "AveragePool", "LpPool"])
@pytest.mark.parametrize("attributes", [
    dict(strides=[0, 1]), dict(strides=[-1, 1]), dict(strides=[1]), dict(dilations=[0, 1]), dict(pads=[-1, 0, 0, 0]), dict(pads=[1, 1]),
    dict(kernel_shape=[0, 2]), dict(kernel_shape=[2]), dict(kernel_shape=[7, 2]), dict(auto_pad="SOMETIMES"),
    dict(kernel_shape=[2**62, 2], dilations=[4, 1])])
def test_bad_attributes(op, attributes):
    x = np.ones([1, 2, 5, 5], np.float32)
    with pytest.raises((sx.InputError, sx.ModelError, sx.LimitError)):
        ours(model(op, dict(x=x), **{"kernel_shape": [2, 2], **attributes}), dict(x=x))


def test_windows_far_larger_than_the_input_end_soon():
    x = np.arange(10, dtype=np.float32).reshape(1, 1, 10)
    huge = 2**40
    for op, want in (("MaxPool", 9.0), ("AveragePool", 4.5)):
        y = ours(model(op, dict(x=x), kernel_shape=[huge], pads=[huge // 2, huge // 2]), dict(x=x))[0]
        assert y.shape == (1, 1, 11) and y.ravel()[5] == want


@pytest.mark.parametrize("seed", range(8))
def test_max_unpool(seed):
    rng = np.random.default_rng(seed)
    x = rng.standard_normal([2, 3, 8, 6]).astype(np.float32)
    y, i = ours(model("MaxPool", dict(x=x), 2, kernel_shape=[2, 2], strides=[2, 2]), dict(x=x))
    feeds = dict(x=y, i=i)
    want = check("MaxUnpool", feeds, ort, kernel_shape=[2, 2], strides=[2, 2])
    np.testing.assert_array_equal(want[0].ravel()[i.ravel()], y.ravel())
    check("MaxUnpool", dict(feeds, shape=np.array([2, 3, 9, 8])), reference, kernel_shape=[2, 2], strides=[2, 2])


@pytest.mark.parametrize("index", [-1, 16])
def test_max_unpool_bad_index(index):
    feeds = dict(x=np.ones([1, 1, 2, 2], np.float32), i=np.array([[[[0, 1], [2, index]]]]))
    with pytest.raises(sx.InputError):
        ours(model("MaxUnpool", feeds, kernel_shape=[2, 2], strides=[2, 2]), feeds)


@pytest.mark.parametrize("mode", ["avg", "max"])
@pytest.mark.parametrize("transformation", ["half_pixel", "output_half_pixel"])
@pytest.mark.parametrize("ratio", [0, 2])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_roi_align(mode, transformation, ratio, dtype):
    rng = np.random.default_rng(ratio)
    corners = rng.random([9, 2]) * 20 - 3
    feeds = dict(x=rng.standard_normal([2, 40, 9, 12]).astype(dtype),
                 rois=np.concatenate([corners, corners + rng.random([9, 2]) * 15], 1).astype(dtype),
                 batch=rng.integers(0, 2, 9))
    check("RoiAlign", feeds, ort, mode=mode, coordinate_transformation_mode=transformation, sampling_ratio=ratio,
          output_height=3, output_width=4, spatial_scale=0.7, opset=16)


def test_roi_align_hostile():
    x = np.ones([1, 1, 4, 4], np.float32)
    rois = np.array([[0, 0, 1e30, 1e30], [np.nan, 0, 1, 1], [-np.inf, 0, np.inf, 1], [3, 3, 1, 1]], np.float32)
    feeds = dict(x=x, rois=rois, batch=np.zeros(4, np.int64))
    y = ours(model("RoiAlign", feeds, output_height=2, output_width=2), feeds)[0]
    assert np.isnan(y[1]).all() and not np.isnan(y[[0, 3]]).any()
    for bad in (dict(batch=np.array([0, 0, 0, 1])), dict(batch=np.array([0, 0, 0, -1]))):
        with pytest.raises(sx.InputError):
            ours(model("RoiAlign", {**feeds, **bad}), {**feeds, **bad})
    for attributes in (dict(sampling_ratio=-1), dict(sampling_ratio=2**40), dict(mode="sum"), dict(output_height=0)):
        with pytest.raises((sx.InputError, sx.ModelError)):
            ours(model("RoiAlign", feeds, **attributes), feeds)


@pytest.mark.parametrize("seed", range(6))
def test_max_roi_pool(seed):
    rng = np.random.default_rng(seed)
    corners = rng.integers(0, 12, [7, 2])
    rois = np.concatenate([rng.integers(0, 2, [7, 1]), corners, corners + rng.integers(0, 14, [7, 2])], 1).astype(np.float32)
    feeds = dict(x=rng.standard_normal([2, 3, 10, 11]).astype(np.float32), rois=rois)
    check("MaxRoiPool", feeds, ort, pooled_shape=[3, 2], spatial_scale=[1.0, 0.5, 0.25][seed % 3], opset=16)


def test_max_roi_pool_bad_rois():
    x = np.ones([1, 1, 4, 4], np.float32)
    for roi in ([1, 0, 0, 1, 1], [-1, 0, 0, 1, 1], [np.nan, 0, 0, 1, 1], [0, np.inf, 0, 1, 1]):
        feeds = dict(x=x, rois=np.array([roi], np.float32))
        with pytest.raises(sx.InputError):
            ours(model("MaxRoiPool", feeds, pooled_shape=[2, 2]), feeds)


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16])
def test_max_pool_indices_alone(dtype):
    feeds = {"x": np.random.default_rng(5).standard_normal((2, 3, 40, 40)).astype(dtype)}
    attributes = {"kernel_shape": [2, 2], "strides": [2, 2]}
    both = ours(model("MaxPool", feeds, outputs=2, **attributes), feeds)
    alone = ours(model("MaxPool", feeds, outputs=["", "indices"], **attributes), feeds)
    np.testing.assert_array_equal(alone[0], both[1])
