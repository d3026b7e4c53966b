"""Plans: layouts, nodes computed together, memory used again. Graphs drawn at random must give onnxruntime's answer,
whatever of this is switched off."""

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

import sardonyx as sx

OPTIONS = [{}, {"disabled_passes": ["layouts"]}, {"disabled_passes": ["epilogues"]},
           {"disabled_passes": ["layouts", "epilogues"]}, {"disabled_passes": ["views"]},
           {"disabled_passes": ["layouts", "views"]}, {"optimize": "none"}]
UNARY = ["Relu", "Sigmoid", "Tanh", "HardSigmoid", "HardSwish", "Abs", "Neg", "LeakyRelu", "Elu", "Softsign", "Floor"]
BINARY = ["Add", "Sub", "Mul", "Max", "Min"]


class Drawing:
    """A random graph over image tensors: (name, shape) of every value, and the nodes that made them."""

    def __init__(self, seed):
        self.rng = np.random.default_rng(seed)
        self.nodes, self.constants = [], []
        rank = int(self.rng.integers(3, 6)) if seed % 3 == 0 else 4
        self.input = ("x", (int(self.rng.integers(1, 3)), int(self.rng.integers(1, 6)), *self.rng.integers(3, 8, rank - 2).tolist()))
        self.values = [self.input]

    def constant(self, array):
        name = f"c{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.asarray(array), name))
        return name

    def floats(self, *shape):
        return self.constant((self.rng.standard_normal(shape) * 0.5).astype(np.float32))

    def add(self, op, inputs, shape, outputs=1, **attributes):
        names = [f"v{len(self.nodes)}_{i}" for i in range(outputs)]
        self.nodes.append(helper.make_node(op, inputs, names, **attributes))
        self.values += [(n, tuple(s)) for n, s in zip(names, [shape] if outputs == 1 else shape)]

    def pick(self, minimum_rank=0):
        found = [v for v in self.values if len(v[1]) >= minimum_rank]
        return found[int(self.rng.integers(max(0, len(found) - 6), len(found)))]

    def unary(self):
        name, shape = self.pick()
        self.add(str(self.rng.choice(UNARY)), [name], shape)

    def clip(self):
        name, shape = self.pick()
        self.add("Clip", [name, self.constant(np.float32(-0.5)), self.constant(np.float32(0.75))], shape)

    def binary(self):
        a, shape = self.pick()
        same = [n for n, s in self.values if s == shape]
        self.add(str(self.rng.choice(BINARY)), [a, str(self.rng.choice(same))], shape)

    def with_constant(self):
        name, shape = self.pick()
        dims = [int(d) if self.rng.random() < 0.5 else 1 for d in shape]
        inputs = [name, self.floats(*dims[int(self.rng.integers(0, len(dims) + 1)):])]
        self.add(str(self.rng.choice(BINARY)), inputs if self.rng.random() < 0.5 else inputs[::-1], shape)

    def conv(self):
        name, shape = self.pick(3)
        if len(shape) > 5 or min(shape[2:]) < 3:
            return
        out = int(self.rng.integers(1, 20))
        spatial = len(shape) - 2
        kernel = [int(k) for k in self.rng.choice([1, 3], spatial)]
        inputs = [name, self.floats(out, shape[1], *kernel)] + ([self.floats(out)] if self.rng.random() < 0.5 else [])
        strides = [int(s) for s in self.rng.choice([1, 2], spatial)]
        pads = [k // 2 for k in kernel]
        dims = [(d + 2 * p - k) // s + 1 for d, p, k, s in zip(shape[2:], pads, kernel, strides)]
        self.add("Conv", inputs, (shape[0], out, *dims), strides=strides, pads=pads * 2)

    def depthwise(self):
        name, shape = self.pick(3)
        if len(shape) > 5:
            return
        kernel = [3] * (len(shape) - 2)
        self.add("Conv", [name, self.floats(shape[1], 1, *kernel)], shape, group=shape[1], pads=[1] * (2 * len(kernel)))

    def concat(self):
        a, shape = self.pick(1)
        axis = int(self.rng.integers(0, len(shape)))
        others = [(n, s) for n, s in self.values if len(s) == len(shape) and all(p == q or i == axis for i, (p, q) in enumerate(zip(s, shape)))]
        b, other = others[int(self.rng.integers(0, len(others)))]
        self.add("Concat", [a, b], tuple(p + q if i == axis else p for i, (p, q) in enumerate(zip(shape, other))), axis=axis)

    def split(self):
        name, shape = self.pick(1)
        axis = int(self.rng.integers(0, len(shape)))
        if shape[axis] < 2:
            return
        sizes = [1, shape[axis] - 1]
        self.add("Split", [name, self.constant(np.array(sizes, np.int64))],
                 [tuple(k if i == axis else d for i, d in enumerate(shape)) for k in sizes], 2, axis=axis)

    def pool(self):
        name, shape = self.pick(3)
        if len(shape) > 5 or min(shape[2:]) < 2:
            return
        n = len(shape) - 2
        self.add(str(self.rng.choice(["MaxPool", "AveragePool"])), [name],
                 (*shape[:2], *[(d + 2 - 3) // 2 + 1 for d in shape[2:]]), kernel_shape=[3] * n, strides=[2] * n, pads=[1] * 2 * n)

    def gate(self):
        name, shape = self.pick(3)
        self.add("GlobalAveragePool", [name], (*shape[:2], *[1] * (len(shape) - 2)))
        self.add("Mul", [name, self.values[-1][0]], shape)

    def resize(self):
        name, shape = self.pick(3)
        if len(shape) != 4 or max(shape) > 16:
            return
        self.add("Resize", [name, "", self.constant(np.array([1, 1, 2, 2], np.float32))],
                 (*shape[:2], shape[2] * 2, shape[3] * 2), mode=str(self.rng.choice(["nearest", "linear"])))

    def transpose(self):
        name, shape = self.pick(2)
        perm = [int(p) for p in self.rng.permutation(len(shape))]
        if len(shape) == 4 and self.rng.random() < 0.6:
            perm = [[0, 2, 3, 1], [0, 3, 1, 2]][int(self.rng.integers(0, 2))]
        self.add("Transpose", [name], tuple(shape[p] for p in perm), perm=perm)

    def reshape(self):
        name, shape = self.pick(2)
        to = self.rng.choice(["flat", "merge", "rows"])
        new = {"flat": (shape[0], -1), "merge": (*shape[:2], -1), "rows": (-1, shape[-1])}[str(to)]
        known = int(np.prod([d for d in new if d > 0]))
        full = tuple(int(np.prod(shape)) // known if d < 0 else d for d in new)
        self.add("Reshape", [name, self.constant(np.array(new, np.int64))], full)

    def slice(self):
        name, shape = self.pick(1)
        axis = int(self.rng.integers(0, len(shape)))
        if shape[axis] < 2:
            return
        self.add("Slice", [name, self.constant(np.array([1], np.int64)), self.constant(np.array([shape[axis]], np.int64)),
                           self.constant(np.array([axis], np.int64))],
                 tuple(d - 1 if i == axis else d for i, d in enumerate(shape)))

    def product(self):
        name, shape = self.pick(2)
        n = int(self.rng.integers(1, 24))
        self.add("MatMul", [name, self.floats(shape[-1], n)], (*shape[:-1], n))

    def model(self):
        used = {i for node in self.nodes for i in node.input}
        made = {o for node in self.nodes for o in node.output}
        ends = [v for v in self.values if v[0] in made and (v[0] not in used or self.rng.random() < 0.1)]
        graph = helper.make_graph(
            self.nodes, "g", [helper.make_tensor_value_info("x", TensorProto.FLOAT, self.input[1])],
            [helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in ends], self.constants)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
        onnx.checker.check_model(model)
        return model.SerializeToString()


STEPS = [Drawing.unary, Drawing.unary, Drawing.binary, Drawing.binary, Drawing.with_constant, Drawing.with_constant,
         Drawing.conv, Drawing.conv, Drawing.depthwise, Drawing.concat, Drawing.split, Drawing.pool, Drawing.gate,
         Drawing.resize, Drawing.transpose, Drawing.reshape, Drawing.slice, Drawing.clip, Drawing.product]


def draw(seed, length=24):
    drawing = Drawing(seed)
    while len(drawing.nodes) < length:
        STEPS[int(drawing.rng.integers(0, len(STEPS)))](drawing)
    return drawing


def reference(model, feeds):
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"]).run(None, feeds)


def assert_close(got, expected, names, tolerance=2e-4):
    for name, a, b in zip(names, got, expected, strict=True):
        assert a.shape == b.shape, name
        scale = max(np.abs(b).max(initial=0), 1e-3)
        np.testing.assert_allclose(a, b, atol=tolerance * scale, rtol=tolerance, err_msg=name)


@pytest.mark.parametrize("seed", [*range(60), 1323])
def test_random_graphs(seed):
    drawing = draw(seed)
    model = drawing.model()
    rng = np.random.default_rng(1000 + seed)
    feeds = [{"x": rng.standard_normal(drawing.input[1]).astype(np.float32)} for _ in range(2)]
    expected = [reference(model, f) for f in feeds]
    for options in OPTIONS:
        session = sx.InferenceSession(model, threads=1 + seed % 2, **options)
        names = [o.name for o in session.get_outputs()]
        first = session.run(None, feeds[0])
        second = session.run(None, feeds[1])  # in the memory of the first
        # Floor turns a rounding error into a whole step: such graphs are compared where it does not.
        if any(node.op_type == "Floor" for node in drawing.nodes):
            for got, want in zip([first, second], expected):
                for a, b in zip(got, want, strict=True):
                    close = np.isclose(a, b, atol=1e-3, rtol=1e-3)
                    assert close.mean() > 0.9, options
            continue
        assert_close(first, expected[0], names)
        assert_close(second, expected[1], names)


FUNCTIONS = {
    "Relu": lambda x: np.maximum(x, 0), "LeakyRelu": lambda x: np.where(x < 0, np.float32(0.01) * x, x),
    "HardSwish": lambda x: x * np.clip(x / 6 + 0.5, 0, 1), "Sigmoid": lambda x: 1 / (1 + np.exp(-x)),
    "Tanh": np.tanh, "Clip": lambda x: np.clip(x, -1, 6), "Mish": lambda x: x * np.tanh(np.log1p(np.exp(x))),
}


@pytest.mark.parametrize("op", FUNCTIONS)
@pytest.mark.parametrize("root", ["Conv", "MatMul"])
def test_nan_goes_through_what_is_computed_together(op, root):
    """oneDNN's own relu and clip give a number for NaN."""
    extra = [helper.make_tensor("lo", TensorProto.FLOAT, [], [-1]), helper.make_tensor("hi", TensorProto.FLOAT, [], [6])]
    x = np.random.default_rng(0).standard_normal((2, 8, 16, 16)).astype(np.float32)
    x[0, 3, 5, 6] = np.nan
    x[1, 2, 3, 4] = np.inf
    if root == "Conv":
        weights = np.zeros((8, 8, 1, 1), np.float32)
        weights[:, :, 0, 0] = np.eye(8)
    else:
        weights = np.eye(16, dtype=np.float32)
    nodes = [helper.make_node(root, ["x", "w"], ["a"]),
             helper.make_node(op, ["a", "lo", "hi"] if op == "Clip" else ["a"], ["y"])]
    graph = helper.make_graph(nodes, "g", [helper.make_tensor_value_info("x", TensorProto.FLOAT, x.shape)],
                              [helper.make_tensor_value_info("y", TensorProto.FLOAT, x.shape)],
                              [numpy_helper.from_array(weights, "w"), *extra])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8).SerializeToString()
    with np.errstate(all="ignore"):
        product = np.einsum("oc,nchw->nohw", weights[:, :, 0, 0], x) if root == "Conv" else x @ weights
        expected = FUNCTIONS[op](product)
    for options in OPTIONS:
        got = sx.InferenceSession(model, **options).run(None, {"x": x})[0]
        np.testing.assert_array_equal(np.isnan(got), np.isnan(expected), err_msg=str(options))
        finite = np.isfinite(expected)
        np.testing.assert_allclose(got[finite], expected[finite], atol=2e-6, rtol=2e-5, err_msg=str(options))


RELU_ROOTS = {
    "conv 1x1": ("Conv", (2, 16, 9, 11), (24, 16, 1, 1), {}),
    "conv 1x1, large": ("Conv", (1, 64, 56, 56), (64, 64, 1, 1), {}),
    "conv 3x3": ("Conv", (1, 16, 12, 10), (24, 16, 3, 3), {"pads": [1] * 4}),
    "conv 3x3, large": ("Conv", (1, 32, 40, 40), (48, 32, 3, 3), {"pads": [1] * 4, "strides": [2, 2]}),
    "conv of images": ("Conv", (1, 3, 32, 32), (20, 3, 7, 7), {"pads": [3] * 4, "strides": [2, 2]}),
    "depthwise": ("Conv", (1, 40, 30, 30), (40, 1, 3, 3), {"pads": [1] * 4, "group": 40}),
    "grouped": ("Conv", (1, 32, 20, 20), (32, 8, 3, 3), {"pads": [1] * 4, "group": 4}),
    "of one dimension": ("Conv", (1, 24, 300), (24, 24, 5), {"pads": [2, 2]}),
    "transposed": ("ConvTranspose", (1, 16, 14, 14), (16, 24, 2, 2), {"strides": [2, 2]}),
    "gemm": ("Gemm", (70, 96), (96, 64), {}),
    "gemm, large": ("Gemm", (300, 256), (256, 200), {}),
    "product": ("MatMul", (2, 40, 96), (96, 64), {}),
}


@pytest.mark.parametrize("residual", [False, True], ids=["alone", "after Add"])
@pytest.mark.parametrize("root", RELU_ROOTS)
def test_relu_of_minus_infinity(root, residual):
    """Where a sum is minus infinity, ReLU gives 0 also when it is computed with what makes the sum; NaN stays."""
    op, shape, weights, attributes = RELU_ROOTS[root]
    rng = np.random.default_rng(6)
    x = rng.standard_normal(shape).astype(np.float32)
    w = np.abs(rng.standard_normal(weights)).astype(np.float32) * 0.1
    constants = [numpy_helper.from_array(w, "w")]
    names = ["x", "w"]
    if op != "MatMul":
        bias = rng.standard_normal(weights[0] if op == "Conv" else weights[1]).astype(np.float32)
        bias[3], bias[5], bias[6] = -np.inf, np.inf, np.nan
        constants.append(numpy_helper.from_array(bias, "b"))
        names.append("b")
    nodes = [helper.make_node(op, names, ["a"], **attributes)]
    feeds = {"x": x}
    if residual:
        nodes.append(helper.make_node("Add", ["a", "r"], ["s"]))

    def model(output, extra=()):
        graph = helper.make_graph(
            [*nodes, *extra], "g",
            [helper.make_tensor_value_info(n, TensorProto.FLOAT, v.shape) for n, v in feeds.items()],
            [helper.make_tensor_value_info(output, TensorProto.FLOAT, None)], constants)
        made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
        return made.SerializeToString()

    if residual:
        # Its shape is that of what the product makes.
        plain = helper.make_model(helper.make_graph(
            nodes[:1], "g", [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
            [helper.make_tensor_value_info("a", TensorProto.FLOAT, None)], constants),
            opset_imports=[helper.make_opsetid("", 18)], ir_version=8).SerializeToString()
        feeds["r"] = rng.standard_normal(reference(plain, {"x": x})[0].shape).astype(np.float32)
    total, last = ("s" if residual else "a"), helper.make_node("Relu", ["s" if residual else "a"], ["y"])
    for infinite in (False, True):
        if infinite:
            for place in ((0,) * len(shape), tuple(d // 2 for d in shape)):
                feeds["x"][place] = -np.inf
        sums = sx.InferenceSession(model(total), optimize="none").run(None, feeds)[0]
        assert np.isneginf(sums).any() == (infinite or op != "MatMul")
        expected = np.where(np.isnan(sums), sums, np.maximum(sums, 0))
        for threads in (1, 2):
            session = sx.InferenceSession(model("y", [last]), threads=threads)
            assert "+Relu" in session.plan(feeds) or "Add+Relu" in session.plan(feeds)
            for _ in range(2):
                got = session.run(None, feeds)[0]
                np.testing.assert_array_equal(np.isnan(got), np.isnan(expected))
                finite = np.isfinite(expected)
                np.testing.assert_array_equal(got[np.isinf(expected)], expected[np.isinf(expected)])
                np.testing.assert_allclose(got[finite], expected[finite], atol=2e-4, rtol=2e-4)
            # And nothing of it stays for inputs without infinities.
            ordinary = dict(feeds, x=np.ones(shape, np.float32))
            want = sx.InferenceSession(model(total), optimize="none").run(None, ordinary)[0]
            np.testing.assert_allclose(session.run(None, ordinary)[0], np.where(np.isnan(want), want, np.maximum(want, 0)),
                                       atol=2e-4, rtol=2e-4)


def test_one_plan_for_each_shape():
    """Shapes come and go, many more of them than plans are kept."""
    graph = helper.make_graph(
        [helper.make_node("Conv", ["x", "w"], ["a"], pads=[1, 1, 1, 1]), helper.make_node("Relu", ["a"], ["b"]),
         helper.make_node("GlobalAveragePool", ["b"], ["y"])], "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 3, "h", "w_"])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(np.random.default_rng(3).standard_normal((5, 3, 3, 3)).astype(np.float32), "w")])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8).SerializeToString()
    session = sx.InferenceSession(model)
    rng = np.random.default_rng(4)
    shapes = [(1 + i % 3, 3, 4 + i % 7, 4 + i % 11) for i in range(120)]
    for shape in shapes + shapes[::7]:
        x = rng.standard_normal(shape).astype(np.float32)
        assert_close(session.run(None, {"x": x}), reference(model, {"x": x}), ["y"])


def split_and_concat(rows):
    """Two halves of x along its rows, each through a function, put together the other way round; and one of them."""
    nodes = [helper.make_node("Split", ["x"], ["a", "b"], axis=0, num_outputs=2), helper.make_node("Tanh", ["a"], ["p"]),
             helper.make_node("MatMul", ["b", "w"], ["q"]), helper.make_node("Concat", ["q", "p", "q"], ["c"], axis=0),
             helper.make_node("Sigmoid", ["c"], ["y"]), helper.make_node("Softmax", ["q"], ["z"])]
    weights = np.random.default_rng(6).standard_normal((5, 5)).astype(np.float32)
    graph = helper.make_graph(
        nodes, "g", [helper.make_tensor_value_info("x", TensorProto.FLOAT, [rows, 5])],
        [helper.make_tensor_value_info(n, TensorProto.FLOAT, None) for n in "yz"], [numpy_helper.from_array(weights, "w")])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8).SerializeToString()


def test_split_and_concat_without_copies():
    model = split_and_concat(8)
    x = np.random.default_rng(7).standard_normal((8, 5)).astype(np.float32)
    text = sx.InferenceSession(model).plan({"x": x})
    assert "Split" not in text and "from byte 80" in text
    assert "Split" in sx.InferenceSession(model, disabled_passes=["views"]).plan({"x": x})
    for options in OPTIONS:
        assert_close(sx.InferenceSession(model, **options).run(None, {"x": x}), reference(model, {"x": x}), ["y", "z"])


def test_the_plan_as_text():
    drawing = Drawing(1)
    drawing.add("Conv", ["x", drawing.floats(6, drawing.input[1][1], 1, 1)], (drawing.input[1][0], 6, *drawing.input[1][2:]))
    drawing.add("Relu", [drawing.values[-1][0]], drawing.values[-1][1])
    model, feeds = drawing.model(), {"x": np.ones(drawing.input[1], np.float32)}
    text = sx.InferenceSession(model).plan(feeds)
    assert "onednn-channels-last+Relu" in text and "1 absorbed nodes" in text and "2 reorders" in text
    apart = sx.InferenceSession(model, disabled_passes=["layouts", "epilogues"]).plan(feeds)
    assert "0 absorbed nodes, 0 reorders" in apart and "channels" not in apart


def test_small_known_values_keep_their_order_behind_a_transpose():
    """A Transpose that is a view leaves channels last; what is known of its elements is in plain order."""
    nodes = [helper.make_node("Shape", ["x"], ["dims"]),
             helper.make_node("Concat", ["dims", "dims"], ["twice"], axis=0),
             helper.make_node("Reshape", ["twice", "form"], ["table"]),
             helper.make_node("Transpose", ["table"], ["turned"], perm=[0, 2, 1]),
             helper.make_node("Unsqueeze", ["turned", "one"], ["wide"]),
             helper.make_node("MatMul", ["wide", "y"], ["z"])]
    graph = helper.make_graph(
        nodes, "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["a", "b", "c"]),
         helper.make_tensor_value_info("y", TensorProto.INT64, [1, 2, 1])],
        [helper.make_tensor_value_info("z", TensorProto.INT64, None)],
        [numpy_helper.from_array(np.array([1, 2, 3], np.int64), "form"),
         numpy_helper.from_array(np.array([1], np.int64), "one")])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)])
    feeds = {"x": np.zeros((2, 5, 7), np.float32), "y": np.array([[[1], [1]]], np.int64)}
    expected = np.array([[[[4], [10], [14]]]])
    for options in OPTIONS:
        np.testing.assert_array_equal(sx.InferenceSession(model.SerializeToString(), **options).run(None, feeds)[0], expected)
