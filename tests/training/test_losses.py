"""Losses and optimizers against PyTorch: the files of tests/golden, in f64."""
import json
import pathlib

import numpy as np
import onnx
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


def distance(word, dtype=TensorProto.DOUBLE, shape=None, inputs=("a", "b"), outputs=("d",)):
    """A model that is the function of that name."""
    node, axis = helper.make_node, {"axes": [-1], "keepdims": 0}
    nodes = {
        "pairwise": [node("Sub", ["a", "b"], ["s"]), node("Add", ["s", "eps"], ["e"]),
                     node("ReduceL2", ["e"], ["d"], **axis)],
        "l1": [node("Sub", ["a", "b"], ["s"]), node("ReduceL1", ["s"], ["d"], **axis)],
        "cosine": [node("Mul", ["a", "b"], ["p"]), node("ReduceSum", ["p", "last"], ["dot"], keepdims=0),
                   node("ReduceL2", ["a"], ["|a|"], **axis), node("ReduceL2", ["b"], ["|b|"], **axis),
                   node("Mul", ["|a|", "|b|"], ["sizes"]), node("Div", ["dot", "sizes"], ["cos"]),
                   node("Sub", ["one", "cos"], ["d"])]}[word]
    numbers = {"eps": 1e-6, "one": 1.0}
    float_type = helper.tensor_dtype_to_np_dtype(dtype)
    weights = {name: np.array(value, float_type) for name, value in numbers.items()}
    return model(nodes, [(name, dtype, shape) for name in inputs], [(name, dtype, None) for name in outputs],
                 {**weights, "last": np.array([-1])})


def test_a_model_as_the_distance_is_a_function_of_pytorch_s():
    cases, arrays = load("TripletMarginWithDistanceLoss")
    for i, case in enumerate(cases):
        given = distance(case["arguments"]["distance_function"])
        loss = sx.nn.TripletMarginWithDistanceLoss(**{**case["arguments"], "distance_function": given})
        value, gradients = loss.vjp([arrays[f"{i}/{what}"] for what in case["inputs"]], arrays[f"{i}/cotangent"])
        close(value, arrays[f"{i}/loss"])
        for what, gradient in zip(case["inputs"], gradients):
            close(gradient, arrays[f"{i}/gradient/{what}"])


def triplet_network(size=5):
    """x -> three linear maps of it."""
    names, rng = ("anchor", "positive", "negative"), np.random.default_rng(3)
    return model([helper.make_node("MatMul", ["x", f"w_{name}"], [name]) for name in names],
                 [("x", TensorProto.FLOAT, ["n", 4])], [(name, TensorProto.FLOAT, ["n", size]) for name in names],
                 {f"w_{name}": rng.standard_normal((4, size)).astype(np.float32) for name in names})


def test_a_model_as_the_distance_trains(tmp_path):
    path = tmp_path / "distance.onnx"
    data = distance("l1", TensorProto.FLOAT)
    path.write_bytes(data)
    x = np.random.default_rng(4).standard_normal((6, 4)).astype(np.float32)

    def gradients(function):
        loss = sx.nn.TripletMarginWithDistanceLoss(distance_function=function, margin=20.0, swap=True)
        trainer = sx.Trainer(triplet_network(), loss=loss)
        return trainer.step(x, None), trainer.gradients()

    expected, others = gradients("l1"), gradients("pairwise")
    assert abs(expected[0] - others[0]) > 0.1
    for given in (path, str(path), data, onnx.load(path), sx.Model(data)):
        value, got = gradients(given)
        assert value == pytest.approx(expected[0], rel=1e-6)
        for name, gradient in expected[1].items():
            assert np.abs(gradient).max() > 0.01
            close(got[name], gradient, 1e-6)
    # The gradient as a model holds the distance's nodes as well.
    loss = sx.nn.TripletMarginWithDistanceLoss(distance_function=path, margin=20.0, swap=True)
    session = sx.InferenceSession(sx.gradient_model(triplet_network(), wrt="w_*", loss=loss))
    results = dict(zip([o.name for o in session.get_outputs()], session.run(None, {"x": x})))
    for name, gradient in expected[1].items():
        close(results[f"{name}_grad"], gradient, 1e-6)


@pytest.mark.parametrize("given, message", [
    (distance("l1", TensorProto.FLOAT, inputs=("a", "b", "c")), "2 inputs, got 3"),
    (distance("l1", TensorProto.FLOAT, outputs=("d", "s")), "1 output, got 2"),
    (distance("l1"), "'a' of float, got double"),
    (distance("l1", TensorProto.FLOAT, ["n", 5, 2]), "input 'a' like"),
    (distance("l1", TensorProto.FLOAT, ["n", 7]), "input 'a' like"),
    ("manhattan", "'pairwise', 'l1', 'cosine'"),
    (3, "'pairwise'"),
    ("missing.onnx", "missing.onnx"),
    (b"no model", "model"),
    (lambda a, b: a - b, "ONNX model"),
])
def test_a_distance_that_does_not_fit(given, message):
    with pytest.raises(sx.Error, match=message):
        loss = sx.nn.TripletMarginWithDistanceLoss(distance_function=given)
        sx.Trainer(triplet_network(), loss=loss).step(np.zeros((2, 4), np.float32), None)


def test_a_model_is_no_number():
    with pytest.raises(sx.InputError, match="a number.*a model"):
        sx.nn.HuberLoss(delta=distance("l1"))(np.zeros(2), np.zeros(2))


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
