"""Fusions of attention, and of chains that only move values: as test_fusion.py."""

import numpy as np
import pytest

import sardonyx as sx
from test_fusion import agree, build, fuses, normal, numbers, operators, stays


def heads(b=2, h=3, s=11, t=7, d=10, v=9, layout="bhsd"):
    """Queries [b, h, s, d], keys [b, h, t, d] (in another layout) and values [b, h, t, v]."""
    k = normal(b, h, t, d, seed=1)
    return {"q": normal(b, h, s, d), "k": np.ascontiguousarray(k.transpose(["bhsd".index(c) for c in layout])),
            "v": normal(b, h, t, v, seed=2)}


def softmax(scores, mask=""):
    add = {"": "u = Identity(s)", "after": "u = Add(s, m)", "before": "u = Add(m, s)"}[mask]
    return f"{scores} {add} p = Softmax<axis=-1>(u) y = MatMul(p, v)"


T = "kt = Transpose<perm=[0,1,3,2]>(k) "
SCORES = [T + "s = MatMul(q, kt)", T + "a = MatMul(q, kt) s = Mul(a, scale)", T + "a = MatMul(q, kt) s = Div(a, root)",
          T + "a = Mul(q, scale) s = MatMul(a, kt)", T + "a = Div(q, root) s = MatMul(a, kt)",
          T + "a = Mul(scale, kt) s = MatMul(q, a)", "j = Mul(k, half) kt = Transpose<perm=[0,1,3,2]>(j) a = Mul(q, half) s = MatMul(a, kt)"]
SCALES = dict(scale=0.3, root=3, half=0.5)


@pytest.mark.parametrize("mask", ["", "after", "before"])
@pytest.mark.parametrize("scores", SCORES)
def test_attention(scores, mask):
    feeds = heads()
    if mask:
        feeds["m"] = normal(2, 1, 11, 7)
    fuses("attention", "Attention", build(softmax(scores, mask), feeds, **numbers(**SCALES)), feeds, gone=["Softmax", "Transpose"])


@pytest.mark.parametrize("layout, perm", [("bshd", "0,2,3,1"), ("hbsd", "1,0,3,2")])
def test_keys_of_other_layouts(layout, perm):
    feeds = heads(layout=layout)
    model = build(softmax(f"kt = Transpose<perm=[{perm}]>(k) s = MatMul(q, kt)"), feeds,
                  inputs={"k": {"bshd": "N,7,3,10", "hbsd": "3,N,7,10"}[layout]})
    fuses("attention", "Attention", model, feeds)


@pytest.mark.parametrize("mask, dims", [((7,), "T"), ((11, 7), "S,T"), ((3, 1, 7), "3,1,T"), ((2, 1, 1, 7), "N,1,1,T"),
                                        ((2, 3, 11, 7), "N,3,S,T")], ids=str)
def test_masks(mask, dims):
    feeds = {**heads(), "m": np.where(normal(*mask) > 0.8, -np.float32(3e38), 0)}
    model = build(softmax(SCORES[1], "after"), feeds, inputs={"q": "N,3,S,D", "k": "N,3,T,D", "v": "N,3,T,9", "m": dims},
                  **numbers(**SCALES))
    fuses("attention", "Attention", model, feeds)


def test_rows_without_a_key_give_zeros():
    """As torch writes it: NaN of a row that is masked throughout becomes zero."""
    feeds = {**heads(), "m": np.full((11, 7), -np.inf, np.float32)}
    feeds["m"][1:] = 0
    nodes = SCORES[1] + " u = Add(s, m) p = Softmax<axis=-1>(u) i = IsNaN(p) w = Where(i, zero, p) y = MatMul(w, v)"
    fuses("attention", "Attention", build(nodes, feeds, symbolic=False, zero=np.float32(0), **numbers(**SCALES)), feeds, gone=["IsNaN"])


@pytest.mark.parametrize("nodes, outputs", [
    (softmax(SCORES[1]), "yp"), (softmax(SCORES[1]), "ys"), (softmax(SCORES[1]) + " z = Neg(u)", "yz"),
    (softmax(SCORES[1]).replace("axis=-1", "axis=2"), "y"), (softmax(SCORES[1].replace("scale", "w")), "y"),
    (softmax("kt = Transpose<perm=[0,1,2,3]>(e) s = MatMul(q, kt)"), "y"), (softmax("s = MatMul(q, e)"), "y"),
    (softmax(SCORES[0] + " r = Add(s, scale)").replace("Identity(s)", "Mul(r, scale)"), "y")], ids=str)
def test_attention_that_is_none(nodes, outputs):
    feeds = {**heads(), "w": normal(11, 1), "e": normal(2, 3, 10, 7)}
    stays("attention", build(nodes, feeds, outputs, **numbers(**SCALES)), feeds)


@pytest.mark.parametrize("change", [dict(m=normal(11, 1)), dict(m=normal(1)), dict(m=normal(1, 2, 3, 11, 7)), dict(k=normal(1, 3, 7, 10)),
                                    dict(v=normal(2, 1, 7, 9)), dict(v=normal(7, 9)), dict(q=normal(1, 3, 11, 10))],
                         ids=lambda c: "-".join(map(str, next(iter(c.values())).shape)))
def test_what_only_matmul_broadcasts(change):
    feeds = {**heads(), "m": normal(11, 7), **change}
    stays("attention", build(softmax(SCORES[1], "after"), feeds, symbolic=False, **numbers(**SCALES)), feeds)


def test_sizes_that_are_not_known_to_be_equal():
    feeds = heads()
    model = build(softmax(SCORES[1]), feeds, inputs={"k": "M,3,7,10"}, **numbers(**SCALES))
    stays("attention", model, feeds)
    feeds["k"] = feeds["k"][:1]
    agree(model, feeds, 1e-5)


def test_scales_that_are_not_finite_stay():
    feeds = {**heads(), "m": normal(11, 7)}
    model = build(softmax(SCORES[1], "after"), feeds, symbolic=False, scale=np.float32(np.inf))
    assert "Attention" not in operators(model)


def test_doubles_are_left_to_products():
    feeds = {name: x.astype(np.float64) for name, x in heads().items()}
    stays("attention", build(softmax(SCORES[1]), feeds, **numbers(np.float64, **SCALES)), feeds)


@pytest.mark.parametrize("symbols", ["N,3,11,10", "N,3,S,10"])
def test_a_scale_that_is_computed_from_a_shape(symbols):
    """As torch.onnx writes scaled_dot_product_attention: sqrt(1 / sqrt(size)) on both sides."""
    size = ("d = Shape(q) e = Slice(d, minus, most) f = Cast<to=1>(e) g = Sqrt(f) h = Div(one, g) i = Sqrt(h) "
            "a = Mul(q, i) kt = Transpose<perm=[0,1,3,2]>(k) b = Mul(kt, i) s = MatMul(a, b)")
    feeds = heads()
    model = build(softmax(size), feeds, inputs={"q": symbols}, minus=np.int64([-1]), most=np.int64([2**63 - 1]), one=np.float32([1]))
    fuses("fold_shapes", "Attention", model, feeds)
    fuses("attention", "Attention", model, feeds)


@pytest.mark.parametrize("dims, folds", [("N,12,5", False), ("2,12,5", True)])
def test_sizes_in_a_body(dims, folds):
    nodes = """b = ReduceMax<keepdims=0>(x) c = Greater(b, zero) y = If(c) <
      then_branch = g1 () => (float[a1] u) { d = Shape(x) e = ReduceProd<keepdims=1>(d) p = Gather(d, first) t = Cast<to=1>(p) u = Mul(x, t) },
      else_branch = g2 () => (float[a2] v) { v = Neg(x) }>"""
    feeds = {"x": np.abs(normal(2, 12, 5))}
    model = build(nodes, feeds, inputs={"x": dims}, zero=np.float32(0), first=np.int64(0))
    assert ("Gather" not in operators(model)) == folds
    agree(model, feeds, 1e-6)


def packed(keys, mask=True):
    split = "".join(f"{x}4 = Reshape({x}, split) " for x in "qkv")
    add = "u = Add(a, m)" if mask else "u = Identity(a)"
    return (f"{split} qt = Transpose<perm=[0,2,1,3]>(q4) vt = Transpose<perm=[0,2,1,3]>(v4) {keys} s = MatMul(qt, kt) "
            f"a = Mul(s, scale) {add} p = Softmax<axis=-1>(u) o = MatMul(p, vt) ot = Transpose<perm=[0,2,1,3]>(o) y = Reshape(ot, join)")


KEYS = {"at once": "kt = Transpose<perm=[0,2,3,1]>(k4)",
        "in two steps": "k5 = Transpose<perm=[0,2,1,3]>(k4) kt = Transpose<perm=[0,1,3,2]>(k5)",
        "by three axes": "k5 = Transpose<perm=[0,2,1,3]>(k4) k6 = Reshape(k5, three) k7 = Transpose<perm=[0,2,1]>(k6) "
        "d = Shape<end=2>(k5) four = Concat<axis=0>(d, last) kt = Reshape(k7, four)"}


@pytest.mark.parametrize("keys", KEYS)
def test_heads_are_taken_as_they_lie(keys):
    feeds = {"q": normal(2, 11, 30), "k": normal(2, 11, 30, seed=1), "v": normal(2, 11, 30, seed=2), "m": normal(2, 1, 1, 11)}
    model = build(packed(KEYS[keys]), feeds, scale=np.float32(10**-0.5), split=np.int64([0, 11, 3, 10]), join=np.int64([0, 11, 30]),
                  three=np.int64([-1, 11, 10]), last=np.int64([10, 11]))
    assert operators(model) == {"Attention": 1}
    found = operators(model, "attention_heads")
    assert found["Attention"] == 1 and found["Transpose"] >= 3
    agree(model, feeds, 1e-5)
    agree(model, feeds, 1e-5, "attention_heads")


@pytest.mark.parametrize("change", ["o", "q4", "permuted"])
def test_heads_that_stay_apart(change):
    feeds = {"q": normal(2, 11, 30), "k": normal(2, 11, 30, seed=1), "v": normal(2, 11, 30, seed=2)}
    nodes = packed(KEYS["at once"], mask=False)
    if change == "permuted":
        nodes = nodes.replace("ot = Transpose<perm=[0,2,1,3]>(o)", "ot = Transpose<perm=[0,2,3,1]>(o)")
    model = build(nodes, feeds, "yo" if change == "o" else "y", symbolic=False, scale=np.float32(10**-0.5),
                  split=np.int64([1, 22, 3, 10] if change == "q4" else [2, 11, 3, 10]), join=np.int64([2, 11, 30]))
    assert operators(model)["Attention"] == 1
    stays("attention_heads", model, feeds)


# Movement


@pytest.mark.parametrize("nodes, left", [
    ("a = Transpose<perm=[0,2,1,3]>(x) b = Transpose<perm=[0,2,1,3]>(a) y = Neg(b)", {"Neg": 1}),
    ("a = Transpose<perm=[1,2,0,3]>(x) b = Transpose<perm=[2,0,1,3]>(a) y = Neg(b)", {"Neg": 1}),
    ("a = Transpose<perm=[1,2,0,3]>(x) y = Transpose<perm=[3,0,1,2]>(a)", {"Transpose": 1}),
    ("a = Transpose(x) b = Transpose<perm=[1,0,2,3]>(a) y = Transpose(b)", {"Transpose": 1}),
    ("a = Transpose(x) y = Transpose(a)", {"Identity": 1}),
    ("a = Transpose<perm=[0,2,1,3]>(x) y = Transpose<perm=[0,2,3,1]>(a) z = Neg(a)", {"Transpose": 2, "Neg": 1})])
def test_transposes(nodes, left):
    feeds = {"x": normal(2, 3, 5, 7)}
    model = build(nodes, feeds, "yz" if "z =" in nodes else "y")
    assert operators(model) == left
    assert operators(model, "transpose_chain")["Transpose"] >= 2
    agree(model, feeds, 0)


@pytest.mark.parametrize("nodes, left", [
    ("a = Reshape(x, flat) b = Reshape(a, split) y = Neg(b)", {"Reshape": 1, "Neg": 1}),
    ("a = Unsqueeze(x, axes) b = Flatten<axis=1>(a) c = Unsqueeze(b, axes) y = Neg(c)", {"Reshape": 1, "Neg": 1}),
    ("a = Unsqueeze(x, axes) b = Squeeze(a, axes) y = Neg(b)", {"Neg": 1}),
    ("a = Reshape(x, flat) b = Reshape(a, split) z = Neg(a) y = Neg(b)", {"Reshape": 2, "Neg": 2})])
@pytest.mark.parametrize("symbolic", [False, True])
def test_reshapes(nodes, left, symbolic):
    feeds = {"x": normal(2, 12, 5)}
    model = build(nodes, feeds, "yz" if "z =" in nodes else "y", symbolic=symbolic, flat=np.int64([-1, 60]), split=np.int64([-1, 3, 20]),
                  axes=np.int64([1]))
    if "b = Squeeze" not in nodes or not symbolic:  # that the shape comes back is not seen where it has a symbol
        assert operators(model) == left
    agree(model, feeds, 0)
    agree(model, feeds, 0, "reshape_chain")


def test_reshapes_of_several_unknown_sizes_stay():
    feeds = {"x": normal(2, 12, 5)}
    model = build("a = Unsqueeze(x, axes) y = Squeeze(a, axes)", feeds, inputs={"x": "N,M,5"}, axes=np.int64([1]))
    stays("reshape_chain", model, feeds)
    agree(model, {"x": normal(0, 12, 5)}, 0)


@pytest.mark.parametrize("op", ["Softmax", "LogSoftmax"])
def test_softmax_of_a_matrix(op):
    """What a Softmax of before opset 13 becomes where the rank is not known at once."""
    feeds = {"x": normal(2, 3, 5, 7)}
    nodes = f"f = Flatten<axis={{}}>(x) s = {op}<axis={{}}>(f) d = Shape(x) y = Reshape(s, d)"
    fuses("softmax_last_axis", "Flatten", build(nodes.format(3, 1), feeds), feeds, count=-1)
    fuses("softmax_last_axis", "Flatten", build(nodes.format(-1, -1), feeds, symbolic=False), feeds, count=-1)
    for axes in [(2, 1), (3, 0)]:
        stays("softmax_last_axis", build(nodes.format(*axes), feeds), feeds)


def test_names_of_passes():
    model = build("y = Neg(x)", {"x": normal(2, 3)})
    with pytest.raises(sx.InputError, match="fold_constants.*layer_norm.*attention_heads"):
        sx.InferenceSession(model, disabled_passes=["nonsense"])


def test_unoptimized_graphs_are_not_fused():
    model = build("s = Sigmoid(x) y = Mul(x, s)", {"x": normal(2, 3)})
    assert "Swish" not in sx.inspect(model, optimize="none")["operators"]["cpu"]


WHERE = {"kept": "u = Where(c, s, low)", "filled": "u = Where(c, low, s)", "and a sum": "w = Where(c, s, low) u = Add(w, m)",
         "and a sum before": "w = Where(c, low, s) u = Add(m, w)"}


def where_model(form, feeds, condition, low, outputs=("y",), **more):
    nodes = SCORES[1] + " " + WHERE[form] + " p = Softmax<axis=-1>(u) y = MatMul(p, v)"
    feeds = {**feeds, "m": normal(11, 7, seed=5)} if "sum" in form else feeds
    constants = dict(c=condition, low=np.asarray(low, np.float32), **numbers(**SCALES), **more)
    return build(nodes, feeds, outputs, symbolic=False, **constants), feeds


@pytest.mark.parametrize("low", [-np.inf, np.finfo(np.float32).min, [-1e32]], ids=str)
@pytest.mark.parametrize("shape", [(7,), (11, 7), (1, 1, 1, 7), (2, 1, 11, 7)], ids=str)
@pytest.mark.parametrize("form", WHERE)
def test_masks_by_where(form, shape, low):
    condition = np.random.default_rng(3).random(shape) < 0.5
    condition[..., 0] = "kept" in form or form == "and a sum"  # some key is left
    model, feeds = where_model(form, heads(), condition, low)
    fuses("attention", "Attention", model, feeds, gone=["Softmax", "Transpose"])


@pytest.mark.parametrize("form", ["kept", "filled"])
def test_rows_masked_by_a_number_average_the_values(form):
    condition = np.full((11, 7), form == "kept")
    condition[3] = form == "filled"
    model, feeds = where_model(form, heads(), condition, np.finfo(np.float32).min)
    fuses("attention", "Attention", model, feeds, gone=["Softmax"])
    got = sx.InferenceSession(model).run(None, feeds)[0]
    np.testing.assert_allclose(got[:, :, 3], feeds["v"].mean(axis=2), rtol=1e-5, atol=1e-6)


def test_a_causal_mask_that_is_computed():
    nodes = (T + "a = MatMul(q, kt) s = Mul(a, scale) c = Cast<to=9>(f) u = Where(c, s, low) p = Softmax<axis=-1>(u) "
             "y = MatMul(p, v)")
    feeds = {**heads(), "f": np.tril(np.ones((11, 7), np.float32))}
    model = build(nodes, feeds, inputs={"f": "11,7"}, low=np.float32(-np.inf), **numbers(**SCALES))
    fuses("attention", "Attention", model, feeds, gone=["Softmax"])


@pytest.mark.parametrize("low", [-1e4, -1e9, np.inf, 0, np.nan], ids=str)
def test_fillings_that_a_sum_does_not_give(low):
    model, feeds = where_model("kept", heads(), np.tril(np.ones((11, 7), bool)), low)
    assert "Attention" not in operators(model)


@pytest.mark.parametrize("shape", [(11, 1), (1,), (3, 1, 1, 1, 7)], ids=str)
def test_conditions_that_only_where_broadcasts(shape):
    model, feeds = where_model("kept", heads(), np.ones(shape, bool), -np.inf)
    stays("attention", model, feeds)


def test_where_that_somebody_looks_into():
    model, feeds = where_model("kept", heads(), np.tril(np.ones((11, 7), bool)), -1e32, outputs="yu")
    stays("attention", model, feeds)
