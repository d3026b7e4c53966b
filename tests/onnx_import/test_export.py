"""What is written: the lowest opset that says the same, accepted by onnx.checker, equal in ONNX Runtime."""

import os

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnx.backend.test.loader import load_model_tests

import sardonyx as sx
from import_models import BOOL, FLOAT, INT64, constant, convert, graph, info, model, run_ort, scalar, simple, vector

X = vector(1, -2)
node = helper.make_node
HALF, FLOAT8, INT4 = TensorProto.FLOAT16, TensorProto.FLOAT8E4M3FN, TensorProto.INT4


def stamp(m):
    return next(o.version for o in m.opset_import if o.domain == ""), m.ir_version


def one(op, inputs, outputs, opset=28, ir=14, initializers=(), **attributes):
    return model(
        graph(
            [node(op, [i.name for i in inputs], [o.name for o in outputs], **attributes)],
            inputs,
            outputs,
            initializers,
        ),
        opset=opset,
        ir=ir,
    )


IMAGE, SMALLER = info("x", shape=(1, 2, 8, 8)), info("y", shape=(1, 2, 4, 4))

# The operator at the newest opset, and the opset that its meaning needs.
STAMPS = {
    "only types grew: Relu": (one("Relu", [info("x")], [info("y")]), 13),
    "only types grew: Cast": (one("Cast", [info("x")], [info("y", INT64)], to=INT64), 13),
    "only types grew: Identity": (one("Identity", [info("x")], [info("y")]), 13),
    "only types grew: DepthToSpace": (
        one("DepthToSpace", [info("x", shape=(1, 8, 2, 2))], [info("y", shape=(1, 2, 4, 4))], blocksize=2),
        13,
    ),
    "only types grew: Range": (one("Range", [scalar(n) for n in "abc"], [info("y", shape=("n",))]), 13),
    "only types grew: Mod": (one("Mod", [info("x", INT64), info("z", INT64)], [info("y", INT64)]), 13),
    "a type that grew: bool": (one("ReduceMax", [info("x", BOOL)], [info("y", BOOL, (1,))]), 20),
    "a type that grew: Range": (
        one("Range", [scalar(n, HALF) for n in "abc"], [info("y", HALF, ("n",))]),
        27,
    ),
    "a type that grew: float8": (one("Cast", [info("x")], [info("y", FLOAT8)], to=FLOAT8), 24),
    "a type that grew: int4": (one("Cast", [info("x")], [info("y", INT4)], to=INT4), 21),
    "a meaning that grew: Mod of floats": (one("Mod", [info("x"), info("z")], [info("y")]), 28),
    "the other meaning of Mod": (one("Mod", [info("x"), info("z")], [info("y")], fmod=1), 13),
    "an attribute at its default": (
        one("SpaceToDepth", [IMAGE], [info("y", shape=(1, 8, 4, 4))], blocksize=2, mode="DCR"),
        13,
    ),
    "an attribute not at its default": (
        one("SpaceToDepth", [IMAGE], [info("y", shape=(1, 8, 4, 4))], blocksize=2, mode="CRD"),
        28,
    ),
    "windows in the padding": (
        one("MaxPool", [IMAGE], [SMALLER], kernel_shape=[2, 2], strides=[2, 2], ceil_mode=1),
        22,
    ),
    "no windows in the padding": (
        one("MaxPool", [IMAGE], [SMALLER], kernel_shape=[2, 2], strides=[2, 2]),
        13,
    ),
    "an input that came later": (
        one("ReduceMean", [info("x"), info("axes", INT64, (1,))], [info("y", shape=(1,))]),
        18,
    ),
    "a mode that came later": (
        one("Pad", [info("x"), info("p", INT64)], [info("y", shape=(4,))], mode="wrap"),
        19,
    ),
    "a mode that was there": (
        one("Pad", [info("x"), info("p", INT64)], [info("y", shape=(4,))], mode="edge"),
        13,
    ),
    "an operator that came later": (one("Gelu", [info("x")], [info("y")]), 20),
    "types that must agree": (
        one("QuantizeLinear", [info("x", HALF), scalar("s", HALF)], [info("y", TensorProto.UINT8)]),
        19,
    ),
}


@pytest.mark.parametrize("m,opset", STAMPS.values(), ids=STAMPS)
def test_lowest_opset(m, opset):
    written = convert(m)
    assert stamp(written)[0] == opset
    assert (
        stamp(written)[1]
        == dict(
            (o, i)
            for o, i in [(13, 7), (18, 8), (19, 9), (20, 9), (21, 10), (22, 10), (24, 12), (27, 13), (28, 14)]
        )[opset]
    )


@pytest.mark.parametrize("opset", range(13, 29))
def test_forced_opset(opset):
    written = convert(
        simple([node("Relu", ["x"], ["t"]), node("Add", ["t", "x"], ["y"])], ["x"], ["y"], opset=17),
        opset=opset,
    )
    assert stamp(written)[0] == opset
    if opset <= 26:
        np.testing.assert_array_equal(run_ort(written, {"x": X})[0], np.maximum(X, 0) + X)


def test_forced_opset_that_a_node_forbids():
    m = simple([node("Relu", ["x"], ["t"]), node("Gelu", ["t"], ["y"], name="late")], ["x"], ["y"], opset=20)
    with pytest.raises(
        sx.UnsupportedError, match="node 'late' \\(Gelu\\): opset of ai.onnx: expected 20 to 28, got 19"
    ):
        sx.convert(m.SerializeToString(), opset=19)
    for opset in (-1, 29):
        with pytest.raises(sx.UnsupportedError, match="1 to 28"):
            sx.convert(m.SerializeToString(), opset=opset)


@pytest.mark.parametrize(
    "dtype,ir",
    [
        ("FLOAT8E5M2", 9),
        ("INT4", 10),
        ("FLOAT4E2M1", 11),
        ("FLOAT8E8M0", 12),
        ("INT2", 13),
        ("FLOAT6E2M3", 14),
    ],
)
def test_ir_of_element_types(dtype, ir):
    dtype = TensorProto.DataType.Value(dtype)
    array = np.ones(4).astype(helper.tensor_dtype_to_np_dtype(dtype))
    m = model(graph([], [], [info("k", dtype, (4,))], [numpy_helper.from_array(array, "k")]), opset=28, ir=14)
    assert stamp(convert(m)) == (13, ir)


def test_names_are_kept():
    m = simple(
        [
            node("Relu", ["in put"], ["a/b:0"], name="n"),
            node("Neg", ["a/b:0"], ["out"], name="n"),
            node("Abs", ["out"], ["z"]),
        ],
        ["in put"],
        ["out", "z"],
    )
    written = convert(m).graph
    assert [n.output[0] for n in written.node] == ["a/b:0", "out", "z"]
    names = [n.name for n in written.node]
    assert names[0] == "n" and len(set(names)) == 3
    assert [i.name for i in written.input] == ["in put"] and [o.name for o in written.output] == ["out", "z"]


def test_bodies_do_not_hide_names_around_them():
    body = graph([node("Mul", ["x", "x"], ["w"]), node("Neg", ["w"], ["y"])], [], [info("y")])
    m = model(
        graph(
            [
                node("Add", ["x", "x"], ["w"]),
                node("If", ["c"], ["y"], then_branch=body, else_branch=body),
                node("Add", ["w", "y"], ["z"]),
            ],
            [scalar("c", BOOL), info("x")],
            [info("z")],
        )
    )
    np.testing.assert_array_equal(run_ort(convert(m), {"c": np.array(True), "x": X})[0], 2 * X - X * X)


def test_body_that_returns_what_is_outside():
    step = graph(
        [node("Identity", ["x"], ["s2"])],
        [scalar("i", INT64), scalar("c", BOOL), info("s")],
        [scalar("c", BOOL), info("s2"), info("x")],
    )
    m = model(
        graph(
            [node("Loop", ["n", "", "x"], ["last", "all"], body=step)],
            [scalar("n", INT64), info("x")],
            [info("last"), info("all", shape=("k", 2))],
        )
    )
    last, every = run_ort(convert(m), {"n": np.array(3), "x": X})
    np.testing.assert_array_equal(last, X)
    np.testing.assert_array_equal(every, [X, X, X])


def test_defaults_of_inputs_are_kept():
    m = simple([node("Add", ["x", "w"], ["y"])], ["w", "x"], ["y"], initializers=[constant("w", 5, 6)])
    written = convert(m)
    np.testing.assert_array_equal(run_ort(written, {"x": X})[0], X + [5, 6])
    np.testing.assert_array_equal(run_ort(written, {"x": X, "w": X})[0], 2 * X)


def test_omitted_inputs_and_outputs():
    m = simple([node("Clip", ["x", "", "hi"], ["y"])], ["x"], ["y"])
    m.graph.initializer.append(helper.make_tensor("hi", FLOAT, [], [0.5]))
    written = convert(m)
    assert list(written.graph.node[0].input) == ["x", "", "hi"]
    np.testing.assert_array_equal(run_ort(written, {"x": X})[0], [0.5, -2])


def values_of(n):
    found = {a.name: helper.get_attribute_value(a) for a in n.attribute}
    return {
        k: numpy_helper.to_array(v).tolist() if isinstance(v, TensorProto) else v for k, v in found.items()
    }


def test_attributes_of_every_kind():
    rich = [
        node("LeakyRelu", ["x"], ["a"], alpha=0.25),
        node("Transpose", ["x"], ["b"], perm=[0]),
        node("Cast", ["x"], ["c"], to=INT64),
        node("ConstantOfShape", ["n"], ["d"], value=helper.make_tensor("", INT64, [1], [7])),
        node("OptionalHasElement", ["o"], ["e"]),
        node("Optional", [], ["o"], type=helper.make_tensor_type_proto(FLOAT, [2])),
        node(
            "LSTM",
            ["s", "w", "r"],
            ["f"],
            hidden_size=1,
            activations=["Relu", "Tanh", "Relu"],
            activation_alpha=[0.1],
            direction="forward",
        ),
    ]
    inputs = [
        info("x"),
        info("n", INT64, (1,)),
        info("s", shape=(3, 1, 2)),
        info("w", shape=(1, 4, 2)),
        info("r", shape=(1, 4, 1)),
    ]
    outputs = [
        info("a"),
        info("b"),
        info("c", INT64),
        info("d", INT64, ("k",)),
        scalar("e", BOOL),
        info("f", shape=(3, 1, 1, 1)),
    ]
    m = model(graph(rich, inputs, outputs), opset=18)
    written = convert(m)
    for before, after in zip(
        rich, (next(n for n in written.graph.node if n.output[0] == b.output[0]) for b in rich)
    ):
        assert values_of(before) == values_of(after)


def test_a_node_of_a_newer_function_next_to_older_ones():
    from import_models import function

    f = function("F", ["a"], ["b"], [node("Gelu", ["a"], ["b"])], opset=20)
    old = node("Dropout", ["t"], ["y", ""], ratio=0.25)
    m = simple(
        [node("F", ["x"], ["t"], domain="local"), old],
        ["x"],
        ["y"],
        opset=10,
        functions=[f],
        opsets=[("local", 1)],
    )
    written = convert(m)
    assert stamp(written)[0] == 20
    assert all(n.domain == "" for n in written.graph.node)


# --- external data ----------------------------------------------------------------------------------------


def test_external_data(tmp_path):
    rng = np.random.default_rng(0)
    arrays = {
        "big": rng.standard_normal((100, 30), np.float32),
        "small": vector(1, 2),
        "nibbles": rng.integers(-8, 8, 999).astype(helper.tensor_dtype_to_np_dtype(INT4)),
        "bytes": rng.integers(0, 256, 777, np.uint8),
        "text": np.array(["a" * 500], object),
    }
    outputs = [
        info(
            n, helper.np_dtype_to_tensor_dtype(a.dtype) if a.dtype != object else TensorProto.STRING, a.shape
        )
        for n, a in arrays.items()
    ]
    m = model(
        graph([], [], outputs, [numpy_helper.from_array(a, n) for n, a in arrays.items()]), opset=21, ir=10
    )
    path = tmp_path / "folder" / "model.onnx"
    path.parent.mkdir()
    sx.convert(m.SerializeToString(), str(path), external_bytes=100)
    assert sorted(p.name for p in path.parent.iterdir()) == ["model.onnx", "model.onnx.data"]
    onnx.checker.check_model(str(path), full_check=True)
    raw = onnx.load(path, load_external_data=False)
    placed = {t.name: {e.key: e.value for e in t.external_data} for t in raw.graph.initializer}
    assert {n for n, entries in placed.items() if entries} == {"big", "nibbles", "bytes"}
    for entries in filter(None, placed.values()):
        assert entries["location"] == "model.onnx.data" and int(entries["offset"]) % 64 == 0
    loaded = onnx.load(path)
    for tensor in loaded.graph.initializer:
        np.testing.assert_array_equal(
            numpy_helper.to_array(tensor).astype(arrays[tensor.name].dtype), arrays[tensor.name]
        )
    for got, expected in zip(sx.InferenceSession(str(path)).run(None, {}), arrays.values(), strict=True):
        assert got.tobytes() == expected.tobytes() if got.dtype != object else got[0] == expected[0]
    # Written over itself: the mapped data is read from the file that it replaces.
    sx.convert(str(path), str(path), external_bytes=100)
    np.testing.assert_array_equal(sx.InferenceSession(str(path)).run(["big"], {})[0], arrays["big"])


def test_a_failed_export_leaves_nothing(tmp_path):
    m = simple([node("Gelu", ["x"], ["y"])], ["x"], ["y"], opset=20)
    with pytest.raises(sx.UnsupportedError):
        sx.convert(m.SerializeToString(), str(tmp_path / "model.onnx"), opset=13)
    with pytest.raises(sx.FileError):
        sx.convert(m.SerializeToString(), str(tmp_path / "none" / "model.onnx"))
    assert not os.listdir(tmp_path)


# --- the cases of ONNX's own suite ------------------------------------------------------------------------


def cases():
    return {c.name: c for c in load_model_tests(kind="node") if c.model is not None}


def ort_or_none(source, feeds):
    try:
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 4
        options.intra_op_num_threads = 1
        session = onnxruntime.InferenceSession(source, options, providers=["CPUExecutionProvider"])
        return session.run(None, {i.name: feeds[i.name] for i in session.get_inputs() if i.name in feeds})
    except Exception:  # of many types, for what it does not support
        return None


def same(a, b):
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(same(x, y) for x, y in zip(a, b))
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[k], b[k]) for k in a)
    if a is None or b is None:
        return a is b
    a, b = np.asarray(a), np.asarray(b)
    if a.dtype != b.dtype or a.shape != b.shape:
        return False
    return (
        np.allclose(a, b, rtol=1e-5, atol=1e-6, equal_nan=True)
        if a.dtype.kind in "fc"
        else np.array_equal(a, b)
    )


def checked(source):
    try:
        onnx.checker.check_model(source, full_check=True)
        return True
    except Exception:
        return False


def test_suite_round_trip():
    """Every node case: what ONNX Runtime computes from the file and from its export is the same."""
    refused, different, lost, agreed, gained = [], [], [], 0, 0
    for name, case in cases().items():
        source = case.model.SerializeToString()
        exported = sx.convert(source)
        if checked(source) and not checked(exported):
            refused.append(name)
        feeds = dict(zip([i.name for i in case.model.graph.input], case.data_sets[0][0]))
        before, after = ort_or_none(source, feeds), ort_or_none(exported, feeds)
        agreed += before is not None and after is not None
        gained += before is None and after is not None
        if before is not None and after is None:
            lost.append(name)
        elif before is not None and not same(before, after):
            different.append(name)
    print(f"{agreed} cases agree, {gained} more run after export")
    assert (
        not refused and not lost and not different
    ), f"refused {refused}, lost {lost}, different {different}"
    assert agreed > 1300


def test_unread_outputs_keep_a_name():
    """TopK's values and the last part of a Split, which simplification no longer asks for."""
    parts = [info(f"p{i}") for i in range(3)]
    m = model(
        graph(
            [
                node("TopK", ["x", "k"], ["values", "at"]),
                node("Split", ["x"], [p.name for p in parts], num_outputs=3, axis=0),
                node("Add", ["p0", "p0"], ["y"]),
            ],
            [info("x", shape=(6,))],
            [info("at", INT64, (2,)), info("y", shape=(2,))],
            [numpy_helper.from_array(np.array([2], np.int64), "k")],
        ),
        opset=18,
    )
    converted = convert(m, optimize=True)
    feeds = {"x": np.array([3, 1, 5, 2, 4, 6], np.float32)}
    for got, expected in zip(run_ort(converted, feeds), run_ort(m, feeds)):
        assert np.array_equal(got, expected)
