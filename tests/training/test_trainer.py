"""The training step against the same written out in numpy, and what it promises about errors and state."""
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

import sardonyx as sx
from networks import batch, mlp, mlp_gradient, mlp_weights, model

ort = pytest.importorskip("onnxruntime")


def close(got, expected, tolerance=1e-5):
    scale = max(np.abs(expected).max(), 1e-3)
    assert np.abs(np.asarray(got, np.float64) - expected).max() <= tolerance * scale


def adamw(weights, gradients, state, step, lr=1e-3, beta1=0.9, beta2=0.999, eps=1e-8, weight_decay=1e-2):
    for name, g in gradients.items():
        m, v = state.setdefault(name, [np.zeros_like(g), np.zeros_like(g)])
        m += (1 - beta1) * (g - m)
        v += (1 - beta2) * (g * g - v)
        w = weights[name] * (1 - lr * weight_decay)
        weights[name] = w - lr / (1 - beta1**step) * m / (np.sqrt(v) / np.sqrt(1 - beta2**step) + eps)


def test_adamw_steps_follow_the_formula():
    weights = mlp_weights()
    trainer = sx.Trainer(mlp(weights), optimizer=sx.optim.AdamW(lr=0.05))
    reference, state = {k: v.astype(np.float64) for k, v in weights.items()}, {}
    for step in range(1, 6):
        x, y = batch(step)
        loss, gradients = mlp_gradient(reference, x, y)
        assert trainer.step(x, y) == pytest.approx(loss, rel=1e-5)
        for name, expected in gradients.items():
            close(trainer.gradients()[name], expected, 1e-4)
        adamw(reference, gradients, state, step, lr=0.05)
        for name, expected in reference.items():
            close(trainer.parameters()[name], expected, 1e-4)


@pytest.mark.parametrize("nesterov", [False, True])
def test_sgd_steps_follow_the_formula(nesterov):
    weights = mlp_weights()
    trainer = sx.Trainer(mlp(weights), optimizer=sx.optim.SGD(lr=0.1, momentum=0.9, weight_decay=0.01,
                                                             nesterov=nesterov))
    reference, buffers = {k: v.astype(np.float64) for k, v in weights.items()}, {}
    for step in range(4):
        x, y = batch(step)
        _, gradients = mlp_gradient(reference, x, y)
        trainer.step(x, y)
        for name, g in gradients.items():
            g = g + 0.01 * reference[name]
            buffers[name] = g if name not in buffers else 0.9 * buffers[name] + g
            reference[name] = reference[name] - 0.1 * (g + 0.9 * buffers[name] if nesterov else buffers[name])
        for name, expected in reference.items():
            close(trainer.parameters()[name], expected, 1e-4)


def test_accumulated_batches_are_one_large_batch():
    weights = mlp_weights()
    x, y = batch(n=24)
    whole = sx.Trainer(mlp(weights))
    parts = sx.Trainer(mlp(weights), accumulate=3)
    for _ in range(3):
        whole.step(x, y)
        before = parts.parameters()
        for i in range(3):
            if i == 2:
                assert all(np.array_equal(before[k], v) for k, v in parts.parameters().items())
            parts.step(x[8 * i:8 * i + 8], y[8 * i:8 * i + 8])
    for name, expected in whole.parameters().items():
        close(parts.parameters()[name], expected, 1e-4)


def test_clipping():
    weights = mlp_weights()
    x, y = batch()
    loss, gradients = mlp_gradient(weights, x, y)
    norm = np.sqrt(sum((g * g).sum() for g in gradients.values()))
    trainer = sx.Trainer(mlp(weights), optimizer=sx.optim.SGD(lr=1.0), clip_norm=float(norm / 2))
    trainer.step(x, y)
    for name, g in gradients.items():
        close(weights[name] - trainer.parameters()[name], g / 2, 1e-3)
    bound = 0.02
    trainer = sx.Trainer(mlp(weights), optimizer=sx.optim.SGD(lr=1.0), clip_value=bound)
    trainer.step(x, y)
    for name, g in gradients.items():
        close(weights[name] - trainer.parameters()[name], np.clip(g, -bound, bound), 1e-3)
        close(trainer.gradients()[name], np.clip(g, -bound, bound), 1e-4)


def test_frozen_weights_and_groups():
    weights = mlp_weights()
    x, y = batch()
    trainer = sx.Trainer(mlp(weights), trainable=["layer1.*", "!*.bias"])
    assert [name for name, *_ in trainer.parameter_info()] == ["layer1.weight"]
    trainer.step(x, y)
    assert set(trainer.gradients()) == {"layer1.weight"}
    trainer = sx.Trainer(mlp(weights), optimizer=sx.optim.SGD(lr=0.0, weight_decay=0.5), no_decay="*.bias",
                         groups=[("layer0.weight", {"lr": 0.1})])
    _, gradients = mlp_gradient(weights, x, y)
    trainer.step(x, y)
    after = trainer.parameters()
    assert all(np.array_equal(after[k], weights[k]) for k in ("layer0.bias", "layer1.bias", "layer1.weight"))
    close(weights["layer0.weight"] - after["layer0.weight"],
          0.1 * (gradients["layer0.weight"] + 0.5 * weights["layer0.weight"]), 1e-3)


def test_gradients_stop_at_what_is_frozen():
    """No node of a frozen layer's weight gradient runs."""
    def nodes(trainable):
        trainer = sx.Trainer(mlp(mlp_weights()), trainable=trainable, profile=True)
        trainer.step(*batch())
        return len(trainer.profile()["traceEvents"])
    assert nodes("layer1.*") < nodes("*")


def test_export_is_what_evaluate_saw(tmp_path):
    x, y = batch()
    trainer = sx.Trainer(mlp(mlp_weights()))
    for _ in range(3):
        trainer.step(x, y)
    path = tmp_path / "trained.onnx"
    trainer.export(path)
    onnx.checker.check_model(onnx.load(path), full_check=True)
    logits = ort.InferenceSession(path).run(None, {"x": x})[0]
    close(trainer.predict(x)[0], logits)
    logits = logits - logits.max(1, keepdims=True)
    loss = (np.log(np.exp(logits).sum(1)) - logits[np.arange(len(y)), y]).mean()
    assert trainer.evaluate(x, y) == pytest.approx(loss, rel=1e-5)


def test_gradient_model_runs_elsewhere():
    weights = mlp_weights()
    x, y = batch()
    data = sx.gradient_model(mlp(weights), wrt=["layer1.weight", "x", "layer0.bias"])
    onnx.checker.check_model(onnx.load_from_string(data), full_check=True)
    session = ort.InferenceSession(data)
    assert [i.name for i in session.get_inputs()] == ["x", "target"]
    assert [o.name for o in session.get_outputs()] == ["loss", "layer1.weight_grad", "x_grad", "layer0.bias_grad"]
    results = session.run(None, {"x": x, "target": y})
    loss, gradients = mlp_gradient(weights, x, y)
    assert results[0] == pytest.approx(loss, rel=1e-5)
    close(results[1], gradients["layer1.weight"], 1e-4)
    close(results[3], gradients["layer0.bias"], 1e-4)


def test_checkpoints_resume_exactly(tmp_path):
    path = tmp_path / "run.safetensors"
    whole = sx.Trainer(mlp(mlp_weights()))
    for step in range(6):
        whole.step(*batch(step))
        if step == 2:
            whole.lr = 5e-4
            whole.save(path)
    resumed = sx.Trainer(mlp(mlp_weights(seed=9)))
    resumed.load(path)
    assert resumed.lr == 5e-4
    for step in range(3, 6):
        resumed.step(*batch(step))
    for name, expected in whole.parameters().items():
        assert np.array_equal(resumed.parameters()[name], expected)


def test_resumed_runs_draw_and_accumulate_as_if_they_had_not_stopped(tmp_path):
    """Also in the middle of an update, and with what dropout draws."""
    weights = mlp_weights()
    nodes = [helper.make_node("Gemm", ["x", "layer0.weight", "layer0.bias"], ["h"], transB=1),
             helper.make_node("Dropout", ["h", "ratio"], ["d"]),
             helper.make_node("Gemm", ["d", "layer1.weight", "layer1.bias"], ["y"], transB=1)]
    data = model(nodes, [("x", TensorProto.FLOAT, ["n", 6])], [("y", TensorProto.FLOAT, ["n", 4])],
                 {**weights, "ratio": np.float32(0.5)})
    whole, resumed = (sx.Trainer(data, accumulate=3, seed=4) for _ in range(2))
    path = tmp_path / "run.safetensors"
    losses = []
    for step in range(10):
        if step == 4:
            whole.save(path)
        losses.append(whole.step(*batch()))
    assert len(set(losses[:3])) == 3  # the same batch and weights, other numbers drawn
    resumed.load(path)
    assert [resumed.step(*batch()) for _ in range(4, 10)] == losses[4:]
    for name, expected in whole.parameters().items():
        assert np.array_equal(resumed.parameters()[name], expected)
    fewer = sx.Trainer(data, accumulate=2)
    whole.step(*batch()), whole.save(path)
    with pytest.raises(sx.InputError, match="'batches': expected 0 to 1, got 2"):
        fewer.load(path)
    for name, array in mlp_weights(seed=3, sizes=(6, 17, 4)).items():
        weights[name] = array
    other = sx.Trainer(mlp(weights))
    before = other.parameters()
    with pytest.raises(sx.InputError, match=r"run.safetensors: 'model/layer0.bias': expected float\[17\], got float\[16\]"):
        other.load(path)
    with pytest.raises(sx.FileError, match="other safetensors"):
        header = b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}'
        path.write_bytes(len(header).to_bytes(8, "little") + header + bytes(4))
        other.load(path)
    assert all(np.array_equal(before[k], v) for k, v in other.parameters().items())


def test_damaged_checkpoints_change_nothing(tmp_path):
    path = tmp_path / "run.safetensors"
    trainer = sx.Trainer(mlp(mlp_weights()))
    trainer.step(*batch())
    trainer.save(path)
    before = trainer.parameters()
    data = path.read_bytes()
    def entry(text):
        return len(text).to_bytes(8, "little") + text
    overlapping = b",".join(b'"%d":{"dtype":"U8","shape":[64],"data_offsets":[0,64]}' % i for i in range(100))
    for damaged in (b"", data[:7], data[:100], data[:-1], b"\xff" * 16 + data[16:], b"{}" + data[2:],
                    entry(b"[" * 100000), entry(b'{"a":3}'), entry(b'{"__metadata__":{"sardonyx":{}}}'),
                    entry(b'{"a":{"dtype":"F32","shape":[4611686018427387904,4],"data_offsets":[0,0]}}'),
                    entry(b'{"a":{"dtype":"F32","shape":[-1,-1],"data_offsets":[0,4]}}') + bytes(4),
                    entry(b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,9007199254740993]}}') + bytes(4),
                    entry(b"{" + overlapping + b"}") + bytes(64)):
        path.write_bytes(damaged)
        with pytest.raises(sx.FileError):
            trainer.load(path)
    assert all(np.array_equal(before[k], v) for k, v in trainer.parameters().items())
    with pytest.raises(sx.FileError):
        trainer.load(tmp_path / "missing")
    with pytest.raises(sx.FileError):
        trainer.save(tmp_path / "no" / "folder")


def unchanged_by(trainer, error, match, x, y):
    before = trainer.parameters()
    with pytest.raises(error, match=match):
        trainer.step(x, y)
    assert all(np.array_equal(before[k], v) for k, v in trainer.parameters().items())
    trainer.step(*batch())  # and goes on


def test_bad_batches_leave_the_parameters():
    x, y = batch()
    trainer = sx.Trainer(mlp(mlp_weights()), optimizer=sx.optim.SGD(lr=0.1, momentum=0.9))
    unchanged_by(trainer, sx.InputError, "4", x, np.where(y == 1, 4, y))
    unchanged_by(trainer, sx.InputError, "float", x.astype(np.float64), y)
    unchanged_by(trainer, sx.InputError, "dim 1", x[:, :5], y)
    unchanged_by(trainer, sx.InputError, "labels", x, y[:5])
    unchanged_by(trainer, sx.InputError, "target", x, np.stack([y, y]))
    unchanged_by(trainer, sx.InputError, "targets", x, (x, y))
    unchanged_by(trainer, sx.InputError, "first in output 'h'", np.where(x > 1, np.float32(np.inf), x), y)


def test_loss_that_fits_nothing():
    x, y = batch()
    with pytest.raises(sx.InputError, match="scalar"):
        sx.Trainer(mlp(mlp_weights()), loss=sx.nn.CrossEntropyLoss(reduction="none")).step(x, y)
    with pytest.raises(sx.InputError, match="CrossEntropyLoss"):
        sx.Trainer(mlp(mlp_weights()), loss="cross_entrpy").step(x, y)
    with pytest.raises(sx.InputError, match="label_smoothing"):
        sx.Trainer(mlp(mlp_weights()), loss=sx.nn.CrossEntropyLoss(label_smoothing=2.0)).step(x, y)
    with pytest.raises(sx.InputError, match="trainable"):
        sx.Trainer(mlp(mlp_weights()), trainable="no_such_weight")
    with pytest.raises(sx.InputError, match="nope"):
        sx.Trainer(mlp(mlp_weights()), predictions="nope").step(x, y)
    with pytest.raises(sx.InputError, match="momentum"):
        sx.Trainer(mlp(mlp_weights()), optimizer=sx.optim.SGD(lr=0.1, nesterov=True))


def test_fit_takes_what_can_be_iterated():
    (x, y), weights = batch(), mlp_weights()

    def fitted(loader, epochs):
        trainer = sx.Trainer(mlp(weights), optimizer=sx.optim.SGD(lr=0.1))
        return trainer.fit(loader, epochs, progress=False)
    other = sx.Trainer(mlp(weights), optimizer=sx.optim.SGD(lr=0.1))
    parts = [(x, y), (x[:5], y[:5]), (x[:1], y[:1])]
    expected = [np.mean([other.step(*part) for part in parts]) for _ in range(2)]
    assert fitted(parts, 2) == pytest.approx(expected, rel=1e-6)
    assert fitted([({"x": a}, [b]) for a, b in parts], 2) == pytest.approx(expected, rel=1e-6)
    assert fitted((part for part in parts), 1) == pytest.approx(expected[:1], rel=1e-6)
    assert fitted(parts, 0) == []


@pytest.mark.parametrize("loader, message", [
    (lambda x, y: [], "at least one batch in epoch 1, got none"),
    (lambda x, y: iter([(x, y)]), "iterated 2 times.*list_iterator"),
    (lambda x, y: ((x, y) for _ in range(2)), "iterated 2 times.*generator"),
    (lambda x, y: (x, y), r"pairs \(x, y\), got a ndarray of 12"),
    (lambda x, y: [x[:2]], r"pairs \(x, y\), got a ndarray of 2"),
    (lambda x, y: [(x, y, y)], "pairs.*a tuple of 3"),
    (lambda x, y: [3], "pairs.*got 3"),
    (lambda x, y: [({"z": x}, y)], "feed: expected one of 'x'.*got 'z'"),
    (lambda x, y: [({"x": x, "layer0.bias": x}, y)], "expected one of 'x', got 'layer0.bias'"),
])
def test_a_loader_that_does_not_fit(loader, message):
    trainer = sx.Trainer(mlp(mlp_weights()))
    with pytest.raises(sx.InputError, match=message):
        trainer.fit(loader(*batch()), 2, progress=False)
    for name, value in mlp_weights().items():
        assert np.array_equal(trainer.parameters()[name], value)


def test_an_interrupted_fit_keeps_its_steps():
    (x, y), weights = batch(), mlp_weights()
    one, other = (sx.Trainer(mlp(weights)) for _ in range(2))

    def loader():
        yield x, y
        yield x[:4], y[:4]
        raise KeyboardInterrupt
    with pytest.raises(KeyboardInterrupt):
        one.fit(loader(), progress=False)
    other.fit([(x, y), (x[:4], y[:4])], progress=False)
    assert one.step(x, y) == other.step(x, y)
    for name, value in other.parameters().items():
        assert np.array_equal(one.parameters()[name], value) and not np.array_equal(value, weights[name])


def test_weighted_losses_and_a_graph_as_a_loss():
    weights, (x, y) = mlp_weights(), batch()
    parts = [sx.Trainer(mlp(weights), loss=loss, optimizer=sx.optim.SGD(lr=0.1))
             for loss in ("CrossEntropyLoss", "MSELoss")]
    other = np.ones((12, 4), np.float32)
    losses = [parts[0].step(x, y), parts[1].step(x, other)]
    graph = model([helper.make_node("Sub", ["guess", "wanted"], ["d"]), helper.make_node("Mul", ["d", "d"], ["s"]),
                   helper.make_node("ReduceMean", ["s"], ["l"], keepdims=0)],
                  [("guess", TensorProto.FLOAT, ["n", 4]), ("wanted", TensorProto.FLOAT, ["n", 4])],
                  [("l", TensorProto.FLOAT, [])], {})
    for second in ("MSELoss", graph):
        trainer = sx.Trainer(mlp(weights), loss=[("CrossEntropyLoss", 0.5), (second, 2.0, ["y"])],
                             optimizer=sx.optim.SGD(lr=0.1))
        assert trainer.step(x, (y, other)) == pytest.approx(0.5 * losses[0] + 2 * losses[1], rel=1e-5)
        for name in weights:
            close(trainer.gradients()[name], 0.5 * parts[0].gradients()[name] + 2 * parts[1].gradients()[name], 1e-4)


@pytest.mark.parametrize("recompute", [2, 3, ["t2"], ["t1", "t3"], "72 kB", "70 KiB"])
def test_recomputed_values_are_the_same(recompute):
    sizes = (6, 16, 16, 16, 16, 4)
    weights = mlp_weights(sizes=sizes)
    nodes, at = [], "x"
    for i in range(len(sizes) - 1):
        nodes.append(helper.make_node("Gemm", [at, f"layer{i}.weight", f"layer{i}.bias"], [f"h{i}"], transB=1))
        nodes.append(helper.make_node("Tanh", [f"h{i}"], [f"t{i}"]))
        at = f"t{i}"
    data = model(nodes, [("x", TensorProto.FLOAT, ["n", 6])], [(at, TensorProto.FLOAT, ["n", 4])], weights)
    kept, again = sx.Trainer(data, profile=True), sx.Trainer(data, recompute=recompute, profile=True)
    for step in range(3):
        assert kept.step(*batch(step, 256)) == again.step(*batch(step, 256))
    for name, expected in kept.parameters().items():
        assert np.array_equal(again.parameters()[name], expected)

    def products(trainer):
        return sum(event["name"] == "Gemm" for event in trainer.profile()["traceEvents"])
    products_kept = products(kept)
    assert products(again) > products_kept
    with pytest.raises(sx.InputError, match="'nothing'"):
        sx.Trainer(mlp(mlp_weights()), recompute=["nothing"]).step(*batch(0, 256))
    with pytest.raises(sx.InputError, match="'recompute': expected at least 0, got -2"):
        sx.Trainer(data, recompute=-2)
    assert sx.Trainer(data, recompute=10**9).step(*batch(0, 256)) == sx.Trainer(data).step(*batch(0, 256))
    with pytest.raises(sx.InputError, match="recompute: expected at least [0-9]+ bytes, got 1000"):
        sx.Trainer(data, recompute="1 kB").step(*batch(0, 256))
    roomy = sx.Trainer(data, recompute="1 GB", profile=True)
    for step in range(3):
        roomy.step(*batch(step, 256))
    assert products(roomy) == products_kept


def test_a_batch_of_one_is_any_batch():
    weights = {"w": np.random.default_rng(0).standard_normal((6, 4)).astype(np.float32)}

    def network(shape):
        nodes = [helper.make_node("Constant", [], ["s"], value=onnx.numpy_helper.from_array(np.array(shape))),
                 helper.make_node("Reshape", ["x", "s"], ["r"], name="flat"), helper.make_node("MatMul", ["r", "w"], ["y"])]
        return model(nodes, [("x", TensorProto.FLOAT, [1, 2, 3])], [("y", TensorProto.FLOAT, [1, 4])], weights)

    x = np.random.default_rng(1).standard_normal((5, 2, 3)).astype(np.float32)
    trainer = sx.Trainer(network([1, 6]), loss="MSELoss")
    assert trainer.predict(x)[0].shape == (5, 4)
    close(trainer.predict(x)[0], x.reshape(5, 6) @ weights["w"])
    assert trainer.step(x, np.zeros((5, 4), np.float32)) > trainer.step(x, np.zeros((5, 4), np.float32))
    exported = trainer.export()
    assert ort.InferenceSession(exported).run(None, {"x": x})[0].shape == (5, 4)
    # Here each of 1 x 6 numbers would be an example of its own.
    nodes = [helper.make_node("Constant", [], ["s"], value=onnx.numpy_helper.from_array(np.array([1, 6]))),
             helper.make_node("ReduceMax", ["x"], ["m"], axes=[0], keepdims=1, name="over_the_batch"),
             helper.make_node("Reshape", ["m", "s"], ["r"]), helper.make_node("MatMul", ["r", "w"], ["y"])]
    pinned = sx.Trainer(model(nodes, [("x", TensorProto.FLOAT, [1, 2, 3])], [("y", TensorProto.FLOAT, [1, 4])], weights),
                        loss="MSELoss")
    with pytest.raises(sx.InputError, match="over_the_batch"):
        pinned.step(x, np.zeros((1, 4), np.float32))
    pinned.step(x[:1], np.zeros((1, 4), np.float32))


def test_every_node_without_gradient_is_named():
    weights = {"w": np.ones((6, 4), np.float32), "v": np.ones((6, 4), np.float32)}
    nodes = [helper.make_node("MatMul", ["x", "w"], ["a"]), helper.make_node("BitCast", ["a"], ["b"], name="bits_a",
                                                                            to=TensorProto.INT32),
             helper.make_node("BitCast", ["b"], ["c"], name="bits_b", to=TensorProto.FLOAT),
             helper.make_node("MatMul", ["x", "v"], ["d"]),
             helper.make_node("BitCast", ["d"], ["e"], name="bits_c", to=TensorProto.FLOAT),
             helper.make_node("Add", ["c", "e"], ["y"])]
    data = model(nodes, [("x", TensorProto.FLOAT, ["n", 6])], [("y", TensorProto.FLOAT, ["n", 4])], weights, opset=26)
    with pytest.raises(sx.UnsupportedError, match="bits_c.*reads the bits"):
        sx.Trainer(data).step(*batch())


def test_replaced_head():
    data = mlp(mlp_weights())
    trainer = sx.Trainer(sx.replace_head(data, classes=7, seed=3))
    shapes = {name: shape for name, _, shape, _ in trainer.parameter_info()}
    assert shapes["layer1.weight"] == (7, 16) and shapes["layer1.bias"] == (7,)
    x, y = batch()
    first = trainer.step(x, y + 3)
    for _ in range(30):
        last = trainer.step(x, y + 3)
    assert last < first and trainer.predict(x)[0].shape == (12, 7)
    with pytest.raises(sx.InputError, match="classes"):
        sx.replace_head(data, classes=0)
