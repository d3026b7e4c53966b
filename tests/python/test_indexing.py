"""Operators that address elements by index or find indices, against numpy."""

import ml_dtypes
import numpy as np
import pytest

import sardonyx as sx
from node_models import NUMBERS, STORAGE_DTYPES, assert_same, random_array, random_shape, run, run_ort, some_constants

SEEDS = range(60)
BF16 = np.dtype(ml_dtypes.bfloat16)


def i64(values):
    return np.array(values, dtype=np.int64)


def index_type(rng, indices):
    return np.asarray(indices).astype(np.int32 if rng.random() < 0.3 else np.int64)


def random_indices(rng, size, shape):
    """Indices in [-size, size); no index fits an axis of size 0."""
    return rng.integers(-size, size, shape) if size else np.zeros((*shape[:-1], 0) if shape else (0,), np.int64)


def random_input(seed, lowest=1, highest=4, **kwargs):
    rng = np.random.default_rng(seed)
    dtype = STORAGE_DTYPES[seed % len(STORAGE_DTYPES)]
    return rng, random_array(rng, dtype, random_shape(rng, int(rng.integers(lowest, highest + 1)), **kwargs))


def check(op, inputs, want, rng=None, **attributes):
    constants = some_constants(rng, inputs) if rng else ()
    got = run(op, inputs, outputs=len(want), constants=constants, **attributes)
    for g, w in zip(got, want, strict=True):
        assert_same(g, w)


@pytest.mark.parametrize("seed", SEEDS)
def test_gather(seed):
    rng, x = random_input(seed)
    axis = int(rng.integers(-x.ndim, x.ndim))
    indices = random_indices(rng, x.shape[axis], random_shape(rng, int(rng.integers(0, 4))))
    check("Gather", [x, index_type(rng, indices)], [np.take(x, indices, axis)], rng, axis=axis)


@pytest.mark.parametrize("dtype", ["float32", "uint8", "float16", "int64"])
def test_gather_rows(dtype):
    rng = np.random.default_rng(7)
    table = random_array(rng, dtype, (500, 300))
    indices = rng.integers(-500, 500, (7, 90))
    check("Gather", [table, indices], [table[indices]])
    with pytest.raises(sx.InputError, match="501|500"):
        run("Gather", [table, i64([1] * 50 + [500])])


@pytest.mark.parametrize("index", [3, -4, 2**62, -(2**63), 2**31 - 1])
def test_gather_out_of_range(index):
    x = np.zeros((3, 3), np.float32)
    for axis in (0, 1):
        with pytest.raises(sx.InputError, match=str(index)):
            run("Gather", [x, i64([0, index])], axis=axis)
        with pytest.raises(sx.InputError, match=str(index)):
            run("GatherElements", [x, i64([[0, index]])], axis=axis)
        with pytest.raises(sx.InputError, match=str(index)):
            run("ScatterElements", [x, i64([[0, index]]), np.zeros((1, 2), np.float32)], axis=axis)
    with pytest.raises(sx.InputError, match=str(index)):
        run("GatherND", [x, i64([[0, index]])])
    with pytest.raises(sx.InputError, match=str(index)):
        run("ScatterND", [x, i64([[0, index]]), np.zeros(1, np.float32)])
    with pytest.raises(sx.InputError):
        run("Gather", [np.zeros((0, 3), np.float32), i64([0])])


@pytest.mark.parametrize("seed", SEEDS)
def test_gather_elements(seed):
    rng, x = random_input(seed)
    axis = int(rng.integers(-x.ndim, x.ndim))
    shape = [int(rng.integers(0, n + 1)) for n in x.shape]
    shape[axis] = int(rng.integers(0, 6)) if x.shape[axis] else 0
    indices = rng.integers(-x.shape[axis], x.shape[axis], shape) if x.shape[axis] else np.zeros(shape, np.int64)
    cut = tuple(slice(None) if d == axis % x.ndim else slice(0, n) for d, n in enumerate(shape))
    check("GatherElements", [x, index_type(rng, indices)], [np.take_along_axis(x[cut], indices, axis)], rng, axis=axis)


def test_gather_elements_shapes():
    x = np.zeros((3, 3), np.float32)
    for shape in ((4, 2), (2,), (2, 2, 2)):
        with pytest.raises(sx.Error):
            run("GatherElements", [x, np.zeros(shape, np.int64)], axis=1)


@pytest.mark.parametrize("seed", SEEDS)
def test_gather_nd(seed):
    rng, x = random_input(seed, lowest=2, highest=5, zero=0)
    batch = int(rng.integers(0, x.ndim - 1))
    k = int(rng.integers(1, x.ndim - batch + 1))
    middle = random_shape(rng, int(rng.integers(0, 3)), zero=0.1, largest=4)
    sizes = x.shape[batch : batch + k]
    indices = np.stack([rng.integers(-n, n, (*x.shape[:batch], *middle)) for n in sizes], -1)
    want = np.empty((*x.shape[:batch], *middle, *x.shape[batch + k :]), x.dtype)
    for at in np.ndindex(*x.shape[:batch], *middle):
        want[at] = x[at[:batch] + tuple(indices[at])]
    check("GatherND", [x, indices], [want], rng, batch_dims=batch)


def combine(reduction, old, new, dtype):
    if reduction == "none":
        return new
    if dtype == bool:
        return {"add": old | new, "max": old | new, "mul": old & new, "min": old & new}[reduction]
    with np.errstate(over="ignore"):
        return {"add": np.add, "mul": np.multiply, "max": np.maximum, "min": np.minimum}[reduction](old, new)


REDUCTIONS = ["none", "add", "mul", "max", "min"]


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("seed", range(30))
def test_scatter_elements(seed, reduction):
    dtypes = STORAGE_DTYPES if reduction == "none" else [*NUMBERS, np.dtype(bool)]
    rng = np.random.default_rng(seed)
    x = random_array(rng, dtypes[seed % len(dtypes)], random_shape(rng, int(rng.integers(1, 4))))
    axis = int(rng.integers(0, x.ndim))
    shape = [int(rng.integers(0, n + 1)) for n in x.shape]
    if reduction != "none":
        shape[axis] = int(rng.integers(0, 9)) if x.shape[axis] else 0
    indices = np.zeros(shape, np.int64)
    for line in np.ndindex(*(n for d, n in enumerate(shape) if d != axis)):
        place = (*line[:axis], slice(None), *line[axis:])
        indices[place] = (
            rng.permutation(x.shape[axis])[: shape[axis]]
            if reduction == "none"
            else random_indices(rng, x.shape[axis], (shape[axis],))
        )
    updates = random_array(rng, x.dtype, tuple(shape))
    want = x.copy()
    for at in np.ndindex(*shape):
        place = (*at[:axis], indices[at], *at[axis + 1 :])
        want[place] = combine(reduction, want[place], updates[at], x.dtype)
    check(
        "ScatterElements", [x, index_type(rng, indices), updates], [want], rng, axis=axis - x.ndim, reduction=reduction
    )
    if reduction == "none" and x.dtype != ml_dtypes.bfloat16:  # which Scatter, long replaced, never learnt
        check("Scatter", [x, index_type(rng, indices), updates], [want], rng, axis=axis, opset=9)


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("seed", range(30))
def test_scatter_nd(seed, reduction):
    dtypes = STORAGE_DTYPES if reduction == "none" else [*NUMBERS, np.dtype(bool)]
    rng = np.random.default_rng(seed)
    x = random_array(rng, dtypes[seed % len(dtypes)], random_shape(rng, int(rng.integers(1, 4)), zero=0))
    k = int(rng.integers(1, x.ndim + 1))
    places = [tuple(p) for p in np.ndindex(*x.shape[:k])]
    count = int(rng.integers(0, len(places) + 1))
    if reduction == "none":
        chosen = [places[i] for i in rng.permutation(len(places))[:count]]
    else:
        chosen = [places[i] for i in rng.integers(0, len(places), count)]
    indices = i64(chosen).reshape(count, k)
    updates = random_array(rng, x.dtype, (count, *x.shape[k:]))
    want = x.copy()
    for at, update in zip(chosen, updates):
        want[at] = combine(reduction, want[at], update, x.dtype)
    check("ScatterND", [x, indices, updates], [want], rng, reduction=reduction)


def test_scatter_bfloat16_and_nan():
    x = np.array([1, np.nan, 3], np.float32)
    for dtype in (np.float32, np.float16, BF16, np.float64):
        got = run(
            "ScatterElements", [x.astype(dtype), i64([0, 1, 2]), np.array([np.nan, 2, 5], dtype)], reduction="max"
        )[0]
        assert np.isnan(got.astype(np.float32)).tolist() == [True, True, False]
    with pytest.raises(sx.Error):
        run("ScatterElements", [np.array(["a"], object), i64([0]), np.array(["b"], object)], reduction="add")
    with pytest.raises(sx.Error):
        run("ScatterElements", [x, i64([0]), x[:1]], reduction="sum")


def test_scatter_large_keeps_order():
    rng = np.random.default_rng(2)
    x = np.zeros((3, 20000), np.float32)
    indices = rng.integers(0, 3, (500, 1))
    updates = rng.random((500, 20000), np.float32)
    want = x.copy()
    for (i,), update in zip(indices, updates):
        want[i] += update
    check("ScatterND", [x, indices, updates], [want], reduction="add")


@pytest.mark.parametrize("seed", range(24))
def test_tensor_scatter(seed):
    rng = np.random.default_rng(seed)
    dtype = [d for d in STORAGE_DTYPES if d != object][seed % 13]
    batch, heads, size, width = (int(n) for n in rng.integers(1, 5, 4))
    axis = int(rng.integers(1, 4))
    shape = [batch, heads, width, width]
    shape[axis] = size
    cache = random_array(rng, dtype, tuple(shape))
    shape[axis] = length = int(rng.integers(0, size + 1))
    update = random_array(rng, dtype, tuple(shape))
    circular = rng.random() < 0.5
    write = rng.integers(0, 20 if circular else size - length + 1, batch)
    want = cache.copy()
    for b in range(batch):
        for s in range(length):
            to = (write[b] + s) % size if circular else write[b] + s
            np.moveaxis(want[b], axis - 1, 0)[to] = np.moveaxis(update[b], axis - 1, 0)[s]
    check(
        "TensorScatter",
        [cache, update, write],
        [want],
        axis=axis - 4,
        mode="circular" if circular else "linear",
        opset=24,
    )
    want = cache.copy()
    np.moveaxis(want, axis, 0)[:length] = np.moveaxis(update, axis, 0)
    check("TensorScatter", [cache, update], [want], axis=axis, opset=24)


def test_tensor_scatter_errors():
    cache, update = np.zeros((2, 1, 4, 3), np.float32), np.zeros((2, 1, 2, 3), np.float32)
    for write in ([0, 3], [-1, 0], [0]):
        with pytest.raises(sx.Error):
            run("TensorScatter", [cache, update, i64(write)], opset=24)
    with pytest.raises(sx.Error):
        run("TensorScatter", [update, cache], opset=24)
    with pytest.raises(sx.Error):
        run("TensorScatter", [cache, update], axis=0, opset=24)


def top_k(x, k, axis, largest):
    """Ties go to the lower index; NaN is above every number."""
    key = np.where(x != x, np.inf, x.astype(np.float64)) if x.dtype.kind == "f" else x.astype(object)
    rank = np.argsort(-key if largest else key, axis, kind="stable")
    indices = np.take(rank, range(k), axis)
    return np.take_along_axis(x, indices, axis), indices.astype(np.int64)


@pytest.mark.parametrize("seed", range(80))
def test_top_k(seed):
    rng = np.random.default_rng(seed)
    x = random_array(
        rng, NUMBERS[seed % len(NUMBERS)], random_shape(rng, int(rng.integers(1, 4)), largest=60 if seed % 2 else 9)
    )
    axis, largest = int(rng.integers(-x.ndim, x.ndim)), int(rng.integers(0, 2))
    k = int(rng.integers(0, x.shape[axis] + 1)) if seed % 3 else min(3, x.shape[axis])
    if x.dtype.kind == "f" and x.size and seed % 4 == 0:
        x.ravel()[int(rng.integers(x.size))] = np.nan
    values, indices = top_k(x, k, axis, largest)
    check("TopK", [x, i64([k])], [values, indices], rng, axis=axis, largest=largest)
    got = run("TopK", [x, i64([k])], outputs=2, axis=axis, largest=largest, sorted=0)
    assert_same(np.sort(got[1], axis), np.sort(indices, axis))
    assert_same(got[0], np.take_along_axis(x, got[1], axis))


def test_top_k_errors():
    x = np.zeros((3, 4), np.float32)
    for k in ([5], [-1], [1, 2], [2**62]):
        with pytest.raises(sx.Error):
            run("TopK", [x, i64(k)], outputs=2)


@pytest.mark.parametrize("seed", range(60))
def test_unique(seed):
    rng = np.random.default_rng(seed)
    dtypes = [*NUMBERS, np.dtype(object), np.dtype(bool), np.dtype("complex64")]
    dtype = dtypes[seed % len(dtypes)]
    x = random_array(rng, dtype, random_shape(rng, int(rng.integers(1, 4)), zero=0.02))
    if dtype != bool and x.size:  # fewer different values
        few = x.ravel()[: 3 + seed % 3]
        x = few[rng.integers(0, len(few), x.shape)]
    axis = None if rng.random() < 0.4 else int(rng.integers(-x.ndim, x.ndim))
    lines = x.ravel() if axis is None else np.moveaxis(x, axis, 0)
    keys = [(v,) if axis is None else tuple(v.ravel()) for v in lines]
    if dtype.kind == "c":
        keys = [tuple((v.real, v.imag) for v in key) for key in keys]
    for is_sorted in (0, 1):
        order = sorted(set(keys)) if is_sorted else list(dict.fromkeys(keys))
        first = i64([keys.index(key) for key in order])
        inverse = i64([order.index(key) for key in keys])
        counts = i64([keys.count(key) for key in order])
        y = x.ravel()[first] if axis is None else np.take(x, first, axis)
        attributes = {} if axis is None else {"axis": axis}
        check("Unique", [x], [y, first, inverse, counts], sorted=is_sorted, **attributes)
        check("Unique", [x], [y], sorted=is_sorted, **attributes)


@pytest.mark.parametrize("shape, axis", [((3, 0), 0), ((0, 3), 1), ((2, 3, 0), 1), ((0, 0), 0), ((2, 0), 1)])
def test_unique_slices_of_nothing(shape, axis):
    n = shape[axis]
    y = np.zeros(shape, np.float32).take(range(min(n, 1)), axis)
    check("Unique", [np.zeros(shape, np.float32)], [y, i64([0][:n]), i64([0] * n), i64([n][:n])], axis=axis)


def test_unique_nan():
    y, first, inverse, counts = run("Unique", [np.array([np.nan, 1, np.nan, -np.inf, 1], np.float32)], outputs=4)
    np.testing.assert_array_equal(y, np.array([-np.inf, 1, np.nan], np.float32))
    assert first.tolist() == [3, 1, 0] and inverse.tolist() == [2, 1, 2, 0, 1] and counts.tolist() == [1, 2, 2]


@pytest.mark.parametrize("seed", SEEDS)
def test_one_hot(seed):
    rng = np.random.default_rng(seed)
    depth = int(rng.integers(0, 7))
    indices = rng.integers(-8, 9, random_shape(rng, int(rng.integers(1, 4)), largest=4))
    dtype = NUMBERS[seed % len(NUMBERS)]
    if dtype.kind == "u":
        indices = np.abs(indices)
    axis = int(rng.integers(-indices.ndim - 1, indices.ndim + 1))
    values = random_array(rng, STORAGE_DTYPES[seed % len(STORAGE_DTYPES)], (2,))
    if values.dtype == BF16:
        values = values.astype(np.float32)
    wrapped = np.where(indices < 0, indices + depth, indices)
    hot = np.expand_dims(wrapped, axis) == np.arange(depth).reshape(
        [-1] + [1] * (indices.ndim - (axis % (indices.ndim + 1)))
    )
    want = np.where(hot, values[1], values[0]).astype(values.dtype)
    depth_value = np.array(depth, rng.choice(["int64", "float32", "uint8"])).reshape(() if rng.random() < 0.5 else (1,))
    check("OneHot", [indices.astype(dtype), depth_value, values], [want], rng, axis=axis)


def test_one_hot_special():
    off_on = np.array([0, 1], np.float32)
    check(
        "OneHot",
        [np.array([np.nan, np.inf, -1e30, 1.9], np.float32), i64(3), off_on],
        [np.array([[0, 0, 0]] * 3 + [[0, 1, 0]], np.float32)],
    )
    check("OneHot", [np.array([2**64 - 1], np.uint64), i64(3), off_on], [np.zeros((1, 3), np.float32)])
    for depth in (-1, 2**62):
        with pytest.raises(sx.Error):
            run("OneHot", [i64([0, 1, 2, 3, 4]), i64(depth), off_on])
    with pytest.raises(sx.Error):
        run("OneHot", [i64([0]), i64(2), np.zeros(3, np.float32)])


@pytest.mark.parametrize("seed", range(80))
@pytest.mark.parametrize("op", ["ArgMax", "ArgMin"])
def test_arg_extreme(op, seed):
    rng = np.random.default_rng(seed)
    shape = (
        random_shape(rng, int(rng.integers(1, 5)), zero=0) if seed % 5 else random_shape(rng, 2, zero=0, largest=400)
    )
    x = random_array(rng, NUMBERS[seed % len(NUMBERS)], shape)
    if x.dtype.kind == "f" and seed % 3 == 0:
        x.ravel()[rng.integers(0, x.size, 2)] = np.nan
    axis, keepdims, last = int(rng.integers(-x.ndim, x.ndim)), bool(rng.integers(0, 2)), bool(rng.integers(0, 2))
    find = np.argmax if op == "ArgMax" else np.argmin
    want = (
        x.shape[axis] - 1 - find(np.flip(x, axis), axis, keepdims=keepdims)
        if last
        else find(x, axis, keepdims=keepdims)
    )
    check(op, [x], [np.asarray(want, np.int64)], axis=axis, keepdims=int(keepdims), select_last_index=int(last))


def test_arg_extreme_empty():
    check("ArgMax", [np.zeros((0, 3), np.float32)], [np.zeros((0, 1), np.int64)], axis=1)
    with pytest.raises(sx.Error):
        run("ArgMax", [np.zeros((0, 3), np.float32)], axis=0)
    check("ArgMin", [np.array([3, 1, 2], BF16)], [i64([1])])


@pytest.mark.parametrize("dtype", ["float32", "float64", "float16", BF16], ids=str)
def test_hardmax(dtype):
    x = random_array(np.random.default_rng(4), dtype, (4, 5, 6))
    for axis in range(-3, 3):
        want = np.arange(x.shape[axis]).reshape([-1] + [1] * (2 - axis % 3)) == np.argmax(
            x.astype(np.float32), axis, keepdims=True
        )
        check("Hardmax", [x], [want.astype(dtype)], axis=axis)


@pytest.mark.parametrize("seed", range(40))
def test_non_max_suppression(seed):
    rng = np.random.default_rng(seed)
    batches, classes, boxes = int(rng.integers(1, 3)), int(rng.integers(1, 4)), int(rng.integers(1, 60))
    centers, sizes = rng.random((batches, boxes, 2)), rng.random((batches, boxes, 2)) * 0.4
    centered = seed % 2
    if centered:
        data = np.concatenate([centers, sizes], -1)
    else:  # any diagonal
        corner = np.where(rng.random((batches, boxes, 2)) < 0.5, -0.5, 0.5)
        data = np.concatenate([centers + sizes * corner, centers - sizes * corner], -1)
    scores = np.round(rng.random((batches, classes, boxes)), 1 if seed % 4 == 0 else 8)
    inputs = [
        data.astype(np.float32),
        scores.astype(np.float32),
        i64([int(rng.integers(0, 20))]),
        np.array([rng.random()], np.float32),
        np.array([rng.random() * 0.6], np.float32) if seed % 3 else None,
    ]
    while inputs[-1] is None:
        inputs.pop()
    want = run_ort("NonMaxSuppression", inputs, center_point_box=centered)
    check("NonMaxSuppression", inputs, want, center_point_box=centered)


def test_non_max_suppression_defaults():
    boxes, scores = np.zeros((1, 3, 4), np.float32), np.ones((1, 1, 3), np.float32)
    check("NonMaxSuppression", [boxes, scores], [np.zeros((0, 3), np.int64)])
    scores[0, 0, 1] = np.nan
    check("NonMaxSuppression", [boxes, scores, i64([9])], [i64([[0, 0, 0], [0, 0, 2]])])
    with pytest.raises(sx.Error):
        run("NonMaxSuppression", [boxes, scores, i64([3]), np.array([1.5], np.float32)])
    with pytest.raises(sx.Error):
        run("NonMaxSuppression", [boxes, np.ones((1, 1, 4), np.float32)])
