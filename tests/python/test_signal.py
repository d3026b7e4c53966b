"""DFT, STFT, windows and mel filters against numpy and onnx.reference."""

import numpy as np
import pytest

import sardonyx as sx
from nodes import BF16, Node, assert_close, onnx_type, run

TOLERANCE = {np.dtype("float32"): 1e-6, np.dtype("float64"): 1e-13, np.dtype("float16"): 2e-3, BF16: 1e-2}
# Powers of two, mixed radices, primes within and beyond the radices, products with a large prime.
LENGTHS = [
    1,
    2,
    3,
    4,
    5,
    6,
    7,
    8,
    12,
    13,
    16,
    30,
    31,
    37,
    49,
    60,
    64,
    97,
    100,
    128,
    210,
    254,
    400,
    512,
    1009,
    2018,
]


def dft(x, length=None, axis=None, **attributes):
    inputs = [
        x,
        None if length is None else np.array(length, np.int64),
        None if axis is None else np.array(axis, np.int64),
    ]
    while inputs[-1] is None:
        inputs.pop()
    return run(
        "DFT",
        inputs,
        [x.dtype],
        constants=tuple(i for i in range(1, len(inputs)) if inputs[i] is not None),
        **attributes,
    )[0]


def pair(z):
    return np.stack([z.real, z.imag], -1)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("n", LENGTHS)
def test_every_length(n, dtype):
    rng = np.random.default_rng(n)
    x = rng.normal(0, 1, (2, n, 2)).astype(dtype)
    z = x[..., 0].astype(np.float64) + 1j * x[..., 1]
    tolerance = TOLERANCE[np.dtype(dtype)]
    assert_close(dft(x), pair(np.fft.fft(z)), tolerance)
    assert_close(dft(x, inverse=1), pair(np.fft.ifft(z)), tolerance)
    real = x[..., :1].copy()
    assert_close(dft(real), pair(np.fft.fft(z.real)), tolerance)
    assert_close(dft(real, onesided=1), pair(np.fft.rfft(z.real)), tolerance)
    if n > 1:
        half = np.fft.rfft(z.real)
        assert_close(
            dft(pair(half).astype(dtype), n, inverse=1, onesided=1), z.real[..., None], tolerance * 10
        )


@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
def test_axes_and_lengths(dtype):
    rng = np.random.default_rng(0)
    for parts in (1, 2):
        x = rng.normal(0, 1, (3, 4, 5, parts)).astype(dtype)
        z = x[..., 0].astype(np.float64) + (1j * x[..., 1].astype(np.float64) if parts == 2 else 0)
        for axis in (0, 1, 2, -2, -3, -4):
            for length in (None, 2, 4, 7):
                at = axis if axis >= 0 else axis + 1
                for inverse in (0, 1):
                    want = (np.fft.ifft if inverse else np.fft.fft)(z, length, at)
                    assert_close(dft(x, length, axis, inverse=inverse), pair(want), TOLERANCE[dtype] * 2)
                if parts == 1:
                    assert_close(
                        dft(x, length, axis, onesided=1),
                        pair(np.fft.rfft(z.real, length, at)),
                        TOLERANCE[dtype] * 2,
                    )
                else:
                    want = np.fft.irfft(z, length, at)
                    assert_close(
                        dft(x, length, axis, onesided=1, inverse=1), want[..., None], TOLERANCE[dtype] * 2
                    )


def test_length_and_axis_as_feeds():
    x = np.random.default_rng(1).normal(0, 1, (2, 6, 1)).astype(np.float32)
    for length in (4, 6, 9):
        got = run("DFT", [x, np.array(length, np.int64), np.array(1, np.int64)], [np.float32])[0]
        assert_close(got, pair(np.fft.fft(x[..., 0], length, 1)), 1e-6)


def test_nan_stays_in_its_row():
    x = np.ones((3, 16, 1), np.float32)
    x[1, 4] = np.nan
    y = dft(x)
    assert np.isnan(y[1]).all() and np.isfinite(y[[0, 2]]).all()


def test_empty():
    assert dft(np.zeros((0, 4, 1), np.float32)).shape == (0, 4, 2)


@pytest.mark.parametrize(
    "shape,options",
    [
        ((4, 3), {}),
        ((4, 8, 1), dict(axis=2)),
        ((4, 8, 1), dict(axis=-1)),
        ((4, 8, 1), dict(axis=5)),
        ((4, 8, 1), dict(length=0)),
        ((4, 8, 1), dict(length=-3)),
        ((4, 8, 2), dict(onesided=1)),
        ((4, 8, 1), dict(onesided=1, inverse=1)),
        ((4, 0, 1), {}),
        ((4, 8, 1), dict(length=2**60)),
    ],
)
def test_bad_dft(shape, options):
    with pytest.raises(sx.Error):
        dft(np.ones(shape, np.float32), **options)


@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
def test_stft(dtype):
    rng = np.random.default_rng(2)
    for parts, onesided in ((1, 1), (1, 0), (2, 0)):
        signal = rng.normal(0, 1, (2, 100, parts)).astype(dtype)
        for length, step, windowed, given in (
            (16, 8, True, True),
            (16, 5, True, False),
            (25, 25, False, True),
            (100, 1, False, False),
            (31, 7, True, True),
        ):
            window = np.hanning(length).astype(dtype) if windowed else None
            inputs = [signal, np.array(step, np.int64), window, np.array(length, np.int64) if given else None]
            got = run("STFT", inputs, [dtype], constants=(1, 3) if given else (1,), onesided=onesided)[0]
            z = signal[..., 0].astype(np.float64) + (
                1j * signal[..., 1].astype(np.float64) if parts == 2 else 0
            )
            frames = np.stack([z[:, i : i + length] for i in range(0, 100 - length + 1, step)], 1)
            frames = frames * (window.astype(np.float64) if windowed else 1)
            want = np.fft.rfft(frames.real) if onesided else np.fft.fft(frames)
            assert_close(got, pair(want), TOLERANCE[dtype] * 2)


@pytest.mark.parametrize(
    "step,window,length",
    [(0, None, 16), (-1, None, 16), (4, None, 0), (4, None, 200), (4, 15, 16), (4, 200, None)],
)
def test_bad_stft(step, window, length):
    inputs = [
        np.ones((1, 100, 1), np.float32),
        np.array(step, np.int64),
        None if window is None else np.ones(window, np.float32),
        None if length is None else np.array(length, np.int64),
    ]
    with pytest.raises(sx.Error):
        run("STFT", inputs, [np.float32])


@pytest.mark.parametrize("op", ["HannWindow", "HammingWindow", "BlackmanWindow"])
@pytest.mark.parametrize("periodic", [0, 1])
def test_windows(op, periodic):
    for size in (2, 3, 10, 257):
        for dtype in (np.float32, np.float64, np.float16, BF16):
            got = run(
                op, [np.array(size, np.int32)], [dtype], periodic=periodic, output_datatype=onnx_type(dtype)
            )[0]
            want = Node(
                op,
                [np.array(size, np.int32)],
                [np.float64],
                periodic=periodic,
                output_datatype=onnx_type(np.float64),
            ).reference()[0]
            assert got.dtype == dtype
            assert_close(got, want, TOLERANCE[np.dtype(dtype)] * 4)
    assert run(op, [np.array(0, np.int64)], [np.float32], periodic=periodic)[0].shape == (0,)
    assert np.isfinite(run(op, [np.array(1, np.int64)], [np.float32], periodic=periodic)[0]).all()
    assert (
        run(op, [np.array(5, np.int64)], [np.int32], output_datatype=onnx_type(np.int32))[0].dtype == np.int32
    )
    for bad in (dict(size=-1), dict(size=3, output_datatype=8), dict(size=3, output_datatype=99)):
        with pytest.raises(sx.Error):
            run(op, [np.array(bad.pop("size"), np.int64)], [np.float32], **bad)


@pytest.mark.parametrize(
    "bins,length,rate,low,high",
    [
        (8, 16, 8192, 0.0, 4096.0),
        (40, 512, 16000, 20.0, 7600.0),
        (1, 4, 100, 0.0, 40.0),
        (80, 400, 16000, 0.0, 8000.0),
    ],
)
def test_mel_weights(bins, length, rate, low, high):
    inputs = [np.array(v, np.int64) for v in (bins, length, rate)] + [
        np.array(v, np.float64) for v in (low, high)
    ]
    got = run("MelWeightMatrix", inputs, [np.float64], output_datatype=onnx_type(np.float64))[0]
    want = Node("MelWeightMatrix", inputs, [np.float64], output_datatype=onnx_type(np.float64)).reference()[0]
    np.testing.assert_allclose(got, want, atol=1e-12)


@pytest.mark.parametrize(
    "values",
    [
        (-1, 16, 8192, 0.0, 4096.0),
        (8, -16, 8192, 0.0, 4096.0),
        (8, 16, 0, 0.0, 4096.0),
        (8, 16, 8192, 0.0, 90000.0),
        (8, 16, 8192, np.nan, 4096.0),
        (8, 16, 8192, -5000.0, 4096.0),
    ],
)
def test_bad_mel_weights(values):
    inputs = [np.array(v, np.int64) for v in values[:3]] + [np.array(v, np.float32) for v in values[3:]]
    with pytest.raises(sx.Error):
        run("MelWeightMatrix", inputs, [np.float32])
