"""What the tests of quantized models share: a builder of graphs, and the comparison with onnxruntime, which runs the
file as it is, operator by operator in float."""

import os
import pathlib

import ml_dtypes
import numpy as np
import onnx
import onnx.helper as oh
import onnx.numpy_helper
import onnxruntime

import sardonyx as sx
from test_fusion import operators

FUSIONS = ("quantized_movement", "quantize_pairs", "quantized_conv", "quantized_matmul")
U8, S8 = np.uint8, np.int8
# Elsewhere products of integers are not brought in.
VNNI = "avx512_vnni" in pathlib.Path("/proc/cpuinfo").read_text() and "ONEDNN_MAX_CPU_ISA" not in os.environ


class Model:
    """A graph under construction; values are names."""

    def __init__(self, opset=17):
        self.opset, self.nodes, self.constants, self.inputs, self.outputs = opset, [], [], [], []
        self.feeds, self.count = {}, 0

    def name(self):
        self.count += 1
        return f"v{self.count}"

    def constant(self, value, dtype=None):
        name = self.name()
        array = np.asarray(value, dtype)
        if array.dtype in (np.dtype(ml_dtypes.int4), np.dtype(ml_dtypes.float8_e4m3fn)):
            tensor = oh.make_tensor(name, oh.np_dtype_to_tensor_dtype(array.dtype), array.shape,
                                    array.astype(np.float32).ravel())
        else:
            tensor = onnx.numpy_helper.from_array(array, name)
        self.constants.append(tensor)
        return name

    def op(self, kind, *inputs, outputs=1, **attributes):
        names = [self.name() for _ in range(outputs)]
        self.nodes.append(oh.make_node(kind, [i or "" for i in inputs], names, **attributes))
        return names[0] if outputs == 1 else names

    def input(self, value):
        name = self.name()
        self.inputs.append(oh.make_tensor_value_info(name, oh.np_dtype_to_tensor_dtype(value.dtype), value.shape))
        self.feeds[name] = value
        return name

    def quantize(self, x, scale, zero, dtype=U8, **attributes):
        return self.op("QuantizeLinear", x, self.constant(scale, np.float32), self.constant(zero, dtype), **attributes)

    def dequantize(self, x, scale, zero=None, dtype=U8, **attributes):
        zero = None if zero is None else self.constant(zero, dtype)
        return self.op("DequantizeLinear", x, self.constant(scale, np.float32), *[zero] * (zero is not None),
                       **attributes)

    def bytes(self, shape, scale, zero, dtype=U8, seed=0):
        """A dequantized input of random integers."""
        info, rng = np.iinfo(dtype), np.random.default_rng((seed, *shape))
        return self.dequantize(self.input(rng.integers(info.min, info.max + 1, shape).astype(dtype)), scale, zero,
                               dtype)

    def pair(self, x, scale, zero, dtype=U8):
        return self.dequantize(self.quantize(x, scale, zero, dtype), scale, zero, dtype)

    def build(self, *outputs):
        infos = [oh.make_empty_tensor_value_info(o) for o in outputs]
        graph = oh.make_graph(self.nodes, "g", self.inputs, infos, self.constants)
        model = oh.make_model(graph, opset_imports=[oh.make_opsetid("", self.opset)], ir_version=10)
        model = onnx.shape_inference.infer_shapes(model)
        types = {v.name: v for v in model.graph.value_info}
        for info in model.graph.output:
            if info.name in types:
                info.CopyFrom(types[info.name])
        return model.SerializeToString()


def expected(model, feeds):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"]).run(None, feeds)


def close(got, want, steps):
    assert len(got) == len(want)
    for g, w in zip(got, want):
        assert g.dtype == w.dtype and g.shape == w.shape
        if g.dtype == np.float32:
            np.testing.assert_allclose(g, w, rtol=1e-5, atol=1e-5 * np.abs(w[np.isfinite(w)]).max(initial=1e-3))
        else:
            assert np.abs(g.astype(np.int64) - w.astype(np.int64)).max(initial=0) <= steps


def check(model, feeds, steps=1):
    want = expected(model, feeds)
    for disabled in ([], ["epilogues"], ["layouts"], list(FUSIONS), [*FUSIONS, "epilogues"]):
        close(sx.InferenceSession(model, disabled_passes=disabled, threads=2).run(None, feeds), want, steps)
    close(sx.InferenceSession(model, optimize="none").run(None, feeds), want, steps)


def becomes(model, feeds, steps=1, **counts):
    """The operators that run, by count, and the results."""
    found = operators(model)
    assert not VNNI or {name: found.get(name, 0) for name in counts} == counts, found
    check(model, feeds, steps)


def stays(model, feeds, steps=1):
    assert operators(model) == operators(model, *FUSIONS)
    check(model, feeds, steps)


def weights(shape, channels=None, dtype=S8, zero=0, seed=1):
    """Integers, scales, zero points."""
    rng, info = np.random.default_rng((seed, *shape)), np.iinfo(dtype)
    low, high = (info.min + 1, info.max) if zero == 0 else (zero - 100, min(zero + 100, info.max))
    w = rng.integers(low, high + 1, shape).astype(dtype)
    if channels is None:
        return w, np.float32(0.01), np.array(zero, dtype)
    return w, rng.uniform(0.005, 0.02, channels).astype(np.float32), np.full(channels, zero, dtype)


def conv(m, x, x_scale, w_shape, per_channel=True, w_dtype=S8, w_zero=0, bias="int32", **attributes):
    w, w_scale, w_zeros = weights(w_shape, w_shape[0] if per_channel else None, w_dtype, w_zero)
    axis = dict(axis=0) if per_channel else {}
    inputs = [x, m.dequantize(m.constant(w), w_scale, w_zeros, w_dtype, **axis)]
    if bias:
        b = np.random.default_rng(2).integers(-3000, 3000, w_shape[0]).astype(np.int32)
        b_scale = np.float32(x_scale) * w_scale
        if bias == "float":
            inputs.append(m.constant((b * b_scale).astype(np.float32)))
        else:
            b_scale = b_scale * np.float32(2 if bias == "other scale" else 1)
            inputs.append(m.dequantize(m.constant(b), b_scale, np.zeros_like(b_scale, np.int32), np.int32, **axis))
    return m.op("Conv", *inputs, **attributes)
