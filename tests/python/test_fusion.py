"""Fusions: what exporters write for one operator becomes that operator, with the results that onnxruntime gives
for the file as it is; what only looks like it stays as it is. sardonyx.inspect counts the operators that run."""

import math

import onnx
import onnx.numpy_helper
import onnx.parser
import onnxruntime
import numpy as np
import pytest

import sardonyx as sx

TYPES = {np.dtype(np.float32): "float", np.dtype(np.float64): "double", np.dtype(np.float16): "float16"}


def build(nodes, feeds, outputs=("y",), opset=17, symbolic=True, inputs=None, **constants):
    """The bytes of a model of the given nodes. The first dimension of every input is a symbol unless told;
    `inputs` gives the dims of some in words."""
    def port(name, value):
        dims = (inputs or {}).get(name) or ",".join(["N"] * symbolic + [str(d) for d in value.shape[symbolic:]])
        return f"{TYPES[value.dtype]}[{dims}] {name}"

    dtype = TYPES[next(iter(feeds.values())).dtype]
    text = f"""<ir_version: 8, opset_import: ["": {opset}]>
    g ({", ".join(port(n, v) for n, v in feeds.items())}) => ({", ".join(f"{dtype} {o}" for o in outputs)})
    {{ {nodes} }}"""
    model = onnx.parser.parse_model(text)
    model.graph.initializer.extend(onnx.numpy_helper.from_array(np.asarray(v), k) for k, v in constants.items())
    return model.SerializeToString()


def operators(model, *disabled):
    count = {}
    for found in sx.inspect(model, disabled_passes=list(disabled))["operators"].values():
        for name, n in found.items():
            count[name] = count.get(name, 0) + n
    return count


def agree(model, feeds, tolerance, *disabled):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    ours = sx.InferenceSession(model, disabled_passes=list(disabled))
    names = [output.name for output in session.get_outputs()]
    assert [output.name for output in ours.get_outputs()] == names
    for name, want, got in zip(names, session.run(None, feeds), ours.run(None, feeds)):
        assert got.shape == want.shape and got.dtype == want.dtype, name
        got, want = got.astype(np.float64), want.astype(np.float64)
        worst = np.max(np.abs(got - want), initial=0)
        assert worst <= tolerance * np.max(np.abs(want), initial=1e-3), f"{name}: off by {worst:.3g}"


def fuses(fusion, op, model, feeds, gone=(), count=1, tolerance=1e-5):
    with_it, without = operators(model), operators(model, fusion)
    assert with_it.get(op, 0) == without.get(op, 0) + count, f"{with_it}, without the fusion {without}"
    for name in gone:
        assert name not in with_it, with_it
        assert name in without, without
    agree(model, feeds, tolerance)
    agree(model, feeds, tolerance, fusion)


def stays(fusion, model, feeds, tolerance=1e-5):
    assert operators(model) == operators(model, fusion)
    agree(model, feeds, tolerance)


def normal(*shape, dtype=np.float32, seed=0):
    return np.random.default_rng((seed, *shape)).standard_normal(shape).astype(dtype)


def numbers(dtype=np.float32, shape=(), **values):
    return {name: np.full(shape, value, dtype) for name, value in values.items()}


# Activations

ERF = ["h = Mul(x, half) d = Div(x, root) e = Erf(d) a = Add(e, one) y = Mul(h, a)",
       "d = Div(x, root) e = Erf(d) a = Add(e, one) t = Mul(x, a) y = Mul(t, half)",
       "d = Mul(inverse, x) e = Erf(d) a = Add(one, e) t = Mul(half, a) y = Mul(x, t)",
       "d = Mul(x, inverse) e = Erf(d) a = Add(e, one) t = Mul(a, x) y = Div(t, two)",
       "d = Mul(x, inverse) e = Erf(d) h = Mul(e, half) a = Add(h, half) y = Mul(a, x)"]
TANH = ["c = Pow(x, three) k = Mul(c, cube) s = Add(x, k) t = Mul(s, rate) h = Tanh(t) a = Add(h, one) "
        "m = Mul(x, a) y = Mul(m, half)",
        "q = Mul(x, x) c = Mul(q, x) k = Mul(cube, c) s = Add(k, x) t = Mul(rate, s) h = Tanh(t) a = Add(one, h) "
        "m = Mul(half, x) y = Mul(m, a)",
        "k = Mul(cube, x) k2 = Mul(x, k) k3 = Mul(x, k2) s = Add(x, k3) t = Mul(rate, s) h = Tanh(t) "
        "a = Add(one, h) m = Mul(half, a) y = Mul(x, m)",
        "k = Mul(x, cube) q = Mul(k, x) s = Add(one, q) r = Mul(x, rate) t = Mul(r, s) h = Tanh(t) a = Add(one, h) "
        "m = Mul(half, x) y = Mul(m, a)"]
GELU = dict(half=0.5, one=1, two=2, three=3, root=2**0.5, inverse=0.5**0.5, cube=0.044715, rate=(2 / np.pi)**0.5)


@pytest.mark.parametrize("shape", [(), (1,)], ids=str)
@pytest.mark.parametrize("nodes", ERF + TANH)
def test_gelu(nodes, shape):
    feeds = {"x": 3 * normal(5, 7, 13)}
    model = build(nodes, feeds, **numbers(shape=shape, **GELU))
    fuses("gelu", "Gelu", model, feeds, gone=["Mul"])


@pytest.mark.parametrize("dtype, tolerance", [(np.float64, 1e-12), (np.float16, 1e-3)], ids=str)
@pytest.mark.parametrize("nodes, inside", [(ERF[0], lambda x: np.vectorize(math.erf)(x / 2**0.5)),
                                           (TANH[0], lambda x: np.tanh((2 / np.pi)**0.5 * (x + 0.044715 * x**3)))],
                         ids=["erf", "tanh"])
def test_gelu_of_other_types(nodes, inside, dtype, tolerance):
    # onnxruntime has no Erf of these types.
    x = 3 * normal(5, 7, dtype=dtype)
    model = build(nodes, {"x": x}, **numbers(dtype, **GELU))
    assert operators(model) == {"Gelu": 1}
    wide = x.astype(np.float64)
    got, = sx.InferenceSession(model).run(None, {"x": x})
    assert got.dtype == dtype
    np.testing.assert_allclose(got, 0.5 * wide * (1 + inside(wide)), rtol=0, atol=tolerance * np.abs(wide).max())


@pytest.mark.parametrize("change", [dict(half=0.6), dict(one=1.1), dict(root=1.5), dict(half=np.full(13, 0.5)),
                                    dict(one=np.full((1, 1, 1, 1), 1))], ids=str)
def test_gelu_of_other_constants(change):
    feeds = {"x": normal(5, 7, 13)}
    constants = {k: np.asarray(v, np.float32) for k, v in {**GELU, **change}.items()}
    stays("gelu", build(ERF[0], feeds, **constants), feeds)


@pytest.mark.parametrize("nodes, outputs", [(ERF[0], "ye"), (ERF[0] + " z = Neg(a)", "yz"), (TANH[0], "yt"),
                                            (ERF[0].replace("Div(x", "Div(w"), "y")], ids=str)
def test_gelu_that_somebody_looks_into(nodes, outputs):
    feeds = {"x": normal(5, 7, 13), "w": normal(5, 7, 13, seed=1)}
    stays("gelu", build(nodes, feeds, outputs, **numbers(**GELU)), feeds)


def test_gelu_whose_input_is_a_clipped_sum():
    nodes = "x = Clip(w, half, three) z = Add(x, x) " + ERF[0]
    feeds = {"w": normal(5, 7, 13)}
    fuses("gelu", "Gelu", build(nodes, feeds, "yz", **numbers(**GELU)), feeds)


SWISH = ["s = Sigmoid(x) y = Mul(x, s)", "s = Sigmoid(x) y = Mul(s, x)", "a = Mul(x, k) s = Sigmoid(a) y = Mul(x, s)",
         "a = Div(x, k) s = Sigmoid(a) y = Mul(s, x)"]


@pytest.mark.parametrize("nodes", SWISH)
def test_swish(nodes):
    feeds = {"x": 3 * normal(3, 5, 11)}
    fuses("swish", "Swish", build(nodes, feeds, k=np.float32([1.702])), feeds, gone=["Sigmoid"])


@pytest.mark.parametrize("nodes, outputs", [(SWISH[0], "ys"), ("s = Sigmoid(x) t = Mul(x, s) y = Mul(s, t)", "y"),
                                            ("s = Sigmoid(w) y = Mul(x, s)", "y"),
                                            ("a = Mul(x, v) s = Sigmoid(a) y = Mul(x, s)", "y"),
                                            ("a = Add(x, k) s = Sigmoid(a) y = Mul(x, s)", "y")], ids=str)
def test_swish_that_is_none(nodes, outputs):
    feeds = {"x": normal(3, 5, 11), "w": normal(3, 5, 11, seed=1)}
    stays("swish", build(nodes, feeds, outputs, k=np.float32([2]), v=normal(11)), feeds)


def test_swish_in_a_body():
    nodes = """b = ReduceMax<keepdims=0>(x) c = Greater(b, k) y = If(c) <
      then_branch = g1 () => (float[5, 11] u) { s = Sigmoid(x) u = Mul(x, s) },
      else_branch = g2 () => (float[5, 11] v) { s2 = Sigmoid(x) v = Mul(s2, x) }>"""
    feeds = {"x": normal(5, 11)}
    for k in (-9, 9):
        model = build(nodes, feeds, symbolic=False, k=np.float32(k))
        # One of the branches is taken when the graph is made, if its condition is known; this one is not.
        fuses("swish", "Swish", model, feeds, count=2)


@pytest.mark.parametrize("nodes", ["p = Softplus(x) t = Tanh(p) y = Mul(x, t)", "p = Softplus(x) t = Tanh(p) y = Mul(t, x)",
                                   "e = Exp(x) a = Add(e, one) p = Log(a) t = Tanh(p) y = Mul(x, t)"])
def test_mish(nodes):
    feeds = {"x": 3 * normal(3, 5, 11)}
    fuses("mish", "Mish", build(nodes, feeds, one=np.float32(1)), feeds, gone=["Tanh"])


@pytest.mark.parametrize("nodes", ["p = Softplus(w) t = Tanh(p) y = Mul(x, t)", "p = Softplus(x) t = Tanh(p) q = Mul(x, t) y = Add(q, p)"])
def test_mish_that_is_none(nodes):
    feeds = {"x": normal(3, 5, 11), "w": normal(3, 5, 11, seed=1)}
    stays("mish", build(nodes, feeds), feeds)


HARD_SWISH = ["a = Add(x, three) c = Clip(a, zero, six) m = Mul(x, c) y = Div(m, six)",
              "a = Add(three, x) c = Clip(a, zero, six) d = Div(c, six) y = Mul(d, x)",
              "a = Add(x, three) c = Clip(a, zero, six) m = Mul(c, x) y = Mul(m, sixth)",
              "h = HardSigmoid<alpha=0.16666667, beta=0.5>(x) y = Mul(x, h)",
              "a = Add(x, three) l = Max(a, zero) c = Min(l, six) m = Mul(x, c) y = Div(m, six)",
              "a = Add(x, three) l = Min(six, a) c = Max(zero, l) m = Mul(x, c) y = Div(m, six)",
              "a = Add(x, three) l = Relu(a) c = Min(l, six) m = Mul(x, c) y = Mul(sixth, m)"]
SIX = dict(zero=0, three=3, six=6, sixth=1 / 6)


@pytest.mark.parametrize("nodes", HARD_SWISH)
def test_hard_swish(nodes):
    feeds = {"x": 4 * normal(3, 5, 11)}
    fuses("hard_swish", "HardSwish", build(nodes, feeds, **numbers(**SIX)), feeds, gone=["Mul"])


@pytest.mark.parametrize("nodes, outputs, change", [
    (HARD_SWISH[0], "yc", {}), (HARD_SWISH[0], "y", dict(three=2)), (HARD_SWISH[0], "y", dict(zero=1)),
    (HARD_SWISH[3].replace("0.16666667", "0.2"), "y", {}), (HARD_SWISH[0].replace("Mul(x", "Mul(w"), "y", {})], ids=str)
def test_hard_swish_that_is_none(nodes, outputs, change):
    feeds = {"x": 4 * normal(3, 5, 11), "w": normal(3, 5, 11, seed=1)}
    model = build(nodes, feeds, outputs, **numbers(**{**SIX, **change}))
    assert "HardSwish" not in operators(model)
    stays("hard_swish", model, feeds)


@pytest.mark.parametrize("nodes", ["a = Add(x, three) c = Clip(a, zero, six) y = Div(c, six)",
                                   "a = Add(x, three) c = Clip(a, zero, six) y = Mul(sixth, c)",
                                   "k = Mul(x, sixth) a = Add(k, half) y = Clip(a, zero, one)",
                                   "a = Add(x, three) l = Relu(a) c = Min(l, six) y = Div(c, six)"])
def test_hard_sigmoid(nodes):
    feeds = {"x": 4 * normal(3, 5, 11)}
    model = build(nodes, feeds, half=np.float32(0.5), one=np.float32(1), **numbers(**SIX))
    fuses("hard_sigmoid", "HardSigmoid", model, feeds, gone=["Add"])


@pytest.mark.parametrize("nodes", ["y = Clip(x, zero, one)", "a = Add(x, three) c = Clip(a, one, six) y = Div(c, six)",
                                   "a = Add(x, three) c = Clip(a, zero, six) y = Div(c, three)",
                                   "a = Add(x, three) c = Clip(a, zero, six) d = Div(c, six) y = Add(c, d)"])
def test_hard_sigmoid_that_is_none(nodes):
    feeds = {"x": 4 * normal(3, 5, 11)}
    stays("hard_sigmoid", build(nodes, feeds, one=np.float32(1), **numbers(**SIX)), feeds)


# Constants behind a convolution


def batch_norm(channels, dtype=np.float32):
    r = np.random.default_rng(channels)
    return dict(scale=r.uniform(0.5, 2, channels).astype(dtype), shift=r.standard_normal(channels).astype(dtype),
                mean=r.standard_normal(channels).astype(dtype), variance=r.uniform(0.1, 3, channels).astype(dtype))


BN = " y = BatchNormalization<epsilon=0.001>(c, scale, shift, mean, variance)"


@pytest.mark.parametrize("with_bias", [False, True])
@pytest.mark.parametrize("nodes, channels, w, spatial", [
    ("c = Conv<pads=[1,1,1,1]>(x, w{}) ", 6, (9, 6, 3, 3), (11, 7)),
    ("c = Conv<group=3, strides=[2,1]>(x, w{}) ", 6, (9, 2, 3, 3), (11, 7)),
    ("c = Conv<group=6, auto_pad=\"SAME_UPPER\">(x, w{}) ", 6, (6, 1, 5, 3), (11, 7)),
    ("c = Conv(x, w{}) ", 5, (4, 5, 3), (13,)),
    ("c = ConvTranspose<strides=[2,2]>(x, w{}) ", 6, (6, 9, 3, 3), (5, 7)),
    ("c = ConvTranspose<group=3>(x, w{}) ", 6, (6, 2, 3, 3), (5, 7))], ids=str)
def test_batch_norm_behind_a_convolution(nodes, channels, w, spatial, with_bias):
    group = 3 if "group=3" in nodes else 1
    out = w[1] * group if "Transpose" in nodes else w[0]
    feeds = {"x": normal(2, channels, *spatial)}
    constants = dict(w=normal(*w), **batch_norm(out), **({"b": normal(out)} if with_bias else {}))
    model = build(nodes.format(", b" if with_bias else "") + BN, feeds, **constants)
    fuses("fold_batch_norm", "BatchNormalization", model, feeds, count=-1)


@pytest.mark.parametrize("attributes, w, c", [("transB=1, alpha=0.5, beta=2.0", (7, 5), (7,)), ("alpha=0.5", (5, 7), (1, 7)),
                                              ("beta=0.5", (5, 7), (1,)), ("transB=1", (7, 5), None)], ids=str)
def test_batch_norm_behind_gemm(attributes, w, c):
    feeds = {"x": normal(3, 5)}
    constants = dict(w=normal(*w), **batch_norm(7), **({} if c is None else {"b": normal(*c)}))
    model = build(f"c = Gemm<{attributes}>(x, w{'' if c is None else ', b'})" + BN, feeds, **constants)
    fuses("fold_batch_norm", "BatchNormalization", model, feeds, count=-1)


@pytest.mark.parametrize("shape", [(), (1,), (9, 1, 1), (1, 9, 1, 1), (1, 1, 1, 1)], ids=str)
@pytest.mark.parametrize("nodes", ["m = Mul(c, k) y = Add(m, j)", "m = Mul(k, c) y = Sub(m, j)", "m = Div(c, k) y = Add(j, m)",
                                   "y = Add(c, k)", "m = Add(c, j) a = Mul(m, k) y = Add(a, k)"])
def test_constants_behind_a_convolution(nodes, shape):
    feeds = {"x": normal(2, 6, 11, 7)}
    k = np.random.default_rng(3).uniform(0.5, 2, shape).astype(np.float32)
    model = build("c = Conv<group=3>(x, w, b) " + nodes, feeds, w=normal(9, 2, 3, 3), b=normal(9), k=k, j=normal(*shape))
    assert operators(model) == {"Conv": 1}
    assert len(operators(model, "fold_batch_norm")) > 1
    agree(model, feeds, 1e-5)


@pytest.mark.parametrize("nodes, outputs, k", [
    ("y = Mul(c, k)", "yc", (9, 1, 1)), ("y = Mul(c, k) z = Neg(c)", "yz", (9, 1, 1)), ("y = Mul(c, k)", "y", (5,)),
    ("y = Mul(c, k)", "y", (9, 5)), ("y = Mul(c, k)", "y", (9, 9, 5)), ("y = Add(c, k)", "y", (2, 9, 1, 1)),
    ("y = Mul(c, k)", "y", (1, 1, 1, 1, 1)), ("y = Div(k, c)", "y", (9, 1, 1)), ("y = Sub(k, c)", "y", (9, 1, 1)),
    ("t = ReduceMax(x) y = Mul(c, t)", "y", (1,)), ("y = BatchNormalization(c, scale, shift, s, variance)", "y", (1,))],
    ids=str)
def test_what_does_not_fold(nodes, outputs, k):
    feeds = {"x": normal(2, 6, 11, 7), "s": normal(9)}
    model = build("c = Conv(x, w) " + nodes, feeds, outputs, symbolic=False, w=normal(9, 6, 3, 3), k=normal(*k), **batch_norm(9))
    stays("fold_batch_norm", model, feeds, 1e-3 if "Div" in nodes else 1e-5)


def test_weights_that_would_overflow_do_not_fold():
    feeds = {"x": np.full((1, 1, 2, 2), 1e-20, np.float32)}
    model = build("c = Conv(x, w) y = Mul(c, k)", feeds, w=np.full((1, 1, 1, 1), 1e30, np.float32), k=np.float32(1e20))
    stays("fold_batch_norm", model, feeds)


@pytest.mark.parametrize("conv, w", [("Conv(a, w)", (9, 6, 3, 3)), ("Conv<group=3>(a, w, b)", (9, 2, 1, 1)),
                                     ("Conv<pads=[0,0,0,0], strides=[2,2]>(a, w)", (9, 6, 1, 1))])
@pytest.mark.parametrize("nodes", ["m = Mul(x, k) a = Add(m, j)", "m = Add(x, j) a = Div(m, k)", "a = Sub(x, j)"])
def test_numbers_before_a_convolution(nodes, conv, w):
    feeds = {"x": normal(2, 6, 11, 7)}
    model = build(f"{nodes} y = {conv}", feeds, w=normal(*w), b=normal(9), k=np.float32([1.5]), j=np.float32(-0.75))
    fuses("fold_conv_input", "Conv", model, feeds, count=0)
    assert operators(model) == {"Conv": 1} and len(operators(model, "fold_conv_input")) > 1


@pytest.mark.parametrize("nodes, outputs", [
    ("a = Add(x, j) y = Conv<pads=[1,1,1,1]>(a, w)", "y"), ('a = Add(x, j) y = Conv<auto_pad="SAME_LOWER">(a, w)', "y"),
    ("a = Add(x, j) y = Conv(a, w)", "ya"), ("a = Mul(x, k) y = Conv(a, w)", "y"),
    ("a = Add(z, j) y = Conv(a, w)", "y")], ids=str)
def test_numbers_that_stay_before_a_convolution(nodes, outputs):
    feeds = {"x": normal(2, 6, 11, 7), "z": normal(6, 11, 7)}
    model = build(nodes, feeds, outputs, symbolic=False, w=normal(9, 6, 3, 3), k=normal(6, 1, 1), j=normal(1, 1, 1, 1))
    stays("fold_conv_input", model, feeds)


# Normalizations

MEANS = "m = ReduceMean<axes=[-1]>(x) d = Sub(x, m) "
LAYER = [MEANS + "q = Pow(d, two) v = ReduceMean<axes=[-1]>(q) e = Add(v, eps) s = Sqrt(e) n = Div(d, s)",
         MEANS + "q = Mul(d, d) v = ReduceMean<axes=[2]>(q) e = Add(eps, v) s = Sqrt(e) r = Reciprocal(s) n = Mul(d, r)",
         MEANS + "d2 = Sub(x, m) q = Mul(d2, d2) v = ReduceMean<axes=[-1]>(q) e = Add(v, eps) s = Sqrt(e) r = Div(one, s) "
                 "n = Mul(r, d)",
         MEANS + "q = Pow(d, two) v = ReduceMean<axes=[-1]>(q) e = Add(v, eps) r = Pow(e, minus) n = Mul(d, r)"]
ENDS = ["y = Identity(n)", "y = Mul(n, w)", "t = Mul(w, n) y = Add(b, t)", "t = Mul(n, w) y = Add(t, b)"]
LN = dict(two=2, eps=1e-5, one=1, minus=-0.5)


def normalization(nodes, feeds, w=(13,), outputs="y", opset=17, **change):
    dtype = feeds["x"].dtype
    return build(nodes, feeds, outputs, opset, w=normal(*w, dtype=dtype), b=normal(*w, dtype=dtype, seed=2),
                 **numbers(dtype, **{**LN, **change}))


@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize("core", LAYER)
def test_layer_norm(core, end):
    feeds = {"x": 2 + normal(3, 5, 13)}
    fuses("layer_norm", "LayerNormalization", normalization(f"{core} {end}", feeds), feeds, gone=["ReduceMean"])


@pytest.mark.parametrize("w", [(4, 13), (1, 4, 13)], ids=str)
@pytest.mark.parametrize("opset, reduce", [(17, "ReduceMean<axes=[1, -1]>({})"), (18, "ReduceMean({}, axes)")])
def test_layer_norm_over_two_axes(opset, reduce, w):
    feeds = {"x": normal(3, 4, 13, dtype=np.float64)}
    nodes = (f"m = {reduce.format('x')} d = Sub(x, m) q = Pow(d, two) v = {reduce.format('q')} e = Add(v, eps) s = Sqrt(e) "
             "n = Div(d, s) t = Mul(n, w) y = Add(t, b)")
    model = build(nodes, feeds, "y", opset, axes=np.int64([2, 1]), w=normal(*w, dtype=np.float64),
                  b=normal(*w, dtype=np.float64), **numbers(np.float64, **LN))
    fuses("layer_norm", "LayerNormalization", model, feeds, gone=["ReduceMean"], tolerance=1e-9)


@pytest.mark.parametrize("order", ["Mul({}, {})", "Mul({1}, {0})"])
def test_layer_norm_by_moments(order):
    """As TensorFlow writes it: x * r + (bias - mean * r)."""
    feeds = {"x": 2 + normal(3, 5, 13)}
    nodes = (MEANS + "q = Mul(d, d) v = ReduceMean<axes=[-1]>(q) e = Add(v, eps) s = Sqrt(e) i = Reciprocal(s) "
             f"r = {order.format('i', 'w')} p = {order.format('x', 'r')} o = {order.format('m', 'r')} u = Sub(b, o) y = Add(p, u)")
    fuses("layer_norm", "LayerNormalization", normalization(nodes, feeds), feeds, gone=["ReduceMean"])
    stays("layer_norm", normalization(nodes.replace("Sub(b, o)", "Sub(o, b)"), feeds), feeds)
    stays("layer_norm", normalization(nodes, feeds, outputs="yr"), feeds)


FLAX = [MEANS + "q = Mul(x, x) w2 = ReduceMean<axes=[-1]>(q) k = Mul(m, m) v0 = Sub(w2, k) v = Max(zero, v0) ",
        MEANS + "q = Pow(x, two) w2 = ReduceMean<axes=[2]>(q) k = Pow(m, two) v0 = Sub(w2, k) v = Relu(v0) ",
        MEANS + "q = Mul(x, x) w2 = ReduceMean<axes=[-1]>(q) k = Mul(m, m) v = Sub(w2, k) "]
ROOT = " e = Add(v, eps) s = Sqrt(e) i = Reciprocal(s) "


@pytest.mark.parametrize("end", ["r = Mul(i, w) p = Mul(d, r) y = Add(p, b)", "r = Mul(w, i) y = Mul(r, d)",
                                 "n = Mul(d, i) t = Mul(n, w) y = Add(b, t)", "y = Mul(d, i)"])
@pytest.mark.parametrize("variance", FLAX)
def test_layer_norm_of_flax(variance, end):
    """The variance as E[x^2] - E[x]^2."""
    feeds = {"x": 0.5 + normal(3, 5, 13)}
    model = normalization(variance + ROOT + end, feeds, zero=0)
    fuses("layer_norm", "LayerNormalization", model, feeds, gone=["ReduceMean"])
    # Far from zero the difference of squares has no digit left; the statistics about the mean have.
    far = {"x": 3000 + normal(3, 5, 13)}
    got, = sx.InferenceSession(model).run(None, far)
    near, = sx.InferenceSession(model).run(None, {"x": far["x"] - np.float32(3000)})
    np.testing.assert_allclose(got, near, atol=0.02)


@pytest.mark.parametrize("change", [("Mul(m, m)", "Mul(m, x)"), ("Sub(w2, k)", "Sub(k, w2)"), ("Max(zero", "Max(eps"),
                                    ("Mul(x, x)", "Mul(x, w)"), ("ReduceMean<axes=[-1]>(q)", "ReduceMean<axes=[1]>(q)")],
                         ids=str)
def test_variances_that_are_none(change):
    feeds = {"x": 0.5 + normal(3, 5, 13)}
    nodes = (FLAX[0] + ROOT + "r = Mul(i, w) p = Mul(d, r) y = Add(p, b)").replace(*change)
    model = normalization(nodes, feeds, zero=0)
    assert operators(model) == operators(model, "layer_norm")


def test_layer_norm_that_is_added_to_something_of_its_shape():
    feeds = {"x": normal(3, 5, 13), "r": normal(3, 5, 13)}
    model = normalization(LAYER[0] + " t = Mul(n, w) y = Add(t, r)", feeds)
    fuses("layer_norm", "LayerNormalization", model, feeds)
    assert operators(model)["Add"] == 1


@pytest.mark.parametrize("nodes, outputs", [
    (LAYER[0] + " y = Mul(n, w)", "ys"), (LAYER[0] + " y = Mul(n, w) z = Neg(q)", "yz"),
    (LAYER[0].replace("[-1]", "[1]") + " y = Identity(n)", "y"),
    (LAYER[0].replace("v = ReduceMean<axes=[-1]>", "v = ReduceMean<axes=[1, 2]>") + " y = Identity(n)", "y"),
    (LAYER[0].replace("Add(v, eps)", "Add(v, s0)") + " y = Identity(n)", "y"),
    (LAYER[0].replace("two", "one") + " y = Identity(n)", "y"), (LAYER[0].replace("Sub(x, m)", "Sub(w, m)") + " y = Identity(n)", "y")],
    ids=str)
def test_layer_norm_that_is_none(nodes, outputs):
    feeds = {"x": 3 + normal(3, 5, 13), "s0": np.abs(normal(1))}
    model = normalization(nodes, feeds, outputs=outputs)
    assert "LayerNormalization" not in operators(model)
    if "one) v" not in nodes:  # the mean of a difference is nothing but rounding
        agree(model, feeds, 1e-5)


@pytest.mark.parametrize("w", [(5, 13), (5, 1), (1, 1, 1, 13)], ids=str)
def test_scales_of_other_shapes_stay_outside(w):
    feeds = {"x": normal(3, 5, 13)}
    model = normalization(LAYER[0] + " y = Mul(n, w)", feeds, w=w)
    fuses("layer_norm", "LayerNormalization", model, feeds)
    assert operators(model)["Mul"] == 1


RMS = ["q = Pow(x, two) v = ReduceMean<axes=[-1]>(q) e = Add(v, eps) s = Sqrt(e) n = Div(x, s)",
       "q = Mul(x, x) v = ReduceMean<axes=[-1]>(q) e = Add(v, eps) s = Sqrt(e) r = Reciprocal(s) n = Mul(x, r)",
       "q = Pow(x, two) v = ReduceMean<axes=[2]>(q) e = Add(v, eps) s = Sqrt(e) r = Div(one, s) n = Mul(r, x)",
       "q = Pow(x, two) v = ReduceMean<axes=[-1]>(q) e = Add(v, eps) r = Pow(e, minus) n = Mul(x, r)"]


@pytest.mark.parametrize("end", ENDS[:2] + ["y = Mul(w, n)"])
@pytest.mark.parametrize("core", RMS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_rms_norm(core, end, dtype):
    feeds = {"x": 3 * normal(3, 5, 13, dtype=dtype)}
    fuses("rms_norm", "RMSNormalization", normalization(f"{core} {end}", feeds), feeds, gone=["ReduceMean"])


@pytest.mark.parametrize("nodes, outputs", [(RMS[0] + " y = Mul(n, w)", "yv"), (RMS[0].replace("Div(x", "Div(w") + " y = Identity(n)", "y"),
                                            (RMS[0].replace("[-1]", "[1]") + " y = Mul(n, w)", "y"),
                                            (RMS[0].replace("[-1]", "[-1], keepdims=0") + " y = Mul(n, w)", "y")], ids=str)
def test_rms_norm_that_is_none(nodes, outputs):
    feeds = {"x": normal(13, 13, 13)}
    stays("rms_norm", normalization(nodes, feeds, outputs=outputs), feeds)


@pytest.mark.parametrize("nodes, shape", [
    ("y = ReduceMean<axes=[2, 3]>(x)", (2, 5, 7, 9)), ("y = ReduceMean<axes=[-1, -2]>(x)", (2, 5, 7, 9)),
    ("y = ReduceMean<axes=[4, 2, 3], keepdims=1>(x)", (1, 3, 4, 5, 6)),
    ("c = Conv(x, w) m = ReduceMean<axes=[2, 3]>(c) y = Mul(c, m)", (1, 5, 8, 8))])
def test_global_average(nodes, shape):
    constants = {"w": normal(6, 5, 3, 3, seed=1)} if "Conv" in nodes else {}
    feeds = {"x": normal(*shape)}
    fuses("global_average", "GlobalAveragePool", build(nodes, feeds, **constants), feeds, gone=["ReduceMean"])


@pytest.mark.parametrize("nodes, shape", [
    ("y = ReduceMean<axes=[1, 2]>(x)", (2, 5, 7, 9)), ("y = ReduceMean<axes=[2]>(x)", (2, 5, 7, 9)),
    ("y = ReduceMean<axes=[2, 3], keepdims=0>(x)", (2, 5, 7, 9)), ("y = ReduceMean<axes=[1]>(x)", (4, 5)), ("y = ReduceMean<axes=[2]>(x)", (3, 4, 30)),
    ("y = ReduceMean(x)", (2, 5, 7, 9)), ("y = ReduceSum(x, a)", (2, 5, 7, 9))])
def test_global_average_that_is_none(nodes, shape):
    feeds = {"x": normal(*shape)}
    stays("global_average", build(nodes, feeds, a=np.array([2, 3])), feeds)
