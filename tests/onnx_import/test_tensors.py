"""Tensors in every element type and form of storage, against onnx.numpy_helper."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import sardonyx as sx
from import_models import FLOAT, convert, graph, info, model

DTYPES = {
    TensorProto.DataType.Name(d): d for d in TensorProto.DataType.values() if d != TensorProto.UNDEFINED
}
SHAPES = [(), (0,), (1,), (3,), (5, 7), (2, 0, 3), (40, 33)]
PACKED = {"UINT4": 4, "INT4": 4, "FLOAT4E2M1": 4, "UINT2": 2, "INT2": 2, "FLOAT6E2M3": 6, "FLOAT6E3M2": 6}


def values(dtype, shape):
    """Every bit pattern that the type has, as far as the shape goes."""
    rng = np.random.default_rng(dtype)
    name = TensorProto.DataType.Name(dtype)
    if name == "STRING":
        return np.array(
            [f"text {i} \u00e9\u4e2d" * (i % 4) for i in range(int(np.prod(shape)))], object
        ).reshape(shape)
    numpy_type = helper.tensor_dtype_to_np_dtype(dtype)
    if name == "BOOL":
        return rng.integers(0, 2, shape).astype(bool)
    if name in PACKED:
        return (
            np.asarray(rng.integers(0, 1 << PACKED[name], shape), np.uint8).astype(np.uint8).view(numpy_type)
            if name.startswith("FLOAT")
            else np.asarray(rng.integers(0, 1 << PACKED[name], shape)).astype(numpy_type)
        )
    raw = rng.integers(0, 256, int(np.prod(shape)) * numpy_type.itemsize, np.uint8)
    return raw.view(numpy_type).reshape(shape)


def typed(array, dtype):
    """A message that holds the elements in the field of their type."""
    tensor = (
        helper.make_tensor("k", dtype, array.shape, [])
        if array.size == 0
        else TensorProto(name="k", data_type=dtype, dims=array.shape)
    )
    name, flat = TensorProto.DataType.Name(dtype), array.reshape(-1)
    if name == "STRING":
        tensor.string_data.extend(s.encode() for s in flat)
    elif name in ("FLOAT", "COMPLEX64"):
        tensor.float_data.extend(flat.view(np.float32).tolist())
    elif name in ("DOUBLE", "COMPLEX128"):
        tensor.double_data.extend(flat.view(np.float64).tolist())
    elif name == "INT64":
        tensor.int64_data.extend(flat.tolist())
    elif name in ("UINT32", "UINT64"):
        tensor.uint64_data.extend(flat.tolist())
    elif PACKED.get(name) in (2, 4):
        tensor.int32_data.extend(numpy_helper.from_array(array).raw_data)
    elif array.dtype.itemsize == 1 and name not in ("INT8", "UINT8", "BOOL"):
        tensor.int32_data.extend(flat.view(np.uint8).tolist())
    elif name in ("FLOAT16", "BFLOAT16"):
        tensor.int32_data.extend(flat.view(np.uint16).tolist())
    else:
        tensor.int32_data.extend(flat.astype(np.int64).tolist())
    return tensor


def holding(tensor):
    tensor.name = "k"
    return model(graph([], [], [info("k", tensor.data_type, list(tensor.dims))], [tensor]), opset=28, ir=14)


def assert_same_bits(got, expected):
    assert got.dtype == expected.dtype and got.shape == expected.shape
    if got.dtype == object:
        assert got.reshape(-1).tolist() == expected.reshape(-1).tolist()
    elif got.dtype.name.endswith(("int2", "int4")):
        # numpy_helper leaves the bits above the element as they fall.
        np.testing.assert_array_equal(got.astype(np.int8), expected.astype(np.int8))
    else:
        assert got.tobytes() == np.ascontiguousarray(expected).tobytes()


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("form", ["raw", "typed"])
@pytest.mark.parametrize("dtype", DTYPES.values(), ids=DTYPES)
def test_storage(dtype, form, shape):
    array = values(dtype, shape)
    if form == "raw" and dtype == TensorProto.STRING:
        pytest.skip("strings are never raw")
    tensor = typed(array, dtype) if form == "typed" else numpy_helper.from_array(array, "k")
    assert form == "typed" or tensor.raw_data or array.size == 0
    m = holding(tensor)
    got = sx.InferenceSession(m.SerializeToString()).run(None, {})[0]
    reference = numpy_helper.to_array(tensor)
    if form == "typed" and (tensor.float_data or tensor.double_data):
        # A NaN on its way through a Python list of floats may come back with other bits.
        assert got.dtype == reference.dtype
        np.testing.assert_array_equal(got, reference)
    else:
        assert_same_bits(got, array)
        assert_same_bits(got, reference)
    # And once more through the exporter.
    assert_same_bits(numpy_helper.to_array(convert(m).graph.initializer[0]), got)


def test_bools_that_are_neither_0_nor_1():
    tensor = TensorProto(name="k", data_type=TensorProto.BOOL, dims=[4], raw_data=bytes([0, 1, 2, 255]))
    got = sx.InferenceSession(holding(tensor).SerializeToString()).run(None, {})[0]
    assert got.view(np.uint8).tolist() == [0, 1, 1, 1]


def damaged(**fields):
    return TensorProto(name="k", **fields)


BAD = {
    "raw too short": damaged(data_type=FLOAT, dims=[3], raw_data=bytes(8)),
    "raw too long": damaged(data_type=FLOAT, dims=[3], raw_data=bytes(16)),
    "raw for no elements": damaged(data_type=FLOAT, dims=[0], raw_data=bytes(4)),
    "nothing stored": damaged(data_type=FLOAT, dims=[3]),
    "scalar without value": damaged(data_type=FLOAT),
    "too few floats": damaged(data_type=FLOAT, dims=[3], float_data=[1, 2]),
    "too many floats": damaged(data_type=FLOAT, dims=[3], float_data=[1, 2, 3, 4]),
    "floats as integers": damaged(data_type=FLOAT, dims=[3], int32_data=[1, 2, 3]),
    "half of a complex": damaged(data_type=TensorProto.COMPLEX64, dims=[2], float_data=[1, 2]),
    "two fields": damaged(data_type=FLOAT, dims=[1], float_data=[1], raw_data=bytes(4)),
    "raw strings": damaged(data_type=TensorProto.STRING, dims=[1], raw_data=b"text"),
    "no type": damaged(dims=[1], raw_data=bytes(4)),
    "type 0": damaged(data_type=0, dims=[1], raw_data=bytes(4)),
    "type 29": damaged(data_type=29, dims=[1], raw_data=bytes(4)),
    "type -1": damaged(data_type=-1, dims=[1], raw_data=bytes(4)),
    "negative dim": damaged(data_type=FLOAT, dims=[-1], raw_data=bytes(4)),
    "two negative dims": damaged(data_type=FLOAT, dims=[-1, -1], raw_data=bytes(4)),
    "2^64 elements": damaged(data_type=FLOAT, dims=[1 << 32, 1 << 32], raw_data=bytes(4)),
    "2^63 bytes": damaged(data_type=TensorProto.DOUBLE, dims=[1 << 30, 1 << 30], raw_data=bytes(4)),
    "2^62 half bytes": damaged(data_type=TensorProto.INT4, dims=[1 << 31, 1 << 31], raw_data=bytes(4)),
    "2^50 strings": damaged(data_type=TensorProto.STRING, dims=[1 << 50], string_data=[b"a"]),
    "6-bit value of 7 bits": damaged(data_type=TensorProto.FLOAT6E2M3, dims=[1], int32_data=[64]),
    "one int4 entry for five": damaged(data_type=TensorProto.INT4, dims=[5], int32_data=[1]),
    "int4 unpacked": damaged(data_type=TensorProto.INT4, dims=[4], raw_data=bytes(4)),
    "segment": damaged(
        data_type=FLOAT, dims=[1], raw_data=bytes(4), segment=TensorProto.Segment(begin=0, end=1)
    ),
}


@pytest.mark.parametrize("place", ["initializer", "constant", "attribute", "sparse"])
@pytest.mark.parametrize("tensor", BAD.values(), ids=BAD)
def test_damaged_tensors_are_refused(tensor, place):
    out = [info("y", FLOAT, None)]
    if place == "initializer":
        g = graph([helper.make_node("Identity", ["k"], ["y"])], [], out, [tensor])
    elif place == "constant":
        g = graph([helper.make_node("Constant", [], ["y"], value=tensor)], [], out)
    elif place == "attribute":
        g = graph(
            [helper.make_node("ConstantOfShape", ["s"], ["y"], value=tensor)],
            [info("s", TensorProto.INT64, [1])],
            out,
        )
    else:
        g = graph([helper.make_node("Identity", ["k"], ["y"])], [], out)
        g.sparse_initializer.append(
            helper.make_sparse_tensor(tensor, helper.make_tensor("", TensorProto.INT64, [1], [0]), [5])
        )
    with pytest.raises((sx.ModelError, sx.LimitError, sx.UnsupportedError), match="'k'|bytes of a tensor"):
        sx.Model(model(g).SerializeToString())


def test_what_a_tensor_holds_is_moved_not_copied():
    import resource

    size = 100 << 20
    tensor = TensorProto(name="k", data_type=TensorProto.UINT8, dims=[size], raw_data=bytes(size))
    data = model(
        graph(
            [helper.make_node("Identity", ["k"], ["y"])], [], [info("y", TensorProto.UINT8, [size])], [tensor]
        )
    ).SerializeToString()
    del tensor
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    kept = sx.Model(data)
    # The binding holds the bytes once, the parser makes the tensor once.
    assert (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024 < 2.5 * size
    del kept
