"""How the tests of upgrading make models of old opsets and learn what they mean."""

import numpy as np
import onnx
import onnxruntime
import sardonyx as sx
from onnx import TensorProto, helper

onnxruntime.set_default_logger_severity(4)

# How much of an input's shape a model states.
KNOWLEDGE = ("shape", "symbols", "rank unknown")


def value_info(name, array, knowledge="shape"):
    array = np.asarray(array)
    elem = TensorProto.STRING if array.dtype == object else helper.np_dtype_to_tensor_dtype(array.dtype)
    shape = {
        "shape": list(array.shape),
        "symbols": [f"{name}_{i}" for i in range(array.ndim)],
        "rank unknown": None,
    }[knowledge]
    return helper.make_tensor_value_info(name, elem, shape)


def outputs_of(names, types):
    return [helper.make_tensor_value_info(name, elem, None) for name, elem in zip(names, types)]


def make_model(nodes, feeds, outputs, opset, *, domains=(), knowledge="shape", constants=(), functions=()):
    """A model of the given nodes. `feeds` and `constants` are dicts of arrays, `outputs` a dict of types."""
    inputs = [value_info(name, array, knowledge) for name, array in feeds.items()]
    constants = dict(constants)
    ir = 3 if opset < 9 else 8
    if ir < 4:
        inputs += [value_info(name, array) for name, array in constants.items()]
    graph = helper.make_graph(
        nodes, "g", inputs, outputs_of(outputs.keys(), outputs.values()),
        initializer=[onnx.numpy_helper.from_array(np.asarray(a), n) for n, a in constants.items()])
    imports = [helper.make_opsetid("", opset)] + [helper.make_opsetid(d, v) for d, v in domains]
    return helper.make_model(graph, opset_imports=imports, ir_version=ir, functions=list(functions))


def run(model, feeds):
    return sx.InferenceSession(model.SerializeToString()).run(None, feeds)


def run_ort(model, feeds):
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, feeds)


def run_node(op, inputs, opset, outputs=1, *, fixed=(), knowledge="shape", types=None, ort=False, domain="",
             domains=(), **attributes):
    """Outputs of one node. Inputs are arrays or None; those numbered in `fixed` are constants of the model.

    With `ort` also what ONNX Runtime makes of the same file.
    """
    names = [f"i{k}" if array is not None else "" for k, array in enumerate(inputs)]
    named = {name: np.asarray(array) for name, array in zip(names, inputs) if array is not None}
    feeds = {name: array for name, array in named.items() if int(name[1:]) not in fixed}
    constants = {name: array for name, array in named.items() if name not in feeds}
    made = [f"o{k}" for k in range(outputs)]
    if types is None:
        types = [helper.np_dtype_to_tensor_dtype(np.asarray(inputs[0]).dtype)] * outputs
    node = helper.make_node(op, names, made, domain=domain, **attributes)
    model = make_model([node], feeds, dict(zip(made, types)), opset, domains=domains, knowledge=knowledge,
                       constants=constants)
    ours = run(model, feeds)
    return (ours, run_ort(model, feeds)) if ort else ours


def check(actual, expected, tolerance=1e-5):
    assert len(actual) == len(expected)
    for ours, theirs in zip(actual, expected):
        theirs = np.asarray(theirs)
        assert ours.dtype == theirs.dtype
        assert ours.shape == theirs.shape
        if theirs.dtype.kind == "f":
            np.testing.assert_allclose(ours, theirs, rtol=tolerance, atol=tolerance)
        else:
            np.testing.assert_array_equal(ours, theirs)


def floats(*shape, seed=0, dtype=np.float32):
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)
