"""Convolutions against onnxruntime and onnx.reference, on random configurations."""

import ml_dtypes
import numpy as np
import pytest

import oracle
import sardonyx as sx
from oracle import check, model, ort, ours, reference

CASES = 200


def random_conv(seed, transposed=False):
    rng = np.random.default_rng(seed)
    rank = int(rng.choice([1, 2, 2, 2, 3]))
    kind = rng.choice(["dense", "dense", "grouped", "depthwise"])
    groups = 1 if kind == "dense" else int(rng.integers(2, 5))
    in_channels = 1 if kind == "depthwise" else int(rng.integers(1, 20))
    out_channels = int(rng.integers(1, 3)) if kind == "depthwise" else int(rng.integers(1, 20))
    kernel = [int(k) for k in rng.integers(1, 5, rank)]
    strides = [int(s) for s in rng.integers(1, 4, rank)]
    auto_pad = rng.choice(["NOTSET", "NOTSET", "NOTSET", "SAME_UPPER", "SAME_LOWER", "VALID"])
    # onnxruntime does not dilate where it chooses the padding.
    dilations = [1 if "SAME" in auto_pad else int(d) for d in rng.choice([1, 1, 1, 2, 3], rank)]
    extent = [(k - 1) * d + 1 for k, d in zip(kernel, dilations)]
    spatial = [int(e + rng.integers(0, 14)) for e in extent]
    attributes = dict(group=groups, kernel_shape=kernel, strides=strides, dilations=dilations)
    if rng.random() < 0.2:
        del attributes["kernel_shape"]
    if auto_pad == "NOTSET":
        limit = [min(e, 4) for e in extent]
        pads = [int(rng.integers(0, m)) if m > 1 else 0 for m in limit + limit]
        if transposed:
            pads = [min(p, (e - 1) // 2) for p, e in zip(pads, extent + extent)]
        attributes["pads"] = pads
    else:
        attributes["auto_pad"] = str(auto_pad)
    batch = int(rng.integers(1, 4))
    x = rng.standard_normal([batch, groups * in_channels, *spatial])
    w_dims = [groups * in_channels, out_channels] if transposed else [groups * out_channels, in_channels]
    w = rng.standard_normal([*w_dims, *kernel])
    b = rng.standard_normal(groups * out_channels) if rng.random() < 0.7 else None
    if transposed and rng.random() < 0.4 and auto_pad == "NOTSET":
        attributes["output_padding"] = [int(rng.integers(0, max(s, 1))) for s in strides]
    constants = ("w", "b") if rng.random() < 0.6 else ()
    return dict(x=x, w=w, b=b), attributes, constants


def typed(feeds, dtype):
    return {name: None if value is None else value.astype(dtype) for name, value in feeds.items()}


@pytest.mark.parametrize("seed", range(CASES))
def test_conv(seed):
    feeds, attributes, constants = random_conv(seed)
    check("Conv", typed(feeds, np.float32), ort, constants=constants, **attributes)


@pytest.mark.parametrize("seed", range(1000, 1000 + CASES))
def test_conv_transpose(seed):
    feeds, attributes, constants = random_conv(seed, transposed=True)
    check("ConvTranspose", typed(feeds, np.float32), ort, constants=constants, **attributes)


@pytest.mark.parametrize("op", ["Conv", "ConvTranspose"])
@pytest.mark.parametrize("dtype", [np.float64, np.float16, ml_dtypes.bfloat16])
@pytest.mark.parametrize("seed", range(2000, 2012))
def test_other_dtypes(op, dtype, seed):
    feeds, attributes, constants = random_conv(seed, transposed=op == "ConvTranspose")
    feeds = typed(feeds, dtype)
    # The f64 result of the same numbers, which the f32 tests hold against onnxruntime.
    exact = typed(feeds, np.float64)
    want = ours(model(op, exact, **attributes), oracle.variable(exact), prefer_kernel="ref")[0].astype(dtype)
    check(op, feeds, [want], constants=constants, **attributes)


@pytest.mark.parametrize("seed", range(3000, 3020))
def test_conv_float64_reference(seed):
    feeds, attributes, _ = random_conv(seed)
    if feeds["x"].ndim > 4 or attributes.get("auto_pad", "NOTSET") != "NOTSET":
        pytest.skip("onnx.reference takes it differently")
    check("Conv", feeds, reference, **attributes)


def test_four_spatial_dimensions():
    rng = np.random.default_rng(0)
    x = rng.standard_normal([2, 4, 5, 4, 6, 5])
    w = rng.standard_normal([6, 2, 2, 3, 2, 1])
    got = ours(model("Conv", dict(x=x, w=w), group=2, strides=[2, 1, 1, 2], pads=[1, 0, 0, 0, 0, 1, 0, 0]), dict(x=x, w=w))[0]
    padded = np.pad(x, [(0, 0), (0, 0), (1, 0), (0, 1), (0, 0), (0, 0)])
    windows = np.lib.stride_tricks.sliding_window_view(padded, (2, 3, 2, 1), (2, 3, 4, 5))[:, :, ::2, :, :, ::2]
    want = np.concatenate([np.einsum("ncabdeijkl,mcijkl->nmabde", windows[:, 2 * g:2 * g + 2], w[3 * g:3 * g + 3]) for g in (0, 1)], 1)
    oracle.assert_close(got, want)


@pytest.mark.parametrize("output_shape,auto_pad", [([10, 8], None), ([9, 7], "SAME_UPPER"), ([8, 7], "SAME_LOWER"), ([7, 5], None)])
def test_conv_transpose_output_shape(output_shape, auto_pad):
    rng = np.random.default_rng(1)
    feeds = dict(x=rng.standard_normal([1, 3, 3, 3]).astype(np.float32), w=rng.standard_normal([3, 2, 3, 3]).astype(np.float32))
    attributes = dict(strides=[3, 2], output_shape=output_shape)
    if auto_pad:
        attributes["auto_pad"] = auto_pad
    check("ConvTranspose", feeds, ort, **attributes)


@pytest.mark.parametrize("groups", [1, 4])
def test_nan_and_infinity_stay_in_their_windows(groups):
    x = np.ones([1, 4, 9, 9], np.float32)
    x[0, 0, 4, 4], x[0, 3, 0, 0] = np.nan, np.inf
    w = np.ones([4, 4 // groups, 3, 3], np.float32)
    check("Conv", dict(x=x, w=w), ort, group=groups, pads=[1, 1, 1, 1])


@pytest.mark.parametrize("x,w,want", [
    ([0, 2, 5, 5], [3, 2, 3, 3], (0, 3, 3, 3)),
    ([2, 0, 5, 5], [3, 0, 3, 3], (2, 3, 3, 3)),
    ([2, 2, 5, 5], [0, 2, 3, 3], (2, 0, 3, 3)),
    ([2, 2, 0, 5], [3, 2, 3, 3], (2, 3, 0, 3)),
])
def test_empty(x, w, want):
    feeds = dict(x=np.ones(x, np.float32), w=np.ones(w, np.float32), b=np.arange(w[0], dtype=np.float32))
    for options in oracle.kernels():
        got = ours(model("Conv", feeds), feeds, **options)[0]
        assert got.shape == want
        np.testing.assert_array_equal(got, np.broadcast_to(feeds["b"].reshape(1, -1, 1, 1), want))


X, W = np.ones([1, 4, 5, 5], np.float32), np.ones([2, 4, 3, 3], np.float32)


@pytest.mark.parametrize("op", ["Conv", "ConvTranspose"])
@pytest.mark.parametrize("attributes", [
    dict(strides=[0, 1]), dict(strides=[-1, 1]), dict(strides=[1]), dict(dilations=[0, 1]), dict(group=0), dict(group=-2),
    dict(group=3), dict(pads=[-1, 0, 0, 0]), dict(pads=[1, 1]), dict(kernel_shape=[3, 2]), dict(auto_pad="SOMETIMES"),
    dict(dilations=[2**62, 2**62]), dict(pads=[2**62, 0, 2**62, 0]), dict(output_padding=[-1, 0]), dict(output_padding=[7, 0])])
def test_bad_attributes(op, attributes):
    if op == "Conv" and "output_padding" in attributes:
        return
    w = W if op == "Conv" else np.ones([4, 2, 3, 3], np.float32)
    with pytest.raises((sx.InputError, sx.ModelError, sx.LimitError)):
        ours(model(op, dict(x=X, w=w), **attributes), dict(x=X, w=w))


@pytest.mark.parametrize("w,b", [([2, 3, 3, 3], None), ([2, 4, 3], None), ([2, 4, 7, 7], None), ([2, 4, 3, 3], [3])])
def test_bad_inputs(w, b):
    feeds = dict(x=X, w=np.ones(w, np.float32), b=None if b is None else np.ones(b, np.float32))
    with pytest.raises((sx.InputError, sx.ModelError)):
        ours(model("Conv", feeds), oracle.variable(feeds))


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_deform_conv(seed, dtype):
    rng = np.random.default_rng(seed)
    groups, offset_groups = int(rng.choice([1, 2])), int(rng.choice([1, 2]))
    stride, dilation = int(rng.integers(1, 3)), int(rng.integers(1, 3))
    pads = [int(p) for p in rng.integers(0, 2, 4)]
    kh, kw, ih, iw = int(rng.integers(1, 4)), int(rng.integers(1, 4)), 9, 8
    oh = (ih + pads[0] + pads[2] - (kh - 1) * dilation - 1) // stride + 1
    ow = (iw + pads[1] + pads[3] - (kw - 1) * dilation - 1) // stride + 1
    feeds = dict(
        x=rng.standard_normal([2, 4, ih, iw]), w=rng.standard_normal([6, 4 // groups, kh, kw]),
        offset=rng.standard_normal([2, offset_groups * kh * kw * 2, oh, ow]) * 2,
        b=rng.standard_normal(6) if seed % 2 else None,
        mask=rng.random([2, offset_groups * kh * kw, oh, ow]) if seed % 3 else None)
    check("DeformConv", typed(feeds, dtype), reference, group=groups, offset_group=offset_groups, strides=[stride] * 2,
          dilations=[dilation] * 2, pads=pads, tolerance=1e-4)  # onnx.reference samples in f32


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.float16, np.int32, np.uint8, np.complex64])
@pytest.mark.parametrize("seed", range(4))
def test_col2im(dtype, seed):
    rng = np.random.default_rng(seed)
    rank = 2 + seed % 2
    image, block = rng.integers(4, 8, rank), rng.integers(1, 4, rank)
    strides, dilations, pads = rng.integers(1, 3, rank), rng.integers(1, 2, rank), rng.integers(0, 2, 2 * rank)
    counts = [(i + pads[d] + pads[d + rank] - (b - 1) * dilations[d] - 1) // strides[d] + 1 for d, (i, b) in enumerate(zip(image, block))]
    x = (rng.standard_normal([2, 3 * int(np.prod(block)), int(np.prod(counts))]) * 10).astype(dtype)
    if dtype == np.float16:
        x = np.round(x)  # sums that f16 holds exactly, in whatever order
    feeds = dict(x=x, image=image, block=block)
    check("Col2Im", feeds, reference, opset=18, strides=strides.tolist(), dilations=dilations.tolist(), pads=pads.tolist())


@pytest.mark.parametrize("dtype", [np.float32, np.float16, ml_dtypes.bfloat16])
@pytest.mark.parametrize("activation", ["none", "silu"])
@pytest.mark.parametrize("length,k,past", [(7, 4, True), (1, 4, True), (40, 3, False), (5, 1, True), (0, 3, True)])
def test_causal_conv_with_state(dtype, activation, length, k, past):
    rng = np.random.default_rng(length)
    feeds = dict(x=rng.standard_normal([2, 3, length]).astype(dtype), w=rng.standard_normal([3, 1, k]).astype(dtype),
                 b=rng.standard_normal(3).astype(dtype), past=rng.standard_normal([2, 3, k - 1]).astype(dtype) if past else None)
    wide = typed(feeds, np.float64)
    before = wide["past"] if past else np.zeros([2, 3, k - 1])
    padded = np.concatenate([before, wide["x"]], 2)
    y = sum(padded[:, :, j:j + length] * wide["w"][:, 0, j].reshape(1, 3, 1) for j in range(k)) + wide["b"].reshape(1, 3, 1)
    if activation == "silu":
        y = y / (1 + np.exp(-y))
    want = [y.astype(dtype), padded[:, :, padded.shape[2] - (k - 1):].astype(dtype)]
    check("CausalConvWithState", feeds, want, outputs=2, opset=27, activation=activation)


@pytest.mark.parametrize("seed", range(40))
def test_wide_depthwise(seed):
    """Rows of several vectors, strides and heights on every path of the depthwise kernel."""
    rng = np.random.default_rng(seed)
    kh, kw = (int(k) for k in rng.integers(1, 9, 2))
    strides = [int(s) for s in rng.integers(1, 4, 2)]
    dilations = [int(d) for d in rng.choice([1, 1, 2], 2)]
    pads = [int(p) for p in rng.integers(0, 4, 4)]
    feeds = dict(x=rng.standard_normal([2, 3, int(rng.integers(16, 60)), int(rng.integers(20, 150))]), w=rng.standard_normal([6, 1, kh, kw]),
                 b=rng.standard_normal(6) if seed % 2 else None)
    check("Conv", typed(feeds, np.float32), ort, constants=("w",), group=3, strides=strides, dilations=dilations, pads=pads)


@pytest.mark.parametrize("op", ["Conv", "ConvTranspose"])
@pytest.mark.parametrize("channels", [(16, 32, 1), (32, 32, 2), (48, 16, 1), (17, 5, 1), (64, 3, 1)])
@pytest.mark.parametrize("spatial", [(20,), (400,), (9, 8), (21, 23), (7, 8, 9)])
@pytest.mark.parametrize("dtype", [np.float32, ml_dtypes.bfloat16])
def test_layouts(op, channels, spatial, dtype):
    """Channel counts and sizes on both sides of every choice of layout."""
    c, m, groups = channels
    rng = np.random.default_rng(c)
    kernel = [3] * len(spatial)
    w = [c, m // groups, *kernel] if op == "ConvTranspose" else [m, c // groups, *kernel]
    feeds = typed(dict(x=rng.standard_normal([1, c, *spatial]), w=rng.standard_normal(w), b=rng.standard_normal(m)), dtype)
    attributes = dict(group=groups, pads=[1] * (2 * len(spatial)), strides=[2 if len(spatial) == 3 else 1] * len(spatial))
    exact = typed(feeds, np.float64)
    want = ours(model(op, exact, **attributes), exact, prefer_kernel="ref")[0].astype(dtype)
    data = model(op, feeds, constants=("w", "b"), **attributes)
    oracle.assert_close(ours(data, dict(x=feeds["x"]))[0], want)
