"""Optimizers under torch's names, with torch's arguments and defaults, for sx.Trainer.

    sx.Trainer("model.onnx", optimizer=sx.optim.AdamW(lr=1e-3, weight_decay=0.05))
"""

from __future__ import annotations

__all__ = ["AdamW", "Optimizer", "SGD"]


class Optimizer:
    """What updates parameters: .name and .arguments."""

    def __init__(self, **arguments):
        self.name = type(self).__name__
        self.arguments = {k: v for k, v in arguments.items() if v is not None}

    def __repr__(self):
        return f"{self.name}({', '.join(f'{k}={v!r}' for k, v in self.arguments.items())})"

    def _spec(self):
        return (self.name, flat_arguments(self.arguments))


def flat_arguments(arguments):
    """With betas as two numbers."""
    flat = dict(arguments)
    if "betas" in flat:
        flat["beta1"], flat["beta2"] = (float(b) for b in flat.pop("betas"))
    return flat


class SGD(Optimizer):
    """torch.optim.SGD: stochastic gradient descent, optionally with (Nesterov) momentum."""

    def __init__(self, lr=1e-3, momentum=0.0, dampening=0.0, weight_decay=0.0, nesterov=False, *, maximize=False):
        super().__init__(lr=lr, momentum=momentum, dampening=dampening, weight_decay=weight_decay,
                         nesterov=nesterov, maximize=maximize)


class AdamW(Optimizer):
    """torch.optim.AdamW: Adam with decoupled weight decay (Loshchilov and Hutter, 2019)."""

    def __init__(self, lr=1e-3, betas=(0.9, 0.999), eps=1e-8, weight_decay=1e-2, amsgrad=False, *, maximize=False):
        super().__init__(lr=lr, betas=betas, eps=eps, weight_decay=weight_decay, amsgrad=amsgrad,
                         maximize=maximize)
