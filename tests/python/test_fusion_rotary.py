"""Rotary embeddings as Hugging Face and torch write them become RotaryEmbedding: as test_fusion.py."""

import numpy as np
import pytest

import sardonyx as sx
from test_fusion import agree, build, fuses, normal, numbers, operators, stays

B, H, S, D = 2, 3, 7, 10
LAST = np.iinfo(np.int64).max
SLICES = dict(start=np.int64([0]), middle=np.int64([D // 2]), end=np.int64([LAST]), axis=np.int64([3]), step=np.int64([1]),
              one=np.int64([1]), zero_axis=np.int64([0]))
ROTATE = "lo = Slice(x, start, middle, axis, step) hi = Slice(x, middle, end, axis, step) n = Neg(hi) r = Concat<axis=-1>(n, lo) "
ENDS = ["a = Mul(x, c) b = Mul(r, s) y = Add(a, b)", "a = Mul(c, x) b = Mul(s, r) y = Add(b, a)"]
COMPUTED = "e = Concat<axis=-1>(f, f) c0 = Cos(e) s0 = Sin(e) "
UNSQUEEZED = "c = Unsqueeze(c0, one) s = Unsqueeze(s0, one) "


def angles(b=B, s=S, d=D):
    return np.outer(np.arange(b * s), 10000.0 ** (-np.arange(d // 2) * 2 / d)).reshape(b, s, d // 2).astype(np.float32)


def model(nodes, feeds, outputs="y", **constants):
    return build(nodes, feeds, outputs, **{**SLICES, **constants},
                 inputs={"x": f"B,{H},S,{D}", "f": f"B,S,{D // 2}", "g": f"1,S,{D // 2}", "w": f"B,{H},S,{D}"})


@pytest.mark.parametrize("scaled", ["", "cc = Mul(c0, k) ss = Mul(k, s0) "])
@pytest.mark.parametrize("end", ENDS)
def test_computed_angles(end, scaled):
    feeds = {"x": normal(B, H, S, D), "f": angles()}
    unsqueezed = UNSQUEEZED.replace("c0", "cc").replace("s0", "ss") if scaled else UNSQUEEZED
    nodes = COMPUTED + scaled + unsqueezed + ROTATE + end
    fuses("rotary", "RotaryEmbedding", model(nodes, feeds, **numbers(k=1.25)), feeds, gone=["Slice", "Neg", "Add"])


def test_queries_and_keys():
    feeds = {"x": normal(B, H, S, D), "w": normal(B, H, S, D, seed=3), "f": angles()}
    second = ("lo2 = Slice(w, start, middle, axis, step) hi2 = Slice(w, middle, end, axis, step) n2 = Neg(hi2) "
              "r2 = Concat<axis=-1>(n2, lo2) a2 = Mul(w, c) b2 = Mul(r2, s) z = Add(a2, b2)")
    nodes = COMPUTED + UNSQUEEZED + ROTATE + ENDS[0] + " " + second
    fuses("rotary", "RotaryEmbedding", model(nodes, feeds, "yz"), feeds, count=2, gone=["Slice"])
    assert operators(model(nodes, feeds, "yz")).get("Cos") == 1


def test_one_row_of_angles_for_all_of_the_batch():
    feeds = {"x": normal(B, H, S, D), "g": angles(1)}
    nodes = COMPUTED.replace("f", "g") + UNSQUEEZED + ROTATE + ENDS[0]
    fuses("rotary", "RotaryEmbedding", model(nodes, feeds), feeds, gone=["Slice"])


def twice(values):
    return np.concatenate([values, values], axis=-1).astype(np.float32)


@pytest.mark.parametrize("dims", [(S, D), (1, S, D), (1, 1, S, D), (B, 1, S, D)], ids=str)
def test_constants(dims):
    table = angles(dims[0] if len(dims) == 4 else 1).reshape(*dims[:-1], D // 2)
    feeds = {"x": normal(B, H, S, D)}
    m = build(ROTATE + ENDS[0], feeds, symbolic=False, c=twice(np.cos(table)), s=twice(np.sin(table)), **SLICES)
    fuses("rotary", "RotaryEmbedding", m, feeds, gone=["Slice"])


def test_tables_and_positions():
    positions = np.array([[3, 1, -2, 0, 19, 5, 5], [0, 1, 2, 3, 4, 5, 6]], np.float32)
    feeds = {"x": normal(B, H, S, D), "p": positions}
    table = angles(1, 20)[0]
    nodes = "i = Cast<to=7>(p) c0 = Gather(tc, i) s0 = Gather(ts, i) " + UNSQUEEZED + ROTATE + ENDS[0]
    m = build(nodes, feeds, tc=twice(np.cos(table)), ts=twice(np.sin(table)), symbolic=False, **SLICES)
    fuses("rotary", "RotaryEmbedding", m, feeds, gone=["Slice"])


GOOD = COMPUTED + UNSQUEEZED + ROTATE + ENDS[0]
FORMS = {
    "other halves": ("Concat<axis=-1>(f, f)", "Concat<axis=-1>(f, h)"),
    "another axis": ("Concat<axis=-1>(n, lo)", "Concat<axis=3>(lo, n)"),
    "no minus": ("n = Neg(hi)", "n = Abs(hi)"),
    "minus elsewhere": ("lo = Slice(x, start, middle, axis, step)", "lo0 = Slice(x, start, middle, axis, step) lo = Neg(lo0)"),
    "another start": ("Slice(x, middle, end", "Slice(x, half, end"),
    "another value": ("a = Mul(x, c)", "a = Mul(w, c)"),
    "cosine twice": ("b = Mul(r, s)", "b = Mul(r, c)"),
    "exchanged": ("s0 = Sin(e)", "s0 = Cos(e)"),
    "another function": ("c0 = Cos(e)", "c0 = Tanh(e)"),
}


@pytest.mark.parametrize("form", FORMS)
def test_what_is_no_rotation(form):
    assert FORMS[form][0] in GOOD
    feeds = {"x": normal(B, H, S, D), "w": normal(B, H, S, D, seed=3), "f": angles()}
    nodes = "h = Neg(f) q = Neg(w) " + GOOD.replace(*FORMS[form])
    m = model(nodes, feeds, half=np.int64([-5]))
    if form == "another start":  # -5 is the middle too
        agree(m, feeds, 1e-5)
    else:
        stays("rotary", m, feeds)
    assert operators(model(nodes.replace(*FORMS[form][::-1]), feeds)).get("RotaryEmbedding") == 1


@pytest.mark.parametrize("outputs", ["ya", "yr", "yn"])
def test_what_somebody_looks_into(outputs):
    feeds = {"x": normal(B, H, S, D), "f": angles()}
    stays("rotary", model(GOOD, feeds, outputs), feeds)


def test_halves_that_differ():
    table = angles(1)[0]
    feeds = {"x": normal(B, H, S, D)}
    cosines = twice(np.cos(table))
    cosines[3, 7] += 0.5
    stays("rotary", build(ROTATE + ENDS[0], feeds, symbolic=False, c=cosines, s=twice(np.sin(table)), **SLICES), feeds)


@pytest.mark.parametrize("dims", [(B, H, S, D), (H, S, D), (H, 1, D), (1, 1, 1, D), (D,)], ids=str)
def test_factors_that_are_not_one_for_each_position(dims):
    feeds = {"x": normal(B, H, S, D)}
    table = normal(*dims[:-1], D // 2)
    stays("rotary", build(ROTATE + ENDS[0], feeds, symbolic=False, c=twice(table), s=twice(table[::-1]), **SLICES), feeds)


def test_half_precision():
    feeds = {"x": normal(B, H, S, D, dtype=np.float16)}
    table = angles(1)[0]
    m = build(ROTATE + ENDS[0], feeds, symbolic=False, c=twice(np.cos(table)).astype(np.float16),
              s=twice(np.sin(table)).astype(np.float16), **SLICES)
    assert operators(m).get("RotaryEmbedding") == 1
    got, plain = (sx.InferenceSession(m, disabled_passes=d).run(None, feeds)[0].astype(np.float32) for d in ([], ["rotary"]))
    np.testing.assert_allclose(got, plain, atol=4e-3)
