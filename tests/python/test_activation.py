"""Activations and Dropout against closed forms in double."""

import math

import ml_dtypes
import numpy as np
import pytest

from single_node import TensorProto, onnx_type, run, run_one
from test_elementwise import BF16, FLOATS, INTS, assert_close, quiet, values, wide  # noqa: F401

erf = np.vectorize(math.erf, otypes=[np.float64])
erfc = np.vectorize(math.erfc, otypes=[np.float64])


def sigmoid(x):
    e = np.exp(-np.abs(x))
    return np.where(x < 0, e, 1) / (1 + e)


def softplus(x):
    return np.maximum(x, 0) + np.log1p(np.exp(-np.abs(x)))


def hard_sigmoid(x, a, b):
    return np.clip(a * x + b, 0, 1)


f32 = lambda v: float(np.float32(v))  # noqa: E731  attributes are f32
SELU_ALPHA, SELU_GAMMA = f32(1.67326319217681884765625), f32(1.05070102214813232421875)
# name, attributes, closed form in double
CASES = [
    ("Relu", {}, lambda x: np.maximum(x, 0)),
    ("LeakyRelu", {}, lambda x: np.where(x < 0, f32(0.01) * x, x)),
    ("LeakyRelu", {"alpha": 0.3}, lambda x: np.where(x < 0, f32(0.3) * x, x)),
    ("Elu", {}, lambda x: np.where(x < 0, np.expm1(x), x)),
    ("Elu", {"alpha": 2.5}, lambda x: np.where(x < 0, 2.5 * np.expm1(x), x)),
    ("Celu", {}, lambda x: np.where(x < 0, np.expm1(x), x)),
    ("Celu", {"alpha": 2.5}, lambda x: np.where(x < 0, 2.5 * np.expm1(x / 2.5), x)),
    ("Selu", {}, lambda x: np.where(x > 0, SELU_GAMMA * x, SELU_GAMMA * SELU_ALPHA * np.expm1(x))),
    ("Selu", {"alpha": 2.0, "gamma": 3.0}, lambda x: np.where(x > 0, 3 * x, 6 * np.expm1(x))),
    ("ThresholdedRelu", {}, lambda x: np.where(x <= 1, 0, x)),
    ("ThresholdedRelu", {"alpha": 2.5}, lambda x: np.where(x <= 2.5, 0, x)),
    ("Sigmoid", {}, sigmoid),
    ("Softplus", {}, softplus),
    ("Softsign", {}, lambda x: x / (1 + np.abs(x))),
    ("Mish", {}, lambda x: x * np.tanh(softplus(x))),
    ("Swish", {}, lambda x: x * sigmoid(x)),
    ("Swish", {"alpha": 1.5}, lambda x: x * sigmoid(1.5 * x)),
    ("Gelu", {}, lambda x: 0.5 * x * erfc(-x / math.sqrt(2))),
    (
        "Gelu",
        {"approximate": "tanh"},
        lambda x: x * sigmoid(2 * math.sqrt(2 / math.pi) * (x + 0.044715 * x * x * x)),
    ),
]


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
@pytest.mark.parametrize("case", CASES, ids=lambda c: c[0] + str(list(c[1].values())))
def test_activation(case, dtype):
    op, attributes, closed = case
    x = values(dtype)
    got, want = run_one(op, x, **attributes), closed(x.astype(np.float64))
    if dtype in (np.float32, np.float64):
        # Far out on the tails, where results vanish, digits are lost; nothing else is.
        near = ~(np.abs(want) < 1e-6)
        assert_close(got[near], want[near], dtype, 8 if dtype == np.float32 else 100)
        np.testing.assert_allclose(
            got[~near], want[~near], rtol=5e-5 if dtype == np.float32 else 1e-12, atol=1e-37
        )
    else:
        assert_close(got, want, dtype, 1.02)


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
def test_hard(dtype):
    """Differences that cancel: compared absolutely."""
    x = values(dtype)
    xd = x.astype(np.float64)
    for op, attributes, want in (
        ("HardSigmoid", {}, hard_sigmoid(xd, f32(0.2), 0.5)),
        ("HardSigmoid", {"alpha": 0.5, "beta": 0.25}, hard_sigmoid(xd, 0.5, 0.25)),
        ("HardSwish", {}, xd * hard_sigmoid(xd, 1 / 6, 0.5)),
    ):
        got = run_one(op, x, **attributes)
        assert got.dtype == dtype
        eps = {np.float32: 1e-6, np.float64: 1e-14, np.float16: 2e-3}.get(dtype.type, 2e-2)
        np.testing.assert_allclose(
            got.astype(np.float64), want.astype(dtype).astype(np.float64), rtol=eps, atol=eps
        )


@pytest.mark.parametrize("op", ["Sigmoid", "Softplus", "Mish", "Gelu", "Elu"])
def test_vector_functions_everywhere(op):
    x = np.random.default_rng(0).normal(0, 6, 200_003).astype(np.float32)
    closed = {name: f for name, a, f in CASES if not a}[op]
    want = closed(x.astype(np.float64))
    near = np.abs(want) > 1e-6
    assert_close(run_one(op, x)[near], want[near], x.dtype, 8)


def test_relu_of_integers():
    for name in ("int8", "int16", "int32", "int64"):
        x = values(np.dtype(name))
        np.testing.assert_array_equal(run_one("Relu", x), np.maximum(x, 0))


@pytest.mark.parametrize(
    "dtype", FLOATS + [np.dtype(n) for n in ("int32", "int64", "uint32", "uint64")], ids=str
)
@pytest.mark.parametrize("shape", [(), (1,), (3, 1), (2, 3, 5), (5,), (1, 1)], ids=str)
def test_prelu(dtype, shape):
    rng = np.random.default_rng(0)
    x = rng.normal(0, 5, (2, 3, 5))
    s = np.asarray(rng.normal(0, 5, shape))
    if dtype not in FLOATS and dtype.kind == "u":
        x, s = np.abs(x), np.abs(s)
    x, s = x.astype(dtype), s.astype(dtype)
    w = wide(dtype)
    want = np.where(x < 0, x.astype(w) * s.astype(w), x.astype(w)).astype(dtype)
    got = run_one("PRelu", x, s)
    assert got.dtype == dtype
    np.testing.assert_array_equal(got.astype(w), want.astype(w))


def test_prelu_refuses_a_larger_slope():
    with pytest.raises(Exception):
        run_one("PRelu", np.zeros((3,), np.float32), np.zeros((2, 3), np.float32))


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
@pytest.mark.parametrize("alpha", [1.0, 1.5])
def test_swiglu(dtype, alpha):
    rng = np.random.default_rng(0)
    a, b = (rng.normal(0, 4, (7, 333)).astype(dtype) for _ in range(2))
    x = a.astype(np.float64)
    want = x * sigmoid(alpha * x) * b.astype(np.float64)
    assert_close(
        run_one("SwiGLU", a, b, alpha=alpha),
        want,
        dtype,
        40 if dtype == np.float32 else 16 if dtype == np.float64 else 1.02,
    )


@pytest.mark.parametrize("dtype", [d for d in FLOATS if d != BF16] + INTS, ids=str)
def test_shrink(dtype):
    x = values(dtype)
    if dtype not in FLOATS:
        x = x[np.abs(x.astype(np.float64)) < 2.0**40]
    got = run_one("Shrink", x, lambd=1.5, bias=1.0)
    w = np.dtype(np.float64 if dtype not in FLOATS else wide(dtype)).type
    v = x.astype(w)
    want = np.where(v < -1.5, v + w(1), np.where(v > 1.5, v - w(1), np.where(np.isnan(v), v, w(0))))
    if dtype in FLOATS:
        assert_close(got, want.astype(dtype), dtype)
    else:
        ok = (want >= np.iinfo(dtype).min) & (want <= np.iinfo(dtype).max)
        np.testing.assert_array_equal(got[ok], want[ok].astype(dtype))


def dropout(x, ratio=None, training=None, outputs=2, constants=(), seed=None, session=None):
    inputs = [
        x,
        None if ratio is None else np.asarray(ratio, x.dtype),
        None if training is None else np.array(training),
    ]
    attributes = {} if seed is None else {"seed": seed}
    return run(
        "Dropout",
        inputs,
        [onnx_type(x.dtype), TensorProto.BOOL][:outputs],
        constants,
        session=session,
        **attributes,
    )


@pytest.mark.parametrize(
    "dtype", FLOATS + [np.dtype(ml_dtypes.float8_e4m3fn), np.dtype(ml_dtypes.float8_e5m2)], ids=str
)
def test_dropout_inference(dtype):
    x = np.arange(1, 13).reshape(3, 4).astype(dtype)
    for arguments in (
        {},
        {"ratio": 0.75},
        {"ratio": 0.75, "training": False},
        {"ratio": 0.0, "training": True},
    ):
        y, mask = dropout(x, **arguments)
        assert y.dtype == dtype and mask.all() and mask.shape == x.shape
        np.testing.assert_array_equal(y.astype(np.float32), x.astype(np.float32))


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
def test_dropout_training(dtype):
    x = np.full(100_003, 2).astype(dtype)
    y, mask = dropout(x, 0.25, True)
    np.testing.assert_array_equal(
        y.astype(np.float64), np.where(mask, np.float64(2 / 0.75).astype(dtype).astype(np.float64), 0)
    )
    assert abs(mask.mean() - 0.75) < 0.006


def test_dropout_draws():
    x = np.ones(300_001, np.float32)
    first = dropout(x, 0.5, True, seed=7, session={"threads": 1})[1]
    np.testing.assert_array_equal(first, dropout(x, 0.5, True, seed=7, session={"threads": 2})[1])
    assert (first != dropout(x, 0.5, True, seed=8)[1]).mean() > 0.4
    # Neighbours are independent of each other.
    assert abs(np.corrcoef(first[1:], first[:-1])[0, 1]) < 0.01
    # The draw of an element does not depend on how many follow it.
    np.testing.assert_array_equal(first[:1000], dropout(x[:1000], 0.5, True, seed=7)[1])
    # Everything is dropped at ratio 1; others are refused.
    assert not dropout(x, 1.0, True)[1].any()
    for ratio in (-0.1, 1.1, np.nan):
        with pytest.raises(Exception, match="ratio"):
            dropout(x, ratio, True)


def test_empty_and_scalar():
    for op, _, _ in CASES:
        assert run_one(op, np.zeros((0, 3), np.float32)).shape == (0, 3)
        x = np.asarray(-0.7, np.float32)
        assert run_one(op, x) == run_one(op, x.reshape(1))[0]
