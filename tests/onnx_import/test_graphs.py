"""Names, scopes, initializers and headers: what a model may say, and what is refused with which error."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

import sardonyx as sx
from import_models import BOOL, FLOAT, INT64, constant, convert, graph, info, model, run, scalar, simple, vector

X = vector(1, -2)
YES, NO = np.array(True), np.array(False)
node = helper.make_node


def branches(then, other, inputs=("x",), nodes=(), **fields):
    """y = If(c, then, other) after some other nodes."""
    nodes = list(nodes) + [node("If", ["c"], ["y"], then_branch=then, else_branch=other)]
    return model(graph(nodes, [scalar("c", BOOL)] + [info(n) for n in inputs], [info("y")], **fields))


def body(nodes, output="r", **fields):
    return graph(nodes, [], [info(output)], **fields)


# --- bodies and captures ----------------------------------------------------------------------------------


def test_branches_that_capture_different_values():
    m = branches(
        body([node("Neg", ["a"], ["r"])]),
        body([node("Add", ["b", "x"], ["r"])]),
        nodes=[node("Mul", ["x", "x"], ["a"]), node("Add", ["x", "x"], ["b"])],
    )
    np.testing.assert_array_equal(run(m, {"c": YES, "x": X})[0], -X * X)
    np.testing.assert_array_equal(run(m, {"c": NO, "x": X})[0], 3 * X)


@pytest.mark.parametrize("depth", [2, 3, 10])
def test_capture_through_the_bodies_between(depth):
    inner = body([node("Add", ["x", "w"], ["r"])])
    for _ in range(depth):
        inner = body(
            [node("If", ["c"], ["r"], then_branch=inner, else_branch=body([node("Neg", ["w"], ["r"])]))]
        )
    m = branches(inner, body([node("Identity", ["x"], ["r"])]), nodes=[node("Mul", ["x", "x"], ["w"])])
    # Names of a body may not repeat those around it in what is written.
    np.testing.assert_array_equal(run(m, {"c": YES, "x": X})[0], X + X * X)


def test_a_name_of_the_body_hides_the_one_outside():
    shadow = body([node("Mul", ["x", "x"], ["w"]), node("Neg", ["w"], ["r"])])
    m = branches(shadow, body([node("Identity", ["w"], ["r"])]), nodes=[node("Add", ["x", "x"], ["w"])])
    np.testing.assert_array_equal(run(m, {"c": YES, "x": X})[0], -X * X)
    np.testing.assert_array_equal(run(m, {"c": NO, "x": X})[0], 2 * X)


def test_body_that_returns_an_outer_value_and_one_that_returns_a_constant():
    m = branches(body([], "x"), body([], "k", initializers=[constant("k", 7, 8)]))
    np.testing.assert_array_equal(run(m, {"c": YES, "x": X})[0], X)
    np.testing.assert_array_equal(run(m, {"c": NO, "x": X})[0], [7, 8])


def test_loop_with_captures_and_scan_output():
    step = graph(
        [node("Add", ["s", "x"], ["t"]), node("Identity", ["go"], ["on"]), node("Mul", ["t", "w"], ["each"])],
        [scalar("i", INT64), scalar("go", BOOL), info("s")],
        [scalar("on", BOOL), info("t"), info("each")],
    )
    m = model(
        graph(
            [node("Loop", ["n", "", "x"], ["last", "all"], body=step)],
            [scalar("n", INT64), info("x")],
            [info("last"), info("all", shape=("n", 2))],
            [constant("w", 2, 3)],
        )
    )
    last, every = run(m, {"n": np.array(3), "x": X})
    np.testing.assert_array_equal(last, 4 * X)
    np.testing.assert_array_equal(every, [k * X * [2, 3] for k in (2, 3, 4)])


def test_body_node_before_the_one_it_needs():
    m = branches(
        body([node("Neg", ["t"], ["r"]), node("Add", ["x", "x"], ["t"])]),
        body([node("Identity", ["x"], ["r"])]),
    )
    np.testing.assert_array_equal(run(m, {"c": YES, "x": X})[0], -2 * X)


def field(number, payload):
    """A length-delimited field of a protobuf message."""
    rest, length = len(payload), b""
    while True:
        length += bytes([rest & 127 | (128 if rest > 127 else 0)])
        rest >>= 7
        if not rest:
            return bytes([number << 3 | 2]) + length + payload


def nested(depth):
    """A model of `depth` Ifs within each other, as bytes: the Python classes do not nest as deep."""
    identity = body([node("Identity", ["x"], ["r"])])
    inner = body([node("Neg", ["x"], ["r"])]).SerializeToString()
    attribute = onnx.AttributeProto(name="then_branch", type=onnx.AttributeProto.GRAPH).SerializeToString()
    choice = node("If", ["c"], ["r"], else_branch=identity).SerializeToString()
    shell = body([]).SerializeToString()
    for _ in range(depth):
        inner = shell + field(1, choice + field(5, attribute + field(6, inner)))
    inputs = graph([], [scalar("c", BOOL), info("x")]).SerializeToString()
    return model(graph([])).SerializeToString() + field(7, inner + inputs)


def test_nesting_up_to_the_limit():
    np.testing.assert_array_equal(run(nested(20), {"c": YES, "x": X})[0], -X)
    sx.Model(nested(64))
    with pytest.raises(sx.LimitError, match="nesting of bodies and functions: expected at most 64"):
        sx.Model(nested(65))


@pytest.mark.parametrize("depth", [100, 300, 2000])
def test_deep_nesting_is_refused(depth):
    with pytest.raises((sx.ModelError, sx.LimitError), match="nest"):
        sx.Model(nested(depth))


# --- initializers and inputs ------------------------------------------------------------------------------


def test_initializers_among_the_inputs_before_ir_4_are_constants():
    m = simple(
        [node("Add", ["x", "w"], ["y"])], ["w", "x"], ["y"], initializers=[constant("w", 5, 6)], ir=3, opset=8
    )
    session = sx.InferenceSession(m.SerializeToString())
    assert [i.name for i in session.get_inputs()] == ["x"]
    np.testing.assert_array_equal(run(m, {"x": X})[0], X + [5, 6])


def test_initializers_among_the_inputs_from_ir_4_are_defaults():
    m = simple([node("Add", ["x", "w"], ["y"])], ["w", "x"], ["y"], initializers=[constant("w", 5, 6)], ir=8)
    session = sx.InferenceSession(m.SerializeToString())
    assert [(i.name, i.has_default) for i in session.get_inputs()] == [("w", True), ("x", False)]
    np.testing.assert_array_equal(run(m, {"x": X})[0], X + [5, 6])
    np.testing.assert_array_equal(run(m, {"x": X, "w": X})[0], 2 * X)


@pytest.mark.parametrize("ir,opset", [(3, 8), (8, 17)])
def test_initializers_of_bodies_are_constants(ir, opset):
    k = constant("k", 7, 8)
    then = graph([node("Add", ["x", "k"], ["r"])], [info("k")] if ir == 3 else [], [info("r")], [k])
    m = branches(then, body([node("Identity", ["x"], ["r"])]))
    m.ir_version, m.opset_import[0].version = ir, opset
    np.testing.assert_array_equal(run(m, {"c": YES, "x": X})[0], X + [7, 8])


def test_default_of_another_type_is_refused():
    m = simple(
        [node("Identity", ["x"], ["y"])],
        ["x"],
        ["y"],
        initializers=[helper.make_tensor("x", INT64, [2], [1, 2])],
    )
    with pytest.raises(sx.ModelError, match="initializer of input 'x': expected float, got int64"):
        sx.Model(m.SerializeToString())


def test_sparse_initializer():
    values = helper.make_tensor("s", FLOAT, [3], [1.0, 2.0, 3.0])
    for indices in (
        helper.make_tensor("", INT64, [3], [0, 4, 5]),
        helper.make_tensor("", INT64, [3, 2], [0, 0, 1, 1, 1, 2]),
    ):
        g = graph([node("Add", ["x", "s"], ["y"])], [info("x", shape=(2, 3))], [info("y", shape=(2, 3))])
        g.sparse_initializer.append(helper.make_sparse_tensor(values, indices, [2, 3]))
        np.testing.assert_array_equal(
            run(model(g), {"x": np.zeros((2, 3), np.float32)})[0], [[1, 0, 0], [0, 2, 3]]
        )


BAD_INDICES = {
    "outside": ([2], [0, 6], "values in"),
    "negative": ([2], [-1, 2], "values in"),
    "repeated": ([2], [3, 3], "ascending"),
    "descending": ([2], [3, 2], "ascending"),
    "another count": ([3], [0, 1, 2], "dims"),
    "another rank": ([2, 3], [0] * 6, "dims"),
    "row outside": ([2, 2], [0, 0, 2, 0], "values in"),
    "column outside": ([2, 2], [0, 0, 1, 3], "values in"),
}


@pytest.mark.parametrize("dims,indices,message", BAD_INDICES.values(), ids=BAD_INDICES)
def test_bad_sparse_indices_are_refused(dims, indices, message):
    g = graph([node("Add", ["x", "s"], ["y"])], [info("x", shape=(2, 3))], [info("y", shape=(2, 3))])
    g.sparse_initializer.append(
        helper.make_sparse_tensor(
            helper.make_tensor("s", FLOAT, [2], [1.0, 2.0]),
            helper.make_tensor("", INT64, dims, indices),
            [2, 3],
        )
    )
    with pytest.raises(sx.ModelError, match=message):
        sx.Model(model(g).SerializeToString())


@pytest.mark.parametrize("dims", [[1 << 20, 1 << 20], [1 << 40, 1 << 40], [1 << 62, 1 << 62, 0], [-1, 2]])
def test_huge_sparse_tensors_are_refused(dims):
    g = graph([node("Identity", ["s"], ["y"])], [], [info("y", shape=None)])
    g.sparse_initializer.append(
        helper.make_sparse_tensor(
            helper.make_tensor("s", FLOAT, [1], [1.0]), helper.make_tensor("", INT64, [1], [0]), dims
        )
    )
    with pytest.raises((sx.LimitError, sx.ModelError)):
        sx.Model(model(g).SerializeToString())


# --- Constant ---------------------------------------------------------------------------------------------

CONSTANTS = {
    "value": (dict(value=constant("", 1, 2)), vector(1, 2)),
    "value_float": (dict(value_float=1.5), np.float32(1.5)),
    "value_floats": (dict(value_floats=[1.5, 2.5]), vector(1.5, 2.5)),
    "value_int": (dict(value_int=3), np.int64(3)),
    "value_ints": (dict(value_ints=[3, 4]), np.array([3, 4])),
    "value_string": (dict(value_string="a"), np.array("a", object)),
    "value_strings": (dict(value_strings=["a", "b"]), np.array(["a", "b"], object)),
    "sparse_value": (
        dict(
            sparse_value=helper.make_sparse_tensor(
                helper.make_tensor("", FLOAT, [1], [4.0]), helper.make_tensor("", INT64, [1], [1]), [3]
            )
        ),
        vector(0, 4, 0),
    ),
}


@pytest.mark.parametrize("attributes,expected", CONSTANTS.values(), ids=CONSTANTS)
def test_constant(attributes, expected):
    dtype = (
        TensorProto.STRING if expected.dtype == object else helper.np_dtype_to_tensor_dtype(expected.dtype)
    )
    m = model(graph([node("Constant", [], ["y"], **attributes)], [], [info("y", dtype, expected.shape)]))
    out = sx.InferenceSession(m.SerializeToString()).run(None, {})[0]
    assert out.dtype == expected.dtype and out.shape == expected.shape
    np.testing.assert_array_equal(out, expected)
    convert(m)


@pytest.mark.parametrize("attributes", [{}, dict(value_int=1, value_float=2.0), dict(value=1), dict(other=1)])
def test_bad_constant_is_refused(attributes):
    m = model(graph([node("Constant", [], ["y"], **attributes)], [], [info("y", shape=None)]))
    with pytest.raises(sx.ModelError, match="node 'y' \\(Constant\\)"):
        sx.Model(m.SerializeToString())


# --- names ------------------------------------------------------------------------------------------------


def test_nodes_in_any_order():
    m = simple(
        [node("Neg", ["b"], ["y"]), node("Add", ["a", "x"], ["b"]), node("Mul", ["x", "x"], ["a"])],
        ["x"],
        ["y"],
    )
    np.testing.assert_array_equal(run(m, {"x": X})[0], -(X * X + X))


def test_output_that_is_an_input_an_initializer_or_twice_the_same():
    m = simple([node("Neg", ["x"], ["y"])], ["x"], ["x", "k", "y"], initializers=[constant("k", 3, 4)])
    outputs = run(m, {"x": X})
    for got, expected in zip(outputs, (X, [3, 4], -X), strict=True):
        np.testing.assert_array_equal(got, expected)


REFUSED = {
    "cycle": (simple([node("Neg", ["b"], ["a"]), node("Neg", ["a"], ["b"])], ["x"], ["b"]), "acyclic"),
    "cycle of one": (simple([node("Add", ["x", "y"], ["y"])], ["x"], ["y"]), "acyclic"),
    "two producers": (
        simple([node("Neg", ["x"], ["y"]), node("Abs", ["x"], ["y"])], ["x"], ["y"]),
        "one producer",
    ),
    "input made again": (simple([node("Neg", ["x"], ["x"])], ["x"], ["x"]), "one producer"),
    "initializer made again": (
        simple([node("Neg", ["x"], ["k"])], ["x"], ["k"], initializers=[constant("k", 1, 2)]),
        "one producer",
    ),
    "input twice": (simple([node("Neg", ["x"], ["y"])], ["x", "x"], ["y"]), "one producer"),
    "initializer twice": (
        simple([node("Add", ["x", "k"], ["y"])], ["x"], ["y"], initializers=[constant("k", 1, 2)] * 2),
        "one definition",
    ),
    "undefined input": (simple([node("Neg", ["nothing"], ["y"])], ["x"], ["y"]), "'nothing'.*undefined"),
    "undefined output": (
        simple([node("Neg", ["x"], ["y"])], ["x"], ["y", "nothing"]),
        "'nothing'.*undefined",
    ),
    "undefined in a body": (
        branches(body([node("Neg", ["nothing"], ["r"])]), body([node("Neg", ["x"], ["r"])])),
        "'nothing'.*undefined",
    ),
    "no outputs": (simple([node("Neg", ["x"], ["y"])], ["x"], []), "outputs"),
    "nameless output": (simple([node("Neg", ["x"], ["y"])], ["x"], ["y", ""]), "a name"),
    "nameless input": (simple([node("Neg", ["x"], ["y"])], ["x", ""], ["y"]), "a name"),
    "nameless initializer": (
        simple([node("Neg", ["x"], ["y"])], ["x"], ["y"], initializers=[constant("", 1)]),
        "a name",
    ),
    "body that needs its own node": (
        branches(body([node("Neg", ["y"], ["r"])]), body([node("Neg", ["x"], ["r"])])),
        "acyclic",
    ),
    "input without a type": (
        model(graph([node("Neg", ["x"], ["y"])], [onnx.ValueInfoProto(name="x")], [info("y")])),
        "a type",
    ),
    "attribute twice": (
        simple([helper.make_node("LeakyRelu", ["x"], ["y"], alpha=1.0)], ["x"], ["y"]),
        "one value",
    ),
    "attribute of two types": (
        simple([helper.make_node("LeakyRelu", ["x"], ["y"], alpha=1.0)], ["x"], ["y"]),
        "one value",
    ),
    "attribute type without value": (simple([helper.make_node("If", ["x"], ["y"])], ["x"], ["y"]), "GRAPH"),
}
REFUSED["attribute twice"][0].graph.node[0].attribute.append(
    REFUSED["attribute twice"][0].graph.node[0].attribute[0]
)
REFUSED["attribute of two types"][0].graph.node[0].attribute[0].i = 1
REFUSED["attribute type without value"][0].graph.node[0].attribute.add(
    name="then_branch", type=onnx.AttributeProto.GRAPH
)


@pytest.mark.parametrize("m,message", REFUSED.values(), ids=REFUSED)
def test_refused(m, message):
    with pytest.raises(sx.ModelError, match=message):
        sx.Model(m.SerializeToString())


def test_attribute_written_by_proto3_without_its_zero():
    m = simple(
        [node("Gather", ["x", "i"], ["y"], axis=0)],
        ["x"],
        ["y"],
        initializers=[helper.make_tensor("i", INT64, [2], [1, 0])],
    )
    m.graph.node[0].attribute[0].ClearField("i")
    np.testing.assert_array_equal(run(m, {"x": X})[0], X[::-1])


def test_domain_ai_onnx_is_the_default_domain():
    m = simple([node("Neg", ["x"], ["y"], domain="ai.onnx")], ["x"], ["y"])
    m.opset_import[0].domain = "ai.onnx"
    np.testing.assert_array_equal(run(m, {"x": X})[0], -X)
    assert convert(m).graph.node[0].domain == ""


# --- the header -------------------------------------------------------------------------------------------


def relu(ir=8, opset=17):
    return simple([node("Neg", ["x"], ["y"])], ["x"], ["y"], ir=ir, opset=opset)


@pytest.mark.parametrize("opset", range(6, 29))
def test_every_opset(opset):
    np.testing.assert_array_equal(run(relu(opset=opset), {"x": X})[0], -X)


@pytest.mark.parametrize("ir", range(3, 15))
def test_every_ir(ir):
    np.testing.assert_array_equal(run(relu(ir=ir, opset=8), {"x": X})[0], -X)


@pytest.mark.parametrize("ir", [1, 2])
def test_before_opsets_were_numbered(ir):
    m = simple([node("MatMul", ["x", "x"], ["y"])], ["x"], [], ir=ir)
    m.graph.output.append(scalar("y"))
    del m.opset_import[:]
    np.testing.assert_array_equal(run(m, {"x": X})[0], X @ X)


def test_headers_that_are_refused():
    for m, error, message in [
        (
            relu(opset=29),
            sx.UnsupportedError,
            "opset_import of domain 'ai.onnx': expected a version of at most 28, got 29",
        ),
        (relu(opset=0), sx.ModelError, "at least 1"),
        (relu(opset=-3), sx.ModelError, "at least 1"),
        (relu(ir=15), sx.UnsupportedError, "ir_version: expected at most 14, got 15"),
        (relu(ir=0), sx.ModelError, "ir_version"),
        (relu(ir=-1), sx.ModelError, "ir_version"),
    ]:
        with pytest.raises(error, match=message):
            sx.Model(m.SerializeToString())
    m = relu()
    del m.opset_import[:]
    with pytest.raises(sx.ModelError, match="opset_import"):
        sx.Model(m.SerializeToString())
    m = relu()
    m.ClearField("graph")
    with pytest.raises(sx.ModelError, match="a graph"):
        sx.Model(m.SerializeToString())
    m = relu()
    m.graph.node[0].domain = "ai.onnx.ml"
    m.graph.node[0].op_type = "Normalizer"
    with pytest.raises(sx.ModelError, match="'ai.onnx.ml': expected an opset_import"):
        sx.Model(m.SerializeToString())


def test_the_highest_of_two_opsets_of_a_domain_counts():
    m = simple([node("Gelu", ["x"], ["y"])], ["x"], ["y"], opset=17)
    with pytest.raises(sx.UnsupportedError):
        sx.Model(m.SerializeToString())
    m.opset_import.append(helper.make_opsetid("", 20))
    sx.Model(m.SerializeToString())


def test_what_surrounds_the_graph_is_kept():
    m = relu()
    m.producer_name, m.producer_version, m.domain, m.model_version, m.doc_string = (
        "maker",
        "1.2",
        "org.example",
        7,
        "words",
    )
    helper.set_model_props(m, {"key": "value", "other": "thing"})
    assert sx.InferenceSession(m.SerializeToString()).metadata == {"key": "value", "other": "thing"}
    written = convert(m)
    for field in ("producer_name", "producer_version", "domain", "model_version", "doc_string"):
        assert getattr(written, field) == getattr(m, field)
    assert {p.key: p.value for p in written.metadata_props} == {"key": "value", "other": "thing"}


def test_types_of_every_kind():
    tensor = helper.make_tensor_type_proto(FLOAT, ["n", None, 3])
    types = [
        tensor,
        helper.make_sequence_type_proto(tensor),
        helper.make_optional_type_proto(tensor),
        helper.make_optional_type_proto(helper.make_sequence_type_proto(tensor)),
    ]
    for t in types:
        m = model(
            graph(
                [node("Identity", ["x"], ["y"])],
                [helper.make_value_info("x", t)],
                [helper.make_value_info("y", t)],
            )
        )
        written = convert(m)
        assert written.graph.input[0].type == t and written.graph.output[0].type == t


def test_error_names_the_file(tmp_path):
    path = tmp_path / "broken.onnx"
    onnx.save(simple([node("Neg", ["nothing"], ["y"], name="negate")], ["x"], ["y"]), path)
    with pytest.raises(
        sx.ModelError,
        match=f"^{path}: node 'negate' \\(Neg\\): value 'nothing': expected .*, got an undefined name",
    ):
        sx.Model(str(path))
    for missing in (tmp_path / "none.onnx", tmp_path):
        with pytest.raises(sx.FileError):
            sx.Model(str(missing))
