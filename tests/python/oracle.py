"""Single-node models, run by sardonyx, by onnxruntime and by onnx.reference."""

import functools

import ml_dtypes
import numpy as np
import onnx
import onnx.helper
import onnx.numpy_helper
import onnx.reference
import onnxruntime

import sardonyx as sx

onnxruntime.set_default_logger_severity(4)


def model(op, feeds, outputs=1, opset=22, constants=(), **attributes):
    """The bytes of a model of one node. feeds: {name: array or None}; a name in `constants` becomes an initializer."""
    names = [name if value is not None else "" for name, value in feeds.items()]
    while names and not names[-1]:
        names.pop()
    results = [f"y{i}" for i in range(outputs)] if isinstance(outputs, int) else list(outputs)
    node = onnx.helper.make_node(op, names, results, **attributes)
    inputs, initializers = [], []
    for name, value in feeds.items():
        if value is None:
            continue
        if name in constants:
            initializers.append(onnx.numpy_helper.from_array(value, name))
        else:
            dtype = onnx.helper.np_dtype_to_tensor_dtype(value.dtype)
            inputs.append(onnx.helper.make_tensor_value_info(name, dtype, value.shape))
    # Outputs without a type are inferred by every runtime.
    values = [onnx.ValueInfoProto(name=name) for name in results if name]
    graph = onnx.helper.make_graph([node], op, inputs, values, initializers)
    proto = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", opset)], ir_version=10)
    return proto.SerializeToString()


def variable(feeds, constants=()):
    return {name: value for name, value in feeds.items() if value is not None and name not in constants}


def ours(data, feeds, **options):
    return sx.InferenceSession(data, **options).run(None, feeds)


def ort(data, feeds):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    return onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"]).run(None, feeds)


def reference(data, feeds):
    return onnx.reference.ReferenceEvaluator(data).run(None, feeds)


TOLERANCE = {np.dtype(np.float64): 1e-10, np.dtype(np.float32): 2e-5, np.dtype(np.float16): 4e-3,
             np.dtype(ml_dtypes.bfloat16): 3e-2}


def assert_close(got, want, tolerance=None, scale=None):
    """Equal shapes and dtypes; floats within tolerance * max(scale, |want|), with NaN and infinities in the same places."""
    got, want = np.asarray(got), np.asarray(want)
    assert got.shape == want.shape, f"shape {got.shape}, expected {want.shape}"
    assert got.dtype == want.dtype, f"dtype {got.dtype}, expected {want.dtype}"
    if got.dtype not in TOLERANCE:
        np.testing.assert_array_equal(got, want)
        return
    tolerance = tolerance or TOLERANCE[got.dtype]
    got, want = got.astype(np.float64), want.astype(np.float64)
    finite = want[np.isfinite(want)]
    scale = scale if scale is not None else (np.abs(finite).max() if finite.size else 1.0)
    np.testing.assert_allclose(got, want, rtol=tolerance, atol=tolerance * max(scale, 1e-30))


@functools.lru_cache(maxsize=None)
def kernels():
    """The two ways every case is run: as the session chooses, and by the plain loops."""
    return ({}, {"prefer_kernel": "ref"})


def check(op, feeds, oracle, outputs=1, constants=(), tolerance=None, opset=22, **attributes):
    """Runs a case with every kernel choice against an oracle: a function of (model bytes, feeds), or arrays."""
    data = model(op, feeds, outputs, opset, constants, **attributes)
    given = variable(feeds, constants)
    want = oracle(data, given) if callable(oracle) else oracle
    for options in kernels():
        got = ours(data, given, **options)
        assert len(got) == len(want)
        for g, w in zip(got, want):
            assert_close(g, w, tolerance)
    return want
