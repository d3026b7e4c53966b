"""Sequences and optionals."""

import ml_dtypes
import numpy as np
import onnx
import onnx.helper
import pytest

import sardonyx as sx
from node_models import STORAGE_DTYPES, assert_same, onnx_type, random_array, random_shape

h = onnx.helper


def type_of(value):
    if isinstance(value, list):
        return h.make_sequence_type_proto(
            h.make_tensor_type_proto(onnx_type(value[0]) if value else onnx.TensorProto.FLOAT, None)
        )
    return h.make_tensor_type_proto(onnx_type(value), value.shape)


def run(op, inputs, outputs=1, opset=18, types=(), **attributes):
    """A model of one node whose inputs may be lists (sequences) and None (a value of the type in `types`)."""
    names = [f"x{i}" for i in range(len(inputs))]
    node = h.make_node(op, names, [f"y{i}" for i in range(outputs)], **attributes)
    infos = [
        h.make_value_info(n, types[i] if i < len(types) and types[i] else type_of(v))
        for i, (n, v) in enumerate(zip(names, inputs))
    ]
    graph = h.make_graph([node], op, infos, [onnx.ValueInfoProto(name=f"y{i}") for i in range(outputs)])
    proto = h.make_model(graph, opset_imports=[h.make_opsetid("", opset)], ir_version=10)
    return sx.InferenceSession(proto.SerializeToString()).run(None, dict(zip(names, inputs)))


def i64(values):
    return np.array(values, dtype=np.int64)


def assert_sequence(got, want):
    assert isinstance(got, list) and len(got) == len(want)
    for g, w in zip(got, want):
        assert_same(g, w)


def tensors(seed, n=4):
    rng = np.random.default_rng(seed)
    dtype = [d for d in STORAGE_DTYPES if d != ml_dtypes.bfloat16][seed % 13]
    return rng, [random_array(rng, dtype, random_shape(rng, int(rng.integers(0, 4)))) for _ in range(n)]


@pytest.mark.parametrize("seed", range(13))
def test_editing(seed):
    rng, items = tensors(seed)
    assert_sequence(run("SequenceConstruct", items)[0], items)
    assert_same(run("SequenceLength", [items])[0], np.int64(4))
    new = random_array(rng, items[0].dtype, (2,))
    assert_sequence(run("SequenceInsert", [items, new])[0], [*items, new])
    for at in range(-4, 5):
        want = list(items)
        want.insert(at, new)
        assert_sequence(run("SequenceInsert", [items, new, np.array(at, np.int32)])[0], want)
        if at < 4:
            assert_same(run("SequenceAt", [items, i64(at)])[0], items[at])
            assert_sequence(run("SequenceErase", [items, i64(at)])[0], [t for i, t in enumerate(items) if i != at % 4])
    assert_sequence(run("SequenceErase", [items])[0], items[:3])
    assert_sequence(run("Identity", [items])[0], items)


def test_positions_out_of_range():
    items = [np.zeros(2, np.float32)] * 3
    for at in (3, -4, 2**62, -(2**63)):
        with pytest.raises(sx.InputError, match=str(at)):
            run("SequenceAt", [items, i64(at)])
        with pytest.raises(sx.InputError, match=str(at)):
            run("SequenceErase", [items, i64(at)])
    for at in (4, -4):
        with pytest.raises(sx.InputError, match=str(at)):
            run("SequenceInsert", [items, items[0], i64(at)])
    for op, extra in (("SequenceAt", [i64(0)]), ("SequenceErase", []), ("ConcatFromSequence", [])):
        with pytest.raises(sx.InputError):
            run(op, [[], *extra], **({"axis": 0} if op == "ConcatFromSequence" else {}))


def test_types_in_a_sequence():
    for bad in (
        lambda: run("SequenceConstruct", [np.zeros(1, np.float32), np.zeros(1, np.int32)]),
        lambda: run("SequenceInsert", [[np.zeros(1, np.float32)], np.zeros(1, np.int32)]),
    ):
        with pytest.raises(sx.Error):
            bad()


def test_empty():
    assert run("SequenceEmpty", [], dtype=onnx.TensorProto.INT64)[0] == []
    with pytest.raises(sx.Error):
        run("SequenceEmpty", [], dtype=999)


@pytest.mark.parametrize("seed", range(40))
def test_concat(seed):
    rng = np.random.default_rng(seed)
    dtype = [d for d in STORAGE_DTYPES if d != ml_dtypes.bfloat16][seed % 13]
    shape = list(random_shape(rng, int(rng.integers(1, 4))))
    axis = int(rng.integers(-len(shape), len(shape)))
    items = []
    for _ in range(int(rng.integers(1, 5))):
        shape[axis] = int(rng.integers(0, 5))
        items.append(random_array(rng, dtype, tuple(shape)))
    assert_same(run("ConcatFromSequence", [items], axis=axis)[0], np.concatenate(items, axis))
    same = [random_array(rng, dtype, tuple(shape)) for _ in items]
    axis = int(rng.integers(-len(shape) - 1, len(shape) + 1))
    assert_same(run("ConcatFromSequence", [same], axis=axis, new_axis=1)[0], np.stack(same, axis))


def test_concat_errors():
    a, b = np.zeros((2, 3), np.float32), np.zeros((2, 4), np.float32)
    for items, attributes in (
        ([a, b], {"axis": 0}),
        ([a, b], {"axis": 0, "new_axis": 1}),
        ([a, a[0]], {"axis": 0}),
        ([a], {"axis": 2}),
        ([a], {"axis": -4, "new_axis": 1}),
        ([a], {"axis": 0, "new_axis": 2}),
    ):
        with pytest.raises(sx.Error):
            run("ConcatFromSequence", [items], **attributes)


@pytest.mark.parametrize("seed", range(40))
def test_split(seed):
    rng = np.random.default_rng(seed)
    dtype = STORAGE_DTYPES[seed % len(STORAGE_DTYPES)]
    opset = 24 if dtype == ml_dtypes.bfloat16 else 11
    x = random_array(rng, dtype, random_shape(rng, int(rng.integers(1, 4)), largest=9))
    axis = int(rng.integers(-x.ndim, x.ndim))
    n = x.shape[axis]
    singles = np.split(x, range(1, n), axis) if n else []
    assert_sequence(run("SplitToSequence", [x], axis=axis, opset=opset)[0], singles)
    assert_sequence(
        run("SplitToSequence", [x], axis=axis, keepdims=0, opset=opset)[0], [s.squeeze(axis) for s in singles]
    )
    chunk = int(rng.integers(1, 5))
    want = np.split(x, range(chunk, n, chunk), axis) if n else []
    assert_sequence(run("SplitToSequence", [x, i64(chunk)], axis=axis, keepdims=0, opset=opset)[0], want)
    cuts = sorted(int(c) for c in rng.integers(0, n + 1, 2))
    sizes = np.diff([0, *cuts, n]).astype(np.int32)
    assert_sequence(run("SplitToSequence", [x, sizes], axis=axis, opset=opset)[0], np.split(x, cuts, axis))


def test_split_errors():
    x = np.zeros((5, 2), np.float32)
    for split in (i64(0), i64(-1), i64([2, 2]), i64([6, -1]), i64([[5]]), i64([2**62, 2**62, 2**62])):
        with pytest.raises(sx.Error):
            run("SplitToSequence", [x, split], opset=11)


def optional_type(value):
    return h.make_optional_type_proto(type_of(value))


def test_optional():
    x, items = np.arange(3, dtype=np.float32), [np.zeros(2, np.float32), np.ones((1, 2), np.float32)]
    for value in (x, items):
        same = assert_sequence if isinstance(value, list) else assert_same
        same(run("Optional", [value])[0], value)
        same(run("OptionalGetElement", [value], types=[optional_type(value)])[0], value)
        same(run("OptionalGetElement", [value])[0], value)
        assert run("OptionalHasElement", [value], types=[optional_type(value)])[0].tolist() is True
        assert run("OptionalHasElement", [value])[0].tolist() is True
        assert run("OptionalHasElement", [None], types=[optional_type(value)])[0].tolist() is False
        assert run("Identity", [None], types=[optional_type(value)])[0] is None
        with pytest.raises(sx.InputError):
            run("OptionalGetElement", [None], types=[optional_type(value)])
    assert run("OptionalHasElement", [])[0].tolist() is False
    assert run("Optional", [], type=type_of(x))[0] is None
