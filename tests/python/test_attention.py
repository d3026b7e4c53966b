"""Attention, FlexAttention, LinearAttention and RotaryEmbedding against onnx.reference and numpy in f64."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

import sardonyx as sx
from nodes import BF16, Node, assert_close, run

TOLERANCE = {np.dtype("float32"): 1e-5, np.dtype("float64"): 1e-12, np.dtype("float16"): 4e-3, BF16: 3e-2}


def case(seed, dtype=np.float32):
    rng = np.random.default_rng(seed)
    pick = lambda *v: v[rng.integers(len(v))]
    batch, kv, group = pick(1, 2), pick(1, 2, 3), pick(1, 1, 2, 8)
    q_len, k_len, head, v_head = (
        pick(1, 1, 3, 17, 60),
        pick(1, 5, 33, 70),
        pick(4, 16, 33),
        pick(4, 32, 40, 64),
    )
    heads, packed, past = kv * group, pick(False, True), pick(0, 0, 4, 35)
    normal = lambda *shape: rng.normal(0, 1, shape).astype(dtype)
    if packed:
        q, k, v = (
            normal(batch, q_len, heads * head),
            normal(batch, k_len, kv * head),
            normal(batch, k_len, kv * v_head),
        )
    else:
        q, k, v = (
            normal(batch, heads, q_len, head),
            normal(batch, kv, k_len, head),
            normal(batch, kv, k_len, v_head),
        )
    attributes = {"q_num_heads": heads, "kv_num_heads": kv} if packed else {}
    inputs = [q, k, v, None, None, None, None]
    if past:
        inputs[4:6] = normal(batch, kv, past, head), normal(batch, kv, past, v_head)
    elif rng.integers(3) == 0:
        inputs[6] = rng.integers(1, k_len + 1, batch).astype(np.int64)
    total = past + k_len
    shape = pick(
        None,
        (total,),
        (q_len, total),
        (1, q_len, total),
        (heads, q_len, total),
        (batch, 1, q_len, total),
        (batch, heads, q_len, total),
    )
    if shape and heads and not (len(shape) == 3 and shape[0] not in (1, heads)):
        if rng.integers(2):
            inputs[3] = rng.integers(0, 4, shape) > 0
        else:
            inputs[3] = normal(*shape)
            inputs[3][rng.integers(0, 5, shape) == 0] = -np.inf
    if rng.integers(2) and not (
        inputs[3] is not None and inputs[3].ndim == 1
    ):  # the reference refuses these together
        attributes["is_causal"] = 1
    for side in ("left_window_size", "right_window_size"):
        if rng.integers(4) == 0:
            attributes[side] = int(pick(0, 2, 20))
    if rng.integers(3) == 0:
        attributes["softcap"] = 1.5
    if rng.integers(3) == 0:
        attributes["scale"] = 0.25
    # Mode 0 of the reference is what comes after the soft cap; the specification says before.
    attributes["qk_matmul_output_mode"] = int(pick(1, 2, 3) if "softcap" in attributes else pick(0, 1, 2, 3))
    return inputs, attributes


def wide(x):
    return x if x is None or x.dtype.kind in "bi" else x.astype(np.float64)


def check(inputs, attributes, tolerance, outs):
    dtype = inputs[0].dtype
    node = Node("Attention", inputs, [dtype if o else None for o in outs], **attributes)
    with np.errstate(all="ignore"):
        want = Node(
            "Attention",
            [wide(x) for x in inputs],
            [np.float64 if o else None for o in (1, 1, 1, 1)],
            **attributes,
        ).reference()
    got = iter(node.run())
    for wanted, b in zip(outs, want):
        if wanted:
            a = next(got)
            assert a.dtype == dtype
            assert_close(a, b, tolerance)


@pytest.mark.parametrize("seed", range(150))
def test_random_configurations(seed):
    inputs, attributes = case(seed)
    outs = [(1,), (1, 1, 1), (1, 0, 0, 1), (1, 1, 1, 1)][seed % 4]
    if inputs[6] is not None:
        outs = (1,)
    check(inputs, attributes, TOLERANCE[np.dtype("float32")], outs)


@pytest.mark.parametrize("dtype", ["float64", "float16", BF16], ids=str)
@pytest.mark.parametrize("seed", range(200, 230))
def test_other_dtypes(seed, dtype):
    dtype = np.dtype(dtype)
    inputs, attributes = case(seed, dtype)
    check(inputs, attributes, TOLERANCE[dtype], (1,) if inputs[6] is not None else (1, 1, 1))


def test_wider_than_one_block():
    rng = np.random.default_rng(0)
    q, k, v = (rng.normal(0, 1, (2, 3, 300, 64)).astype(np.float32) for _ in range(3))
    for attributes in ({}, {"is_causal": 1}, {"left_window_size": 40, "right_window_size": 3}):
        check([q, k, v, None, None, None, None], attributes, 1e-5, (1,))


def test_values_of_another_type():
    rng = np.random.default_rng(1)
    q, k = (rng.normal(0, 1, (1, 2, 5, 8)).astype(np.float32) for _ in range(2))
    v = rng.normal(0, 1, (1, 2, 5, 8)).astype(np.float16)
    y, present = Node("Attention", [q, k, v], [np.float32, None, np.float16]).run()
    assert y.dtype == np.float32 and present.dtype == np.float16
    want = Node("Attention", [q, k, v.astype(np.float32)], [np.float32]).reference()[0]
    assert_close(y, want, 1e-5)


def test_a_mask_may_be_shorter():
    rng = np.random.default_rng(2)
    q, k, v = (rng.normal(0, 1, (2, 2, 6, 8)).astype(np.float32) for _ in range(3))
    for mask in (rng.normal(0, 1, (6, 4)).astype(np.float32), rng.integers(0, 2, (6, 4)).astype(bool)):
        check([q, k, v, mask, None, None, None], {}, 1e-5, (1,))


def test_rows_without_keys_are_zero():
    rng = np.random.default_rng(3)
    q, k, v = (rng.normal(0, 1, (1, 1, 4, 8)).astype(np.float32) for _ in range(3))
    mask = np.ones((4, 4), bool)
    mask[1] = False
    y = run("Attention", [q, k, v, mask], [np.float32])[0]
    assert (y[0, 0, 1] == 0).all() and np.isfinite(y).all()
    bias = np.where(mask, np.float32(0), np.float32(-np.inf))
    assert_close(run("Attention", [q, k, v, bias], [np.float32])[0], y, 1e-6)


@pytest.mark.parametrize("precision", [1, 10, 11, 16])
def test_softmax_precision(precision):
    rng = np.random.default_rng(4)
    q, k, v = (rng.normal(0, 1, (1, 2, 5, 8)).astype(np.float32) for _ in range(3))
    inputs = [q, k, v]
    got = run("Attention", inputs, [np.float32], softmax_precision=precision)[0]
    want = Node("Attention", inputs, [np.float32]).reference()[0]
    assert_close(got, want, {1: 1e-5, 11: 1e-5, 10: 3e-3, 16: 3e-2}[precision])


BAD = {
    "heads": dict(shapes=[(1, 3, 4, 8), (1, 2, 4, 8), (1, 2, 4, 8)]),
    "size": dict(shapes=[(1, 2, 4, 8), (1, 2, 4, 6), (1, 2, 4, 8)]),
    "keys": dict(shapes=[(1, 2, 4, 8), (1, 2, 4, 8), (1, 2, 5, 8)]),
    "batch": dict(shapes=[(2, 2, 4, 8), (1, 2, 4, 8), (1, 2, 4, 8)]),
    "no heads": dict(shapes=[(1, 4, 8)] * 3),
    "odd heads": dict(shapes=[(1, 4, 8)] * 3, q_num_heads=3, kv_num_heads=3),
    "zero heads": dict(shapes=[(1, 4, 8)] * 3, q_num_heads=0, kv_num_heads=0),
    "mode": dict(shapes=[(1, 2, 4, 8)] * 3, qk_matmul_output_mode=7),
    "precision": dict(shapes=[(1, 2, 4, 8)] * 3, softmax_precision=7),
    "window": dict(shapes=[(1, 2, 4, 8)] * 3, left_window_size=-5),
    "mask": dict(shapes=[(1, 2, 4, 8)] * 3 + [(3, 4)]),
    "wide mask": dict(shapes=[(1, 2, 4, 8)] * 3 + [(4, 9)]),
    "one past": dict(shapes=[(1, 2, 4, 8)] * 3 + [None, (1, 2, 3, 8)]),
    "rank": dict(shapes=[(1, 2, 4, 8), (1, 4, 8), (1, 4, 8)]),
}


@pytest.mark.parametrize("bad", BAD)
def test_bad_input(bad):
    options = dict(BAD[bad])
    inputs = [None if s is None else np.ones(s, np.float32) for s in options.pop("shapes")]
    with pytest.raises(sx.Error):
        run("Attention", inputs, [np.float32], **options)


def test_bad_valid_lengths():
    x = np.ones((2, 1, 4, 8), np.float32)
    for lengths in ([5, 1], [-1, 1]):
        with pytest.raises(sx.Error):
            run("Attention", [x, x, x, None, None, None, np.array(lengths, np.int64)], [np.float32])


# ---- FlexAttention


def flex(inputs, score=None, prob=None, **attributes):
    def body(op, operand, shape, elem):
        nodes = [helper.make_node(op, ["s", "c"], ["o"])]
        return helper.make_graph(
            nodes,
            "mod",
            [helper.make_tensor_value_info("s", elem, shape)],
            [helper.make_tensor_value_info("o", elem, shape)],
            [onnx.numpy_helper.from_array(operand, "c")],
        )

    q, k = inputs[:2]
    shape = (q.shape[0], q.shape[1], q.shape[2], k.shape[2])
    elem = TensorProto.DOUBLE if q.dtype == np.float64 else TensorProto.FLOAT
    wide = np.float64 if q.dtype == np.float64 else np.float32
    for name, mod in (("score_mod", score), ("prob_mod", prob)):
        if mod:
            attributes[name] = body(mod[0], np.asarray(mod[1], wide), shape, elem)
    return Node("FlexAttention", inputs, [q.dtype], domain="ai.onnx.preview", **attributes)


@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
def test_flex_attention(dtype):
    rng = np.random.default_rng(5)
    for heads, kv, q_len, k_len, size, v_size in (
        (2, 2, 3, 5, 8, 8),
        (4, 2, 1, 33, 16, 40),
        (2, 1, 50, 20, 33, 7),
    ):
        inputs = [
            rng.normal(0, 1, (2, h, n, e)).astype(dtype)
            for h, n, e in ((heads, q_len, size), (kv, k_len, size), (kv, k_len, v_size))
        ]
        bias = rng.normal(0, 1, (q_len, k_len))
        bias[:, 0] = 0
        for score, prob in (
            (None, None),
            (("Add", bias), None),
            (None, ("Mul", bias)),
            (("Mul", bias), ("Mul", bias)),
        ):
            got = flex(inputs, score, prob, scale=0.25).run()[0]
            # The reference takes the square root of the scale in f32: 0.25 has an exact one.
            want = flex([x.astype(np.float64) for x in inputs], score, prob, scale=0.25).reference()[0]
            assert_close(got, want, TOLERANCE[dtype])


def test_flex_attention_keeps_the_shape():
    x = np.ones((1, 1, 2, 4), np.float32)
    with pytest.raises(sx.Error):
        flex([x, x, x], ("Add", np.zeros((3, 1, 1, 2, 2)))).run()


# ---- LinearAttention and RotaryEmbedding


@pytest.mark.parametrize("dtype", ["float32", "float16", BF16], ids=str)
@pytest.mark.parametrize("rule", ["linear", "gated", "delta", "gated_delta"])
def test_linear_attention(rule, dtype):
    rng = np.random.default_rng(6)
    dtype = np.dtype(dtype)
    for heads, kv, size, v_size, steps, past, per_key, one_beta in (
        (2, 2, 8, 8, 5, 0, 0, 0),
        (4, 2, 5, 40, 1, 1, 1, 1),
        (6, 2, 16, 33, 9, 1, 0, 1),
    ):
        make = lambda width, f=1.0: (rng.normal(0, 1, (2, steps, width)) * f).astype(dtype)
        key = make(kv * size).reshape(2, steps, kv, size)
        key = (
            (key / np.linalg.norm(key.astype(np.float32), axis=-1, keepdims=True))
            .reshape(2, steps, -1)
            .astype(dtype)
        )
        inputs = [
            make(heads * size),
            key,
            make(kv * v_size),
            rng.normal(0, 1, (2, kv, size, v_size)).astype(dtype) if past else None,
            -np.abs(make(kv * size if per_key else kv, 0.3)) if "gated" in rule else None,
            (np.abs(make(1 if one_beta else kv, 0.2))) if "delta" in rule else None,
        ]
        while inputs[-1] is None:
            inputs.pop()
        attributes = dict(q_num_heads=heads, kv_num_heads=kv, update_rule=rule)
        got = run("LinearAttention", inputs, [dtype, dtype], **attributes)
        want = Node(
            "LinearAttention",
            [None if x is None else x.astype(np.float32) for x in inputs],
            [np.float32] * 2,
            **attributes,
        ).reference()
        for a, b in zip(got, want):
            assert a.dtype == dtype
            assert_close(a, b, TOLERANCE[dtype])


@pytest.mark.parametrize(
    "bad",
    [
        dict(q_num_heads=3, kv_num_heads=2),
        dict(q_num_heads=0, kv_num_heads=0),
        dict(q_num_heads=2, kv_num_heads=2, update_rule="other"),
        dict(q_num_heads=2, kv_num_heads=2, update_rule="gated"),
    ],
)
def test_linear_attention_bad(bad):
    x = np.ones((1, 2, 8), np.float32)
    with pytest.raises(sx.Error):
        run("LinearAttention", [x, x, x], [np.float32] * 2, **({"update_rule": "linear"} | bad))


@pytest.mark.parametrize("dtype", ["float32", "float16", BF16], ids=str)
@pytest.mark.parametrize("interleaved", [0, 1])
@pytest.mark.parametrize("turned", [0, 4])
@pytest.mark.parametrize("by_id", [False, True])
@pytest.mark.parametrize("packed", [False, True])
def test_rotary_embedding(dtype, interleaved, turned, by_id, packed):
    rng = np.random.default_rng(7)
    batch, heads, length, size = 2, 3, 5, 10
    shape = (batch, length, heads * size) if packed else (batch, heads, length, size)
    half = (turned or size) // 2
    cache = (20, half) if by_id else (batch, length, half)
    inputs = [rng.normal(0, 1, s).astype(dtype) for s in (shape, cache, cache)] + (
        [rng.integers(0, 20, (batch, length))] if by_id else []
    )
    attributes = dict(interleaved=interleaved, rotary_embedding_dim=turned) | (
        {"num_heads": heads} if packed else {}
    )
    want = Node(
        "RotaryEmbedding",
        [x.astype(np.float32) if x.dtype.kind != "i" else x for x in inputs],
        [np.float32],
        **attributes,
    ).reference()[0]
    assert_close(run("RotaryEmbedding", inputs, [dtype], **attributes)[0], want, TOLERANCE[np.dtype(dtype)])


def test_rotary_embedding_bad():
    x, cache = np.ones((1, 2, 3, 4), np.float32), np.ones((6, 2), np.float32)
    for ids in ([[0, 1, 6]], [[-1, 0, 0]]):
        with pytest.raises(sx.Error):
            run("RotaryEmbedding", [x, cache, cache, np.array(ids)], [np.float32])
    for options in (dict(rotary_embedding_dim=6), dict(rotary_embedding_dim=3)):
        with pytest.raises(sx.Error):
            run("RotaryEmbedding", [x, cache, cache, np.zeros((1, 3), np.int64)], [np.float32], **options)
