"""Functions of a model are inlined with the meaning that they have where they are written."""

import time

import numpy as np
import pytest
from onnx import AttributeProto, helper

import sardonyx as sx
from import_models import BOOL, convert, function, graph, info, model, ref, run, scalar, simple, vector

X = vector(1, -2)
LOCAL = [("local", 1)]
node = helper.make_node


def call(nodes, functions, inputs=("x",), outputs=("y",), opset=17, feeds=None, **fields):
    m = simple(nodes, inputs, outputs, functions=functions, opsets=LOCAL, opset=opset, **fields)
    return run(m, feeds or {"x": X})[0]


def test_body_and_intermediate_names():
    f = function("Twice", ["a"], ["c"], [node("Add", ["a", "a"], ["b"]), node("Neg", ["b"], ["c"])])
    out = call(
        [node("Twice", ["x"], ["b"], domain="local"), node("Twice", ["b"], ["y"], domain="local")], [f]
    )
    np.testing.assert_array_equal(out, 4 * X)


def test_function_of_another_opset():
    # Softmax until opset 12 works on the matrix that it flattens its input to; from 13 on, on one axis.
    f = function("Old", ["a"], ["b"], [node("Softmax", ["a"], ["b"], axis=1)], opset=11)
    m = model(
        graph(
            [node("Old", ["x"], ["y"], domain="local"), node("Softmax", ["x"], ["z"], axis=1)],
            [info("x", shape=(2, 3, 4))],
            [info("y", shape=(2, 3, 4)), info("z", shape=(2, 3, 4))],
        ),
        functions=[f],
        opsets=LOCAL,
    )
    x = np.random.default_rng(0).standard_normal((2, 3, 4), np.float32)
    y, z = run(m, {"x": x})
    e = np.exp(x)
    np.testing.assert_allclose(y, e / e.sum((1, 2), keepdims=True), rtol=1e-5)
    np.testing.assert_allclose(z, e / e.sum(1, keepdims=True), rtol=1e-5)


def test_nested_calls():
    inner = function("Inner", ["a"], ["b"], [node("Mul", ["a", "a"], ["b"])])
    outer = function(
        "Outer",
        ["a"],
        ["c"],
        [node("Inner", ["a"], ["b"], domain="local"), node("Add", ["b", "a"], ["c"])],
        opsets=LOCAL,
    )
    np.testing.assert_array_equal(
        call([node("Outer", ["x"], ["y"], domain="local")], [outer, inner]), X * X + X
    )


def test_attributes_references_and_defaults():
    body = [ref(node("LeakyRelu", ["a"], ["b"]), "alpha", "slope", AttributeProto.FLOAT)]
    f = function("Leak", ["a"], ["b"], body, defaults=[helper.make_attribute("slope", 0.5)])
    plain = node("Leak", ["x"], ["y"], domain="local")
    given = node("Leak", ["x"], ["y"], domain="local", slope=0.25)
    np.testing.assert_allclose(call([plain], [f]), [1, -1])
    np.testing.assert_allclose(call([given], [f]), [1, -0.5])


def test_parameter_without_value_leaves_the_default_of_the_operator():
    body = [ref(node("LeakyRelu", ["a"], ["b"]), "alpha", "slope", AttributeProto.FLOAT)]
    f = function("Leak", ["a"], ["b"], body, attributes=["slope"])
    np.testing.assert_allclose(call([node("Leak", ["x"], ["y"], domain="local")], [f]), [1, -0.02], rtol=1e-6)


def test_attribute_through_two_functions_and_a_constant():
    inner = function(
        "Inner",
        ["a"],
        ["b"],
        [
            ref(node("Constant", [], ["k"]), "value_float", "k", AttributeProto.FLOAT),
            node("Mul", ["a", "k"], ["b"]),
        ],
        attributes=["k"],
    )
    outer = function(
        "Outer",
        ["a"],
        ["b"],
        [ref(node("Inner", ["a"], ["b"], domain="local"), "k", "factor", AttributeProto.FLOAT)],
        attributes=["factor"],
        opsets=LOCAL,
    )
    out = call([node("Outer", ["x"], ["y"], domain="local", factor=3.0)], [inner, outer])
    np.testing.assert_array_equal(out, 3 * X)


def test_reference_of_another_type_is_refused():
    body = [ref(node("LeakyRelu", ["a"], ["b"]), "alpha", "slope", AttributeProto.FLOAT)]
    f = function("Leak", ["a"], ["b"], body, attributes=["slope"])
    with pytest.raises(sx.ModelError, match="expected FLOAT, got STRING"):
        call([node("Leak", ["x"], ["y"], domain="local", slope="steep")], [f])


def test_reference_outside_of_a_function_is_refused():
    with pytest.raises(sx.ModelError, match="outside of a function"):
        run(
            simple(
                [ref(node("LeakyRelu", ["x"], ["y"]), "alpha", "slope", AttributeProto.FLOAT)], ["x"], ["y"]
            ),
            {"x": X},
        )


def test_graph_attribute_sees_the_names_of_the_caller():
    # The body given to the function reads `w` of the main graph, while the function has a `w` of its own.
    branch = graph([node("Add", ["x", "w"], ["r"])], [], [info("r")])
    body = [
        node("Neg", ["a"], ["w"]),
        node("ReduceSum", ["a"], ["s"], keepdims=0),
        node("Constant", [], ["zero"], value_float=0.0),
        node("Greater", ["s", "zero"], ["c"]),
        node("If", ["c"], ["r"], else_branch=graph([node("Identity", ["w"], ["e"])], [], [info("e")])),
        node("Mul", ["r", "w"], ["b"]),
    ]
    ref(body[4], "then_branch", "chosen", AttributeProto.GRAPH)
    f = function("Choose", ["a"], ["b"], body, attributes=["chosen"])
    nodes = [node("Mul", ["x", "x"], ["w"]), node("Choose", ["x"], ["y"], domain="local", chosen=branch)]
    m = simple(nodes, ["x"], ["y"], functions=[f], opsets=LOCAL)
    positive, negative = vector(3, -2), vector(-3, 2)
    np.testing.assert_array_equal(run(m, {"x": positive})[0], (positive + positive**2) * -positive)
    np.testing.assert_array_equal(run(m, {"x": negative})[0], negative * negative)


def test_function_inside_a_body():
    f = function("Twice", ["a"], ["b"], [node("Add", ["a", "a"], ["b"])])
    then = graph([node("Twice", ["x"], ["t"], domain="local")], [], [info("t")])
    other = graph([node("Identity", ["x"], ["t"])], [], [info("t")])
    m = model(
        graph(
            [node("If", ["c"], ["y"], then_branch=then, else_branch=other)],
            [scalar("c", BOOL), info("x")],
            [info("y")],
        ),
        functions=[f],
        opsets=LOCAL,
    )
    np.testing.assert_array_equal(run(m, {"c": np.array(True), "x": X})[0], 2 * X)
    np.testing.assert_array_equal(run(m, {"c": np.array(False), "x": X})[0], X)


def test_overloads():
    add = function("F", ["a"], ["b"], [node("Add", ["a", "a"], ["b"])], overload="add")
    mul = function("F", ["a"], ["b"], [node("Mul", ["a", "a"], ["b"])], overload="mul")
    first, second = node("F", ["x"], ["t"], domain="local", overload="add"), node(
        "F", ["t"], ["y"], domain="local", overload="mul"
    )
    np.testing.assert_array_equal(call([first, second], [add, mul], ir=10), (2 * X) ** 2)


@pytest.mark.parametrize("outputs,expected", [(["a"], X), (["k"], vector(5, 6))])
def test_output_that_is_an_input_or_a_constant(outputs, expected):
    f = function("F", ["a"], outputs, [node("Constant", [], ["k"], value_floats=[5.0, 6.0])])
    np.testing.assert_array_equal(call([node("F", ["x"], ["y"], domain="local")], [f]), expected)


def test_omitted_inputs_and_outputs():
    f = function(
        "F",
        ["a", "lo", "hi"],
        ["b", "c"],
        [node("Clip", ["a", "lo", "hi"], ["b"]), node("Neg", ["a"], ["c"])],
    )
    out = call(
        [
            node("Constant", [], ["lo"], value_float=0.0),
            node("F", ["x", "lo"], ["t"], domain="local"),
            node("F", ["x", "", "lo"], ["", "u"], domain="local"),
            node("Add", ["t", "u"], ["y"]),
        ],
        [f],
    )
    np.testing.assert_array_equal(out, np.maximum(X, 0) - X)


def test_nodes_of_a_function_in_any_order():
    f = function("F", ["a"], ["c"], [node("Neg", ["b"], ["c"]), node("Add", ["a", "a"], ["b"])])
    np.testing.assert_array_equal(call([node("F", ["x"], ["y"], domain="local")], [f]), -2 * X)


def test_a_function_comes_before_an_operator():
    f = function("Relu", ["a"], ["b"], [node("Neg", ["a"], ["b"])], domain="")
    np.testing.assert_array_equal(call([node("Relu", ["x"], ["y"])], [f]), -X)


def test_random_streams_differ_between_calls():
    f = function("Noise", ["a"], ["b"], [node("RandomNormalLike", ["a"], ["b"])])
    m = simple(
        [node("Noise", ["x"], ["y"], domain="local"), node("Noise", ["x"], ["z"], domain="local")],
        ["x"],
        ["y", "z"],
        functions=[f],
        opsets=LOCAL,
    )
    session = sx.InferenceSession(m.SerializeToString())
    y, z = session.run(None, {"x": X})
    assert not np.array_equal(y, z)


@pytest.mark.parametrize("cycle", [1, 2, 5])
def test_recursion_is_refused(cycle):
    functions = [
        function(
            f"F{i}", ["a"], ["b"], [node(f"F{(i + 1) % cycle}", ["a"], ["b"], domain="local")], opsets=LOCAL
        )
        for i in range(cycle)
    ]
    with pytest.raises(sx.ModelError, match="no recursion"):
        call([node("F0", ["x"], ["y"], domain="local")], functions)


def test_recursion_inside_a_body_is_refused():
    branch = graph([node("F", ["a"], ["t"], domain="local")], [], [info("t")])
    f = function(
        "F",
        ["a"],
        ["b"],
        [
            node("Constant", [], ["c"], value=helper.make_tensor("", BOOL, [], [1])),
            node("If", ["c"], ["b"], then_branch=branch, else_branch=branch),
        ],
        opsets=LOCAL,
    )
    with pytest.raises(sx.ModelError, match="no recursion"):
        call([node("F", ["x"], ["y"], domain="local")], [f])


def refused_quickly(m, error, match):
    begin = time.monotonic()
    with pytest.raises(error, match=match):
        sx.InferenceSession(m.SerializeToString())
    assert time.monotonic() - begin < 5


def test_exponential_expansion_is_refused():
    functions = [function("F0", ["a"], ["b"], [node("Neg", ["a"], ["b"])])]
    for i in range(1, 60):
        functions.append(
            function(
                f"F{i}",
                ["a"],
                ["c"],
                [
                    node(f"F{i - 1}", ["a"], ["b"], domain="local"),
                    node(f"F{i - 1}", ["b"], ["c"], domain="local"),
                ],
                opsets=LOCAL,
            )
        )
    m = simple([node("F59", ["x"], ["y"], domain="local")], ["x"], ["y"], functions=functions, opsets=LOCAL)
    refused_quickly(m, sx.LimitError, "nodes after function expansion")


def test_exponential_expansion_through_graph_attributes_is_refused():
    # Each function puts its body in place twice, and each call hands on a body that calls the one below.
    f = [node("Constant", [], ["c"], value=helper.make_tensor("", BOOL, [], [1]))]
    f.append(
        ref(
            ref(node("If", ["c"], ["b"]), "then_branch", "g", AttributeProto.GRAPH),
            "else_branch",
            "g",
            AttributeProto.GRAPH,
        )
    )
    function_f = function("F", ["a"], ["b"], f, attributes=["g"])
    body = graph([node("Neg", ["x"], ["r"])], [], [info("r")])
    for _ in range(30):
        body = graph([node("F", ["x"], ["r"], domain="local", g=body)], [], [info("r")])
    m = simple(
        [node("F", ["x"], ["y"], domain="local", g=body)], ["x"], ["y"], functions=[function_f], opsets=LOCAL
    )
    refused_quickly(m, sx.LimitError, "nodes after function expansion|nesting")


def test_long_chain_of_calls_is_refused():
    functions = [function("F0", ["a"], ["b"], [node("Neg", ["a"], ["b"])])]
    for i in range(1, 3000):
        functions.append(
            function(f"F{i}", ["a"], ["b"], [node(f"F{i - 1}", ["a"], ["b"], domain="local")], opsets=LOCAL)
        )
    m = simple([node("F2999", ["x"], ["y"], domain="local")], ["x"], ["y"], functions=functions, opsets=LOCAL)
    refused_quickly(m, sx.LimitError, "nesting")


def test_large_attribute_in_many_calls_is_refused():
    functions = [
        function(
            "F0",
            ["a"],
            ["b"],
            [node("Neg", ["a"], ["b"]), node("Constant", [], ["k"], value_ints=list(range(100_000)))],
        )
    ]
    for i in range(1, 19):
        functions.append(
            function(
                f"F{i}",
                ["a"],
                ["c"],
                [
                    node(f"F{i - 1}", ["a"], ["b"], domain="local"),
                    node(f"F{i - 1}", ["b"], ["c"], domain="local"),
                ],
                opsets=LOCAL,
            )
        )
    m = simple([node("F18", ["x"], ["y"], domain="local")], ["x"], ["y"], functions=functions, opsets=LOCAL)
    with pytest.raises(sx.LimitError, match="size of the expanded model"):
        sx.InferenceSession(m.SerializeToString())


def test_weights_of_a_function_are_shared():
    # 64 calls of a function with a 4 MB constant stay near 4 MB in memory.
    import resource

    weights = helper.make_tensor("w", 1, [1 << 20], np.zeros(1 << 20, np.float32).tobytes(), raw=True)
    f = function(
        "F",
        ["a"],
        ["b"],
        [
            node("Constant", [], ["w"], value=weights),
            node("Constant", [], ["i"], value_ints=[0, 1]),
            node("Gather", ["w", "i"], ["p"]),
            node("Add", ["a", "p"], ["b"]),
        ],
    )
    nodes = [node("F", [f"v{i}"], [f"v{i + 1}"], domain="local") for i in range(64)]
    m = simple(nodes, ["v0"], ["v64"], functions=[f], opsets=LOCAL).SerializeToString()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    model_ = sx.Model(m)
    assert (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) < 64 << 10  # in KiB
    del model_


def test_function_defined_twice_is_refused():
    f = function("F", ["a"], ["b"], [node("Neg", ["a"], ["b"])])
    with pytest.raises(sx.ModelError, match="one definition"):
        call([node("F", ["x"], ["y"], domain="local")], [f, f])


@pytest.mark.parametrize("inputs,outputs", [(["x", "x"], ["y"]), (["x"], ["y", "z"])])
def test_too_many_inputs_or_outputs_are_refused(inputs, outputs):
    f = function("F", ["a"], ["b"], [node("Neg", ["a"], ["b"])])
    with pytest.raises(sx.ModelError, match="at most 1, got 2"):
        call([node("F", inputs, outputs, domain="local")], [f])


def test_output_that_nothing_makes_is_refused():
    f = function("F", ["a"], ["nowhere"], [node("Neg", ["a"], ["b"])])
    with pytest.raises(sx.ModelError, match="nowhere"):
        call([node("F", ["x"], ["y"], domain="local")], [f])


def test_unknown_operators_are_listed_at_once():
    f = function("F", ["a"], ["b"], [node("Gelu", ["a"], ["b"])], opset=17)
    nodes = [
        node("F", ["x"], ["t"], domain="local"),
        node("FusedThing", ["t"], ["u"], domain="com.example"),
        node("Nonsense", ["u"], ["v"]),
        node("Upsample", ["v", "v"], ["y"]),
    ]
    with pytest.raises(sx.UnsupportedError) as error:
        call(nodes, [f])
    for expected in (
        "Gelu at opset 17 (only since versions 20)",
        "com.example.FusedThing (unknown domain)",
        "Nonsense at opset 17 (no such operator)",
        "Upsample at opset 17 (deprecated since 10; versions 7, 9, 10",
    ):
        assert expected.replace("versions 7", "versions 1, 7") in str(error.value) or expected in str(
            error.value
        ), str(error.value)


def test_node_names_in_errors_carry_the_path_of_calls():
    f = function("F", ["a"], ["b"], [node("Neg", ["missing"], ["b"], name="negate")])
    with pytest.raises(sx.ModelError, match="negate.*missing"):
        call([node("F", ["x"], ["y"], domain="local", name="outer")], [f])
