"""Precision "medium": bf16 tensors and products, f32 sums. Graphs at medium against onnxruntime in f32, bf16 kernels
against numpy on the same bf16 numbers, and what is said to stay f32."""

import os
import pathlib
import re
import subprocess
import sys

import ml_dtypes
import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper
from test_plan import draw

import sardonyx as sx
from sardonyx import _sardonyx

BF16 = np.dtype(ml_dtypes.bfloat16)
ROOT = pathlib.Path(__file__).resolve().parents[2]
BUILD = pathlib.Path(os.environ.get("SARDONYX_BUILD") or ROOT / "build")
CPU = pathlib.Path("/proc/cpuinfo")
# Elsewhere "medium" is "highest": what holds for that is tested all the same.
LOWERS = CPU.is_file() and "avx512_bf16" in CPU.read_text() and not os.environ.get("ONEDNN_MAX_CPU_ISA")
needs_bfloat16 = pytest.mark.skipif(not LOWERS, reason="the CPU has no instructions for products of bf16")


class Net:
    """A model built node by node; constants are drawn from its own generator."""

    def __init__(self, seed=0):
        self.rng = np.random.default_rng(seed)
        self.nodes, self.inputs, self.constants, self.feeds = [], [], [], {}

    def input(self, *shape, dtype=np.float32, values=None):
        values = (self.rng.standard_normal(shape) if values is None else np.asarray(values)).astype(dtype)
        name = f"x{len(self.inputs)}"
        self.inputs.append(helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(values.dtype), values.shape))
        self.feeds[name] = values
        return name

    def constant(self, values):
        self.constants.append(numpy_helper.from_array(np.asarray(values), f"c{len(self.constants)}"))
        return self.constants[-1].name

    def floats(self, *shape, scale=0.3, dtype=np.float32):
        return self.constant((self.rng.standard_normal(shape) * scale).astype(dtype))

    def add(self, op, *inputs, outputs=1, **attributes):
        names = [f"{op}{len(self.nodes)}_{i}" for i in range(outputs)]
        self.nodes.append(helper.make_node(op, list(inputs), names, **attributes))
        return names[0] if outputs == 1 else names

    def conv(self, x, channels, out, kernel=3, group=1, **attributes):
        weights = self.floats(out, channels // group, kernel, kernel)
        attributes.setdefault("pads", [kernel // 2] * 4)
        return self.add("Conv", x, weights, self.floats(out), group=group, **attributes)

    def model(self, *outputs, dtype=np.float32, opset=22):
        kind = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
        graph = helper.make_graph(self.nodes, "g", self.inputs, [helper.make_tensor_value_info(o, kind, None) for o in outputs],
                                  self.constants)
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=10).SerializeToString()


def run(model, feeds, precision="medium", **options):
    return sx.InferenceSession(model, precision=precision, **options).run(None, feeds)


def lowered(model):
    """{operator: [type of the first output of each]} of the stage "lowered"."""
    text = _sardonyx.print_stage(sx._model(model), "lowered", {"precision": "medium"})
    found = {}
    for kind, op in re.findall(r"^\s*\S+: (\w+)\[.*\] = (\w+)-\d+\(", text, re.MULTILINE):
        found.setdefault(op, []).append(kind)
    assert found, text
    return found


def distance(got, expected):
    got, expected = got.astype(np.float64), expected.astype(np.float64)
    return np.sqrt(np.mean((got - expected) ** 2)) / max(np.sqrt(np.mean(expected**2)), 1e-6)


# Nets, and the operators that must be bf16 in them.


def residual(net):
    x = net.conv(net.input(2, 8, 20, 20), 8, 32)
    y = net.add("Relu", net.conv(net.add("Relu", x), 32, 32, 1))
    y = net.add("Relu", net.add("Add", net.conv(y, 32, 32), x))
    return [net.add("Gemm", net.add("Flatten", net.add("GlobalAveragePool", y)), net.floats(32, 7), net.floats(7))]


def squeeze(net):
    x = net.conv(net.input(1, 16, 24, 24), 16, 48, 1)
    x = net.add("HardSwish", net.conv(x, 48, 48, 5, group=48))
    gate = net.add("HardSigmoid", net.conv(net.add("GlobalAveragePool", x), 48, 48, 1))
    return [net.conv(net.add("Mul", x, gate), 48, 24, 1)]


def pyramid(net):
    x = net.conv(net.input(1, 6, 24, 32), 6, 40)
    x = net.add("Mul", x, net.add("Sigmoid", x))
    left, right = net.add("Split", x, net.constant(np.array([24, 16])), outputs=2, axis=1)
    pooled = net.add("MaxPool", left, kernel_shape=[3, 3], strides=[2, 2], pads=[1] * 4)
    up = net.add("Resize", net.conv(pooled, 24, 16), "", net.constant(np.array([1, 1, 2, 2], np.float32)), mode="nearest",
                 coordinate_transformation_mode="asymmetric", nearest_mode="floor")
    joined = net.add("Concat", up, net.add("LeakyRelu", right), axis=1)
    mean = net.add("AveragePool", joined, kernel_shape=[3, 3], pads=[1] * 4)
    return [net.add("ConvTranspose", mean, net.floats(32, 5, 2, 2), net.floats(5), strides=[2, 2])]


def transformer(net):
    x = net.input(2, 24, 64)
    y = net.add("LayerNormalization", net.add("MatMul", x, net.floats(64, 64)), net.floats(64), net.floats(64))
    shape = net.constant(np.array([0, 0, 4, 16]))
    heads = [net.add("Transpose", net.add("Reshape", net.add("Add", net.add("MatMul", y, net.floats(64, 64)), net.floats(64)),
                                          shape), perm=[0, 2, 1, 3] if i != 1 else [0, 2, 3, 1]) for i in range(3)]
    scores = net.add("Mul", net.add("MatMul", heads[0], heads[1]), net.constant(np.float32(0.25)))
    mixed = net.add("MatMul", net.add("Softmax", scores, axis=-1), heads[2])
    flat = net.add("Reshape", net.add("Transpose", mixed, perm=[0, 2, 1, 3]), net.constant(np.array([0, 0, 64])))
    y = net.add("Add", net.add("MatMul", flat, net.floats(64, 64)), y)
    wide = net.add("Gelu", net.add("Add", net.add("MatMul", y, net.floats(64, 96)), net.floats(96)))
    return [net.add("Add", net.add("MatMul", wide, net.floats(96, 64)), y)]


def softmax(net):
    x = net.conv(net.input(1, 8, 12, 12), 8, 16)
    return [net.conv(net.add("Softmax", x, axis=axis), 16, 8, 1) for axis in (1, -1)]


NETS = {residual: {"Conv", "Relu", "GlobalAveragePool", "Gemm"}, squeeze: {"Conv", "HardSwish", "Mul"},
        pyramid: {"Conv", "MaxPool", "Concat", "Split", "Resize", "AveragePool", "ConvTranspose"},
        transformer: {"MatMul", "Attention", "Gelu"}, softmax: {"Softmax", "Conv"}}


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("options", [{}, {"disabled_passes": ["layouts"]}, {"disabled_passes": ["epilogues"]},
                                     {"optimize": "none"}, {"prefer_kernel": "ref"}], ids=str)
@pytest.mark.parametrize("build", NETS)
def test_nets(build, options, threads):
    net = Net()
    model = net.model(*build(net))
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    for got, expected in zip(run(model, net.feeds, threads=threads, **options), session.run(None, net.feeds), strict=True):
        assert got.dtype == np.float32 and got.shape == expected.shape
        assert distance(got, expected) < 0.02


@needs_bfloat16
@pytest.mark.parametrize("build", NETS)
def test_what_is_lowered(build):
    net = Net()
    model = net.model(*build(net))
    kinds = lowered(model)
    for op in NETS[build]:
        assert "bfloat16" in kinds[op], (op, kinds)
    highest = run(model, net.feeds, "highest")
    assert any(not np.array_equal(a, b) for a, b in zip(run(model, net.feeds), highest))


# Operators that follow their input into bf16, each between two convolutions: (what it reads besides, attributes).
FOLLOWERS = {
    **{op: ([], {}) for op in ("Relu", "LeakyRelu", "Elu", "Celu", "Selu", "HardSigmoid", "HardSwish", "Sigmoid", "Softplus", "Softsign",
                               "Mish", "Gelu", "Abs", "Neg", "Tanh", "Softmax")},
    "PRelu": ([np.full((16, 1, 1), 0.2, np.float32)], {}), "Sum": ([np.ones((16, 1, 1), np.float32)] * 2, {}),
    "Max": ([np.full(8, 0.1, np.float32)] * 2, {}), "Min": ([np.full(8, 0.1, np.float32)], {}),
    "Clip": ([np.float32(-0.3), np.float32(0.4)], {}), "InstanceNormalization": ([np.ones(16, np.float32)] * 2, {}),
    "GroupNormalization": ([np.ones(16, np.float32)] * 2, {"num_groups": 4}),
    "BatchNormalization": ([np.linspace(0.5, 1, 16, dtype=np.float32)] * 4, {}),
    "Gather": ([np.arange(15, -1, -1)], {"axis": 1}), "Pad": ([np.array([0, 0, 1, 1, 0, 0, 1, 2]), np.float32(0.1)], {}),
    "Resize": (["", "", np.array([2, 16, 13, 9])], {"mode": "linear"}), "Tile": ([np.array([1, 1, 2, 1])], {}),
    "Expand": ([np.array([2, 16, 8, 8])], {}), "Slice": ([np.array([1]), np.array([7]), np.array([2])], {}),
}


@pytest.mark.parametrize("options", [{}, {"disabled_passes": ["layouts"]}, {"optimize": "none"}, {"prefer_kernel": "ref"}], ids=str)
@pytest.mark.parametrize("op", FOLLOWERS)
def test_followers(op, options):
    net = Net()
    operands, attributes = FOLLOWERS[op]
    x = net.conv(net.input(2, 8, 8, 8), 8, 16)
    y = net.add(op, x, *(net.constant(a) if isinstance(a, (np.ndarray, np.generic)) else a for a in operands), **attributes)
    model = net.model(net.conv(y, 16, 6, 1), y)
    for got, expected in zip(run(model, net.feeds, **options), run(model, net.feeds, "highest"), strict=True):
        assert got.dtype == np.float32 and distance(got, expected) < 0.02
    if LOWERS and options.get("optimize") != "none" and op not in ("Expand", "BatchNormalization", "GroupNormalization"):  # gone before
        assert "bfloat16" in lowered(model)[op]


@needs_bfloat16
@pytest.mark.parametrize("op", ["Exp", "Log", "Sqrt", "Sin", "Reciprocal", "Floor", "ThresholdedRelu", "LogSoftmax"])
def test_functions_that_stay_f32(op):
    net = Net()
    x = net.add("Abs", net.add("MatMul", net.input(4, 16), net.floats(16, 8)))
    y = net.add("MatMul", net.add(op, x), net.floats(8, 4))
    assert lowered(net.model(y))[op] == ["float"]


@needs_bfloat16
def test_sums_and_shapes_stay():
    net = Net()
    x = net.add("MatMul", net.input(4, 16), net.floats(16, 8))
    total = net.add("CumSum", x, net.constant(np.array(1)))
    rows = net.add("ReduceSum", x, net.constant(np.array([1])))
    flat = net.add("Reshape", x, net.add("Concat", net.add("Shape", x), net.constant(np.array([1])), axis=0))
    kinds = lowered(net.model(total, rows, net.add("MatMul", flat, net.floats(1, 3))))
    assert kinds["CumSum"] == kinds["ReduceSum"] == ["float"] and kinds["MatMul"].count("bfloat16") == 2


def test_other_types_are_left_alone():
    """f64, f16 and integers give the same bits at medium."""
    for dtype in (np.float64, np.float16, np.int32):
        net = Net()
        x = net.input(4, 16, dtype=dtype)
        model = net.model(net.add("MatMul", x, net.constant(np.ones((16, 8), dtype))), dtype=dtype)
        np.testing.assert_array_equal(run(model, net.feeds)[0], run(model, net.feeds, "highest")[0])


@pytest.mark.parametrize("build", NETS)
def test_high_is_highest(build):
    net = Net()
    model = net.model(*build(net))
    for high, highest in zip(run(model, net.feeds, "high"), run(model, net.feeds, "highest"), strict=True):
        np.testing.assert_array_equal(high, highest)


def test_without_instructions_medium_is_highest():
    code = """
import sys; sys.path[:0] = sys.argv[1:]
import numpy as np
from test_precision import Net, residual, run
net = Net(); model = net.model(*residual(net))
assert np.array_equal(run(model, net.feeds)[0], run(model, net.feeds, "highest")[0])
"""
    environment = {**os.environ, "ONEDNN_MAX_CPU_ISA": "AVX512_CORE"}
    subprocess.run([sys.executable, "-c", code, str(pathlib.Path(__file__).parent), *sys.path], check=True, env=environment)


@pytest.mark.parametrize("word", ["low", "", "MEDIUM", "bf16"])
def test_an_unknown_word(word):
    net = Net()
    model = net.model(*residual(net))
    with pytest.raises(sx.InputError) as caught:
        sx.InferenceSession(model, precision=word)
    for known in ("'highest'", "'high'", "'medium'", f"'{word}'", "precision"):
        assert known in str(caught.value)


def test_command_line(tmp_path):
    net = Net()
    (tmp_path / "model.onnx").write_bytes(net.model(*residual(net)))

    def sardonyx(command, *arguments):
        return subprocess.run([BUILD / "sardonyx", command, tmp_path / "model.onnx", *arguments], capture_output=True, text=True)
    for word in ("highest", "high", "medium"):
        assert sardonyx("bench", "-n", "1", "--precision", word).returncode == 0
    wrong = sardonyx("bench", "-n", "1", "--precision", "low")
    assert wrong.returncode != 0 and "'medium'" in wrong.stderr
    stage = sardonyx("inspect", "--stage", "lowered", "--precision", "medium")
    assert stage.returncode == 0 and ("bfloat16" in stage.stdout) == LOWERS
    assert "bfloat16" not in sardonyx("inspect", "--stage", "lowered").stdout


@pytest.mark.parametrize("seed", range(40))
def test_random_graphs(seed):
    """The same graphs as in test_plan.py, in all ways to plan them."""
    drawing = draw(seed)
    model = drawing.model()
    feeds = {"x": np.random.default_rng(seed).standard_normal(drawing.input[1]).astype(np.float32)}
    expected = run(model, feeds, "highest")
    for options in ({}, {"disabled_passes": ["layouts"]}, {"disabled_passes": ["epilogues"]}, {"optimize": "none"}):
        for got, want in zip(run(model, feeds, threads=1 + seed % 2, **options), expected, strict=True):
            assert got.dtype == want.dtype and got.shape == want.shape
            assert np.isfinite(got).all() == np.isfinite(want).all()
            if all(node.op_type not in ("Floor", "Sub") for node in drawing.nodes):  # neither steps nor cancellation
                assert distance(got, want) < 0.05


@pytest.mark.parametrize("build", [residual, squeeze, pyramid])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_nan_and_infinity_go_through(build, value):
    net = Net()
    model = net.model(*build(net))
    next(iter(net.feeds.values())).flat[77] = value
    for got, expected in zip(run(model, net.feeds), run(model, net.feeds, "highest"), strict=True):
        np.testing.assert_array_equal(np.isfinite(got), np.isfinite(expected))
        np.testing.assert_array_equal(np.isnan(got), np.isnan(expected))


def test_numbers_past_bfloat16_become_infinity():
    """As in any rounding to nearest: the largest f32 is past the largest bf16."""
    net = Net()
    model = net.model(net.add("MatMul", net.input(values=np.full((1, 4), np.finfo(np.float32).max)), net.constant(np.eye(4, dtype=np.float32))))
    got = run(model, net.feeds)[0]
    assert np.isnan(got).all() or np.isinf(got).all() or not LOWERS


@pytest.mark.parametrize("op, extra", [("RNN", {}), ("GRU", {}), ("GRU", {"linear_before_reset": 1}), ("LSTM", {})])
@pytest.mark.parametrize("direction", ["forward", "bidirectional"])
@pytest.mark.parametrize("sizes", [(5, 3, 7, 9), (12, 1, 32, 64), (3, 30, 33, 40)])
def test_recurrent(op, extra, direction, sizes):
    steps, batch, width, hidden = sizes
    gates, both = {"RNN": 1, "GRU": 3, "LSTM": 4}[op], 1 + (direction == "bidirectional")
    net = Net()
    x = net.input(steps, batch, width)
    states = [net.input(both, batch, hidden) for _ in range(1 + (op == "LSTM"))]
    lengths = net.constant(np.append(net.rng.integers(0, steps + 1, batch - 1), steps).astype(np.int32))
    outputs = net.add(op, x, net.floats(both, gates * hidden, width), net.floats(both, gates * hidden, hidden, scale=0.15),
                      net.floats(both, 2 * gates * hidden), lengths, *states, outputs=1 + len(states), hidden_size=hidden,
                      direction=direction, **extra)
    model = net.model(*outputs)
    expected = run(model, net.feeds, "highest")
    for options in ({}, {"prefer_kernel": "ref"}):
        for got, want in zip(run(model, net.feeds, **options), expected, strict=True):
            assert distance(got, want) < 0.02
    if LOWERS:
        assert not np.array_equal(run(model, net.feeds)[0], expected[0])
        assert lowered(model)[op] == ["float"]


def test_bodies_and_values_read_twice():
    """A branch, a loop's captured value, a value that is output and read on: their types stay f32."""
    net = Net()
    x = net.input(2, 16)
    flag = net.input(values=np.array(True), dtype=bool)
    y = net.add("Relu", net.add("MatMul", x, net.floats(16, 16)))
    weights = net.floats(16, 16)

    def branch(name, op):
        nodes = [helper.make_node("MatMul", [y, weights], [f"{name}_p"]), helper.make_node(op, [f"{name}_p"], [f"{name}_o"])]
        return helper.make_graph(nodes, name, [], [helper.make_tensor_value_info(f"{name}_o", TensorProto.FLOAT, None)])
    z = net.add("If", flag, then_branch=branch("a", "Relu"), else_branch=branch("b", "Neg"))
    model = net.model(y, z, net.add("Add", z, y))
    for value in (True, False):
        net.feeds[flag] = np.array(value)
        for got, expected in zip(run(model, net.feeds), run(model, net.feeds, "highest"), strict=True):
            assert got.dtype == np.float32 and distance(got, expected) < 0.02
        session = sx.InferenceSession(model, precision="medium")
        np.testing.assert_array_equal(session.run([z], net.feeds)[0], run(model, net.feeds)[1])


# Kernels on graphs that are bf16 by themselves.


def bfloat16(values):
    return np.asarray(values, np.float32).astype(BF16)


def run_bfloat16(net, *outputs, **options):
    return [np.asarray(y).astype(np.float32) for y in run(net.model(*outputs, dtype=BF16), net.feeds, "highest", **options)]


BINARY = {"Add": np.add, "Sub": np.subtract, "Mul": np.multiply, "Div": np.divide, "Max": np.maximum, "Min": np.minimum}


@pytest.mark.parametrize("shapes", [((3, 5, 7), (3, 5, 7)), ((2, 40, 33), (33,)), ((2, 3, 600), (2, 3, 1)), ((50, 9), (50, 1)),
                                    ((4, 100, 24), (24,)), ((1,), (1000,)), ((1030,), (1030,))], ids=str)
@pytest.mark.parametrize("op", BINARY)
def test_binary_rounds_once(op, shapes):
    net = Net()
    a, b = net.input(*shapes[0], dtype=BF16), net.input(*shapes[1], dtype=BF16)
    for value in (np.nan, np.inf, -np.inf, 0.0, 3.3e38, 1e-40):
        net.feeds[a].flat[net.rng.integers(net.feeds[a].size)] = value
    x, y = (net.feeds[name].astype(np.float32) for name in (a, b))
    with np.errstate(all="ignore"):
        expected = bfloat16(BINARY[op](x, y)).astype(np.float32)
    np.testing.assert_array_equal(run_bfloat16(net, net.add(op, a, b))[0], expected)


def test_a_chain_rounds_once():
    net = Net()
    a, b, c = (net.input(2, 5, 130, dtype=BF16) for _ in range(3))
    y = net.add("Mul", net.add("Relu", net.add("Add", a, b)), c)
    x = [net.feeds[name].astype(np.float32) for name in (a, b, c)]
    expected = bfloat16(np.maximum(x[0] + x[1], 0) * x[2]).astype(np.float32)
    np.testing.assert_array_equal(run_bfloat16(net, y)[0], expected)


def test_rounding_on_purpose_is_kept():
    """Casts to bf16 and back that a model holds are no conversions to be dropped."""
    net = Net()
    x = net.input(3, 1000)
    low = net.add("Cast", net.add("Mul", x, x), to=TensorProto.BFLOAT16)
    back = net.add("Add", net.add("Cast", low, to=TensorProto.FLOAT), x)
    v = net.feeds[x]
    expected = bfloat16(v * v).astype(np.float32) + v
    np.testing.assert_array_equal(run(net.model(back), net.feeds, "highest")[0], expected)


def test_cast_to_nearest_even():
    bits = np.arange(0, 2**32, 65521, dtype=np.uint64).astype(np.uint32)
    values = np.concatenate([bits.view(np.float32), np.array([np.nan, np.inf, -np.inf, 1 + 2**-8, 1 + 3 * 2**-8], np.float32)])
    net = Net()
    x = net.input(values=values)
    y = net.add("Relu", net.add("Cast", x, to=TensorProto.BFLOAT16))
    with np.errstate(all="ignore"):
        expected = np.maximum(values.astype(BF16).astype(np.float32), 0)
    np.testing.assert_array_equal(run_bfloat16(net, y)[0], expected)


@pytest.mark.parametrize("channels", [3, 16, 70])
@pytest.mark.parametrize("op", ["MaxPool", "AveragePool", "GlobalAveragePool"])
def test_pooling_channels_last(op, channels):
    """Behind a convolution that is the identity, so that the tensor is channels last."""
    net = Net()
    x = net.input(2, channels, 13, 11, dtype=BF16)
    eye = np.eye(channels, dtype=np.float32)[:, :, None, None]
    y = net.add("Conv", x, net.constant(bfloat16(eye)))
    attributes = {} if op == "GlobalAveragePool" else {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1] * 4}
    got = run_bfloat16(net, net.add("Conv", net.add(op, y, **attributes), net.constant(bfloat16(eye))))[0]
    wide = Net()
    z = wide.add(op, wide.input(values=net.feeds[x].astype(np.float32)), **attributes)
    expected = onnxruntime.InferenceSession(wide.model(z), providers=["CPUExecutionProvider"]).run(None, wide.feeds)[0]
    np.testing.assert_allclose(got, bfloat16(expected).astype(np.float32), rtol=2**-7)


@pytest.mark.parametrize("shape, axis", [((4, 37), -1), ((2, 16, 300), 1), ((3, 5, 1), -1), ((1, 700, 2), 1)])
@pytest.mark.parametrize("log", [False, True])
def test_softmax(shape, axis, log):
    net = Net()
    x = net.input(*shape, dtype=BF16)
    got = run_bfloat16(net, net.add("LogSoftmax" if log else "Softmax", x, axis=axis))[0]
    wide = net.feeds[x].astype(np.float64)
    shifted = wide - wide.max(axis, keepdims=True)
    expected = shifted - np.log(np.exp(shifted).sum(axis, keepdims=True))
    np.testing.assert_allclose(got, expected if log else np.exp(expected), rtol=2**-7, atol=1e-5)


@pytest.mark.parametrize("group, kernel", [(1, 1), (1, 3), (24, 3), (24, 5), (2, 3)])
@pytest.mark.parametrize("follow", ["", "Relu", "HardSwish", "Add"])
def test_convolution(group, kernel, follow):
    net = Net()
    x = net.input(1, 24, 17, 15, dtype=BF16)
    weights = net.floats(24, 24 // group, kernel, kernel, dtype=BF16)
    bias = net.floats(24, dtype=BF16)
    y = net.add("Conv", x, weights, bias, group=group, pads=[kernel // 2] * 4)
    if follow:
        y = net.add(follow, y, *([x] if follow == "Add" else []))
    got = run_bfloat16(net, y)[0]
    wide = Net()
    arrays = [numpy_helper.to_array(c).astype(np.float32) for c in net.constants]
    z = wide.input(values=net.feeds[x].astype(np.float32))
    w = wide.add("Conv", z, *map(wide.constant, arrays), group=group, pads=[kernel // 2] * 4)
    if follow:
        w = wide.add(follow, w, *([z] if follow == "Add" else []))
    expected = onnxruntime.InferenceSession(wide.model(w), providers=["CPUExecutionProvider"]).run(None, wide.feeds)[0]
    np.testing.assert_allclose(got, expected, rtol=2**-7, atol=2**-8)


@pytest.mark.parametrize("extra", [{}, {"is_causal": 1}, {"softcap": 2.0}, {"scale": 0.4}], ids=str)
@pytest.mark.parametrize("mask", ["", "bool", "float"])
@pytest.mark.parametrize("sizes", [(1, 4, 4, 33, 33, 16, 16), (2, 4, 2, 17, 41, 8, 24), (1, 6, 6, 64, 64, 64, 64), (1, 2, 2, 40, 40, 7, 5),
                                   (1, 8, 1, 3, 70, 32, 32), (1, 2, 2, 4, 9, 16, 16)], ids=str)
def test_attention(sizes, mask, extra):
    batch, heads, kv_heads, queries, keys, head, v_head = sizes
    net = Net()
    inputs = [net.input(batch, heads, queries, head), net.input(batch, kv_heads, keys, head), net.input(batch, kv_heads, keys, v_head)]
    if mask == "bool":
        inputs.append(net.input(values=net.rng.random((queries, keys)) < 0.8, dtype=bool))
    elif mask:
        inputs.append(net.input(values=np.where(net.rng.random((batch, 1, queries, keys)) < 0.8, 0, -np.inf)))
    model = net.model(net.add("Attention", *inputs, **extra), opset=24)
    got, expected = run(model, net.feeds)[0], run(model, net.feeds, "highest")[0]
    assert distance(got, expected) < 0.02
    if extra.get("is_causal") and not mask and queries == keys:  # a key that may not be seen may be anything
        net.feeds[inputs[1]][:, :, -3:] = np.nan
        again = run(model, net.feeds)[0]
        np.testing.assert_array_equal(again[:, :, :-3], got[:, :, :-3])
        assert np.isnan(again[:, :, -1]).all()
