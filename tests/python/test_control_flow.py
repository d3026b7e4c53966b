"""If, Loop, Scan and SequenceMap."""

import threading
import time

import numpy as np
import onnx
import onnx.parser
import pytest

import sardonyx as sx
from node_models import assert_same

HEAD = '<ir_version: 10, opset_import: ["" : 21]>\n'


def session(text, **options):
    return sx.InferenceSession(onnx.parser.parse_model(HEAD + text).SerializeToString(), **options)


def run(text, **inputs):
    return session(text).run(None, inputs)


def i64(values):
    return np.array(values, dtype=np.int64)


X = np.arange(6, dtype=np.float32).reshape(2, 3)

BRANCHES = """
g (bool c, float[n, 3] x) => (float[p, q] y, z) {
  two = Constant <value: tensor = float {2}> ()
  y, z = If (c) <
    then_branch = then () => (float[n, 3] a, int64 b) { a = Add (x, two)  b = Constant <value_int = 1> () },
    else_branch = other () => (float[3, n] a, int64 b) { t = Transpose (x)  a = Mul (t, two)  b = Constant <value_int = 2> () }>
}
"""


def test_if():
    for c in (True, False, np.array([True]), np.array([[False]])):
        y, z = run(
            BRANCHES.replace("bool c", "bool[?] c" if np.ndim(c) == 1 else "bool[?,?] c" if np.ndim(c) else "bool c"),
            c=np.array(c),
            x=X,
        )
        assert_same(y, X + 2 if np.all(c) else X.T * 2)
        assert z == (1 if np.all(c) else 2)


def test_if_condition_must_be_one_bool():
    with pytest.raises(sx.Error):
        run(BRANCHES.replace("bool c", "bool[k] c"), c=np.array([True, True]), x=X)


def test_if_gives_back_what_it_captures():
    text = """g (bool c, float[2, 3] x, float[2, 3] w) => (float[2, 3] y) {
      y = If (c) <then_branch = a () => (float[2, 3] p) { p = Identity (x) }, else_branch = b () => (float[2, 3] q) { q = Identity (w) }>
    }"""
    y = run(text, c=np.array(True), x=X, w=X + 1)[0]
    assert_same(y, X)
    y[...] = 9
    assert X[0, 0] == 0


LOOP = """
g (int64 m, bool c, float[3] x) => (float[3] last, turns, float[k, 3] all, evens) {
  zero = Constant <value_int = 0> ()
  limit = Constant <value: tensor = float {20}> ()
  last, turns, all, evens = Loop (M, C, x, zero) <
    body = step (int64 i, bool go, float[3] s, int64 n) => (bool more, float[3] t, int64 k, float[3] scan, int64 even) {
      one = Constant <value_int = 1> ()
      two = Constant <value_int = 2> ()
      t = Add (s, x)
      total = ReduceSum <keepdims = 0> (t)
      more = Less (total, limit)
      k = Add (n, one)
      scan = Identity (s)
      even = Mul (i, two)
    }>
}
"""


@pytest.mark.parametrize("m", [None, 0, 1, 4, -3, 100])
@pytest.mark.parametrize("c", [None, True, False])
def test_loop(m, c):
    x = np.array([1, 2, 0.5], np.float32)
    text = LOOP.replace("(M, C,", f"({'m' if m is not None else ''}, {'c' if c is not None else ''},")
    state, turn, scans, go = x, 0, [], c is not False
    while go and (m is None or turn < m):
        scans.append(state)
        state = state + x
        # Without a condition the body's is ignored, unless nothing else can end the loop.
        go = True if c is None and m is not None else state.sum() < 20
        turn += 1
    last, turns, every, evens = run(text, m=i64(0 if m is None else m), c=np.array(bool(c)), x=x)
    assert_same(last, state)
    assert turns == turn
    assert_same(every, np.array(scans, np.float32).reshape(-1, 3))
    assert_same(evens, 2 * i64(range(turn)))


def test_loop_without_turns_has_the_type_of_the_body():
    text = """g (int64 m, float[2, n] x) => (out) {
      go = Constant <value: tensor = bool {1}> ()
      out = Loop (m, go) <body = b (int64 i, bool c) => (bool d, double[2, 5] o) {
        d = Identity (c)  s = Constant <value_ints = [2, 5]> ()  o = ConstantOfShape <value: tensor = double[1] {3}> (s) }>
    }"""
    assert_same(run(text, m=i64(0), x=X)[0], np.zeros((0, 2, 5)))
    assert_same(run(text, m=i64(2), x=X)[0], np.full((2, 2, 5), 3.0))


def test_loop_carries_a_sequence():
    text = """g (int64 m, float[2] x) => (float[k] y, int64 n) {
      none = SequenceEmpty ()
      got = Loop (m, , none) <body = b (int64 i, bool c, seq(float[?]) s) => (bool d, seq(float[?]) t) {
        d = Identity (c)  f = Cast <to = 1> (i)  v = Add (x, f)  t = SequenceInsert (s, v) }>
      n = SequenceLength (got)
      y = ConcatFromSequence <axis = 0> (got)
    }"""
    y, n = run(text, m=i64(3), x=np.array([1, 2], np.float32))
    assert y.tolist() == [1, 2, 2, 3, 3, 4] and n == 3


def test_loop_carries_a_growing_tensor():
    text = """g (int64 m, float[k] x) => (float[l] y) {
      y = Loop (m, , x) <body = b (int64 i, bool c, float[p] s) => (bool d, float[q] t) { d = Identity (c)  t = Concat <axis = 0> (s, x) }>
    }"""
    s = session(text)
    for m in (0, 1, 5):
        assert s.run(None, {"m": i64(m), "x": np.array([7, 8], np.float32)})[0].tolist() == [7, 8] * (m + 1)


def test_nested_loops():
    text = """g (int64 m, int64 n) => (int64 total) {
      zero = Constant <value_int = 0> ()
      total = Loop (m, , zero) <body = outer (int64 i, bool c, int64 s) => (bool d, int64 t) {
        d = Identity (c)
        t = Loop (n, , s) <body = inner (int64 j, bool e, int64 u) => (bool f, int64 v) {
          f = Identity (e)  p = Mul (i, j)  v = Add (u, p) }>
      }>
    }"""
    assert run(text, m=i64(4), n=i64(5))[0] == sum(i * j for i in range(4) for j in range(5))


def test_scan_outputs_must_agree():
    text = """g (int64 m) => (y) {
      go = Constant <value: tensor = bool {1}> ()
      y = Loop (m, go) <body = b (int64 i, bool c) => (bool d, int64[k] o) {
        d = Identity (c)  z = Constant <value_int = 0> ()  one = Constant <value_int = 1> ()  o = Range (z, i, one) }>
    }"""
    with pytest.raises(sx.Error, match="same in all turns"):
        run(text, m=i64(3))


def test_endless_loop_can_be_cancelled():
    text = """g (int64 x) => (int64 y) {
      y = Loop (, , x) <body = b (int64 i, bool c, int64 s) => (bool d, int64 t) { d = Identity (c)  t = Add (s, i) }>
    }"""
    token = sx.CancelToken()
    threading.Timer(0.3, token.cancel).start()
    begin = time.monotonic()
    with pytest.raises(sx.CancelledError):
        session(text).run(None, {"x": i64(0)}, cancel=token)
    assert time.monotonic() - begin < 20


def scan_by_hand(state, x, w, axes, directions, out_axes, out_directions):
    n = x.shape[axes[0]]
    sums, pairs = [], []
    for t in range(n):
        a = np.take(x, n - 1 - t if directions[0] else t, axes[0])
        b = np.take(w, n - 1 - t if directions[1] else t, axes[1])
        state = state + a * b
        sums.append(state)
        pairs.append(a - b)
    for k, parts in enumerate((sums, pairs)):
        if out_directions[k]:
            parts.reverse()
    return state, np.stack(sums, out_axes[0]), np.stack(pairs, out_axes[1])


@pytest.mark.parametrize("seed", range(30))
def test_scan(seed):
    rng = np.random.default_rng(seed)
    n, shape = int(rng.integers(1, 6)), tuple(int(d) for d in rng.integers(1, 5, 2))
    axes = [int(a) for a in rng.integers(-3, 3, 2)]
    directions, out_directions = [int(d) for d in rng.integers(0, 2, 2)], [int(d) for d in rng.integers(0, 2, 2)]
    out_axes = [int(a) for a in rng.integers(-3, 3, 2)]
    state = rng.normal(size=shape).astype(np.float32)
    x, w = (np.moveaxis(rng.normal(size=(n, *shape)).astype(np.float32), 0, a) for a in axes)
    text = f"""g (float[p, q] s, float[a, b, c] x, float[d, e, f] w) => (last, sums, pairs) {{
      last, sums, pairs = Scan <num_scan_inputs = 2, scan_input_axes = {axes}, scan_input_directions = {directions},
          scan_output_axes = {out_axes}, scan_output_directions = {out_directions},
        body = b (float[p, q] s0, float[p, q] u, float[p, q] v) => (float[p, q] s1, float[p, q] o0, float[p, q] o1) {{
          m = Mul (u, v)  s1 = Add (s0, m)  o0 = Identity (s1)  o1 = Sub (u, v) }}> (s, x, w)
    }}"""
    want = scan_by_hand(state, x, w, axes, directions, out_axes, out_directions)
    for g, e in zip(run(text, s=state, x=np.ascontiguousarray(x), w=np.ascontiguousarray(w)), want, strict=True):
        assert_same(g, e)


SCAN = """g (float[2] s, float[n, 2] x) => (float[2] last, y) {
  last, y = Scan <num_scan_inputs = 1, body = b (float[2] t, float[2] e) => (float[2] u, float[2] o) { u = Add (t, e)  o = Identity (u) }> (s, x)
}"""


def test_scan_of_nothing():
    last, y = run(SCAN, s=np.ones(2, np.float32), x=np.zeros((0, 2), np.float32))
    assert_same(last, np.ones(2, np.float32))
    assert_same(y, np.zeros((0, 2), np.float32))


@pytest.mark.parametrize(
    "bad",
    [
        "scan_input_axes = [2]",
        "scan_input_axes = [0, 0]",
        "scan_input_directions = [2]",
        "scan_output_axes = [3]",
        "scan_output_directions = [-1]",
        "num_scan_inputs = 3",
        "num_scan_inputs = 0",
    ],
)
def test_scan_errors(bad):
    text = SCAN.replace("num_scan_inputs = 1", bad if bad.startswith("num") else "num_scan_inputs = 1, " + bad)
    with pytest.raises(sx.Error):
        run(text, s=np.ones(2, np.float32), x=np.zeros((3, 2), np.float32))


def test_scan_lengths_must_agree():
    text = """g (float[n] x, float[m] w) => (y) {
      y = Scan <num_scan_inputs = 2, body = b (float u, float v) => (float o) { o = Add (u, v) }> (x, w)
    }"""
    assert run(text, x=np.ones(3, np.float32), w=np.ones(3, np.float32))[0].tolist() == [2, 2, 2]
    with pytest.raises(sx.Error):
        run(text, x=np.ones(3, np.float32), w=np.ones(4, np.float32))


def test_scan_of_strings():
    text = """g (string[a, b] x) => (y) {
      y = Scan <num_scan_inputs = 1, scan_input_axes = [1], body = b (string[a] u) => (string[a] o) { o = StringConcat (u, u) }> (x)
    }"""
    x = np.array([["a", "b"], ["c", "d"], ["e", "f"]], object)
    assert run(text, x=x)[0].tolist() == [["aa", "cc", "ee"], ["bb", "dd", "ff"]]


def test_sequence_map():
    text = """g (seq(float[?]) s, seq(float[?]) t, float[1] x) => (seq(float[?]) sums, seq(int64[1]) shapes) {
      sums, shapes = SequenceMap <body = b (float[?] a, float[?] c, float[1] y) => (float[?] o, int64[1] n) {
        p = Add (a, c)  o = Add (p, y)  n = Shape (a) }> (s, t, x)
    }"""
    s, t = [np.ones(2, np.float32), np.zeros(3, np.float32)], [np.full(2, 2, np.float32), np.full(3, 5, np.float32)]
    sums, shapes = run(text, s=s, t=t, x=np.array([10], np.float32))
    assert [v.tolist() for v in sums] == [[13, 13], [15, 15, 15]] and [v.tolist() for v in shapes] == [[2], [3]]
    assert run(text, s=[], t=[], x=np.zeros(1, np.float32)) == [[], []]
    with pytest.raises(sx.Error):
        run(text, s=s, t=t[:1], x=np.zeros(1, np.float32))


def test_sessions_run_bodies_from_several_threads():
    s = session(LOOP.replace("(M, C,", "(m, c,"))
    results = [None] * 6

    def work(k):
        results[k] = [
            s.run(None, {"m": i64(k), "c": np.array(True), "x": np.full(3, 0.1, np.float32)})[1] for _ in range(20)
        ]

    threads = [threading.Thread(target=work, args=(k,)) for k in range(6)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert all(int(turns) == k for k, many in enumerate(results) for turns in many)
