"""Writes the seeds of the fuzz target: make_corpus.py FOLDER [--largest BYTES]

The node models of ONNX's own suite, with their small integer, bool and string inputs turned into initializers
(shapes, axes and indices then have values that make sense), and models of what single nodes do not have:
bodies within bodies, sequences, functions, external data, sparse initializers.
"""

import argparse
import pathlib

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper, parser
from onnx.backend.test.loader import load_model_tests

SMALL = 64  # elements of an input that becomes an initializer

# In ONNX's textual form; each is one file.
MODELS = {
    "if_nested": """<ir_version: 8, opset_import: ["" : 18]>
        g (bool c, float[2] x) => (float[2] y) {
          y = If (c) <
            then_branch = t () => (float[2] a) { a = If (c) <
              then_branch = tt () => (float[2] p) { p = Relu (x) },
              else_branch = te () => (float[2] q) { q = Neg (x) }> },
            else_branch = e () => (float[2] b) { b = Abs (x) }>
        }""",
    "loop_scan_output": """<ir_version: 8, opset_import: ["" : 18]>
        g (float[3] x) => (float[3] last, float[n, 3] all) <int64 m = {4}, bool c = {1}> {
          last, all = Loop (m, c, x) <body = b (int64 i, bool go, float[3] s) => (bool on, float[3] t, float[3] u) {
            on = Identity (go)
            f = CastLike (i, s)
            t = Add (s, f)
            u = Mul (t, x)
          }>
        }""",
    "scan": """<ir_version: 8, opset_import: ["" : 18]>
        g (float[2] s, float[3, 2] x) => (float[2] t, float[3, 2] y) {
          t, y = Scan <num_scan_inputs = 1, scan_input_directions = [1], scan_output_axes = [0],
            body = b (float[2] a, float[2] e) => (float[2] o, float[2] z) {
              o = Add (a, e)
              z = Identity (o)
            }> (s, x)
        }""",
    "loop_in_loop": """<ir_version: 8, opset_import: ["" : 18]>
        g (float[1] x) => (float[1] y) <int64 m = {3}, bool c = {1}> {
          y = Loop (m, c, x) <body = b (int64 i, bool go, float[1] s) => (bool on, float[1] t) {
            on = Identity (go)
            t = Loop (m, c, s) <body = d (int64 j, bool go2, float[1] u) => (bool on2, float[1] v) {
              on2 = Identity (go2)
              v = Add (u, x)
            }>
          }>
        }""",
    "sequences": """<ir_version: 8, opset_import: ["" : 18]>
        g (float[2, 3] x, int64 i) => (float[m, k] y, int64 n) <int64 one = {1}> {
          e = SequenceEmpty <dtype = 1> ()
          a = SequenceInsert (e, x)
          b = SequenceInsert (a, x, one)
          z = SequenceAt (b, i)
          d = SequenceErase (b, i)
          s = SplitToSequence <axis = 0, keepdims = 1> (x, one)
          w = ConcatFromSequence <axis = 0> (s)
          y = Concat <axis = 1> (w, z)
          n = SequenceLength (d)
        }""",
    "functions": """<ir_version: 9, opset_import: ["" : 19, "local" : 1]>
        g (float[2, 2] x) => (float[2, 2] y) {
          h = local.twice <alpha = 0.5> (x)
          y = local.both (h, x)
        }
        <domain: "local", opset_import: ["" : 19]>
        twice <alpha> (x) => (y) { a = LeakyRelu <alpha : float = @alpha> (x)
          y = LeakyRelu <alpha : float = @alpha> (a) }
        <domain: "local", opset_import: ["" : 19, "local" : 1]>
        both (p, q) => (r) { s = local.twice <alpha = 0.1> (q)
          r = MatMul (p, s) }""",
    "shapes": """<ir_version: 8, opset_import: ["" : 18]>
        g (float[a, 4] x) => (float[p, q] y) <int64[2] two = {0, -1}, int64[1] zero = {0}, int64[1] one = {1}> {
          s = Shape (x)
          n = Gather <axis = 0> (s, zero)
          t = Concat <axis = 0> (n, one)
          r = Reshape (x, two)
          f = ConstantOfShape (t)
          e = Expand (f, s)
          y = Add (e, r)
        }""",
    "optionals": """<ir_version: 8, opset_import: ["" : 18]>
        g (float[2] x) => (float[2] y, bool h) {
          o = Optional (x)
          h = OptionalHasElement (o)
          y = OptionalGetElement (o)
        }""",
    "strings": """<ir_version: 10, opset_import: ["" : 20]>
        g (string[3] x) => (string[3] y, string[3, n] parts, int64[3] counts) {
          y = StringConcat (x, x)
          parts, counts = StringSplit <delimiter = "a"> (x)
        }""",
    "convolutions": """<ir_version: 8, opset_import: ["" : 18]>
        g (float[1, 2, 5, 5] x, float[2, 1, 3, 3] w) => (float[a, b, c, d] y, int64[e, f, h, i] k) {
          u = Conv <group = 2, pads = [1, 1, 1, 1], strides = [2, 1], dilations = [1, 1]> (x, w)
          v = ConvTranspose <group = 2, strides = [2, 2], output_padding = [1, 0]> (u, w)
          y, k = MaxPool <kernel_shape = [2, 2], ceil_mode = 1> (v)
        }""",
}


def node_models(largest):
    for case in load_model_tests(kind="node"):
        model = onnx.ModelProto.FromString(case.model.SerializeToString())
        inputs = case.data_sets[0][0]
        kept = []
        for value, given in zip(model.graph.input, inputs):
            whole = isinstance(given, np.ndarray) and given.dtype.kind in "ibOSU" and given.size <= SMALL
            if whole and model.ir_version >= 4:
                model.graph.initializer.append(numpy_helper.from_array(given, value.name))
            else:
                kept.append(value)
        if kept:
            del model.graph.input[:]
            model.graph.input.extend(kept)
        content = model.SerializeToString()
        if len(content) <= largest:
            yield case.name, content


def other_models():
    for name, text in MODELS.items():
        yield name, parser.parse_model(text).SerializeToString()

    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [2, 2])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
    external = numpy_helper.from_array(np.ones((2, 2), np.float32), "w")
    onnx.external_data_helper.set_external_data(external, location="w.bin", offset=0, length=16)
    external.ClearField("raw_data")
    graph = helper.make_graph([helper.make_node("MatMul", ["x", "w"], ["y"])], "g", [x], [y], [external])
    yield "external_data", helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)]).SerializeToString()

    sparse = helper.make_sparse_tensor(
        numpy_helper.from_array(np.array([1, 2], np.float32), "w"),
        numpy_helper.from_array(np.array([0, 3], np.int64), "i"), [2, 2])
    graph = helper.make_graph([helper.make_node("MatMul", ["x", "w"], ["y"])], "g", [x], [y], sparse_initializer=[sparse])
    yield "sparse_initializer", helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)]).SerializeToString()


def main():
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("folder", type=pathlib.Path)
    arguments.add_argument("--largest", type=int, default=4096, help="bytes of a seed")
    options = arguments.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    count = 0
    for source in (other_models(), node_models(options.largest)):
        for name, content in source:
            (options.folder / f"{name}.onnx").write_bytes(content)
            count += 1
    print(f"{count} seeds in {options.folder}")


if __name__ == "__main__":
    main()
