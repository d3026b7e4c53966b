"""Random tensors: their distributions, and that a draw depends on nothing but seed, node and place."""

import math

import ml_dtypes
import numpy as np
import onnx
import onnx.helper
import pytest

import sardonyx as sx
from node_models import model, run

FLOATS = {
    "float16": onnx.TensorProto.FLOAT16,
    "float32": onnx.TensorProto.FLOAT,
    "float64": onnx.TensorProto.DOUBLE,
    "bfloat16": onnx.TensorProto.BFLOAT16,
}
N = 40000


def draw(op, inputs=(), options=None, opset=22, **attributes):
    return run(op, list(inputs), opset=opset, options=options, **attributes)[0]


def largest_gap(sample, cdf):
    """The Kolmogorov-Smirnov statistic times the square root of the sample's size."""
    x = np.sort(sample.astype(np.float64).ravel())
    expected = cdf(x)
    places = np.arange(1, len(x) + 1) / len(x)
    return max(np.abs(places - expected).max(), np.abs(places - 1 / len(x) - expected).max()) * math.sqrt(len(x))


def normal_cdf(mean, scale):
    return np.vectorize(lambda x: 0.5 * (1 + math.erf((x - mean) / scale / math.sqrt(2))))


@pytest.mark.parametrize("dtype", FLOATS)
def test_normal(dtype):
    x = draw("RandomNormal", shape=[N], mean=1.5, scale=2.0, dtype=FLOATS[dtype], seed=3.0)
    assert x.dtype.name == dtype and x.shape == (N,)
    wide = x.astype(np.float64)
    assert abs(wide.mean() - 1.5) < 5 * 2 / math.sqrt(N) and abs(wide.std() - 2) < 0.05
    if dtype in ("float32", "float64"):
        assert largest_gap(x, normal_cdf(1.5, 2)) < 1.95  # one sample in a thousand exceeds it
        assert abs(np.corrcoef(wide[:-1], wide[1:])[0, 1]) < 0.03


@pytest.mark.parametrize("dtype", FLOATS)
def test_uniform(dtype):
    x = draw("RandomUniform", shape=[200, N // 200], low=-2.0, high=6.0, dtype=FLOATS[dtype], seed=4.0)
    wide = x.astype(np.float64)
    assert x.dtype.name == dtype and wide.min() >= -2 and wide.max() <= 6
    assert abs(wide.mean() - 2) < 0.06 and abs(wide.std() - 8 / math.sqrt(12)) < 0.05
    if dtype in ("float32", "float64"):
        assert largest_gap(x, lambda v: (v + 2) / 8) < 1.95


def test_like():
    x = np.zeros((3, 4, 1), np.float16)
    assert draw("RandomNormalLike", [x]).dtype == np.float16
    assert draw("RandomUniformLike", [x], dtype=onnx.TensorProto.DOUBLE).dtype == np.float64
    assert draw("RandomUniformLike", [np.zeros((2, 0), np.int32)], dtype=onnx.TensorProto.FLOAT).shape == (2, 0)
    assert draw("RandomNormal", shape=[]).shape == ()
    with pytest.raises(sx.Error):
        draw("RandomNormalLike", [np.zeros(3, np.int32)])
    with pytest.raises(sx.Error):
        draw("RandomUniform", shape=[-1])
    with pytest.raises(sx.Error):
        draw("RandomUniform", shape=[3], dtype=onnx.TensorProto.INT32)


@pytest.mark.parametrize(
    "op,attributes",
    [("RandomNormal", {"shape": [301, 77]}), ("RandomUniform", {"shape": [301, 77], "dtype": onnx.TensorProto.DOUBLE})],
)
def test_threads_do_not_change_draws(op, attributes):
    draws = [draw(op, options={"threads": threads, "seed": 11}, **attributes) for threads in (1, 2, 3)]
    assert (draws[0] == draws[1]).all() and (draws[0] == draws[2]).all()
    assert not (draws[0] == draw(op, options={"seed": 12}, **attributes)).all()


def test_runs_and_nodes_differ():
    nodes = [onnx.helper.make_node("RandomUniform", [], [name], shape=[50]) for name in ("a", "b")]
    graph = onnx.helper.make_graph(
        nodes, "g", [], [onnx.helper.make_tensor_value_info(n, onnx.TensorProto.FLOAT, [50]) for n in ("a", "b")]
    )
    proto = onnx.helper.make_model(
        graph, opset_imports=[onnx.helper.make_opsetid("", 22)], ir_version=10
    ).SerializeToString()
    first, second = sx.InferenceSession(proto, seed=5), sx.InferenceSession(proto, seed=5)
    a, b = first.run(None, {})
    again, _ = first.run(None, {})
    assert not (a == b).any() and not (a == again).any()
    assert (second.run(None, {})[0] == a).all() and (second.run(None, {})[0] == again).all()


@pytest.mark.parametrize("dtype", ["float32", "float64", "float16"])
def test_bernoulli(dtype):
    p = np.repeat([0.0, 0.1, 0.5, 1.0], N).astype(dtype).reshape(4, N)
    for target in (
        onnx.TensorProto.BOOL,
        onnx.TensorProto.INT8,
        onnx.TensorProto.UINT64,
        onnx.TensorProto.BFLOAT16,
        None,
    ):
        attributes = {} if target is None else {"dtype": target}
        x = draw("Bernoulli", [p], seed=1.0, **attributes)
        assert x.dtype == (np.dtype(dtype) if target is None else onnx.helper.tensor_dtype_to_np_dtype(target))
        means = x.astype(np.float64).mean(1)
        assert means[0] == 0 and means[3] == 1
        assert abs(means[1] - 0.1) < 0.01 and abs(means[2] - 0.5) < 0.015


@pytest.mark.parametrize("dtype", ["float32", "float64", "float16"])
def test_multinomial(dtype):
    p = np.array([[0.1, 0.0, 0.6, 0.3], [0.25] * 4])
    with np.errstate(divide="ignore"):
        logits = (np.log(p) + [[3], [-2]]).astype(dtype)
    for target in (onnx.TensorProto.INT32, onnx.TensorProto.INT64):
        x = draw("Multinomial", [logits], sample_size=N, dtype=target, seed=2.0)
        assert x.shape == (2, N) and x.dtype == onnx.helper.tensor_dtype_to_np_dtype(target)
        for row, expected in zip(x, p):
            assert np.abs(np.bincount(row, minlength=4) / N - expected).max() < 0.015
        assert not (x[0] == 1).any()


def test_multinomial_errors():
    for logits in (
        np.full((1, 3), -np.inf),
        np.array([[0, np.nan]]),
        np.array([[0, np.inf]]),
        np.zeros((1, 0)),
        np.zeros(3),
    ):
        with pytest.raises(sx.Error):
            draw("Multinomial", [logits.astype(np.float32)])
    with pytest.raises(sx.Error):
        draw("Multinomial", [np.zeros((1, 2), np.float32)], sample_size=-1)
    assert draw("Multinomial", [np.zeros((0, 2), np.float32)]).shape == (0, 1)


def test_bfloat16_normal_is_rounded_float():
    wide = draw("RandomNormal", shape=[100], seed=1.0)
    narrow = draw("RandomNormal", shape=[100], seed=1.0, dtype=onnx.TensorProto.BFLOAT16)
    assert (wide.astype(ml_dtypes.bfloat16) == narrow).all()
    assert len(model("RandomNormal", [], shape=[1])) > 0
