"""CTCLoss beyond PyTorch's numbers (test_losses.py): its kernels, what it refuses, its export, training with it."""
import itertools

import numpy as np
import pytest

import sardonyx as sx
from networks import model
from onnx import TensorProto, helper
from test_losses import close, load, log_softmax

DOUBLE = TensorProto.DOUBLE
INTEGERS = ("targets", "input_lengths", "target_lengths")


def operator(name, dtype, targets_rank, **attributes):
    """A session over a model of the one operator."""
    inputs = [("dY", dtype, ["n"])] if name == "CTCLossBackward" else []
    inputs += [("log_probs", dtype, ["t", "n", "c"]), ("targets", TensorProto.INT64, [None] * targets_rank)]
    inputs += [(what, TensorProto.INT64, ["n"]) for what in INTEGERS[1:]]
    node = helper.make_node(name, [i[0] for i in inputs], ["out"], domain="ai.sardonyx", **attributes)
    graph = helper.make_graph([node], "ctc", [helper.make_tensor_value_info(*i) for i in inputs],
                              [helper.make_tensor_value_info("out", dtype, None)])
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("ai.sardonyx", 1)]
    return sx.InferenceSession(helper.make_model(graph, opset_imports=opsets, ir_version=8).SerializeToString())


def test_kernels_are_pytorch_s():
    """vjp runs the operators written out in ONNX; here their kernels run."""
    cases, arrays = load("CTCLoss")
    seen = 0
    for i, case in enumerate(cases):
        if case["arguments"]["reduction"] != "none" or arrays[f"{i}/input"].ndim != 3:
            continue
        a = case["arguments"]
        feeds = {"log_probs": arrays[f"{i}/input"], "targets": arrays[f"{i}/target"],
                 **{what: arrays[f"{i}/{what}"] for what in INTEGERS[1:]}}
        rank = feeds["targets"].ndim
        attributes = {"blank": a["blank"], "zero_infinity": int(a.get("zero_infinity", False))}
        close(operator("CTCLoss", DOUBLE, rank, **attributes).run(None, feeds)[0], arrays[f"{i}/loss"])
        feeds["dY"] = arrays[f"{i}/cotangent"]
        close(operator("CTCLossBackward", DOUBLE, rank, **attributes).run(None, feeds)[0],
              arrays[f"{i}/gradient/input"])
        seen += 1
    assert seen >= 10


def probability(log_probs, label, blank):
    """The sum over all paths that collapse to the label, one by one."""
    total = 0
    for path in itertools.product(range(log_probs.shape[1]), repeat=len(log_probs)):
        if [c for c, _ in itertools.groupby(path) if c != blank] == list(label):
            total += np.exp(log_probs[range(len(path)), path].sum())
    return total


@pytest.mark.parametrize("dtype, tolerance", [(np.float64, 1e-12), (np.float32, 1e-5)])
@pytest.mark.parametrize("integer", [np.int64, np.int32])
def test_the_loss_is_that_of_all_paths(dtype, tolerance, integer):
    rng = np.random.default_rng(0)
    labels = [[0, 0], [2, 0, 2], [], [3]]
    steps, blank = [5, 4, 3, 0], 1
    log_probs = log_softmax(rng.standard_normal((5, 4, 4))).astype(dtype)
    log_probs[2, 0, 3] = -np.inf
    with np.errstate(divide="ignore"):
        expected = [-np.log(probability(log_probs[:t, n].astype(np.float64), label, blank))
                    for n, (t, label) in enumerate(zip(steps, labels))]
    assert np.isinf(expected[3])
    padded = np.full((4, 3), -7, integer)  # what lies behind a target is never looked at
    for n, label in enumerate(labels):
        padded[n, :len(label)] = label
    lengths = np.array(steps, integer), np.array([len(label) for label in labels], integer)
    loss = sx.nn.CTCLoss(blank=blank, reduction="none")
    for targets in (padded, np.array(sum(labels, []), integer)):
        close(loss(log_probs, targets, *lengths), np.array(expected, dtype), tolerance)
        value, gradients = loss.vjp((log_probs, targets, *lengths))
        assert value.dtype == dtype and gradients[0].dtype == dtype and gradients[1:] == (None, None, None)
        assert np.isfinite(gradients[0]).all()


def long_batch(rng, steps=400, batch=8, classes=20, width=30):
    counts = rng.integers(1, width + 1, batch)
    return (log_softmax(3 * rng.standard_normal((steps, batch, classes))), rng.integers(1, classes, (batch, width)),
            rng.integers(2 * width + 1, steps + 1, batch), counts)


def test_long_sequences():
    """Probabilities far below the smallest float: f32 beside f64, padded beside joined, the kernel beside what is
    exported."""
    log_probs, targets, steps, counts = long_batch(np.random.default_rng(3))
    loss = sx.nn.CTCLoss(reduction="none")
    exact = loss(log_probs, targets, steps, counts)
    assert exact.min() > 200
    joined = np.concatenate([row[:n] for row, n in zip(targets, counts)])
    close(loss(log_probs, joined, steps, counts), exact, 0)
    close(loss(log_probs.astype(np.float32), targets, steps, counts), exact, 1e-6)
    feeds = {"dY": np.ones(8), "log_probs": log_probs, "targets": targets, "input_lengths": steps,
             "target_lengths": counts}
    gradient = operator("CTCLossBackward", DOUBLE, 2).run(None, feeds)[0]
    alive = np.arange(400)[:, None] < steps
    assert np.abs(gradient.sum(-1)).max() < 1e-9  # both terms are probabilities
    assert (gradient[~alive] == 0).all() and (np.abs(gradient).sum(-1)[alive] > 0).all()
    close(loss.vjp((log_probs, targets, steps, counts))[1][0], gradient, 1e-9)


def test_a_class_that_cannot_be_has_no_gradient():
    rng = np.random.default_rng(5)
    logits = rng.standard_normal((6, 1, 5))
    logits[:, :, 3] = -np.inf
    for run in (lambda *a: sx.nn.CTCLoss(reduction="sum").vjp(a)[1][0],
                lambda *a: operator("CTCLossBackward", DOUBLE, 2).run(
                    None, dict(zip(("dY", "log_probs", *INTEGERS), (np.ones(1), *a))))[0]):
        gradient = run(log_softmax(logits), np.array([[1, 2]]), np.array([6]), np.array([2]))
        assert np.isfinite(gradient).all() and (gradient[:, :, 3] == 0).all()


@pytest.mark.parametrize("zero_infinity", [False, True])
@pytest.mark.parametrize("steps", [0, 3])
def test_sequences_of_no_steps(steps, zero_infinity):
    """The empty target is certain, every other one impossible: by the kernels, and written out."""
    log_probs = log_softmax(np.random.default_rng(6).standard_normal((steps, 2, 4)))
    batch = (log_probs, np.array([[1, 2], [1, 2]]), np.array([0, 0]), np.array([0, 1]))
    loss = sx.nn.CTCLoss(reduction="none", zero_infinity=zero_infinity)
    value, gradients = loss.vjp(batch)
    expected = [0, 0 if zero_infinity else np.inf]
    for got in (loss(*batch), value):
        np.testing.assert_array_equal(got, expected)
    np.testing.assert_array_equal(gradients[0], np.zeros((steps, 2, 4)))


def good():
    log_probs = log_softmax(np.random.default_rng(1).standard_normal((4, 2, 3)))
    return [log_probs, np.array([[1, 2], [2, 1]]), np.array([4, 3]), np.array([2, 1])]


@pytest.mark.parametrize("port, value, message", [
    (1, [[1, 3], [2, 1]], r"label 1 of target 0.*\[0, 3\).*3"),
    (1, [[1, 2], [-1, 1]], r"label 0 of target 1.*\[0, 3\).*-1"),
    (1, [1, 2, -1], r"label 0 of target 1"),
    (1, [1, 2], r"target_lengths\[1\].*from 0 to the 0 labels left"),
    (1, [1, 2, 1, 1], r"sum of target_lengths.*4.*3"),
    (1, [[1, 2]], r"dim 0 of input 'targets'.*2.*1"),
    (2, [4, 5], r"input_lengths\[1\].*0 to the 4 steps.*5"),
    (2, [-1, 3], r"input_lengths\[0\].*-1"),
    (2, [4, 2**62], r"input_lengths\[1\]"),
    (2, [4], r"dims of input 'input_lengths'"),
    (3, [3, 1], r"target_lengths\[0\].*0 to the 2 labels of a row.*3"),
    (3, [2, -1], r"target_lengths\[1\].*-1"),
    (3, [2, 1, 0], r"dims of input 'target_lengths'"),
])
def test_labels_and_lengths_out_of_range(port, value, message):
    arrays = good()
    assert np.isfinite(sx.nn.CTCLoss()(*arrays))
    arrays[port] = np.array(value)
    with pytest.raises(sx.InputError, match=message):
        sx.nn.CTCLoss()(*arrays)
    feeds = {"dY": np.ones(2), "log_probs": arrays[0], **dict(zip(INTEGERS, arrays[1:]))}
    with pytest.raises(sx.InputError):
        operator("CTCLossBackward", DOUBLE, arrays[1].ndim).run(None, feeds)


def test_other_mistakes_are_named():
    arrays = good()
    with pytest.raises(sx.InputError, match="blank.*-1"):
        sx.nn.CTCLoss(blank=-1)(*arrays)
    with pytest.raises(sx.InputError, match=r"blank.*\[0, 3\).*3"):
        sx.nn.CTCLoss(blank=3)(*arrays)
    with pytest.raises(sx.InputError, match="log_probs.*rank 2 or 3"):
        sx.nn.CTCLoss()(arrays[0][0, 0], *arrays[1:])
    with pytest.raises(sx.InputError, match="targets.*rank 1 or 2"):
        sx.nn.CTCLoss()(arrays[0], arrays[1][None], *arrays[2:])
    with pytest.raises(sx.InputError, match="input_lengths.*int64 or int32"):
        sx.nn.CTCLoss()(arrays[0], arrays[1], arrays[2].astype(np.float64), arrays[3])
    with pytest.raises(sx.InputError, match="target_lengths.*rank 1"):
        sx.nn.CTCLoss()(*arrays[:3], np.array(2))


def recognizer(features=5, classes=4, dtype=TensorProto.FLOAT):
    """x [t, n, 5] -> log-probabilities [t, n, 4]."""
    rng = np.random.default_rng(7)
    kind = helper.tensor_dtype_to_np_dtype(dtype)
    weights = {"w": (0.3 * rng.standard_normal((features, classes))).astype(kind), "b": np.zeros(classes, kind)}
    return model([helper.make_node("MatMul", ["x", "w"], ["h"]), helper.make_node("Add", ["h", "b"], ["z"]),
                  helper.make_node("LogSoftmax", ["z"], ["y"], axis=2)],
                 [("x", dtype, ["t", "n", features])], [("y", dtype, ["t", "n", classes])], weights)


def recognizer_batch(dtype=np.float32):
    """Each label lies in its features for two steps."""
    rng = np.random.default_rng(2)
    labels = np.array([[1, 2, 3], [3, 1, 0], [2, 2, 0]])  # the zeros are padding
    counts = np.array([3, 2, 2])
    x = 0.1 * rng.standard_normal((12, 3, 5))
    for n in range(3):
        for i in range(counts[n]):
            x[4 * i:4 * i + 2, n, labels[n, i]] += 1
    return x.astype(dtype), (labels, np.array([12, 10, 8]), counts)


@pytest.mark.parametrize("joined", [False, True])
def test_training(joined):
    x, (labels, steps, counts) = recognizer_batch()
    if joined:
        labels = np.concatenate([row[:n] for row, n in zip(labels, counts)])
    trainer = sx.Trainer(recognizer(), loss=sx.nn.CTCLoss(), optimizer=sx.optim.AdamW(lr=0.1))
    losses = [trainer.step(x, (labels, steps, counts)) for _ in range(60)]
    assert losses[-1] < 0.2 * losses[0]
    assert trainer.evaluate(x, (labels, steps, counts)) == pytest.approx(losses[-1], rel=0.2)
    before = trainer.parameters()
    with pytest.raises(sx.InputError, match="label 0 of target 0"):
        trainer.step(x, (labels + 9, steps, counts))
    assert all(np.array_equal(before[k], v) for k, v in trainer.parameters().items())


def test_the_gradient_of_a_model_is_its_slope_and_runs_elsewhere():
    """Against central differences, and with ONNX Runtime, which knows no operator of ours."""
    ort = pytest.importorskip("onnxruntime")
    x, targets = recognizer_batch(np.float64)
    network = recognizer(dtype=DOUBLE)
    exported = sx.gradient_model(network, loss=sx.nn.CTCLoss())
    feeds = dict(zip(("x", "target", "target_1", "target_2"), (x, *targets)))
    session = ort.InferenceSession(exported, providers=["CPUExecutionProvider"])
    results = dict(zip([o.name for o in session.get_outputs()], session.run(None, feeds)))
    loss = sx.nn.CTCLoss()
    forward = ort.InferenceSession(network, providers=["CPUExecutionProvider"])
    y = forward.run(None, {"x": x})[0]
    close(results["loss"], loss(y, *targets))
    trainer = sx.Trainer(network, loss=loss, optimizer=sx.optim.SGD(lr=0.0))
    trainer.step(x, targets)
    for name in ("w", "b"):
        close(results[f"{name}_grad"], trainer.gradients()[name])
    weights = trainer.parameters()

    def value(w):
        return loss(log_softmax(x @ w + weights["b"]), *targets)

    for index in ((0, 0), (1, 1), (3, 2), (4, 3)):
        step = np.zeros_like(weights["w"])
        step[index] = 1e-6
        slope = (value(weights["w"] + step) - value(weights["w"] - step)) / 2e-6
        assert results["w_grad"][index] == pytest.approx(slope, rel=1e-6, abs=1e-8)
