"""Losses and optimizers against PyTorch: the files of tests/golden, in f64."""
import json
import pathlib

import numpy as np
import pytest

import sardonyx as sx
from networks import model
from onnx import TensorProto, helper

GOLDEN = pathlib.Path(__file__).resolve().parent.parent / "golden"
LOSSES = [name for name in sx.nn.__all__ if name != "Loss"]


def load(name):
    arrays = np.load(GOLDEN / f"{name}.npz")
    return json.loads(str(arrays["cases"])), arrays


def close(got, expected, tolerance=1e-9):
    got, expected = np.asarray(got), np.asarray(expected)
    assert got.shape == expected.shape
    finite = np.isfinite(expected)
    assert np.array_equal(np.isfinite(got), finite)
    scale = max(np.abs(expected[finite]).max(initial=0), 1e-3)
    assert np.abs(got[finite] - expected[finite]).max(initial=0) <= tolerance * scale


def log_softmax(x):
    x = x - x.max(-1, keepdims=True)
    return x - np.log(np.exp(x).sum(-1, keepdims=True))


def before_log_softmax(gradient, log_probs):
    """The derivative by the logits, from that by their log_softmax."""
    return gradient - np.exp(log_probs) * gradient.sum(-1, keepdims=True)


def ports_of(name, case, arrays, i):
    values = [arrays[f"{i}/{what}"] for what in case["inputs"]], [arrays[f"{i}/{what}"] for what in case["extras"]]
    names = [*case["inputs"], *case["extras"]]
    if name == "GaussianNLLLoss":
        names = ["input", "target", "var"]
        return names, [arrays[f"{i}/{what}"] for what in names]
    if f"{i}/logits" in arrays:
        values[0][0] = log_softmax(arrays[f"{i}/logits"])
    return names, [*values[0], *values[1]]


@pytest.mark.parametrize("name", LOSSES)
def test_loss_and_gradient_are_pytorch_s(name):
    cases, arrays = load(name)
    assert len(cases) > 3
    for i, case in enumerate(cases):
        arguments = {**case["arguments"], **{t: arrays[f"{i}/{t}"] for t in case["tensor_arguments"]}}
        loss = getattr(sx.nn, name)(**arguments)
        names, values = ports_of(name, case, arrays, i)
        value, gradients = loss.vjp(values, arrays[f"{i}/cotangent"])
        context = f"{name} {case['name']}"
        try:
            close(value, arrays[f"{i}/loss"])
            for what, gradient in zip(names, gradients):
                if f"{i}/gradient/{what}" in arrays:
                    close(gradient, arrays[f"{i}/gradient/{what}"])
            if f"{i}/logits" in arrays:
                close(before_log_softmax(gradients[0], values[0]), arrays[f"{i}/gradient/logits"])
        except AssertionError as error:
            raise AssertionError(f"{context} {arguments}") from error


def test_older_arguments():
    x, y = np.arange(6.0).reshape(2, 3), np.ones((2, 3))
    for size_average, reduce, reduction in ((None, None, "mean"), (True, None, "mean"), (False, None, "sum"),
                                            (False, True, "sum"), (True, False, "none"), (False, False, "none")):
        older = sx.nn.MSELoss(size_average=size_average, reduce=reduce)(x, y)
        close(older, sx.nn.MSELoss(reduction=reduction)(x, y))


@pytest.mark.parametrize("name", ["SGD", "AdamW"])
def test_optimizer_trajectories_are_pytorch_s(name):
    """The loss is sum(w * c), so that the gradient is the batch c."""
    cases, arrays = load(name)
    for i, case in enumerate(cases):
        start, gradients = arrays[f"{i}/parameter"], arrays[f"{i}/gradient"]
        size = start.size
        data = model([helper.make_node("Mul", ["c", "w"], ["m"]), helper.make_node("ReduceSum", ["m"], ["y"], keepdims=0)],
                     [("c", TensorProto.DOUBLE, [size])], [("y", TensorProto.DOUBLE, [])], {"w": start.ravel()})
        trainer = sx.Trainer(data, loss=sx.nn.L1Loss(), optimizer=getattr(sx.optim, name)(**case["arguments"]))
        for step, gradient in enumerate(gradients):
            # |y - target| has the derivative 1 for a target far below.
            trainer.step(gradient.ravel(), np.array(-1e6))
            close(trainer.parameters()["w"], arrays[f"{i}/parameters"][step].ravel())


def test_mistakes_are_named():
    x, y = np.zeros((2, 3), np.float32), np.zeros(2, np.int64)
    with pytest.raises(TypeError):
        sx.nn.CrossEntropyLoss(labelsmoothing=0.1)
    with pytest.raises(sx.InputError, match="reduction.*'none'"):
        sx.nn.CrossEntropyLoss(reduction="average")(x, y)
    with pytest.raises(sx.InputError, match="rank 1"):
        sx.nn.CrossEntropyLoss()(x, np.zeros((2, 3), np.int64))
    with pytest.raises(sx.InputError, match="2 arrays"):
        sx.nn.MSELoss()(x)
    with pytest.raises(sx.InputError, match="delta"):
        sx.nn.HuberLoss(delta=-1.0)(x, x)
