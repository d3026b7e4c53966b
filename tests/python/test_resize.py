"""Resize, Upsample, GridSample and AffineGrid: against onnxruntime, onnx.reference and positions worked out here."""

import itertools

import ml_dtypes
import numpy as np
import onnx.reference
import pytest

import sardonyx as sx
from node_models import assert_same, feeds, model, random_array, run, run_ort, some_constants

COORDINATES = [
    "half_pixel",
    "pytorch_half_pixel",
    "align_corners",
    "asymmetric",
    "half_pixel_symmetric",
    "tf_crop_and_resize",
]


def i64(values):
    return np.array(values, dtype=np.int64)


def reference(op, inputs, opset=19, **attributes):
    data = model(op, inputs, opset=opset, **attributes)
    return onnx.reference.ReferenceEvaluator(data).run(None, feeds(inputs))[0]


def close(got, want, tolerance=2e-5):
    assert got.shape == want.shape and got.dtype == want.dtype
    np.testing.assert_allclose(got.astype(np.float64), want.astype(np.float64), rtol=tolerance, atol=tolerance)


def random_resize(rng, coordinates, downscale=True):
    shape = tuple(int(n) for n in rng.integers(1, 10, int(rng.integers(1, 5))))
    count = int(rng.integers(1, len(shape) + 1))
    axes = sorted(int(a) for a in rng.permutation(len(shape))[:count])
    x = rng.normal(size=shape).astype(np.float32)
    roi = None
    if coordinates == "tf_crop_and_resize":
        roi = np.concatenate([rng.uniform(-0.2, 0.5, count), rng.uniform(0.4, 1.3, count)]).astype(np.float32)
    sizes = [int(rng.integers(1, 14)) for _ in axes]
    scales = (rng.uniform(0.35 if downscale else 1.0, 2.6, count)).astype(np.float32)
    scales = np.maximum(scales, [1.001 / shape[a] for a in axes]).astype(np.float32)
    return x, axes, roi, i64(sizes), scales


@pytest.mark.parametrize("coordinates", COORDINATES)
@pytest.mark.parametrize("mode", ["linear", "cubic"])
@pytest.mark.parametrize("seed", range(25))
def test_interpolation(seed, mode, coordinates):
    rng = np.random.default_rng(seed)
    x, axes, roi, sizes, scales = random_resize(rng, coordinates)
    by_size = rng.random() < 0.5
    attributes = dict(
        mode=mode,
        coordinate_transformation_mode=coordinates,
        axes=axes,
        exclude_outside=int(rng.random() < 0.3),
        extrapolation_value=float(rng.normal()),
        cubic_coeff_a=float(rng.choice([-0.5, -0.75])),
    )
    if coordinates != "tf_crop_and_resize":
        attributes["antialias"] = int(rng.random() < 0.4)
    inputs = [x, roi, None if by_size else scales, sizes if by_size else None]
    while inputs[-1] is None:
        inputs.pop()
    want = reference("Resize", inputs, **attributes)
    if coordinates == "pytorch_half_pixel" and 1 in [want.shape[a] for a in axes]:
        pytest.skip("the reference puts a single output pixel at -0.5, the specification at 0")
    constants = [i for i in some_constants(rng, inputs) if inputs[i] is not None]
    close(run("Resize", inputs, constants=constants, opset=19, **attributes)[0], want, 1e-4)


@pytest.mark.parametrize("coordinates", COORDINATES)
@pytest.mark.parametrize("nearest", ["round_prefer_floor", "round_prefer_ceil", "floor", "ceil"])
@pytest.mark.parametrize("seed", range(12))
def test_nearest(seed, nearest, coordinates):
    rng = np.random.default_rng(seed)
    x, axes, roi, sizes, scales = random_resize(rng, coordinates)
    by_size = rng.random() < 0.5
    dtype = [np.float32, np.uint8, np.int64, np.float16, np.bool_, np.float64][seed % 6]
    x = random_array(rng, dtype, x.shape)
    attributes = dict(
        mode="nearest",
        nearest_mode=nearest,
        coordinate_transformation_mode=coordinates,
        axes=axes,
        extrapolation_value=7.0,
    )
    inputs = [x, roi, None if by_size else scales, sizes if by_size else None]
    while inputs[-1] is None:
        inputs.pop()
    assert_same(
        run("Resize", inputs, opset=19, **attributes)[0], nearest_by_hand(x, inputs, axes, nearest, coordinates, 7.0)
    )


def nearest_by_hand(x, inputs, axes, nearest, coordinates, outside_value):
    """Exact fractions for sizes, float for scales, as the specification's formulas read."""
    roi, sizes = inputs[1], inputs[3] if len(inputs) > 3 else None
    outside = np.zeros((), bool)
    result = x
    for k, axis in enumerate(axes):
        n = x.shape[axis]
        if sizes is not None:
            out, resized, kind = int(sizes[k]), float(sizes[k]), np.float64
            scale = out / n
        else:
            scale, kind = inputs[2][k], np.float32
            out = int(np.floor(np.float32(n) * scale))
            resized = kind(float(scale) * n)
        p = np.arange(out).astype(kind)
        half = (
            ((2 * p + 1) * n / (2 * resized) - 0.5) if sizes is not None else (p + kind(0.5)) / kind(scale) - kind(0.5)
        )
        if coordinates == "half_pixel":
            at = half
        elif coordinates == "half_pixel_symmetric":
            at = kind(n / 2) * (1 - kind(out) / resized) + half
        elif coordinates == "pytorch_half_pixel":
            at = half if out > 1 else np.zeros(out)
        elif coordinates == "align_corners":
            at = p * kind(n - 1) / (resized - 1) if resized != 1 else np.zeros(out)
        elif coordinates == "asymmetric":
            at = p * n / resized if sizes is not None else p / scale
        else:
            start, end = kind(roi[k]), kind(roi[len(axes) + k])
            at = (
                start * (n - 1) + p * (end - start) * (n - 1) / (resized - 1)
                if resized != 1
                else np.full(out, (start + end) * (n - 1) / 2)
            )
            lost = ~((at >= 0) & (at <= n - 1))
            outside = outside | lost.reshape([-1 if d == axis else 1 for d in range(x.ndim)])
        at = at.astype(np.float64)
        rounded = {
            "round_prefer_floor": np.ceil(at - 0.5),
            "round_prefer_ceil": np.floor(at + 0.5),
            "floor": np.floor(at),
            "ceil": np.ceil(at),
        }[nearest]
        result = np.take(result, np.clip(rounded, 0, n - 1).astype(np.int64), axis)
    return np.where(np.broadcast_to(outside, result.shape), np.array(outside_value, x.dtype), result)


@pytest.mark.parametrize(
    "mode,shape,scales",
    [
        ("linear", (2, 3, 20, 30), (1, 1, 2, 2)),
        ("linear", (2, 3, 20, 30), (1, 1, 0.5, 0.6)),
        ("linear", (1, 5, 7, 9), (1, 1, 3.3, 1.7)),
        ("nearest", (2, 3, 20, 30), (1, 1, 2, 2)),
        ("nearest", (1, 3, 17, 13), (1, 1, 0.5, 1.5)),
        ("cubic", (2, 3, 12, 15), (1, 1, 2, 1.5)),
        ("linear", (1, 2, 6, 7, 8), (1, 1, 2, 2, 2)),
        ("linear", (2, 9, 11, 4), (1, 2, 2, 1)),
        ("nearest", (1, 2, 5, 6, 7), (1, 1, 2, 3, 2)),
    ],
)
@pytest.mark.parametrize("coordinates", ["half_pixel", "pytorch_half_pixel", "align_corners", "asymmetric"])
def test_matches_onnxruntime(mode, shape, scales, coordinates):
    x = np.random.default_rng(1).normal(size=shape).astype(np.float32)
    sizes = i64([int(n * s) for n, s in zip(shape, scales)])
    inputs = [x, None, None, sizes]
    attributes = dict(mode=mode, coordinate_transformation_mode=coordinates)
    if mode == "nearest":
        attributes["nearest_mode"] = "floor"
    close(run("Resize", inputs, opset=18, **attributes)[0], run_ort("Resize", inputs, opset=18, **attributes)[0], 1e-4)


@pytest.mark.parametrize(
    "dtype", ["float64", "float16", ml_dtypes.bfloat16, "uint8", "int8", "int32", "int64", "complex64"], ids=str
)
@pytest.mark.parametrize("mode", ["linear", "cubic"])
def test_dtypes(dtype, mode):
    rng = np.random.default_rng(2)
    dtype = np.dtype(dtype)
    x = random_array(rng, dtype, (2, 5, 6))
    inputs = [x, None, None, i64([2, 9, 4])]
    parts = [x.real, x.imag] if dtype.kind == "c" else [x]
    wide = [reference("Resize", [p.astype(np.float64), *inputs[1:]], mode=mode) for p in parts]
    got = run("Resize", inputs, mode=mode, opset=19)[0]
    if dtype.kind == "c":
        np.testing.assert_allclose(got, wide[0] + 1j * wide[1], rtol=1e-4, atol=1e-4)
    elif dtype.kind in "iu":
        info = np.iinfo(dtype)
        assert np.abs(got.astype(np.float64) - np.clip(wide[0], info.min, info.max)).max() <= 0.5001
    else:
        # The reference's cubic coefficients are float32.
        tolerance = {8: 1e-12 if mode == "linear" else 2e-5, 4: 1e-5}
        close(got, wide[0].astype(dtype), tolerance.get(dtype.itemsize, 2e-3 if dtype == np.float16 else 2e-2))


def test_policies():
    x = np.arange(24, dtype=np.float32).reshape(1, 1, 4, 6)
    for policy, sizes, shape in (
        ("not_larger", [8, 8], (5, 8)),
        ("not_smaller", [8, 8], (8, 12)),
        ("stretch", [8, 8], (8, 8)),
        ("not_larger", [1, 6], (1, 2)),
    ):
        got = run(
            "Resize", [x, None, None, i64(sizes)], opset=19, axes=[2, 3], keep_aspect_ratio_policy=policy, mode="linear"
        )[0]
        assert got.shape == (1, 1, *shape)
        close(
            got,
            reference(
                "Resize", [x, None, None, i64(sizes)], axes=[2, 3], keep_aspect_ratio_policy=policy, mode="linear"
            ),
        )


def test_scale_of_a_third_steps_over_nothing():
    x = np.arange(9, dtype=np.float32)
    third = np.array([1 / 3], np.float32)
    got = run(
        "Resize",
        [x, None, third],
        opset=19,
        mode="nearest",
        nearest_mode="floor",
        coordinate_transformation_mode="asymmetric",
    )[0]
    assert got.tolist() == [0, 3, 6]


def test_shapes_without_elements():
    x = np.zeros((0, 3), np.float32)
    assert run("Resize", [x, None, np.array([2, 2], np.float32)], opset=19)[0].shape == (0, 6)
    assert run("Resize", [np.ones((4, 3), np.float32), None, None, i64([4, 0])], opset=19)[0].shape == (4, 0)
    assert run("Resize", [np.ones((4, 3), np.float32), None, np.array([0.1, 1], np.float32)], opset=19, mode="linear")[
        0
    ].shape == (0, 3)
    with pytest.raises(sx.Error):
        run("Resize", [x, None, None, i64([2, 3])], opset=19)


@pytest.mark.parametrize("scales", [[0, 1], [-1, 1], [np.nan, 1], [np.inf, 1], [1], [1e18, 1e18], [1e9, 1]])
def test_bad_scales(scales):
    with pytest.raises(sx.Error):
        run("Resize", [np.ones((3, 3), np.float32), None, np.array(scales, np.float32)], opset=19)


def test_bad_attributes():
    x, sizes = np.ones((3, 3), np.float32), i64([2, 2])
    for attributes in (
        {"mode": "quadratic"},
        {"coordinate_transformation_mode": "corner"},
        {"nearest_mode": "round"},
        {"axes": [0, 0]},
        {"axes": [0, 2]},
        {"antialias": 1},
        {"keep_aspect_ratio_policy": "both"},
        {"axes": [0]},
        {"coordinate_transformation_mode": "tf_crop_and_resize"},
    ):
        with pytest.raises(sx.Error):
            run("Resize", [x, None, None, sizes], opset=19, **attributes)
    with pytest.raises(sx.Error):
        run("Resize", [x, None, np.ones(2, np.float32), sizes], opset=19)
    with pytest.raises(sx.Error):
        run("Resize", [x], opset=19)


def test_infinite_roi_is_outside():
    x = np.ones((2, 2), np.float32)
    for roi in ([np.nan, 0, 1, 1], [-1e30, 0, 1e30, 1], [-np.inf, 0, np.inf, 1]):
        for mode in ("nearest", "linear", "cubic"):
            got = run(
                "Resize",
                [x, np.array(roi, np.float32), None, i64([3, 3])],
                opset=19,
                mode=mode,
                extrapolation_value=5.0,
                coordinate_transformation_mode="tf_crop_and_resize",
            )[0]
            assert (got[0] == 5).all()


@pytest.mark.parametrize("mode", ["nearest", "linear"])
def test_upsample(mode):
    x = np.random.default_rng(0).normal(size=(1, 2, 3, 4)).astype(np.float32)
    scales = np.array([1, 1, 2, 3], np.float32)
    close(run("Upsample", [x, scales], opset=9, mode=mode)[0], run_ort("Upsample", [x, scales], opset=9, mode=mode)[0])


GRID = list(itertools.product(["nearest", "linear", "cubic"], ["zeros", "border", "reflection"], [0, 1]))


@pytest.mark.parametrize("mode,padding,align", GRID)
@pytest.mark.parametrize("seed", range(6))
def test_grid_sample(seed, mode, padding, align):
    rng = np.random.default_rng(seed)
    spatial = tuple(int(n) for n in rng.integers(1 if not align else 2, 6, 2))
    x = rng.normal(size=(2, 3, *spatial)).astype(np.float32)
    grid = rng.uniform(-1.6, 1.6, (2, 3, 4, 2)).astype(np.float32)
    attributes = dict(mode=mode, padding_mode=padding, align_corners=align)
    close(
        run("GridSample", [x, grid], opset=22, **attributes)[0],
        reference("GridSample", [x, grid], opset=22, **attributes),
        2e-4,
    )
    if mode != "cubic":
        volume = rng.normal(size=(1, 2, *spatial, 3)).astype(np.float32)
        grid = rng.uniform(-1.6, 1.6, (1, 2, 3, 2, 3)).astype(np.float32)
        close(
            run("GridSample", [volume, grid], opset=22, **attributes)[0],
            reference("GridSample", [volume, grid], opset=22, **attributes),
            2e-4,
        )


@pytest.mark.parametrize("mode,padding,align", GRID)
def test_grid_sample_odd_positions(mode, padding, align):
    x = np.arange(1, 13, dtype=np.float32).reshape(1, 1, 3, 4)
    grid = np.array([np.nan, np.inf, -np.inf, 1e30, -1e30, 1, -1, 0], np.float32)
    grid = np.stack(np.meshgrid(grid, grid), -1)[None]
    got = run("GridSample", [x, grid], opset=22, mode=mode, padding_mode=padding, align_corners=align)[0]
    assert np.isfinite(got).all() and (np.abs(got) < 30).all()


def test_grid_sample_dtypes_and_errors():
    rng = np.random.default_rng(0)
    grid = rng.uniform(-1, 1, (1, 4, 4, 2))
    x = rng.integers(0, 100, (1, 2, 5, 5))
    want = reference("GridSample", [x.astype(np.float32), grid.astype(np.float32)], opset=22)
    for dtype in (np.float16, np.float64, ml_dtypes.bfloat16):
        got = run("GridSample", [x.astype(dtype), grid.astype(dtype)], opset=22)[0]
        assert np.abs(got.astype(np.float64) - want).max() < {2: 6}.get(np.dtype(dtype).itemsize, 1e-4)
    assert np.abs(run("GridSample", [x, grid], opset=22)[0] - want).max() <= 1
    words = random_array(rng, object, (1, 2, 5, 5))
    assert run("GridSample", [words, grid], opset=22, mode="nearest")[0].shape == (1, 2, 4, 4)
    assert run("GridSample", [np.zeros((1, 0, 5, 5), np.float32), grid], opset=22)[0].shape == (1, 0, 4, 4)
    assert (run("GridSample", [np.zeros((1, 2, 0, 5), np.float32), grid], opset=22)[0] == 0).all()
    for bad_x, bad_grid, attributes in (
        (x, grid[..., :1], {}),
        (x[0], grid, {}),
        (np.concatenate([x, x]), grid, {}),
        (x, grid, {"mode": "bi"}),
        (x, grid, {"padding_mode": "edge"}),
        (x[:, :, :0], grid, {"padding_mode": "border"}),
    ):
        with pytest.raises(sx.Error):
            run("GridSample", [bad_x, bad_grid], opset=22, **attributes)


@pytest.mark.parametrize("align", [0, 1])
def test_affine_grid(align):
    rng = np.random.default_rng(1)
    for size in ((2, 3, 4, 5), (2, 3, 2, 4, 3)):
        theta = rng.normal(size=(2, len(size) - 2, len(size) - 1)).astype(np.float32)
        close(
            run("AffineGrid", [theta, i64(size)], opset=20, align_corners=align)[0],
            reference("AffineGrid", [theta, i64(size)], opset=20, align_corners=align),
        )
    for dtype in (np.float16, np.float64, ml_dtypes.bfloat16):
        got = run("AffineGrid", [theta.astype(dtype), i64(size)], opset=20)[0]
        assert got.dtype == dtype
    with pytest.raises(sx.Error):
        run("AffineGrid", [theta, i64([2, 3, 4, 5])], opset=20)
    with pytest.raises(sx.Error):
        run("AffineGrid", [theta, i64([2, 3, -1, 4, 3])], opset=20)
