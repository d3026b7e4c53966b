"""`sardonyx train` and `sardonyx grad`."""
import json
import re

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from command import sardonyx

ort = pytest.importorskip("onnxruntime")


@pytest.fixture
def classifier(tmp_path):
    """x [n, 4] -> 3 classes, and data in which the largest of the first three numbers is the class."""
    rng = np.random.default_rng(0)
    weights = {"layer.weight": (0.1 * rng.standard_normal((3, 4))).astype(np.float32),
               "layer.bias": np.zeros(3, np.float32)}
    graph = helper.make_graph(
        [helper.make_node("Gemm", ["x", "layer.weight", "layer.bias"], ["logits"], transB=1)], "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 4])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["n", 3])],
        [numpy_helper.from_array(a, n) for n, a in weights.items()])
    path = tmp_path / "classifier.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8), path)
    x = rng.standard_normal((300, 4)).astype(np.float32)
    y = x[:, :3].argmax(1)
    np.savez(tmp_path / "data.npz", x=x, y=y)
    return path, tmp_path / "data.npz", x, y


def test_training_a_classifier(classifier, tmp_path):
    path, data, x, y = classifier
    out = tmp_path / "trained.onnx"
    done = sardonyx("train", path, "--data", data, "--hold-out", "0.2", "--epochs", "15", "--lr", "0.1", "--output", out)
    assert done.returncode == 0, done.stderr
    assert "epoch 15/15: loss" in done.stdout and "after training: held-out loss" in done.stdout
    assert (ort.InferenceSession(out).run(None, {"x": x})[0].argmax(1) == y).mean() > 0.95
    done = sardonyx("train", path, "--data", data, "--validation", data, "--epochs", "2", "--lr", "0.1", "--json",
                    "--loss", "cross_entropy", "--loss-argument", "label_smoothing=0.1", "--optimizer", "sgd",
                    "--optimizer-argument", "momentum=0.9", "--trainable", "*.weight")
    report = json.loads(done.stdout)
    assert len(report["epochs"]) == 2 and report["after"]["accuracy"] > report["before"]["accuracy"]


def test_another_number_of_classes(classifier, tmp_path):
    path, data, _, _ = classifier
    out = tmp_path / "five.onnx"
    done = sardonyx("train", path, "--data", data, "--epochs", "1", "--replace-head", "5", "-o", out)
    assert done.returncode == 0, done.stderr
    assert ort.InferenceSession(out).run(None, {"x": np.zeros((2, 4), np.float32)})[0].shape == (2, 5)


def test_a_file_as_an_argument_of_the_loss(tmp_path):
    names, rng = ("anchor", "positive", "negative"), np.random.default_rng(3)
    value, node = helper.make_tensor_value_info, helper.make_node

    def save(name, nodes, inputs, outputs, weights=()):
        graph = helper.make_graph(nodes, "g", inputs, outputs, weights)
        onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), tmp_path / name)
    save("network.onnx", [node("MatMul", ["x", f"w_{n}"], [n]) for n in names],
         [value("x", TensorProto.FLOAT, ["n", 4])], [value(n, TensorProto.FLOAT, ["n", 5]) for n in names],
         [numpy_helper.from_array(rng.standard_normal((4, 5)).astype(np.float32), f"w_{n}") for n in names])
    save("distance.onnx", [node("Sub", ["a", "b"], ["s"]), node("ReduceL1", ["s"], ["d"], axes=[-1], keepdims=0)],
         [value(n, TensorProto.FLOAT, None) for n in "ab"], [value("d", TensorProto.FLOAT, None)])
    np.savez(tmp_path / "data.npz", x=rng.standard_normal((20, 4)).astype(np.float32))

    def losses(word):
        done = sardonyx("train", tmp_path / "network.onnx", "--data", tmp_path / "data.npz", "--epochs", "3", "--json",
                        "--loss", "triplet_margin_with_distance", "--loss-argument", "margin=20",
                        "--loss-argument", f"distance_function={word}")
        assert done.returncode == 0, done.stderr
        return [epoch["loss"] for epoch in json.loads(done.stdout)["epochs"]]
    expected = losses("l1")
    assert losses(tmp_path / "distance.onnx") == pytest.approx(expected, rel=1e-6)
    assert losses("pairwise") != pytest.approx(expected, rel=1e-2)


@pytest.mark.parametrize("arguments, message", [
    (["--loss", "triplet_margin_with_distance", "--loss-argument", "distance_function=missing.onnx"], "missing.onnx"),
    (["--loss", "cross_entrpy"], "CrossEntropyLoss"),
    (["--optimizer-argument", "momentum=0.9"], "'momentum'"),
    (["--trainable", "nothing"], "'nothing'"),
    (["--hold-out", "1"], "--hold-out"),
    (["--batch-size", "0"], "--batch-size"),
    (["--batch-norm", "off"], "'off'"),
    (["--validation", "missing.npz"], "missing.npz"),
])
def test_what_is_wrong_is_said(classifier, arguments, message):
    path, data, _, _ = classifier
    done = sardonyx("train", path, "--data", data, *arguments)
    assert done.returncode == 3 and message in done.stderr, done.stderr


def test_an_output_that_cannot_be_is_said_before_training(classifier, tmp_path):
    path, data, _, _ = classifier
    for out, message in ((tmp_path / "none/out.onnx", "existing folder"), (tmp_path, "a folder")):
        done = sardonyx("train", path, "--data", data, "--epochs", "1", "-o", out)
        assert done.returncode == 3 and message in done.stderr, done.stderr
        assert "epoch" not in done.stdout


def test_data_that_does_not_fit(classifier, tmp_path):
    path, _, x, y = classifier
    for arrays, message in (({"x": x}, "'y'"), ({"y": y}, "'x'"), ({"x": x, "y": y[:7]}, "300"),
                            ({"x": x[:, :3], "y": y}, "dim 1"), ({"x": x, "y": y + 1}, "3")):
        np.savez(tmp_path / "bad.npz", **arrays)
        done = sardonyx("train", path, "--data", tmp_path / "bad.npz")
        assert done.returncode == 3 and message in done.stderr, done.stderr


def test_gradient_of_a_file(classifier, tmp_path):
    path, _, x, y = classifier
    out = tmp_path / "gradient.onnx"
    done = sardonyx("grad", path, out, "--wrt", "layer.*", "--wrt", "x")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "output x_grad tensor(float)"
    onnx.checker.check_model(out, full_check=True)
    loss, weight, bias, dx = ort.InferenceSession(out).run(None, {"x": x, "target": y})
    assert weight.shape == (3, 4) and abs(bias.sum()) < 1e-5 and dx.shape == x.shape and loss > 1
    assert sardonyx("grad", path, out, "--wrt", "nothing").returncode == 3
    assert sardonyx("grad", path, out, "--batch-norm", "off").returncode == 2


def test_a_file_as_the_loss(classifier, tmp_path):
    """The squared distance to the one-hot label, as a graph, is MSELoss."""
    path, _, x, y = classifier
    onehot = np.eye(3, dtype=np.float32)[y]
    np.savez(tmp_path / "onehot.npz", x=x, y=onehot)
    graph = helper.make_graph(
        [helper.make_node("Sub", ["logits", "wanted"], ["d"]), helper.make_node("Mul", ["d", "d"], ["s"]),
         helper.make_node("ReduceMean", ["s"], ["l"], keepdims=0)], "loss",
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 3]) for name in ("logits", "wanted")],
        [helper.make_tensor_value_info("l", TensorProto.FLOAT, [])])
    loss = tmp_path / "squares.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8), loss)
    reports = []
    for given in (loss, "MSELoss"):
        done = sardonyx("train", path, "--data", tmp_path / "onehot.npz", "--epochs", "2", "--json", "--loss", given)
        assert done.returncode == 0, done.stderr
        reports.append([epoch["loss"] for epoch in json.loads(done.stdout)["epochs"]])
    np.testing.assert_allclose(*reports, rtol=1e-5)
    for given in (loss, "mse_loss"):
        out = tmp_path / "gradient.onnx"
        done = sardonyx("grad", path, out, "--loss", given)
        assert done.returncode == 0, done.stderr
        reports.append(ort.InferenceSession(out).run(["layer.weight_grad"], {"x": x, "target": onehot})[0])
    np.testing.assert_allclose(*reports[2:], rtol=1e-4, atol=1e-7)
    done = sardonyx("grad", path, tmp_path / "smooth.onnx", "--loss-argument", "label_smoothing=0.5")
    assert done.returncode == 0, done.stderr
    smooth = ort.InferenceSession(tmp_path / "smooth.onnx").run(["loss"], {"x": x, "target": y})[0]
    assert smooth > 1.01 * np.log(3) * 0.5
    done = sardonyx("grad", path, out, "--loss", loss, "--loss-argument", "p=2")
    assert done.returncode == 3 and "--loss-argument: expected none for a model" in done.stderr


def test_what_is_trained_is_listed(classifier):
    path, _, _, _ = classifier
    done = sardonyx("train", path, "--list", "--trainable", "*.weight")
    assert done.returncode == 0 and done.stdout.splitlines() == ["layer.weight float[3, 4] 12", "12 weights in 1 tensors"]
    done = sardonyx("train", path)
    assert done.returncode == 2 and "--data" in done.stderr


def test_recomputation(classifier):
    path, data, _, _ = classifier
    run = ["train", path, "--data", data, "--epochs", "1", "--json"]
    reports = [json.loads(sardonyx(*run, *options).stdout)["epochs"][0]["loss"]
               for options in ([], ["--recompute-pieces", "2"], ["--recompute-memory", "1MB"])]
    assert len(set(reports)) == 1
    done = sardonyx(*run, "--recompute-memory", "1 B")
    assert done.returncode == 3 and re.search("recompute: expected at least [0-9]+ bytes, got 1", done.stderr)
    done = sardonyx(*run, "--recompute", "nothing")
    assert done.returncode == 3 and "'nothing'" in done.stderr
    assert sardonyx(*run, "--recompute-memory", "much").returncode == 2


def test_training_resumes_where_it_stopped(classifier, tmp_path):
    """Four epochs are two and two, in shuffling, learning rate and weights."""
    path, data, _, _ = classifier
    run = ["train", path, "--data", data, "--hold-out", "0.1", "--lr", "0.1", "--constant-lr", "--accumulate", "4"]
    checkpoint, half, whole = (tmp_path / name for name in ("run.safetensors", "half.onnx", "whole.onnx"))
    assert sardonyx(*run, "--epochs", "4", "-o", whole).returncode == 0
    assert sardonyx(*run, "--epochs", "2", "--checkpoint", checkpoint).returncode == 0
    done = sardonyx(*run, "--epochs", "4", "--checkpoint", checkpoint, "--resume", "-o", half)
    assert done.returncode == 0 and "epoch 3/4" in done.stdout and "epoch 2/4" not in done.stdout
    weights = [{t.name: numpy_helper.to_array(t) for t in onnx.load(p).graph.initializer} for p in (half, whole)]
    assert weights[0].keys() == weights[1].keys()
    assert all(np.array_equal(weights[0][name], value) for name, value in weights[1].items())
    for options, what in ((["--epochs", "3"], "3 at most"), (["--epochs", "9", "--batch-size", "7"], "whole epochs of 39"),
                          (["--epochs", "9", "--optimizer", "SGD"], "checkpoint of these options")):
        done = sardonyx(*run, *options, "--checkpoint", checkpoint, "--resume")
        assert done.returncode == 3 and re.search(what, done.stderr), done.stderr
    done = sardonyx(*run, "--checkpoint", tmp_path / "none" / "run.safetensors")
    assert done.returncode == 3 and "--checkpoint" in done.stderr
    assert sardonyx(*run, "--resume").returncode == 2
