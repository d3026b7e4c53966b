"""Training at `medium`: bf16 between, f32 parameters, in every kernel that a network of convolutions needs."""
import numpy as np
import pytest
from onnx import TensorProto, helper

import sardonyx as sx
from networks import model

SIDE, CLASSES = 18, 5


def network(seed=0):
    """Convolutions (dense, strided, depthwise, pointwise with odd channels), batch norm, poolings, activations."""
    random = np.random.default_rng(seed)
    weights, nodes = {}, []

    def convolution(name, x, channels, inputs, kernel, group=1, bias=False, **attributes):
        weights[f"{name}.weight"] = (random.standard_normal((channels, inputs // group, kernel, kernel))
                                     / np.sqrt(inputs // group * kernel**2)).astype(np.float32)
        operands = [x, f"{name}.weight"]
        if bias:
            weights[f"{name}.bias"] = random.standard_normal(channels).astype(np.float32) / 10
            operands.append(f"{name}.bias")
        nodes.append(helper.make_node("Conv", operands, [name], group=group, pads=[kernel // 2] * 4, **attributes))
        return name

    def normalized(name, x, channels):
        for part, value in (("scale", 1), ("shift", 0), ("mean", 0), ("var", 1)):
            weights[f"{name}.{part}"] = np.full(channels, value, np.float32)
        nodes.append(helper.make_node("BatchNormalization", [x] + [f"{name}.{p}" for p in ("scale", "shift", "mean", "var")],
                                      [name], epsilon=1e-5))
        return name

    def activation(op, x):
        nodes.append(helper.make_node(op, [x], [f"{x}.{op}"]))
        return f"{x}.{op}"

    x = activation("Relu", normalized("n0", convolution("c0", "x", 16, 3, 3), 16))
    nodes.append(helper.make_node("MaxPool", [x], ["pooled"], kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1]))
    x = activation("HardSwish", normalized("n1", convolution("c1", "pooled", 20, 16, 1), 20))
    x = activation("Relu", normalized("n2", convolution("c2", x, 20, 20, 3, group=20, strides=[2, 2]), 20))
    x = activation("Relu", normalized("n3", convolution("c3", x, 20, 20, 5, group=20), 20))
    y = convolution("c4", x, 20, 20, 3, bias=True)
    nodes.append(helper.make_node("Add", [x, y], ["sum"]))
    nodes.append(helper.make_node("GlobalAveragePool", ["sum"], ["mean"]))
    nodes.append(helper.make_node("Flatten", ["mean"], ["flat"]))
    weights["head.weight"] = random.standard_normal((CLASSES, 20)).astype(np.float32) / 4
    weights["head.bias"] = np.zeros(CLASSES, np.float32)
    nodes.append(helper.make_node("Gemm", ["flat", "head.weight", "head.bias"], ["y"], transB=1))
    return model(nodes, [("x", TensorProto.FLOAT, ["n", 3, SIDE, SIDE])], [("y", TensorProto.FLOAT, ["n", CLASSES])],
                 weights)


def batch(step=0, size=12):
    random = np.random.default_rng(100 + step)
    labels = random.integers(0, CLASSES, size)
    x = random.standard_normal((size, 3, SIDE, SIDE)).astype(np.float32)
    x[:, 0, :, :] += labels[:, None, None]
    return x, labels


def trainer(precision, **options):
    return sx.Trainer(network(), optimizer=sx.optim.SGD(lr=0.05), precision=precision, threads=1, **options)


def test_gradients_are_those_of_full_precision_rounded():
    full, low = trainer("highest"), trainer("medium")
    x, y = batch()
    assert low.step(x, y) == pytest.approx(full.step(x, y), rel=0.02)
    found, expected = low.gradients(), full.gradients()
    assert all(array.dtype == np.float32 for array in found.values())
    apart, size = (np.sqrt(sum(np.sum(np.square(part, dtype=np.float64)) for part in parts))
                   for parts in ([found[n] - expected[n] for n in expected], expected.values()))
    assert 1e-5 < apart / size < 0.1  # rounded somewhere, but no more than that


CONVOLUTIONS = [
    ((8, 16), dict(kernel_shape=[3, 3], pads=[1, 1, 1, 1])),
    ((8, 16), dict(kernel_shape=[3, 3], pads=[1, 1, 1, 1], strides=[2, 2])),
    ((8, 12), dict(kernel_shape=[5, 3], dilations=[2, 1], group=2)),
    ((16, 32), dict(kernel_shape=[1, 1])),
    ((10, 7), dict(kernel_shape=[1, 1])),
    ((10, 7), dict(kernel_shape=[1, 1], strides=[2, 2])),
    ((24, 24), dict(kernel_shape=[3, 3], pads=[1, 1, 1, 1], group=24)),
    ((24, 24), dict(kernel_shape=[5, 5], pads=[2, 2, 2, 2], group=24, strides=[2, 2])),
    ((16, 8), dict(kernel_shape=[7], pads=[3, 3])),
]


@pytest.mark.parametrize("size", [1, 6])
@pytest.mark.parametrize("channels, attributes", CONVOLUTIONS)
def test_gradients_of_a_convolution(channels, attributes, size):
    random = np.random.default_rng(3)
    inputs, outputs = channels
    rank = len(attributes["kernel_shape"])
    side = [19] * rank
    weights = {"first": random.standard_normal((inputs, 3) + (1,) * rank).astype(np.float32),
               "w": random.standard_normal((outputs, inputs // attributes.get("group", 1),
                                            *attributes["kernel_shape"])).astype(np.float32),
               "b": random.standard_normal(outputs).astype(np.float32)}
    data = model([helper.make_node("Conv", ["x", "first"], ["h"]),
                  helper.make_node("Conv", ["h", "w", "b"], ["y"], **attributes)],
                 [("x", TensorProto.FLOAT, ["n", 3, *side])], [("y", TensorProto.FLOAT, None)], weights)
    full, low = (sx.Trainer(data, loss="MSELoss", precision=p, optimizer=sx.optim.SGD(lr=0.0))
                 for p in ("highest", "medium"))
    x = random.standard_normal((size, 3, *side)).astype(np.float32)
    target = random.standard_normal(full.predict(x)[0].shape).astype(np.float32)
    full.step(x, target), low.step(x, target)
    for name, expected in full.gradients().items():
        error = np.linalg.norm(low.gradients()[name] - expected) / np.linalg.norm(expected)
        assert 1e-5 < error < 0.01, (name, error)


def test_parameters_and_statistics_keep_f32():
    full, low = trainer("highest"), trainer("medium")
    for step in range(2):
        full.step(*batch(step)), low.step(*batch(step))
    found = low.parameters(buffers=True)
    for name, expected in full.parameters(buffers=True).items():
        assert found[name].dtype == np.float32
        assert np.linalg.norm(found[name] - expected) <= 0.02 * max(np.linalg.norm(expected), 1)
        # bf16 has zeros in the lower half of an f32.
        assert np.any(found[name].view(np.uint32) & 0xffff), name


def test_the_passes_run_in_bf16():
    low = trainer("medium", profile=True)
    low.step(*batch())
    low.profile()
    low.step(*batch(1))
    events = low.profile()["traceEvents"]
    kinds = {"Conv", "ConvBackwardData", "ConvBackwardWeights", "ConvBackwardBias", "BatchNormalization",
             "BatchNormalizationBackward", "MaxPoolBackward", "ReluBackward"}
    seen = set()
    for event in events:
        if event["name"] not in kinds:
            continue
        seen.add(event["name"])
        assert event["args"]["inputs"].startswith("bfloat16"), event
        assert not event["args"]["kernel"].startswith("ref"), event
    assert seen == kinds


def test_the_loss_falls():
    low = trainer("medium")
    losses = [low.step(*batch(step % 4)) for step in range(60)]
    assert np.mean(losses[-4:]) < 0.5 * np.mean(losses[:4])
