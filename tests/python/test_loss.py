"""SoftmaxCrossEntropyLoss and NegativeLogLikelihoodLoss against formulas in double."""

import ml_dtypes
import numpy as np
import pytest

from single_node import TensorProto, onnx_type, run

BF16 = np.dtype(ml_dtypes.bfloat16)
DTYPES = [np.dtype(np.float32), np.dtype(np.float64), np.dtype(np.float16), BF16]
EPS = {np.dtype(np.float32): 2e-6, np.dtype(np.float64): 1e-13, np.dtype(np.float16): 2e-3, BF16: 1.6e-2}
SHAPES = [(5, 7), (1, 1), (3, 4, 6), (2, 5, 3, 4), (2, 3, 300), (4, 1000), (2, 3, 2, 2, 2), (300, 5, 20)]


def expected(log_prob, labels, weights, ignored, reduction):
    moved = np.moveaxis(log_prob, 1, -1)
    keep = np.ones(labels.shape, bool) if ignored is None else labels != ignored
    safe = np.where(keep, labels, 0)
    w = np.where(keep, 1.0 if weights is None else weights.astype(np.float64)[safe], 0)
    loss = np.where(keep, -np.take_along_axis(moved, safe[..., None], -1)[..., 0] * w, 0)
    if reduction == "none":
        return loss
    return loss.sum() if reduction == "sum" else loss.sum() / w.sum()


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("reduction", ["none", "sum", "mean"])
def test_losses(dtype, shape, reduction):
    rng = np.random.default_rng(0)
    scores = rng.normal(0, 3, shape).astype(dtype)
    labels = rng.integers(0, shape[1], shape[:1] + shape[2:])
    weights = rng.uniform(0.2, 2, shape[1]).astype(dtype)
    x = scores.astype(np.float64)
    top = x.max(1, keepdims=True)
    log_prob = x - top - np.log(np.exp(x - top).sum(1, keepdims=True))
    eps = EPS[dtype]
    for ignored in (None, 0, -1):
        if ignored == -1:
            labels.ravel()[0] = -1
        if ignored is not None and (labels == ignored).all():
            continue
        attributes = {"reduction": reduction} | ({} if ignored is None else {"ignore_index": ignored})
        for w in (None, weights):
            for label_type in (np.int64, np.int32):
                y = labels.astype(label_type)
                with np.errstate(all="ignore"):
                    got = run("NegativeLogLikelihoodLoss", [scores, y, w], [onnx_type(dtype)], **attributes)[
                        0
                    ]
                    want = expected(x, labels, w, ignored, reduction)
                    assert got.dtype == dtype and got.shape == np.shape(want)
                    np.testing.assert_allclose(got.astype(np.float64), want, rtol=eps, atol=eps)
                    got, probabilities = run(
                        "SoftmaxCrossEntropyLoss", [scores, y, w], [onnx_type(dtype)] * 2, **attributes
                    )
                    want = expected(log_prob, labels, w, ignored, reduction)
                    np.testing.assert_allclose(got.astype(np.float64), want, rtol=eps, atol=eps)
                    assert probabilities.dtype == dtype
                    np.testing.assert_allclose(probabilities.astype(np.float64), log_prob, rtol=eps, atol=eps)
                    alone = run("SoftmaxCrossEntropyLoss", [scores, y, w], [onnx_type(dtype)], **attributes)[
                        0
                    ]
                    np.testing.assert_array_equal(alone.astype(np.float64), got.astype(np.float64))


@pytest.mark.parametrize("op", ["SoftmaxCrossEntropyLoss", "NegativeLogLikelihoodLoss"])
def test_refusals(op):
    x = np.zeros((2, 3, 4), np.float32)
    for labels in (
        np.zeros((2, 3), np.int64),
        np.zeros((2,), np.int64),
        np.full((2, 4), 3),
        np.full((2, 4), -1),
    ):
        with pytest.raises(Exception):
            run(op, [x, labels], [TensorProto.FLOAT])
    with pytest.raises(Exception):
        run(op, [x, np.zeros((2, 4), np.int64), np.zeros(4, np.float32)], [TensorProto.FLOAT])


def test_everything_ignored():
    x = np.zeros((2, 3), np.float32)
    labels = np.array([7, 7])
    assert np.isnan(run("NegativeLogLikelihoodLoss", [x, labels], [TensorProto.FLOAT], ignore_index=7)[0])
    assert (
        run("NegativeLogLikelihoodLoss", [x, labels], [TensorProto.FLOAT], ignore_index=7, reduction="sum")[0]
        == 0
    )


def test_extreme_scores():
    x = np.array([[1e4, 0, -1e4], [-np.inf, 0, 0], [np.nan, 0, 0]], np.float32)
    got = run("SoftmaxCrossEntropyLoss", [x, np.array([1, 1, 1])], [TensorProto.FLOAT], reduction="none")[0]
    np.testing.assert_allclose(got, [1e4, np.log(2), np.nan], rtol=1e-6)
