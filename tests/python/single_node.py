"""Models of one node, run by Sardonyx or by ONNX's reference evaluator."""

import numpy as np
import onnx
from onnx import TensorProto, helper
from onnx.reference import ReferenceEvaluator

import sardonyx as sx


def onnx_type(dtype):
    if np.dtype(dtype).kind in "OUS":
        return TensorProto.STRING
    return helper.np_dtype_to_tensor_dtype(np.dtype(dtype))


def model(op, inputs, out_types, constants=(), domain="", **attributes):
    """A model of one node. Inputs are arrays, or None where omitted; those whose index is in `constants` are
    initializers. out_types are ONNX types, or None for an output that is not wanted."""
    names = ["" if x is None else f"x{i}" for i, x in enumerate(inputs)]
    outs = ["" if t is None else f"y{i}" for i, t in enumerate(out_types)]
    node = helper.make_node(op, names, outs, domain=domain, **attributes)
    fed = [i for i, x in enumerate(inputs) if x is not None and i not in constants]
    graph = helper.make_graph(
        [node],
        "g",
        [helper.make_tensor_value_info(names[i], onnx_type(inputs[i].dtype), inputs[i].shape) for i in fed],
        [helper.make_tensor_value_info(o, t, None) for o, t in zip(outs, out_types) if o],
        [onnx.numpy_helper.from_array(inputs[i], names[i]) for i in constants],
    )
    return helper.make_model(
        graph, opset_imports=[helper.make_opsetid(domain, onnx.defs.onnx_opset_version())]
    )


def run(op, inputs, out_types, constants=(), session=None, **attributes):
    """The outputs of one node."""
    proto = model(op, inputs, out_types, constants, **attributes)
    feeds = {f"x{i}": x for i, x in enumerate(inputs) if x is not None and i not in constants}
    return sx.InferenceSession(proto.SerializeToString(), **(session or {})).run(None, feeds)


def run_one(op, *inputs, out=None, **attributes):
    """The only output; its type is that of the first input unless given."""
    return run(op, list(inputs), [onnx_type(inputs[0].dtype) if out is None else out], **attributes)[0]


def reference(op, inputs, out_types, **attributes):
    proto = model(op, inputs, out_types, **attributes)
    feeds = {f"x{i}": x for i, x in enumerate(inputs) if x is not None}
    return ReferenceEvaluator(proto).run(None, feeds)
