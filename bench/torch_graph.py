"""An ONNX file as a torch module whose parameters are the file's float initializers, under their own names: what
an export has merged, transposed or reordered is trained as it stands in the file. It knows the operators of
bench/export_training_models.py's files. Batch norm computes as torch does in training."""
import onnx
import torch
from onnx import numpy_helper
from torch import nn
from torch.nn import functional

FLOAT = onnx.TensorProto.FLOAT


def symmetric(pads):
    half = len(pads) // 2
    if pads[:half] != pads[half:]:
        raise ValueError(f"pads: expected the same at both ends, got {pads}")
    return pads[:half]


def conv(x, weight, bias=None, *, strides, dilations, group, pads, kernel_shape):
    return functional.conv2d(x, weight, bias, strides, symmetric(pads), dilations, group)


def max_pool(x, *, kernel_shape, strides, pads=(0, 0, 0, 0), ceil_mode=0, dilations=(1, 1)):
    return functional.max_pool2d(x, kernel_shape, strides, symmetric(pads), dilations, bool(ceil_mode))


def gemm(a, b, c, *, alpha=1.0, beta=1.0, transA=0, transB=0):
    return alpha * ((a.T if transA else a) @ (b.T if transB else b)) + beta * c


def layer_norm(x, scale, bias, *, axis=-1, epsilon=1e-5):
    return functional.layer_norm(x, x.shape[axis:], scale, bias, epsilon)


def batch_norm(x, scale, bias, mean, variance, *, epsilon, momentum, training_mode):
    return functional.batch_norm(x, mean, variance, scale, bias, True, 1 - momentum, epsilon), mean, variance


def lstm(x, w, r, b, _, h, c, *, hidden_size):
    def torch_order(weights):  # ONNX has input, output, forget, cell; torch has input, forget, cell, output
        blocks = weights.reshape(4, hidden_size, -1)
        return blocks[[0, 2, 3, 1]].reshape(weights.shape)

    biases = b[0].reshape(2, -1)
    weights = [torch_order(weights) for weights in (w[0], r[0], biases[0], biases[1])]
    y, h, c = torch.lstm(x, (h, c), weights, True, 1, 0.0, True, False, False)
    return y.unsqueeze(1), h, c


def reshape(x, shape, *, allowzero=0):
    sizes = [x.shape[axis] if size == 0 and not allowzero else size for axis, size in enumerate(shape.tolist())]
    return x.reshape(sizes)


def slice_(x, starts, ends, axes):
    for start, end, axis in zip(starts.tolist(), ends.tolist(), axes.tolist()):
        x = x[(slice(None),) * (axis % x.ndim) + (slice(start, end),)]
    return x


def unsqueeze(x, axes):
    for axis in axes.tolist():
        x = x.unsqueeze(axis)
    return x


def gather(x, indices, *, axis=0):
    if axis == 0 and x.ndim == 2 and x.is_floating_point():
        return functional.embedding(indices, x)
    return x.index_select(axis, indices.reshape(-1)).reshape(x.shape[:axis] + indices.shape + x.shape[axis + 1:])


def filled(shape, *, value):
    return value.reshape(()).expand(shape.tolist()).clone()


OPERATORS = {
    "Add": torch.add, "Sub": torch.sub, "Mul": torch.mul, "Div": torch.div, "MatMul": torch.matmul,
    "Identity": lambda x: x, "Relu": torch.relu, "Tanh": torch.tanh, "Erf": torch.erf,
    "HardSwish": functional.hardswish, "Softmax": lambda x, *, axis=-1: x.softmax(axis),
    "HardSigmoid": lambda x, *, alpha, beta=0.5: (alpha * x + beta).clamp(0, 1),
    "Conv": conv, "MaxPool": max_pool, "GlobalAveragePool": lambda x: x.mean((2, 3), keepdim=True),
    "Gemm": gemm, "LayerNormalization": layer_norm, "BatchNormalization": batch_norm, "LSTM": lstm,
    "Flatten": lambda x, *, axis=1: x.flatten(axis), "Reshape": reshape, "Slice": slice_,
    "Transpose": lambda x, *, perm: x.permute(perm), "Unsqueeze": unsqueeze, "Gather": gather,
    "Squeeze": lambda x, axes: x.squeeze(axes.tolist()), "Concat": lambda *x, axis: torch.cat(x, axis),
    "Shape": lambda x: torch.tensor(x.shape), "Constant": lambda *, value: value, "ConstantOfShape": filled,
    "Range": lambda start, limit, delta: torch.arange(start.item(), limit.item(), delta.item()),
}


class TorchGraph(nn.Module):
    """`dtype` is what its floats are computed in."""

    def __init__(self, path, dtype):
        super().__init__()
        graph = onnx.load(path).graph
        self.dtype, self.nodes = dtype, graph.node
        self.inputs, self.output = [value.name for value in graph.input], graph.output[0].name
        self.values = {value.name: self.floats(torch.from_numpy(numpy_helper.to_array(value).copy()))
                       for value in graph.initializer}
        self.statistics = {name for node in graph.node if node.op_type == "BatchNormalization"
                           for name in node.input[3:5]}
        self.trainable = {name: value.requires_grad_() for name, value in self.values.items()
                          if value.is_floating_point() and name not in self.statistics}

    def floats(self, value):
        return value.to(self.dtype) if value.is_floating_point() else value

    def attributes(self, node):
        found = {attribute.name: onnx.helper.get_attribute_value(attribute) for attribute in node.attribute}
        if "value" in found:
            found["value"] = self.floats(torch.from_numpy(numpy_helper.to_array(found["value"]).copy()))
        return found

    def forward(self, *inputs):
        values = {"": None, **self.values, **dict(zip(self.inputs, map(self.floats, inputs)))}
        for node in self.nodes:
            arguments = [values[name] for name in node.input]
            if node.op_type == "Cast":
                to, = (attribute.i for attribute in node.attribute)
                results = arguments[0].to(self.dtype if to == FLOAT else onnx_dtype(to))
            elif node.op_type == "Dropout":
                if arguments[1] != 0:
                    raise ValueError(f"Dropout: expected ratio 0, got {arguments[1]}")
                results = arguments[0]
            else:
                results = OPERATORS[node.op_type](*arguments, **self.attributes(node))
            values.update(zip(node.output, results if isinstance(results, tuple) else (results,)))
        return values[self.output]


def onnx_dtype(number):
    return getattr(torch, str(onnx.helper.tensor_dtype_to_np_dtype(number)))
