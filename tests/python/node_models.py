"""Models of one node, and the ways to run them."""

import ml_dtypes
import numpy as np
import onnx
import onnx.helper
import onnx.numpy_helper
import onnxruntime

import sardonyx as sx

onnxruntime.set_default_logger_severity(4)

# An element type of each width, and those whose zero or order is special.
STORAGE_DTYPES = [
    np.dtype(d)
    for d in (
        "int8",
        "uint8",
        "bool",
        "float16",
        ml_dtypes.bfloat16,
        "int16",
        "float32",
        "int32",
        "float64",
        "int64",
        "uint64",
        "complex64",
        "complex128",
    )
] + [np.dtype(object)]
NUMBERS = [
    np.dtype(d)
    for d in ("int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64", "float16", "float32", "float64")
]


def onnx_type(array):
    return onnx.TensorProto.STRING if array.dtype == object else onnx.helper.np_dtype_to_tensor_dtype(array.dtype)


def tensor_proto(array, name=""):
    if array.dtype == object:
        return onnx.helper.make_tensor(name, onnx.TensorProto.STRING, array.shape, [s.encode() for s in array.ravel()])
    return onnx.numpy_helper.from_array(array, name)


def random_array(rng, dtype, shape):
    """Values that fit the dtype, few enough of them that equal ones occur."""
    dtype = np.dtype(dtype)
    numbers = rng.integers(0, 100, shape)
    if dtype == object:
        words = np.empty(shape, dtype=object)
        words.ravel()[...] = [f"w{n}" * (1 + n % 3) for n in numbers.ravel()]
        return words
    if dtype == bool:
        return numbers % 2 == 0
    if dtype.kind == "c":
        return (numbers + 1j * rng.integers(-9, 9, shape)).astype(dtype)
    if dtype.kind == "u":
        return numbers.astype(dtype)
    return (numbers - 50).astype(dtype)


def random_shape(rng, rank, zero=0.05, largest=7):
    return tuple(0 if rng.random() < zero else int(rng.integers(1, largest + 1)) for _ in range(rank))


def model(op, inputs, outputs=1, opset=22, constants=(), domain="", **attributes):
    """The bytes of a model of one node. inputs: arrays, or None for one that is omitted; those whose positions are in
    `constants` become initializers, the others the inputs x0, x1, ..."""
    names = [f"x{i}" if array is not None else "" for i, array in enumerate(inputs)]
    results = [f"y{i}" for i in range(outputs)]
    node = onnx.helper.make_node(op, names, results, domain=domain)
    for name, value in attributes.items():
        kind = onnx.AttributeProto.INTS if isinstance(value, list) and not value else None
        node.attribute.append(onnx.helper.make_attribute(name, value, attr_type=kind))
    infos, initializers = [], []
    for i, array in enumerate(inputs):
        if array is None:
            continue
        if i in constants:
            initializers.append(tensor_proto(array, names[i]))
        else:
            infos.append(onnx.helper.make_tensor_value_info(names[i], onnx_type(array), array.shape))
    values = [onnx.ValueInfoProto(name=name) for name in results]
    graph = onnx.helper.make_graph([node], op, infos, values, initializers)
    return onnx.helper.make_model(
        graph, opset_imports=[onnx.helper.make_opsetid(domain, opset)], ir_version=10
    ).SerializeToString()


def feeds(inputs, constants=()):
    return {f"x{i}": a for i, a in enumerate(inputs) if a is not None and i not in constants}


def run(op, inputs, outputs=1, opset=22, constants=(), options=None, **attributes):
    data = model(op, inputs, outputs, opset, constants, **attributes)
    return sx.InferenceSession(data, **(options or {})).run(None, feeds(inputs, constants))


def run_ort(op, inputs, outputs=1, opset=22, constants=(), **attributes):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    data = model(op, inputs, outputs, opset, constants, **attributes)
    session = onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    return session.run(None, feeds(inputs, constants))


def some_constants(rng, inputs):
    """Which of the operands behind the first become initializers: all or none."""
    return tuple(range(1, len(inputs))) if rng.random() < 0.5 else ()


def assert_same(got, want):
    """The same bits, but for the payload of NaN."""
    want = np.asarray(want, object if isinstance(want, str) else None)
    assert got.shape == want.shape, f"shape {got.shape}, expected {want.shape}"
    assert got.dtype == want.dtype, f"dtype {got.dtype}, expected {want.dtype}"
    if got.dtype == object:
        assert got.tolist() == want.tolist()
    else:
        np.testing.assert_array_equal(
            got.astype(np.float32) if got.dtype == ml_dtypes.bfloat16 else got,
            want.astype(np.float32) if want.dtype == ml_dtypes.bfloat16 else want,
        )
