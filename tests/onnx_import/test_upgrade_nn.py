"""Old versions of the operators of neural networks: normalization, pooling, resizing, scans."""

import numpy as np
import pytest
from onnx import TensorProto, helper

from upgrade_models import KNOWLEDGE, check, floats, make_model, run, run_node, run_ort

FLOAT, INT64, BOOL = TensorProto.FLOAT, TensorProto.INT64, TensorProto.BOOL

knowledge = pytest.mark.parametrize("knowledge", KNOWLEDGE)


# --- dropout ----------------------------------------------------------------------------------------------

@knowledge
@pytest.mark.parametrize("opset", [1, 6, 7, 10, 12, 13])
@pytest.mark.parametrize("ratio", [None, 0.3])
def test_dropout_of_a_test(opset, ratio, knowledge):
    x = floats(3, 4)
    attributes = {} if ratio is None or opset >= 12 else {"ratio": ratio}
    if opset < 7:
        attributes["is_test"] = 1
    check(run_node("Dropout", [x], opset, knowledge=knowledge, **attributes), [x])


@pytest.mark.parametrize("opset,mask", [(7, FLOAT), (9, FLOAT), (10, BOOL), (12, BOOL)])
def test_dropout_mask(opset, mask):
    x = floats(3, 4)
    ours = run_node("Dropout", [x], opset, 2, types=[FLOAT, mask])
    check(ours, [x, np.ones((3, 4), np.float32 if mask == FLOAT else np.bool_)])


@pytest.mark.parametrize("opset", [1, 6])
def test_dropout_of_a_training(opset):
    x = np.ones((100, 100), np.float32)
    y, mask = run_node("Dropout", [x], opset, 2, is_test=0, ratio=0.25)
    kept = y != 0
    assert 0.7 < kept.mean() < 0.8
    np.testing.assert_allclose(y[kept], 1 / 0.75, rtol=1e-6)
    assert mask.dtype == np.float32
    np.testing.assert_array_equal(mask, kept)


# --- batch normalization ----------------------------------------------------------------------------------

def normalized(x, scale, bias, mean, var, axes=None):
    shape = [1] * x.ndim
    shape[1] = -1
    s, b, m, v = (a.reshape(shape) if axes is None else a for a in (scale, bias, mean, var))
    return ((x - m) / np.sqrt(v + 1e-5) * s + b).astype(np.float32)


def statistics(*shape):
    scale, bias, mean, var = (floats(*shape, seed=seed) for seed in range(1, 5))
    return [scale, bias, mean, np.abs(var) + 0.1]


@knowledge
@pytest.mark.parametrize("opset", [1, 6, 7, 9, 14])
def test_batch_normalization_of_a_test(opset, knowledge):
    x, stats = floats(2, 3, 4, 5), statistics(3)
    attributes = {"is_test": 1} if opset < 7 else {}
    if opset == 1:
        attributes["consumed_inputs"] = [0, 0, 0, 1, 1]
    ours = run_node("BatchNormalization", [x, *stats], opset, knowledge=knowledge, **attributes)
    check(ours, [normalized(x, *stats)])


@knowledge
@pytest.mark.parametrize("opset", [1, 6, 7, 9])
def test_batch_normalization_of_a_training(opset, knowledge):
    x, (scale, bias, mean, var) = floats(4, 3, 5, 2), statistics(3)
    attributes = {"consumed_inputs": [0, 0, 0, 1, 1]} if opset == 1 else {}
    batch_mean, batch_var = x.mean((0, 2, 3)), x.var((0, 2, 3))
    expected = [normalized(x, scale, bias, batch_mean, batch_var), mean * 0.8 + batch_mean * 0.2,
                var * 0.8 + batch_var * 0.2, batch_mean, batch_var]
    inputs = [x, scale, bias, mean, var]
    ours = run_node("BatchNormalization", inputs, opset, 5, knowledge=knowledge, momentum=0.8, **attributes)
    check(ours, [e.astype(np.float32) for e in expected], 1e-4)
    if opset >= 7:
        # Its last output is not the variance but 1 / sqrt(variance + epsilon).
        _, theirs = run_node("BatchNormalization", inputs, opset, 5, ort=True, momentum=0.8)
        check(ours[:4], theirs[:4], 1e-4)


def test_batch_normalization_trains_by_default_until_opset_6():
    x, (scale, bias, mean, var) = floats(8, 3, 4), statistics(3)
    expected = normalized(x, scale, bias, x.mean((0, 2)), x.var((0, 2)))
    check(run_node("BatchNormalization", [x, scale, bias, mean, var], 6), [expected], 1e-4)


@knowledge
@pytest.mark.parametrize("opset", [6, 7, 8])
@pytest.mark.parametrize("shape", [(2, 3, 4, 5), (4, 3), (2, 3, 4)])
def test_batch_normalization_of_every_element(shape, opset, knowledge):
    x, stats = floats(*shape), statistics(*shape[1:])
    attributes = {"is_test": 1} if opset < 7 else {}
    ours = run_node("BatchNormalization", [x, *stats], opset, knowledge=knowledge, spatial=0, **attributes)
    check(ours, [normalized(x, *stats, axes=())])


@knowledge
def test_batch_normalization_training_of_every_element(knowledge):
    x, (scale, bias, mean, var) = floats(6, 3, 4), statistics(3, 4)
    expected = [normalized(x, scale, bias, x.mean(0), x.var(0), axes=()), mean * 0.9 + x.mean(0) * 0.1,
                var * 0.9 + x.var(0) * 0.1, x.mean(0), x.var(0)]
    ours = run_node("BatchNormalization", [x, scale, bias, mean, var], 7, 5, knowledge=knowledge, spatial=0)
    check(ours, [e.astype(np.float32) for e in expected], 1e-4)


@pytest.mark.parametrize("opset", [1, 6])
def test_instance_normalization(opset):
    x, scale, bias = floats(2, 3, 4, 5), floats(3, seed=1), floats(3, seed=2)
    attributes = {"consumed_inputs": [0]} if opset == 1 else {}
    mean, var = x.mean((2, 3), keepdims=True), x.var((2, 3), keepdims=True)
    expected = (x - mean) / np.sqrt(var + 1e-5) * scale[:, None, None] + bias[:, None, None]
    ours = run_node("InstanceNormalization", [x, scale, bias], opset, **attributes)
    check(ours, [expected.astype(np.float32)], 1e-4)


@knowledge
@pytest.mark.parametrize("dtype,tolerance", [(np.float32, 1e-4), (np.float64, 1e-12)])
@pytest.mark.parametrize("shape", [(2, 6, 4, 5), (3, 6)])
def test_group_normalization_of_opset_18(shape, dtype, tolerance, knowledge):
    x = floats(*shape, dtype=dtype)
    scale, bias = floats(3, seed=1, dtype=dtype), floats(3, seed=2, dtype=dtype)
    groups = x.reshape(shape[0], 3, -1)
    epsilon = float(np.float32(1e-5))
    y = (groups - groups.mean(2, keepdims=True)) / np.sqrt(groups.var(2, keepdims=True) + epsilon)
    expected = (y * scale[:, None] + bias[:, None]).reshape(shape).astype(dtype)
    ours = run_node("GroupNormalization", [x, scale, bias], 18, knowledge=knowledge, num_groups=3)
    check(ours, [expected], tolerance)


# --- pooling ----------------------------------------------------------------------------------------------

def lp_pool(x, p, kernel, stride, pad):
    padded = np.pad(np.abs(x.astype(np.float64)), [(0, 0), (0, 0), (pad, pad), (pad, pad)])
    windows = np.lib.stride_tricks.sliding_window_view(padded, (kernel, kernel), (2, 3))
    windows = windows[:, :, ::stride, ::stride]
    return ((windows ** p).sum((4, 5)) ** (1 / p)).astype(np.float32)


@knowledge
@pytest.mark.parametrize("p", [None, 1.0, 2.0, 3.0, 2.5])
def test_lp_pool_of_opset_1(p, knowledge):
    x = floats(2, 3, 6, 7)
    attributes = dict(kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1])
    if p is not None:
        attributes["p"] = p
    ours = run_node("LpPool", [x], 1, knowledge=knowledge, **attributes)
    check(ours, [lp_pool(x, p or 2.0, 3, 2, 1)], 1e-4)


@knowledge
@pytest.mark.parametrize("p", [None, 1.0, 3.0, 1.5])
def test_global_lp_pool_of_opset_1(p, knowledge):
    x = floats(2, 3, 4, 5)
    power = p or 2.0
    expected = (np.abs(x.astype(np.float64)) ** power).sum((2, 3), keepdims=True) ** (1 / power)
    ours = run_node("GlobalLpPool", [x], 1, knowledge=knowledge, **({} if p is None else {"p": p}))
    check(ours, [expected.astype(np.float32)], 1e-4)


@pytest.mark.parametrize("opset", [7, 8, 10, 11, 12])
def test_pooling(opset):
    x = floats(2, 3, 9, 8)
    attributes = dict(kernel_shape=[3, 2], strides=[2, 2], pads=[1, 0, 1, 1])
    check(*run_node("MaxPool", [x], opset, ort=True, **attributes))
    check(*run_node("AveragePool", [x], opset, ort=True, **attributes))
    check(*run_node("AveragePool", [x], opset, ort=True, count_include_pad=1, **attributes))
    check(*run_node("AveragePool", [x], opset, ort=True, kernel_shape=[3, 3], strides=[2, 2],
                    auto_pad="SAME_LOWER"))


# --- resizing ---------------------------------------------------------------------------------------------

UPSCALES = [(2, 2), (2, 3), (1.5, 2.5), (1, 2), (1.3, 1)]
SCALES = UPSCALES + [(0.5, 0.5), (0.6, 0.6), (0.75, 2.5), (2, 0.3), (1, 0.7)]


def factors(scales):
    return np.array([1, 1, *scales], np.float32)


@knowledge
@pytest.mark.parametrize("mode", ["nearest", "linear"])
@pytest.mark.parametrize("scales", UPSCALES)
def test_upsample(scales, mode, knowledge):
    x = floats(2, 3, 4, 5)
    for fixed in ((1,), ()):
        nine, theirs = run_node("Upsample", [x, factors(scales)], 9, ort=True, fixed=fixed,
                                knowledge=knowledge, mode=mode)
        check(nine, theirs)
    check(*run_node("Upsample", [x], 7, ort=True, knowledge=knowledge, mode=mode,
                    scales=factors(scales).tolist()))
    check(run_node("Upsample", [x], 1, knowledge=knowledge, mode={"linear": "bilinear"}.get(mode, mode),
                   height_scale=float(scales[0]), width_scale=float(scales[1])), theirs)


@knowledge
@pytest.mark.parametrize("mode", ["nearest", "linear"])
@pytest.mark.parametrize("scales", SCALES)
@pytest.mark.parametrize("fixed", [(), (1,)])
def test_resize_of_opset_10(scales, mode, fixed, knowledge):
    x = floats(2, 3, 6, 7)
    check(*run_node("Resize", [x, factors(scales)], 10, ort=True, fixed=fixed, knowledge=knowledge,
                    mode=mode))


@pytest.mark.parametrize("mode", ["nearest", "linear", "cubic"])
@pytest.mark.parametrize("coordinates", ["half_pixel", "asymmetric", "align_corners", "pytorch_half_pixel"])
@pytest.mark.parametrize("sized", [True, False])
def test_resize_of_opset_11(mode, coordinates, sized):
    x, empty = floats(1, 2, 4, 5), np.zeros(0, np.float32)
    inputs = [x, empty, empty, np.array([1, 2, 7, 3], np.int64)] if sized else [x, empty, factors((1.5, 0.6))]
    check(*run_node("Resize", inputs, 11, ort=True, fixed=(1, 2, 3), mode=mode,
                    coordinate_transformation_mode=coordinates), 1e-4)


@pytest.mark.parametrize("scales", [(2, 2), (2.5, 1.5), (0.5, 0.6)])
@pytest.mark.parametrize("rounding", ["floor", "round_prefer_floor"])
def test_resize_half_pixel_for_nearest(scales, rounding):
    x, empty = floats(1, 2, 6, 7), np.zeros(0, np.float32)
    check(*run_node("Resize", [x, empty, factors(scales)], 11, ort=True, fixed=(1, 2), mode="nearest",
                    coordinate_transformation_mode="tf_half_pixel_for_nn", nearest_mode=rounding))


@pytest.mark.parametrize("mode", ["bilinear", "nearest", "bicubic", None])
def test_grid_sample(mode):
    x, grid = floats(2, 3, 5, 6), np.clip(floats(2, 4, 3, 2, seed=1), -1.2, 1.2)
    check(*run_node("GridSample", [x, grid], 16, ort=True, **({} if mode is None else {"mode": mode})), 1e-4)


@pytest.mark.parametrize("mode", ["avg", "max"])
def test_roi_align_of_opset_10(mode):
    x = floats(2, 3, 8, 8)
    rois, batch = np.array([[0, 0, 5, 5], [1.5, 2, 7, 6]], np.float32), np.array([0, 1], np.int64)
    check(*run_node("RoiAlign", [x, rois, batch], 10, ort=True, mode=mode, output_height=3, output_width=2,
                    sampling_ratio=2, spatial_scale=0.9), 1e-4)


# --- scans over a batch -----------------------------------------------------------------------------------

def scan_model(feeds, lengths, directions, knowledge):
    """A running sum of x + w * z, where w is of the enclosing graph, and twice the sum of each step."""
    body = helper.make_graph(
        [helper.make_node("Mul", ["z", "w"], ["zw"]), helper.make_node("Add", ["x", "zw"], ["step"]),
         helper.make_node("Add", ["state", "step"], ["next"]),
         helper.make_node("Add", ["next", "next"], ["twice"])],
        "body", [helper.make_tensor_value_info(n, FLOAT, [3]) for n in ("state", "x", "z")],
        [helper.make_tensor_value_info(n, FLOAT, [3]) for n in ("next", "twice")])
    attributes = {} if directions is None else {"directions": directions}
    node = helper.make_node("Scan", ["lengths" if lengths else "", "start", "xs", "zs"], ["final", "sums"],
                            body=body, num_scan_inputs=2, **attributes)
    return make_model([node], feeds, {"final": FLOAT, "sums": FLOAT}, 8, knowledge=knowledge)


@pytest.mark.parametrize("knowledge", ["shape", "symbols"])
@pytest.mark.parametrize("lengths", [None, [5, 2, 4], [1, 5, 5], [0, 5, 2]])
@pytest.mark.parametrize("directions", [None, [0, 1], [1, 1]])
def test_scan_over_a_batch(lengths, directions, knowledge):
    feeds = {"start": floats(3, 3), "xs": floats(3, 5, 3, seed=1), "zs": floats(3, 5, 3, seed=2),
             "w": floats(3, seed=3)}
    if lengths:
        feeds["lengths"] = np.array(lengths, np.int64)
    model = scan_model(feeds, lengths, directions, knowledge)
    final, sums = np.zeros((3, 3), np.float32), np.zeros((3, 5, 3), np.float32)
    for example in range(3):
        length = lengths[example] if lengths else 5
        xs, zs = feeds["xs"][example, :length], feeds["zs"][example, :length]
        xs, zs = (values[::-1] if flag else values for values, flag in zip((xs, zs), directions or (0, 0)))
        state = feeds["start"][example]
        for step in range(length):
            state = state + xs[step] + zs[step] * feeds["w"]
            sums[example, step] = 2 * state
        final[example] = state
    ours = run(model, feeds)
    check(ours, [final, sums], 1e-4)
    if not lengths or 0 not in lengths:  # ONNX Runtime refuses an empty sequence
        check(ours, run_ort(model, feeds), 1e-4)


def test_scan_without_states():
    body = helper.make_graph([helper.make_node("Neg", ["x"], ["y"])], "body",
                             [helper.make_tensor_value_info("x", FLOAT, [2])],
                             [helper.make_tensor_value_info("y", FLOAT, [2])])
    node = helper.make_node("Scan", ["", "xs"], ["ys"], body=body, num_scan_inputs=1)
    xs = floats(3, 4, 2)
    check(run(make_model([node], {"xs": xs}, {"ys": FLOAT}, 8), {"xs": xs}), [-xs])
