"""What is wrong with arguments of the command line is said in terms of them."""

import onnx
import pytest
from onnx import TensorProto, helper

from command import sardonyx


@pytest.fixture
def doubling(tmp_path):
    graph = helper.make_graph([helper.make_node("Add", ["samples", "samples"], ["y"])], "g",
                              [helper.make_tensor_value_info("samples", TensorProto.FLOAT, ["n"])],
                              [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n"])])
    path = tmp_path / "doubling.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8), path)
    return path


@pytest.mark.parametrize("command", ["run", "bench"])
@pytest.mark.parametrize("option, value", [("--shape", "sample=3"), ("--input", "sample=random"),
                                           ("--input", "sample=missing.npy")])
def test_a_misspelt_name(doubling, command, option, value):
    done = sardonyx(command, doubling, "-s", "samples=3", option, value)
    assert done.returncode == 3
    assert f"{option}: expected one of 'samples', got 'sample'" in done.stderr


def test_a_name_that_is_spelt_right(doubling):
    done = sardonyx("run", doubling, "-s", "samples=3", "-i", "samples=zeros")
    assert done.returncode == 0 and "y: float[3] min 0 max 0" in done.stdout


@pytest.mark.parametrize("against", ["stage", "onnxruntime"])
def test_a_symbolic_dimension_of_a_comparison(doubling, against):
    done = sardonyx("diff", doubling, "--against", against, "--dim", "n=3")
    assert done.returncode == 0 and "1 values agree" in done.stdout, done.stderr
