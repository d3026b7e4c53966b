"""bench/widths.py and bench/overhead.py: what they print. Times are not looked at."""

import os
import pathlib
import re
import subprocess
import sys

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

BENCH = pathlib.Path(__file__).parents[2] / "bench"


def script(name, *arguments):
    return subprocess.run([sys.executable, BENCH / name, *map(str, arguments)], capture_output=True, text=True, timeout=300)


def test_widths(tmp_path):
    graph = helper.make_graph(
        [helper.make_node("Conv", ["x", "w"], ["y"], pads=[1] * 4)], "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, 4, "w_"])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(np.ones((2, 3, 3, 3), np.float32), "w")])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8), tmp_path / "m.onnx")
    done = script("widths.py", "--model", tmp_path / "m.onnx", "--shape", "1,3,4,W", "--runs", 1, "--threads", 1)
    assert done.returncode == 0, done.stderr
    lines = re.findall(r"^width (\d+): first ([\d.]+) ms, then ([\d.]+) ms, ([\d.]+) times$", done.stdout, re.M)
    assert len(lines) == 20 and {min(int(line[0]) for line in lines), max(int(line[0]) for line in lines)} == {96, 1100}
    found = re.search(r"over 20 widths: median ([\d.]+), quartiles ([\d.]+), ([\d.]+)$", done.stdout.strip())
    ratios = [float(line[3]) for line in lines]
    np.testing.assert_allclose([float(n) for n in found.groups()], np.percentile(ratios, [50, 25, 75]), atol=0.011)


def test_overhead_of_an_unknown_row():
    done = script("overhead.py", "nothing")
    assert done.returncode == 2 and "expected one of" in done.stderr and "silero_vad" in done.stderr


def test_overhead():
    models = pathlib.Path(os.environ.get("SARDONYX_MODELS") or
                          pathlib.Path(os.environ.get("SARDONYX_DEPS") or BENCH.parent / ".deps") / "models")
    if not (models / "silero_vad").is_dir():
        pytest.skip("run tools/fetch_models")
    done = script("overhead.py", "silero_vad")
    assert done.returncode == 0, done.stderr
    parts = {k: float(v) for k, v in re.findall(r"(in Python|binding|session|kernels|together) (-?[\d.]+)", done.stdout)}
    assert len(parts) == 5 and parts["kernels"] > 0
    assert abs(sum(parts.values()) - 2 * parts["together"]) < 1  # the parts make the whole
