"""MatMul, Gemm and Einsum against numpy, onnxruntime and onnx.reference."""

import ml_dtypes
import numpy as np
import pytest

import oracle
import sardonyx as sx
from oracle import check, model, ort, ours, reference

INTEGERS = [np.int32, np.int64, np.uint32, np.uint64]


def numbers(rng, dims, dtype):
    if np.dtype(dtype).kind in "iu":
        info = np.iinfo(dtype)
        return rng.integers(info.min, info.max, dims, dtype=dtype, endpoint=True)
    return rng.standard_normal(dims).astype(dtype)


def random_dims(seed):
    rng = np.random.default_rng(seed)
    m, k, n = (int(v) for v in rng.choice([1, 2, 3, 7, 16, 33, 70], 3))
    rank = int(rng.integers(0, 4))
    batch = [int(v) for v in rng.integers(1, 5, rank)]
    a_batch, b_batch = ([1 if rng.random() < 0.3 else d for d in batch][int(rng.integers(0, rank + 1)) if rng.random() < 0.4 else 0:] for _ in "ab")
    a, b = [*a_batch, m, k], [*b_batch, k, n]
    if rng.random() < 0.1:
        a = [k]
    if rng.random() < 0.1:
        b = [k]
    return rng, a, b


@pytest.mark.parametrize("seed", range(200))
def test_matmul(seed):
    rng, a, b = random_dims(seed)
    feeds = dict(a=numbers(rng, a, np.float32), b=numbers(rng, b, np.float32))
    check("MatMul", feeds, [np.matmul(*(v.astype(np.float64) for v in feeds.values())).astype(np.float32)],
          constants=("b",) if seed % 2 else ())


@pytest.mark.parametrize("dtype", INTEGERS + [np.float64])
@pytest.mark.parametrize("seed", range(300, 325))
def test_matmul_exact(seed, dtype):
    rng, a, b = random_dims(seed)
    feeds = dict(a=numbers(rng, a, dtype), b=numbers(rng, b, dtype))
    check("MatMul", feeds, [np.matmul(*feeds.values())])


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16])
@pytest.mark.parametrize("seed", range(400, 425))
def test_matmul_halves(seed, dtype):
    rng, a, b = random_dims(seed)
    feeds = dict(a=numbers(rng, a, dtype), b=numbers(rng, b, dtype))
    check("MatMul", feeds, [np.matmul(*(v.astype(np.float64) for v in feeds.values())).astype(dtype)],
          constants=("b",) if seed % 2 else ())


@pytest.mark.parametrize("m,k,n", [(300, 500, 200), (1, 700, 900), (129, 1025, 1), (5, 2000, 77)])
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int64])
def test_matmul_large(m, k, n, dtype):
    rng = np.random.default_rng(m)
    feeds = dict(a=numbers(rng, [m, k], dtype), b=numbers(rng, [k, n], dtype))
    want = feeds["a"] @ feeds["b"] if dtype == np.int64 else (feeds["a"].astype(np.float64) @ feeds["b"].astype(np.float64)).astype(dtype)
    check("MatMul", feeds, [want])


@pytest.mark.parametrize("a,b", [([0, 3], [3, 4]), ([2, 0], [0, 4]), ([2, 3], [3, 0]), ([0, 2, 3], [3, 4]), ([2, 3], [0, 3, 4]),
                                 ([0], [0]), ([0], [0, 4]), ([5, 2, 0], [5, 0, 3]), ([0, 1, 2, 3], [4, 3, 2])])
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.float16, ml_dtypes.bfloat16, np.int32])
def test_matmul_empty(a, b, dtype):
    feeds = dict(a=np.ones(a, dtype), b=np.ones(b, dtype))
    check("MatMul", feeds, [np.matmul(feeds["a"].astype(np.float64), feeds["b"].astype(np.float64)).astype(dtype)])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("size", [4, 40])
def test_nan_and_infinity_stay_in_their_rows(dtype, size):
    a, b = np.ones([size, size], dtype), np.ones([size, size], dtype)
    a[1, 2], a[3, 0], b[0, 1] = np.nan, np.inf, -np.inf
    with np.errstate(all="ignore"):
        # Written out: a BLAS may spread a NaN.
        want = (a[:, :, None] * b[None]).sum(1)
    check("MatMul", dict(a=a, b=b), [want])


@pytest.mark.parametrize("a,b", [([2, 3], [4, 5]), ([2, 2, 3], [3, 3, 4]), ([3], [4]), ([], [3]), ([2, 3], [])])
def test_matmul_bad_dims(a, b):
    feeds = dict(a=np.ones(a, np.float32), b=np.ones(b, np.float32))
    with pytest.raises((sx.InputError, sx.ModelError)):
        ours(model("MatMul", feeds), feeds)


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.float16, ml_dtypes.bfloat16, np.int32, np.int64])
@pytest.mark.parametrize("seed", range(60))
def test_gemm(seed, dtype):
    rng = np.random.default_rng(seed)
    m, k, n = (int(v) for v in rng.choice([1, 3, 8, 65], 3))
    ta, tb = (int(v) for v in rng.integers(0, 2, 2))
    c = [None, [], [1], [n], [1, n], [m, 1], [m, n]][int(rng.integers(0, 7))]
    alpha, beta = [(1.0, 1.0), (1.0, 1.0), (0.5, 2.0), (1.0, 0.0), (-1.5, 0.25)][int(rng.integers(0, 5))]
    if np.dtype(dtype).kind == "i":
        alpha, beta = float(int(alpha * 2)) or 1.0, float(int(beta * 4))
        make = lambda dims: rng.integers(-9, 9, dims).astype(dtype)
    else:
        make = lambda dims: numbers(rng, dims, dtype)
    feeds = dict(a=make([k, m] if ta else [m, k]), b=make([n, k] if tb else [k, n]), c=None if c is None else make(c))
    wide = {name: None if v is None else v.astype(np.float64) for name, v in feeds.items()}
    want = alpha * ((wide["a"].T if ta else wide["a"]) @ (wide["b"].T if tb else wide["b"]))
    if c is not None:
        want = want + beta * wide["c"]
    check("Gemm", feeds, [want.astype(dtype)], constants=("b", "c") if seed % 2 else (), transA=ta, transB=tb, alpha=alpha, beta=beta)


@pytest.mark.parametrize("a,b,c", [([0, 3], [3, 4], [4]), ([2, 0], [0, 4], [4]), ([2, 3], [3, 0], None)])
@pytest.mark.parametrize("dtype", [np.float32, np.float16, np.int32])
def test_gemm_empty(a, b, c, dtype):
    feeds = dict(a=np.ones(a, dtype), b=np.ones(b, dtype), c=None if c is None else np.arange(c[0]).astype(dtype))
    want = np.matmul(feeds["a"].astype(np.float64), feeds["b"].astype(np.float64))
    check("Gemm", feeds, [(want if c is None else want + feeds["c"].astype(np.float64)).astype(dtype)])


@pytest.mark.parametrize("a,b,c", [([2, 3], [4, 5], None), ([2, 3], [3, 4], [5]), ([2, 3], [3, 4], [3, 4]), ([2, 3, 4], [4, 5], None),
                                   ([2, 3], [3, 4], [1, 1, 4])])
def test_gemm_bad_dims(a, b, c):
    feeds = dict(a=np.ones(a, np.float32), b=np.ones(b, np.float32), c=None if c is None else np.ones(c, np.float32))
    with pytest.raises((sx.InputError, sx.ModelError)):
        ours(model("Gemm", feeds), oracle.variable(feeds))


EQUATIONS = [
    ("ij,jk->ik", ((3, 4), (4, 5))), ("ij,jk", ((3, 4), (4, 5))), ("ij,kj->ik", ((70, 33), (20, 33))), ("ji,jk->ki", ((30, 40), (30, 21))),
    ("bij,bjk->bik", ((2, 30, 4), (2, 4, 50))), ("bhqd,bhkd->bhqk", ((2, 3, 40, 8), (2, 3, 50, 8))),
    ("bqhd,bkhd->bhqk", ((2, 40, 3, 8), (2, 50, 3, 8))), ("bhqk,bkhd->bqhd", ((2, 3, 40, 50), (2, 50, 3, 8))),
    ("...ij,...jk->...ik", ((2, 1, 3, 4), (1, 5, 4, 6))), ("...ij,jk", ((2, 3, 4), (4, 6))), ("i...,...j->...ij", ((3, 2), (2, 4))),
    ("ii->i", ((4, 4),)), ("ii", ((4, 4),)), ("ii->", ((4, 4),)), ("iij->ij", ((3, 3, 5),)), ("iij,j->i", ((3, 3, 5), (5,))),
    ("iji,ji->j", ((4, 5, 4), (5, 4))), ("ij->ji", ((30, 50),)), ("abcd->dbca", ((3, 4, 5, 6),)), ("ij->", ((3, 4),)), ("ij->i", ((300, 40),)),
    ("ij->j", ((300, 40),)), ("i,j->ij", ((30,), (40,))), ("i,i->", ((300,), (300,))), ("i,i", ((30,), (30,))), ("i,i->i", ((30,), (30,))),
    ("bi,b->bi", ((5, 30), (5,))), ("bij,bj->bi", ((4, 30, 20), (4, 20))), ("bi,bi->b", ((5, 300), (5, 300))), (",->", ((), ())),
    (",i->i", ((), (4,))), ("->", ((),)), ("ij,jk,kl->il", ((3, 4), (4, 5), (5, 6))), ("ij,jk,kl,lm->im", ((3, 4), (4, 5), (5, 6), (6, 7))),
    ("i,j,k->kji", ((3,), (4,), (5,))), ("ij,ij,ij->ij", ((3, 4),) * 3), ("ij,ik,il->jkl", ((6, 2), (6, 3), (6, 4))),
    ("aB,Bc->ca", ((3, 4), (4, 5))), ("Ba", ((3, 4),)), ("ij,j->ij", ((3, 4), (1,))), ("bij,bjk->bik", ((1, 3, 4), (2, 4, 5))),
    ("ab,cd->", ((3, 4), (5, 6))), ("ab,cd->ac", ((3, 4), (5, 6))), ("abc,cd->abd", ((3, 4, 5), (5, 6))), ("abc,cd->dab", ((3, 4, 5), (5, 6))),
    (" i j , j k -> i k ", ((3, 4), (4, 5))), ("...->...", ((3, 4),)), ("...i->...", ((3, 4),)), ("...,...", ((3, 4), (3, 4))),
    ("...,...->...", ((2, 3, 4), (1, 1, 4))), ("nctkv,kvw->nctw", ((2, 3, 4, 3, 5), (3, 5, 5))), ("ij,jk->ik", ((3, 1), (4, 5))),
    ("ij,jk->ik", ((0, 4), (4, 5))), ("ij,jk->ik", ((3, 0), (0, 5))), ("i,i->", ((0,), (0,))), ("ijkl,jl->ik", ((3, 4, 5, 6), (4, 6))),
]


@pytest.mark.parametrize("equation,dims", EQUATIONS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.float16, ml_dtypes.bfloat16, np.int8, np.uint16, np.int32, np.uint64])
def test_einsum(equation, dims, dtype):
    rng = np.random.default_rng(len(equation))
    # Products that no integer type can hold are left out by 8-bit values.
    feeds = {f"x{i}": (rng.integers(-3, 4, d).astype(dtype) if np.dtype(dtype).kind == "i" else
                       rng.integers(0, 4, d).astype(dtype) if np.dtype(dtype).kind == "u" else
                       np.asarray(rng.standard_normal(d)).astype(dtype)) for i, d in enumerate(dims)}
    wide = np.int64 if np.dtype(dtype).kind in "iu" else np.float64
    want = np.asarray(np.einsum(equation.replace(" ", ""), *(v.astype(wide) for v in feeds.values()))).astype(dtype)
    check("Einsum", feeds, [want], opset=28, equation=equation)


def test_einsum_integers_wrap():
    a, b = np.array([100, 100], np.int8), np.array([2, 3], np.int8)
    got = ours(model("Einsum", dict(a=a, b=b), opset=28, equation="i,i->i"), dict(a=a, b=b))[0]
    np.testing.assert_array_equal(got, a * b)


@pytest.mark.parametrize("seed", range(150))
def test_einsum_random(seed):
    """Random terms of up to four operands, against numpy in f64."""
    rng = np.random.default_rng(seed)
    sizes = dict(zip("abcdefg", (int(v) for v in rng.integers(1, 6, 7))))
    count = int(rng.integers(1, 5))
    terms = ["".join(rng.choice(list(sizes), int(rng.integers(0, 5)))) for _ in range(count)]
    letters = sorted(set("".join(terms)))
    output = "".join(rng.permutation([l for l in letters if rng.random() < 0.5]))
    equation = ",".join(terms) + "->" + output if rng.random() < 0.8 else ",".join(terms)
    feeds = {f"x{i}": np.asarray(rng.standard_normal([sizes[l] for l in t])).astype(np.float32) for i, t in enumerate(terms)}
    want = np.asarray(np.einsum(equation, *(v.astype(np.float64) for v in feeds.values()))).astype(np.float32)
    check("Einsum", feeds, [want], opset=28, equation=equation)


@pytest.mark.parametrize("seed", range(30))
def test_einsum_ort(seed):
    equation, dims = EQUATIONS[seed]
    if not equation.replace(" ", "").strip("->,"):
        pytest.skip("not taken by onnxruntime")
    rng = np.random.default_rng(seed)
    feeds = {f"x{i}": np.asarray(rng.standard_normal(d)).astype(np.float32) for i, d in enumerate(dims)}
    check("Einsum", feeds, ort, opset=12, equation=equation)


@pytest.mark.parametrize("equation,dims", [
    ("ij,jk->il", ((3, 4), (4, 5))), ("ij->ii", ((3, 4),)), ("ij,jk", ((3, 4),)), ("ij", ((3, 4), (4, 5))), ("ijk->i", ((3, 4),)),
    ("ij,jk->ik", ((3, 4), (5, 6))), ("i1->i", ((3, 4),)), ("i.j->i", ((3, 4),)), ("......->i", ((3, 4),)), ("i->j->i", ((3,),)),
    ("...ijk->i", ((3, 4),)), ("ii->i", ((3, 4),))])
def test_einsum_bad(equation, dims):
    feeds = {f"x{i}": np.ones(d, np.float32) for i, d in enumerate(dims)}
    with pytest.raises((sx.InputError, sx.ModelError)):
        ours(model("Einsum", feeds, opset=28, equation=equation), feeds)
