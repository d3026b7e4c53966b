"""ImageDecoder: every format against Pillow, and damaged bytes."""

import io
import struct

import numpy as np
import pytest

import sardonyx as sx
from nodes import run

Image = pytest.importorskip("PIL.Image")


def picture(width=37, height=23, mode="RGB"):
    y, x = np.mgrid[:height, :width]
    rgb = np.stack(
        [x * 255 // max(width - 1, 1), y * 255 // max(height - 1, 1), (x * 7 + y * 13) % 256], -1
    ).astype(np.uint8)
    return Image.fromarray(rgb, "RGB").convert(mode)


def encode(image, kind, **options):
    out = io.BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()


def decode(data, **attributes):
    return run("ImageDecoder", [np.frombuffer(data, np.uint8)], [np.uint8], **attributes)[0]


LOSSLESS = (
    [("PNG", m, {}) for m in ("RGB", "L", "P", "1", "RGBA", "LA")]
    + [("BMP", m, {}) for m in ("RGB", "L", "P", "1")]
    + [
        ("PPM", "RGB", {}),
        ("PPM", "L", {}),
        ("PPM", "1", {}),
        ("TIFF", "RGB", {}),
        ("TIFF", "L", {}),
        ("TIFF", "P", {}),
        ("TIFF", "RGB", {"compression": "tiff_lzw"}),
        ("TIFF", "RGB", {"compression": "tiff_adobe_deflate"}),
        ("WEBP", "RGB", {"lossless": True}),
        ("JPEG2000", "RGB", {}),
        ("JPEG2000", "L", {}),
    ]
)


@pytest.mark.parametrize("kind,mode,options", LOSSLESS, ids=str)
def test_lossless(kind, mode, options):
    for size in ((37, 23), (1, 1), (8, 5), (64, 2)):
        image = picture(*size, mode)
        data = encode(image, kind, **options)
        want = np.array(Image.open(io.BytesIO(data)).convert("RGBA" if mode in ("RGBA", "LA") else "RGB"))[
            ..., :3
        ]
        np.testing.assert_array_equal(decode(data), want)
        np.testing.assert_array_equal(decode(data, pixel_format="BGR"), want[..., ::-1])
        gray = np.array(Image.fromarray(want).convert("L"))[..., None]
        np.testing.assert_array_equal(decode(data, pixel_format="Grayscale"), gray)


@pytest.mark.parametrize(
    "kind,options",
    [
        ("JPEG", {}),
        ("JPEG", {"progressive": True}),
        ("JPEG", {"subsampling": 0}),
        ("JPEG", {"quality": 30}),
        ("WEBP", {}),
        ("JPEG2000", {"quality_mode": "rates", "quality_layers": [20], "irreversible": True}),
    ],
    ids=str,
)
def test_lossy(kind, options):
    data = encode(picture(70, 50), kind, **options)
    want = np.array(Image.open(io.BytesIO(data)).convert("RGB")).astype(int)
    assert np.abs(decode(data).astype(int) - want).max() <= 2


def test_gray_and_four_colour_jpeg():
    data = encode(picture(20, 20, "L"), "JPEG")
    np.testing.assert_array_equal(decode(data), np.array(Image.open(io.BytesIO(data)).convert("RGB")))
    data = encode(picture(20, 20, "CMYK"), "JPEG")
    want = np.array(Image.open(io.BytesIO(data)).convert("RGB")).astype(int)
    assert np.abs(decode(data).astype(int) - want).max() <= 2


def test_interlaced_and_deep_png():
    rng = np.random.default_rng(0)
    deep = rng.integers(0, 65536, (9, 11)).astype(np.uint16)
    data = encode(Image.fromarray(deep), "PNG")
    assert np.abs(decode(data)[..., 0].astype(int) - deep / 257).max() <= 1


def test_text_pnm():
    np.testing.assert_array_equal(
        decode(b"P2\n# a comment\n3 1 # another\n100\n0 50 100\n")[0, :, 0], [0, 128, 255]
    )
    np.testing.assert_array_equal(decode(b"P1 4 1 0110")[0, :, 1], [255, 0, 0, 255])
    np.testing.assert_array_equal(decode(b"P3 1 1 255 1 2 3")[0, 0], [1, 2, 3])
    np.testing.assert_array_equal(decode(b"P5 2 1 65535 " + struct.pack(">2H", 65535, 0))[0, :, 2], [255, 0])


def bmp(bits, pixels, palette=b"", width=2, height=1, compression=0, header=40, extra=b""):
    body = (
        struct.pack(
            "<IiiHHIIiiII",
            header,
            width,
            height,
            1,
            bits,
            compression,
            len(pixels),
            0,
            0,
            len(palette) // 4,
            0,
        )
        + extra
        + palette
    )
    return b"BM" + struct.pack("<IHHI", 14 + len(body) + len(pixels), 0, 0, 14 + len(body)) + body + pixels


def test_bmp_variants():
    palette = b"".join(struct.pack("<BBBB", *c, 0) for c in ((0, 0, 0), (10, 20, 30), (1, 2, 3), (7, 8, 9)))
    np.testing.assert_array_equal(decode(bmp(4, b"\x12\0\0\0", palette)), [[[30, 20, 10], [3, 2, 1]]])
    np.testing.assert_array_equal(
        decode(bmp(8, b"\x02\x01\0\1", palette, compression=1)), [[[30, 20, 10], [30, 20, 10]]]
    )
    np.testing.assert_array_equal(
        decode(bmp(4, b"\x02\x12\0\1", palette, compression=2)), [[[30, 20, 10], [3, 2, 1]]]
    )
    np.testing.assert_array_equal(
        decode(bmp(16, struct.pack("<HH", 0x7C00, 0x001F))), [[[255, 0, 0], [0, 0, 255]]]
    )
    masks = struct.pack("<III", 0xF800, 0x07E0, 0x001F)
    np.testing.assert_array_equal(
        decode(bmp(16, struct.pack("<HH", 0xF800, 0x07E0), compression=3, extra=masks)),
        [[[255, 0, 0], [0, 255, 0]]],
    )
    top_down = bmp(24, b"\1\2\3\4\5\6\0\0" + b"\7\7\7\7\7\7\0\0", height=-2)
    np.testing.assert_array_equal(decode(top_down)[0, 0], [3, 2, 1])


def samples():
    image = picture(40, 30)
    return {
        kind: encode(image, kind, **options)
        for kind, options in (
            ("PNG", {}),
            ("BMP", {}),
            ("PPM", {}),
            ("TIFF", {"compression": "tiff_lzw"}),
            ("WEBP", {}),
            ("JPEG", {}),
            ("JPEG2000", {}),
        )
    }


@pytest.mark.parametrize("kind", ["PNG", "BMP", "PPM", "TIFF", "WEBP", "JPEG", "JPEG2000"])
def test_damaged(kind):
    """A file that is cut short or changed gives a typed error or a picture."""
    data = samples()[kind]
    rng = np.random.default_rng(1)

    def try_decode(raw):
        try:
            out = decode(raw)
        except sx.Error:
            return False
        assert out.ndim == 3 and out.dtype == np.uint8
        return True

    assert try_decode(data)
    for n in {*range(0, 40), *(len(data) * i // 20 for i in range(20))}:
        cut = data[:n]
        if n < len(data) // 2:
            assert not try_decode(cut)
        else:
            try_decode(cut)
    for _ in range(150):
        raw = bytearray(data)
        for at in rng.integers(0, len(raw) if rng.integers(2) else min(len(raw), 80), rng.integers(1, 6)):
            raw[at] = rng.integers(256)
        try_decode(bytes(raw))


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"nothing",
        b"BM",
        b"P6",
        b"P5 9999999 9999999 255 ",
        b"\xff\xd8\xff",
        b"RIFF\0\0\0\0WEBP",
        b"II*\0",
        b"P6 -1 4 255 ",
    ],
)
def test_no_image(data):
    with pytest.raises(sx.Error):
        decode(data)


def test_bad_attributes_and_rank():
    with pytest.raises(sx.Error):
        decode(samples()["PPM"], pixel_format="HSV")
    with pytest.raises(sx.Error):
        run("ImageDecoder", [np.zeros((2, 3), np.uint8)], [np.uint8])
