"""What users install: the CMake package, from an outside project and after the prefix has moved, and the
wheel, in a virtual environment of its own."""
import os
import pathlib
import subprocess
import sys

import onnx
import pytest
from onnx import TensorProto, helper

ROOT = pathlib.Path(__file__).resolve().parents[2]
BUILD = pathlib.Path(os.environ.get("SARDONYX_BUILD") or ROOT / "build")
# Nothing of the build tree or of this process's environment helps the installed files find each other.
CLEAN = {name: value for name, value in os.environ.items() if name not in ("LD_LIBRARY_PATH", "PYTHONPATH")}
CLEAN["CXX"] = "c++"  # as in the build tree, so that ccache knows the files again
CLEAN["PATH"] = f"{pathlib.Path(sys.executable).parent}:{CLEAN['PATH']}"  # CMake is a Python package


def run(*command, **options):
    result = subprocess.run([str(word) for word in command], env=CLEAN, stdin=subprocess.DEVNULL,
                            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, **options)
    assert result.returncode == 0, f"{' '.join(map(str, command))}\n{result.stdout[-4000:]}"
    return result.stdout


def version():
    text = (ROOT / "CMakeLists.txt").read_text()
    return text.split("project(sardonyx VERSION ")[1].split()[0]


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    graph = helper.make_graph(
        [helper.make_node("Mul", ["x", "two"], ["t"]), helper.make_node("Add", ["t", "one"], ["y"])], "line",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [3])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [3])],
        [helper.make_tensor("two", TensorProto.FLOAT, [], [2.0]), helper.make_tensor("one", TensorProto.FLOAT, [], [1.0])])
    path = tmp_path_factory.mktemp("model") / "line.onnx"
    onnx.save(helper.make_model(graph, ir_version=9, opset_imports=[helper.make_opsetid("", 18)]), path)
    return path


@pytest.fixture(scope="module")
def prefix(tmp_path_factory):
    first = tmp_path_factory.mktemp("install") / "first"
    run("cmake", "--install", BUILD, "--prefix", first)
    return first.rename(first.with_name("moved"))


def test_installed_program(prefix):
    assert version() in run(prefix / "bin/sardonyx", "--version")


def test_outside_project(prefix, model, tmp_path):
    run("cmake", "-S", ROOT / "tests/package/outside", "-B", tmp_path, "-G", "Ninja", f"-DCMAKE_PREFIX_PATH={prefix}")
    run("cmake", "--build", tmp_path)
    assert run(tmp_path / "outside", model) == f"3 5 7 with sardonyx {version()}\n"


def test_installed_library_needs_nothing_of_the_build(prefix):
    library = next(prefix.glob("lib*/libsardonyx.so*"))
    listing = run("ldd", library)
    assert "not found" not in listing
    where = [line.split("=>")[1].split()[0] for line in listing.splitlines() if "libdnnl" in line]
    assert where == [str(library.parent / "libdnnl.so.3")]


@pytest.mark.nightly
def test_wheel(model, tmp_path):
    run(sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", tmp_path, ROOT)
    run(sys.executable, "-m", "venv", "--system-site-packages", tmp_path / "venv")
    python = tmp_path / "venv/bin/python"
    run(python, "-m", "pip", "install", "--ignore-installed", "--no-deps", next(tmp_path.glob("sardonyx-*.whl")))
    program = (f"import sardonyx as sx, numpy as np; print(sx.__file__); "
               f"print(sx.InferenceSession({str(model)!r}).run(None, {{'x': np.float32([1, 2, 3])}})[0].tolist())")
    # The environment of the tests lends numpy.
    site = [path for path in sys.path if path.endswith("site-packages")][0]
    where, result = run(python, "-c", f"import sys; sys.path.append({site!r}); " + program, cwd=tmp_path).splitlines()
    assert where.startswith(str(tmp_path / "venv")) and result == "[3.0, 5.0, 7.0]"
