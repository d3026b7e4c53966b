#!/usr/bin/env python3
"""Prints how far the outputs of the models of bench/models.py are from the same models computed in f64.

    python bench/accuracy.py [--rows a,b] [--precision highest,medium] [--markdown]

Every f32 model is rewritten as one of f64 and run by Sardonyx's f64 kernels; a figure is the root mean square of
the difference, relative to that of the f64 output, of the worst output of floats. What ONNX does not allow in
f64 stays f32 there: quantization, mostly.
Exit code: 0 measured, 1 a row failed, 2 usage.
"""
import argparse
import pathlib
import sys
import tempfile

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from rows import ROWS, Missing

FLOAT, DOUBLE = TensorProto.FLOAT, TensorProto.DOUBLE


def widened(tensor):
    """The f64 of an f32 tensor; any other as it is."""
    if tensor.data_type != FLOAT:
        return tensor
    return numpy_helper.from_array(numpy_helper.to_array(tensor).astype(np.float64), tensor.name)


def widen_type(type_proto):
    """Makes an f32 tensor f64, in sequences and optionals too; says whether it was one."""
    kind = type_proto.WhichOneof("value")
    if kind == "tensor_type" and type_proto.tensor_type.elem_type == FLOAT:
        type_proto.tensor_type.elem_type = DOUBLE
        return True
    if kind in ("sequence_type", "optional_type"):
        return widen_type(getattr(type_proto, kind).elem_type)
    return False


class Widening:
    """Rewrites a graph, and those within it, in which every f32 value becomes f64."""

    def __init__(self, model):
        self.opsets = {opset.domain: opset.version for opset in model.opset_import}
        self.count = 0

    def name(self):
        self.count += 1
        return f"widening.{self.count}"

    def ports(self, node):
        """(inputs, outputs, {type variable: types}) of a node's schema, variadic ports repeated."""
        schema = onnx.defs.get_schema(node.op_type, self.opsets.get(node.domain, 1), node.domain)

        def each(formal, count):
            return [formal[min(index, len(formal) - 1)].type_str for index in range(count)] if formal else []
        return (each(schema.inputs, len(node.input)), each(schema.outputs, len(node.output)),
                {constraint.type_param_str: constraint.allowed_type_strs for constraint in schema.type_constraints})

    def cast(self, value, to, result=None):
        result = result or self.name()
        return result, helper.make_node("Cast", [value], [result], to=to)

    def node(self, node):
        """The nodes that stand for one."""
        for attribute in node.attribute:
            if attribute.type == onnx.AttributeProto.TENSOR:
                attribute.t.CopyFrom(widened(attribute.t))
            elif attribute.type == onnx.AttributeProto.GRAPH:
                self.graph(attribute.g)
            elif node.op_type in ("Cast", "EyeLike", "RandomNormalLike", "RandomUniformLike") and \
                    attribute.name in ("to", "dtype") and attribute.i == FLOAT:
                attribute.i = DOUBLE
        if node.op_type == "Constant":
            for attribute in node.attribute:
                if attribute.name in ("value_float", "value_floats"):
                    value = attribute.f if attribute.name == "value_float" else list(attribute.floats)
                    tensor = numpy_helper.from_array(np.asarray(value, np.float64))
                    attribute.CopyFrom(helper.make_attribute("value", tensor))
        if node.op_type == "ConstantOfShape" and not node.attribute:
            node.attribute.append(helper.make_attribute("value", helper.make_tensor("", DOUBLE, [1], [0.0])))
        inputs, outputs, variables = self.ports(node)
        narrow = {name for name in inputs + outputs
                  if "tensor(float)" in variables.get(name, [name]) and
                  "tensor(double)" not in variables.get(name, [name])}
        before, after = [], []
        for ports, names, start in ((inputs, node.input, before), (outputs, node.output, after)):
            for index, port in enumerate(ports):
                if port not in narrow or not names[index]:
                    continue
                if start is before:  # harmless where the value is no float after all
                    if variables.get(port, [port]) != [port] and names[index] not in self.floats:
                        continue
                    names[index], cast = self.cast(names[index], FLOAT)
                else:
                    result, names[index] = names[index], self.name()
                    _, cast = self.cast(names[index], DOUBLE, result)
                start.append(cast)
        return [*before, node, *after]

    def graph(self, graph):
        for tensor in graph.initializer:
            tensor.CopyFrom(widened(tensor))
        for value in [*graph.input, *graph.output]:
            widen_type(value.type)
        del graph.value_info[:]
        nodes = [made for node in graph.node for made in self.node(node)]
        del graph.node[:]
        graph.node.extend(nodes)

    def run(self, model):
        # What is f32 before: only that may go back to f32 in front of an operator of several types.
        inferred = onnx.shape_inference.infer_shapes(model)
        self.floats = set()

        def learn(graph):
            for value in [*graph.input, *graph.output, *graph.value_info]:
                if value.type.tensor_type.elem_type == FLOAT:
                    self.floats.add(value.name)
            self.floats.update(tensor.name for tensor in graph.initializer if tensor.data_type == FLOAT)
            for node in graph.node:
                for attribute in node.attribute:
                    if attribute.type == onnx.AttributeProto.GRAPH:
                        learn(attribute.g)
        learn(inferred.graph)
        self.graph(model.graph)
        return model


def distance(got, expected):
    """The root mean square of the difference, relative to that of the numbers expected."""
    got, expected = np.asarray(got, np.float64), np.asarray(expected, np.float64)
    scale = np.sqrt(np.mean(expected**2)) if expected.size else 0
    difference = np.sqrt(np.mean((got - expected)**2)) if expected.size else 0
    return float(difference / scale) if scale else float(difference)


def measure(row, precisions, folder):
    """{precision: distance from f64} of a row."""
    import sardonyx
    feeds, path = row.inputs(), row.path()
    written = str(pathlib.Path(folder) / "f64.onnx")
    model = Widening(model := onnx.load(str(path))).run(model)
    onnx.save(model, written)
    del model
    wide = {name: value.astype(np.float64) if value.dtype == np.float32 else value for name, value in feeds.items()}
    expected = sardonyx.InferenceSession(written).run(None, wide)
    result = {}
    for precision in precisions:
        got = sardonyx.InferenceSession(str(path), precision=precision).run(None, feeds)
        result[precision] = max(distance(a, b) for a, b in zip(got, expected)
                                if np.issubdtype(np.asarray(a).dtype, np.floating))
    return result


def main():
    names = [row.name for row in ROWS]
    parser = argparse.ArgumentParser(description="How far the outputs of whole models are from f64.")
    parser.add_argument("--rows", metavar="A,B", default=",".join(names), help="only these rows: " + ", ".join(names))
    parser.add_argument("--precision", metavar="A,B", default="highest,medium", help="default: %(default)s")
    parser.add_argument("--markdown", action="store_true", help="prints the table of docs/performance.md")
    arguments = parser.parse_args()
    rows, precisions = arguments.rows.split(","), arguments.precision.split(",")
    for name in rows:
        if name not in names:
            parser.error(f"--rows: expected some of {', '.join(names)}, got {name!r}")
    for name in precisions:
        if name not in ("highest", "high", "medium"):
            parser.error(f"--precision: expected some of highest, high, medium, got {name!r}")
    separator = " | " if arguments.markdown else "  "

    def line(first, cells):
        text = separator.join([first.ljust(20), *(cell.rjust(10) for cell in cells)])
        print(f"| {text} |" if arguments.markdown else text, flush=True)

    line("distance from f64", precisions)
    if arguments.markdown:
        print("|---" * (len(precisions) + 1) + "|")
    failed = False
    for row in ROWS:
        if row.name not in rows:
            continue
        with tempfile.TemporaryDirectory() as folder:
            try:
                found = measure(row, precisions, folder)
            except Missing as error:
                print(f"{row.name}: skipped: {error}", file=sys.stderr)
                continue
            except Exception as error:
                print(f"{row.name}: {error}", file=sys.stderr)
                failed = True
                continue
        line(f"`{row.name}`" if arguments.markdown else row.name, [f"{found[name]:.1e}" for name in precisions])
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
