"""Conversions between the element types, through Cast, against numpy and ml_dtypes: every code of the narrow
floats, and floats at and around every rounding boundary."""

import ml_dtypes
import numpy as np
import pytest

from single_node import TensorProto, onnx_type, run_one

SMALL = {
    "float8_e4m3fn": 256,
    "float8_e4m3fnuz": 256,
    "float8_e5m2": 256,
    "float8_e5m2fnuz": 256,
    "float6_e2m3fn": 64,
    "float6_e3m2fn": 64,
    "float4_e2m1fn": 16,
}
INTS = [
    np.int8,
    np.int16,
    np.int32,
    np.int64,
    np.uint8,
    np.uint16,
    np.uint32,
    np.uint64,
    ml_dtypes.int4,
    ml_dtypes.uint4,
    ml_dtypes.int2,
    ml_dtypes.uint2,
]
FLOATS = [np.float16, np.float32, np.float64, ml_dtypes.bfloat16] + [getattr(ml_dtypes, n) for n in SMALL]


def cast(x, dtype, **attributes):
    return run_one("Cast", x, out=onnx_type(dtype), to=onnx_type(dtype), **attributes)


def assert_same_bits(got, want, where):
    """Equal bits, except that any NaN equals any NaN."""
    assert got.dtype == want.dtype
    raw = {1: np.uint8, 2: np.uint16, 4: np.uint32, 8: np.uint64}[got.dtype.itemsize]
    with np.errstate(all="ignore"):
        nan = np.isnan(got.astype(np.float64)) & np.isnan(want.astype(np.float64))
    bad = np.flatnonzero((got.view(raw) != want.view(raw)) & ~nan)
    assert bad.size == 0, [(where[i], got[i], want[i]) for i in bad[:8]]


def around(values):
    with np.errstate(all="ignore"):
        x = np.asarray(values, np.float32)
    return np.concatenate([x, np.nextafter(x, np.float32(np.inf)), np.nextafter(x, np.float32(-np.inf))])


def random_floats(n=1_000_000):
    return np.random.default_rng(0).integers(0, 2**32, n, dtype=np.uint64).astype(np.uint32).view(np.float32)


def boundaries(values):
    """The values of a format, the midpoints between neighbours, and the floats beside them."""
    v = np.unique(values[np.isfinite(values)]).astype(np.float64)
    top = v[-1] + (v[-1] - v[-2]) * np.array([0.25, 0.5, 0.75, 1, 1.5, 2, 100])
    x = np.concatenate([around(v), around((v[1:] + v[:-1]) / 2), around(top)])
    special = np.array([0.0, -0.0, np.inf, -np.inf, np.nan, -np.nan], np.float32)
    return np.concatenate([x, -x, special]).astype(np.float32)


@pytest.mark.parametrize("name", ["float16", "bfloat16"])
def test_every_half_widens(name):
    dtype = np.dtype(getattr(ml_dtypes, name, None) or name)
    x = np.arange(65536, dtype=np.uint16).view(dtype)
    for wide in (np.float32, np.float64):
        with np.errstate(all="ignore"):
            assert_same_bits(cast(x, wide), x.astype(wide), x)


@pytest.mark.parametrize("name", ["float16", "bfloat16"])
def test_floats_round_to_halves(name):
    dtype = np.dtype(getattr(ml_dtypes, name, None) or name)
    x = np.concatenate(
        [boundaries(np.arange(65536, dtype=np.uint16).view(dtype).astype(np.float32)), random_floats()]
    )
    with np.errstate(all="ignore"):
        assert_same_bits(cast(x, dtype), x.astype(dtype), x)


def test_doubles_round_to_halves_once():
    h = np.arange(65536, dtype=np.uint16).view(np.float16).astype(np.float64)
    h = np.unique(h[np.isfinite(h)])
    mid = (h[1:] + h[:-1]) / 2
    x = np.concatenate(
        [h, mid, np.nextafter(mid, np.inf), np.nextafter(mid, -np.inf), [1e300, -1e300, 1e-320, np.nan]]
    )
    with np.errstate(all="ignore"):
        assert_same_bits(cast(x, np.float16), x.astype(np.float16), x)
    # 1 + 2^-9 is a midpoint of bfloat16; a little more must not be rounded to it first.
    x = np.array([1 + 2.0**-8 + 2.0**-40, 1 + 2.0**-8, 1 + 2.0**-8 - 2.0**-40])
    assert cast(x, ml_dtypes.bfloat16).astype(np.float64).tolist() == [1 + 2.0**-7, 1.0, 1.0]


@pytest.mark.parametrize("name", SMALL)
def test_every_small_code_widens(name):
    dtype = np.dtype(getattr(ml_dtypes, name))
    x = np.arange(SMALL[name], dtype=np.uint8).view(dtype)
    for wide in (np.float32, np.float64, np.float16, ml_dtypes.bfloat16):
        assert_same_bits(cast(x, np.dtype(wide)), x.astype(wide), x)


@pytest.mark.parametrize("name", SMALL)
@pytest.mark.parametrize("saturate", [0, 1])
def test_floats_round_to_small(name, saturate):
    dtype = np.dtype(getattr(ml_dtypes, name))
    values = np.arange(SMALL[name], dtype=np.uint8).view(dtype).astype(np.float32)
    x = np.concatenate([boundaries(values), random_floats()])
    with np.errstate(all="ignore"):
        finite = values[np.isfinite(values)]
        want = (np.clip(x, finite.min(), finite.max()) if saturate else x).astype(dtype)
        assert_same_bits(cast(x, dtype, saturate=saturate), want, x)
        if saturate:
            return
        for wide in (np.float64, np.float16, ml_dtypes.bfloat16):
            assert_same_bits(
                cast(x.astype(wide), dtype, saturate=0), x.astype(wide).astype(np.float32).astype(dtype), x
            )


def test_e8m0_widens():
    x = np.arange(256, dtype=np.uint8).view(ml_dtypes.float8_e8m0fnu)
    got = cast(x, np.float32)
    assert np.isnan(got[255])
    np.testing.assert_array_equal(got[:255], np.ldexp(1.0, np.arange(255) - 127).astype(np.float32))


@pytest.mark.parametrize("mode", ["nearest", "up", "down"])
@pytest.mark.parametrize("saturate", [0, 1])
def test_floats_round_to_e8m0(mode, saturate):
    powers = np.ldexp(1.0, np.arange(-127, 128))
    x = np.abs(np.concatenate([around(powers), around(powers * 1.5), random_floats(100_000)]))
    x = x[np.isfinite(x) & (x >= 2.0**-127)]
    e = np.floor(np.log2(x.astype(np.float64)))
    e = np.where(np.ldexp(1.0, e.astype(int)) > x, e - 1, e)
    m = x.astype(np.float64) / np.ldexp(1.0, e.astype(int))
    e += {"nearest": m >= 1.5, "up": m > 1, "down": np.zeros(len(m), bool)}[mode]
    want = np.where(e + 127 > 254, 254 if saturate else 255, e + 127).astype(np.uint8)
    got = cast(x, ml_dtypes.float8_e8m0fnu, round_mode=mode, saturate=saturate).view(np.uint8)
    np.testing.assert_array_equal(got, want)


def test_e8m0_special():
    x = np.array([0, np.inf, np.nan, 1e-45], np.float32)
    assert cast(x, ml_dtypes.float8_e8m0fnu, round_mode="up").view(np.uint8).tolist() == [0, 254, 255, 0]
    got = cast(x, ml_dtypes.float8_e8m0fnu, round_mode="nearest", saturate=0).view(np.uint8).tolist()
    assert got == [255, 255, 255, 255]


def extremes(dtype):
    if np.dtype(dtype) == np.bool_:
        return np.array([False, True])
    info = ml_dtypes.iinfo(dtype) if np.dtype(dtype).kind == "V" or "int" in str(dtype) else None
    values = sorted({int(info.min), int(info.min) + 1, -1, 0, 1, 2, int(info.max) - 1, int(info.max)})
    return np.array(
        [v for v in values if info.min <= v <= info.max], dtype=np.int64 if info.min < 0 else np.uint64
    ).astype(dtype)


@pytest.mark.parametrize("source", INTS + [np.bool_], ids=lambda d: np.dtype(d).name)
def test_integers_to_everything(source):
    x = extremes(source)
    exact = [int(v) for v in x]
    for target in INTS:
        bits = ml_dtypes.iinfo(target).bits
        want = [v & ((1 << bits) - 1) for v in exact]
        if int(ml_dtypes.iinfo(target).min) < 0:
            want = [v - (1 << bits) if v >> (bits - 1) else v for v in want]
        assert [int(v) for v in cast(x, np.dtype(target))] == want, target
    assert cast(x, np.bool_).tolist() == [v != 0 for v in exact]
    for target in (np.float32, np.float64, np.float16):
        with np.errstate(all="ignore"):
            assert cast(x, np.dtype(target)).tolist() == [target(v) for v in exact]
    for name in list(SMALL) + ["bfloat16"]:
        dtype = np.dtype(getattr(ml_dtypes, name))
        got = cast(x, dtype, saturate=0)
        with np.errstate(all="ignore"):
            assert_same_bits(got, np.array(exact, np.float64).astype(np.float32).astype(dtype), exact)


def test_large_integers_round_once():
    # 2^60 + 2^52 is a midpoint of bfloat16 to which a double would round 2^60 + 2^52 + 1.
    x = np.array([2**60 + 2**52 + 1, -(2**60 + 2**52 + 1), 2**60 + 2**52, 2**63 - 1], np.int64)
    got = cast(x, ml_dtypes.bfloat16).astype(np.float64).tolist()
    assert got == [2.0**60 + 2.0**53, -(2.0**60 + 2.0**53), 2.0**60, 2.0**63]
    assert cast(np.array([2**64 - 1], np.uint64), np.float32).tolist() == [2.0**64]


@pytest.mark.parametrize("source", FLOATS, ids=lambda d: np.dtype(d).name)
def test_floats_truncate_to_integers(source):
    x = np.array([0, 0.5, 1.5, 2.5, 5.75, 6, -0.5, -1.5, -3.99]).astype(source)
    for target in (np.int8, np.int16, np.int32, np.int64):
        assert cast(x, np.dtype(target)).tolist() == [int(v) for v in x.astype(np.float64)]
    assert cast(x, np.bool_).tolist() == [v != 0 for v in x.astype(np.float64)]


def test_out_of_range_floats_do_not_crash():
    x = np.array([np.nan, np.inf, -np.inf, 1e30, -1e30, 3e9, -3e9, 300, -300], np.float64)
    for target in INTS:
        assert cast(x, np.dtype(target)).shape == x.shape
    # As numpy converts on x86-64.
    assert cast(np.array([300.0, -1.0]), np.uint8).tolist() == [44, 255]
    assert cast(np.array([np.nan, 3e9]), np.int32).tolist() == [-(2**31)] * 2


def test_text_to_numbers():
    x = np.array(
        ["3.14", "1000", "1e-5", "1E8", "+INF", "inf", "-INF", "NaN", " 7 ", "-0.0", "1e400", "+2"],
        dtype=object,
    )
    got = cast(x, np.float32)
    want = np.array([3.14, 1000, 1e-5, 1e8, np.inf, np.inf, -np.inf, np.nan, 7, -0.0, np.inf, 2], np.float32)
    np.testing.assert_array_equal(got, want)
    assert cast(np.array(["9223372036854775807", "-5", "100.5"], dtype=object), np.int64).tolist() == [
        2**63 - 1,
        -5,
        100,
    ]
    assert cast(np.array(["18446744073709551615"], dtype=object), np.uint64).tolist() == [2**64 - 1]
    assert cast(np.array(["1.5", "448"], dtype=object), ml_dtypes.float8_e4m3fn).astype(float).tolist() == [
        1.5,
        448,
    ]
    with pytest.raises(Exception, match="a number"):
        cast(np.array(["Hello World!"], dtype=object), np.float32)


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.float16], ids=lambda d: np.dtype(d).name)
def test_numbers_to_text(dtype):
    x = np.array(
        [
            0.1,
            1,
            -2.5,
            1e-5,
            1e-4,
            123456.75,
            1e5,
            1e20,
            0.47892547,
            np.inf,
            -np.inf,
            np.nan,
            -0.0,
            1 / 3,
            5e-324,
        ]
    )
    with np.errstate(all="ignore"):
        x = x.astype(dtype)
    got = cast(x, np.object_)
    with np.errstate(all="ignore"):
        assert got.tolist() == [str(v) for v in x]


def test_integers_to_text():
    assert cast(np.array([-(2**63), 0, 2**63 - 1]), np.object_).tolist() == [
        str(-(2**63)),
        "0",
        str(2**63 - 1),
    ]
    assert cast(np.array([2**64 - 1], np.uint64), np.object_).tolist() == [str(2**64 - 1)]
    assert cast(np.array([True, False]), np.object_).tolist() == ["True", "False"]
    assert cast(np.array([-8, 7], ml_dtypes.int4), np.object_).tolist() == ["-8", "7"]


def test_bit_cast():
    x = np.array([1.0, -2.5, np.nan], np.float32)
    assert (
        run_one("BitCast", x, out=TensorProto.UINT32, to=TensorProto.UINT32).tolist()
        == x.view(np.uint32).tolist()
    )
    y = np.arange(-8, 8).astype(ml_dtypes.int4)
    got = run_one("BitCast", y, out=TensorProto.UINT4, to=TensorProto.UINT4)
    assert [int(v) for v in got] == [v & 15 for v in range(-8, 8)]
    assert [int(v) for v in run_one("BitCast", got, out=TensorProto.INT4, to=TensorProto.INT4)] == list(
        range(-8, 8)
    )
    with pytest.raises(Exception):
        run_one("BitCast", x, out=TensorProto.INT64, to=TensorProto.INT64)


def test_cast_like():
    x = np.array([1.5, 300, -np.inf], np.float32)
    got = run_one("CastLike", x, np.zeros(1, ml_dtypes.float8_e4m3fn), out=TensorProto.FLOAT8E4M3FN)
    assert got.astype(np.float32).tolist() == [1.5, 288, -448]
