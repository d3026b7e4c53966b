"""Damaged files end in a typed error or load, and never end the process: each batch has one of its own."""

import os
import pathlib
import subprocess
import sys

import numpy as np
import pytest
from onnx import AttributeProto, TensorProto, helper

import sardonyx as sx
from import_models import BOOL, FLOAT, INT64, constant, function, graph, info, model, ref, scalar

SEEDS = 300
node = helper.make_node

CHILD = """
import resource, sys
import numpy as np
import sardonyx as sx

resource.setrlimit(resource.RLIMIT_AS, (8 << 30, 8 << 30))
kind, seeds, source = sys.argv[1], int(sys.argv[2]), open(sys.argv[3], "rb").read()
outcomes = {}
for seed in range(seeds):
    rng = np.random.default_rng(seed)
    data = bytearray(source)
    if kind == "truncated":
        data = data[:rng.integers(0, len(data))]
    elif kind == "bits":
        for at in rng.integers(0, len(data), rng.integers(1, 20)):
            data[at] ^= 1 << rng.integers(0, 8)
    elif kind == "bytes":
        for at in rng.integers(0, len(data), rng.integers(1, 8)):
            data[at] = rng.integers(0, 256)
    elif kind == "moved":
        a, b, n = (int(v) for v in (*rng.integers(0, len(data), 2), rng.integers(1, 64)))
        data[a:a + n] = data[b:b + n]
    else:
        data = rng.integers(0, 256, rng.integers(0, 400), np.uint8).tobytes()
    print(seed, end=" ", flush=True)
    try:
        sx.convert(bytes(data))
        outcome = "loaded"
    except sx.Error as error:
        outcome = type(error).__name__
        str(error).encode()
    outcomes[outcome] = outcomes.get(outcome, 0) + 1
print(outcomes)
"""


def rich_model():
    """A little of everything that a file can hold."""
    f = function(
        "Scale",
        ["a"],
        ["b"],
        [
            ref(node("LeakyRelu", ["a"], ["t"]), "alpha", "slope", AttributeProto.FLOAT),
            node("Constant", [], ["k"], value_floats=[1.0, 2.0]),
            node("Mul", ["t", "k"], ["b"]),
        ],
        opset=15,
        attributes=["slope"],
    )
    then = graph(
        [node("Scale", ["x"], ["t"], domain="local", slope=0.5), node("Add", ["t", "w"], ["r"])],
        [],
        [info("r")],
    )
    other = graph(
        [node("Constant", [], ["z"], value=constant("", 3, 4)), node("Sub", ["w", "z"], ["r"])],
        [],
        [info("r")],
        [constant("unused", 9)],
    )
    step = graph(
        [node("Add", ["s", "y"], ["u"]), node("Identity", ["go"], ["on"])],
        [scalar("i", INT64), scalar("go", BOOL), info("s")],
        [scalar("on", BOOL), info("u")],
    )
    nodes = [
        node("Scale", ["x"], ["w"], domain="local", slope=2.0, name="first"),
        node("If", ["c"], ["y"], then_branch=then, else_branch=other),
        node("Loop", ["n", "", "w"], ["last"], body=step),
        node("Cast", ["q"], ["qf"], to=FLOAT),
        node("Gather", ["last", "j"], ["picked"], axis=0),
        node("Concat", ["picked", "qf", "sp"], ["all"], axis=0),
        node("RandomNormalLike", ["all"], ["noise"]),
        node("Where", ["mask", "all", "noise"], ["out"]),
    ]
    initializers = [
        helper.make_tensor("n", INT64, [], [2]),
        helper.make_tensor("j", INT64, [2], [1, 0]),
        helper.make_tensor("q", TensorProto.INT4, [3], [1, -2, 3]),
        helper.make_tensor("mask", BOOL, [10], [1] * 10),
    ]
    g = graph(
        nodes,
        [info("x"), scalar("c", BOOL)],
        [info("out", shape=(10,)), info("y")],
        initializers,
        value_info=[info("w"), info("all", shape=("n",))],
    )
    g.sparse_initializer.append(
        helper.make_sparse_tensor(
            helper.make_tensor("sp", FLOAT, [2], [1.0, 2.0]), helper.make_tensor("", INT64, [2], [0, 4]), [5]
        )
    )
    m = model(g, opset=21, ir=10, functions=[f], opsets=[("local", 1)])
    helper.set_model_props(m, {"key": "value"})
    return m


def test_the_model_itself_loads():
    sx.convert(rich_model().SerializeToString())


@pytest.mark.parametrize("kind", ["truncated", "bits", "bytes", "moved", "random"])
def test_damage(kind, tmp_path):
    path = tmp_path / "model.onnx"
    path.write_bytes(rich_model().SerializeToString())
    package = str(pathlib.Path(sx.__file__).parents[1])
    child = subprocess.run(
        [sys.executable, "-c", CHILD, kind, str(SEEDS), str(path)],
        capture_output=True, text=True, timeout=300, env={**os.environ, "PYTHONPATH": package},
    )
    assert child.returncode == 0, f"after seeds {child.stdout[-60:]}: {child.stderr[-2000:]}"
    print(child.stdout.splitlines()[-1][-200:])
