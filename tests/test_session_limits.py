"""Sessions under load and under limits: what stops a run, what a failed run leaves behind, threads, memory, buffers
of the caller, profiles, fork."""

import os
import pathlib
import re
import resource
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper, parser

import sardonyx as sx

FOREVER = """<ir_version: 8, opset_import: ["" : 18]>
    g (float[1] x) => (float[1] y) <int64 m = {9223372036854775807}, bool c = {1}> {
      y = Loop (m, c, x) <body = b (int64 i, bool go, float[1] s) => (bool on, float[1] t) {
        on = Identity (go)
        t = Cos (s)
      }>
    }"""

# Conv, LSTM and a Loop in a row.
MIXED = """<ir_version: 8, opset_import: ["" : 18]>
    g (float[n, 2, 12] x, int64 turns) => (float[n, 3, 10] y, float[n, 1, 1, 4] h) {
      c = Conv <kernel_shape = [3]> (x, w)
      f = Transpose <perm = [0, 2, 1]> (c)
      all, h = LSTM <hidden_size = 4, layout = 1> (f, lw, lr)
      y = Loop (turns, , c) <body = b (int64 i, bool go, float[n, 3, 10] s) => (bool on, float[n, 3, 10] t) {
        on = Identity (go)
        u = Tanh (s)
        t = Add (u, c)
      }>
    }"""

DOUBLE = """<ir_version: 8, opset_import: ["" : 18]>
    g (float[a, b] x) => (float[a, b] y, float[c] s) { y = Add (x, x)
      s = ReduceSum <keepdims = 0> (y, axes) }"""


def proto(text, **initializers):
    model = parser.parse_model(text)
    model.graph.initializer.extend(numpy_helper.from_array(v, k) for k, v in initializers.items())
    return model.SerializeToString()


def mixed_model():
    rng = np.random.default_rng(0)
    return proto(MIXED, w=rng.standard_normal((3, 2, 3), np.float32), lw=rng.standard_normal((1, 16, 3), np.float32),
                 lr=rng.standard_normal((1, 16, 4), np.float32))


def double_model():
    return proto(DOUBLE, axes=np.array([1], np.int64))


def rss():
    with open("/proc/self/statm") as f:
        return int(f.read().split()[1]) * resource.getpagesize()


def weights_model(count):
    """y = x + w with `count` floats in w."""
    graph = helper.make_graph(
        [helper.make_node("Add", ["x", "w"], ["y"])], "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(np.ones(count, np.float32), "w")])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)]).SerializeToString()


X1 = {"x": np.ones(1, np.float32)}


def test_endless_loop_ends_at_its_limit():
    session = sx.InferenceSession(proto(FOREVER), max_loop_iterations=1000)
    with pytest.raises(sx.LimitError, match=r"Loop.*at most 1000.*max_loop_iterations"):
        session.run(None, X1)


def test_loops_within_loops_count_together():
    nested = """<ir_version: 8, opset_import: ["" : 18]>
        g (float[1] x, int64 m) => (float[1] y) {
          y = Loop (m, , x) <body = b (int64 i, bool go, float[1] s) => (bool on, float[1] t) {
            on = Identity (go)
            t = Loop (m, , s) <body = d (int64 j, bool go2, float[1] u) => (bool on2, float[1] v) {
              on2 = Identity (go2)
              v = Cos (u)
            }>
          }>
        }"""
    session = sx.InferenceSession(proto(nested), max_loop_iterations=109)
    with pytest.raises(sx.LimitError, match="max_loop_iterations"):
        session.run(None, {**X1, "m": np.array(10, np.int64)})
    session.run(None, {**X1, "m": np.array(9, np.int64)})  # 9 + 81 turns: the count starts anew with each run
    session.run(None, {**X1, "m": np.array(9, np.int64)})


def test_scan_counts_turns_too():
    scan = """<ir_version: 8, opset_import: ["" : 18]>
        g (float[1] s, float[n, 1] x) => (float[1] t) {
          t = Scan <num_scan_inputs = 1, body = b (float[1] a, float[1] e) => (float[1] o) { o = Add (a, e) }> (s, x)
        }"""
    session = sx.InferenceSession(proto(scan), max_loop_iterations=5)
    feeds = {"s": np.zeros(1, np.float32), "x": np.ones((5, 1), np.float32)}
    np.testing.assert_array_equal(session.run(None, feeds)[0], [5])
    with pytest.raises(sx.LimitError, match="Scan"):
        session.run(None, {**feeds, "x": np.ones((6, 1), np.float32)})
    with pytest.raises(sx.LimitError, match="Scan"):  # a length that costs no memory
        sx.InferenceSession(proto(scan.replace("float[n, 1]", "float[n, 0]").replace("float[1] e", "float[0] e")
                                  .replace("Add (a, e)", "Identity (a)")), max_loop_iterations=5).run(
            None, {"s": np.zeros(1, np.float32), "x": np.zeros((1 << 40, 0), np.float32)})


def test_max_bytes():
    session = sx.InferenceSession(double_model(), max_bytes=1 << 20)
    with pytest.raises(sx.LimitError, match="1048576"):
        session.run(None, {"x": np.ones((1024, 1024), np.float32)})
    np.testing.assert_array_equal(session.run(None, {"x": np.ones((2, 3), np.float32)})[1], [6, 6])


@pytest.mark.parametrize("text,feeds", {
    "a tensor made while running": ("""<ir_version: 8, opset_import: ["" : 18]>
        g (float[n] x) => (int64[1, k] y) { y = NonZero (x) }""", {"x": np.ones(1 << 19, np.float32)}),
    "outputs of turns put together": ("""<ir_version: 8, opset_import: ["" : 18]>
        g (float[n] x) => (float[m, n] y) <int64 m = {64}, bool c = {1}> {
          y = Loop (m, c) <body = b (int64 i, bool go) => (bool on, float[n] t) { on = Identity (go)
            t = Identity (x) }>
        }""", {"x": np.ones(1 << 16, np.float32)}),
}.values(), ids=["nonzero", "loop"])
def test_max_bytes_of_what_kernels_allocate(text, feeds):
    with pytest.raises(sx.LimitError):
        sx.InferenceSession(proto(text), max_bytes=1 << 20).run(None, feeds)


@pytest.mark.parametrize("limit", ["max_loop_iterations", "max_bytes"])
def test_limits_below_zero_are_refused(limit):
    with pytest.raises(sx.InputError):
        sx.InferenceSession(double_model(), **{limit: -1})


def test_cancelling_a_long_loop():
    session = sx.InferenceSession(proto(FOREVER))
    token = sx.CancelToken()
    timer = threading.Timer(0.2, token.cancel)
    begin = time.monotonic()
    timer.start()
    with pytest.raises(sx.CancelledError):
        session.run(None, X1, cancel=token)
    assert time.monotonic() - begin < 10
    with pytest.raises(sx.CancelledError):  # a token stays cancelled
        session.run(None, X1, cancel=token)


def test_a_session_survives_failed_runs():
    session = sx.InferenceSession(mixed_model())
    x = np.random.default_rng(1).standard_normal((2, 2, 12), np.float32)
    good = {"x": x, "turns": np.array(3, np.int64)}
    want = session.run(None, good)
    for bad in ({"x": x}, {"x": x[:, :, :2], "turns": good["turns"]}, {"x": x.astype(np.float64), "turns": good["turns"]}):
        with pytest.raises(sx.InputError):
            session.run(None, bad)
        for got, expected in zip(session.run(None, good), want):
            np.testing.assert_array_equal(got, expected)


def test_threads_of_one_session_give_the_same_answers():
    session = sx.InferenceSession(mixed_model())
    rng = np.random.default_rng(2)
    feeds = [{"x": rng.standard_normal((1 + i % 3, 2, 12), np.float32), "turns": np.array(i % 5, np.int64)} for i in range(8)]
    want = [session.run(None, f) for f in feeds]
    failures = []

    def work(k):
        try:
            for turn in range(50):
                i = (k + turn) % 8
                for got, expected in zip(session.run(None, feeds[i]), want[i]):
                    np.testing.assert_array_equal(got, expected)
        except BaseException as e:
            failures.append(e)

    threads = [threading.Thread(target=work, args=(k,)) for k in range(8)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert not failures, failures[0]


def test_sessions_of_one_model_share_its_weights():
    count = 32 << 20  # 128 MiB
    model = sx.Model(weights_model(count))
    first = sx.InferenceSession(model)
    before = rss()
    others = [sx.InferenceSession(model) for _ in range(4)]
    assert rss() - before < 64 << 20
    assert all(len(s.get_inputs()) == 1 for s in [first, *others])


def test_trim_gives_memory_back():
    text = """<ir_version: 8, opset_import: ["" : 18]>
        g (float[n] x) => (float s) { a = Mul (x, x)
          b = Exp (a)
          c = Transpose (b)
          s = ReduceMax <keepdims = 0> (c) }"""
    session = sx.InferenceSession(proto(text))
    session.run(None, {"x": np.zeros(8, np.float32)})
    x = np.zeros(64 << 20, np.float32)  # 256 MiB
    before = rss()
    session.run(None, {"x": x})
    held = rss() - before - x.nbytes
    session.trim()
    assert rss() - before - x.nbytes < max(held, 0) / 2 + (32 << 20)


def test_output_buffers():
    session = sx.InferenceSession(double_model())
    x = np.arange(6, dtype=np.float32).reshape(2, 3)
    y = np.full((2, 3), -1, np.float32)
    results = session.run(None, {"x": x}, output_buffers={"y": y})
    assert results[0] is y
    np.testing.assert_array_equal(y, x + x)
    np.testing.assert_array_equal(results[1], (x + x).sum(1))
    only = np.empty(2, np.float32)
    assert session.run(["s"], {"x": x}, output_buffers={"s": only})[0] is only
    np.testing.assert_array_equal(only, (x + x).sum(1))


@pytest.mark.parametrize("buffers", [
    {"y": np.empty((2, 4), np.float32)}, {"y": np.empty((2, 3), np.float64)}, {"y": np.empty(6, np.float32)},
    {"z": np.empty((2, 3), np.float32)}, {"y": np.empty((3, 2), np.float32).T}, {"x": np.empty((2, 3), np.float32)}],
    ids=["dims", "dtype", "rank", "unknown", "strided", "input"])
def test_wrong_output_buffers_are_refused(buffers):
    session = sx.InferenceSession(double_model())
    with pytest.raises(sx.InputError, match="output buffer"):
        session.run(None, {"x": np.ones((2, 3), np.float32)}, output_buffers=buffers)


def test_warm_up():
    session = sx.InferenceSession(double_model())
    session.warm_up([{"x": (2, 3)}, {"x": (4, 5)}])
    for bad in ([{"x": (2,)}], [{"z": (2, 3)}], [{}], [{"x": (-1, 2)}]):
        with pytest.raises(sx.Error):
            session.warm_up(bad)
    np.testing.assert_array_equal(session.run(None, {"x": np.ones((4, 5), np.float32)})[1], [10] * 4)


def test_free_dimensions():
    session = sx.InferenceSession(double_model(), free_dimensions={"a": 2})
    assert session.get_inputs()[0].shape == [2, "b"]
    session.run(None, {"x": np.ones((2, 7), np.float32)})
    with pytest.raises(sx.InputError, match="expected 2, got 3"):
        session.run(None, {"x": np.ones((3, 7), np.float32)})
    for bad in ({"nothing": 2}, {"a": -2}):
        with pytest.raises(sx.InputError, match="free dimension"):
            sx.InferenceSession(double_model(), free_dimensions=bad)


def test_profile_has_an_event_for_each_kernel():
    # Identity is a view: nothing runs.
    session = sx.InferenceSession(mixed_model(), profile=True, optimize="none")
    session.run(None, {"x": np.ones((1, 2, 12), np.float32), "turns": np.array(3, np.int64)})
    names = [e["name"] for e in session.profile()["traceEvents"] if e["ph"] == "X"]
    assert {n: names.count(n) for n in ("Conv", "Transpose", "LSTM", "Loop", "Tanh", "Add", "Identity")} == {
        "Conv": 1, "Transpose": 1, "LSTM": 1, "Loop": 1, "Tanh": 3, "Add": 3, "Identity": 0}
    assert session.profile()["traceEvents"] == []
    with pytest.raises(sx.InputError, match="profile"):
        sx.InferenceSession(mixed_model()).profile()


FORK = """
import os, signal, sys
import numpy as np
import sardonyx as sx

model = open(sys.argv[1], "rb").read()
feeds = {"x": np.ones((512, 512), np.float32)}
session = sx.InferenceSession(model)
session.run(None, feeds)
for again in (lambda: session.run(None, feeds), lambda: sx.InferenceSession(model).run(None, feeds)):
    pid = os.fork()
    if pid == 0:
        signal.alarm(20)
        try:
            again()
        except sx.ProviderError as error:
            os._exit(7 if "fork" in str(error) else 8)
        os._exit(9)
    status = os.waitpid(pid, 0)[1]
    assert os.waitstatus_to_exitcode(status) == 7, status
session.run(None, feeds)
"""


def test_a_forked_child_is_refused_instead_of_waiting_forever(tmp_path):
    (tmp_path / "m.onnx").write_bytes(double_model())
    result = subprocess.run([sys.executable, "-c", FORK, tmp_path / "m.onnx"], capture_output=True, text=True, timeout=120,
                            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)})
    assert result.returncode == 0, result.stderr


@pytest.mark.parametrize("command", [[sys.executable, "-c", "import sardonyx"],
                                     [str(pathlib.Path(os.environ.get("SARDONYX_BUILD", "build")) / "sardonyx"), "--version"]],
                         ids=["python", "program"])
def test_waiting_threads_do_not_spin_for_long(command):
    """libgomp says what it read when it started."""
    environment = {k: v for k, v in os.environ.items() if k not in ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT")}
    environment.update(OMP_DISPLAY_ENV="verbose", PYTHONPATH=os.pathsep.join(sys.path))
    shown = subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stderr
    assert int(re.search(r"GOMP_SPINCOUNT = '(\d+)'", shown)[1]) <= 10_000


def test_results_do_not_share_memory_of_the_session():
    """A loop of no turns, and a branch, hand out what they read."""
    text = """<ir_version: 8, opset_import: ["" : 18]>
        g (float[2] x, int64 turns, bool c) => (float[2] y, float[2] z, seq(float[2]) s) {
          a = Neg (x)
          y = Loop (turns, , a) <body = b (int64 i, bool go, float[2] v) => (bool on, float[2] w) {
            on = Identity (go)
            w = Exp (v)
          }>
          z = If (c) <then_branch = t () => (float[2] p) { p = Identity (a) }, else_branch = e () => (float[2] q) { q = Exp (a) }>
          d = Abs (x)
          s = SequenceConstruct (a, d)
        }"""
    session = sx.InferenceSession(proto(text))
    feeds = {"turns": np.array(0, np.int64), "c": np.array(True)}
    first = session.run(None, {**feeds, "x": np.array([1, 2], np.float32)})
    session.run(None, {**feeds, "x": np.array([5, 6], np.float32)})
    for value in (first[0], first[1], first[2][0]):
        np.testing.assert_array_equal(value, [-1, -2])
    np.testing.assert_array_equal(first[2][1], [1, 2])


def test_memory_goes_back_after_one_large_input():
    text = """<ir_version: 8, opset_import: ["" : 18]>
        g (float[n] x) => (float s) { a = Cos (x)
          b = Exp (a)
          c = Mul (a, b)
          s = ReduceMax <keepdims = 0> (c) }"""
    session = sx.InferenceSession(proto(text))
    small = {"x": np.zeros(8, np.float32)}
    session.run(None, small)
    before = rss()
    session.run(None, {"x": np.zeros(32 << 20, np.float32)})
    for _ in range(200):
        session.run(None, small)
    assert rss() - before < 64 << 20


def test_a_second_output_without_the_first():
    text = """<ir_version: 8, opset_import: ["" : 18]>
        g (float[1, 1, 2, 2] x) => (float[a, b, c, d] y, int64[a, b, c, d] k) { y, k = MaxPool <kernel_shape = [2, 2]> (x) }"""
    session = sx.InferenceSession(proto(text))
    x = np.array([1, 2, 4, 3], np.float32).reshape(1, 1, 2, 2)
    assert [v.item() for v in session.run(["k"], {"x": x})] == [2]
    assert [v.item() for v in session.run(["k", "y"], {"x": x})] == [2, 4]


def test_errors_of_a_call_name_the_file(tmp_path):
    path = tmp_path / "doubling.onnx"
    path.write_bytes(double_model())
    session = sx.InferenceSession(str(path))
    x = np.ones((2, 3), np.float32)
    calls = [lambda: session.run(None, {"z": x}), lambda: session.run(None, {}), lambda: session.run(["none"], {"x": x}),
             lambda: session.run(None, {"x": x.astype(np.int64)}), lambda: session.warm_up([{"z": [1]}]),
             lambda: session.run(None, {"x": x}, output_buffers={"z": x})]
    for call in calls:
        with pytest.raises(sx.InputError) as caught:
            call()
        assert caught.value.file == str(path) and str(caught.value).startswith(f"{path}: ")
    with pytest.raises(sx.InputError) as caught:
        sx.InferenceSession(double_model()).run(None, {})
    assert caught.value.file == ""
