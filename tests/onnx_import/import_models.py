"""Small models for the tests of the importer, and ways to look at what came out of it."""

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper

import sardonyx as sx

FLOAT, INT64, BOOL = TensorProto.FLOAT, TensorProto.INT64, TensorProto.BOOL


def info(name, dtype=FLOAT, shape=(2,)):
    return helper.make_tensor_value_info(name, dtype, shape)


def scalar(name, dtype=FLOAT):
    return info(name, dtype, ())


def graph(nodes, inputs=(), outputs=(), initializers=(), name="g", **fields):
    return helper.make_graph(nodes, name, list(inputs), list(outputs), list(initializers), **fields)


def model(g, opset=17, ir=8, functions=(), opsets=()):
    imports = [helper.make_opsetid("", opset)] + [helper.make_opsetid(d, v) for d, v in opsets]
    return helper.make_model(g, opset_imports=imports, ir_version=ir, functions=list(functions))


def simple(nodes, inputs, outputs, **fields):
    """A model of float vectors of two elements."""
    initializers = fields.pop("initializers", ())
    return model(graph(nodes, [info(n) for n in inputs], [info(n) for n in outputs], initializers), **fields)


def convert(m, **options):
    """The model as the importer sees it, written again and accepted by ONNX's own checker."""
    source = m if isinstance(m, (bytes, str)) else m.SerializeToString()
    result = onnx.load_from_string(sx.convert(source, **options))
    onnx.checker.check_model(result, full_check=True)
    return result


def run_ort(m, feeds):
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    source = m if isinstance(m, (bytes, str)) else m.SerializeToString()
    return onnxruntime.InferenceSession(source, options, providers=["CPUExecutionProvider"]).run(None, feeds)


def run(m, feeds=None):
    """The outputs of the model in Sardonyx; its export in ONNX Runtime must give the same."""
    source = m if isinstance(m, (bytes, str)) else m.SerializeToString()
    outputs = sx.InferenceSession(source, threads=1).run(None, feeds or {})
    exported = run_ort(convert(source), feeds or {})
    for ours, theirs in zip(outputs, exported, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-6, atol=1e-6)
    return outputs


def vector(*values):
    return np.array(values, np.float32)


def constant(name, *values):
    return onnx.numpy_helper.from_array(vector(*values), name)


def function(
    name, inputs, outputs, nodes, opset=17, domain="local", attributes=(), defaults=(), overload="", opsets=()
):
    f = helper.make_function(
        domain,
        name,
        list(inputs),
        list(outputs),
        nodes,
        [helper.make_opsetid("", opset)] + [helper.make_opsetid(d, v) for d, v in opsets],
        list(attributes),
        list(defaults),
    )
    f.overload = overload
    return f


def ref(node, name, parameter, kind):
    """Adds an attribute to a node that stands for a parameter of the function around it."""
    attribute = node.attribute.add()
    attribute.name, attribute.ref_attr_name, attribute.type = name, parameter, kind
    return node
