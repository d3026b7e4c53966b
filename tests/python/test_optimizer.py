"""Adagrad, Adam and Momentum against their equations, in f32 and f64, for one and several tensors."""

import numpy as np
import pytest

import sardonyx as sx
from nodes import assert_close, run

DOMAIN = "ai.onnx.preview.training"


def adagrad(r, t, x, g, h, norm_coefficient=0.0, decay_factor=0.0, epsilon=1e-6):
    g = norm_coefficient * x + g
    h = h + g * g
    return x - r / (1 + t * decay_factor) * g / (np.sqrt(h) + epsilon), h


def adam(
    r, t, x, g, v, h, norm_coefficient=0.0, norm_coefficient_post=0.0, alpha=0.9, beta=0.999, epsilon=1e-6
):
    g = norm_coefficient * x + g
    v = alpha * v + (1 - alpha) * g
    h = beta * h + (1 - beta) * g * g
    rate = r * np.sqrt(1 - beta**t) / (1 - alpha**t) if t > 0 else r
    return (1 - norm_coefficient_post) * (x - rate * v / (np.sqrt(h) + epsilon)), v, h


def momentum(r, t, x, g, v, norm_coefficient, alpha, beta, mode):
    g = norm_coefficient * x + g
    v = alpha * v + (beta if t > 0 else 1) * g
    return x - r * (g + alpha * v if mode == "nesterov" else v), v


CASES = [
    ("Adagrad", adagrad, 3, {}),
    ("Adagrad", adagrad, 3, dict(norm_coefficient=0.25, decay_factor=0.5, epsilon=1e-3)),
    ("Adam", adam, 4, {}),
    (
        "Adam",
        adam,
        4,
        dict(norm_coefficient=0.25, norm_coefficient_post=0.125, alpha=0.5, beta=0.75, epsilon=0.0078125),
    ),
] + [
    ("Momentum", momentum, 3, dict(norm_coefficient=0.25, alpha=0.5, beta=0.75, mode=m))
    for m in ("standard", "nesterov")
]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("t", [0, 1, 7])
@pytest.mark.parametrize("op,equations,groups,attributes", CASES, ids=lambda v: str(v)[:20])
def test_equations(op, equations, groups, attributes, t, dtype):
    rng = np.random.default_rng(0)
    exact = {k: v if isinstance(v, str) else float(np.float32(v)) for k, v in attributes.items()}
    if op == "Adam":
        exact = {
            "alpha": float(np.float32(0.9)),
            "beta": float(np.float32(0.999)),
            "epsilon": float(np.float32(1e-6)),
        } | exact
    if op == "Adagrad":
        exact = {"epsilon": float(np.float32(1e-6))} | exact
    for shapes in ([(5,)], [(3, 4), (), (20000,)], [(0, 3), (2,)]):
        tensors = [
            [
                np.asarray(np.abs(rng.normal(0, 1, s)) if k == groups - 1 else rng.normal(0, 1, s)).astype(
                    dtype
                )
                for s in shapes
            ]
            for k in range(groups)
        ]
        inputs = [np.array(0.125, dtype), np.array(t, np.int64)] + [x for group in tensors for x in group]
        outs = run(op, inputs, [dtype] * (len(shapes) * (groups - 1)), domain=DOMAIN, **attributes)
        for i in range(len(shapes)):
            want = equations(0.125, t, *(group[i].astype(np.float64) for group in tensors), **exact)
            for k, b in enumerate(want):
                got = outs[k * len(shapes) + i]
                assert got.dtype == dtype
                assert_close(got, b, 1e-12 if dtype == np.float64 else 1e-5)


def test_bad_input():
    x, r, t = np.ones(3, np.float32), np.array(0.1, np.float32), np.array(1, np.int64)
    for inputs in (
        [r, t, x, x],
        [r, t, x, x, np.ones(4, np.float32)],
        [r, t, x, x, x.astype(np.float64)],
        [np.ones(2, np.float32), t, x, x, x],
    ):
        with pytest.raises(sx.Error):
            run("Adagrad", inputs, [np.float32] * 2, domain=DOMAIN)
    with pytest.raises(sx.Error):
        run(
            "Momentum",
            [r, t, x, x, x],
            [np.float32] * 2,
            domain=DOMAIN,
            norm_coefficient=0.0,
            alpha=0.5,
            beta=0.5,
            mode="other",
        )
