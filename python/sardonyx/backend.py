"""The interface of onnx.backend.base: prepare, run_model, run_node, supports_device. Needs the package onnx."""

from __future__ import annotations

import onnx
from onnx import helper
from onnx.backend.base import Backend, BackendRep, Device, DeviceType, namedtupledict

from . import InferenceSession


class SardonyxRep(BackendRep):
    """A model that is ready to run."""

    def __init__(self, session):
        self._session = session

    def run(self, inputs, **kwargs):
        """inputs: one array, a list in the model's order, or {name: array}. Returns a named tuple."""
        names = [i.name for i in self._session.get_inputs()]
        if isinstance(inputs, dict):
            feeds = inputs
        else:
            values = inputs if isinstance(inputs, (list, tuple)) else [inputs]
            feeds = dict(zip(names, values))
        outputs = self._session.run(None, feeds)
        return namedtupledict("Outputs", [o.name for o in self._session.get_outputs()])(*outputs)


class SardonyxBackend(Backend):
    @classmethod
    def is_compatible(cls, model, device="CPU", **kwargs):
        return cls.supports_device(device)

    @classmethod
    def prepare(cls, model, device="CPU", **kwargs):
        return SardonyxRep(InferenceSession(model.SerializeToString(), **kwargs))

    @classmethod
    def run_model(cls, model, inputs, device="CPU", **kwargs):
        return cls.prepare(model, device, **kwargs).run(inputs)

    @classmethod
    def run_node(cls, node, inputs, device="CPU", outputs_info=None, **kwargs):
        """Runs one node; its input types are those of the arrays."""
        names = [n for n in node.input if n]
        values = dict(zip(names, inputs))
        graph = helper.make_graph(
            [node], "node",
            [helper.make_tensor_value_info(n, helper.np_dtype_to_tensor_dtype(values[n].dtype), values[n].shape) for n in names],
            [helper.make_empty_tensor_value_info(n) for n in node.output if n])
        opset = kwargs.pop("opset_version", onnx.defs.onnx_opset_version())
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid(node.domain, opset)])
        return cls.run_model(model, inputs, device, **kwargs)

    @classmethod
    def supports_device(cls, device):
        return Device(device).type == DeviceType.CPU


is_compatible = SardonyxBackend.is_compatible
prepare = SardonyxBackend.prepare
run_model = SardonyxBackend.run_model
run_node = SardonyxBackend.run_node
supports_device = SardonyxBackend.supports_device
