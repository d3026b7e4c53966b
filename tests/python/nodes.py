"""Single-node models: built once, run by Sardonyx, onnxruntime or onnx.reference."""

import ml_dtypes
import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

import sardonyx as sx

BF16 = np.dtype(ml_dtypes.bfloat16)
onnxruntime.set_default_logger_severity(4)


def onnx_type(dtype):
    dtype = np.dtype(dtype)
    return TensorProto.STRING if dtype.kind in "OUS" else helper.np_dtype_to_tensor_dtype(dtype)


class Node:
    """A model of one node. inputs: arrays, None where omitted; out: the types of the outputs, None where not
    wanted; indices in `constants` become initializers."""

    def __init__(self, op, inputs, out, domain="", opset=None, constants=(), ir=None, **attributes):
        names = ["" if x is None else f"x{i}" for i, x in enumerate(inputs)]
        outs = ["" if t is None else f"y{i}" for i, t in enumerate(out)]
        fed = [i for i, x in enumerate(inputs) if x is not None and i not in constants]
        opset = opset or (
            onnx.defs.onnx_opset_version()
            if not domain
            else max(s.since_version for s in onnx.defs.get_all_schemas() if s.domain == domain)
        )
        graph = helper.make_graph(
            [helper.make_node(op, names, outs, domain=domain, **attributes)],
            "g",
            [
                helper.make_tensor_value_info(names[i], onnx_type(inputs[i].dtype), inputs[i].shape)
                for i in fed
            ],
            [helper.make_tensor_value_info(o, onnx_type(t), None) for o, t in zip(outs, out) if o],
            [numpy_helper.from_array(inputs[i], names[i]) for i in constants],
        )
        imports = [helper.make_opsetid(domain, opset)] + ([helper.make_opsetid("", 21)] if domain else [])
        self.model = helper.make_model(graph, opset_imports=imports, **({"ir_version": ir} if ir else {}))
        self.feeds = {names[i]: inputs[i] for i in fed}

    def run(self):
        return sx.InferenceSession(self.model.SerializeToString()).run(None, self.feeds)

    def ort(self):
        """The same by onnxruntime, which takes older models only: the node must mean the same there."""
        old = onnx.ModelProto.FromString(self.model.SerializeToString())
        old.ir_version = min(old.ir_version, 10)
        for entry in old.opset_import:
            entry.version = min(entry.version, 22) if not entry.domain else entry.version
        session = onnxruntime.InferenceSession(old.SerializeToString(), providers=["CPUExecutionProvider"])
        return session.run(None, self.feeds)

    def reference(self):
        return ReferenceEvaluator(self.model).run(None, self.feeds)


def run(op, inputs, out, **options):
    return Node(op, inputs, out, **options).run()


def assert_close(got, want, tolerance=1e-5):
    """|got - want| within tolerance times the largest finite |want| (at least 1e-3), the rest equal."""
    got, want = np.asarray(got), np.asarray(want)
    assert got.shape == want.shape, (got.shape, want.shape)
    got, want = got.astype(np.float64), want.astype(np.float64)
    finite = np.isfinite(want)
    np.testing.assert_array_equal(np.where(finite, 0, got), np.where(finite, 0, want))
    if finite.any():
        worst = np.abs(got - want)[finite].max()
        assert worst <= tolerance * max(np.abs(want[finite]).max(), 1e-3), worst


def ml(op, inputs, out, **attributes):
    """A node of ai.onnx.ml."""
    return Node(op, inputs, out, domain="ai.onnx.ml", **attributes)


def against_ort(op, inputs, out, tolerance=1e-5, opset=3, **attributes):
    """Runs a node of ai.onnx.ml here and by onnxruntime, and compares every output."""
    node = ml(op, inputs, out, opset=opset, **attributes)
    for got, want in zip(node.run(), node.ort()):
        if want.dtype.kind in "OUS":
            np.testing.assert_array_equal(got.astype(str), want.astype(str))
        else:
            assert got.dtype == want.dtype
            assert_close(got, want, tolerance)
