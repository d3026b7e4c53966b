"""Small networks as ONNX models, and the same written out in numpy (f64) with their gradients."""
import numpy as np
from onnx import TensorProto, helper, numpy_helper


def model(nodes, inputs, outputs, weights, opset=17):
    """Serialized; inputs and outputs are (name, dtype, shape), weights {name: array}."""
    graph = helper.make_graph(
        nodes, "network",
        [helper.make_tensor_value_info(*i) for i in inputs], [helper.make_tensor_value_info(*o) for o in outputs],
        [numpy_helper.from_array(array, name) for name, array in weights.items()])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)],
                             ir_version=8).SerializeToString()


def mlp_weights(seed=0, sizes=(6, 16, 4), dtype=np.float32):
    rng = np.random.default_rng(seed)
    weights = {}
    for i, (a, b) in enumerate(zip(sizes, sizes[1:])):
        weights[f"layer{i}.weight"] = (rng.standard_normal((b, a)) / np.sqrt(a)).astype(dtype)
        weights[f"layer{i}.bias"] = (0.1 * rng.standard_normal(b)).astype(dtype)
    return weights


def mlp(weights, dtype=TensorProto.FLOAT):
    """Gemm, Tanh, Gemm: x [n, 6] -> y [n, 4]."""
    nodes = [
        helper.make_node("Gemm", ["x", "layer0.weight", "layer0.bias"], ["h"], transB=1, name="first"),
        helper.make_node("Tanh", ["h"], ["t"], name="squash"),
        helper.make_node("Gemm", ["t", "layer1.weight", "layer1.bias"], ["y"], transB=1, name="second"),
    ]
    return model(nodes, [("x", dtype, ["n", 6])], [("y", dtype, ["n", 4])], weights)


def mlp_gradient(weights, x, target):
    """(mean cross entropy, its gradients) in f64."""
    w = {k: v.astype(np.float64) for k, v in weights.items()}
    x = x.astype(np.float64)
    t = np.tanh(x @ w["layer0.weight"].T + w["layer0.bias"])
    y = t @ w["layer1.weight"].T + w["layer1.bias"]
    y = y - y.max(1, keepdims=True)
    p = np.exp(y) / np.exp(y).sum(1, keepdims=True)
    n = len(x)
    loss = -np.log(p[np.arange(n), target]).mean()
    dy = p
    dy[np.arange(n), target] -= 1
    dy /= n
    dh = (dy @ w["layer1.weight"]) * (1 - t * t)
    return loss, {"layer0.weight": dh.T @ x, "layer0.bias": dh.sum(0), "layer1.weight": dy.T @ t,
                  "layer1.bias": dy.sum(0)}


def batch(seed=1, n=12):
    rng = np.random.default_rng(seed)
    return rng.standard_normal((n, 6)).astype(np.float32), rng.integers(0, 4, n)
