"""Losses under torch's names, with torch's arguments and defaults.

    loss = sx.nn.CrossEntropyLoss(label_smoothing=0.1)
    value = loss(logits, classes)                      # numpy arrays in, an array out
    value, (dlogits,) = loss.vjp((logits, classes))    # and the derivatives of the float inputs
    trainer = sx.Trainer("model.onnx", loss=loss)

Formulas are those of PyTorch's documentation. `size_average` and `reduce` are accepted in their old meaning.
Where torch takes a function (TripletMarginWithDistanceLoss's `distance_function`), an ONNX model is one: a path that
ends in .onnx, bytes, a Model or an onnx.ModelProto.
"""

from __future__ import annotations

import inspect as _inspect

import numpy as _np

from . import _sardonyx
from ._values import dtype_code as _dtype_code

_REDUCTION = "size_average=None, reduce=None, reduction='mean'"
# Arguments in torch's order.
_SIGNATURES = {
    "L1Loss": _REDUCTION,
    "MSELoss": _REDUCTION,
    "CrossEntropyLoss": "weight=None, size_average=None, ignore_index=-100, reduce=None, reduction='mean', "
                        "label_smoothing=0.0",
    "NLLLoss": "weight=None, size_average=None, ignore_index=-100, reduce=None, reduction='mean'",
    "NLLLoss2d": "weight=None, size_average=None, ignore_index=-100, reduce=None, reduction='mean'",
    "CTCLoss": "blank=0, reduction='mean', zero_infinity=False",
    "PoissonNLLLoss": "log_input=True, full=False, size_average=None, eps=1e-8, reduce=None, reduction='mean'",
    "GaussianNLLLoss": "*, full=False, eps=1e-6, reduction='mean'",
    "KLDivLoss": "size_average=None, reduce=None, reduction='mean', log_target=False",
    "BCELoss": "weight=None, " + _REDUCTION,
    "BCEWithLogitsLoss": "weight=None, size_average=None, reduce=None, reduction='mean', pos_weight=None",
    "MarginRankingLoss": "margin=0.0, " + _REDUCTION,
    "HingeEmbeddingLoss": "margin=1.0, " + _REDUCTION,
    "MultiLabelMarginLoss": _REDUCTION,
    "HuberLoss": "reduction='mean', delta=1.0",
    "SmoothL1Loss": _REDUCTION + ", beta=1.0",
    "SoftMarginLoss": _REDUCTION,
    "MultiLabelSoftMarginLoss": "weight=None, " + _REDUCTION,
    "CosineEmbeddingLoss": "margin=0.0, " + _REDUCTION,
    "MultiMarginLoss": "p=1, margin=1.0, weight=None, " + _REDUCTION,
    "TripletMarginLoss": "margin=1.0, p=2.0, eps=1e-6, swap=False, " + _REDUCTION,
    "TripletMarginWithDistanceLoss": "*, distance_function='pairwise', margin=1.0, swap=False, reduction='mean'",
}


class Loss:
    """A loss: .name, .arguments (what was given), .ports (the names of its inputs)."""

    name = ""

    def __init__(self, **arguments):
        self.arguments = {name: _argument(name, value) for name, value in arguments.items()}
        self.ports = _sardonyx.loss_ports(self.name)
        self._sessions = {}

    def __repr__(self):
        return f"{self.name}({', '.join(f'{k}={v!r}' for k, v in self.arguments.items())})"

    def _spec(self):
        return (self.name, {k: _binding(v) for k, v in self.arguments.items()})

    def _model(self, arrays):
        if len(arrays) != len(self.ports):
            raise _sardonyx.InputError(f"{self.name}: expected {len(self.ports)} arrays ({', '.join(self.ports)}), "
                                       f"got {len(arrays)}")
        return _sardonyx.loss_model(self._spec(), [(_dtype_code(a.dtype), a.ndim) for a in arrays])

    def _session(self, kind, arrays, make):
        key = (kind, *((a.dtype, a.ndim) for a in arrays))
        if key not in self._sessions:
            from . import InferenceSession
            self._sessions[key] = InferenceSession(make())
        return self._sessions[key]

    def __call__(self, *arrays):
        """The loss of arrays in the order of .ports: a scalar array, or one for each place with reduction 'none'."""
        arrays = [_np.asarray(a) for a in arrays]
        session = self._session("forward", arrays, lambda: self._model(arrays))
        return session.run(None, dict(zip(self.ports, arrays)))[0]

    def vjp(self, arrays, cotangent=None):
        """(the loss, the derivatives of the float inputs; None for the others). cotangent: of the loss's shape,
        ones by default."""
        arrays = [_np.asarray(a) for a in arrays]
        value = self(*arrays)
        floats = [p for p, a in zip(self.ports, arrays) if a.dtype.kind == "f"]
        session = self._session("backward", arrays, lambda: _sardonyx.vjp_model(self._model(arrays), floats))
        if cotangent is None:
            cotangent = _np.ones(_np.shape(value), arrays[0].dtype)
        feeds = {**dict(zip(self.ports, arrays)), "loss_grad": _np.asarray(cotangent, arrays[0].dtype)}
        known = {i.name for i in session.get_inputs()}
        results = iter(session.run(None, {k: v for k, v in feeds.items() if k in known}))
        return value, tuple(next(results) if p in floats else None for p in self.ports)


def _argument(name, value):
    from . import _model, _names_model
    if _names_model(value):
        return _model(value)
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if callable(value):
        raise _sardonyx.InputError(f"argument '{name}': expected an ONNX model (a path, bytes, Model or ModelProto) "
                                   f"for a function, got {value!r}")
    return _np.asarray(value)


def _binding(value):
    from ._values import to_binding
    return to_binding(value) if isinstance(value, _np.ndarray) else value


def _loss_class(name, signature):
    parameters = _inspect.signature(eval(f"lambda self, {signature}: None"))  # noqa: S307, a literal of this file

    def __init__(self, *args, **kwargs):
        bound = parameters.bind(self, *args, **kwargs)
        arguments = dict(bound.arguments)
        arguments.pop("self")
        Loss.__init__(self, **arguments)

    __init__.__signature__ = parameters
    doc = f"{name}({signature}): inputs {', '.join(_sardonyx.loss_ports(name))}. See torch.nn.{name}."
    return type(name, (Loss,), {"name": name, "__init__": __init__, "__doc__": doc, "__module__": __name__})


for _name in _sardonyx.loss_names():
    globals()[_name] = _loss_class(_name, _SIGNATURES[_name])

__all__ = ["Loss", *_sardonyx.loss_names()]
