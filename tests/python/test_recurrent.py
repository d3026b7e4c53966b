"""RNN, GRU and LSTM against a numpy transcription of the equations in f64, and against onnxruntime."""

import numpy as np
import pytest

import sardonyx as sx
from nodes import BF16, Node, assert_close

TOLERANCE = {np.dtype("float32"): 2e-5, np.dtype("float64"): 1e-12, np.dtype("float16"): 6e-3, BF16: 5e-2}
GATES = {"RNN": 1, "GRU": 3, "LSTM": 4}
NAMES = [
    "Relu",
    "Tanh",
    "Sigmoid",
    "Affine",
    "LeakyRelu",
    "ThresholdedRelu",
    "ScaledTanh",
    "HardSigmoid",
    "Elu",
    "Softsign",
    "Softplus",
]
TAKES = {
    "Affine": (1.0, 0.0),
    "LeakyRelu": (0.01, None),
    "ThresholdedRelu": (1.0, None),
    "ScaledTanh": (1.0, 1.0),
    "HardSigmoid": (0.2, 0.5),
    "Elu": (1.0, None),
}


def activation(name, a, b):
    return {
        "Relu": lambda x: np.maximum(x, 0),
        "Tanh": np.tanh,
        "Sigmoid": lambda x: 1 / (1 + np.exp(-x)),
        "Affine": lambda x: a * x + b,
        "LeakyRelu": lambda x: np.where(x >= 0, x, a * x),
        "ThresholdedRelu": lambda x: np.where(x >= a, x, 0),
        "ScaledTanh": lambda x: a * np.tanh(b * x),
        "HardSigmoid": lambda x: np.clip(a * x + b, 0, 1),
        "Elu": lambda x: np.where(x >= 0, x, a * np.expm1(np.minimum(x, 0))),
        "Softsign": lambda x: x / (1 + np.abs(x)),
        "Softplus": lambda x: np.logaddexp(0, x),
    }[name]


def functions(names, alphas, betas):
    alphas, betas, out = list(alphas), list(betas), []
    for name in names:
        a, b = TAKES.get(name, (None, None))
        a = alphas.pop(0) if a is not None and alphas else a
        b = betas.pop(0) if b is not None and betas else b
        # Attributes are f32.
        out.append(activation(name, *(None if v is None else float(np.float32(v)) for v in (a, b))))
    return out


def oracle(
    op,
    x,
    w,
    r,
    b=None,
    lens=None,
    h0=None,
    c0=None,
    p=None,
    direction="forward",
    layout=0,
    clip=None,
    activations=None,
    activation_alpha=(),
    activation_beta=(),
    linear_before_reset=0,
    input_forget=0,
    hidden_size=None,
):
    f64 = lambda v: None if v is None else np.asarray(v).astype(np.float64)
    x, w, r, b, h0, c0, p = map(f64, (x, w, r, b, h0, c0, p))
    if layout:
        x = x.swapaxes(0, 1)
        h0, c0 = (None if v is None else v.swapaxes(0, 1) for v in (h0, c0))
    steps, batch, _ = x.shape
    dirs, n, gates = w.shape[0], r.shape[-1], GATES[op]
    default = {"RNN": ["Tanh"], "GRU": ["Sigmoid", "Tanh"], "LSTM": ["Sigmoid", "Tanh", "Tanh"]}[op]
    fs = functions(activations or default * dirs, activation_alpha, activation_beta)
    per = len(default)
    lens = np.full(batch, steps) if lens is None else lens
    clip = None if clip is None else float(np.float32(clip))
    cut = (lambda v: np.clip(v, -clip, clip)) if clip is not None else (lambda v: v)
    y = np.zeros((steps, dirs, batch, n))
    last_h, last_c = np.zeros((dirs, batch, n)), np.zeros((dirs, batch, n))
    for d in range(dirs):
        f = [lambda v, g=g: g(cut(v)) for g in fs[d * per : d * per + 2]] + [
            fs[d * per + 2] if per > 2 else None
        ]
        wb, rb = (np.zeros(gates * n), np.zeros(gates * n)) if b is None else np.split(b[d], 2)
        back = direction == "reverse" or d == 1
        for i in range(batch):
            h = np.zeros(n) if h0 is None else h0[d, i]
            c = np.zeros(n) if c0 is None else c0[d, i]
            for s in range(lens[i]):
                t = lens[i] - 1 - s if back else s
                xs, rs = w[d] @ x[t, i] + wb, r[d] @ h + rb
                if op == "RNN":
                    h = f[0](xs + rs)
                elif op == "GRU":
                    z, reset = f[0]((xs + rs)[:n]), f[0]((xs + rs)[n : 2 * n])
                    if linear_before_reset:
                        fresh = f[1](xs[2 * n :] + reset * rs[2 * n :])
                    else:
                        fresh = f[1](xs[2 * n :] + r[d][2 * n :] @ (reset * h) + rb[2 * n :])
                    h = (1 - z) * fresh + z * h
                else:
                    gi, go, gf, gc = np.split(xs + rs, 4)
                    pi, po, pf = (0, 0, 0) if p is None else np.split(p[d], 3)
                    a = f[0](gi + pi * c)
                    forget = 1 - a if input_forget else f[0](gf + pf * c)
                    c = forget * c + a * f[1](gc)
                    h = f[0](go + po * c) * f[2](c)
                y[t, d, i] = h
            last_h[d, i], last_c[d, i] = h, c
    if layout:
        return y.transpose(2, 0, 1, 3), last_h.swapaxes(0, 1), last_c.swapaxes(0, 1)
    return y, last_h, last_c


def case(op, seed, dtype=np.float32, sizes=None, plain=False):
    """Inputs and attributes of a random configuration; `plain`: one that onnxruntime takes."""
    rng = np.random.default_rng(seed)
    pick = lambda *v: v[rng.integers(len(v))]
    steps, batch, inputs, n = sizes or (
        pick(1, 2, 5, 9),
        pick(1, 2, 3, 30),
        pick(1, 4, 37),
        pick(1, 3, 32, 33, 70),
    )
    direction = pick("forward", "reverse", "bidirectional")
    dirs, gates, layout = 2 if direction == "bidirectional" else 1, GATES[op], 0 if plain else pick(0, 1)
    make = lambda *shape: (rng.normal(0, 1, shape) / np.sqrt(max(inputs, n))).astype(dtype)
    state = (batch, dirs, n) if layout else (dirs, batch, n)
    some = lambda v: v if rng.integers(2) else None
    x = rng.normal(0, 1, (batch, steps, inputs) if layout else (steps, batch, inputs)).astype(dtype)
    values = [
        x,
        make(dirs, gates * n, inputs),
        make(dirs, gates * n, n),
        some(make(dirs, 2 * gates * n)),
        some(rng.integers(1 if plain else 0, steps + 1, batch).astype(np.int32)),
        some(rng.normal(0, 1, state).astype(dtype)),
    ]
    attributes = {"direction": direction, "hidden_size": n}
    if layout:
        attributes["layout"] = 1
    if rng.integers(3) == 0:
        attributes["clip"] = 0.4
    if op == "LSTM":
        values += [some(rng.normal(0, 1, state).astype(dtype)), some(make(dirs, 3 * n))]
        if rng.integers(3) == 0:
            attributes["input_forget"] = 1
    if op == "GRU":
        attributes["linear_before_reset"] = int(rng.integers(2))
    if rng.integers(2):
        count = {"RNN": 1, "GRU": 2, "LSTM": 3}[op]
        # No unbounded functions of the state; onnxruntime has its own default for ScaledTanh.
        pool = ["Tanh", "Sigmoid", "HardSigmoid", "Softsign", "Relu"] + ([] if plain else ["ScaledTanh"])
        first = ["Sigmoid", "HardSigmoid"]
        names = [
            str(rng.choice(first if i % count == 0 and op != "RNN" else pool)) for i in range(count * dirs)
        ]
        attributes["activations"] = names
        needs = [v for v in names if v in TAKES]
        if not plain and needs and rng.integers(2):
            attributes["activation_alpha"] = [
                float(v) for v in np.round(rng.uniform(0.1, 0.5, len(needs)), 3)
            ]
            attributes["activation_beta"] = [float(v) for v in np.round(rng.uniform(0.1, 0.5, len(needs)), 3)]
    return values, attributes


def node(op, values, attributes, constant_weights, outputs=None):
    outs = outputs or [values[0].dtype] * (3 if op == "LSTM" else 2)
    constants = (
        tuple(i for i in (1, 2, 3, 7) if i < len(values) and values[i] is not None)
        if constant_weights
        else ()
    )
    return Node(op, values, outs, constants=constants, **attributes)


def check(op, values, attributes, constant_weights, tolerance):
    got = node(op, values, attributes, constant_weights).run()
    for a, b in zip(got, oracle(op, *values, **attributes)):
        assert a.dtype == values[0].dtype
        assert_close(a, b, tolerance)


@pytest.mark.parametrize("seed", range(60))
@pytest.mark.parametrize("op", GATES)
def test_random_configurations(op, seed):
    check(op, *case(op, seed), seed % 2, TOLERANCE[np.dtype("float32")])


@pytest.mark.parametrize("dtype", ["float64", "float16", BF16], ids=str)
@pytest.mark.parametrize("seed", range(100, 112))
@pytest.mark.parametrize("op", GATES)
def test_other_dtypes(op, seed, dtype):
    dtype = np.dtype(dtype)
    check(op, *case(op, seed, dtype), seed % 2, TOLERANCE[dtype])


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_every_activation(name, dtype):
    rng = np.random.default_rng(3)
    x, w, r = (rng.normal(0, 1, shape).astype(dtype) / 4 for shape in ((4, 3, 5), (1, 34, 5), (1, 34, 34)))
    for given in ({}, {"activation_alpha": [0.3], "activation_beta": [0.2]}):
        check("RNN", [x * 8, w, r], {"activations": [name], "hidden_size": 34} | given, True, 2e-5)


@pytest.mark.parametrize("seed", range(200, 220))
@pytest.mark.parametrize("op", GATES)
def test_against_onnxruntime(op, seed):
    values, attributes = case(op, seed, plain=True)
    attributes.pop("clip", None)  # onnxruntime clips the cell state as well
    one = node(op, values, attributes, True)
    for a, b in zip(one.run(), one.ort()):
        assert_close(a, b, 5e-5)


@pytest.mark.parametrize("op", GATES)
def test_long_and_wide(op):
    """More steps than are projected at once, and more rows and blocks than one thread takes."""
    check(op, *case(op, 1, sizes=(300, 40, 20, 96)), True, 5e-5)


@pytest.mark.parametrize("op", GATES)
def test_outputs_may_be_left_out(op):
    values, attributes = case(op, 3)
    want = oracle(op, *values, **attributes)
    count = 3 if op == "LSTM" else 2
    for only in range(count):
        outs = [np.float32 if i == only else None for i in range(only + 1)]
        assert_close(node(op, values, attributes, True, outs).run()[0], want[only], 2e-5)


@pytest.mark.parametrize("op", GATES)
def test_empty(op):
    for steps, batch in ((0, 2), (3, 0)):
        x = np.zeros((steps, batch, 4), np.float32)
        w, r = np.ones((1, GATES[op] * 5, 4), np.float32), np.ones((1, GATES[op] * 5, 5), np.float32)
        h0 = np.ones((1, batch, 5), np.float32)
        y, y_h = Node(op, [x, w, r, None, None, h0], [np.float32, np.float32]).run()[:2]
        assert y.shape == (steps, 1, batch, 5)
        np.testing.assert_array_equal(y_h, h0)


def test_nan_stays_in_its_sequence():
    values, _ = case("LSTM", 5, sizes=(3, 4, 6, 40))
    x = np.random.default_rng(0).normal(0, 1, (3, 4, 6)).astype(np.float32)
    x[1, 2, 3] = np.nan
    w, r = values[1][:1], values[2][:1]
    y = Node("LSTM", [x, w, r], [np.float32]).run()[0]
    assert np.isnan(y[1:, 0, 2]).all()
    assert np.isfinite(y[:, 0, [0, 1, 3]]).all() and np.isfinite(y[0]).all()


BAD = {
    "W": lambda v, a: v.__setitem__(1, v[1][:, :-1]),
    "R": lambda v, a: v.__setitem__(2, v[2][:, :, :-1]),
    "rank": lambda v, a: v.__setitem__(0, v[0][0]),
    "B": lambda v, a: v.__setitem__(3, np.zeros((1, 3), np.float32)),
    "direction": lambda v, a: a.update(direction="sideways"),
    "directions": lambda v, a: a.update(direction="bidirectional"),
    "activation": lambda v, a: a.update(activations=["Nope"] * 3),
    "hidden": lambda v, a: a.update(hidden_size=77),
    "long": lambda v, a: v.__setitem__(4, np.full(2, 9, np.int32)),
    "negative": lambda v, a: v.__setitem__(4, np.full(2, -1, np.int32)),
    "state": lambda v, a: v.__setitem__(5, np.zeros((1, 3, 5), np.float32)),
    "layout": lambda v, a: a.update(layout=3),
}


@pytest.mark.parametrize("bad", BAD)
@pytest.mark.parametrize("op", GATES)
def test_bad_input(op, bad):
    n = GATES[op] * 5
    values = [
        np.zeros((3, 2, 4), np.float32),
        np.zeros((1, n, 4), np.float32),
        np.zeros((1, n, 5), np.float32),
        None,
        None,
        None,
    ]
    attributes = {}
    BAD[bad](values, attributes)
    with pytest.raises(sx.Error):
        Node(op, values, [np.float32], **attributes).run()
