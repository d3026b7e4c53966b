"""Writes damaged variants of models: mutate.py SEED_FOLDER OUT_FOLDER --count N [--seed S]

Where libFuzzer changes bytes, this changes what the bytes mean: attributes, dimensions, element types, constants,
operators and edges, to the values that kernels are likely to have forgotten. The files load more often than those
with changed bytes, so the mistakes they meet are those of kernels.
"""

import argparse
import pathlib
import random

import numpy as np
import onnx
from onnx import AttributeProto, TensorProto, helper, numpy_helper

INTS = [-2**63, -2**31, -2**31 - 1, -1000, -3, -2, -1, 0, 1, 2, 3, 5, 16, 1000, 2**20, 2**31 - 1, 2**31, 2**32, 2**40, 2**62, 2**63 - 1]
FLOATS = [0.0, -0.0, 1.0, -1.0, 0.5, 1e-30, 1e30, -1e30, float("inf"), float("-inf"), float("nan")]
STRINGS = [b"", b"x", b"linear", b"SAME_UPPER", b"constant", b"\xff\xfe", b"a" * 300]
TYPES = [t for t in TensorProto.DataType.values() if t != TensorProto.UNDEFINED]


def nearby(rng, value):
    return rng.choice([rng.choice(INTS), -value, value + 1, value - 1, value * 2]) if rng.random() < 0.8 else rng.randint(-8, 8)


def int64(value):
    return max(-2**63, min(2**63 - 1, value))


def change_list(rng, values, new):
    kind = rng.randrange(4)
    if kind == 0 or not values:
        values.insert(rng.randint(0, len(values)), new(values[0] if values else 0))
    elif kind == 1:
        values.pop(rng.randrange(len(values)))
    else:
        i = rng.randrange(len(values))
        values[i] = new(values[i])
    return values


def attribute(rng, graph, node):
    if not node.attribute:
        return integer_constant(rng, graph, node)
    a = rng.choice(node.attribute)
    if rng.random() < 0.1:
        node.attribute.remove(a)
    elif a.type == AttributeProto.INT:
        a.i = int64(nearby(rng, a.i))
    elif a.type == AttributeProto.FLOAT:
        a.f = rng.choice(FLOATS)
    elif a.type == AttributeProto.STRING:
        a.s = rng.choice(STRINGS)
    elif a.type == AttributeProto.INTS:
        a.ints[:] = change_list(rng, list(a.ints), lambda v: int64(nearby(rng, v)))
    elif a.type == AttributeProto.FLOATS:
        a.floats[:] = change_list(rng, list(a.floats), lambda v: rng.choice(FLOATS))
    elif a.type == AttributeProto.STRINGS:
        a.strings[:] = change_list(rng, list(a.strings), lambda v: rng.choice(STRINGS))
    elif a.type == AttributeProto.TENSOR:
        tensor(rng, a.t)
    elif a.type == AttributeProto.GRAPH:
        mutate_graph(rng, a.g)


def new_attribute(rng, graph, node):
    try:
        schema = onnx.defs.get_schema(node.op_type, node.domain)
    except onnx.defs.SchemaError:
        return
    names = [n for n in schema.attributes if n not in {a.name for a in node.attribute}]
    if not names:
        return
    name = rng.choice(names)
    kind = schema.attributes[name].type
    if kind == onnx.defs.OpSchema.AttrType.INT:
        node.attribute.append(helper.make_attribute(name, rng.choice(INTS)))
    elif kind == onnx.defs.OpSchema.AttrType.FLOAT:
        node.attribute.append(helper.make_attribute(name, rng.choice(FLOATS)))
    elif kind == onnx.defs.OpSchema.AttrType.STRING:
        node.attribute.append(helper.make_attribute(name, rng.choice(STRINGS)))
    elif kind == onnx.defs.OpSchema.AttrType.INTS:
        values = [rng.choice(INTS) for _ in range(rng.randint(1, 4))]
        node.attribute.append(helper.make_attribute(name, values))


def tensor(rng, t):
    """Other values, another shape, or another type for a tensor that holds few elements."""
    try:
        array = np.array(numpy_helper.to_array(t))
    except Exception:
        return
    name = t.name
    kind = rng.randrange(4)
    if kind == 0:
        shape = change_list(rng, list(array.shape), lambda v: rng.choice([0, 1, 2, 3, 7]))
        if np.prod(shape, dtype=object) > 4096:
            return
        array = np.resize(array, shape) if array.size else np.zeros(shape, array.dtype)
    elif array.size and array.dtype.kind in "iu":
        i = rng.randrange(array.size)
        info = np.iinfo(array.dtype)
        array.reshape(-1)[i] = max(info.min, min(info.max, nearby(rng, int(array.reshape(-1)[i]))))
    elif array.size and array.dtype.kind == "f":
        with np.errstate(over="ignore"):
            array.reshape(-1)[rng.randrange(array.size)] = rng.choice(FLOATS)
    elif kind == 1 and array.dtype.kind == "b":
        array = ~array
    if kind == 3 and rng.random() < 0.3 and array.dtype.kind in "iufb":
        with np.errstate(invalid="ignore"):
            array = array.astype(rng.choice([np.int64, np.int32, np.float32, np.uint8, np.float64, np.bool_]))
    t.CopyFrom(numpy_helper.from_array(np.ascontiguousarray(array).reshape(array.shape), name))


def integer_constant(rng, graph, node):
    if graph.initializer:
        tensor(rng, rng.choice(graph.initializer))
    else:
        shape(rng, graph, node)


def shape(rng, graph, node):
    values = [v for v in graph.input if v.type.WhichOneof("value") == "tensor_type"]
    if not values:
        return
    t = rng.choice(values).type.tensor_type
    kind = rng.randrange(6)
    if kind == 0:
        t.elem_type = rng.choice(TYPES)
        return
    dims = t.shape.dim
    if kind == 5 and len(dims) > 1:  # no elements, but many rows of none
        none, many = rng.sample(range(len(dims)), 2)
        dims[none].dim_value = 0
        dims[many].dim_value = rng.choice([2**31, 2**33, 2**40, 2**62, 2**63 - 1])
    elif kind == 1 or not dims:
        dims.add().dim_value = rng.choice([0, 1, 2, 3])
    elif kind == 2:
        del dims[rng.randrange(len(dims))]
    elif kind == 3:
        dims[rng.randrange(len(dims))].dim_param = "n"
    else:
        dims[rng.randrange(len(dims))].dim_value = rng.choice([0, 0, 1, 2, 3, 5, 17, -1, 2**31, 2**62])


def inputs(rng, graph, node):
    names = list(node.input)
    kind = rng.randrange(4)
    if kind == 0 and names:
        names[rng.randrange(len(names))] = ""
    elif kind == 1 and names:
        names.pop()
    elif kind == 2 and len(names) > 1:
        rng.shuffle(names)
    else:
        known = [v.name for v in graph.input] + [t.name for t in graph.initializer]
        if known:
            names.append(rng.choice(known))
    node.input[:] = names


def operator(rng, graph, node):
    node.op_type = rng.choice(OPERATORS)


def outputs(rng, graph, node):
    """More outputs, or an output that nobody wants; graph outputs without declared types."""
    if rng.random() < 0.5:
        node.output.append(f"extra{len(node.output)}")
    for value in graph.output:
        value.type.tensor_type.ClearField("shape") if value.type.HasField("tensor_type") else None


OPERATORS = sorted({s.name for s in onnx.defs.get_all_schemas() if s.domain == ""})
CHANGES = [attribute] * 6 + [integer_constant] * 6 + [shape] * 5 + [new_attribute] * 3 + [inputs] * 2 + [operator, outputs]


def mutate_graph(rng, graph):
    if graph.node:
        rng.choice(CHANGES)(rng, graph, rng.choice(graph.node))


def main():
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("seeds", type=pathlib.Path)
    arguments.add_argument("out", type=pathlib.Path)
    arguments.add_argument("--count", type=int, default=1000)
    arguments.add_argument("--seed", type=int, default=0)
    options = arguments.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    rng = random.Random(options.seed)
    seeds = sorted(options.seeds.glob("*.onnx"))
    for number in range(options.count):
        seed = rng.choice(seeds)
        model = onnx.load(seed, load_external_data=False)
        for value in model.graph.output:  # declared shapes would only be contradicted
            if value.type.HasField("tensor_type"):
                value.type.tensor_type.ClearField("shape")
        for _ in range(rng.choice([1, 1, 1, 2, 3])):
            try:
                mutate_graph(rng, model.graph)
            except (ValueError, TypeError, OverflowError, NotImplementedError):
                pass  # a value that the field cannot hold
        (options.out / f"{options.seed}-{number:06d}-{seed.stem[:40]}.onnx").write_bytes(model.SerializeToString())


if __name__ == "__main__":
    main()
