"""Plans behind values that are known only while a graph runs: shapes that depend on data, operands that are fed,
branches and loops. Each graph runs several times, with shapes that come again and shapes that do not."""

import concurrent.futures

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

import sardonyx as sx

OPTIONS = [{}, {"disabled_passes": ["segments"]}, {"disabled_passes": ["layouts", "epilogues"]}, {"optimize": "none"}]
WIDTH = 6


def tensor(array, name):
    return numpy_helper.from_array(np.asarray(array), name)


class Drawing:
    """A random graph over matrices with WIDTH columns, whose rows are chosen by what they hold."""

    def __init__(self, seed):
        self.rng = np.random.default_rng(seed)
        self.nodes, self.constants, self.values = [], [], ["x"]

    def constant(self, array):
        name = f"c{len(self.constants)}"
        self.constants.append(tensor(array, name))
        return name

    def node(self, op, *inputs, **attributes):
        name = f"v{len(self.nodes)}"
        self.nodes.append(helper.make_node(op, list(inputs), [name], **attributes))
        return name

    def pick(self):
        recent = self.values[-4:]
        return recent[int(self.rng.integers(0, len(recent)))]

    def ints(self, *values):
        return self.constant(np.array(values, np.int64))

    def column(self, name):
        at = self.constant(np.int64(self.rng.integers(0, WIDTH)))
        return self.node("Gather", name, at, axis=1)

    def positive(self, name):
        return self.node("Greater", self.column(name), self.constant(np.float32(-0.3)))

    def compress(self):
        a = self.pick()
        self.values.append(self.node("Compress", a, self.positive(a), axis=0))

    def nonzero(self):
        a = self.pick()
        rows = self.node("Squeeze", self.node("NonZero", self.positive(a)), self.ints(0))
        self.values.append(self.node("Gather", a, rows, axis=0))

    def top(self):
        a = self.pick()
        count = self.node("ReduceSum", self.node("Cast", self.positive(a), to=TensorProto.INT64), self.ints(0), keepdims=1)
        names = [f"t{len(self.nodes)}_{i}" for i in range(2)]
        self.nodes.append(helper.make_node("TopK", [a, count], names, axis=0))
        self.values.append(names[0])

    def fed_slice(self):
        self.values.append(self.node("Slice", self.pick(), "start", self.ints(100), self.ints(0)))

    def twice(self):
        a = self.pick()
        rows = self.node("Gather", self.node("Shape", a), self.ints(0), axis=0)
        target = self.node("Concat", self.ints(2), rows, self.ints(WIDTH), axis=0)
        self.values.append(self.node("Reshape", self.node("Expand", a, target), self.ints(-1, WIDTH)))

    def concat(self):
        self.values.append(self.node("Concat", self.pick(), self.pick(), axis=0))

    def elementwise(self):
        a = self.pick()
        op = str(self.rng.choice(["Relu", "Tanh", "Sigmoid", "Neg", "HardSigmoid"]))
        b = self.node(op, a)
        self.values.append(self.node("Add", b, self.constant(self.rng.standard_normal(WIDTH).astype(np.float32))))
        if self.rng.random() < 0.5:
            self.values.append(self.node("Mul", self.values[-1], a))

    def product(self):
        weights = self.constant((self.rng.standard_normal((WIDTH, WIDTH)) * 0.6).astype(np.float32))
        self.values.append(self.node("MatMul", self.pick(), weights))

    def softmax(self):
        self.values.append(self.node("Softmax", self.pick(), axis=1))

    def branch(self):
        a = self.pick()
        total = self.node("ReduceSum", a, keepdims=0)
        condition = self.node("Greater", total, self.constant(np.float32(0.1)))
        name = f"v{len(self.nodes)}"

        def body(op, extra):
            nodes = [helper.make_node(op, [a], [f"{name}_{op}"]), *extra]
            return helper.make_graph(nodes, op, [], [helper.make_tensor_value_info(nodes[-1].output[0], TensorProto.FLOAT, [None, None])])

        more = [helper.make_node("Concat", [f"{name}_Abs", a], [f"{name}_more"], axis=0)]
        self.nodes.append(helper.make_node("If", [condition], [name], then_branch=body("Exp", []), else_branch=body("Abs", more)))
        self.values.append(self.node("Tanh", name))

    def loop(self):
        """Turn i takes the rows from i on."""
        a, name = self.pick(), f"v{len(self.nodes)}"
        nodes = [helper.make_node("Unsqueeze", [f"{name}_i", f"{name}_zero"], [f"{name}_s"]),
                 helper.make_node("Slice", [a, f"{name}_s", f"{name}_end", f"{name}_zero"], [f"{name}_rows"]),
                 helper.make_node("Tanh", [f"{name}_rows"], [f"{name}_t"]),
                 helper.make_node("ReduceMax", [f"{name}_t"], [f"{name}_m"], axes=[0], keepdims=1),
                 helper.make_node("Add", [f"{name}_state", f"{name}_m"], [f"{name}_next"]),
                 helper.make_node("Identity", [f"{name}_c"], [f"{name}_on"])]
        body = helper.make_graph(
            nodes, "body",
            [helper.make_tensor_value_info(f"{name}_i", TensorProto.INT64, []), helper.make_tensor_value_info(f"{name}_c", TensorProto.BOOL, []),
             helper.make_tensor_value_info(f"{name}_state", TensorProto.FLOAT, [1, WIDTH])],
            [helper.make_tensor_value_info(f"{name}_on", TensorProto.BOOL, []),
             helper.make_tensor_value_info(f"{name}_next", TensorProto.FLOAT, [1, WIDTH])],
            [tensor(np.array([0], np.int64), f"{name}_zero"), tensor(np.array([1000], np.int64), f"{name}_end")])
        turns = self.node("Min", self.node("Squeeze", self.node("Gather", self.node("Shape", a), self.ints(0), axis=0), self.ints(0)),
                          self.constant(np.int64(12)))
        self.nodes.append(helper.make_node("Loop", [turns, "", self.constant(np.zeros((1, WIDTH), np.float32))], [f"{name}_out"], body=body))
        self.values.append(self.node("Add", a, f"{name}_out"))

    def model(self):
        used = {i for node in self.nodes for i in node.input}
        ends = [v for v in self.values[1:] if v not in used or self.rng.random() < 0.15]
        graph = helper.make_graph(
            self.nodes, "g",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["rows", WIDTH]), helper.make_tensor_value_info("start", TensorProto.INT64, [1])],
            [helper.make_tensor_value_info(n, TensorProto.FLOAT, [None, None]) for n in ends], self.constants)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
        onnx.checker.check_model(model)
        return model.SerializeToString()


STEPS = [Drawing.compress, Drawing.nonzero, Drawing.top, Drawing.fed_slice, Drawing.twice, Drawing.concat,
         Drawing.elementwise, Drawing.elementwise, Drawing.elementwise, Drawing.product, Drawing.product,
         Drawing.softmax, Drawing.branch, Drawing.loop]


def reference(model):
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def feeds_for(rng, rows, start):
    return {"x": rng.standard_normal((rows, WIDTH)).astype(np.float32), "start": np.array([start], np.int64)}


def assert_same(got, expected, options):
    for a, b in zip(got, expected, strict=True):
        assert a.shape == b.shape, options
        np.testing.assert_allclose(a, b, atol=2e-5, rtol=2e-4, err_msg=str(options))


@pytest.mark.parametrize("seed", range(40))
def test_random_graphs(seed):
    drawing = Drawing(seed)
    while len(drawing.nodes) < 30:
        STEPS[int(drawing.rng.integers(0, len(STEPS)))](drawing)
    model, rng = drawing.model(), np.random.default_rng(500 + seed)
    first, second, third = feeds_for(rng, 9, 0), feeds_for(rng, 9, 2), feeds_for(rng, 3, 1)
    turns = [first, first, second, first, third, second, second, first]
    onnx_session = reference(model)
    expected = [onnx_session.run(None, feeds) for feeds in turns]
    for options in OPTIONS:
        session = sx.InferenceSession(model, threads=1 + seed % 2, **options)
        for feeds, want in zip(turns, expected, strict=True):
            assert_same(session.run(None, feeds), want, options)


def after_nonzero():
    """Rows with a positive first column, through a layer; and whether the layer's bias is read before."""
    nodes = [helper.make_node("Gather", ["x", "zero"], ["c"], axis=1), helper.make_node("Greater", ["c", "threshold"], ["m"]),
             helper.make_node("Tanh", ["x"], ["early"]),
             helper.make_node("NonZero", ["m"], ["at"]), helper.make_node("Squeeze", ["at", "axis"], ["rows"]),
             helper.make_node("Gather", ["early", "rows"], ["chosen"], axis=0), helper.make_node("MatMul", ["chosen", "w"], ["p"]),
             helper.make_node("Relu", ["p"], ["y"])]
    rng = np.random.default_rng(2)
    graph = helper.make_graph(
        nodes, "g", [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["rows", WIDTH])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [None, None])],
        [tensor(np.int64(0), "zero"), tensor(np.float32(0), "threshold"), tensor(np.array([0], np.int64), "axis"),
         tensor(rng.standard_normal((WIDTH, 4)).astype(np.float32), "w")])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8).SerializeToString()


def test_what_lies_behind_is_planned_when_its_shapes_come_again():
    model = after_nonzero()
    x = np.random.default_rng(3).standard_normal((16, WIDTH)).astype(np.float32)
    text = sx.InferenceSession(model).plan({"x": x})
    before, behind = text.split("then, for the values found:\n")
    assert "1 nodes chosen while running" in before and "left for another plan" in before
    assert "0 nodes chosen while running" in behind and "MatMul" in behind
    apart = sx.InferenceSession(model, disabled_passes=["segments"]).plan({"x": x})
    assert "then" not in apart and "5 nodes chosen while running" in apart


def test_any_number_of_shapes_behind():
    model, rng = after_nonzero(), np.random.default_rng(4)
    session, onnx_session = sx.InferenceSession(model), reference(model)
    for rows in [*range(0, 60), *range(59, 0, -3), *[7] * 40]:
        x = rng.standard_normal((rows, WIDTH)).astype(np.float32)
        assert_same(session.run(None, {"x": x}), onnx_session.run(None, {"x": x}), rows)


def test_threads_in_one_session():
    model, rng = after_nonzero(), np.random.default_rng(8)
    session, onnx_session = sx.InferenceSession(model, threads=1), reference(model)
    feeds = [{"x": rng.standard_normal((int(rows), WIDTH)).astype(np.float32)} for rows in rng.integers(1, 9, 40)]
    expected = [onnx_session.run(None, f) for f in feeds]

    def work(offset):
        for turn in range(3 * len(feeds)):
            at = (turn * 7 + offset) % len(feeds)
            assert_same(session.run(None, feeds[at]), expected[at], at)

    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        list(pool.map(work, range(4)))


def fed_shape():
    nodes = [helper.make_node("Mul", ["to", "two"], ["doubled"]), helper.make_node("Concat", ["doubled", "rest"], ["shape"], axis=0),
             helper.make_node("Reshape", ["x", "shape"], ["r"]), helper.make_node("Softmax", ["r"], ["y"], axis=1)]
    graph = helper.make_graph(
        nodes, "g", [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n"]), helper.make_tensor_value_info("to", TensorProto.INT64, [1])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [None, None])],
        [tensor(np.array([2], np.int64), "two"), tensor(np.array([-1], np.int64), "rest")])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8).SerializeToString()


def test_a_plan_is_made_for_the_values_that_shapes_depend_on():
    model = fed_shape()
    x = np.random.default_rng(5).standard_normal(96).astype(np.float32)
    session, onnx_session = sx.InferenceSession(model), reference(model)
    fed = np.array([4], np.int64)
    assert "0 nodes chosen while running" in session.plan({"x": x, "to": fed})
    fed[0] = 6  # the plan has not kept the caller's memory
    for value in [6, 4, 6, 1, 2, 3, 4, 6, 8, 12, 16, 24, 48, 4, 1, 2, 48, 48]:
        feeds = {"x": x, "to": np.array([value], np.int64)}
        assert_same(session.run(None, feeds), onnx_session.run(None, feeds), value)


def test_errors_behind_name_the_node():
    nodes = [helper.make_node("NonZero", ["x"], ["at"]), helper.make_node("Reshape", ["at", "shape"], ["r"], name="the_reshape"),
             helper.make_node("Cast", ["r"], ["y"], to=TensorProto.FLOAT)]
    graph = helper.make_graph(nodes, "g", [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n"])],
                              [helper.make_tensor_value_info("y", TensorProto.FLOAT, [None])], [tensor(np.array([3], np.int64), "shape")])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8).SerializeToString()
    session = sx.InferenceSession(model)
    three, four = np.ones(3, np.float32), np.ones(4, np.float32)
    for _ in range(3):
        np.testing.assert_array_equal(session.run(None, {"x": three})[0], [0, 1, 2])
        with pytest.raises(sx.InputError, match="the_reshape"):
            session.run(None, {"x": four})
