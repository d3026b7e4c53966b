"""Sardonyx: an ONNX runtime that also trains.

    import sardonyx as sx
    session = sx.InferenceSession("model.onnx")
    outputs = session.run(None, {"x": x})
    trainer = sx.Trainer("model.onnx", loss="CrossEntropyLoss", optimizer=sx.optim.AdamW(lr=1e-3))
    loss = trainer.step(x, y)
"""

from __future__ import annotations

import json as _json
import os as _os

from . import _sardonyx
from ._sardonyx import (CancelledError, CancelToken, Error, FileError, InputError, LimitError, Model, ModelError,
                        ProviderError, UnsupportedError)
from ._values import from_binding as _from_binding
from ._values import to_binding as _to_binding

__version__ = _sardonyx.version()
__all__ = ["CancelToken", "CancelledError", "Error", "FileError", "InferenceSession", "InputError", "LimitError",
           "Model", "ModelError", "ProviderError", "Trainer", "UnsupportedError", "ValueInfo", "convert", "gradient_model",
           "inspect", "nn", "operators", "optim", "replace_head"]


def _model(source):
    if isinstance(source, Model):
        return source
    if isinstance(source, (bytes, bytearray, memoryview)):
        return Model(bytes(source))
    if hasattr(source, "SerializeToString"):  # onnx.ModelProto
        return Model(source.SerializeToString())
    return Model(_os.fspath(source))


def _names_model(value):
    """Whether a word or an object says where a model is, or is one."""
    return (isinstance(value, (Model, bytes, bytearray, memoryview, _os.PathLike))
            or hasattr(value, "SerializeToString") or isinstance(value, str) and value.endswith(".onnx"))


class ValueInfo:
    """An input or output: .name, .type ("tensor(float)"), .shape (numbers, names, None; or None when the
    rank is unknown), .has_default."""

    __slots__ = ("name", "type", "shape", "has_default")

    def __init__(self, name, type, shape, has_default):
        self.name, self.type, self.shape, self.has_default = name, type, shape, has_default

    def __repr__(self):
        return f"ValueInfo(name={self.name!r}, type={self.type!r}, shape={self.shape!r})"


class InferenceSession:
    """Runs a model. One session may be used from several threads at once.

    source: a path, the bytes of a model, or a Model (sessions of one Model share its weights).
    providers: names in order of preference. threads: 0 takes the CPUs this process may use.
    precision: "highest" computes f32 as f32, "high" on the CPU the same; "medium" stores bf16 and sums in f32,
    where the CPU multiplies bf16. Inputs and outputs keep their types.
    optimize: "all" or "none". disabled_passes: passes left out.
    free_dimensions: {name: size} fixes symbolic dimensions. seed: of random operators.
    profile: record every node for profile(). max_nodes, max_nesting, max_bytes: limits.
    Raises FileError, ModelError, UnsupportedError, InputError, LimitError.
    """

    def __init__(self, source, providers=("cpu",), threads=0, precision="highest", **options):
        options.update(providers=list(providers), threads=threads, precision=precision)
        self._session = _sardonyx.Session(_model(source), options)
        self._inputs = [ValueInfo(*v) for v in self._session.inputs()]
        self._outputs = [ValueInfo(*v) for v in self._session.outputs()]

    def get_inputs(self):
        """The inputs, in the model's order."""
        return list(self._inputs)

    def get_outputs(self):
        """The outputs, in the model's order."""
        return list(self._outputs)

    @property
    def metadata(self):
        """The model's metadata: {str: str}."""
        return self._session.metadata()

    def run(self, output_names, feeds, output_buffers=None, cancel=None):
        """The wanted outputs (None: all) as numpy arrays, lists (sequences), dicts (maps) or None.

        feeds: {name: array}; non-contiguous arrays are copied, others shared for the time of the run.
        output_buffers: {name: array} written in place; dtype and shape must be the output's.
        cancel: a CancelToken. Raises InputError for feeds that do not fit, CancelledError when cancelled.
        """
        converted = {name: _to_binding(value) for name, value in feeds.items()}
        buffers = {}
        for name, array in (output_buffers or {}).items():
            if not array.flags.c_contiguous or not array.flags.writeable:
                raise InputError(f"output buffer '{name}': expected a writable C-contiguous array")
            buffers[name] = _to_binding(array)
        results = self._session.run(list(output_names or []), converted, buffers, cancel)
        outputs = [_from_binding(value) for value in results]
        if output_buffers:
            names = list(output_names) if output_names else [o.name for o in self._outputs]
            outputs = [output_buffers.get(n, v) for n, v in zip(names, outputs)]
        return outputs

    def warm_up(self, shapes):
        """Prepares kernels for shapes that will come: [{input name: dims}, ...]."""
        self._session.warm_up([{name: list(dims) for name, dims in s.items()} for s in shapes])

    def plan(self, feeds):
        """Runs once, and returns the plan of that run as text: kernels, nodes computed together, shapes, layouts,
        reorders, places in memory."""
        return self._session.plan({name: _to_binding(value) for name, value in feeds.items()})

    def trim(self):
        """Gives cached memory back to the system."""
        self._session.trim()

    def profile(self):
        """The runs since the last call as a Chrome-trace dict; needs profile=True."""
        return _json.loads(self._session.profile())


def convert(source, path=None, optimize=False, opset=0, external_bytes=0):
    """Rewrites a model as standard ONNX, functions inlined: bytes, or a file when a path is given.

    optimize: write the simplified graph. opset: 0 for the lowest in which every node means what it means in
    this model. external_bytes: tensors of at least this size go to <path>.data (0: only past 2 GB).
    """
    if path is None:
        return _sardonyx.convert(_model(source), optimize, opset)
    return _sardonyx.convert_to_file(_model(source), _os.fspath(path), optimize, opset, external_bytes)


def inspect(source, placement=False, **options):
    """What a model is: inputs, outputs, opsets, parameters, operators by provider, FLOPs, metadata."""
    return _json.loads(_sardonyx.inspect(_model(source), options, placement))


def operators():
    """Every operator the runtime knows, and what implements it."""
    return _json.loads(_sardonyx.operators())["operators"]


from . import nn, optim  # noqa: E402, they need the names above
from .training import Trainer, gradient_model, replace_head  # noqa: E402
