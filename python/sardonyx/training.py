"""Training imported models, and gradients as ONNX graphs."""

from __future__ import annotations

import json as _json
import os as _os
import re as _re
import sys as _sys
import time as _time

import numpy as np

from . import _sardonyx
from ._values import from_binding as _from_binding
from ._values import to_binding as _to_binding
from .nn import Loss
from .optim import Optimizer, flat_arguments


def _loss_spec(loss):
    if isinstance(loss, Loss):
        return loss._spec()
    if isinstance(loss, type) and issubclass(loss, Loss):
        return loss()._spec()
    return (str(loss), {})


def _loss_terms(loss, predictions):
    """[(spec or Model, weight, predictions)]."""
    from . import _model, _names_model
    terms = []
    for term in loss if isinstance(loss, list) else [(loss, 1.0, predictions)]:
        what, weight, outputs = (*term, None)[:3] if isinstance(term, tuple) else (term, 1.0, None)
        given = _model(what) if _names_model(what) else _loss_spec(what)
        terms.append((given, float(weight), _globs(outputs or [])))
    return terms


def _globs(value):
    return [value] if isinstance(value, str) else list(value)


_UNITS = {"B": 1, "KB": 10 ** 3, "MB": 10 ** 6, "GB": 10 ** 9, "KIB": 2 ** 10, "MIB": 2 ** 20, "GIB": 2 ** 30}


def _recomputation(recompute):
    if isinstance(recompute, int):
        return {"recompute_pieces": recompute}
    size = isinstance(recompute, str) and _re.fullmatch(r"(\d+(?:\.\d+)?) ?([KMG]i?B|B)", recompute, _re.IGNORECASE)
    if size:
        return {"recompute_bytes": max(1, int(float(size[1]) * _UNITS[size[2].upper()]))}
    return {"recompute": _globs(recompute)}


class Trainer:
    """Trains the weights of an ONNX model as it is.

    source: a path, bytes or a Model. loss: a loss of sx.nn or its name ("CrossEntropyLoss", "cross_entropy_loss"); a
    model (path ending in .onnx, bytes, Model) whose first output is the loss: its inputs that have names of outputs
    are read from those, the others are targets; or a list of (loss, weight) or (loss, weight, predictions), whose
    weighted sum is minimized and whose targets follow one another.
    optimizer: an optimizer of sx.optim or its name. trainable: a glob, or a list of them, of weights; "!glob"
    takes out what earlier ones chose; a weight of rank 0 has to be named itself. predictions: names of the outputs that the loss reads (default: the first).
    groups: [(globs, {"lr": ..., "weight_decay": ...})], arguments of some parameters.
    no_decay: globs of parameters without weight decay.
    batch_norm: "train", or "frozen" to normalize by the running statistics. precision: "medium" computes in bf16
    and keeps parameters in f32. clip_norm, clip_value: gradient clipping. accumulate: steps to an update.
    keep_gradients: False saves the memory of gradients(). seed: of dropout. threads: 0 takes all CPUs.
    recompute: names of values between which the backward pass computes again what it needs, instead of keeping it
    (gradient checkpointing); or a number of pieces to cut the model into; or the memory that a step may take for
    activations and gradients, as "300 MB" or "0.5 GiB": the fewest pieces that are enough by an estimate for the
    first batch, InputError when none are. profile: record every node for profile().

    Raises UnsupportedError before the first step for nodes without a gradient, all at once; InputError for what
    does not fit. A failed step leaves parameters and optimizer state as they were.
    """

    def __init__(self, source, loss="CrossEntropyLoss", optimizer="AdamW", scheduler=None, trainable="*",
                 providers=("cpu",), precision="highest", batch_norm="train", seed=0, *, threads=0,
                 predictions=None, groups=(), no_decay=(), clip_norm=0.0, clip_value=0.0, accumulate=1,
                 keep_gradients=True, recompute=(), profile=False):
        from . import _model
        if scheduler is not None:
            raise _sardonyx.UnsupportedError("option 'scheduler': expected None: set trainer.lr between steps")
        spec = optimizer._spec() if isinstance(optimizer, Optimizer) else (str(optimizer), {})
        all_groups = [(_globs(names), flat_arguments(arguments)) for names, arguments in groups]
        if no_decay:
            all_groups.append((_globs(no_decay), {"weight_decay": 0.0}))
        self._trainer = _sardonyx.Trainer(_model(source), {
            "providers": list(providers), "threads": threads, "precision": precision,
            "losses": _loss_terms(loss, predictions), "optimizer": spec, "groups": all_groups,
            "trainable": _globs(trainable), "batch_norm": batch_norm, "clip_norm": float(clip_norm),
            "clip_value": float(clip_value), "accumulate": accumulate, "keep_gradients": keep_gradients,
            "seed": seed, "profile": profile,
            **_recomputation(recompute)})
        self._inputs = self._trainer.inputs()

    def _feeds(self, x):
        if isinstance(x, dict):
            return {name: _to_binding(value) for name, value in x.items()}
        arrays = x if isinstance(x, tuple) else (x,)
        if len(arrays) > len(self._inputs):
            raise _sardonyx.InputError(f"inputs: expected at most {len(self._inputs)} ({', '.join(self._inputs)}), "
                                       f"got {len(arrays)}")
        return {name: _to_binding(value) for name, value in zip(self._inputs, arrays)}

    @staticmethod
    def _targets(y):
        arrays = y if isinstance(y, (tuple, list)) and not np.isscalar(y) and any(np.ndim(a) for a in y) else (y,)
        if y is None:
            arrays = ()
        targets = []
        for array in arrays:
            array = np.asarray(array)
            if array.dtype.kind in "iu" and array.dtype not in (np.int64, np.int32):
                array = array.astype(np.int64)
            targets.append(_to_binding(array))
        return targets

    def step(self, x, y):
        """One batch; returns its loss as a float. x: an array, a tuple in the order of the inputs, or {name: array}.
        y: the target, or a tuple where the loss has several."""
        return self._trainer.step(self._feeds(x), self._targets(y))

    def evaluate(self, x, y):
        """The loss in inference mode; nothing changes."""
        return self._trainer.evaluate(self._feeds(x), self._targets(y))

    def predict(self, x):
        """The model's outputs in inference mode."""
        return [_from_binding(v) for v in self._trainer.predict(self._feeds(x))]

    def fit(self, loader, epochs=1, progress=True, before_epoch=None):
        """Steps over `loader`, an iterable of (x, y) that can be iterated `epochs` times, with batches of any sizes;
        returns the mean loss of each epoch. Interrupted between two steps, it leaves what the steps so far have made.
        InputError for a loader that gives nothing, or something other than pairs. progress: a bar on a terminal, a
        line for each epoch elsewhere. before_epoch: called with the epoch's number, from 0, for instance to set
        .lr."""
        means = []
        if epochs > 1 and iter(loader) is loader:
            raise _sardonyx.InputError(f"loader: expected one that can be iterated {epochs} times, such as a list, got "
                                       f"{type(loader).__name__}, which gives its batches once")
        try:
            batches = len(loader)
        except TypeError:
            batches = None
        for epoch in range(epochs):
            if before_epoch is not None:
                before_epoch(epoch)
            total, count, start = 0.0, 0, _time.monotonic()
            bar = _Bar(f"epoch {epoch + 1}/{epochs}", batches, progress)
            for batch in loader:
                if not isinstance(batch, (tuple, list)) or len(batch) != 2:
                    got = f"a {type(batch).__name__} of {len(batch)}" if hasattr(batch, "__len__") else repr(batch)
                    raise _sardonyx.InputError(f"loader: expected batches that are pairs (x, y), got {got}")
                total += self.step(*batch)
                count += 1
                bar.show(count, total / count)
            if not count:
                raise _sardonyx.InputError(f"loader: expected at least one batch in epoch {epoch + 1}, got none")
            means.append(total / count)
            bar.end(f"epoch {epoch + 1}/{epochs}: loss {means[-1]:.4f}, {_time.monotonic() - start:.1f} s")
        return means

    @property
    def lr(self):
        """The learning rate of the last group; setting it sets that of every group."""
        return self._trainer.hyper("lr", -1)

    @lr.setter
    def lr(self, value):
        for group in range(self._trainer.group_count()):
            self._trainer.set_hyper("lr", float(value), group)

    def parameter_info(self):
        """[(name, dtype, shape, trained)]: what the globs chose; `trained` is known after the first step."""
        return [(n, d, tuple(s), t) for n, d, s, t in self._trainer.parameter_info()]

    def parameters(self, buffers=False):
        """{name: array}, copies; with buffers the running statistics of batch normalization too."""
        return {name: _from_binding(value) for name, value in self._trainer.parameters(buffers).items()}

    def set_parameters(self, values):
        """Copies {name: array} in."""
        for name, value in values.items():
            self._trainer.set_parameter(name, _to_binding(np.asarray(value)))

    def gradients(self):
        """{name: array}: the gradients of the last update, after clip_value and before clip_norm."""
        return {name: _from_binding(value) for name, value in self._trainer.gradients().items()}

    def profile(self):
        """The steps since the last call as a Chrome-trace dict; needs profile=True."""
        return _json.loads(self._trainer.profile())

    def save(self, path):
        """Writes a checkpoint: safetensors with weights, statistics, the optimizer's state and numbers, accumulated
        gradients and counters. The file is complete or what it was before."""
        self._trainer.save(_os.fspath(path))

    def load(self, path):
        """Goes on from what save() wrote, for the same model and options, as if it had never stopped, to the bit.
        InputError or FileError leave everything as it was."""
        self._trainer.load(_os.fspath(path))

    def export(self, path=None, **options):
        """The trained model in inference mode as standard ONNX: a file, or bytes without a path. options: as for
        sx.convert."""
        from . import convert
        return convert(self._trainer.model(), path, **options)


class _Bar:
    """A progress bar on a terminal; nothing but the last line elsewhere."""

    def __init__(self, title, count, progress):
        self.title, self.count, self.progress = title, count, progress
        self.live = progress and _sys.stderr.isatty()
        self.shown = 0.0

    def show(self, done, loss):
        now = _time.monotonic()
        if not self.live or now - self.shown < 0.1:
            return
        self.shown = now
        width = 30
        filled = width * done // self.count if self.count else 0
        bar = f"[{'#' * filled}{'.' * (width - filled)}] {done}/{self.count}" if self.count else f"{done} batches"
        print(f"\r{self.title} {bar} loss {loss:.4f}", end="", file=_sys.stderr, flush=True)

    def end(self, line):
        if self.progress:
            print(("\r\x1b[K" if self.live else "") + line, file=_sys.stderr, flush=True)


def gradient_model(source, path=None, wrt=None, loss="CrossEntropyLoss", predictions=None, batch_norm="train",
                   dropout=False):
    """The gradient of a model as a model: standard ONNX bytes, or a file when a path is given.

    Inputs: the model's, then `target`; outputs: `loss`, then `<name>_grad` in the order of wrt. wrt: names or
    globs of weights, names of inputs; None: every weight that the loss depends on. loss: as for Trainer.
    batch_norm: "train" normalizes by the batch, "frozen" by the running statistics. dropout: False leaves it out.
    """
    from . import _model, convert
    model = _sardonyx.gradient_model(_model(source), _globs(wrt or []), _loss_terms(loss, predictions),
                                     batch_norm == "train", bool(dropout))
    return convert(model, None if path is None else _os.fspath(path))


def replace_head(source, classes, seed=0, output=""):
    """A Model whose last layer (Gemm, MatMul or 1 x 1 Conv) gives `classes` logits: drawn anew as torch.nn.Linear's,
    with the same names; a Softmax or Sigmoid behind it goes. output: its name, by default the first."""
    from . import _model
    return _sardonyx.replace_head(_model(source), classes, seed, output)
