"""Networks exported from PyTorch, trained next to what PyTorch makes of them: losses of 8 steps, gradients of the
first, running statistics. The files come from bench/export_training_models.py, which is run by hand; without them the
tests are skipped."""
import os
import pathlib

import numpy as np
import pytest

import sardonyx as sx

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
FOLDER = pathlib.Path(os.environ.get("SARDONYX_TRAINING_MODELS", ROOT / ".deps/training_models"))
NETWORKS = ["mlp", "cnn", "bert_classifier", "lstm_language", "resnet18", "resnet18_bn", "resnet18_training",
            "mobilenet_v3_large", "mobilenet_v3_large_bn", "mobilenet_v3_large_training"]


def load(name):
    if not (FOLDER / f"{name}.npz").is_file():
        pytest.skip("run bench/export_training_models.py")
    return FOLDER / f"{name}.onnx", np.load(FOLDER / f"{name}.npz")


def steps(data):
    inputs = [key[2:] for key in data.files if key.startswith("x/")]
    for i in range(len(data["y"])):
        yield {name: data[f"x/{name}"][i] for name in inputs}, data["y"][i]


def losses_of(path, data, optimizer, faster=1.0):
    """(ours, PyTorch's) of 8 steps."""
    if optimizer == "AdamW":
        key, chosen = "losses", sx.optim.AdamW(lr=faster * float(data["lr"]))
    else:
        key, chosen = "losses_sgd", sx.optim.SGD(lr=faster * float(data["lr_sgd"]), momentum=0.9)
    trainer = sx.Trainer(path, optimizer=chosen, threads=2, trainable=[str(n) for n in data["trainable"]])
    return np.array([trainer.step(x, y) for x, y in steps(data)]), data[key]


def equal(got, expected):
    return np.abs(got - expected) <= 5e-3 * np.abs(expected)


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("optimizer", ["AdamW", "SGD"])
def test_losses_are_pytorch_s(name, optimizer):
    path, data = load(name)
    got, expected = losses_of(path, data, optimizer)
    assert len(got) == 8 and equal(got, expected).all(), (got, expected)
    # The updates are in the losses: they go far from those of the initial weights.
    assert np.abs(data["losses_untrained"] / expected - 1).max() > 0.05


@pytest.mark.parametrize("name", ["mlp", "cnn", "lstm_language", "mobilenet_v3_large"])
@pytest.mark.parametrize("optimizer", ["AdamW", "SGD"])
def test_updates_that_are_a_tenth_too_long_are_seen(name, optimizer):
    assert not equal(*losses_of(*load(name), optimizer, faster=1.1)).all()


def allowed(name, data, key):
    """How far a gradient may be off, relative to its largest element. PyTorch's own error in f32 is one draw of what
    f32 can do. Among the millions of ReLUs and maxima of a network for pictures rounding turns one or two over, and
    each changes the gradients of all layers before it by up to 1 %."""
    base = 2e-2 if name.startswith(("cnn", "resnet18", "mobilenet")) else 1e-3
    return base + 20 * float(data[f"f32_error/{key}"])


@pytest.mark.parametrize("name", NETWORKS)
def test_gradients_of_the_first_step(name):
    path, data = load(name)
    trainer = sx.Trainer(path, threads=2, trainable=[str(n) for n in data["trainable"]])
    x, y = next(steps(data))
    trainer.step(x, y)
    gradients = trainer.gradients()
    worst = {}
    for key in map(str, data["trainable"]):
        got = gradients[key].astype(np.float64)
        if f"gradient/{key}" in data:
            expected = data[f"gradient/{key}"]
        else:
            expected, got = data[f"sample/{key}"], got.ravel()[data[f"sample_at/{key}"]]
        error = np.abs(got - expected).max() / max(np.abs(expected).max(), 1e-6)
        if np.abs(expected).max() > 1e-7 and error > allowed(name, data, key):
            worst[key] = (error, allowed(name, data, key))
    assert not worst, worst


@pytest.mark.parametrize("name", [n for n in NETWORKS if n.endswith(("_bn", "_training"))])
def test_running_statistics(name):
    path, data = load(name)
    trainer = sx.Trainer(path, threads=2, trainable=[str(n) for n in data["trainable"]])
    trainer.step(*next(steps(data)))
    buffers = trainer.parameters(buffers=True)
    names = [key[11:] for key in data.files if key.startswith("statistics/")]
    assert names
    for key in names:
        expected = data[f"statistics/{key}"]
        assert np.abs(buffers[key] - expected).max() <= 1e-4 * max(np.abs(expected).max(), 1e-3), key


@pytest.mark.parametrize("name", ["mlp", "cnn", "bert_classifier", "lstm_language", "resnet18_bn",
                                  "mobilenet_v3_large_bn"])
def test_gradient_models_in_onnxruntime(name):
    """The gradient as standard ONNX, run by ONNX Runtime, is PyTorch's."""
    ort = pytest.importorskip("onnxruntime")
    path, data = load(name)
    wanted = [str(n) for n in data["trainable"]]
    session = ort.InferenceSession(sx.gradient_model(path, wrt=wanted), providers=["CPUExecutionProvider"])
    x, y = next(steps(data))
    names = [o.name for o in session.get_outputs()]
    assert names == ["loss", *(f"{key}_grad" for key in wanted)]
    results = session.run(None, {**x, "target": y})
    assert abs(results[0] - data["losses"][0]) <= 1e-4 * abs(data["losses"][0])
    worst = {}
    for key, got in zip(wanted, results[1:]):
        expected = data[f"gradient/{key}"] if f"gradient/{key}" in data else data[f"sample/{key}"]
        got = got if f"gradient/{key}" in data else got.ravel()[data[f"sample_at/{key}"]]
        error = np.abs(got - expected).max() / max(np.abs(expected).max(), 1e-6)
        if np.abs(expected).max() > 1e-7 and error > allowed(name, data, key):
            worst[key] = (error, allowed(name, data, key))
    assert not worst, worst
